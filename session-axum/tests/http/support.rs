use std::{
    future::pending,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    http::{HeaderMap, Request, Response, StatusCode, header},
    routing::{get, post},
};
use session_axum::{
    IdGenerator, Key, ManualClock, MemoryStore, Session, SessionError, SessionId, SessionLayer,
    Sessions, StoreError, StoreErrorKind, Timestamp,
};
use session_core::{
    LocalReads, async_trait,
    testing::{Answer as StoreAnswer, Intercept, Intercepted, Operation, Verb},
};
use tower::{Service, ServiceExt as _};

pub(crate) const COUNT: Key<u64> = Key::new("count");

/// The text of the ID that [`CountingIds`] makes as the n-th, counted from zero.
pub(crate) fn id(n: u8) -> String {
    SessionId::from_random_bits([n; 32]).expose().to_owned()
}

/// A server with a store and a clock under the test's control.
#[derive(Clone)]
pub(crate) struct Site {
    pub(crate) store: StoreControl,
    pub(crate) clock: Arc<ManualClock>,
    ids: CountingIds,
    router: Router,
}

impl Site {
    /// Creates a site with a few routes: `/plain` asks for no session, the others do what their
    /// names say.
    pub(crate) fn new() -> Self {
        Self::with_routes(Router::new())
    }

    /// Creates a site that has these routes too.
    pub(crate) fn with_routes(routes: Router) -> Self {
        Self::with_layer(routes, |layer| layer)
    }

    /// Creates a site that has these routes too, and a layer with these settings.
    pub(crate) fn with_layer(
        routes: Router,
        configure: impl FnOnce(SessionLayer) -> SessionLayer,
    ) -> Self {
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_000_000_000)));
        Self::start(StoreControl::default(), clock, CountingIds::default(), routes, configure)
    }

    /// Creates another server of the same site: it shares the store, and nothing in memory.
    pub(crate) fn another_server(&self, routes: Router) -> Self {
        Self::start(
            self.store.clone(),
            Arc::clone(&self.clock),
            self.ids.clone(),
            routes,
            |layer| layer,
        )
    }

    fn start(
        store: StoreControl,
        clock: Arc<ManualClock>,
        ids: CountingIds,
        routes: Router,
        configure: impl FnOnce(SessionLayer) -> SessionLayer,
    ) -> Self {
        let sessions = Sessions::builder(store.store())
            .with_clock(Arc::clone(&clock))
            .with_id_generator(ids.clone())
            .build()
            .unwrap();
        let router = routes
            .route("/plain", get(async || "plain"))
            .route("/read", get(read))
            .route("/owner", get(owner))
            .route("/count", post(count))
            .route("/login", post(login))
            .route("/logout", post(logout))
            .layer(configure(SessionLayer::new(sessions)));
        Self { store, clock, ids, router }
    }

    /// Sends a request with this cookie.
    pub(crate) async fn send(&self, route: &str, cookie: &str) -> Answer {
        self.send_lines(route, &[cookie.as_bytes()]).await
    }

    /// Sends a request with these lines of cookies, given as the method and the path.
    pub(crate) async fn send_lines(&self, route: &str, cookies: &[&[u8]]) -> Answer {
        self.send_headers(route, cookies.iter().map(|cookie| (header::COOKIE, *cookie))).await
    }

    /// Sends a request of a client that accepts these media types.
    pub(crate) async fn send_accepting(&self, route: &str, cookie: &str, accept: &str) -> Answer {
        let headers = [(header::COOKIE, cookie.as_bytes()), (header::ACCEPT, accept.as_bytes())];
        self.send_headers(route, headers).await
    }

    /// Sends a request with these headers.
    pub(crate) async fn send_headers<'h>(
        &self,
        route: &str,
        headers: impl IntoIterator<Item = (header::HeaderName, &'h [u8])>,
    ) -> Answer {
        let (method, path) = route.split_once(' ').unwrap();
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(name, value);
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

    /// Advances the clock second by second, so that sleepers of other tasks run in between.
    pub(crate) async fn pass(&self, seconds: u64) {
        for _ in 0..seconds {
            self.advance(Duration::from_secs(1));
            settle().await;
        }
    }
}

async fn read(session: Session) -> String {
    session.get(COUNT).unwrap_or_default().to_string()
}

