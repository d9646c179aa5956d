//! The operator's program `sessions`, run as a process.

mod cluster;
mod tls;
mod watch;

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    process::{Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::{StreamExt as _, stream};
use integration_tests::{PATIENCE, RedisServer, SentinelRedis, redis_config, until};
use serde_json::{Value, json};
use session_axum::{CookieChange, Key, RedisConfig, RedisStore, Session, SessionError, Sessions};
use session_core::SessionKey;

use crate::stopcock::Stopcock;

const NOTE: Key<String> = Key::new("note");

/// An application, and the program of its operator.
struct Site {
    sessions: Sessions,
    /// The values of `REDIS_URL` and of the options that lead to the server.
    url: String,
    options: Vec<String>,
    /// The IDs of all sessions.
    ids: Arc<Mutex<Vec<String>>>,
}

/// The end of a run of the program.
struct Run {
    code: i32,
    out: String,
    err: String,
}

impl Site {
    async fn new(config: impl Into<RedisConfig>, url: String) -> Self {
        let store = RedisStore::connect(redis_config(config, PATIENCE)).await.unwrap();
        let sessions = Sessions::new(store);
        Self { sessions, url, options: Vec::new(), ids: Arc::default() }
    }

    async fn on(redis: &RedisServer) -> Self {
        Self::new(redis.url(), redis.url().to_owned()).await
    }

    /// Begins a session as a handler does. Returns its key.
    async fn begin(&self, handle: impl FnOnce(&Session) -> Result<(), SessionError>) -> SessionKey {
        let session = self.sessions.open([]).await.unwrap();
        handle(&session).unwrap();
        self.finish(session).await
    }

    async fn finish(&self, session: Session) -> SessionKey {
        let CookieChange::Set { id, .. } = session.finish().await.unwrap() else {
            panic!("the session has no new ID")
        };
        let mut ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        ids.push(id.expose().to_owned());
        id.key()
    }

    /// Runs the program. Its output never holds an ID or a control character but line breaks.
    async fn run<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> Run {
        let mut command = Command::new(env!("CARGO_BIN_EXE_operator"));
        command.args(&self.options).args(words).env("REDIS_URL", &self.url).stdin(Stdio::null());
        let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let (out, err) = (text(output.stdout), text(output.stderr));
        for text in [&out, &err] {
            let is_harmful = |letter: char| letter.is_control() && letter != '\n';
            assert!(!text.contains(is_harmful) && !text.contains('\u{202e}'), "{text:?}");
            let ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
            assert!(!ids.iter().any(|id| text.contains(id)), "{text}");
        }
        Run { code: output.status.code().unwrap(), out, err }
    }

    /// Runs the program with `--json`, which succeeds. Returns a value per line.
    async fn json(&self, words: &[&str]) -> Vec<Value> {
        let run = self.run(words.iter().chain(&["--json"])).await;
        assert_eq!(run.code, 0, "{}", run.err);
        run.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    async fn count(&self) -> u64 {
        self.json(&["count"]).await[0]["sessions"].as_u64().unwrap()
    }

    async fn show(&self, words: &[&str]) -> Value {
        let run = self.run([&["show"], words].concat()).await;
        assert_eq!(run.code, 0, "{}", run.err);
        serde_json::from_str(&run.out).unwrap()
    }
}

#[tokio::test]
async fn empty_database_has_no_sessions() {
    let redis = RedisServer::start().await;
    let site = Site::on(&redis).await;
    let zero =
        json!({ "sessions": 0, "signed_in": 0, "visitors": 0, "tombstones": 0, "unreadable": 0 });
    assert_eq!(site.json(&["count"]).await, [zero]);
    let run = site.run(["list", "ada"]).await;
    assert_eq!((run.code, &*run.out, &*run.err), (0, "", ""));
    for words in [&["revoke", "owner", "ada", "--yes"][..], &["revoke", "everybody", "--yes"]] {
        assert_eq!(site.json(words).await, [json!({ "revoked": 0 })]);
    }
    // The text of the last key begins as an option does.
    for byte in [0x07, 0xfb] {
        let key = SessionKey::from_bytes([byte; SessionKey::LEN]).to_string();
        for words in [&["show", &key][..], &["revoke", "session", &key, "--json"]] {
            let run = site.run(words).await;
            assert_eq!((run.code, &*run.err), (3, "error: no session has this key\n"), "{key}");
        }
    }
    assert_eq!(site.json(&["list", "-5"]).await.len(), 0);
}

#[tokio::test]
async fn sessions_are_counted_listed_and_shown() {
    let redis = RedisServer::start().await;
    let site = Site::on(&redis).await;
    site.begin(|session| session.set(NOTE, "a visitor")).await;
    let key = site.begin(|session| session.authenticate("ada")).await;
    let before = site
        .begin(|session| {
            session.authenticate("ada")?;
            session.set(NOTE, "a secret")
        })
        .await;
    let id = site.ids.lock().unwrap().last().cloned().unwrap();
    let session = site.sessions.open([id.as_bytes()]).await.unwrap();
    session.rotate().unwrap();
    let rotated = site.finish(session).await;

    let mut admin = redis.connection().await;
    let () = redis::cmd("MSET")
        .arg("session:s:AAAAAAAAAAAAAAAAAAAAAA")
        .arg("from a later version")
        .arg("session:s:no key of a session")
        .arg("1")
        .arg("other:s:AAAAAAAAAAAAAAAAAAAAAA")
        .arg("1")
        .query_async(&mut admin)
        .await
        .unwrap();
    let counted =
        json!({ "sessions": 3, "signed_in": 2, "visitors": 1, "tombstones": 1, "unreadable": 1 });
    assert_eq!(site.json(&["count"]).await, [counted]);
    let text = site.run(["count"]).await.out;
    assert!(text.starts_with("sessions             3\nsigned in            2\n"), "{text}");

    let listed = site.json(&["list", "ada"]).await;
    let mut keys: Vec<_> = listed.iter().map(|session| session["key"].as_str().unwrap()).collect();
    keys.sort_unstable();
    let mut expected = [key, rotated].map(|key| key.to_string());
    expected.sort_unstable();
    assert_eq!(keys, expected);
    let text = site.run(["list", "ada"]).await.out;
    assert!(text.lines().count() == 2 && text.contains(&expected[0]), "{text}");

    let shown = site.show(&[&rotated.to_string()]).await;
    assert_eq!((&shown["state"], &shown["owner"]), (&json!("live"), &json!("ada")));
    let value = json!({ "format": "MessagePack", "bytes": 9 });
    assert_eq!(shown["values"], json!({ "note": value }), "without the content");
    let shown = site.show(&[&rotated.to_string(), "--values"]).await;
    assert_eq!(shown["values"]["note"]["value"], "a secret");
    let shown = site.show(&[&before.to_string()]).await;
    let moved = json!({ "key": before, "state": "moved", "present_key": rotated });
    assert_eq!(shown, moved);
}

#[tokio::test]
async fn revocation_ends_what_was_named_and_asks_before_more() {
    let redis = RedisServer::start().await;
    let site = Site::on(&redis).await;
    let mut keys = Vec::new();
    for owner in ["ada", "ada", "ada", "eve"] {
        keys.push(site.begin(|session| session.authenticate(owner)).await.to_string());
    }
    let run = site.run(["revoke", "session", &keys[0]]).await;
    assert_eq!((run.code, &*run.out), (0, "1 session revoked\n"));
    assert_eq!(site.run(["revoke", "session", &keys[0]]).await.code, 3);
    assert_eq!(site.count().await, 3);

    // The standard input of this test is no terminal.
    for words in [&["revoke", "owner", "ada"][..], &["revoke", "everybody"]] {
        let run = site.run(words).await;
        assert_eq!(run.code, 4);
        assert_eq!(run.err, "error: nobody can be asked without a terminal: add --yes\n");
    }
    assert_eq!(site.count().await, 3);
    let run = site.run(["revoke", "owner", "ada", "--yes"]).await;
    assert_eq!((run.code, &*run.out), (0, "2 sessions revoked\n"));
    assert_eq!(site.sessions.list("eve").await.unwrap().len(), 1);
    site.begin(|session| session.set(NOTE, "a visitor")).await;
    assert_eq!(site.json(&["revoke", "everybody", "--yes"]).await, [json!({ "revoked": 2 })]);
    assert_eq!(site.count().await, 0);
}

/// A cursor of `SCAN` means nothing to another process of Redis: the order of its keys is random.
#[tokio::test(flavor = "multi_thread")]
async fn walk_misses_no_session_after_a_restart_of_redis() {
    const SESSIONS: usize = 3_000;
    let redis = RedisServer::builder().arg("--appendonly", "yes").start().await;
    let mut admin = redis.connection().await;
    let mut all = redis::cmd("MSET");
    let mut keys = BTreeSet::new();
    for number in 0..SESSIONS {
        let mut bytes = [0; SessionKey::LEN];
        bytes[..8].copy_from_slice(&(number as u64).to_be_bytes());
        let key = SessionKey::from_bytes(bytes);
        all.arg(format!("session:s:{key}")).arg("1");
        keys.insert(key);
    }
    let () = all.query_async(&mut admin).await.unwrap();
    let store = RedisStore::connect(redis_config(redis.url(), PATIENCE)).await.unwrap();
    let (mut walk, mut found) = (store.scan(), BTreeSet::new());
    for _ in 0..10 {
        found.extend(walk.next().await.unwrap().unwrap());
    }
    // The write-ahead log is on the disk within a second.
    tokio::time::sleep(Duration::from_secs(2)).await;
    redis.kill().await;
    redis.start_again().await;
    until("the walk is at its end", async || match walk.next().await {
        Ok(Some(keys)) => {
            found.extend(keys);
            false
        }
        Ok(None) => true,
        Err(_) => false,
    })
    .await;
    assert_eq!(found.len(), keys.len());
    assert_eq!(found, keys);
}

/// A session that begins during a walk may begin at a place behind the walk.
#[tokio::test(flavor = "multi_thread")]
async fn revocation_of_everybody_finds_sessions_that_begin_meanwhile() {
    const SESSIONS: u64 = 2_000;
    const MEANWHILE: u64 = 100;
    let redis = RedisServer::start().await;
    // The program stands still while the sessions begin.
    let stopcock = Stopcock::before(&redis).await;
    let mut site = Site::on(&redis).await;
    site.url = stopcock.url();
    let site = site;
    let begin = async |count| {
        let begun = stream::iter(0..count)
            .map(|number: u64| site.begin(move |session| session.authenticate(number % 100)))
            .buffer_unordered(64);
        begun.count().await as u64
    };
    assert_eq!(begin(SESSIONS).await, SESSIONS);
    let watching = RedisStore::connect(redis_config(redis.url(), PATIENCE)).await.unwrap();
    let mut changes = watching.changes().await.unwrap();
    let begin_meanwhile = async {
        // The first end shows that the walk is under way.
        changes.next().await.unwrap();
        stopcock.close();
        let begun = begin(MEANWHILE).await;
        stopcock.open();
        begun
    };
    let revoke = site.json(&["revoke", "everybody", "--yes"]);
    let (revoked, begun) = tokio::join!(revoke, begin_meanwhile);
    assert_eq!(begun, MEANWHILE);
    assert_eq!(revoked, [json!({ "revoked": SESSIONS + MEANWHILE })]);
    assert_eq!(site.count().await, 0);
}

/// A secret that is pasted by mistake does not reach the terminal once more.
#[tokio::test]
async fn session_id_is_no_key_and_is_not_printed() {
    let redis = RedisServer::start().await;
    let site = Site::on(&redis).await;
    site.begin(|session| session.authenticate("ada")).await;
    let id = site.ids.lock().unwrap()[0].clone();
    for words in [&["show", &id][..], &["revoke", "session", &id]] {
        let run = site.run(words).await;
        assert_eq!((run.code, &*run.out), (2, ""));
        assert!(run.err.contains("this may be a session ID"), "{}", run.err);
    }
    // The word `session` is missing.
    let run = site.run(["revoke", &id]).await;
    assert_eq!((run.code, &*run.out), (2, ""));
    assert_eq!(site.count().await, 1);
}

/// Each [`run`](Site::run) checks that the output obeys no one.
#[cfg(unix)]
#[tokio::test]
async fn hostile_content_is_escaped() {
    use std::os::unix::ffi::OsStrExt as _;

    let redis = RedisServer::start().await;
    let site = Site::on(&redis).await;
    const HOSTILE: &str = "ada\u{1b}[2J\u{9b}31m\r\n\u{202e}\u{7}";
    let key = site
        .begin(|session| {
            session.authenticate(HOSTILE)?;
            session.set(Key::<String>::new(HOSTILE), HOSTILE)
        })
        .await
        .to_string();
    let bytes = site.begin(|session| session.authenticate(&b"ada\xff\x1b"[..])).await.to_string();

    let shown = site.show(&[&key, "--values"]).await;
    assert_eq!(shown["owner"], HOSTILE);
    assert_eq!(shown["values"][HOSTILE]["value"], HOSTILE);
    let shown = site.show(&[&bytes]).await;
    assert_eq!(shown["owner"], json!({ "hex": "616461ff1b" }));
    assert_eq!(site.json(&["list", HOSTILE]).await.len(), 1);
    let list = [OsStr::new("list"), OsStr::from_bytes(b"ada\xff\x1b")];
    assert_eq!(site.run(list).await.out.lines().count(), 1);
    for words in [
        ["--prefix", HOSTILE, "revoke", "everybody"],
        ["--sentinel", HOSTILE, "list", HOSTILE],
        ["--ca", HOSTILE, "list", "ada"],
        [HOSTILE, HOSTILE, HOSTILE, HOSTILE],
    ] {
        let run = site.run(words).await;
        assert!(run.code != 0 && !run.err.is_empty(), "{words:?}");
    }
    let revoked = site.json(&["revoke", "owner", HOSTILE, "--yes"]).await;
    assert_eq!(revoked, [json!({ "revoked": 1 })]);
}

#[tokio::test]
async fn outage_is_an_error_with_advice_and_without_the_password() {
    let redis = RedisServer::start().await;
    let mut site = Site::on(&redis).await;
    let key = site.begin(|session| session.authenticate("ada")).await.to_string();
    redis.kill().await;
    site.url = site.url.replace("redis://", "redis://ops:hunter2@");
    for words in [
        &["count"][..],
        &["list", "ada"],
        &["show", &key],
        &["revoke", "session", &key],
        &["revoke", "owner", "ada", "--yes"],
        &["revoke", "everybody", "--yes"],
    ] {
        let run = site.run(words).await;
        assert_eq!((run.code, &*run.out), (1, ""), "{words:?}");
        assert!(run.err.contains("is Redis running"), "{}", run.err);
        assert!(!run.err.contains("hunter2"), "{}", run.err);
    }
    let help = site.run(["--help"]).await;
    assert!(help.code == 0 && !help.out.contains("hunter2"), "{}", help.out);
}

#[tokio::test]
async fn thousands_of_sessions_are_counted_and_revoked_in_small_steps() {
    const SESSIONS: u64 = 10_000;
    let redis = RedisServer::start().await;
    let site = Site::on(&redis).await;
    let begun = stream::iter(0..SESSIONS)
        .map(|number| site.begin(move |session| session.authenticate(number % 100)))
        .buffer_unordered(64);
    assert_eq!(begun.count().await as u64, SESSIONS);
    let mark = redis.mark_commands().await;
    assert_eq!(site.count().await, SESSIONS);
    let commands = redis.commands_since(&mark).await;
    assert!(commands.of("scan") >= SESSIONS / 1_000, "{commands:?}");
    assert_eq!(commands.of("keys"), 0);
    assert_eq!(site.json(&["list", "7"]).await.len(), 100);
    // A list in the place of a session.
    let strange = format!("session:s:{}", "A".repeat(22));
    let mut admin = redis.connection().await;
    let _: u32 = redis::cmd("RPUSH").arg(&strange).arg("x").query_async(&mut admin).await.unwrap();
    let revoked = site.json(&["revoke", "everybody", "--yes"]).await;
    assert_eq!(revoked, [json!({ "revoked": SESSIONS })]);
    assert_eq!(site.count().await, 0);
}

/// The user of the store needs one more right.
#[tokio::test]
async fn missing_right_is_named() {
    let redis = RedisServer::start().await;
    let mut admin = redis.connection().await;
    for (user, right) in [("ops", "+@all"), ("app", "-scan")] {
        let words = ["SETUSER", user, "on", ">secret", "~*", "+@all", right];
        let () = redis::cmd("ACL").arg(&words).query_async(&mut admin).await.unwrap();
    }
    let mut site = Site::on(&redis).await;
    site.begin(|session| session.authenticate("ada")).await;
    let url = site.url.clone();
    site.url = url.replace("redis://", "redis://app:secret@");
    let run = site.run(["count"]).await;
    assert_eq!(run.code, 1);
    assert!(run.err.to_lowercase().contains("scan"), "{}", run.err);
    site.url = url.replace("redis://", "redis://ops:secret@");
    assert_eq!(site.count().await, 1);
}

/// A variable from a file ends with a line break, and one from a template may end with a space.
#[tokio::test]
async fn white_space_around_a_url_is_ignored() {
    let redis = RedisServer::start().await;
    let mut site = Site::on(&redis).await;
    let url = site.url.clone();
    for (before, after) in [("", " "), ("", "\n"), ("", "\r\n"), ("\t", ""), (" ", " \n")] {
        site.url = format!("{before}{url}{after}");
        assert_eq!(site.count().await, 0);
    }
    for empty in ["", " ", "\n"] {
        site.url = empty.to_owned();
        let run = site.run(["count"]).await;
        assert_eq!((run.code, &*run.err), (2, "error: --url and REDIS_URL are empty\n"));
    }
}

#[tokio::test]
async fn primary_is_found_by_its_sentinels() {
    let sentinel = SentinelRedis::start(Duration::from_secs(1)).await;
    let urls = sentinel.urls().collect::<Vec<_>>().join(" ");
    let mut site =
        Site::new(RedisConfig::sentinel(sentinel.urls(), SentinelRedis::NAME), urls).await;
    site.options.extend(["--sentinel", SentinelRedis::NAME].map(str::to_owned));
    site.begin(|session| session.authenticate("ada")).await;
    assert_eq!(site.count().await, 1);
    let several = Site { options: Vec::new(), ..site };
    assert_eq!(several.run(["count"]).await.code, 2, "several URLs of one server");
}

/// A former primary that is cut off from its sentinels still answers, and reports no change at the
/// present primary.
#[tokio::test(flavor = "multi_thread")]
async fn watch_ends_when_sentinels_name_another_primary() {
    let sentinel = SentinelRedis::start(Duration::from_secs(600)).await;
    let config = RedisConfig::sentinel(sentinel.urls(), SentinelRedis::NAME);
    let store = RedisStore::connect(redis_config(config, PATIENCE)).await.unwrap();
    let mut changes = store.changes().await.unwrap();
    let present = RedisServer::builder().on_host().start().await;
    for sentinel in sentinel.sentinels() {
        let mut admin = sentinel.connection().await;
        let (host, port) = (present.host(), present.port().to_string());
        for words in [
            &["REMOVE", SentinelRedis::NAME][..],
            &["MONITOR", SentinelRedis::NAME, host, &port, "2"],
        ] {
            let () = redis::cmd("SENTINEL").arg(words).query_async(&mut admin).await.unwrap();
        }
    }
    let ended = tokio::time::timeout(Duration::from_secs(30), changes.next()).await;
    assert_eq!(ended, Ok(None));
}
