//! Walks over all sessions.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, stream};
use integration_tests::{Fault, FaultProxy, PATIENCE, RedisServer, redis_config, until};
use serde_json::json;
use session_axum::RedisStore;
use session_core::{SessionKey, StoreErrorKind};
use session_redis::Scan;

use super::Site;
use crate::{stopcock::Stopcock, support::ping};

#[tokio::test]
async fn thousands_of_sessions_are_counted_and_revoked_in_small_steps() {
    const SESSIONS: u64 = 10_000;
    let redis = RedisServer::start().await;
    let site = Site::on(&redis).await;
    let begun = stream::iter(0..SESSIONS)
        .map(|number| site.begin(move |session| session.authenticate(number % 100)))
        .buffer_unordered(64);
    assert_eq!(begun.count().await as u64, SESSIONS);
    let mark = redis.mark_commands().await;
    assert_eq!(site.count().await, SESSIONS);
    let commands = redis.commands_since(&mark).await;
    assert!(commands.of("scan") >= SESSIONS / 1_000, "{commands:?}");
    assert_eq!(commands.of("keys"), 0);
    assert_eq!(site.json(&["list", "7"]).await.len(), 100);
    // A list in the place of a session.
    let strange = format!("session:s:{}", "A".repeat(22));
    let mut admin = redis.connection().await;
    let _: u32 = redis::cmd("RPUSH").arg(&strange).arg("x").query_async(&mut admin).await.unwrap();
    let revoked = site.json(&["revoke", "everybody", "--yes"]).await;
    assert_eq!(revoked, [json!({ "revoked": SESSIONS })]);
    assert_eq!(site.count().await, 0);
}

/// A cursor of `SCAN` means nothing to another process of Redis: the order of its keys is random.
#[tokio::test(flavor = "multi_thread")]
async fn walk_ends_with_its_connection_and_a_new_one_finds_all() {
    const SESSIONS: u64 = 3_000;
    let redis = RedisServer::builder().arg("--appendonly", "yes").start().await;
    let keys = store_keys(&redis, SESSIONS).await;
    let store = RedisStore::connect(redis_config(redis.url(), PATIENCE)).await.unwrap();
    let mut walk = store.scan();
    for _ in 0..10 {
        walk.next().await.unwrap().unwrap();
    }
    // The write-ahead log is on the disk within a second.
    tokio::time::sleep(Duration::from_secs(2)).await;
    redis.kill().await;
    redis.start_again().await;
    until("Redis is back", async || ping(&store).await.is_ok()).await;
    for _ in 0..2 {
        assert_eq!(walk.next().await.unwrap_err().kind(), StoreErrorKind::Unavailable);
    }
    assert_eq!(BTreeSet::from_iter(rest(store.scan()).await), keys);
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_connection_stops_neither_count_nor_revocation() {
    const SESSIONS: u64 = 300;
    let redis = RedisServer::start().await;
    let proxy = FaultProxy::before(&redis).await;
    let mut site = Site::on(&redis).await;
    site.url = proxy.url();
    for number in 0..SESSIONS {
        site.begin(move |session| session.authenticate(number)).await;
    }
    for words in [&["count"][..], &["revoke", "everybody", "--yes"]] {
        proxy.next("scan", Fault::Delay(Duration::ZERO));
        proxy.next("scan", Fault::CutBefore);
        let printed = &site.json(words).await[0];
        assert_eq!(proxy.pending(), 0, "the connection was lost");
        let number = printed.get("sessions").or(printed.get("revoked"));
        assert_eq!(number, Some(&json!(SESSIONS)), "{words:?}");
    }
    assert_eq!(site.count().await, 0);
}

/// The operator reads how many sessions were revoked before Redis was lost.
#[tokio::test(flavor = "multi_thread")]
async fn walk_without_a_connection_is_given_up() {
    const SESSIONS: u64 = 300;
    let redis = RedisServer::start().await;
    let proxy = FaultProxy::before(&redis).await;
    let mut site = Site::on(&redis).await;
    for number in 0..SESSIONS {
        site.begin(move |session| session.authenticate(number)).await;
    }
    site.url = proxy.url();
    proxy.next("scan", Fault::Delay(Duration::ZERO));
    proxy.each("scan", Fault::CutBefore);
    let begin = Instant::now();
    let run = site.run(["revoke", "everybody", "--yes"]).await;
    println!("given up after {:.1?}: {}", begin.elapsed(), run.err);
    assert_eq!((run.code, &*run.out), (1, ""));
    let mut lines = run.err.lines();
    let revoked = lines.find_map(|line| line.strip_suffix(" sessions revoked before the error"));
    let revoked: u64 = revoked.unwrap().strip_prefix("warning: ").unwrap().parse().unwrap();
    assert!(revoked > 0);
    site.url = redis.url().to_owned();
    assert_eq!(site.count().await, SESSIONS - revoked);
}

/// A session that begins during a walk may begin at a place behind the walk.
#[tokio::test(flavor = "multi_thread")]
async fn revocation_of_everybody_finds_sessions_that_begin_meanwhile() {
    const SESSIONS: u64 = 2_000;
    const MEANWHILE: u64 = 100;
    let redis = RedisServer::start().await;
    // The program stands still while the sessions begin.
    let stopcock = Stopcock::before(&redis).await;
    let mut site = Site::on(&redis).await;
    site.url = stopcock.url();
    let site = site;
    let begin = async |count| {
        let begun = stream::iter(0..count)
            .map(|number: u64| site.begin(move |session| session.authenticate(number % 100)))
            .buffer_unordered(64);
        begun.count().await as u64
    };
    assert_eq!(begin(SESSIONS).await, SESSIONS);
    let watching = RedisStore::connect(redis_config(redis.url(), PATIENCE)).await.unwrap();
    let mut changes = watching.changes().await.unwrap();
    let begin_meanwhile = async {
        // The first end shows that the walk is under way.
        changes.next().await.unwrap();
        stopcock.close();
        let begun = begin(MEANWHILE).await;
        stopcock.open();
        begun
    };
    let revoke = site.json(&["revoke", "everybody", "--yes"]);
    let (revoked, begun) = tokio::join!(revoke, begin_meanwhile);
    assert_eq!(begun, MEANWHILE);
    assert_eq!(revoked, [json!({ "revoked": SESSIONS + MEANWHILE })]);
    assert_eq!(site.count().await, 0);
}

/// Stores keys without records. Returns them.
pub(super) async fn store_keys(redis: &RedisServer, count: u64) -> BTreeSet<SessionKey> {
    let mut all = redis::cmd("MSET");
    let mut keys = BTreeSet::new();
    for number in 0..count {
        let mut bytes = [0; SessionKey::LEN];
        bytes[..8].copy_from_slice(&number.to_be_bytes());
        let key = SessionKey::from_bytes(bytes);
        all.arg(format!("session:s:{key}")).arg("1");
        keys.insert(key);
    }
    let () = all.query_async(&mut redis.connection().await).await.unwrap();
    keys
}

/// Returns the keys that a walk has not returned yet.
pub(super) async fn rest(mut walk: Scan) -> Vec<SessionKey> {
    let mut found = Vec::new();
    while let Some(keys) = walk.next().await.unwrap() {
        found.extend(keys);
    }
    found
}
