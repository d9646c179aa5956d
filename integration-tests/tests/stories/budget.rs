use integration_tests::{Answer, CommandCounts, until};
use reqwest::Method;

use crate::support::{Stage, send_raw};

/// Sends a request, and returns its response and the commands that Redis received.
async fn cost_of(stage: &Stage, method: Method, path: &str) -> (Answer, CommandCounts) {
    let mark = stage.redis.mark_commands().await;
    let answer = stage.browser.send(method, path).await.ok();
    (answer, stage.redis.commands_since(&mark).await)
}

/// Returns a stage whose Redis already knows the scripts, as after the first requests of a server.
async fn warm() -> Stage {
    let stage = Stage::new().await;
    stage.browser.post("/count").await.ok();
    stage.browser.post("/count").await.ok();
    stage.advance(3_600_000 / 10);
    stage.browser.session().await;
    stage.browser.post("/logout").await.ok();
    stage.browser.post("/login/eve").await.ok();
    stage.browser.post("/logout").await.ok();
    // A session leaves its owner's index in the background.
    until("Redis is empty", async || {
        let mut redis = stage.redis.connection().await;
        redis::cmd("DBSIZE").query_async::<u64>(&mut redis).await.unwrap() == 0
    })
    .await;
    stage
}

#[tokio::test]
async fn each_kind_of_request_keeps_its_budget() {
    let stage = warm().await;
    let cost = async |method, path, commands: &[(&str, u64)]| {
        let total: u64 = commands.iter().map(|(_, count)| count).sum();
        let mark = stage.redis.mark_commands().await;
        stage.browser.send(method, path).await.ok();
        // Background commands arrive a moment later.
        let mut counts = stage.redis.commands_since(&mark).await;
        until("all commands are there", async || {
            counts = stage.redis.commands_since(&mark).await;
            counts.total() >= total
        })
        .await;
        assert_eq!(counts.total(), total, "{path}: {counts}");
        for (name, count) in commands {
            assert_eq!(counts.of(name), *count, "{path}: {counts}");
        }
    };
    let (get, post) = (|| Method::GET, || Method::POST);

    cost(get(), "/plain", &[]).await;
    cost(get(), "/session", &[]).await;
    cost(post(), "/renew", &[]).await;
    cost(post(), "/count", &[("set", 1)]).await;
    cost(get(), "/plain", &[]).await;
    cost(get(), "/session", &[("get", 1)]).await;
    cost(post(), "/count", &[("get", 1), ("evalsha", 1)]).await;
    let moved = [("get", 1), ("eval", 1), ("set", 1), ("evalsha", 1)];
    cost(post(), "/login/ada", &moved).await;
    // The second `EVALSHA` runs in the background: the former key leaves the index.
    let moved = [("get", 1), ("eval", 1), ("set", 1), ("evalsha", 2)];
    cost(post(), "/renew", &moved).await;
    cost(post(), "/login/ada", &moved).await;
    // The first `GET` loads the request's session, the second the listed one.
    cost(get(), "/devices", &[("get", 2), ("zrangebyscore", 1)]).await;
    cost(post(), "/set/note/same", &[("get", 1), ("evalsha", 1)]).await;
    cost(get(), "/devices", &[("get", 2), ("zrangebyscore", 1)]).await;
    cost(post(), "/set/note/same", &[("get", 1)]).await;
    cost(post(), "/logout", &[("get", 1), ("evalsha", 2)]).await;
    cost(post(), "/login/ada", &[("eval", 1), ("set", 1)]).await;
}

#[tokio::test]
async fn a_touch_is_one_command_once_per_tenth_of_the_idle_time() {
    let stage = warm().await;
    stage.browser.post("/count").await.ok();
    let tenth = 3_600_000 / 10;
    for _ in 0..3 {
        stage.advance(tenth - 1);
        let (_, counts) = cost_of(&stage, Method::GET, "/session").await;
        assert_eq!((counts.total(), counts.of("get")), (1, 1), "{counts}");
        stage.advance(1);
        let (answer, counts) = cost_of(&stage, Method::GET, "/session").await;
        assert_eq!((counts.of("get"), counts.of("evalsha")), (1, 1), "{counts}");
        assert_eq!(answer.set_cookie(), None);
        let (_, counts) = cost_of(&stage, Method::GET, "/session").await;
        assert_eq!(counts.total(), 1, "{counts}");
    }
    // A write records the request in the same command.
    stage.advance(tenth);
    let (_, counts) = cost_of(&stage, Method::POST, "/count").await;
    assert_eq!(counts.total(), 2, "{counts}");
    let (_, counts) = cost_of(&stage, Method::GET, "/session").await;
    assert_eq!(counts.total(), 1, "{counts}");
}

#[tokio::test]
async fn the_old_id_costs_one_look_up_after_a_login() {
    let stage = warm().await;
    stage.browser.post("/count").await.ok();
    let old = format!("session={}", stage.browser.session_id().unwrap());
    stage.browser.post("/login/ada").await.ok();
    let mark = stage.redis.mark_commands().await;
    send_raw(stage.addr(), Method::GET, "/session", &[old.as_bytes()]).await.ok();
    let counts = stage.redis.commands_since(&mark).await;
    assert_eq!(counts.total(), 1, "{counts}");
}
