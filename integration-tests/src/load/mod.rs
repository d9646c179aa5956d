//! Load with a ledger: visitors of several servers, and what they were told is stored or ended.

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

/// Visitors that sign in, write, read and sign out until they are told to stop.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    visitors: Vec<JoinHandle<()>>,
}

/// What visitors share with whoever sent them.
#[derive(Debug)]
struct Shared {
    doors: Arc<Doors>,
    ledger: Ledger,
    is_over: AtomicBool,
}

impl Load {
    /// Sends so many visitors to the servers, each with a pause of about this between two requests.
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

    /// Waits until every visitor has had a success that it asked for from now on, at most half a minute. That one
    /// has none for so long is told by [`finish`](Self::finish).
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

    /// What was asked and answered so far.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.shared.ledger.tally(|tally| tally.clone())
    }

    /// Checks the sessions whose visitors are done with them, and forgets those.
    pub async fn survey(&self) -> Survey {
        let (accounts, survey) = self.shared.ledger.take();
        survey.and(&self.shared.doors, accounts).await
    }

    /// Stops the visitors, and checks what is left of what they were told.
    ///
    /// # Panics
    ///
    /// If one of them panicked.
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
