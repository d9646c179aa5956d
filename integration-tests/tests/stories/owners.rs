//! The sessions of one owner: the list, revocation, and the limit (I8).

use std::time::Duration;

use integration_tests::{Browser, RedisServer, until};
use redis::AsyncCommands as _;
use reqwest::{Method, StatusCode};
use serde_json::Value;
use session_axum::{AtLimit, SessionLimit, Sessions};
use session_core::{
    Clock as _, Entry, Family, IndexEntry, Owner, SessionIndex as _, SessionKey, SessionStore as _,
    SystemClock, envelope,
};

use crate::support::{Deployment, Stage, patient_store, post_patiently, serve};

async fn sign_in(deployment: &Deployment, device: &str) -> Browser {
    let browser = deployment.browser();
    let at = deployment.at_server(&browser, 0);
    at.post("/login/ada").await.ok();
    at.post(&format!("/device/{device}")).await.ok();
    browser
}

async fn devices(browser: &Browser) -> Vec<Value> {
    match browser.get("/devices").await.ok().json() {
        Value::Array(devices) => devices,
        other => panic!("{other}"),
    }
}

async fn is_signed_in(browser: &Browser) -> bool {
    browser.fork().session().await["owner"] == "ada"
}

fn key(device: &Value) -> &str {
    device["key"].as_str().unwrap()
}

/// Starts both stores. On Redis, each request of a test may go to a different instance.
async fn deployments() -> [Deployment; 2] {
    [Deployment::on_memory(1).await, Deployment::on_redis(3).await]
}

#[tokio::test]
async fn a_session_that_was_ended_elsewhere_is_gone_from_the_next_request_on() {
    for deployment in deployments().await {
        let (laptop, phone) =
            (sign_in(&deployment, "laptop").await, sign_in(&deployment, "phone").await);
        let list = devices(&deployment.at_server(&laptop, 1)).await;
        assert_eq!(list.len(), 2, "{list:?}");
        let other = list.iter().find(|device| device["current"] == false).unwrap();
        assert_eq!(other["device"], "phone");

        let end = format!("/end/{}", key(other));
        assert_eq!(deployment.at_server(&laptop, 1).post(&end).await.ok().body, "true");

        let phone = deployment.at_server(&phone, 2);
        let answer = phone.get("/session").await.ok();
        assert!(answer.json()["key"].is_null(), "it lives on at another instance");
        assert_eq!(answer.set_cookie(), None, "{answer:?}");
        assert!(is_signed_in(&laptop).await);
        assert_eq!(deployment.at_server(&laptop, 2).post(&end).await.ok().body, "false");
        assert_eq!(devices(&laptop).await.len(), 1);
    }
}

#[tokio::test]
async fn the_key_of_somebody_elses_session_and_no_key_are_answered_alike() {
    for deployment in deployments().await {
        let ada = sign_in(&deployment, "laptop").await;
        let grace = deployment.browser();
        grace.post("/login/grace").await.ok();
        let of_ada = devices(&ada).await;
        for key in [key(&of_ada[0]), "AAAAAAAAAAAAAAAAAAAAAA", "x", "%00"] {
            assert_eq!(grace.post(&format!("/end/{key}")).await.ok().body, "false");
        }
        assert!(is_signed_in(&ada).await);
    }
}

