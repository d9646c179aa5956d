//! The operator's program `sessions`, run as a process.

mod cluster;
mod sentinel;
mod tls;
mod walk;
mod watch;

use std::{
    ffi::OsStr,
    process::{Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
};

use integration_tests::{PATIENCE, RedisServer, redis_config};
use serde_json::{Value, json};
use session_axum::{CookieChange, Key, RedisConfig, RedisStore, Session, SessionError, Sessions};
use session_core::SessionKey;

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

/// The session of an impersonation belongs to the user.
#[tokio::test]
async fn impersonation_is_listed_with_its_actor() {
    let redis = RedisServer::start().await;
    let site = Site::on(&redis).await;
    site.begin(|session| session.authenticate("grace")).await;
    let key = site
        .begin(|session| {
            session.authenticate("support\u{1b}")?;
            session.act_as("grace", Session::MAX_ACTING)
        })
        .await
        .to_string();
    let listed = site.json(&["list", "grace"]).await;
    let session = listed.iter().find(|session| session["key"] == key).unwrap();
    assert_eq!((&session["owner"], &session["actor"]), (&json!("grace"), &json!("support\u{1b}")));
    let text = site.run(["list", "grace"]).await.out;
    // The login of grace.
    assert_eq!(text.matches("  authenticated ").count(), 1, "{text}");
    let line = text.lines().find(|line| line.starts_with(&key)).unwrap();
    assert!(!line.contains("  authenticated "), "{line}");
    assert!(line.ends_with(r"  owner grace  actor support\u{1b}"), "{line}");
    // The list of the actor has the session too.
    assert_eq!(site.run(["list", "support\u{1b}"]).await.out.trim_end(), line);
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
