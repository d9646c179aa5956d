use std::{fmt, sync::Arc, time::Duration};

use super::Sessions;
use crate::{
    Backend, Clock, ConfigError, IdGenerator, Lifetime, Limits, OnReuse, OsRandom, SessionLimit,
    SystemClock,
    clock::millis_rounded_up,
    protocol::{Protocol, Settings},
    record::Realm,
};

/// The settings of [`Sessions`].
pub struct SessionsBuilder {
    store: Arc<dyn Backend>,
    ids: Arc<dyn IdGenerator>,
    clock: Arc<dyn Clock>,
    lifetime: Lifetime,
    anonymous_lifetime: Option<Lifetime>,
    limits: Limits,
    renewal_grace: Duration,
    lease: Duration,
    live_interval: Duration,
    session_limit: Option<SessionLimit>,
    reuse: OnReuse,
    carries_over: bool,
    event_buffer: usize,
}

impl SessionsBuilder {
    /// The largest [event buffer](Self::with_event_buffer).
    pub const MAX_EVENT_BUFFER: usize = 1 << 20;

    /// The shortest [interval of a connection](Self::with_live_interval): 100 milliseconds.
    pub const MIN_LIVE_INTERVAL: Duration = Duration::from_millis(100);

    /// The longest [interval of a connection](Self::with_live_interval): 1 minute. A tombstone must
    /// outlive several intervals, because a connection follows its session by tombstones.
    pub const MAX_LIVE_INTERVAL: Duration = Duration::from_secs(60);

