//! Redis as it is in production: what becomes of acknowledged writes and logouts when its nodes fail.

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
use crate::redis::RedisNetwork;

/// Which faults are tried.
#[derive(Clone, Debug)]
pub struct Faults {
    /// The program that is a server where it is [wanted](crate::server::is_wanted).
    pub program: PathBuf,
    /// Only those whose row has this text in its first two columns.
    pub only: String,
    /// Fewer, and shorter.
    pub quick: bool,
    /// What the machine itself takes: how much longer than its documented limit a request may take, and how long
    /// a write is on its way to replicas.
    pub margin: Duration,
    /// Gets a line for each step.
    pub say: fn(&str),
}

impl Faults {
    /// Tries them, one after the other.
    ///
    /// # Panics
    ///
    /// If there is no Redis to be had, or what was to be broken could not be, or did not come back.
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

/// After which time a node that says nothing is given up.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(2);

/// How long a failover may take: sentinels that had no processor for two seconds look on for half a minute.
const FAILOVER: Duration = Duration::from_secs(90);
