use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::time::sleep;

use super::{
    Faults,
    loss::Loss,
    table::{Row, Table},
};
use crate::{
    chaos::load::{Fleet, Load},
    harness::{
        redis::{RedisNetwork, RedisServer, RedisServerBuilder},
        server,
    },
};

/// The selected faults, and the results so far.
pub(super) struct Plan {
    faults: Faults,
    network: Option<Arc<RedisNetwork>>,
    table: Table,
}

/// One kind of deployment, with servers of the application on it.
pub(super) struct Stage<'p> {
    plan: &'p mut Plan,
    place: &'static str,
    fleet: Fleet,
    /// The time limit of one store operation.
    operation: Duration,
    /// Acknowledged logouts and revocations must hold, even if the fault may lose other writes.
    ends_hold: bool,
}

impl Plan {
    pub(super) fn new(faults: &Faults, network: Option<Arc<RedisNetwork>>) -> Self {
        Self { faults: faults.clone(), network, table: Table::default() }
    }

    pub(super) fn network(&self) -> Option<&Arc<RedisNetwork>> {
        self.network.as_ref()
    }

    pub(super) fn into_table(self) -> Table {
        self.table
    }

    /// Returns the common settings of a deployment's servers.
    pub(super) fn settings(&self) -> RedisServerBuilder {
        RedisServer::builder().on_network(self.network())
    }

    /// Returns the selected ones of these faults.
    pub(super) fn wanted<F: Copy>(
        &self,
        place: &str,
        faults: impl IntoIterator<Item = F>,
        describe: impl Fn(F) -> Description,
    ) -> Vec<F> {
        let is_wanted = |fault: &F| {
            let Description { name, in_quick, cuts } = describe(*fault);
            format!("{place} {name}").to_lowercase().contains(&self.faults.only.to_lowercase())
                && (in_quick || !self.faults.quick)
                && (!cuts || self.network.is_some())
        };
        faults.into_iter().filter(is_wanted).collect()
    }

    /// Returns the program of the application's servers.
    pub(super) fn program(&self) -> PathBuf {
        self.faults.program.clone()
    }

    pub(super) fn say(&self, text: &str) {
        (self.faults.say)(text);
    }

    /// Starts servers of the application with these settings.
    pub(super) async fn stage(
        &mut self,
        place: &'static str,
        env: impl IntoIterator<Item = (&'static str, String)>,
        operation: Duration,
        ends_hold: bool,
    ) -> Stage<'_> {
        self.stage_of(&self.program(), place, env, operation, ends_hold).await
    }

    /// Like [`stage`](Self::stage), with another program.
    pub(super) async fn stage_of(
        &mut self,
        program: &Path,
        place: &'static str,
        env: impl IntoIterator<Item = (&'static str, String)>,
        operation: Duration,
        ends_hold: bool,
    ) -> Stage<'_> {
        let common = [("REDIS_PATIENCE", "default"), ("SERVER_LOG", "warn"), server::ROLE];
        let common = common.map(|(name, value)| (name, value.to_owned()));
        let env = common.into_iter().chain(env);
        let fleet = Fleet::start(program, env, SERVERS).await;
        Stage { plan: self, place, fleet, operation, ends_hold }
    }
}

/// The name of a fault, and the conditions under which it runs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Description {
    pub(super) name: &'static str,
    pub(super) in_quick: bool,
    /// The fault cuts servers off their network.
    pub(super) cuts: bool,
}

/// A completed fault.
#[derive(Debug, Default)]
pub(super) struct Struck {
    pub(super) remark: Option<String>,
    /// The instant after which every acknowledged write must survive. `None` stands for the end of the
    /// fault.
    pub(super) lost_until: Option<Instant>,
}

impl From<String> for Struck {
    fn from(remark: String) -> Self {
        Self { remark: Some(remark), lost_until: None }
    }
}

impl Stage<'_> {
    /// Starts the visitors, causes the fault, and records the result once all visitors get successes
    /// again.
    ///
    /// `strike` returns when the fault is over and the nodes work normally again.
    pub(super) async fn observe(
        &mut self,
        fault: &'static str,
        loss: Loss,
        strike: impl AsyncFnOnce(&Load) -> Struck,
    ) {
        self.plan.say(&format!("{}: {fault} …", self.place));
        let visitors = if self.plan.faults.quick { VISITORS / 2 } else { VISITORS };
        let load = Load::start(&self.fleet, visitors, PAUSE);
        load.settled().await;
        sleep(self.calm()).await;
        let struck_at = Instant::now();
        let Struck { remark, lost_until } = strike(&load).await;
        let during = (struck_at, lost_until.unwrap_or_else(Instant::now));
        load.settled().await;
        sleep(self.calm()).await;
        let (tally, survey) = load.finish().await;

        let margin = self.plan.faults.margin;
        let mut broken: Vec<_> = tally.wrong().iter().chain(&survey.wrong).cloned().collect();
        for (what, lost) in [
            ("acknowledged writes lost", &survey.lost),
            ("visitors signed out", &survey.signed_out),
        ] {
            broken.extend(loss.broken(what, during, margin, lost));
        }
        let loss = if self.ends_hold { Loss::None } else { loss };
        let back = [
            ("ended sessions back", &survey.back),
            ("sessions back whose end was asked for again", &survey.back_after_failure),
        ];
        for (what, back) in back {
            broken.extend(loss.broken(what, during, margin, back));
        }
        broken.extend(tally.late(self.operation, margin));
        let row = Row { place: self.place, fault, remark, struck_at, tally, survey, broken };
        self.plan.say(&row.to_string());
        self.plan.table.rows.push(row);
    }

    /// Stops the servers.
    pub(super) fn close(self) {
        self.fleet.stop();
    }

    /// Returns the time without faults before and after a fault.
    fn calm(&self) -> Duration {
        Duration::from_millis(if self.plan.faults.quick { 500 } else { 2_000 })
    }
}

const SERVERS: usize = 3;
const VISITORS: usize = 12;
const PAUSE: Duration = Duration::from_millis(20);
