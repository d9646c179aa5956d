//! The harness keeps its promises, on which the other tests rely.

#![expect(clippy::unwrap_used, reason = "the helpers of tests are tests")]

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use integration_tests::{Proxy, RedisServer, ServerProcess};
use redis::AsyncCommands;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

#[tokio::test]
async fn server_is_empty_and_new_enough() {
    let server = RedisServer::start().await;
    let mut connection = server.connection().await;

    let keys: u64 = redis::cmd("DBSIZE").query_async(&mut connection).await.unwrap();
    assert_eq!(keys, 0);

    let info: redis::InfoDict = redis::cmd("INFO").query_async(&mut connection).await.unwrap();
    let version: String = info.get("redis_version").unwrap();
    let mut numbers = version.split('.').map(|number| number.parse::<u32>().unwrap());
    let version = (numbers.next().unwrap(), numbers.next().unwrap());
    assert!(version >= (6, 2), "{version:?} is below the floor");
}

#[tokio::test]
async fn stopped_server_comes_back_empty_at_the_same_url() {
    let server = RedisServer::start().await;
    let url = server.url().to_owned();
    let _: () = server.connection().await.set("key", "value").await.unwrap();

    server.stop().await;
    assert!(redis::Client::open(url.as_str()).unwrap().get_connection().is_err());

    server.start_again().await;
    assert_eq!(server.url(), url);
    let value: Option<String> = server.connection().await.get("key").await.unwrap();
    assert_eq!(value, None);
}

#[tokio::test]
async fn killed_server_keeps_what_an_append_only_file_holds() {
    let server =
        RedisServer::builder().arg("--appendonly", "yes").arg("--appendfsync", "no").start().await;
    let _: () = server.connection().await.set("key", "value").await.unwrap();

    for _ in 0..2 {
        server.kill().await;
        server.start_again().await;
        let value: Option<String> = server.connection().await.get("key").await.unwrap();
        assert_eq!(value.as_deref(), Some("value"));
    }
}

#[tokio::test]
async fn paused_server_answers_nothing_until_unpaused() {
    let server = RedisServer::start().await;
    let mut connection = server.connection().await;

    server.pause().await;
    let increment = connection.incr::<_, _, u64>("counter", 1);
    assert!(timeout(Duration::from_millis(300), increment).await.is_err());

    server.unpause().await;
    // The increment sent during the pause was executed.
    let counter: u64 = connection.incr("counter", 1).await.unwrap();
    assert_eq!(counter, 2);
}

#[tokio::test]
async fn script_counts_as_the_one_command_that_was_sent() {
    let server = RedisServer::start().await;
    let mut connection = server.connection().await;
    let script = redis::Script::new(
        "redis.call('SET', KEYS[1], 1); redis.call('OBJECT', 'ENCODING', KEYS[1]);
         return redis.call('GET', KEYS[1])",
    );

    let mark = server.mark_commands().await;
    assert_eq!(server.commands_since(&mark).await.total(), 0);

    // EVALSHA with the reply NOSCRIPT, then SCRIPT LOAD and EVALSHA.
    let _: u64 = script.key("key").invoke_async(&mut connection).await.unwrap();
    let counts = server.commands_since(&mark).await;
    // Redis 6.2 counts the second as `script`, later versions as `script|load`.
    assert_eq!((counts.of("evalsha"), counts.total()), (2, 3), "{counts}");

    let mark = server.mark_commands().await;
    for _ in 0..100 {
        let _: u64 = script.key("key").invoke_async(&mut connection).await.unwrap();
    }
    let _: Option<u64> = connection.get("key").await.unwrap();
    let counts = server.commands_since(&mark).await;
    assert_eq!(counts.iter().collect::<Vec<_>>(), [("evalsha", 100), ("get", 1)]);
    assert_eq!((counts.total(), counts.of("set")), (101, 0));
}

