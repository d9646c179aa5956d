//! Load on three servers and one Redis, with a fault every few seconds, for a chosen time.

mod fault;
mod report;
mod resources;

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use tokio::time::sleep;

pub use report::Report;

use self::{fault::Fault, resources::Resources};
use crate::{
    chaos::load::{Fleet, Load, Survey},
    harness::{redis::RedisServer, server},
    random::{Part, Random},
};

/// The settings of a soak test.
#[derive(Clone, Debug)]
pub struct Soak {
    /// The program that runs as a server if [requested](server::is_wanted).
    pub program: PathBuf,
    /// The duration of load and faults. Start and end take a few seconds more.
    pub lasts: Duration,
    /// The time by which a request may exceed its documented limit: the allowance for the machine.
    pub margin: Duration,
    /// Receives a line every few seconds.
    pub say: fn(&str),
}

impl Soak {
    /// Runs the soak test.
    ///
    /// # Panics
    ///
    /// If Redis is unavailable, a fault cannot be caused, or a server does not recover.
    pub async fn run(&self) -> Report {
        // Redis writes each change to its file before it replies, so a kill of the process loses none.
        // With `everysec`, Redis would hold writes back for up to 2 seconds while the disk is busy.
        let redis = RedisServer::builder()
            .arg("--appendonly", "yes")
            .arg("--appendfsync", "no")
            .arg("--enable-debug-command", "yes")
            .start()
            .await;
        let settings = [
            ("REDIS_URL", redis.url()),
            ("REDIS_PATIENCE", "default"),
            ("SERVER_LOG", "warn"),
            server::ROLE,
        ];
        let mut fleet = Fleet::start(&self.program, settings, SERVERS).await;
        let load = Load::start(&fleet, VISITORS, PAUSE);
        let begin = Instant::now();
        let mut random = Random::of(0, Part::Fault, 0);
        let mut faults = Vec::new();
        let mut survey = Survey::default();
        let mut surveyed_at = begin;
        let warm_up = self.lasts.mul_f64(WARM_UP);
        let mut warm = None;
        while begin.elapsed() < self.lasts {
            let fault = Fault::next(&faults, &mut random);
            faults.push(fault);
            let what = fault.strike(&redis, &mut fleet, &mut random).await;
            load.settled().await;
            sleep(Duration::from_millis(random.between(500, 3_000))).await;
            let resources = Resources::of(&fleet, &redis).await;
            self.tell(begin, &load, &what, &resources);
            if warm.is_none() && begin.elapsed() >= warm_up {
                warm = Some(resources);
            }
            if surveyed_at.elapsed() >= SURVEY_EVERY {
                survey.extend(load.survey().await);
                surveyed_at = Instant::now();
            }
        }
        let warm = warm.expect("the loop goes on until after the warm-up");
        let end = Resources::of(&fleet, &redis).await;
        let lasted = begin.elapsed();
        let (tally, rest) = load.finish().await;
        survey.extend(rest);
        fleet.stop();
        Report { lasted, faults, tally, survey, warm, end, margin: self.margin }
    }

    fn tell(&self, begin: Instant, load: &Load, fault: &str, resources: &Resources) {
        let tally = load.tally();
        (self.say)(&format!(
            "{:>4} s  {fault}; {} requests, {} answered by 503, {} wrong; {resources}",
            begin.elapsed().as_secs(),
            tally.sent(&crate::chaos::load::Kind::ALL),
            tally.unavailable(),
            tally.wrong().len(),
        ));
    }
}

const SERVERS: usize = 3;
const VISITORS: usize = 12;
const PAUSE: Duration = Duration::from_millis(20);
const SURVEY_EVERY: Duration = Duration::from_secs(30);

/// The share of the time after which memory and connections must stay constant.
const WARM_UP: f64 = 0.25;
