//! Load with a ledger: visitors use several servers, and the ledger compares the acknowledgements with
//! the stored state.

mod account;
mod fleet;
mod ledger;
mod survey;
mod tally;
mod visitor;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{task::JoinHandle, time::sleep};

pub use fleet::Fleet;
pub use survey::Survey;
pub use tally::{Kind, Tally};

use self::{fleet::Doors, ledger::Ledger, visitor::Visitor};

/// Visitors that sign in, write, read and sign out until they are stopped.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    visitors: Vec<JoinHandle<()>>,
}

/// The state that visitors share with the [`Load`].
#[derive(Debug)]
struct Shared {
    doors: Arc<Doors>,
    ledger: Ledger,
    is_over: AtomicBool,
}

impl Load {
    /// Starts this many visitors, each with about this pause between two requests.
    #[must_use]
    pub fn start(fleet: &Fleet, visitors: usize, pause: Duration) -> Self {
        let shared = Arc::new(Shared {
            doors: fleet.doors(),
            ledger: Ledger::of(visitors),
            is_over: AtomicBool::new(false),
        });
        let visitors = (0..visitors)
            .map(|number| {
                let visitor = Visitor::new(Arc::clone(&shared), number, pause);
                tokio::spawn(visitor.visit())
            })
            .collect();
        Self { shared, visitors }
    }

    /// Waits until each visitor has received a success for a request from now on, at most half a minute.
    /// [`finish`](Self::finish) reports a visitor without a success in this time.
    pub async fn settled(&self) {
        let now = Instant::now();
        while !self.shared.ledger.tally(|tally| tally.all_served_since(now)) {
            if now.elapsed() > Duration::from_secs(30) {
                self.shared.ledger.wrong("a visitor is not served for half a minute".to_owned());
                return;
            }
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Returns the requests and their outcomes so far.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.shared.ledger.tally(|tally| tally.clone())
    }

    /// Checks the completed sessions, and forgets them.
    pub async fn survey(&self) -> Survey {
        let (accounts, survey) = self.shared.ledger.take();
        survey.and(&self.shared.doors, accounts).await
    }

    /// Stops the visitors, and checks the remaining sessions.
    ///
    /// # Panics
    ///
    /// If a visitor panicked.
    pub async fn finish(self) -> (Tally, Survey) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        for visitor in self.visitors {
            visitor.await.expect("visitors do not panic");
        }
        let tally = self.shared.ledger.tally(|tally| tally.clone());
        let (accounts, survey) = self.shared.ledger.take();
        (tally, survey.and(&self.shared.doors, accounts).await)
    }
}
