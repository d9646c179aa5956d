//! Our core on the memory store, without HTTP: the time of a request that reads, and the speed-up by
//! all cores.

use std::time::{Duration, Instant};

use session_bench::{Progress, Work, at_once, create_session, request};
use session_core::Sessions;
use session_memory::MemoryStore;
use tokio::runtime::Builder;

use crate::{BoxError, sample::median};

/// The time of a request, and the speed-up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InProcess {
    /// Seconds to open, read and close a session on one thread.
    pub(crate) alone: f64,
    /// The requests per second of 8 tasks on all cores, as a multiple of those of one thread.
    pub(crate) together: f64,
}

/// Measures both in turn. Creates its own runtimes, so the caller must be outside of a runtime.
pub(crate) fn measure(rounds: usize) -> Result<InProcess, BoxError> {
    let one_thread = Builder::new_current_thread().build()?;
    let all_cores = Builder::new_multi_thread().build()?;
    let sessions = Sessions::new(MemoryStore::default());
    let id = one_thread.block_on(create_session(&sessions))?;
    let mut progress = Progress::new(rounds);
    let (mut alone, mut together) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let start = Instant::now();
        one_thread.block_on(async {
            for _ in 0..REQUESTS {
                request(&sessions, &id, Work::Read).await;
            }
        });
        let one = each(start.elapsed());
        let all = each(at_once(&all_cores, &sessions, TASKS, REQUESTS, Work::Read));
        alone.push(one);
        together.push(one / all);
        progress.step(&format!(
            "in the process: {:.0} ns alone, {:.2} times as many together",
            one * 1e9,
            one / all
        ));
    }
    let of = |numbers: Vec<f64>| median(numbers).ok_or("there were no rounds");
    Ok(InProcess { alone: of(alone)?, together: of(together)? })
}

fn each(span: Duration) -> f64 {
    span.as_secs_f64() / REQUESTS as f64
}

const REQUESTS: u64 = 400_000;
const TASKS: usize = 8;
