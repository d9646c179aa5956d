//! What cannot work is said at the start: what is wrong and what to do, without the password.

use std::{error::Error as _, net::SocketAddr};

use integration_tests::{PATIENCE, RedisServer, redis_config};
use session_axum::{RedisConfig, RedisStore};
use session_core::StoreErrorKind;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

/// Why there is no store, in words that hold neither URL nor password.
async fn why(config: impl Into<RedisConfig>) -> (StoreErrorKind, String) {
    let error = RedisStore::connect(redis_config(config, PATIENCE)).await.unwrap_err();
    let mut texts = format!("{error} {error:?}");
    let mut cause = error.source();
    while let Some(error) = cause {
        texts += &format!(" {error} {error:?}");
        cause = error.source();
    }
    assert!(!texts.contains("hunter2") && !texts.contains("redis://"), "{texts}");
    (error.kind(), error.source().map(ToString::to_string).unwrap_or_default())
}

/// Something that listens and answers what it hears.
async fn who_says(answer: impl Fn(&[u8]) -> Vec<u8> + Clone + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let answer = answer.clone();
            tokio::spawn(async move {
                let mut buffer = [0; 4096];
                while let Ok(len @ 1..) = stream.read(&mut buffer).await {
                    if stream.write_all(&answer(&buffer[..len])).await.is_err() {
                        break;
                    }
                }
            });
        }
    });
    addr
}

#[tokio::test]
async fn a_wrong_password_or_user_is_said() {
    let redis = RedisServer::start().await;
    let mut admin = redis.connection().await;
    let mut set = redis::cmd("CONFIG");
    let _: () = set.arg(&["SET", "requirepass", "secret"]).query_async(&mut admin).await.unwrap();
    let wrong = [
        RedisConfig::new(redis.url().replace("redis://", "redis://:hunter2@")),
        RedisConfig::new(redis.url()).with_password("hunter2"),
        RedisConfig::new(redis.url()).with_user("eve").with_password("hunter2"),
    ];
    for config in wrong {
        let (kind, text) = why(config).await;
        assert_eq!(kind, StoreErrorKind::Misconfigured);
        assert!(text.ends_with("refuses the password: check it, and the user's name"), "{text}");
    }
    let (kind, text) = why(redis.url()).await;
    assert_eq!(kind, StoreErrorKind::Misconfigured);
    assert!(text.ends_with("wants a password, and there is none"), "{text}");
    RedisStore::connect(RedisConfig::new(redis.url()).with_password("secret")).await.unwrap();
}

#[tokio::test]
async fn a_database_that_is_not_there_is_said() {
    let redis = RedisServer::start().await;
    for config in [
        RedisConfig::new(format!("{}/16", redis.url())),
        RedisConfig::new(redis.url()).with_database(u32::MAX),
    ] {
        let (kind, text) = why(config).await;
        assert_eq!(kind, StoreErrorKind::Misconfigured);
        assert!(text.contains("refuses the database"), "{text}");
    }
}

#[tokio::test]
async fn a_server_that_is_no_redis_is_said() {
    for answer in
        [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], b"SSH-2.0-OpenSSH_9.2\r\n", b"\x15\x03"]
    {
        let addr = who_says(|_| answer.to_vec()).await;
        let (kind, text) = why(format!("redis://:hunter2@{addr}")).await;
        assert_eq!(kind, StoreErrorKind::Misconfigured);
        assert!(text.contains("does not speak like Redis"), "{text}");
    }
}

#[tokio::test]
async fn a_server_that_is_too_old_is_said() {
    let answer = |command: &str| match command {
        _ if command.contains("INFO\r") => "$22\r\nredis_version:5.0.14\r\n\r\n",
        _ if command.contains("ROLE") => "*1\r\n$6\r\nmaster\r\n",
        _ => "+OK\r\n",
    };
    let addr = who_says(move |heard| {
        let heard = String::from_utf8_lossy(heard);
        heard.split('*').skip(1).flat_map(|command| answer(command).bytes()).collect()
    });
    let (kind, text) = why(format!("redis://{}", addr.await)).await;
    assert_eq!(kind, StoreErrorKind::Misconfigured, "{text}");
    assert!(text.ends_with("is Redis 5.0, which is too old: 6.0 is needed"), "{text}");
}