#[tokio::test]
async fn counting_goes_on_after_a_restart() {
    let server = RedisServer::start().await;
    server.mark_commands().await;
    server.kill().await;
    server.start_again().await;

    let mut connection = server.connection().await;
    let mark = server.mark_commands().await;
    let _: () = connection.set("key", 1).await.unwrap();
    assert_eq!(server.commands_since(&mark).await.to_string(), r#"{"set": 1}"#);
}

#[tokio::test]
async fn dropped_server_is_gone_even_if_the_test_panics_while_it_is_paused() {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let test = tokio::spawn(async move {
        let server = RedisServer::start().await;
        server.pause().await;
        sender.send((server.host().to_owned(), server.port())).unwrap();
        panic!("a failing test, on purpose");
    });
    let (host, port) = receiver.await.unwrap();
    assert!(test.await.unwrap_err().is_panic());

    // A paused server still accepts connections, so a refusal means that the server is gone.
    let connection = TcpStream::connect((host.as_str(), port)).await;
    assert!(connection.is_err(), "{host}:{port} is still there");
}

#[test]
fn server_can_be_dropped_outside_a_runtime() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = runtime.block_on(RedisServer::start());
    let address = (server.host().to_owned(), server.port());
    drop(runtime);
    drop(server);
    assert!(std::net::TcpStream::connect((address.0.as_str(), address.1)).is_err());
}

#[tokio::test]
async fn proxy_reaches_every_backend_in_turn() {
    let backends = [backend(b'a').await, backend(b'b').await, backend(b'c').await];
    let proxy = Proxy::round_robin(backends).await;

    let mut answers = Vec::new();
    for _ in 0..6 {
        answers.push(ask(proxy.addr()).await.unwrap());
    }
    assert_eq!(BTreeSet::from_iter(&answers[..3]).len(), 3, "{answers:?}");
    assert_eq!(answers[..3], answers[3..]);
}

#[tokio::test]
async fn proxy_passes_over_a_dead_backend_and_ends_connections_on_drop() {
    let dead = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let proxy = Proxy::round_robin([dead, backend(b'a').await]).await;
    for _ in 0..4 {
        assert_eq!(ask(proxy.addr()).await.unwrap(), b'a');
    }

    let mut open = TcpStream::connect(proxy.addr()).await.unwrap();
    open.write_all(b"?").await.unwrap();
    open.read_u8().await.unwrap();
    drop(proxy);
    let end = timeout(Duration::from_secs(5), open.read(&mut [0])).await.unwrap();
    assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
}

#[tokio::test]
async fn server_process_tells_its_address_and_all_its_output() {
    let program = script(
        r#"echo "starting with $GREETING"
        echo "a warning" >&2
        echo "listening on http://127.0.0.1:4321"
        exec sleep 600"#,
    );
    let mut process =
        ServerProcess::start(program.path().join("run"), [("GREETING", "hello")]).await;
    assert_eq!(process.addr(), SocketAddr::from(([127, 0, 0, 1], 4321)));

    process.kill();
    let output = process.output();
    assert!(output.contains("starting with hello\n"), "{output}");
    assert!(output.contains("a warning\n"), "{output}");
}

#[tokio::test]
#[should_panic = "no REDIS_URL"]
async fn server_process_that_ends_shows_why() {
    let program = script("echo 'no REDIS_URL' >&2; exit 1");
    ServerProcess::start(program.path().join("run"), [("PORT", "0")]).await;
}

/// Starts a server that answers each byte with `name`.
async fn backend(name: u8) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut connection, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                while connection.read_u8().await.is_ok() {
                    connection.write_u8(name).await.unwrap();
                }
            });
        }
    });
    addr
}

async fn ask(addr: SocketAddr) -> std::io::Result<u8> {
    let mut connection = TcpStream::connect(addr).await?;
    connection.write_all(b"?").await?;
    connection.read_u8().await
}

/// Returns a folder with one shell script, named `run`.
fn script(body: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    folder
}
