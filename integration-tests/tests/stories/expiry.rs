use std::time::{Duration, Instant};

use integration_tests::until;
use redis::AsyncCommands as _;
use serde_json::json;
use session_axum::Lifetime;

use crate::support::Stage;

const MINUTE: u64 = 60_000;

#[tokio::test]
async fn an_idle_session_ends_whatever_redis_did() {
    let stage = Stage::new().await;
    stage.browser.post("/login/ada").await.ok();
    let key = stage.redis_key().await;
    let mut redis = stage.redis.connection().await;
    // A key that never expires, as after an operator's mistake or a restored dump.
    let _: () = redis.persist(&key).await.unwrap();

    stage.advance(60 * MINUTE - 1);
    assert_eq!(stage.browser.fork().session().await["owner"], "ada");
    // The request has moved the deadline.
    stage.advance(60 * MINUTE);
    assert_eq!(redis.exists::<_, u32>(&key).await.unwrap(), 1);
    assert!(stage.browser.session().await["owner"].is_null());
}

#[tokio::test]
async fn a_busy_session_ends_at_its_absolute_deadline() {
    let stage = Stage::new().await;
    stage.browser.post("/login/ada").await.ok();
    for _ in 0..47 {
        stage.advance(30 * MINUTE);
        assert_eq!(stage.browser.session().await["owner"], "ada");
    }
    stage.advance(30 * MINUTE);
    assert!(stage.browser.session().await["owner"].is_null(), "after 24 hours");
}

#[tokio::test]
async fn a_session_lasts_nine_tenths_to_all_of_its_idle_time_after_the_last_request() {
    let stage = Stage::new().await;
    stage.browser.post("/login/ada").await.ok();
    // The last request comes just too early to be recorded.
    stage.advance(6 * MINUTE - 1);
    assert_eq!(stage.browser.session().await["owner"], "ada");
    let cookie = stage.browser.fork();
    stage.advance(54 * MINUTE);
    assert_eq!(cookie.fork().session().await["owner"], "ada", "nine tenths");
    stage.advance(60 * MINUTE + 1);
    assert!(cookie.session().await["owner"].is_null(), "all of it");
}

#[tokio::test]
async fn a_commit_after_the_deadline_brings_nothing_back() {
    let stage = Stage::new().await;
    stage.browser.post("/login/ada").await.ok();
    let mut redis = stage.redis.connection().await;
    let _: () = redis.persist(stage.redis_key().await).await.unwrap();
    let slow = stage.browser.fork();
    let writing = tokio::spawn(async move { slow.post("/slow/late/note/x").await });
    stage.browser.post("/gates/late/wait").await.ok();
    stage.advance(60 * MINUTE);
    stage.browser.post("/gates/late/open").await.ok();
    assert_eq!(writing.await.unwrap().status, 409);
    assert!(stage.browser.session().await["key"].is_null());
}

#[tokio::test]
async fn remember_me_lasts_over_later_writes() {
    let stage = Stage::new().await;
    stage.browser.post("/login/ada").await.ok();
    let week = 7 * 24 * 60 * MINUTE;
    stage.browser.post(&format!("/lifetime/{week}/{week}")).await.ok();
    stage.browser.post("/count").await.ok();
    stage.browser.post("/set/a/b").await.ok();
    let mut redis = stage.redis.connection().await;
    let left: u64 = redis.pttl(stage.redis_key().await).await.unwrap();
    assert!((week - MINUTE..=week).contains(&left), "{left} ms");
    stage.advance(week - 1);
    assert_eq!(stage.browser.session().await["values"], json!({ "a": "b", "count": 1 }));
}

#[tokio::test]
async fn five_and_a_half_seconds_are_five_and_a_half_in_redis_too() {
    let idle = Duration::from_millis(5_500);
    let stage = Stage::with(|sessions| {
        sessions
            .with_clock(session_core::SystemClock)
            .with_lifetime(Lifetime::new(idle, Duration::from_secs(60)).unwrap())
    })
    .await;
    let mut redis = stage.redis.connection().await;
    let begin = Instant::now();
    stage.browser.post("/count").await.ok();
    let keys: Vec<String> = redis.keys("session:s:*").await.unwrap();
    let [key] = &keys[..] else { panic!("{keys:?}") };
    let left: i64 = redis.pttl(key).await.unwrap();
    assert!((1..=5_500).contains(&left), "{left} ms");

    until("the key is gone", async || redis.exists::<_, u32>(key).await.unwrap() == 0).await;
    let elapsed = begin.elapsed();
    assert!(elapsed >= idle, "{elapsed:?}");
    assert!(stage.browser.session().await["key"].is_null());
}

#[tokio::test]
async fn a_touch_moves_the_time_to_live_in_redis_and_nothing_else() {
    let stage = Stage::new().await;
    stage.browser.post("/login/ada").await.ok();
    stage.browser.post("/count").await.ok();
    let key = stage.redis_key().await;
    let mut redis = stage.redis.connection().await;
    let before: Vec<u8> = redis.get(&key).await.unwrap();
    let _: () = redis.pexpire(&key, 1_800_000).await.unwrap();

    stage.advance(6 * MINUTE);
    stage.browser.session().await;

    let after: Vec<u8> = redis.get(&key).await.unwrap();
    assert_eq!(before[..16], after[..16], "revision and nonce");
    assert_ne!(before[16..22], after[16..22], "last seen");
    assert_eq!(before[22..], after[22..], "all the rest");
    let left: u64 = redis.pttl(&key).await.unwrap();
    assert!((59 * MINUTE..=60 * MINUTE).contains(&left), "{left} ms");
}
