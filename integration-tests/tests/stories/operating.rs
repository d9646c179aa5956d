//! The manual procedures of the operator's page.

use std::process::Command;

use integration_tests::{Browser, until};
use redis::AsyncCommands as _;
use reqwest::StatusCode;
use session_core::{Owner, SessionKey};

use crate::support::Stage;

const PAGE: &str = include_str!("../../../session-redis/OPERATING.md");

#[test]
fn the_shell_finds_the_index_of_an_owner() {
    let line = PAGE.lines().find(|line| line.starts_with("index=")).unwrap();
    for name in ["ada", "42", "x y%s\\n"] {
        let script = format!("{line}\nprintf %s \"$index\"");
        let shell = Command::new("sh").args(["-c", &script]).env("name", name).output().unwrap();
        assert_eq!(String::from_utf8(shell.stdout).unwrap(), Owner::from(name).key().to_string());
    }
}

#[tokio::test]
async fn sessions_that_are_deleted_by_hand_have_ended() {
    let stage = Stage::new().await;
    let other = Browser::new(stage.addr());
    for browser in [&stage.browser, &other] {
        browser.post("/login/ada").await.ok();
    }
    let slow = other.clone();
    let writing = tokio::spawn(async move { slow.post("/slow/late/note/written").await });
    other.post("/gates/late/wait").await.ok();

    let mut redis = stage.redis.connection().await;
    let index = format!("session:i:{}", Owner::from("ada").key());
    let keys: Vec<Vec<u8>> = redis.zrange(&index, 0, -1).await.unwrap();
    assert_eq!(keys.len(), 2);
    for member in keys {
        let key = SessionKey::from_bytes(member[..SessionKey::LEN].try_into().unwrap());
        let gone: u32 = redis.del(format!("session:s:{key}")).await.unwrap();
        assert_eq!(gone, 1);
    }
    other.post("/gates/late/open").await.ok();
    assert_eq!(writing.await.unwrap().status, StatusCode::CONFLICT);
    for browser in [&stage.browser, &other] {
        assert!(browser.session().await["owner"].is_null());
    }
    stage.browser.post("/login/ada").await.ok();
    let devices = stage.browser.get("/devices").await.ok().json();
    assert_eq!(devices.as_array().unwrap().len(), 1, "what is gone is not listed");
    assert_eq!(stage.browser.post("/end-all").await.ok().body, "1");
    // The removal from the index runs in the background.
    until("the index is empty", async || {
        let left: Vec<Vec<u8>> = redis.zrange(&index, 0, -1).await.unwrap();
        left.is_empty()
    })
    .await;
}
