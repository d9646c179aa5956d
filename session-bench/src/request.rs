use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use session_core::{SessionId, Sessions};
use tokio::runtime::Runtime;

use crate::{COUNT, NAME, create_session};

/// What a request does to its session.
#[derive(Clone, Copy, Debug)]
pub enum Work {
    /// Reads one of the four small values.
    Read,
    /// Increments one of them.
    Write,
}

/// Does what a request does: opens a session by its cookie, uses it, finishes.
///
/// # Panics
///
/// If the store does not answer.
pub async fn request(sessions: &Sessions, id: &SessionId, work: Work) {
    // As the layer does.
    let cookies = [id.expose().as_bytes()];
    let session = match sessions.try_open_local(cookies, || false) {
        Some(session) => session,
        None => sessions.open(cookies).await.expect("the store answers"),
    };
    match work {
        Work::Read => {
            black_box(session.get(NAME));
        }
        Work::Write => {
            session.update(COUNT, |count| *count += 1).expect("the session is open");
        }
    }
    if session.try_finish().is_none() {
        let change = session.finish().await.expect("the store answers");
        let _ = black_box(change);
    }
}

/// Does `requests` in all, by so many tasks at once, each with a session of its own, and returns how
/// long it took.
///
/// # Panics
///
/// If the store does not answer.
pub fn at_once(
    runtime: &Runtime,
    sessions: &Sessions,
    tasks: usize,
    requests: u64,
    work: Work,
) -> Duration {
    runtime.block_on(async {
        let mut ids = Vec::new();
        for number in 0..tasks * APART {
            let id = create_session(sessions).await.expect("the store answers");
            if number % APART == 0 {
                ids.push(id);
            }
        }
        let each = requests.div_ceil(tasks as u64);
        let start = Instant::now();
        let tasks: Vec<_> = ids
            .into_iter()
            .map(|id| {
                let sessions = sessions.clone();
                tokio::spawn(async move {
                    for number in 0..each {
                        request(&sessions, &id, work).await;
                        // As one does that waits for the next; else who has one task more is waited for.
                        if number % 64 == 0 {
                            tokio::task::yield_now().await;
                        }
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.expect("no request panics");
        }
        start.elapsed()
    })
}

/// Every how manieth session is used at once: neighbours in memory share lines of the processors' caches, and of
/// the many that a store holds they are seldom those.
const APART: usize = 64;
