use redis::AsyncCommands as _;
use reqwest::{Method, StatusCode};

use crate::support::{Stage, send_raw};

const UNKNOWN: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

#[tokio::test]
async fn what_is_no_id_is_no_session_and_costs_no_command() {
    let stage = Stage::new().await;
    let addr = stage.addr();
    let mark = stage.redis.mark_commands().await;
    let oversized = format!("session={}", "A".repeat(8_000));
    let malformed: [&[u8]; 8] = [
        b"session=",
        b"session",
        b"session=short",
        b"session=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA+",
        b"session=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAB",
        "session=ÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄ".as_bytes(),
        b"session=\xff\xfe",
        oversized.as_bytes(),
    ];
    for cookie in malformed {
        let answer = send_raw(addr, Method::GET, "/session", &[cookie]).await.ok();
        assert!(answer.json()["key"].is_null());
        assert_eq!(answer.set_cookie(), None);
    }
    let answer = send_raw(addr, Method::GET, "/session", &[]).await.ok();
    assert_eq!(answer.set_cookie(), None);

    let counts = stage.redis.commands_since(&mark).await;
    assert_eq!(counts.total(), 0, "{counts}");
}

#[tokio::test]
async fn an_unknown_id_is_never_adopted() {
    let stage = Stage::new().await;
    let cookie = format!("session={UNKNOWN}");
    let cookies = [cookie.as_bytes()];

    let answer = send_raw(stage.addr(), Method::GET, "/session", &cookies).await.ok();
    assert!(answer.json()["key"].is_null());
    assert_eq!(answer.set_cookie(), None, "the browser may hold a newer cookie by now");

    // The client's ID never becomes a session: writes and logins create a new ID.
    for path in ["/count", "/login/mallory", "/set/a/b"] {
        let answer = send_raw(stage.addr(), Method::POST, path, &cookies).await.ok();
        let set_cookie = answer.set_cookie().unwrap();
        assert!(set_cookie.starts_with("session=") && !set_cookie.contains(UNKNOWN));
        let answer = send_raw(stage.addr(), Method::GET, "/session", &cookies).await.ok();
        assert!(answer.json()["key"].is_null(), "{path} adopted the client's ID");
    }
    for path in ["/logout", "/renew"] {
        let answer = send_raw(stage.addr(), Method::POST, path, &cookies).await.ok();
        assert_eq!(answer.set_cookie(), None, "the browser may hold a newer cookie by now");
    }
}

#[tokio::test]
async fn of_two_cookies_the_one_that_opens_a_session_is_used() {
    let stage = Stage::new().await;
    stage.browser.post("/login/ada").await.ok();
    let live = format!("session={}", stage.browser.session_id().unwrap());
    let dead = format!("session={UNKNOWN}");
    let both = format!("{dead}; a=b; {live}");

    for cookies in [
        vec![both.as_bytes()],
        vec![dead.as_bytes(), live.as_bytes()],
        vec![b"session=malformed", live.as_bytes()],
    ] {
        let answer = send_raw(stage.addr(), Method::GET, "/session", &cookies).await.ok();
        assert_eq!(answer.json()["owner"], "ada");
        assert_eq!(answer.set_cookie(), None);
    }

    // Of many cookies with this name, only the first four are tried.
    let mark = stage.redis.mark_commands().await;
    let many = vec![dead.as_str(); 100].join("; ");
    send_raw(stage.addr(), Method::GET, "/session", &[many.as_bytes()]).await.ok();
    let counts = stage.redis.commands_since(&mark).await;
    assert_eq!(counts.total(), 4, "{counts}");
}

