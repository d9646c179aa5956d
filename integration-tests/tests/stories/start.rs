//! A store that cannot work fails at the start. The error explains the cause and the remedy, without the
//! password.

use std::{error::Error, net::SocketAddr};

use integration_tests::{Browser, Fault, FaultProxy, PATIENCE, RedisServer, redis_config};
use session_axum::{RedisConfig, RedisStore, Sessions};
use session_core::{
    Clock as _, SessionKey, SessionStore as _, StoreError, StoreErrorKind, SystemClock,
};
use session_redis::NearCache;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use crate::support::{Log, ping, serve};

/// Returns the error of a failed connection. The texts must contain neither URL nor password.
async fn why(config: impl Into<RedisConfig>) -> (StoreErrorKind, String) {
    let error = RedisStore::connect(redis_config(config, PATIENCE)).await.unwrap_err();
    let texts = texts_of(&error);
    assert!(!texts.contains("hunter2") && !texts.contains("redis://"), "{texts}");
    (error.kind(), error.source().map(ToString::to_string).unwrap_or_default())
}

/// Returns all texts of an error, with its causes.
fn texts_of(error: &StoreError) -> String {
    let mut texts = String::new();
    let mut cause = Some(error as &dyn Error);
    while let Some(error) = cause {
        texts += &format!("{error} {error:?} ");
        cause = error.source();
    }
    texts
}

/// Starts a server that answers each read with `answer`.
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

/// The server received the password before, and may quote any command with its arguments.
#[tokio::test]
async fn what_a_server_says_is_shown_nowhere() {
    let log = Log::default();
    let _listening = log.listen();
    for code in ["ERR unknown command", "HUNTER", "hunter2", "NOPERM", "MOVED 1", "-", ""] {
        let addr = who_says(move |heard| {
            let heard = String::from_utf8_lossy(heard);
            let answer = format!("-{code} with args beginning with: 'hunter2'\r\n");
            let commands = heard.lines().filter(|line| line.starts_with('*')).count();
            if heard.contains("AUTH") { "+OK\r\n".into() } else { answer.repeat(commands).into() }
        })
        .await;
        let url = format!("redis://user:hunter2@{addr}");
        let with_near_cache = RedisConfig::new(&*url).with_near_cache(NearCache::default());
        for config in [
            RedisConfig::new(&*url),
            RedisConfig::new(format!("{url}?protocol=resp3")),
            RedisConfig::new(format!("{url}/3")),
            with_near_cache,
        ] {
            let error = match RedisStore::connect(config).await {
                Ok(store) => ping(&store).await.unwrap_err(),
                Err(error) => error,
            };
            let texts = texts_of(&error);
            assert!(!texts.contains("hunter2"), "{code}: {texts}");
        }
    }
    assert!(!log.text().contains("hunter2"), "{}", log.text());
}

/// The server announces 2 GB, or more than any memory holds, and sends them.
#[tokio::test]
async fn an_endless_answer_does_not_fill_the_memory() {
    const SENT: usize = 64 * 1024;
    const ALLOWED: usize = 300 * 1024 * 1024;
    let redis = RedisServer::start().await;
    for begin in ["$2000000000\r\n", "$9223372036854775807\r\n"] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("redis://{}", listener.local_addr().unwrap());
        let server = (redis.host().to_owned(), redis.port());
        let sending = tokio::spawn(async move {
            let (mut client, _) = listener.accept().await.unwrap();
            let mut server = TcpStream::connect(server).await.unwrap();
            // The server acts as a proxy until the first command of the store.
            let mut buffer = vec![b'1'; SENT];
            loop {
                let len = client.read(&mut buffer).await.unwrap();
                if buffer[..len].windows(3).any(|word| word == b"GET") {
                    break;
                }
                server.write_all(&buffer[..len]).await.unwrap();
                let len = server.read(&mut buffer).await.unwrap();
                client.write_all(&buffer[..len]).await.unwrap();
            }
            client.write_all(begin.as_bytes()).await.unwrap();
            let mut sent = 0;
            while sent <= ALLOWED && client.write_all(&buffer).await.is_ok() {
                sent += buffer.len();
            }
            sent
        });
        let store = RedisStore::connect_lazy(redis_config(&*url, PATIENCE)).unwrap();
        let error = ping(&store).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Timeout, "{begin:?}");
        assert!(sending.await.unwrap() <= ALLOWED, "{begin:?}");
    }
}

/// The reply of a proxy that lacks a command, with the arguments.
const UNKNOWN: Fault =
    Fault::Answer("-ERR unknown command 'X', with args beginning with: 'hunter2'");

#[tokio::test]
async fn server_without_info_role_and_resp3_works() {
    let redis = RedisServer::start().await;
    let proxy = FaultProxy::before(&redis).await;
    for command in ["info", "role", "client", "hello"] {
        proxy.each(command, UNKNOWN);
    }
    for config in [
        RedisConfig::new(proxy.url()),
        RedisConfig::new(proxy.url()).with_near_cache(NearCache::default()),
    ] {
        let store = RedisStore::connect(redis_config(config, PATIENCE)).await.unwrap();
        assert!(store.health().await.unwrap().is_unknown());
        let browser = Browser::new(serve(Sessions::new(store)).await);
        browser.post("/login/ada").await.ok();
        assert_eq!(browser.session().await["owner"], "ada");
    }
}

#[tokio::test]
async fn command_that_is_missing_or_forbidden_is_named() {
    let redis = RedisServer::start().await;
    for (command, named) in
        [("eval", "unknown command: EVAL"), ("hello", "does not know the command `HELLO`")]
    {
        let proxy = FaultProxy::before(&redis).await;
        proxy.each(command, UNKNOWN);
        let (kind, text) = why(format!("{}?protocol=resp3", proxy.url())).await;
        assert_eq!(kind, StoreErrorKind::Misconfigured, "{text}");
        assert!(text.contains(named), "{text}");
    }

    // A store that connects later reports the same error for each command.
    let proxy = FaultProxy::before(&redis).await;
    let store = RedisStore::connect_lazy(redis_config(proxy.url(), PATIENCE)).unwrap();
    for (fault, reason) in [
        (UNKNOWN, "unknown command: GET"),
        (Fault::Answer("-NOPERM hunter2"), "no right to the command or the key: GET"),
    ] {
        proxy.each("get", fault);
        let error = ping(&store).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Misconfigured);
        let texts = texts_of(&error);
        assert!(texts.contains(reason) && !texts.contains("hunter2"), "{texts}");
    }
    proxy.each("evalsha", UNKNOWN);
    let key = SessionKey::from_bytes([1; SessionKey::LEN]);
    let error = store.delete(&key, SystemClock.now()).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Misconfigured);
    assert!(texts_of(&error).contains("unknown command: EVALSHA"), "{error:?}");
}
