//! Connections that outlive their request: the store reports each end of a session.
#![expect(clippy::unwrap_used, reason = "the helpers of tests are tests")]

use std::{sync::Arc, time::Duration};

use session_core::{
    Clock as _, CookieChange, EndReason, Key, Live, ManualClock, Session, SessionId, Sessions,
    SystemClock,
};
use session_memory::MemoryStore;
use tokio::{task::yield_now, time::timeout};

const NOTE: Key<String> = Key::new("note");

/// An application whose clock stands still, so that no connection loads its session by time alone.
struct App {
    clock: Arc<ManualClock>,
    sessions: Sessions,
}

impl App {
    fn new() -> Self {
        let store = MemoryStore::with_capacity(MemoryStore::MIN_CAPACITY).unwrap();
        let clock = Arc::new(ManualClock::new(SystemClock.now()));
        let sessions = Sessions::builder(store).with_clock(Arc::clone(&clock));
        Self { clock, sessions: sessions.build().unwrap() }
    }

    async fn sign_in(&self) -> (SessionId, Session) {
        let session = self.sessions.open([]).await.unwrap();
        session.authenticate("ada").unwrap();
        let CookieChange::Set { id, .. } = session.finish().await.unwrap() else { panic!() };
        (id.clone(), self.sessions.open([id.expose().as_bytes()]).await.unwrap())
    }

    /// Returns a connection whose wait has begun, and is allowed to load again immediately.
    async fn waiting(&self, session: &Session) -> Live {
        let mut live = session.live().await.unwrap();
        assert!(timeout(Duration::ZERO, live.ended()).await.is_err());
        self.clock.advance(Duration::from_millis(100));
        live
    }
}

async fn end(live: &mut Live) -> EndReason {
    timeout(Duration::from_secs(10), live.ended()).await.expect("the store reports the end")
}

#[tokio::test]
async fn connection_ends_at_a_logout_without_polling() {
    let app = App::new();
    let (id, session) = app.sign_in().await;
    let mut live = app.waiting(&session).await;
    let elsewhere = app.sessions.open([id.expose().as_bytes()]).await.unwrap();
    elsewhere.destroy().unwrap();
    let _ = elsewhere.finish().await.unwrap();
    assert_eq!(end(&mut live).await, EndReason::Deleted);
}

#[tokio::test]
async fn connection_ends_at_a_revocation_while_a_task_waits() {
    let app = App::new();
    let (_, session) = app.sign_in().await;
    let mut live = app.waiting(&session).await;
    let waiting = tokio::spawn(async move { live.ended().await });
    yield_now().await;
    assert_eq!(app.sessions.revoke_all("ada").await.unwrap(), 1);
    let reason = timeout(Duration::from_secs(10), waiting).await.expect("the task is woken");
    assert_eq!(reason.unwrap(), EndReason::Deleted);
}

#[tokio::test]
async fn connection_ends_at_the_login_of_another_user() {
    let app = App::new();
    let (_, session) = app.sign_in().await;
    let mut live = app.waiting(&session).await;
    session.authenticate("bob").unwrap();
    let _ = session.finish().await.unwrap();
    assert_eq!(end(&mut live).await, EndReason::Replaced);
}

#[tokio::test]
async fn connection_ends_at_an_eviction() {
    let app = App::new();
    let (_, session) = app.sign_in().await;
    let mut live = app.waiting(&session).await;
    for _ in 0..50 {
        let visitor = app.sessions.open([]).await.unwrap();
        visitor.set(NOTE, "x".repeat(60_000)).unwrap();
        let _ = visitor.finish().await.unwrap();
    }
    assert_eq!(end(&mut live).await, EndReason::Deleted);
}
