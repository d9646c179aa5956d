//! `sessions watch`, and the changes that it prints.

use std::{
    io::{BufRead as _, BufReader, Read},
    process::{Child, Command, Stdio},
};

use integration_tests::{PATIENCE, RedisServer, until};
use serde_json::{Value, json};
use session_axum::Session;
use session_core::SessionKey;
use tokio::{
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
    time::timeout,
};

use super::{NOTE, Site};

/// The program that watches, killed on drop.
pub(super) struct Watch {
    program: Child,
    /// The lines of its standard error, and of its standard output.
    warnings: UnboundedReceiver<String>,
    changes: UnboundedReceiver<String>,
}

impl Watch {
    /// Starts the program, and waits until it watches.
    pub(super) async fn start(site: &Site) -> Self {
        Self::start_with(site, &["--json"]).await
    }

    async fn start_with(site: &Site, options: &[&str]) -> Self {
        let mut program = Command::new(env!("CARGO_BIN_EXE_operator"))
            .args(&site.options)
            .arg("watch")
            .args(options)
            .env("REDIS_URL", &site.url)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let warnings = lines(program.stderr.take().unwrap());
        let changes = lines(program.stdout.take().unwrap());
        let mut watch = Self { program, warnings, changes };
        watch.warns("watching the sessions").await;
        watch
    }

    /// Returns the next change, without its time.
    pub(super) async fn next(&mut self) -> Value {
        let mut change: Value = serde_json::from_str(&self.next_line().await).unwrap();
        assert!(change["at"].take().is_string());
        change
    }

    async fn next_line(&mut self) -> String {
        timeout(PATIENCE, self.changes.recv()).await.unwrap().unwrap()
    }

    pub(super) async fn goes_on_after_a_loss(&mut self) {
        self.warns("warning: changes are missed").await;
        self.warns("watching again").await;
    }

    async fn warns(&mut self, start: &str) {
        let line = timeout(PATIENCE, self.warnings.recv()).await.unwrap().unwrap();
        assert!(line.starts_with(start), "{line}");
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}

/// Returns the lines of a program's output.
fn lines(output: impl Read + Send + 'static) -> UnboundedReceiver<String> {
    let (sender, lines) = unbounded_channel();
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines() {
            if sender.send(line.unwrap()).is_err() {
                return;
            }
        }
    });
    lines
}

/// One message reports more changes than the program holds back.
#[tokio::test]
async fn changes_that_are_left_out_are_counted() {
    const CHANGES: usize = 12_000;
    let redis = RedisServer::start().await;
    let site = Site::on(&redis).await;
    let mut watch = Watch::start(&site).await;
    let mut all = redis::cmd("MSET");
    for number in 0..CHANGES {
        let mut bytes = [0; SessionKey::LEN];
        bytes[..8].copy_from_slice(&(number as u64).to_be_bytes());
        all.arg(format!("session:s:{}", SessionKey::from_bytes(bytes))).arg("1");
    }
    let () = all.query_async(&mut redis.connection().await).await.unwrap();
    let (mut printed, mut left_out) = (0, 0);
    while printed + left_out < CHANGES {
        let line = async {
            tokio::select! {
                change = watch.changes.recv() => Ok(change.unwrap()),
                warning = watch.warnings.recv() => Err(warning.unwrap()),
            }
        };
        match timeout(PATIENCE, line).await.unwrap() {
            Ok(change) => {
                assert!(change.contains("\"unreadable\""), "{change}");
                printed += 1;
            }
            Err(warning) => {
                let count = warning.strip_prefix("warning: too many changes, ");
                let count = count.and_then(|count| count.strip_suffix(" are left out"));
                left_out = count.expect(&warning).parse().unwrap();
            }
        }
    }
    assert!(left_out > 0 && printed + left_out == CHANGES, "{printed} and {left_out}");
}

#[tokio::test]
async fn changes_by_every_process_are_watched() {
    let redis = RedisServer::start().await;
    let site = Site::on(&redis).await;
    let mut watch = Watch::start(&site).await;

    let key = site.begin(|session| session.authenticate("ada")).await;
    let change = |event, key, present: Option<SessionKey>, owner: Option<&str>| {
        json!({
            "at": null,
            "event": event,
            "key": key,
            "present_key": present,
            "owner": owner,
            "actor": null,
        })
    };
    assert_eq!(watch.next().await, change("created", key, None, Some("ada")));
    let id = site.ids.lock().unwrap()[0].clone();
    let session = site.sessions.open([id.as_bytes()]).await.unwrap();
    session.set(NOTE, "a note").unwrap();
    let _ = session.finish().await.unwrap();
    assert_eq!(watch.next().await, change("changed", key, None, Some("ada")));
    let session = site.sessions.open([id.as_bytes()]).await.unwrap();
    session.rotate().unwrap();
    let rotated = site.finish(session).await;
    let mut moved = [watch.next().await, watch.next().await];
    moved.sort_by_key(|change| change["event"].to_string());
    let expected =
        [change("changed", rotated, None, Some("ada")), change("moved", key, Some(rotated), None)];
    assert_eq!(moved, expected);
    site.sessions.revoke_all("ada").await.unwrap();
    assert_eq!(watch.next().await, change("ended", rotated, None, None));

    redis.kill().await;
    redis.start_again().await;
    watch.goes_on_after_a_loss().await;
    until("Redis is back", async || site.sessions.ping().await.is_ok()).await;
    let key = site.begin(|session| session.authenticate("eve")).await;
    assert_eq!(watch.next().await, change("created", key, None, Some("eve")));

    let mut admin = redis.connection().await;
    let _: () = redis::cmd("FLUSHALL").query_async(&mut admin).await.unwrap();
    watch.goes_on_after_a_loss().await;
}

#[tokio::test]
async fn change_of_an_impersonation_names_both_users() {
    let redis = RedisServer::start().await;
    let site = Site::on(&redis).await;
    let (mut watch, mut text) = (Watch::start(&site).await, Watch::start_with(&site, &[]).await);
    let key = site
        .begin(|session| {
            session.authenticate("support\u{1b}")?;
            session.act_as("grace", Session::MAX_ACTING)
        })
        .await;
    let change = watch.next().await;
    assert_eq!((&change["key"], &change["event"]), (&json!(key), &json!("created")));
    assert_eq!((&change["owner"], &change["actor"]), (&json!("grace"), &json!("support\u{1b}")));
    let line = text.next_line().await;
    assert!(line.ends_with(&format!(r"{key}  owner grace  actor support\u{{1b}}")), "{line}");
}