#[tokio::test]
async fn the_session_is_found_in_64_kilobytes_of_cookies() {
    let stage = Stage::new().await;
    stage.browser.post("/login/ada").await.ok();
    let mut cookies = (0..660).map(|n| format!("c{n}={}", "x".repeat(95))).collect::<Vec<_>>();
    cookies.push(format!("session={}", stage.browser.session_id().unwrap()));
    let cookies = cookies.join("; ");
    assert!(cookies.len() > 64 * 1024);

    let answer = send_raw(stage.addr(), Method::GET, "/session", &[cookies.as_bytes()]).await.ok();
    assert_eq!(answer.json()["owner"], "ada");
    let other = "ä".repeat(1_000);
    let id = stage.browser.session_id().unwrap();
    let cookies = format!("other={other}; session={id}");
    let answer = send_raw(stage.addr(), Method::GET, "/session", &[cookies.as_bytes()]).await.ok();
    assert_eq!(answer.json()["owner"], "ada", "another cookie's bytes are not our business");
}

#[tokio::test]
async fn unreadable_records_are_fresh_sessions_and_no_lasting_error() {
    let stage = Stage::new().await;
    let mut redis = stage.redis.connection().await;
    let of_the_future = |mut record: Vec<u8>| {
        record[0] = 2;
        record
    };
    let cut = |mut record: Vec<u8>| {
        record.truncate(60);
        record
    };
    let garbage = |_| b"\xc1garbage".to_vec();
    let empty = |_| Vec::new();
    let damages: [fn(Vec<u8>) -> Vec<u8>; 4] = [of_the_future, cut, garbage, empty];
    for damage in damages {
        stage.browser.post("/login/ada").await.ok();
        stage.browser.post("/count").await.ok();
        let (key, old) = (stage.redis_key().await, stage.browser.fork());
        let record: Vec<u8> = redis.get(&key).await.unwrap();
        let damaged = damage(record);
        let _: () = redis.set(&key, &damaged).await.unwrap();

        for _ in 0..2 {
            let answer = old.fork().get("/session").await.ok();
            assert!(answer.json()["key"].is_null());
            assert_eq!(answer.set_cookie(), None, "the browser may hold a newer cookie by now");
        }
        assert_eq!(old.fork().post("/count").await.ok().body, "1", "a fresh session");
        let stored: Vec<u8> = redis.get(&key).await.unwrap();
        assert_eq!(stored, damaged, "what an older version cannot read is left for the newer one");
    }
}

#[tokio::test]
async fn a_record_that_became_unreadable_is_not_overwritten_and_can_be_ended() {
    let stage = Stage::new().await;
    let mut redis = stage.redis.connection().await;
    stage.browser.post("/login/ada").await.ok();
    let (key, gate) = (stage.redis_key().await, "corrupt");
    let slow = stage.browser.fork();
    let writing = tokio::spawn(async move { slow.post("/slow/corrupt/note/x").await });
    stage.browser.post(&format!("/gates/{gate}/wait")).await.ok();
    let _: () = redis
        .set(&key, b"\x02of a later format, longer than a header of forty bytes")
        .await
        .unwrap();
    stage.browser.post(&format!("/gates/{gate}/open")).await.ok();

    let answer = writing.await.unwrap();
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.set_cookie(), None);
    let stored: Vec<u8> = redis.get(&key).await.unwrap();
    assert!(stored.starts_with(b"\x02of a later format"));
}

#[tokio::test]
async fn a_value_of_another_type_is_missing_to_get_and_not_overwritten() {
    let stage = Stage::new().await;
    stage.browser.post("/count").await.ok();
    stage.browser.post("/set/note/kept").await.ok();
    assert_eq!(stage.browser.get("/count-as-text").await.ok().body, "none");
    let session = stage.browser.session().await;
    assert_eq!(session["values"]["note"], "kept");
    assert_eq!(session["values"]["count"], 1);
    // An update of a text as a number fails.
    stage.browser.post("/set/count/text").await.ok();
    let answer = stage.browser.post("/count").await;
    assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(stage.browser.session().await["values"]["count"], "text");
}

#[tokio::test]
async fn an_expired_id_opens_nothing() {
    let stage = Stage::new().await;
    stage.browser.post("/login/ada").await.ok();
    stage.advance(3_600_000);
    let answer = stage.browser.get("/session").await.ok();
    assert!(answer.json()["key"].is_null());
    assert_eq!(answer.set_cookie(), None, "the browser may hold a newer cookie by now");
}
