//! Redis as in production: the fate of acknowledged writes and logouts when its nodes fail.

mod cluster;
mod harm;
mod loss;
mod one_server;
mod sentinel;
mod stage;
mod table;

use std::{path::PathBuf, time::Duration};

pub use table::{Row, Table};

use self::{sentinel::Setting, stage::Plan};
use crate::harness::redis::RedisNetwork;

/// The selection of faults.
#[derive(Clone, Debug)]
pub struct Faults {
    /// The program that runs as a server if [requested](crate::harness::server::is_wanted).
    pub program: PathBuf,
    /// Selects the faults whose first two columns of the table contain this text.
    pub only: String,
    /// Selects fewer and shorter faults.
    pub quick: bool,
    /// The allowance for the machine: the time by which a request may exceed its documented limit, and
    /// the time for which a write is in flight to the replicas.
    pub margin: Duration,
    /// Receives one line for each step.
    pub say: fn(&str),
}

impl Faults {
    /// Runs the selected faults, one after the other.
    ///
    /// # Panics
    ///
    /// If Redis is unavailable, a fault cannot be caused, or a node does not recover.
    pub async fn run(&self) -> Table {
        let mut plan = Plan::new(self, RedisNetwork::make().await);
        if plan.network().is_none() {
            (self.say)("servers are no containers on this machine: no network is cut");
        }
        for setting in Setting::ALL {
            sentinel::run(&mut plan, setting).await;
        }
        cluster::run(&mut plan).await;
        one_server::run(&mut plan).await;
        plan.into_table()
    }
}

/// The time after which the other nodes give up a silent node.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(2);

/// The limit of a failover. A sentinel without processor time for two seconds stays passive for half a
/// minute.
const FAILOVER: Duration = Duration::from_secs(90);
