use std::{
    fmt,
    ops::ControlFlow,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tracing::{Instrument as _, debug_span};

use crate::{
    Backend, Clock, Codec, ConfigError, Copies, Entry, Event, Events, IdGenerator, Lifetime,
    Limits, Nonce, OsRandom, Record, Session, SessionError, SessionId, SessionKey, SessionLimit,
    StoreError, StoreErrorKind, SystemClock, Timestamp, Tombstone, lease::Spawner, values,
};

/// The sessions of an application: a store and the rules by which its sessions live.
///
/// An HTTP framework's integration opens a [`Session`] here for each request that asks for one, and
/// [finishes](Session::finish) it before the response's head leaves.
///
/// # Examples
///
/// ```
/// use std::sync::Arc;
/// use session_core::{Backend, Key, Lifetime, Sessions, SessionError};
///
/// const NAME: Key<String> = Key::new("name");
///
/// async fn handle(store: impl Backend) -> Result<(), SessionError> {
///     let sessions = Arc::new(Sessions::new(store).with_lifetime(Lifetime::aal3()));
///     let session = sessions.open(["what the cookie says".as_bytes()]).await?;
///     session.set(NAME, &"Ada".to_owned())?;
///     let cookie = session.finish().await?;
///     # drop(cookie);
///     Ok(())
/// }
/// ```
// Counting who holds them, with every request and on every processor, must not take what is in here out of the
// processors' caches.
#[repr(align(128))]
pub struct Sessions {
    pub(crate) store: Arc<dyn Backend>,
    pub(crate) ids: Arc<dyn IdGenerator>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) lifetime: Lifetime,
    pub(crate) anonymous_lifetime: Option<Lifetime>,
    pub(crate) limits: Limits,
    pub(crate) renewal_grace: Duration,
    pub(crate) events: Option<Events>,
    pub(crate) lease: Duration,
    pub(crate) spawner: Option<Spawner>,
    pub(crate) session_limit: Option<SessionLimit>,
    nonces: Nonces,
    turns: Box<[async_lock::Mutex<()>]>,
    pub(crate) login_turns: Box<[async_lock::Mutex<()>]>,
    corrupt_records: AtomicU64,
    unreadable_values: AtomicU64,
}

impl Sessions {
    /// The number of cookies of the session's name that one request can have tried. A browser may hold
    /// several, set for different paths or by a sibling domain (RFC 6265bis, 5.8.3).
    pub const MAX_COOKIES: usize = 4;

    /// How long a session's former key is remembered after it moved to another one, for the requests
    /// that loaded the session before and commit after.
    pub const ROTATION_WINDOW: Duration = Duration::from_secs(300);

    /// Makes sessions that live in this store, by the default rules.
    #[must_use]
    pub fn new(store: impl Backend) -> Self {
        Self {
            store: Arc::new(store),
            ids: Arc::new(OsRandom),
            clock: Arc::new(SystemClock),
            lifetime: Lifetime::default(),
            anonymous_lifetime: None,
            limits: Limits::default(),
            renewal_grace: Duration::from_secs(30),
            events: None,
            lease: Duration::from_secs(10),
            spawner: None,
            session_limit: None,
            nonces: Nonces::new(),
            turns: turns(),
            login_turns: turns(),
            corrupt_records: AtomicU64::new(0),
            unreadable_values: AtomicU64::new(0),
        }
    }

    /// Sets how long a session lives that does not say otherwise itself. The default is
    /// [`Lifetime::aal2`].
    #[must_use]
    pub fn with_lifetime(mut self, lifetime: Lifetime) -> Self {
        self.lifetime = lifetime;
        self
    }

    /// Sets how long a session lives that has no owner, if it does not say otherwise itself: shorter
    /// than others, say, so that visitors who never sign in fill no store. By default there is no
    /// difference.
    ///
    /// A login replaces it by [`with_lifetime`](Self::with_lifetime)'s, unless
    /// [`Session::set_lifetime`] had set one. The lifetime after a login begins with it.
    #[must_use]
    pub fn with_anonymous_lifetime(mut self, lifetime: Lifetime) -> Self {
        self.anonymous_lifetime = Some(lifetime);
        self
    }

    /// Sets how large a session may get.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets how long a renewed session's former ID still opens it. The default is 30 seconds; zero
    /// ends it at once, and may lose requests that were sent together with the one that renewed.
    ///
    /// # Errors
    ///
    /// Returns a [`ConfigError`] if the span is longer than [`ROTATION_WINDOW`](Self::ROTATION_WINDOW).
    pub fn with_renewal_grace(mut self, grace: Duration) -> Result<Self, ConfigError> {
        if grace > Self::ROTATION_WINDOW {
            return Err(ConfigError::new(format!(
                "a renewal grace of {grace:?} is longer than {:?}",
                Self::ROTATION_WINDOW
            )));
        }
        self.renewal_grace = grace;
        Ok(self)
    }

