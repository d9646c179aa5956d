//! Walks over all sessions.

use std::{collections::BTreeSet, time::Duration};

use futures_util::{StreamExt as _, stream};
use integration_tests::{PATIENCE, RedisServer, redis_config, until};
use serde_json::json;
use session_axum::RedisStore;
use session_core::SessionKey;

use super::Site;
use crate::stopcock::Stopcock;

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
async fn walk_misses_no_session_after_a_restart_of_redis() {
    const SESSIONS: usize = 3_000;
    let redis = RedisServer::builder().arg("--appendonly", "yes").start().await;
    let mut admin = redis.connection().await;
    let mut all = redis::cmd("MSET");
    let mut keys = BTreeSet::new();
    for number in 0..SESSIONS {
        let mut bytes = [0; SessionKey::LEN];
        bytes[..8].copy_from_slice(&(number as u64).to_be_bytes());
        let key = SessionKey::from_bytes(bytes);
        all.arg(format!("session:s:{key}")).arg("1");
        keys.insert(key);
    }
    let () = all.query_async(&mut admin).await.unwrap();
    let store = RedisStore::connect(redis_config(redis.url(), PATIENCE)).await.unwrap();
    let (mut walk, mut found) = (store.scan(), BTreeSet::new());
    for _ in 0..10 {
        found.extend(walk.next().await.unwrap().unwrap());
    }
    // The write-ahead log is on the disk within a second.
    tokio::time::sleep(Duration::from_secs(2)).await;
    redis.kill().await;
    redis.start_again().await;
    until("the walk is at its end", async || match walk.next().await {
        Ok(Some(keys)) => {
            found.extend(keys);
            false
        }
        Ok(None) => true,
        Err(_) => false,
    })
    .await;
    assert_eq!(found.len(), keys.len());
    assert_eq!(found, keys);
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