#[tokio::test]
async fn all_sessions_or_all_others_end_at_every_instance() {
    for deployment in deployments().await {
        let mut browsers = Vec::new();
        for number in 0..5 {
            browsers.push(sign_in(&deployment, &number.to_string()).await);
        }
        let grace = deployment.browser();
        grace.post("/login/grace").await.ok();
        assert_eq!(browsers[0].post("/end-others").await.ok().body, "4");
        assert!(is_signed_in(&browsers[0]).await);
        for browser in &browsers[1..] {
            assert!(!is_signed_in(browser).await);
        }
        sign_in(&deployment, "again").await;
        assert_eq!(browsers[0].post("/end-all").await.ok().body, "2");
        assert!(!is_signed_in(&browsers[0]).await);
        assert_eq!(grace.session().await["owner"], "grace");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_under_way_stores_nothing_in_a_session_that_was_ended_elsewhere() {
    for deployment in deployments().await {
        let (laptop, phone) =
            (sign_in(&deployment, "laptop").await, sign_in(&deployment, "phone").await);
        let slow = deployment.at_server(&phone.fork(), 0);
        let writing = tokio::spawn({
            let slow = slow.clone();
            async move { slow.post("/slow/ended/note/written").await }
        });
        slow.post("/gates/ended/wait").await.ok();
        assert_eq!(deployment.at_server(&laptop, 1).post("/end-others").await.ok().body, "1");
        slow.post("/gates/ended/open").await.ok();
        assert_eq!(writing.await.unwrap().status, StatusCode::CONFLICT);
        assert!(!is_signed_in(&phone).await);
    }
}

/// Signs in fifty browsers concurrently, through three instances.
async fn fifty_logins(limit: &str) -> (Deployment, Vec<Browser>, usize) {
    let redis = RedisServer::start().await;
    let deployment = Deployment::start(Some(redis), 3, &[("SESSION_LIMIT", limit)]).await;
    let browsers: Vec<_> = (0..50).map(|_| deployment.browser()).collect();
    let logins: Vec<_> = browsers
        .iter()
        .cloned()
        .map(|browser| {
            tokio::spawn(async move { post_patiently(&browser, "/login/ada").await.status })
        })
        .collect();
    let mut accepted = 0;
    for login in logins {
        match login.await.unwrap() {
            StatusCode::OK => accepted += 1,
            status => assert_eq!(status, StatusCode::CONFLICT),
        }
    }
    (deployment, browsers, accepted)
}

#[tokio::test(flavor = "multi_thread")]
async fn of_fifty_logins_at_once_no_more_are_left_than_the_limit_says() {
    for (limit, expected) in [("3 reject", 0..=3), ("3 oldest", 3..=50), ("3 least-recent", 3..=50)]
    {
        let (deployment, browsers, accepted) = fifty_logins(limit).await;
        assert!(expected.contains(&accepted), "{limit}: {accepted}");
        let mut live = Vec::new();
        for browser in &browsers {
            if is_signed_in(browser).await {
                live.push(browser);
            }
        }
        assert!(live.len() <= 3, "{limit}: {}", live.len());
        let Some(first) = live.first() else { continue };
        assert_eq!(devices(first).await.len(), live.len(), "{limit}");
        let mut redis = deployment.redis().connection().await;
        let indices: Vec<String> = redis.keys("*i:*").await.unwrap();
        assert_eq!(indices.len(), 1, "{limit}");
        // Keys leave the index in the background.
        until("the index holds them alone", async || {
            redis.zcard::<_, usize>(&indices[0]).await.unwrap() == live.len()
        })
        .await;
    }
}

#[tokio::test]
async fn a_login_above_the_limit_says_what_to_do() {
    let redis = RedisServer::start().await;
    let store = patient_store(&redis).await;
    let limit = SessionLimit::new(1, AtLimit::Reject).unwrap();
    let addr = serve(Sessions::builder(store).with_session_limit(limit).build().unwrap()).await;
    let (first, second) = (Browser::new(addr), Browser::new(addr));
    first.post("/login/ada").await.ok();
    first.post("/login/ada").await.ok();
    let refused = second.post("/login/ada").await;
    assert_eq!((refused.status, refused.set_cookie()), (StatusCode::CONFLICT, None));
    first.post("/logout").await.ok();
    second.post("/login/ada").await.ok();
    assert!(is_signed_in(&second).await);
}

#[tokio::test]
async fn an_index_lives_as_long_as_the_longest_of_its_sessions() {
    let stage = Stage::new().await;
    let other = stage.browser.fork();
    stage.browser.post("/login/ada").await.ok();
    let mut redis = stage.redis.connection().await;
    let indices: Vec<String> = redis.keys("session:i:*").await.unwrap();
    let [index] = &indices[..] else { panic!("{indices:?}") };
    assert!(!index.contains("ada") && index.len() == "session:i:".len() + 22, "{index}");

    let hours = |millis: i64| (millis + 1_800_000) / 3_600_000;
    assert_eq!(hours(redis.pttl(index).await.unwrap()), 24);
    stage.browser.post("/lifetime/3600000/360000000").await.ok();
    assert_eq!(hours(redis.pttl(index).await.unwrap()), 100);
    other.post("/login/ada").await.ok();
    assert_eq!(hours(redis.pttl(index).await.unwrap()), 100, "a shorter one does not shorten it");
    other.post("/renew").await.ok();
    until("the former key has left", async || redis.zcard::<_, usize>(index).await.unwrap() == 2)
        .await;

    stage.browser.post("/logout").await.ok();
    other.post("/logout").await.ok();
    until("the index is gone", async || !redis.exists::<_, bool>(index).await.unwrap()).await;
}

#[tokio::test]
async fn foreign_members_of_an_index_deny_nothing_and_are_removed() {
    let stage = Stage::new().await;
    let other = Browser::new(stage.addr());
    other.post("/login/ada").await.ok();
    let redis = stage.redis.connection().await;
    let index = format!("session:i:{}", Owner::from("ada").key());
    let foreign = ["", "hello", "AAAAAAAAAAAAAAAAAAAAAA", "25 bytes, one more than 24"];
    let plant = async || {
        for (member, score) in foreign.into_iter().zip([f64::MAX, 1e17, f64::INFINITY, 1e300]) {
            redis.clone().zadd::<_, _, _, ()>(&index, member, score).await.unwrap();
        }
    };
    let are_gone =
        async |left: usize| redis.clone().zcard::<_, usize>(&index).await.unwrap() == left;
    plant().await;
    stage.browser.post("/login/ada").await.ok();
    assert!(are_gone(6).await, "a login removes none");
    assert_eq!(devices(&stage.browser).await.len(), 2);
    until("they are removed", async || are_gone(2).await).await;

    plant().await;
    assert_eq!(stage.browser.post("/end-others").await.ok().body, "1");
    until("they are removed", async || are_gone(1).await).await;
    plant().await;
    stage.browser.post("/logout").await.ok();
    stage.browser.post("/login/ada").await.ok();
    assert_eq!(stage.browser.post("/end-all").await.ok().body, "1");
    assert!(!is_signed_in(&stage.browser).await);
    until("the index is gone", async || are_gone(0).await).await;
}

/// The header marks a tombstone, and the rest is unreadable.
#[tokio::test]
async fn damaged_tombstones_are_deleted_and_deny_no_revocation() {
    let stage = Stage::new().await;
    stage.browser.post("/login/ada").await.ok();
    let store = patient_store(&stage.redis).await;
    let mut redis = stage.redis.connection().await;
    let now = SystemClock.now();
    let ends_at = now + Duration::from_secs(300);
    let mut bytes = vec![0; envelope::HEADER_LEN];
    (bytes[0], bytes[envelope::KIND]) = (envelope::VERSION, envelope::MOVED);
    bytes[envelope::ENDS_AT].copy_from_slice(&envelope::u48(ends_at.as_millis()));
    bytes.extend(b"no MessagePack");
    let keys = [1, 2].map(|byte| SessionKey::from_bytes([byte; SessionKey::LEN]));
    for key in keys {
        let _: () = redis.set(format!("session:s:{key}"), &bytes).await.unwrap();
        let family = Family::from_u64(7);
        let entry = IndexEntry::new(key, family, ends_at);
        store.enter(&Owner::from("ada").key(), entry, now).await.unwrap();
    }
    assert_eq!(store.delete(&keys[1], now).await.unwrap(), None::<Entry>);
    assert!(!redis.exists::<_, bool>(format!("session:s:{}", keys[1])).await.unwrap());

    assert_eq!(stage.browser.post("/end-all").await.ok().body, "2");
    assert!(!is_signed_in(&stage.browser).await);
    assert!(!redis.exists::<_, bool>(format!("session:s:{}", keys[0])).await.unwrap());
}

/// A later version may store live sessions in such records.
#[tokio::test]
async fn records_of_another_format_count_as_sessions_when_revoked() {
    let stage = Stage::new().await;
    let store = patient_store(&stage.redis).await;
    let mut redis = stage.redis.connection().await;
    let now = SystemClock.now();
    let of = |version: u8, kind: u8, len: usize| {
        let mut bytes = vec![0; len];
        bytes[..2].copy_from_slice(&[version, kind]);
        bytes
    };
    let records =
        [of(9, envelope::LIVE, 60), of(envelope::VERSION, 9, 60), of(1, 0, 39), of(9, 9, 2)];
    for (number, bytes) in (1..).zip(&records) {
        let key = SessionKey::from_bytes([number; SessionKey::LEN]);
        let _: () = redis.set(format!("session:s:{key}"), bytes).await.unwrap();
        let family = Family::from_u64(number.into());
        let entry = IndexEntry::new(key, family, now + Duration::from_secs(300));
        store.enter(&Owner::from("ada").key(), entry, now).await.unwrap();
    }
    assert_eq!(Sessions::new(store).revoke_all("ada").await.unwrap(), records.len());
    let left: Vec<String> = redis.keys("session:s:*").await.unwrap();
    assert_eq!(left, [""; 0]);
}

#[tokio::test]
async fn lists_and_ends_keep_their_budget_in_round_trips_of_a_hundred() {
    let stage = Stage::new().await;
    let browser = &stage.browser;
    // From here on, Redis knows the scripts.
    browser.post("/login/ada").await.ok();
    browser.post("/logout").await.ok();
    browser.post("/login/ada").await.ok();
    for _ in 1..205 {
        Browser::new(stage.addr()).post("/login/ada").await.ok();
    }
    let cost = async |method, path: &str| {
        let mark = stage.redis.mark_commands().await;
        let answer = browser.send(method, path).await.ok();
        (answer, stage.redis.commands_since(&mark).await)
    };
    // The request's own session, the index, and one command for each session.
    let (answer, counts) = cost(Method::GET, "/devices").await;
    assert_eq!(answer.json().as_array().unwrap().len(), 205);
    assert_eq!((counts.of("get"), counts.of("zrangebyscore")), (206, 1), "{counts}");
    assert_eq!(counts.total(), 207, "{counts}");

    // The request's own session twice, the index, and one command for each other session, in three
    // pipelines. The first command of each pipeline contains the script. The keys leave the index in the
    // background: three more calls, which may or may not be counted yet.
    let (answer, counts) = cost(Method::POST, "/end-others").await;
    assert_eq!(answer.body, "204");
    assert_eq!((counts.of("get"), counts.of("zrangebyscore")), (2, 1), "{counts}");
    assert_eq!(counts.of("eval"), 3, "{counts}");
    assert!((201..=204).contains(&counts.of("evalsha")), "{counts}");
    until("the others have left", async || {
        let mut redis = stage.redis.connection().await;
        let indices: Vec<String> = redis.keys("session:i:*").await.unwrap();
        redis.zcard::<_, usize>(&indices[0]).await.unwrap() == 1
    })
    .await;
}
