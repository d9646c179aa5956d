use integration_tests::assert_silent;
use redis::AsyncCommands as _;
use reqwest::Method;
use session_axum::{MemoryStore, SessionLayer};

use crate::support::{Deployment, Stage, send_raw};

/// Uses every feature of a session.
#[tokio::test(flavor = "multi_thread")]
async fn logs_at_trace_level_show_no_id() {
    for deployment in [Deployment::on_memory(1).await, Deployment::on_redis(1).await] {
        let browser = deployment.browser();
        for path in ["/count", "/login/ada", "/renew", "/lifetime/60000/60000", "/set/a/b"] {
            browser.post(path).await.ok();
            let id = format!("session={}", browser.session_id().unwrap());
            let addr = deployment.addr();
            let twice = format!("{id}; {id}x; session=zzz");
            send_raw(addr, Method::GET, "/session", &[twice.as_bytes()]).await.ok();
            send_raw(addr, Method::GET, "/nowhere", &[id.as_bytes()]).await;
        }
        browser.get("/count-as-text").await.ok();
        let old = browser.fork();
        browser.post("/login/ada").await.ok();
        old.get("/session").await.ok();
        browser.post("/logout").await.ok();
        if let Some(redis) = &deployment.redis {
            browser.post("/count").await.ok();
            redis.stop().await;
            browser.post("/count").await;
        }
        // On drop, the deployment searches the logs.
    }
}

#[tokio::test]
#[should_panic(expected = "shows a session ID")]
async fn an_id_that_shows_is_noticed() {
    let stage = Stage::new().await;
    stage.browser.post("/count").await.ok();
    let id = stage.browser.session_id().unwrap();
    assert_silent("this", &format!("a line\nand one with {id} in it"));
}

#[tokio::test]
async fn redis_holds_no_id() {
    let stage = Stage::new().await;
    for path in ["/count", "/renew", "/renew", "/login/ada", "/renew", "/login/eve"] {
        stage.browser.post(path).await.ok();
    }
    let mut redis = stage.redis.connection().await;
    let keys: Vec<String> = redis.keys("session:s:*").await.unwrap();
    assert!(keys.len() > 1, "a session and what is left of its former IDs: {keys:?}");
    for key in keys {
        let stored: Vec<u8> = redis.get(&key).await.unwrap();
        assert_silent("a key", &key);
        assert_silent("a record", &String::from_utf8_lossy(&stored));
        let left: i64 = redis.pttl(&key).await.unwrap();
        assert!(left > 0, "everything ends by itself");
    }
}

#[test]
fn debug_of_a_layer_names_neither_ids_nor_urls() {
    let layer = SessionLayer::new(MemoryStore::default());
    let text = format!("{layer:?}");
    assert!(text.contains("MemoryStore") && !text.contains("redis://"), "{text}");
}
