//! Whose turn it is on a session.
//!
//! The lease is a field of the session's record, so that taking it and giving it back are commits like
//! any other: who takes it raises the revision, and the commit of a former holder conflicts. No store
//! knows of it.

use std::{fmt, pin::Pin, sync::Arc, time::Duration};

use crate::{
    Committed, ConfigError, Entry, Nonce, Record, SessionError, Sessions, Timestamp,
    clock::millis_rounded_up,
    merge::MAX_CONFLICTS,
    sessions::Home,
    work::{Claim, Stamp},
};

/// The right to change a session that one request has, and until when.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Lease {
    pub(crate) token: Nonce,
    pub(crate) until: Timestamp,
    /// How long it was given for.
    pub(crate) span: Duration,
}

impl Lease {
    pub(crate) fn new(token: Nonce, now: Timestamp, span: Duration) -> Self {
        Self { token, until: now + span, span }
    }

    pub(crate) fn is_live(&self, now: Timestamp) -> bool {
        now < self.until
    }

    /// The lease as it has to be if it ends later than a lease can: the clock that gave it was ahead, or
    /// has been set back since. It ends within its length from now, and for all who look.
    ///
    /// Clocks may differ by as much as the lease is long before that matters.
    fn shortened(self, now: Timestamp) -> Option<Self> {
        let span = self.span.min(Sessions::MAX_LEASE);
        (self.until > now + span + span).then(|| Self { until: now + span, ..self })
    }
}

/// What a request has of the lock that it asked for.
pub(crate) struct Hold {
    pub(crate) token: Nonce,
    pub(crate) standing: Standing,
    /// The lease stands in the record. It does not where the session is not stored, or was ended.
    pub(crate) leased: bool,
    /// A commit was refused because the lease had ended.
    pub(crate) lost: bool,
}

impl Hold {
    pub(crate) fn claim(&self, closing: bool) -> Option<Claim> {
        let releases = closing || self.standing == Standing::Dropped;
        self.leased.then_some(Claim { token: self.token, releases })
    }
}

/// How far a request is with its lock.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Standing {
    /// It waits for its turn.
    Wanted,
    Held,
    /// It needs the lock no more: the next commit releases it.
    Dropped,
}

/// What became of an attempt to take the lease.
pub(crate) enum Attempt {
    /// Here is the session with it.
    Taken(Home),
    /// Another request has it.
    HeldUntil(Timestamp),
}

impl Sessions {
    /// The longest [lease](Self::with_lease): 10 minutes.
    pub const MAX_LEASE: Duration = Duration::from_secs(600);

    /// Sets how long a request holds a session's [lock](crate::Session::lock) that does not release it, because
    /// it is slow or its process was killed. The default is 10 seconds. Rounded up to whole
    /// milliseconds.
    ///
    /// Longer than all that is done under a lock, with its own time limits: whoever works beyond that
    /// has worked in vain. As short as it may be: others wait so long for one who was killed.
    ///
    /// # Errors
    ///
    /// Returns a [`ConfigError`] if the span is zero or longer than [`MAX_LEASE`](Self::MAX_LEASE).
    pub fn with_lease(mut self, lease: Duration) -> Result<Self, ConfigError> {
        if lease.is_zero() || lease > Self::MAX_LEASE {
            return Err(ConfigError::new(format!(
                "a lease of {lease:?} is not between 1 ms and {:?}",
                Self::MAX_LEASE
            )));
        }
        self.lease = Duration::from_millis(millis_rounded_up(lease));
        Ok(self)
    }

    /// Sets what runs a task that a request leaves behind: the release of a [lock](crate::Session::lock) that
    /// was dropped. Without it such a lock is released by the end of its request, and that of a request
    /// which was cancelled ends by itself.
    ///
    /// The function is called where a lock or a session is dropped, must not block, and may drop the
    /// task. `session-axum` sets one for Tokio.
    #[must_use]
    pub fn with_spawner(mut self, spawn: impl Fn(BackgroundTask) + Send + Sync + 'static) -> Self {
        self.spawner = Some(Spawner(Box::new(spawn)));
        self
    }

    /// Sets what [`with_spawner`](Self::with_spawner) sets, unless that was done already: for
    /// integrations, which know the runtime.
    #[must_use]
    pub fn with_default_spawner(
        self,
        spawn: impl Fn(BackgroundTask) + Send + Sync + 'static,
    ) -> Self {
        if self.spawner.is_some() { self } else { self.with_spawner(spawn) }
    }