    /// Limits how many sessions an owner may have at once. There is no limit by default.
    ///
    /// Each login costs one round trip more, and logins of one owner in one process come one after the
    /// other. So do those of owners who share a queue: there are 256 for all owners.
    #[must_use]
    pub fn with_session_limit(mut self, limit: SessionLimit) -> Self {
        self.session_limit = Some(limit);
        self
    }

    /// Sets what makes the IDs. The default is [`OsRandom`].
    #[must_use]
    pub fn with_id_generator(mut self, ids: impl IdGenerator) -> Self {
        self.ids = Arc::new(ids);
        self
    }

    /// Sets the clock, for tests. The default is [`SystemClock`].
    #[must_use]
    pub fn with_clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Puts what happens to sessions into this queue.
    #[must_use]
    pub fn with_events(mut self, events: &Events) -> Self {
        self.events = Some(events.clone());
        self
    }

    /// How long a session lives that does not say otherwise itself.
    #[must_use]
    pub fn lifetime(&self) -> Lifetime {
        self.lifetime
    }

    /// How long a session lives that has no owner and does not say otherwise itself.
    #[must_use]
    pub fn anonymous_lifetime(&self) -> Lifetime {
        self.anonymous_lifetime.unwrap_or(self.lifetime)
    }

    /// How many sessions an owner may have at once, if that is limited.
    #[must_use]
    pub fn session_limit(&self) -> Option<SessionLimit> {
        self.session_limit
    }

    /// How many loads met a record that could not be read, each answered with a fresh session.
    ///
    /// Worth an alert: some after a deployment that was taken back are expected, steady growth is not.
    #[must_use]
    pub fn corrupt_records(&self) -> u64 {
        self.corrupt_records.load(Ordering::Relaxed)
    }

    /// How many reads met a value that is not of the type asked for, each answered as if there were none.
    #[must_use]
    pub fn unreadable_values(&self) -> u64 {
        self.unreadable_values.load(Ordering::Relaxed)
    }