async fn owner(session: Session) -> String {
    session.owner_as().unwrap_or_default()
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
    /// Status, headers of the session, and body.
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
        assert_eq!(values.next(), None, "the header is repeated");
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

/// Lets every other future of the test go on until it waits.
pub(crate) async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

/// A browser's cookie jar. Applies `Set-Cookie` headers in the order in which responses arrive.
#[derive(Default)]
pub(crate) struct Jar(Option<String>);

impl Jar {
    pub(crate) fn apply(&mut self, answer: &Answer) {
        if answer.removes_the_cookie() {
            self.0 = None;
        } else if answer.set_cookie().is_some() {
            self.0 = Some(answer.cookie());
        }
    }

    /// The cookie as the browser sends it.
    pub(crate) fn cookie(&self) -> String {
        self.0.clone().unwrap_or_default()
    }
}

/// Makes IDs that a test can name.
#[derive(Clone, Debug, Default)]
pub(crate) struct CountingIds(Arc<AtomicU8>);

impl IdGenerator for CountingIds {
    fn generate(&self) -> SessionId {
        SessionId::from_random_bits([self.0.fetch_add(1, Ordering::SeqCst); 32])
    }
}

/// The test's side of a store: records the calls, and lets calls fail.
#[derive(Clone, Debug, Default)]
pub(crate) struct StoreControl {
    memory: MemoryStore,
    state: Arc<Mutex<StoreState>>,
}

#[derive(Debug, Default)]
struct StoreState {
    calls: Vec<Verb>,
    fault: Option<Fault>,
}

#[derive(Clone, Debug)]
struct Fault {
    /// All verbs if there are none.
    verbs: Vec<Verb>,
    effect: Effect,
    is_lasting: bool,
}

#[derive(Clone, Copy, Debug)]
enum Effect {
    Error(StoreErrorKind),
    NoAnswer,
}

impl StoreControl {
    /// The store, as a server sees it.
    pub(crate) fn store(&self) -> Intercepted<MemoryStore, Self> {
        Intercepted::new(self.memory.clone(), self.clone())
    }

    /// Lets these verbs fail from now on.
    pub(crate) fn fail(&self, verbs: &[Verb], kind: StoreErrorKind) {
        self.set(verbs, Effect::Error(kind), true);
    }

    /// Lets all verbs fail from now on.
    pub(crate) fn fail_all(&self, kind: StoreErrorKind) {
        self.set(&[], Effect::Error(kind), true);
    }

    /// Lets the next call of this verb fail.
    pub(crate) fn fail_once(&self, verb: Verb, kind: StoreErrorKind) {
        self.set(&[verb], Effect::Error(kind), false);
    }

    /// Lets this verb wait for ever from now on.
    pub(crate) fn hang(&self, verb: Verb) {
        self.set(&[verb], Effect::NoAnswer, true);
    }

    pub(crate) fn recover(&self) {
        self.state.lock().unwrap().fault = None;
    }

    /// Returns the calls since the last call of this function.
    pub(crate) fn take_calls(&self) -> Vec<Verb> {
        std::mem::take(&mut self.state.lock().unwrap().calls)
    }

    fn set(&self, verbs: &[Verb], effect: Effect, is_lasting: bool) {
        let fault = Fault { verbs: verbs.to_vec(), effect, is_lasting };
        self.state.lock().unwrap().fault = Some(fault);
    }

    fn effect(&self, verb: Verb) -> Option<Effect> {
        let mut state = self.state.lock().unwrap();
        state.calls.push(verb);
        let fault = state.fault.clone()?;
        if !fault.verbs.is_empty() && !fault.verbs.contains(&verb) {
            return None;
        }
        if !fault.is_lasting {
            state.fault = None;
        }
        Some(fault.effect)
    }
}

#[async_trait]
impl Intercept<MemoryStore> for StoreControl {
    async fn call(
        &self,
        store: &MemoryStore,
        operation: Operation,
        now: Timestamp,
    ) -> Result<StoreAnswer, StoreError> {
        match self.effect(operation.verb()) {
            Some(Effect::Error(kind)) => return Err(StoreError::new(kind)),
            Some(Effect::NoAnswer) => pending().await,
            None => {}
        }
        // As for an answer from the network.
        tokio::task::yield_now().await;
        operation.perform(store, now).await
    }

    fn local_reads<'s>(&'s self, _: &'s MemoryStore) -> Option<&'s dyn LocalReads> {
        None
    }
}