    /// Takes the lease of a session as it is stored now, unless another request has it.
    ///
    /// With `only_if_held` it is only prolonged: there are changes that were made under it.
    pub(crate) async fn take_lease(
        &self,
        mut home: Home,
        token: Nonce,
        only_if_held: bool,
    ) -> Result<Attempt, SessionError> {
        let mut entry = self.load(&home.key).await?.ok_or(SessionError::Ended)?;
        for _ in 0..MAX_CONFLICTS {
            home = self.follow(home, entry).await?;
            let now = self.now();
            if only_if_held {
                self.check_lease(&home.record, token)?;
            }
            let lease = match home.record.lease {
                Some(other) if other.token != token && other.is_live(now) => {
                    match other.shortened(now) {
                        Some(shortened) => shortened,
                        None => return Ok(Attempt::HeldUntil(other.until)),
                    }
                }
                _ => Lease::new(token, now, self.lease),
            };
            match self.commit_lease(&home, Some(lease)).await? {
                Leased::Stored(home) if lease.token == token => return Ok(Attempt::Taken(home)),
                Leased::Stored(_) => return Ok(Attempt::HeldUntil(lease.until)),
                Leased::Conflict(newer) => entry = newer,
            }
        }
        Err(SessionError::Contended)
    }

    /// Takes the lease out of the session.
    pub(crate) async fn release_lease(
        &self,
        mut home: Home,
        token: Nonce,
    ) -> Result<Home, SessionError> {
        let is_ours = |home: &Home| home.record.lease.is_some_and(|lease| lease.token == token);
        if !is_ours(&home) {
            // What the request knows of the session may be older than its lease.
            let entry = self.load(&home.key).await?.ok_or(SessionError::Ended)?;
            home = self.follow_anywhere(home, entry).await?;
        }
        for _ in 0..MAX_CONFLICTS {
            if !is_ours(&home) {
                return Err(SessionError::LeaseLost);
            }
            match self.commit_lease(&home, None).await? {
                Leased::Stored(home) => return Ok(home),
                Leased::Conflict(newer) => home = self.follow_anywhere(home, newer).await?,
            }
        }
        Err(SessionError::Contended)
    }

    /// Releases a lease for a request that is not there to do it, if there is something to run it on.
    pub(crate) fn release_soon(self: &Arc<Self>, home: Home, token: Nonce) {
        let Some(Spawner(spawn)) = &self.spawner else { return };
        let sessions = Arc::clone(self);
        spawn(Box::pin(async move {
            let key = home.key;
            if let Err(error) = sessions.release_lease(home, token).await {
                tracing::debug!(target: "session", %key, %error, "lock not released, ends by itself");
            }
        }));
    }

    /// Refuses what a request does under a lease that has ended or is another's.
    pub(crate) fn check_lease(&self, record: &Record, token: Nonce) -> Result<(), SessionError> {
        let now = self.now();
        match record.lease {
            Some(lease) if lease.token == token && lease.is_live(now) => Ok(()),
            _ => Err(SessionError::LeaseLost),
        }
    }

    /// Commits the session as it is but for its lease.
    async fn commit_lease(
        &self,
        home: &Home,
        lease: Option<Lease>,
    ) -> Result<Leased, SessionError> {
        let stamp = Stamp::now(self);
        let draft = Record { lease, ..Record::clone(&home.record) };
        let record = stamp.onto(Some(&home.record), draft);
        match self.commit_at(home, Entry::Live(Arc::clone(&record)), stamp).await? {
            Committed::Committed => Ok(Leased::Stored(Home { record, ..home.clone() })),
            Committed::Conflict(newer) => Ok(Leased::Conflict(newer)),
            Committed::Gone => Err(SessionError::Ended),
        }
    }

    /// Where the session is, which a login ends for who had opened it before.
    async fn follow(&self, home: Home, entry: Entry) -> Result<Home, SessionError> {
        let home = self.follow_anywhere(home, entry).await?;
        if home.id.is_none() { Err(SessionError::Ended) } else { Ok(home) }
    }

    async fn follow_anywhere(&self, home: Home, entry: Entry) -> Result<Home, SessionError> {
        match entry {
            Entry::Live(record) => Ok(Home { record, ..home }),
            Entry::Moved(tombstone) => self.successor(&home, &tombstone).await,
        }
    }
}

/// What became of a commit that changes the lease.
enum Leased {
    Stored(Home),
    Conflict(Entry),
}

/// Work that goes on without the request that left it.
pub type BackgroundTask = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Runs a task on the application's runtime.
pub(crate) struct Spawner(pub(crate) Box<dyn Fn(BackgroundTask) + Send + Sync>);

impl fmt::Debug for Spawner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Spawner(..)")
    }
}
