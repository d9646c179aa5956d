use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::{task::JoinHandle, time::sleep};

use super::{
    FAILOVER, GIVEN_UP_AFTER,
    harm::Harm,
    loss::Loss,
    stage::{Description, Plan, Stage, Struck},
};
use crate::{
    chaos::load::Load,
    harness::{
        patience::until_within,
        redis::{RedisServer, SentinelRedis},
    },
};

/// The configuration of the servers and the store.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Setting {
    /// The defaults.
    Plain,
    /// The primary refuses writes if no replica has replied for [`MAX_LAG`].
    MinReplicas,
    /// Revocations and logouts wait for both replicas.
    Wait,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Fault {
    Primary(Harm),
    BroughtBack,
    OnDemand,
    ReplicasCutOff,
}

impl Setting {
    pub(super) const ALL: [Self; 3] = [Self::Plain, Self::MinReplicas, Self::Wait];

    const fn place(self) -> &'static str {
        match self {
            Self::Plain => "Sentinel",
            Self::MinReplicas => "Sentinel, `min-replicas-to-write 1`",
            Self::Wait => "Sentinel, `with_revocation_replicas(2, …)`",
        }
    }

    const fn faults(self) -> &'static [Fault] {
        match self {
            Self::Plain | Self::Wait => &[
                Fault::Primary(Harm::Kill),
                Fault::BroughtBack,
                Fault::Primary(Harm::Silence),
                Fault::Primary(Harm::ShortSilence),
                Fault::Primary(Harm::CutOff),
                Fault::OnDemand,
                Fault::ReplicasCutOff,
            ],
            Self::MinReplicas => &[Fault::OnDemand, Fault::ReplicasCutOff],
        }
    }
}

impl Fault {
    fn describe(self) -> Description {
        let (name, in_quick, cuts) = match self {
            Self::Primary(harm) => return harm.describe(),
            Self::BroughtBack => ("killed node brought back", false, false),
            Self::OnDemand => ("failover on demand (`SENTINEL FAILOVER`)", false, false),
            Self::ReplicasCutOff => {
                ("replicas cut off for 5 s, then the primary killed", true, true)
            }
        };
        Description { name, in_quick, cuts }
    }
}

pub(super) async fn run(plan: &mut Plan, setting: Setting) {
    let place = setting.place();
    let faults = plan.wanted(place, setting.faults().iter().copied(), Fault::describe);
    if faults.is_empty() {
        return;
    }
    plan.say(&format!("{place}: starting a primary, two replicas and three sentinels …"));
    let mut settings = plan.settings();
    if setting == Setting::MinReplicas {
        let lag = MAX_LAG.as_secs().to_string();
        settings = settings.arg("--min-replicas-to-write", "1").arg("--min-replicas-max-lag", lag);
    }
    let redis = SentinelRedis::start_with(settings, GIVEN_UP_AFTER).await;
    let urls: Vec<_> = redis.urls().collect();
    let mut env = vec![("REDIS_URL", urls.join(" ")), ("REDIS_KIND", "sentinel".to_owned())];
    let mut operation = Duration::from_secs(1);
    if setting == Setting::Wait {
        env.push(("REVOCATION_REPLICAS", format!("2 {}", WAIT.as_millis())));
        // A request that arrives during the waits of others first waits for their end.
        operation += 2 * WAIT;
    }
    let stage = plan.stage(place, env, operation, setting == Setting::Wait).await;
    let mut watched = Watched { stage, redis, loss: Loss::DuringFault };
    if setting == Setting::MinReplicas {
        // Replicas report once a second, and Redis counts the lag in whole seconds.
        watched.loss = Loss::For(MAX_LAG + Duration::from_secs(2));
    }
    for fault in faults {
        watched.strike(fault).await;
    }
    watched.stage.close();
}

struct Watched<'p> {
    stage: Stage<'p>,
    redis: SentinelRedis,
    loss: Loss,
}

impl Watched<'_> {
    async fn strike(&mut self, fault: Fault) {
        let Self { stage, redis, loss } = self;
        let (redis, loss, name) = (&*redis, *loss, fault.describe().name);
        let primary = redis.primary().await;
        let replicas = || redis.servers().iter().filter(|server| server.port() != primary.port());
        match fault {
            Fault::Primary(harm) => {
                let strike = async |load: &Load| {
                    let began_at = Instant::now();
                    let promotion = redis.promotion().await;
                    harm.strike(primary).await;
                    failover(redis, primary).await;
                    harm.heal(primary, load).await;
                    promoted(promotion, began_at).await
                };
                stage.observe(name, loss, strike).await;
            }
            Fault::BroughtBack => {
                primary.kill().await;
                failover(redis, primary).await;
                let strike = async |load: &Load| {
                    Harm::Kill.heal(primary, load).await;
                    Struck::default()
                };
                stage.observe(name, Loss::None, strike).await;
            }
            Fault::OnDemand => {
                let strike = async |_load: &Load| {
                    let began_at = Instant::now();
                    let promotion = redis.promotion().await;
                    let mut sentinel = redis.sentinels()[0].connection().await;
                    let mut failover_now = redis::cmd("SENTINEL");
                    failover_now.arg(&["FAILOVER", SentinelRedis::NAME]);
                    // A sentinel accepts the command only if the replicas have reported recently.
                    until_within(FAILOVER, "there are replicas to fail over to", async || {
                        let answer = failover_now.query_async::<redis::Value>(&mut sentinel).await;
                        answer.is_ok()
                    })
                    .await;
                    failover(redis, primary).await;
                    primary.follows_within(FAILOVER).await;
                    promoted(promotion, began_at).await
                };
                stage.observe(name, loss, strike).await;
            }
            Fault::ReplicasCutOff => {
                let strike = async |load: &Load| {
                    join_all(replicas().map(RedisServer::cut_off)).await;
                    sleep(CUT_OFF_FOR).await;
                    primary.kill().await;
                    join_all(replicas().map(RedisServer::reconnect)).await;
                    failover(redis, primary).await;
                    Harm::Kill.heal(primary, load).await;
                    Struck::default()
                };
                stage.observe(name, loss, strike).await;
            }
        }
        // Restores the deployment for the next fault.
        let primary = redis.primary().await.port();
        for replica in redis.servers().iter().filter(|server| server.port() != primary) {
            replica.follows_within(FAILOVER).await;
        }
        redis.is_whole().await;
    }
}

/// Waits until the sentinels report another primary.
async fn failover(redis: &SentinelRedis, former: &RedisServer) {
    until_within(FAILOVER, "there is another primary", async || {
        redis.primary().await.port() != former.port()
    })
    .await;
}

/// Returns the instant of the promotion: by then, or soon afterwards, the store has left the former
/// primary.
async fn promoted(promotion: JoinHandle<Instant>, began_at: Instant) -> Struck {
    let at = promotion.await.expect("a replica was promoted");
    let after = at.duration_since(began_at).as_secs_f64();
    Struck {
        remark: Some(format!("promotion after {after:.2} s")),
        lost_until: Some(at + LEFT_WITHIN),
    }
}

/// The time after a promotion in which the former primary may still acknowledge writes.
const LEFT_WITHIN: Duration = Duration::from_millis(200);

const MAX_LAG: Duration = Duration::from_secs(2);
const WAIT: Duration = Duration::from_millis(500);
const CUT_OFF_FOR: Duration = Duration::from_secs(5);
