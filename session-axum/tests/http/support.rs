use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use axum::{
    Router,
    body::Body,
    http::{HeaderMap, Request, Response, StatusCode, header},
    routing::{get, post},
};
use session_axum::{
    IdGenerator, Key, ManualClock, MemoryStore, Session, SessionError, SessionId, SessionKey,
    SessionLayer, Sessions, StoreError, StoreErrorKind, Timestamp,
};
use session_core::{
    Admission, Admitted, Committed, Created, Ended, Entry, Expected, OwnerIndex, OwnerKey,
    SessionStore, Touched,
};
use tower::{Service, ServiceExt as _};

pub(crate) const COUNT: Key<u64> = Key::new("count");

/// The text of the ID that [`CountingIds`] makes as the n-th, counted from zero.
pub(crate) fn id(n: u8) -> String {
    SessionId::from_random_bits([n; 32]).expose().to_owned()
}

/// A layer on a store and a clock of the test's, and what a client says to it.
#[derive(Clone)]
pub(crate) struct Site {
    pub(crate) store: FaultyStore,
    pub(crate) clock: Arc<ManualClock>,
    router: Router,
}

impl Site {
    /// A site with a few routes: `/plain` asks for no session, the others do what they are called.
    pub(crate) fn new() -> Self {
        Self::with_routes(Router::new())
    }

    /// A site that has these routes too.
    pub(crate) fn with_routes(routes: Router) -> Self {
        let store = FaultyStore::default();
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_000_000_000)));
        let sessions = Sessions::new(store.clone())
            .with_clock(Arc::clone(&clock))
            .with_id_generator(CountingIds::default());
        let router = routes
            .route("/plain", get(async || "plain"))
            .route("/read", get(read))
            .route("/count", post(count))
            .route("/login", post(login))
            .route("/logout", post(logout))
            .layer(SessionLayer::new(sessions));
        Self { store, clock, router }
    }

    /// Sends a request with this cookie.
    pub(crate) async fn send(&self, route: &str, cookie: &str) -> Answer {
        self.send_lines(route, &[cookie.as_bytes()]).await
    }

    /// Sends a request with these lines of cookies, given as the method and the path.
    pub(crate) async fn send_lines(&self, route: &str, cookies: &[&[u8]]) -> Answer {
        let (method, path) = route.split_once(' ').unwrap();
        let mut request = Request::builder().method(method).uri(path);
        for cookie in cookies {
            request = request.header(header::COOKIE, *cookie);
        }
        answer(self.router.clone(), request.body(Body::empty()).unwrap()).await
    }

    /// Begins a session, and returns the cookie that opens it.
    pub(crate) async fn begin(&self) -> String {
        let answer = self.send("POST /count", "").await;
        assert_eq!(answer.status, StatusCode::OK);
        self.store.take_calls();
        answer.cookie()
    }

    pub(crate) fn advance(&self, span: Duration) {
        self.clock.advance(span);
    }
}

async fn read(session: Session) -> String {
    session.get(COUNT).unwrap_or_default().to_string()
}

async fn count(session: Session) -> Result<String, SessionError> {
    Ok(session.update(COUNT, |count| *count += 1)?.to_string())
}

async fn login(session: Session) -> Result<&'static str, SessionError> {
    session.authenticate("ada")?;
    Ok("welcome")
}

async fn logout(session: Session) -> Result<&'static str, SessionError> {
    session.destroy()?;
    Ok("goodbye")
}