    /// Opens the session of a request, given what its cookies of the session's name say.
    ///
    /// The first of at most [`MAX_COOKIES`](Self::MAX_COOKIES) that opens a live session is used. If
    /// none does, the session is empty, and gets an ID of its own once something is written to it:
    /// never the one that the client sent (I3). What is no ID costs no I/O.
    ///
    /// # Errors
    ///
    /// Returns [`SessionError::Store`] if the store failed, which is never taken for "no session" (I7).
    /// Only an unreadable record is: it is counted, and the session is a fresh one (I11).
    pub async fn open<'c>(
        self: &Arc<Self>,
        cookies: impl IntoIterator<Item = &'c [u8]>,
    ) -> Result<Session, SessionError> {
        let mut cookies = cookies.into_iter();
        let mut tried = Tried::default();
        for text in cookies.by_ref().take(Self::MAX_COOKIES) {
            let found = match SessionId::parse(text) {
                Some(id) => {
                    let span = debug_span!(target: "session", "session open");
                    self.find(id).instrument(span).await?
                }
                None => Found::Nothing,
            };
            if let Some((home, by_former_id)) = tried.note(found) {
                return Ok(Session::at_home(self, home, by_former_id));
            }
        }
        Ok(tried.into_fresh(self, cookies.next().is_some()))
    }

    /// Does what [`open`](Self::open) does if that needs no I/O: for a request without a cookie, and for one of whose
    /// session the store has a [copy](Copies) that is new enough.
    ///
    /// A client that is [marked](Session::marker) could read something older than it wrote. So it is asked whether
    /// this one is, if the copies may be behind, and none of them is used if so.
    ///
    /// None says nothing: [`open`](Self::open) it.
    #[must_use]
    pub fn open_without_io<'c>(
        self: &Arc<Self>,
        cookies: impl IntoIterator<Item = &'c [u8]>,
        is_marked: impl FnOnce() -> bool,
    ) -> Option<Session> {
        let is_good = |copies: &&dyn Copies| copies.staleness().is_zero() || !is_marked();
        let copies = (*self.store).copies().filter(is_good);
        let mut cookies = cookies.into_iter();
        let mut tried = Tried::default();
        for text in cookies.by_ref().take(Self::MAX_COOKIES) {
            let copies = copies?;
            let found = match SessionId::parse(text) {
                Some(id) => self.find_copy(copies, id)?,
                None => Found::Nothing,
            };
            if let Some((home, by_former_id)) = tried.note(found) {
                return Some(Session::at_home(self, home, by_former_id));
            }
        }
        Some(tried.into_fresh(self, cookies.next().is_some()))
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(crate) fn next_nonce(&self) -> Nonce {
        self.nonces.next()
    }

    /// Waits for this process's turn on a session that several requests change at once.
    ///
    /// Requests try without it first; only one that lost queues here, so that of many losers one at a
    /// time tries again instead of all.
    pub(crate) async fn turn(&self, key: &SessionKey) -> async_lock::MutexGuard<'_, ()> {
        self.turns[usize::from(key.as_bytes()[0])].lock().await
    }

    /// Loads what is under a key; an unreadable record counts as nothing.
    pub(crate) async fn load(&self, key: &SessionKey) -> Result<Option<Entry>, StoreError> {
        self.load_readable(key).await.map(Result::ok)
    }

    /// Loads what is under a key, or tells why there is nothing to be had.
    pub(crate) async fn load_readable(
        &self,
        key: &SessionKey,
    ) -> Result<Result<Entry, NothingThere>, StoreError> {
        let now = self.now();
        match (*self.store).load(key, now).await {
            // Deadlines are checked here whatever the store did about them (I5).
            Ok(Some(entry)) if entry.is_live(now) => Ok(Ok(entry)),
            Ok(Some(Entry::Live(_))) => {
                self.tell(Event::Expired { key: *key });
                Ok(Err(NothingThere::Missing))
            }
            Ok(_) => Ok(Err(NothingThere::Missing)),
            Err(error) if error.kind() == StoreErrorKind::Corrupt => {
                self.report_corrupt(key, &error);
                Ok(Err(NothingThere::Unreadable))
            }
            Err(error) => Err(error),
        }
    }

    /// A copy that has expired says nothing: another process may have touched the session since (I5).
    fn copy(&self, copies: &dyn Copies, key: &SessionKey) -> Option<Entry> {
        let now = self.now();
        copies.find(key, now).filter(|entry| entry.is_live(now))
    }

    pub(crate) fn report_corrupt(&self, key: &SessionKey, error: &StoreError) {
        self.corrupt_records.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(
            target: "session",
            %key,
            error = error.source_text(),
            "unreadable session record, treated as no session"
        );
        self.tell(Event::Corrupt { key: *key });
    }

    /// Decodes a value; one that cannot be decoded counts as missing.
    pub(crate) fn decode_or_report<T, C: Codec<T>>(&self, name: &str, value: &[u8]) -> Option<T> {
        values::decode::<T, C>(name, value)
            .inspect_err(|error| {
                self.unreadable_values.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(target: "session", %error, "unreadable value, treated as missing");
            })
            .ok()
    }

    async fn find(&self, mut id: SessionId) -> Result<Found, StoreError> {
        for moves in 0..MAX_MOVES {
            let key = id.key();
            let entry = self.load_readable(&key).await?;
            match self.next_of(entry, key, id, moves > 0) {
                ControlFlow::Continue(successor) => id = successor,
                ControlFlow::Break(found) => return Ok(found),
            }
        }
        Ok(Found::Nothing)
    }

    /// The same from copies, if there is one of each entry on the way.
    fn find_copy(&self, copies: &dyn Copies, mut id: SessionId) -> Option<Found> {
        for moves in 0..MAX_MOVES {
            let key = id.key();
            let entry = self.copy(copies, &key)?;
            match self.next_of(Ok(entry), key, id, moves > 0) {
                ControlFlow::Continue(successor) => id = successor,
                ControlFlow::Break(found) => return Some(found),
            }
        }
        Some(Found::Nothing)
    }

    /// The ID under which to look next, given what is under this one; or what that comes to.
    fn next_of(
        &self,
        entry: Result<Entry, NothingThere>,
        key: SessionKey,
        id: SessionId,
        by_former_id: bool,
    ) -> ControlFlow<Found, SessionId> {
        let found = match entry {
            Ok(Entry::Live(record)) => {
                Found::Session { home: Home { key, id: Some(id), record }, by_former_id }
            }
            Ok(Entry::Moved(tombstone)) => match self.follow_open(&tombstone, &id) {
                Ok(successor) => return ControlFlow::Continue(successor),
                Err(stays) => stays,
            },
            Err(NothingThere::Unreadable) => Found::Unreadable(key),
            Err(NothingThere::Missing) => Found::Missing(key),
        };
        ControlFlow::Break(found)
    }

    /// The ID that a tombstone leads to, if the former ID still opens the session.
    fn follow_open(&self, tombstone: &Tombstone, former: &SessionId) -> Result<SessionId, Found> {
        let now = self.now();
        let Some(successor) = tombstone.successor else { return Err(Found::Nothing) };
        match &tombstone.grace {
            Some(grace) if now < grace.until => {
                grace.sealed_id.unseal(former, successor).ok_or(Found::Nothing)
            }
            // The browser is just being told another ID: a request that it sent before must not take
            // that away again.
            _ if now + Self::ROTATION_WINDOW < tombstone.expires_at + SUPERSEDED => {
                Err(Found::Superseded)
            }
            _ => Err(Found::Nothing),
        }
    }
}

