//! The store on SQLite passes the conformance suite, and processes share its file.

#![allow(clippy::unwrap_used, reason = "tests and their helpers may unwrap")]

#[path = "../examples/sqlite_store/store.rs"]
mod store;

use std::{
    cell::RefCell,
    env,
    error::Error,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use session_core::{
    CookieChange, Key, ManualClock, SessionError, SessionId, Sessions, Timestamp, conformance,
};
use store::SqliteStore;
use tempfile::TempDir;
use tokio::{runtime::Runtime, task::JoinSet};

conformance::suite!(SqliteStore::open(temporary_file()).unwrap());

/// The processes make their increments concurrently.
#[test]
fn two_processes_lose_no_increment() {
    if let (Ok(file), Ok(id)) = (env::var(FILE), env::var(ID)) {
        Runtime::new().unwrap().block_on(increment(file.into(), id)).unwrap();
        return;
    }
    let file = temporary_file();
    let runtime = Runtime::new().unwrap();
    let sessions = Sessions::new(SqliteStore::open(&file).unwrap());
    let id = runtime.block_on(async {
        let session = sessions.open([]).await.unwrap();
        session.set(COUNT, 0).unwrap();
        match session.finish().await.unwrap() {
            CookieChange::Set { id, .. } => id,
            other => panic!("a new session has a cookie, came {other:?}"),
        }
    });
    let start = || {
        let test = env::current_exe().unwrap();
        Command::new(test)
            .args(["--exact", "two_processes_lose_no_increment"])
            .env(FILE, &file)
            .env(ID, id.expose())
            .spawn()
            .unwrap()
    };
    let processes: Vec<_> = (0..PROCESSES).map(|_| start()).collect();
    for mut process in processes {
        assert!(process.wait().unwrap().success());
    }
    let session = runtime.block_on(sessions.open([id.expose().as_bytes()])).unwrap();
    assert_eq!(session.get(COUNT), Some(PROCESSES * INCREMENTS));
}

/// Does the work of one process, after the other process has started.
async fn increment(file: PathBuf, id: String) -> Result<(), Box<dyn Error>> {
    let sessions = Sessions::new(SqliteStore::open(file)?);
    let session = sessions.open([id.as_bytes()]).await?;
    session.update(READY, |ready| *ready += 1)?;
    session.commit().await?;
    let deadline = Instant::now() + Duration::from_secs(60);
    while sessions.open([id.as_bytes()]).await?.get(READY) != Some(PROCESSES) {
        assert!(Instant::now() < deadline, "the other process does not start");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let mut requests = JoinSet::new();
    for _ in 0..INCREMENTS {
        let (sessions, id) = (sessions.clone(), id.clone());
        requests.spawn(async move {
            // On a slow disk, 400 commits take longer than the time limit of one commit.
            while let Err(error) = visit(&sessions, &id).await {
                assert!(matches!(error, SessionError::Contended), "{error}");
                assert!(Instant::now() < deadline, "the disk is too slow");
            }
        });
    }
    requests.join_all().await;
    Ok(())
}

async fn visit(sessions: &Sessions, id: &str) -> Result<(), SessionError> {
    let session = sessions.open([id.as_bytes()]).await?;
    session.update(COUNT, |count| *count += 1)?;
    session.commit().await
}

// Versions: the bytes of the next version, in a store of bytes.

/// A session of a format unknown to this version.
const NEXT_FORMAT: &str = include_str!("golden/v2-session.hex");

/// The instant of the golden files.
const WRITTEN: Timestamp = Timestamp::from_millis(1_700_000_000_000);

/// Creates a session of "user 1" in a file, and replaces its record by the given bytes.
async fn overwritten(hex: &str) -> (Sessions, PathBuf, SessionId) {
    let file = temporary_file();
    let clock = ManualClock::new(WRITTEN);
    let sessions =
        Sessions::builder(SqliteStore::open(&file).unwrap()).with_clock(clock).build().unwrap();
    let session = sessions.open([]).await.unwrap();
    session.authenticate("user 1").unwrap();
    let id = match session.finish().await.unwrap() {
        CookieChange::Set { id, .. } => id,
        other => panic!("a login sets a cookie, came {other:?}"),
    };
    let digits: Vec<_> = hex.chars().filter_map(|digit| digit.to_digit(16)).collect();
    let bytes: Vec<_> =
        digits.chunks(2).map(|pair| u8::try_from(pair[0] * 16 + pair[1]).unwrap()).collect();
    let database = rusqlite::Connection::open(&file).unwrap();
    let key = id.key();
    let changed = database
        .execute("UPDATE sessions SET entry = ?1 WHERE key = ?2", (bytes, key.as_bytes()))
        .unwrap();
    assert_eq!(changed, 1);
    (sessions, file, id)
}

fn stored(file: &PathBuf, id: &SessionId) -> Option<Vec<u8>> {
    let database = rusqlite::Connection::open(file).unwrap();
    let key = id.key();
    let mut query = database.prepare("SELECT entry FROM sessions WHERE key = ?1").unwrap();
    query.query_row([key.as_bytes()], |row| row.get(0)).ok()
}

/// I11: a server of the next version can still open the session.
#[tokio::test]
async fn session_of_the_next_format_keeps_its_record_and_cookie() {
    let (sessions, file, id) = overwritten(NEXT_FORMAT).await;
    let before = stored(&file, &id);
    let session = sessions.open([id.expose().as_bytes()]).await.unwrap();
    assert_eq!((session.key(), session.owner()), (None, None));
    assert!(session.had_unknown_id());
    assert!(matches!(session.finish().await.unwrap(), CookieChange::Keep));
    assert_eq!(sessions.corrupt_records(), 1);
    assert_eq!(stored(&file, &id), before);
}

/// The index shows the owner of the unreadable session.
#[tokio::test]
async fn revoke_deletes_a_session_of_the_next_format() {
    let (sessions, file, id) = overwritten(NEXT_FORMAT).await;
    let before = stored(&file, &id);
    assert_eq!(sessions.revoke_all("user 2").await.unwrap(), 0);
    assert_eq!(stored(&file, &id), before);
    assert_eq!(sessions.revoke_all("user 1").await.unwrap(), 1);
    assert_ne!(stored(&file, &id), before);
    assert!(!sessions.open([id.expose().as_bytes()]).await.unwrap().contains(COUNT));

    let (sessions, file, id) = overwritten(NEXT_FORMAT).await;
    let before = stored(&file, &id);
    assert!(sessions.revoke("user 1", id.key()).await.unwrap());
    assert_ne!(stored(&file, &id), before);
}

/// A login or logout under the session's cookie deletes the session.
#[tokio::test]
async fn login_and_logout_delete_a_session_of_the_next_format() {
    for signs_in in [true, false] {
        let (sessions, file, id) = overwritten(NEXT_FORMAT).await;
        let before = stored(&file, &id);
        let session = sessions.open([id.expose().as_bytes()]).await.unwrap();
        if signs_in {
            session.authenticate("user 2").unwrap();
        } else {
            session.destroy().unwrap();
        }
        let _ = session.finish().await.unwrap();
        assert_ne!(stored(&file, &id), before, "signs in: {signs_in}");
    }
}

/// I11: fields of a later version in a record of this format outlive a commit.
#[tokio::test]
async fn commit_keeps_the_fields_of_a_later_version() {
    const LATER_VERSION: &str = include_str!("golden/v1-session-of-later-version.hex");
    const THEME: Key<String> = Key::new("theme");
    let (sessions, file, id) = overwritten(LATER_VERSION).await;
    let before = stored(&file, &id).unwrap();
    let session = sessions.open([id.expose().as_bytes()]).await.unwrap();
    assert_eq!(
        (session.get(THEME).as_deref(), session.owner()),
        (Some("dark"), Some("user 1".into()))
    );
    session.set(COUNT, 7).unwrap();
    let _ = session.finish().await.unwrap();
    let after = stored(&file, &id).unwrap();
    // The golden file ends with the two fields, from the letter "d" on.
    let fields = &before[before.len() - 25..];
    assert_ne!(after, before);
    assert!(after.windows(fields.len()).any(|part| part == fields), "{after:x?}");
    // A move to a fresh ID keeps the fields as well.
    let session = sessions.open([id.expose().as_bytes()]).await.unwrap();
    session.rotate().unwrap();
    let CookieChange::Set { id, .. } = session.finish().await.unwrap() else { panic!("no new ID") };
    let moved = stored(&file, &id).unwrap();
    assert!(moved.windows(fields.len()).any(|part| part == fields), "{moved:x?}");
}

/// Returns the path of a file that exists until the thread of the test ends.
fn temporary_file() -> PathBuf {
    thread_local!(static DIRECTORIES: RefCell<Vec<TempDir>> = const { RefCell::new(Vec::new()) });
    let directory = tempfile::tempdir().expect("the system has room for files");
    let file = directory.path().join("sessions.db");
    DIRECTORIES.with_borrow_mut(|directories| directories.push(directory));
    file
}

const COUNT: Key<u64> = Key::new("count");
const READY: Key<u64> = Key::new("ready");
const PROCESSES: u64 = 2;
const INCREMENTS: u64 = 200;
const FILE: &str = "SQLITE_STORE_TEST_FILE";
const ID: &str = "SQLITE_STORE_TEST_ID";
