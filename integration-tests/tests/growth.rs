//! Redis does not grow without bound. The test loads the machine, so it is a separate test program:
//! Cargo runs one program after another.

#![expect(clippy::unwrap_used, reason = "the helpers of tests are tests")]

use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use integration_tests::{RedisServer, redis_config, until};
use redis::aio::MultiplexedConnection;
use session_axum::{Lifetime, RedisStore, Sessions};
use session_core::CookieChange;

const OWNERS: u32 = 1_000;
const ROUNDS: u32 = 100;
const AT_ONCE: usize = 64;
const MAX_WAIT: Duration = Duration::from_secs(30);

/// Of three logins, one logs out, one is revoked, and one expires.
async fn live(sessions: &Sessions, soon: &Sessions, number: u32) {
    let owner = number % OWNERS;
    let expires = number.is_multiple_of(3);
    let session = if expires { soon } else { sessions }.open([]).await.unwrap();
    session.authenticate(owner).unwrap();
    let CookieChange::Set { id, .. } = session.finish().await.unwrap() else {
        panic!("a login tells an ID")
    };
    match number % 3 {
        1 => {
            let session = sessions.open([id.expose().as_bytes()]).await.unwrap();
            session.destroy().unwrap();
            let _ = session.finish().await.unwrap();
        }
        2 => assert!(sessions.revoke(owner, id.key()).await.unwrap()),
        _ => {}
    }
}

async fn used_bytes(redis: &mut MultiplexedConnection) -> i64 {
    let memory: String = redis::cmd("INFO").arg("memory").query_async(redis).await.unwrap();
    let used = memory.lines().find_map(|line| line.strip_prefix("used_memory_dataset:")).unwrap();
    used.trim().parse().unwrap()
}

async fn keys(redis: &mut MultiplexedConnection) -> u64 {
    redis::cmd("DBSIZE").query_async(redis).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_logins_logouts_and_expiries_leave_nothing_in_redis() {
    let server = RedisServer::start().await;
    let mut redis = server.connection().await;
    let store = RedisStore::connect(redis_config(server.url(), MAX_WAIT)).await.unwrap();
    let sessions = Sessions::new(store.clone());
    let lifetime = Lifetime::new(Duration::from_secs(5), Duration::from_secs(10)).unwrap();
    let soon = Sessions::builder(store).with_lifetime(lifetime).build().unwrap();
    let counting = redis.clone();
    let run = async |rounds: std::ops::Range<u32>| {
        stream::iter(rounds.start * OWNERS..rounds.end * OWNERS)
            .for_each_concurrent(AT_ONCE, |number| live(&sessions, &soon, number))
            .await;
        until("Redis is empty", async || keys(&mut counting.clone()).await == 0).await;
    };
    // The one-time allocations of the server do not count.
    run(0..1).await;
    let before = used_bytes(&mut redis).await;
    run(1..ROUNDS + 1).await;
    let grown = used_bytes(&mut redis).await - before;
    assert!(grown < 256 * 1024, "{grown} bytes stay");
}
