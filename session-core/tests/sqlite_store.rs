//! The store on SQLite passes the conformance suite, and processes share its file.

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

use session_core::{CookieChange, Key, SessionError, Sessions, conformance};
use store::SqliteStore;
use tempfile::TempDir;
use tokio::{runtime::Runtime, task::JoinSet};

conformance::suite!(SqliteStore::open(temporary_file()).unwrap());

/// Each process makes its increments concurrently.
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

/// The work of one process, which begins when the other process is there.
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
            // On a slow disk 400 commits take longer than one request is patient.
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
