use std::time::Duration;

use session_core::StoreErrorKind;

use crate::{error::ConnectError, info::Info, transport::socket::Socket};

/// The kind of server that is expected at the other end of a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Wanted {
    /// A server that the configuration names by a URL.
    Server,
    /// A server that sentinels name as the primary.
    #[cfg(feature = "sentinel")]
    Primary,
    /// A server that a sentinel promotes, and that must already report the role of a primary.
    #[cfg(feature = "sentinel")]
    Successor,
    /// A node of a cluster.
    #[cfg(feature = "cluster")]
    ClusterNode,
}

/// Checks the kind of the server by `INFO`, in one round trip. If the server refuses `INFO`, for
/// example because the user may not run the command, all fields count as unknown.
pub(crate) async fn check(
    connection: &mut Socket,
    address: &str,
    wanted: Wanted,
    limit: Duration,
) -> Result<(), ConnectError> {
    let answer = tokio::time::timeout(limit, connection.send(&redis::cmd("INFO")))
        .await
        .map_err(|_| ConnectError::silent(address, limit))?;
    let info = match answer {
        Ok(info) => Info::read(info),
        // `NOPERM` concerns the user only. The first command will meet other refusals, such as
        // `LOADING`, again.
        Err(error) if error.code().is_some() && error.code() != Some("NOAUTH") => Info::default(),
        Err(error) => return Err(ConnectError::explain(error, address)),
    };
    judge(&info, address, wanted)
}

fn judge(info: &Info, address: &str, wanted: Wanted) -> Result<(), ConnectError> {
    // Valkey reports here the version of Redis with which Valkey is compatible.
    let version = info.get("redis_version").and_then(|version| {
        let mut parts = version.split('.');
        Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
    });
    let (mode, role) = (info.mode(), info.get("role"));
    if mode == Some("sentinel") {
        return Err(ConnectError::misconfigured(format!(
            "the server at {address} is a sentinel and holds no sessions: \
             `RedisConfig::sentinel` (feature `sentinel`) asks it for the one that does"
        )));
    }
    if let Some((major, minor)) = version
        && (major, minor) < OLDEST
    {
        return Err(ConnectError::misconfigured(format!(
            "the server at {address} is Redis {major}.{minor}, which is too old: {}.{} is needed",
            OLDEST.0, OLDEST.1
        )));
    }
    #[cfg(feature = "sentinel")]
    if wanted == Wanted::Successor && role != Some("master") {
        return Err(ConnectError::new(
            StoreErrorKind::Unavailable,
            format!("the server at {address}, which a sentinel promotes, is no primary yet"),
        ));
    }
    if role == Some("slave") && !wanted.is_of_cluster() {
        return Err(match wanted {
            #[cfg(feature = "sentinel")]
            Wanted::Primary => ConnectError::new(
                StoreErrorKind::Unavailable,
                format!(
                    "the server at {address}, which the sentinels call the primary, is a replica: \
                     a failover may be under way"
                ),
            ),
            _ => ConnectError::new(
                StoreErrorKind::Misconfigured,
                format!(
                    "the server at {address} is a replica, which takes no writes: \
                     name the primary, or use `RedisConfig::sentinel`"
                ),
            ),
        });
    }
    Ok(())
}

impl Wanted {
    fn is_of_cluster(self) -> bool {
        match self {
            Self::Server => false,
            #[cfg(feature = "sentinel")]
            Self::Primary | Self::Successor => false,
            #[cfg(feature = "cluster")]
            Self::ClusterNode => true,
        }
    }
}

/// The oldest supported version of Redis: the first with permissions for users (`ACL`) and with
/// RESP3.
const OLDEST: (u32, u32) = (6, 0);

#[cfg(test)]
mod tests {
    use redis::Value;

    use super::*;

    fn info_of(text: &str) -> Info {
        Info::read(Value::BulkString(text.into()))
    }

    fn verdict(version: &str, mode: &str, role: &str, wanted: Wanted) -> String {
        let info = format!("redis_version:{version}\r\nredis_mode:{mode}\r\nrole:{role}\r\n");
        let verdict = judge(&info_of(&info), "redis.internal:6379", wanted);
        verdict.map_or_else(|error| error.to_string(), |()| "fits".to_owned())
    }

    #[test]
    fn a_server_that_cannot_hold_sessions_is_told_apart() {
        let wanted = Wanted::Server;
        for version in ["6.0.16", "6.2.0", "7.0.15", "8.0.1", "255.255.255"] {
            assert_eq!(verdict(version, "standalone", "master", wanted), "fits");
        }
        insta::assert_snapshot!(
            verdict("5.0.14", "standalone", "master", wanted),
            @"the server at redis.internal:6379 is Redis 5.0, which is too old: 6.0 is needed"
        );
        insta::assert_snapshot!(
            verdict("7.0.15", "standalone", "slave", wanted),
            @"the server at redis.internal:6379 is a replica, which takes no writes: name the primary, or use `RedisConfig::sentinel`"
        );
        insta::assert_snapshot!(
            verdict("7.0.15", "sentinel", "", wanted),
            @"the server at redis.internal:6379 is a sentinel and holds no sessions: `RedisConfig::sentinel` (feature `sentinel`) asks it for the one that does"
        );
    }

    /// A proxy may serve all slots of a cluster, and pass on the `INFO` of a single node.
    #[test]
    fn mode_of_a_server_that_may_work_is_not_judged() {
        assert_eq!(verdict("7.0.15", "cluster", "master", Wanted::Server), "fits");
        #[cfg(feature = "cluster")]
        assert_eq!(verdict("7.0.15", "standalone", "master", Wanted::ClusterNode), "fits");
    }

    #[test]
    fn what_may_not_be_asked_is_not_held_against_the_server() {
        judge(&Info::default(), "redis.internal:6379", Wanted::Server).unwrap();
        assert_eq!(verdict("unheard of", "", "", Wanted::Server), "fits");
    }

    #[cfg(feature = "sentinel")]
    #[test]
    fn a_replica_is_no_successor_until_it_calls_itself_the_primary() {
        let fits = |role, wanted| verdict("7.0.15", "standalone", role, wanted) == "fits";
        assert!(fits("master", Wanted::Successor) && fits("master", Wanted::Primary));
        assert!(!fits("slave", Wanted::Successor) && !fits("slave", Wanted::Primary));
        // A server that hides its role is accepted as a primary, but not as a successor.
        assert!(!fits("", Wanted::Successor) && fits("", Wanted::Primary));
    }
}
