use std::time::Duration;

use super::{
    FAILOVER, GIVEN_UP_AFTER,
    harm::Harm,
    loss::Loss,
    stage::{Description, Plan, Stage, Struck},
};
use crate::{
    chaos::load::Load,
    harness::{patience::until_within, redis::ClusterRedis},
};

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Fault {
    Primary(Harm),
    BroughtBack,
    SlotsMoved,
    NodeAdded,
}

impl Fault {
    const ALL: [Self; 7] = [
        Self::Primary(Harm::Kill),
        Self::BroughtBack,
        Self::Primary(Harm::Silence),
        Self::Primary(Harm::ShortSilence),
        Self::Primary(Harm::CutOff),
        Self::SlotsMoved,
        Self::NodeAdded,
    ];

    const fn describe(self) -> Description {
        let (name, in_quick) = match self {
            Self::Primary(harm) => return harm.describe(),
            Self::BroughtBack => ("killed node brought back", false),
            Self::SlotsMoved => ("slots moved with their keys", true),
            Self::NodeAdded => ("node added and given slots", true),
        };
        Description { name, in_quick, cuts: false }
    }
}

pub(super) async fn run(plan: &mut Plan) {
    let faults = plan.wanted(PLACE, Fault::ALL, Fault::describe);
    if faults.is_empty() {
        return;
    }
    plan.say("Cluster: starting three primaries and three replicas …");
    let mut redis = ClusterRedis::start_with(plan.settings(), GIVEN_UP_AFTER).await;
    let urls: Vec<_> = redis.urls().collect();
    let env = [("REDIS_URL", urls.join(" ")), ("REDIS_KIND", "cluster".to_owned())];
    let mut stage = plan.stage(PLACE, env, Duration::from_secs(1), false).await;
    for fault in faults {
        strike(&mut stage, &mut redis, fault).await;
    }
    stage.close();
}

async fn strike(stage: &mut Stage<'_>, cluster: &mut ClusterRedis, fault: Fault) {
    let name = fault.describe().name;
    let number = cluster.owner(SLOT).await;
    match fault {
        Fault::Primary(harm) => {
            let (cluster, primary) = (&*cluster, &cluster.nodes()[number]);
            let strike = async |load: &Load| {
                harm.strike(primary).await;
                failover(cluster, number).await;
                harm.heal(primary, load).await;
                Struck::default()
            };
            stage.observe(name, Loss::DuringFault, strike).await;
        }
        Fault::BroughtBack => {
            let primary = &cluster.nodes()[number];
            primary.kill().await;
            failover(cluster, number).await;
            let strike = async |load: &Load| {
                Harm::Kill.heal(primary, load).await;
                Struck::default()
            };
            stage.observe(name, Loss::None, strike).await;
        }
        Fault::SlotsMoved => {
            let strike = async |_load: &Load| {
                let to = cluster.owner(LAST_SLOT).await;
                let keys = cluster.move_slots(SLOT..SLOT + MOVED, number, to).await;
                format!("{MOVED} of them, {keys} keys").into()
            };
            stage.observe(name, Loss::None, strike).await;
        }
        Fault::NodeAdded => {
            let strike = async |_load: &Load| {
                cluster.add_node().await;
                let to = cluster.nodes().len() - 1;
                let mut keys = 0;
                // From each of the other primaries.
                for first in [SLOT + MOVED, LAST_SLOT / 2, LAST_SLOT - MOVED] {
                    let from = cluster.owner(first).await;
                    keys += cluster.move_slots(first..first + MOVED / 3, from, to).await;
                }
                format!("{} of them, {keys} keys", MOVED / 3 * 3).into()
            };
            stage.observe(name, Loss::None, strike).await;
        }
    }
}

/// Waits until all other nodes report another primary for the slot.
async fn failover(cluster: &ClusterRedis, former: usize) {
    for witness in (0..cluster.nodes().len()).filter(|node| *node != former) {
        until_within(FAILOVER, "there is another primary", async || {
            let owner = cluster.owner_by(witness, SLOT).await;
            owner.is_some_and(|owner| owner != former)
        })
        .await;
    }
}

const PLACE: &str = "Cluster";

/// The slot whose primary fails.
const SLOT: u16 = 0;
const LAST_SLOT: u16 = 16_383;

/// The number of slots that move.
const MOVED: u16 = 1_500;