/// Sends one request to a service.
pub(crate) async fn answer<S, B>(service: S, request: Request<Body>) -> Answer
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Error: std::fmt::Debug,
    B: Into<Body>,
{
    let response = service.oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = axum::body::to_bytes(body.into(), usize::MAX).await.unwrap();
    Answer {
        status: parts.status,
        headers: parts.headers,
        body: String::from_utf8(body.to_vec()).unwrap(),
    }
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Answer {
    /// Status, headers that say something about the session, and body: all that a test compares.
    pub(crate) fn text(&self) -> String {
        let mut text = format!("{}\n", self.status);
        for (name, value) in &self.headers {
            if name != header::CONTENT_LENGTH && name != header::CONTENT_TYPE {
                text += &format!("{name}: {}\n", value.to_str().unwrap());
            }
        }
        text + &self.body
    }

    pub(crate) fn header(&self, name: header::HeaderName) -> Option<&str> {
        let mut values = self.headers.get_all(name).iter();
        let value = values.next()?.to_str().unwrap();
        assert_eq!(values.next(), None, "the header stands there more than once");
        Some(value)
    }

    pub(crate) fn set_cookie(&self) -> Option<&str> {
        self.header(header::SET_COOKIE)
    }

    /// The cookie that was set, as the client sends it.
    pub(crate) fn cookie(&self) -> String {
        let (pair, _) = self.set_cookie().unwrap().split_once(';').unwrap();
        pair.to_owned()
    }

    pub(crate) fn removes_the_cookie(&self) -> bool {
        self.set_cookie() == Some(REMOVAL)
    }
}

pub(crate) const REMOVAL: &str = "__Host-session=; HttpOnly; SameSite=Lax; Secure; Path=/; \
     Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT";

/// Makes IDs that a test can name.
#[derive(Debug, Default)]
pub(crate) struct CountingIds(AtomicU8);

impl IdGenerator for CountingIds {
    fn generate(&self) -> SessionId {
        SessionId::from_random_bits([self.0.fetch_add(1, Ordering::SeqCst); 32])
    }
}

/// The verbs that fail, and how.
type Fault = Option<(Vec<&'static str>, StoreErrorKind, Lasting)>;

/// How often it fails.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Lasting {
    Once,
    Always,
}

/// A memory store that notes what it is asked, and fails where a test wants it to.
#[derive(Clone, Debug, Default)]
pub(crate) struct FaultyStore {
    inner: MemoryStore,
    calls: Arc<Mutex<Vec<&'static str>>>,
    fault: Arc<Mutex<Fault>>,
}

impl FaultyStore {
    /// Makes these verbs fail from now on.
    pub(crate) fn fail(&self, verbs: &[&'static str], kind: StoreErrorKind) {
        *self.fault.lock().unwrap() = Some((verbs.to_vec(), kind, Lasting::Always));
    }

    /// Makes this verb fail the next time, and only then.
    pub(crate) fn fail_once(&self, verb: &'static str, kind: StoreErrorKind) {
        *self.fault.lock().unwrap() = Some((vec![verb], kind, Lasting::Once));
    }

    pub(crate) fn recover(&self) {
        *self.fault.lock().unwrap() = None;
    }

    /// The verbs that were asked for since the last time.
    pub(crate) fn take_calls(&self) -> Vec<&'static str> {
        std::mem::take(&mut self.calls.lock().unwrap())
    }

    fn note(&self, verb: &'static str) -> Result<(), StoreError> {
        self.calls.lock().unwrap().push(verb);
        let mut fault = self.fault.lock().unwrap();
        match &*fault {
            Some((verbs, kind, lasting)) if verbs.contains(&verb) => {
                let error = StoreError::new(*kind);
                if *lasting == Lasting::Once {
                    *fault = None;
                }
                Err(error)
            }
            _ => Ok(()),
        }
    }
}

#[async_trait]
impl SessionStore for FaultyStore {
    async fn create(
        &self,
        key: &SessionKey,
        entry: Entry,
        now: Timestamp,
    ) -> Result<Created, StoreError> {
        self.note("create")?;
        self.inner.create(key, entry, now).await
    }

    async fn load(&self, key: &SessionKey, now: Timestamp) -> Result<Option<Entry>, StoreError> {
        self.note("load")?;
        // As one that waits for an answer.
        tokio::task::yield_now().await;
        self.inner.load(key, now).await
    }

    async fn commit(
        &self,
        key: &SessionKey,
        expected: Expected,
        entry: Entry,
        now: Timestamp,
    ) -> Result<Committed, StoreError> {
        self.note("commit")?;
        self.inner.commit(key, expected, entry, now).await
    }

    async fn touch(&self, key: &SessionKey, now: Timestamp) -> Result<Touched, StoreError> {
        self.note("touch")?;
        self.inner.touch(key, now).await
    }

    async fn delete(&self, key: &SessionKey, now: Timestamp) -> Result<Option<Entry>, StoreError> {
        self.note("delete")?;
        self.inner.delete(key, now).await
    }
}

#[async_trait]
impl OwnerIndex for FaultyStore {
    async fn enter(
        &self,
        owner: &OwnerKey,
        key: &SessionKey,
        until: Timestamp,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.note("enter")?;
        self.inner.enter(owner, key, until, now).await
    }

    async fn admit(
        &self,
        owner: &OwnerKey,
        key: &SessionKey,
        until: Timestamp,
        admission: &Admission<'_>,
        now: Timestamp,
    ) -> Result<Admitted, StoreError> {
        self.note("admit")?;
        self.inner.admit(owner, key, until, admission, now).await
    }

    async fn create_entered(
        &self,
        owner: &OwnerKey,
        until: Timestamp,
        key: &SessionKey,
        entry: Entry,
        now: Timestamp,
    ) -> Result<Created, StoreError> {
        self.note("create_entered")?;
        self.inner.create_entered(owner, until, key, entry, now).await
    }

    async fn leave(
        &self,
        owner: &OwnerKey,
        keys: &[SessionKey],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.note("leave")?;
        self.inner.leave(owner, keys, now).await
    }

    async fn entries(
        &self,
        owner: &OwnerKey,
        now: Timestamp,
    ) -> Result<Vec<SessionKey>, StoreError> {
        self.note("entries")?;
        self.inner.entries(owner, now).await
    }

    async fn load_many(
        &self,
        keys: &[SessionKey],
        now: Timestamp,
    ) -> Result<Vec<Result<Option<Entry>, StoreError>>, StoreError> {
        self.note("load_many")?;
        self.inner.load_many(keys, now).await
    }

    async fn end_many(
        &self,
        keys: &[SessionKey],
        marker: Entry,
        now: Timestamp,
    ) -> Result<Vec<Ended>, StoreError> {
        self.note("end_many")?;
        self.inner.end_many(keys, marker, now).await
    }
}