impl<S: Backend> From<S> for Sessions {
    /// Sessions by the default rules.
    fn from(store: S) -> Self {
        Self::new(store)
    }
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions")
            .field("store", &self.store)
            .field("ids", &self.ids)
            .field("clock", &self.clock)
            .field("lifetime", &self.lifetime)
            .field("anonymous_lifetime", &self.anonymous_lifetime)
            .field("limits", &self.limits)
            .field("renewal_grace", &self.renewal_grace)
            .field("lease", &self.lease)
            .field("session_limit", &self.session_limit)
            .finish_non_exhaustive()
    }
}

/// Where a session is stored, and how it was there when last seen.
#[derive(Clone, Debug)]
pub(crate) struct Home {
    pub(crate) key: SessionKey,
    /// Unknown where a login by another request moved the session.
    pub(crate) id: Option<SessionId>,
    pub(crate) record: Arc<Record>,
}

/// What the cookies of a request without a live session were.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Presented {
    /// There were none.
    #[default]
    Nothing,
    /// None that opens anything.
    Dead,
    /// More than are tried, and those that were open nothing.
    Untried,
    /// One whose session got another ID a moment ago.
    Superseded,
}

/// What the cookies of a request came to so far.
#[derive(Default)]
struct Tried {
    presented: Presented,
    unreadable: Vec<SessionKey>,
    missing: Vec<SessionKey>,
}

impl Tried {
    /// Notes what one opens, and gives it back if that is a session.
    fn note(&mut self, found: Found) -> Option<(Home, bool)> {
        match found {
            Found::Session { home, by_former_id } => return Some((home, by_former_id)),
            Found::Superseded => self.presented = Presented::Superseded,
            Found::Unreadable(key) => self.unreadable.push(key),
            Found::Missing(key) => self.missing.push(key),
            Found::Nothing => {}
        }
        if self.presented == Presented::Nothing {
            self.presented = Presented::Dead;
        }
        None
    }

    /// The session of a request whose cookies open nothing, and that has more of them or not.
    fn into_fresh(self, sessions: &Arc<Sessions>, has_more: bool) -> Session {
        let Self { mut presented, unreadable, missing } = self;
        // One that was not tried may be alive, and removing the cookie could remove that one.
        if presented == Presented::Dead && has_more {
            presented = Presented::Untried;
        }
        Session::fresh(sessions, presented, unreadable, missing)
    }
}

enum Found {
    Session { home: Home, by_former_id: bool },
    Superseded,
    Unreadable(SessionKey),
    Missing(SessionKey),
    Nothing,
}

/// Why a key has nothing that can be used.
pub(crate) enum NothingThere {
    Missing,
    Unreadable,
}

/// Makes marks for commits: a random start, counted up and mixed so that two processes meet only by
/// chance. Has its cache lines to itself, as it is written with every commit.
#[repr(align(128))]
struct Nonces {
    start: u64,
    count: AtomicU64,
}

impl Nonces {
    fn new() -> Self {
        let start = getrandom::u64().expect("the operating system gives random bytes");
        Self { start, count: AtomicU64::new(0) }
    }

    /// One step of SplitMix64: no two of 2^64 marks of one process are the same.
    fn next(&self) -> Nonce {
        let step = self.count.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut mark = self.start.wrapping_add(step);
        mark = (mark ^ (mark >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mark = (mark ^ (mark >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Nonce(mark ^ (mark >> 31))
    }
}

fn turns() -> Box<[async_lock::Mutex<()>]> {
    (0..TURNS).map(|_| async_lock::Mutex::new(())).collect()
}

/// How many queues the contended sessions share: one for each first byte of a key.
const TURNS: usize = 256;

/// How many moves of a session one request follows.
pub(crate) const MAX_MOVES: usize = 8;

/// How long after a login the former ID neither removes nor replaces the browser's cookie.
const SUPERSEDED: Duration = Duration::from_secs(30);
