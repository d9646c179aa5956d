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
    load::{Fleet, Load},
    redis::{RedisNetwork, RedisServer, RedisServerBuilder},
    server,
};

/// What is to be tried, and what came of what was.
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
    /// What one operation of the store may take.
    operation: Duration,
    /// Ends that were acknowledged must hold, whatever is lost else.
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

    /// What the servers of a deployment have in common.
    pub(super) fn settings(&self) -> RedisServerBuilder {
        RedisServer::builder().on_network(self.network())
    }

    /// Those of the faults that are wanted.
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

    /// What the servers of the application run.
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

    /// The same with another program.
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

/// What a fault is called, and when it is tried.
#[derive(Clone, Copy, Debug)]
pub(super) struct Description {
    pub(super) name: &'static str,
    pub(super) in_quick: bool,
    /// Servers are cut off their network.
    pub(super) cuts: bool,
}

/// A fault that is over.
#[derive(Debug, Default)]
pub(super) struct Struck {
    pub(super) remark: Option<String>,
    /// No write that is acknowledged later may be lost. Without it this is when the fault is over.
    pub(super) lost_until: Option<Instant>,
}

impl From<String> for Struck {
    fn from(remark: String) -> Self {
        Self { remark: Some(remark), lost_until: None }
    }
}

impl Stage<'_> {
    /// Lets visitors come, strikes, and writes down what came of it when all are served again.
    ///
    /// `strike` returns when the fault is over and nodes do again what they are there for.
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

    /// Ends the servers.
    pub(super) fn close(self) {
        self.fleet.stop();
    }

    /// How long nothing happens before a fault, and after it.
    fn calm(&self) -> Duration {
        Duration::from_millis(if self.plan.faults.quick { 500 } else { 2_000 })
    }
}

const SERVERS: usize = 3;
const VISITORS: usize = 12;
const PAUSE: Duration = Duration::from_millis(20);