    /// Creates a builder with the default settings.
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
            lease: Duration::from_secs(10),
            live_interval: Duration::from_secs(5),
            session_limit: None,
            reuse: OnReuse::default(),
            carries_over: true,
            event_buffer: 1_024,
        }
    }

    /// Sets the default lifetime, for sessions without their own
    /// ([`Session::set_lifetime`](crate::Session::set_lifetime)). The default is
    /// [`Lifetime::standard`]: 1 hour without a request, 24 hours in all. Each span is between 1 ms
    /// and [`Lifetime::MAX`], which [`Lifetime::new`] checks.
    #[must_use]
    pub fn with_lifetime(mut self, lifetime: Lifetime) -> Self {
        self.lifetime = lifetime;
        self
    }

    /// Sets the default lifetime of sessions without an owner. The default is the
    /// [lifetime](Self::with_lifetime) of the other sessions, and the bounds are the same. A login
    /// replaces it.
    ///
    /// A shorter lifetime keeps visitors who never sign in from filling the store.
    #[must_use]
    pub fn with_anonymous_lifetime(mut self, lifetime: Lifetime) -> Self {
        self.anonymous_lifetime = Some(lifetime);
        self
    }

    /// Sets the limits of a session's size. The default is [`Limits::default`]: 1,024 values, 64
    /// KiB per value, 256 KiB in all. A limit of zero forbids all data of its kind.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets the time for which a renewed session's former ID still opens the session, after a
    /// client has presented the new ID. The default is 30 seconds. The bounds are zero and
    /// [`Sessions::ROTATION_WINDOW`], 5 minutes.
    ///
    /// With zero, a request with the former ID may find no session, if the browser sent it together
    /// with the first request with the new ID.
    #[must_use]
    pub fn with_renewal_grace(mut self, grace: Duration) -> Self {
        self.renewal_grace = grace;
        self
    }

    /// Sets the reaction to an old ID that is presented after its grace. The default is
    /// [`OnReuse::Report`].
    #[must_use]
    pub fn with_reuse(mut self, reuse: OnReuse) -> Self {
        self.reuse = reuse;
        self
    }

    /// Sets whether a request that loaded the session before a login or rotation stores its values
    /// in the session after it. The default is `true`. With `false`, the commit of the request
    /// returns [`SessionError::Ended`](crate::SessionError::Ended). See the security section of
    /// [`Session::authenticate`](crate::Session::authenticate).
    #[must_use]
    pub fn with_carry_over(mut self, carries_over: bool) -> Self {
        self.carries_over = carries_over;
        self
    }

    /// Sets the length of the lease of a session's [lock](crate::Session::locked). If a request is
    /// cancelled or its process dies, its lock lapses after this time. The default is 10 seconds.
    /// The bounds are 1 ms and [`Sessions::MAX_LEASE`], 10 minutes. The length is rounded up to
    /// whole milliseconds.
    ///
    /// The lease is prolonged while the work runs, so that it can be shorter than the work. The
    /// lease should be longer than the pauses of a process and the time limits of the store.
    #[must_use]
    pub fn with_lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// Sets the longest time between two loads of the session by a [`Live`](crate::Live) connection.
    /// The default is 5 seconds. The bounds are [`MIN_LIVE_INTERVAL`](Self::MIN_LIVE_INTERVAL) and
    /// [`MAX_LIVE_INTERVAL`](Self::MAX_LIVE_INTERVAL).
    ///
    /// The interval bounds the delay after the end of a session if the store reports no changes, or
    /// if a report is lost. A waiting connection loads after between three quarters of the interval
    /// and all of it (jitter), which is at most 4 loads in 3 intervals. Reports without a change
    /// at most double that in the long run. Each change of the session costs one more load, at most 10 per second.
    #[must_use]
    pub fn with_live_interval(mut self, interval: Duration) -> Self {
        self.live_interval = interval;
        self
    }

    /// Limits the number of sessions per owner, to between 1 and [`SessionLimit::MAX`]. By default
    /// the number is unlimited. With a limit, each login costs two more round trips.
    #[must_use]
    pub fn with_session_limit(mut self, limit: SessionLimit) -> Self {
        self.session_limit = Some(limit);
        self
    }

    /// Sets the generator of the IDs. The default is [`OsRandom`].
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

    /// Sets the number of events that each [subscriber](Sessions::events) may be behind, 1 to
    /// [`MAX_EVENT_BUFFER`](Self::MAX_EVENT_BUFFER). The default is 1,024.
    #[must_use]
    pub fn with_event_buffer(mut self, events: usize) -> Self {
        self.event_buffer = events;
        self
    }

    /// Checks the settings and creates the sessions.
    ///
    /// # Errors
    ///
    /// Returns a [`ConfigError`] if the renewal grace, the lease, the live interval or the event
    /// buffer is out of bounds.
    pub fn build(self) -> Result<Sessions, ConfigError> {
        if self.renewal_grace > Sessions::ROTATION_WINDOW {
            return Err(ConfigError::new(format!(
                "a renewal grace of {:?} is longer than {:?}",
                self.renewal_grace,
                Sessions::ROTATION_WINDOW
            )));
        }
        if self.lease.is_zero() || self.lease > Sessions::MAX_LEASE {
            return Err(ConfigError::new(format!(
                "a lease of {:?} is not between 1 ms and {:?}",
                self.lease,
                Sessions::MAX_LEASE
            )));
        }
        if !(Self::MIN_LIVE_INTERVAL..=Self::MAX_LIVE_INTERVAL).contains(&self.live_interval) {
            return Err(ConfigError::new(format!(
                "a live interval of {:?} is not between {:?} and {:?}",
                self.live_interval,
                Self::MIN_LIVE_INTERVAL,
                Self::MAX_LIVE_INTERVAL
            )));
        }
        if !(1..=Self::MAX_EVENT_BUFFER).contains(&self.event_buffer) {
            return Err(ConfigError::new(format!(
                "a buffer of {} events is not between 1 and {}",
                self.event_buffer,
                Self::MAX_EVENT_BUFFER
            )));
        }
        Ok(self.build_valid())
    }

    pub(super) fn build_valid(self) -> Sessions {
        let settings = Settings {
            lifetime: self.lifetime,
            anonymous_lifetime: self.anonymous_lifetime.unwrap_or(self.lifetime),
            limits: self.limits,
            renewal_grace: self.renewal_grace,
            lease: Duration::from_millis(millis_rounded_up(self.lease)),
            live_interval: self.live_interval,
            session_limit: self.session_limit,
            reuse: self.reuse,
            carries_over: self.carries_over,
        };
        let protocol = Protocol::new(self.store, self.ids, self.clock, settings, self.event_buffer);
        Sessions { protocol: Arc::new(protocol), realm: Realm::default() }
    }
}

impl fmt::Debug for SessionsBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionsBuilder").field("store", &self.store).finish_non_exhaustive()
    }
}
