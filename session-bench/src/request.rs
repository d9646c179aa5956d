use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use session_core::{SessionId, Sessions};
use tokio::runtime::Runtime;

use crate::{COUNT, NAME, create_session};

/// The work of a request on its session.
#[derive(Clone, Copy, Debug)]
pub enum Work {
    /// Reads one of the four small values.
    Read,
    /// Increments another of the four small values.
    Write,
}

/// Runs a request: opens a session by its cookie, uses the session, and finishes it.
///
/// # Panics
///
/// Panics if the store fails.
pub async fn request(sessions: &Sessions, id: &SessionId, work: Work) {
    // The layer opens and finishes sessions in the same way.
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

/// Runs `requests` requests, spread over concurrent tasks with a session each, and returns the elapsed
/// time. The number is rounded up to the same number per task.
///
/// # Panics
///
/// Panics if the store fails.
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
                        // A real task yields while it waits for its next request. Without the yields,
                        // the thread with one task more than the others would determine the time.
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

/// The distance between the used sessions, in the order of creation. Neighbours in memory share cache
/// lines, and concurrent requests to a large store seldom use neighbours.
const APART: usize = 64;
