use std::time::Duration;

use tokio::time::sleep;

use crate::{chaos::load::Fleet, harness::redis::RedisServer, random::Random};

/// A fault of Redis, or of a server of the application.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Fault {
    Silence,
    KillRedis,
    KillConnections,
    HoldClients,
    ForgetScripts,
    Sleep,
    KillServer,
}

impl Fault {
    pub(super) const ALL: [Self; 7] = [
        Self::Silence,
        Self::KillRedis,
        Self::KillConnections,
        Self::HoldClients,
        Self::ForgetScripts,
        Self::Sleep,
        Self::KillServer,
    ];

    /// Draws a fault. Each fault comes once per round, before any repeats.
    pub(super) fn next(before: &[Self], random: &mut Random) -> Self {
        let round = &before[before.len() / Self::ALL.len() * Self::ALL.len()..];
        let left: Vec<_> = Self::ALL.into_iter().filter(|fault| !round.contains(fault)).collect();
        random.pick(&left)
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Silence => "Redis stopped and continued",
            Self::KillRedis => "Redis killed and started again",
            Self::KillConnections => "all connections closed by Redis (`CLIENT KILL`)",
            Self::HoldClients => "all clients held (`CLIENT PAUSE`)",
            Self::ForgetScripts => "scripts forgotten (`SCRIPT FLUSH`)",
            Self::Sleep => "Redis busy (`DEBUG SLEEP`)",
            Self::KillServer => "a server killed and started again",
        }
    }

    /// Causes the fault, ends it, and returns its description.
    pub(super) async fn strike(
        self,
        redis: &RedisServer,
        fleet: &mut Fleet,
        random: &mut Random,
    ) -> String {
        let lasts = Duration::from_millis(random.between(200, 3_000));
        let command = async |words: &[&str]| {
            let mut connection = redis.connection().await;
            let command = redis::cmd(words[0]).arg(&words[1..]).to_owned();
            let answer = command.query_async::<redis::Value>(&mut connection).await;
            answer.expect("a command that Redis knows");
        };
        match self {
            Self::Silence => {
                redis.pause().await;
                sleep(lasts).await;
                redis.unpause().await;
            }
            Self::KillRedis => {
                redis.kill().await;
                sleep(lasts).await;
                redis.start_again().await;
            }
            Self::KillConnections => {
                command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).await;
                return self.name().to_owned();
            }
            Self::HoldClients => {
                command(&["CLIENT", "PAUSE", &lasts.as_millis().to_string(), "ALL"]).await;
                sleep(lasts).await;
            }
            Self::ForgetScripts => {
                command(&["SCRIPT", "FLUSH"]).await;
                return self.name().to_owned();
            }
            Self::Sleep => {
                command(&["DEBUG", "SLEEP", &lasts.as_secs_f64().to_string()]).await;
            }
            Self::KillServer => {
                // Always the same server, so that the memory of the others can be compared.
                let last = fleet.size() - 1;
                fleet.kill(last);
                sleep(lasts).await;
                fleet.start_again(last).await;
            }
        }
        format!("{}, {lasts:.1?}", self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Part;

    #[test]
    fn each_fault_comes_in_each_round() {
        let mut random = Random::of(1, Part::Fault, 0);
        let mut faults = Vec::new();
        for _ in 0..5 * Fault::ALL.len() {
            faults.push(Fault::next(&faults, &mut random));
        }
        for round in faults.chunks(Fault::ALL.len()) {
            assert!(Fault::ALL.iter().all(|fault| round.contains(fault)), "{round:?}");
        }
    }
}
