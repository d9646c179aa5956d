//! The Redis user of the operator's page has exactly the rights that sessions need.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use integration_tests::{Browser, PATIENCE, RedisServer, redis_config, until};
use session_axum::{AtLimit, RedisConfig, RedisStore, SessionLimit, Sessions, StoreErrorKind};
use session_core::{Clock as _, ManualClock, SystemClock};

use crate::support::serve;

const README: &str = include_str!("../../../session-redis/README.md");
const PAGE: &str = include_str!("../../../session-redis/OPERATING.md");

/// Returns the words of `ACL SETUSER …`, for the user `sessions` with the password `secret` and the
/// prefix `shop:`.
pub(crate) fn acl() -> Vec<String> {
    acl_command(1)
}

/// Returns the words of the page's command at this place, counted from one.
pub(crate) fn acl_command(place: usize) -> Vec<String> {
    acl_after(PAGE.split("redis-cli ACL ").nth(place).unwrap())
}

/// Returns the words of the command for the user `watcher` of the sentinels.
pub(crate) fn acl_of_sentinels() -> Vec<String> {
    acl_after(PAGE.split("redis-cli -p 26379 ACL ").nth(1).unwrap())
}

fn acl_after(rest: &str) -> Vec<String> {
    let (command, _) = rest.split_once("```").unwrap();
    let words = command.split_whitespace().filter(|word| *word != "\\");
    words.map(|word| word.trim_matches('\'').to_owned()).collect()
}

/// Returns the text of the README between `begin` and `end`, at the first place.
fn quoted(begin: &str, end: &str) -> &'static str {
    README.split_once(begin).unwrap().1.split_once(end).unwrap().0
}

/// Connects as the page's user, with the settings of the README.
async fn store(redis: &RedisServer) -> RedisStore {
    RedisStore::connect(config(redis)).await.unwrap()
}

fn config(redis: &RedisServer) -> RedisConfig {
    let host = format!("{}:{}", redis.host(), redis.port());
    let url = quoted("RedisConfig::new(\"", "\"").replace("redis.internal", &host);
    redis_config(url.as_str(), PATIENCE).with_prefix(quoted(".with_prefix(\"", "\"")).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_user_of_the_page_may_do_everything_and_needs_all_of_it() {
    let redis = RedisServer::start().await;
    let mut admin = redis.connection().await;
    let _: () = redis::cmd("ACL").arg(acl()).query_async(&mut admin).await.unwrap();
    let clock = Arc::new(ManualClock::new(SystemClock.now()));
    let store = store(&redis).await;
    let sessions = || Sessions::builder(store.clone()).with_clock(Arc::clone(&clock));
    let limited = |at_limit| {
        sessions().with_session_limit(SessionLimit::new(2, at_limit).unwrap()).build().unwrap()
    };
    let unlimited = serve(sessions().build().unwrap()).await;
    let strict = serve(limited(AtLimit::Reject)).await;
    let limited = serve(limited(AtLimit::EvictOldest)).await;

    // A visitor without a login: create, read, write, touch, lock, renew, log out.
    let visitor = Browser::new(unlimited);
    for count in 1..=2 {
        assert_eq!(visitor.post("/count").await.ok().body, count.to_string());
    }
    clock.advance(Duration::from_secs(6 * 60));
    assert_eq!(visitor.session().await["values"]["count"], 2);
    visitor.post("/locked/set/note/under-the-lock").await.ok();
    visitor.post("/renew").await.ok();
    visitor.post("/logout").await.ok();

    // Devices, with a limit: the third login evicts the first.
    let devices: Vec<_> = (0..3).map(|_| Browser::new(limited)).collect();
    for device in &devices {
        device.post("/login/ada").await.ok();
        clock.advance(Duration::from_secs(1));
    }
    assert!(devices[0].session().await["owner"].is_null());
    assert_eq!(Browser::new(strict).post("/login/ada").await.status, 409);
    let list = devices[1].get("/devices").await.ok().json();
    assert_eq!(list.as_array().unwrap().len(), 2);
    let other = list.as_array().unwrap().iter().find(|device| device["current"] == false).unwrap();
    let end = format!("/end/{}", other["key"].as_str().unwrap());
    assert_eq!(devices[1].post(&end).await.ok().body, "true");

    // Renewal, a longer lifetime, and the end of all sessions.
    let this = devices[1].at(unlimited);
    this.post("/renew").await.ok();
    this.post("/lifetime/3600000/360000000").await.ok();
    Browser::new(unlimited).post("/login/ada").await.ok();
    assert_eq!(this.post("/end-others").await.ok().body, "1");
    this.post("/login/ada").await.ok();
    assert_eq!(this.post("/end-all").await.ok().body, "1");

    // Every right is used. Keys leave the index in the background, so the test polls.
    let allowed: Vec<_> =
        acl().iter().filter_map(|word| Some(word.strip_prefix('+')?.into())).collect();
    until("all that is allowed is used", async || {
        let mut info = redis::cmd("INFO");
        let used: String = info.arg("commandstats").query_async(&mut admin.clone()).await.unwrap();
        // Up to 6.2, a subcommand counts as its command.
        let counted = |command: &String| match command.split_once('|') {
            Some((whole, _)) if !used.contains('|') => format!("cmdstat_{whole}:"),
            _ => format!("cmdstat_{command}:"),
        };
        let unused = |command: &&String| !used.contains(&counted(command));
        let unused: Vec<_> = allowed.iter().filter(unused).collect();
        println!("allowed and not used: {unused:?}");
        unused.is_empty()
    })
    .await;
    // Redis logs a refused background command, although the request succeeds. From 7.2 on the client
    // sends its name, and the store requests `INFO` at its start; both are optional.
    let mut log = redis::cmd("ACL");
    let refused: Vec<BTreeMap<String, redis::Value>> =
        log.arg("LOG").query_async(&mut admin).await.unwrap();
    for refusal in refused {
        let command: String = redis::from_redis_value(refusal["object"].clone()).unwrap();
        // Up to 6.2, a subcommand is logged as its command.
        let dispensable =
            ["client|setinfo", "client|setname", "client", "info"].contains(&command.as_str());
        assert!(dispensable, "{refusal:?}");
    }
}

#[tokio::test]
async fn a_replica_is_refused_at_the_start_with_these_rights() {
    let [primary, replica] = [RedisServer::start().await, RedisServer::start().await];
    let mut admin = replica.connection().await;
    let _: () = redis::cmd("ACL").arg(acl()).query_async(&mut admin).await.unwrap();
    RedisStore::connect(config(&replica)).await.unwrap();
    replica.follow(&primary).await;
    let error = RedisStore::connect(config(&replica)).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Misconfigured);
}

#[tokio::test]
async fn waiting_for_replicas_needs_the_rights_on_the_page() {
    let redis = RedisServer::start().await;
    let mut admin = redis.connection().await;
    let _: () = redis::cmd("ACL").arg(acl()).query_async(&mut admin).await.unwrap();
    let wait = Duration::from_millis(10);
    let config = || config(&redis).with_revocation_replicas(1, wait).unwrap();
    let error = RedisStore::connect(config()).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Misconfigured);
    let _: () = redis::cmd("ACL").arg(acl_command(2)).query_async(&mut admin).await.unwrap();
    // The missing replica itself is accepted at the start.
    RedisStore::connect(config()).await.unwrap();
}
