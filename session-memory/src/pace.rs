use std::{future::poll_fn, mem, task::Poll};

/// The pace of a loop over many keys: other tasks of the thread run after each few of them.
#[derive(Default)]
pub(crate) struct Pace {
    steps: usize,
}

impl Pace {
    /// Counts a key, before the work for it.
    pub(crate) async fn step(&mut self) {
        if self.steps == KEYS_PER_TURN {
            self.steps = 0;
            yield_now().await;
        }
        self.steps += 1;
    }
}

/// Lets other tasks of the thread run.
pub(crate) async fn yield_now() {
    let mut has_yielded = false;
    poll_fn(|context| {
        if mem::replace(&mut has_yielded, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// The number of keys after which a task lets others run. Tokio polls for I/O after 61 turns of
/// tasks that are ready again immediately: so many keys take a millisecond or two.
const KEYS_PER_TURN: usize = 16;
