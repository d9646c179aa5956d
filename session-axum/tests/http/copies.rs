//! Sessions of a store whose local copies may be out of date.

use std::{collections::HashMap, sync::Mutex, time::Duration};

use axum::{
    Router,
    body::Body,
    http::{HeaderName, Request, header},
    routing::get,
};
use session_axum::{
    BearerToken, MemoryStore, Session, SessionCookie, SessionError, SessionKey, SessionLayer,
    StoreError, Timestamp, Transport,
};
use session_core::{
    Entry, LocalReads, SessionStore as _, async_trait,
    testing::{Answer as StoreAnswer, Intercept, Intercepted, Operation},
};

use crate::support::{Answer, COUNT, answer};

/// Copies of a server that never hears of a change.
#[derive(Debug, Default)]
struct Copies {
    memory: MemoryStore,
    copies: Mutex<HashMap<SessionKey, Entry>>,
}

impl LocalReads for Copies {
    fn staleness(&self) -> Duration {
        Duration::from_secs(10)
    }

    fn find(&self, key: &SessionKey, now: Timestamp) -> Option<Entry> {
        let mut copies = self.copies.lock().unwrap();
        if !copies.contains_key(key) {
            copies.insert(*key, self.memory.local_reads()?.find(key, now)?);
        }
        copies.get(key).cloned()
    }
}

#[async_trait]
impl Intercept<MemoryStore> for Copies {
    async fn call(
        &self,
        store: &MemoryStore,
        operation: Operation,
        now: Timestamp,
    ) -> Result<StoreAnswer, StoreError> {
        operation.perform(store, now).await
    }

    fn local_reads<'s>(&'s self, _: &'s MemoryStore) -> Option<&'s dyn LocalReads> {
        Some(self)
    }
}

async fn read(session: Session) -> String {
    session.get(COUNT).unwrap_or_default().to_string()
}

async fn count(session: Session) -> Result<(), SessionError> {
    session.update(COUNT, |count| *count += 1)?;
    Ok(())
}

fn app() -> Router {
    let copies = Copies::default();
    let store = Intercepted::new(copies.memory.clone(), copies);
    let both = Transport::CookieOrBearer(SessionCookie::default(), BearerToken::default());
    Router::new()
        .route("/", get(read).post(count))
        .layer(SessionLayer::new(store).with_transport(both))
}

async fn send(app: &Router, method: &str, name: &HeaderName, value: &str) -> Answer {
    let request = Request::builder().method(method).uri("/").header(name, value);
    answer(app.clone(), request.body(Body::empty()).unwrap()).await
}

#[tokio::test]
async fn client_with_a_token_reads_its_own_writes() {
    let (app, name) = (app(), header::AUTHORIZATION);
    let begun = send(&app, "POST", &name, "Bearer").await;
    assert_eq!(begun.set_cookie(), None, "and no cookie marks the write");
    let token = format!("Bearer {}", begun.headers["session-token"].to_str().unwrap());
    for count in 1..4 {
        assert_eq!(send(&app, "GET", &name, &token).await.body, count.to_string());
        send(&app, "POST", &name, &token).await;
    }
}

#[tokio::test]
async fn client_with_a_cookie_reads_its_own_writes_by_the_mark() {
    let (app, name) = (app(), header::COOKIE);
    let begun = send(&app, "POST", &name, "").await;
    let cookie = begun.headers[header::SET_COOKIE].to_str().unwrap();
    let (cookie, _) = cookie.split_once(';').unwrap();
    assert_eq!(send(&app, "GET", &name, cookie).await.body, "1", "the copy is made");
    let written = send(&app, "POST", &name, cookie).await;
    let (mark, _) = written.set_cookie().unwrap().split_once(';').unwrap();
    assert_eq!(send(&app, "GET", &name, cookie).await.body, "1", "the copy is out of date");
    assert_eq!(send(&app, "GET", &name, &format!("{cookie}; {mark}")).await.body, "2");
}
