use std::time::Duration;

use crate::{ConfigError, Timestamp, clock::millis_rounded_up};

/// The deadlines of a session. Each session keeps its own lifetime, so "remember me" lasts.
///
/// | preset | idle | absolute | cookie | source |
/// | --- | --- | --- | --- | --- |
/// | [`aal1`](Self::aal1), [`remember_me`](Self::remember_me) | 30 days | 30 days | persistent | NIST SP 800-63B-4, 2.1.3 |
/// | [`aal2`](Self::aal2), [`standard`](Self::standard), the default | 1 hour | 24 hours | browser | NIST SP 800-63B-4, 2.2.3 |
/// | [`aal3`](Self::aal3), [`strict`](Self::strict) | 15 minutes | 12 hours | browser | NIST SP 800-63B-4, 2.3.3 |
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use session_core::{CookieLifetime, Lifetime};
///
/// # fn main() -> Result<(), session_core::ConfigError> {
/// let week = Duration::from_secs(7 * 24 * 3600);
/// let remember_me = Lifetime::new(week, 4 * week)?.with_cookie(CookieLifetime::Persistent);
/// # assert_eq!(remember_me.idle(), week);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Lifetime {
    idle_ms: u64,
    absolute_ms: u64,
    renew_after_ms: Option<u64>,
    cookie: CookieLifetime,
}

impl Lifetime {
    /// The longest span of a lifetime: 400 days, the maximum age of a cookie in a browser (RFC
    /// 6265bis, 5.5).
    pub const MAX: Duration = Duration::from_secs(400 * DAY);

    /// Creates a lifetime that ends `idle` after the last request, or `absolute` after the session
    /// began, whichever comes first.
    ///
    /// The browser drops the cookie when it closes, and the ID is renewed only on demand. Spans are
    /// rounded up to whole milliseconds.
    ///
    /// # Errors
    ///
    /// Returns a [`ConfigError`] if one of the spans is zero or longer than [`Lifetime::MAX`], or if
    /// `idle` is longer than `absolute`.
    pub fn new(idle: Duration, absolute: Duration) -> Result<Self, ConfigError> {
        if idle > absolute {
            return Err(ConfigError::new(format!(
                "an idle time of {idle:?} is longer than the absolute time of {absolute:?}"
            )));
        }
        Ok(Self {
            idle_ms: checked_millis("idle time", idle)?,
            absolute_ms: checked_millis("absolute time", absolute)?,
            renew_after_ms: None,
            cookie: CookieLifetime::Browser,
        })
    }

    /// Returns a lifetime of 30 days, with a persistent cookie. The same as [`aal1`](Self::aal1).
    #[must_use]
    pub const fn remember_me() -> Self {
        Self::aal1()
    }

    /// Returns a lifetime of one hour without a request, 24 hours in all. The same as
    /// [`aal2`](Self::aal2).
    #[must_use]
    pub const fn standard() -> Self {
        Self::aal2()
    }

    /// Returns a lifetime of 15 minutes without a request, 12 hours in all. The same as
    /// [`aal3`](Self::aal3).
    #[must_use]
    pub const fn strict() -> Self {
        Self::aal3()
    }

    /// Returns a lifetime of 30 days, with a persistent cookie: "remember me".
    #[must_use]
    pub const fn aal1() -> Self {
        Self {
            idle_ms: 30 * DAY * 1000,
            absolute_ms: 30 * DAY * 1000,
            renew_after_ms: None,
            cookie: CookieLifetime::Persistent,
        }
    }

    /// Returns a lifetime of one hour without a request, 24 hours in all. The default.
    #[must_use]
    pub const fn aal2() -> Self {
        Self {
            idle_ms: HOUR * 1000,
            absolute_ms: DAY * 1000,
            renew_after_ms: None,
            cookie: CookieLifetime::Browser,
        }
    }

    /// Returns a lifetime of 15 minutes without a request, 12 hours in all.
    #[must_use]
    pub const fn aal3() -> Self {
        Self {
            idle_ms: HOUR / 4 * 1000,
            absolute_ms: 12 * HOUR * 1000,
            renew_after_ms: None,
            cookie: CookieLifetime::Browser,
        }
    }

    /// Sets the age at which a request renews the session's ID, as
    /// [`Session::renew`](crate::Session::renew) does. Off by default.
    ///
    /// Each former ID leaves a tombstone of about 130 bytes in the store until the absolute
    /// deadline. So a client that never receives the new ID stays signed in, and a copied ID is
    /// [reported](crate::EventKind::Reused). A session of 30 days with a renewal each hour has at
    /// most 720 tombstones.
    ///
    /// # Errors
    ///
    /// Returns a [`ConfigError`] if the span is zero or longer than [`Lifetime::MAX`].
    pub fn with_renew_after(mut self, age: Duration) -> Result<Self, ConfigError> {
        self.renew_after_ms = Some(checked_millis("renewal age", age)?);
        Ok(self)
    }

    /// Sets the lifetime of the cookie in the browser. The default is [`CookieLifetime::Browser`].
    #[must_use]
    pub const fn with_cookie(mut self, cookie: CookieLifetime) -> Self {
        self.cookie = cookie;
        self
    }

    /// Returns the lifetime, with both times shortened to those of another.
    pub(crate) fn within(self, other: Self) -> Self {
        Self {
            idle_ms: self.idle_ms.min(other.idle_ms),
            absolute_ms: self.absolute_ms.min(other.absolute_ms),
            ..self
        }
    }

    /// Returns the time without a request after which the session expires.
    ///
    /// To save a write per request, a use is recorded at most once per
    /// [`touch_interval`](Self::touch_interval). So a session may expire up to that interval before
    /// this span has passed since its last request, and never after.
    #[must_use]
    pub const fn idle(&self) -> Duration {
        Duration::from_millis(self.idle_ms)
    }

    /// Returns the time from the beginning of a session to its absolute deadline, however busy the
    /// session is.
    #[must_use]
    pub const fn absolute(&self) -> Duration {
        Duration::from_millis(self.absolute_ms)
    }

    /// Returns the age at which an ID is renewed. Returns `None` if IDs are renewed only on demand.
    #[must_use]
    pub const fn renew_after(&self) -> Option<Duration> {
        match self.renew_after_ms {
            Some(millis) => Some(Duration::from_millis(millis)),
            None => None,
        }
    }

    /// Returns the lifetime of the cookie in the browser.
    #[must_use]
    pub const fn cookie(&self) -> CookieLifetime {
        self.cookie
    }

    /// Returns the instant at which a session expires, from its beginning and its last use.
    pub(crate) fn deadline(&self, created_at: Timestamp, last_seen_at: Timestamp) -> Timestamp {
        self.absolute_deadline(created_at).min(last_seen_at.plus_millis(self.idle_ms))
    }

    /// Returns the absolute deadline of a session from its beginning.
    pub(crate) fn absolute_deadline(&self, created_at: Timestamp) -> Timestamp {
        created_at.plus_millis(self.absolute_ms)
    }

    pub(crate) const fn idle_ms(&self) -> u64 {
        self.idle_ms
    }

    pub(crate) const fn absolute_ms(&self) -> u64 {
        self.absolute_ms
    }

    const fn touch_interval_ms(&self) -> u64 {
        let tenth = self.idle_ms / 10;
        if tenth < HOUR * 1000 { tenth } else { HOUR * 1000 }
    }

    /// Returns `true` if a use of the session at `now` must be recorded.
    pub(crate) fn touch_is_due(&self, last_seen_at: Timestamp, now: Timestamp) -> bool {
        now > last_seen_at && now >= last_seen_at.plus_millis(self.touch_interval_ms())
    }

    /// Returns the longest time for which a use of the session may stay unrecorded: a tenth of the
    /// idle time, at most one hour. So a list of devices shows the devices in use.
    #[must_use]
    pub const fn touch_interval(&self) -> Duration {
        Duration::from_millis(self.touch_interval_ms())
    }
}

impl Default for Lifetime {
    fn default() -> Self {
        Self::aal2()
    }
}

/// The lifetime of a cookie in the browser. The server enforces the deadlines of the record, not
/// those of the cookie.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum CookieLifetime {
    /// The browser drops the cookie when it closes: no `Max-Age`.
    Browser,
    /// The browser keeps the cookie until the session's absolute deadline: `Max-Age` is the time until
    /// then.
    Persistent,
}

fn checked_millis(what: &str, span: Duration) -> Result<u64, ConfigError> {
    if span.is_zero() {
        return Err(ConfigError::new(format!("the {what} is zero")));
    }
    if span > Lifetime::MAX {
        return Err(ConfigError::new(format!("the {what} of {span:?} is longer than 400 days")));
    }
    Ok(millis_rounded_up(span))
}

const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn span_out_of_bounds_is_refused() {
        let text = |result: Result<Lifetime, ConfigError>| result.unwrap_err().to_string();
        insta::assert_snapshot!(text(Lifetime::new(Duration::ZERO, SECOND)), @"the idle time is zero");
        insta::assert_snapshot!(text(Lifetime::new(Duration::ZERO, Duration::ZERO)), @"the idle time is zero");
        insta::assert_snapshot!(text(Lifetime::new(SECOND * 2, SECOND)), @"an idle time of 2s is longer than the absolute time of 1s");
        insta::assert_snapshot!(text(Lifetime::new(SECOND, Duration::MAX)), @"the absolute time of 18446744073709551615.999999999s is longer than 400 days");
        insta::assert_snapshot!(text(Lifetime::aal2().with_renew_after(Duration::ZERO)), @"the renewal age is zero");
    }

    #[test]
    fn span_below_a_second_is_kept() {
        let lifetime = Lifetime::new(Duration::from_millis(500), SECOND).unwrap();
        assert_eq!(lifetime.idle(), Duration::from_millis(500));
        let tiny = Lifetime::new(Duration::from_nanos(1), SECOND).unwrap();
        assert_eq!(tiny.idle(), Duration::from_millis(1));
    }

    #[test]
    fn preset_is_valid_and_within_the_nist_limits() {
        for preset in [Lifetime::aal1(), Lifetime::aal2(), Lifetime::aal3()] {
            let remade = Lifetime::new(preset.idle(), preset.absolute()).unwrap();
            assert_eq!(remade.with_cookie(preset.cookie()), preset);
        }
        assert!(Lifetime::aal1().absolute() <= 30 * 24 * 3600 * SECOND);
        assert!(Lifetime::aal2().absolute() <= 24 * 3600 * SECOND);
        assert!(Lifetime::aal2().idle() <= 3600 * SECOND);
        assert!(Lifetime::aal3().absolute() <= 12 * 3600 * SECOND);
        assert!(Lifetime::aal3().idle() <= 15 * 60 * SECOND);
        assert_eq!(Lifetime::default(), Lifetime::aal2());
    }

    proptest! {
        #[test]
        fn deadline_is_the_nearer_of_the_two(
            idle in 1u64..1_000_000,
            more in 0u64..1_000_000,
            created in 0u64..1_000_000,
            seen in 0u64..1_000_000,
        ) {
            let lifetime = Lifetime::new(
                Duration::from_millis(idle),
                Duration::from_millis(idle + more),
            ).unwrap();
            let (created_at, seen_at) =
                (Timestamp::from_millis(created), Timestamp::from_millis(created + seen));
            let deadline = lifetime.deadline(created_at, seen_at).as_millis();
            prop_assert_eq!(deadline, (created + seen + idle).min(created + idle + more));
            prop_assert!(lifetime.touch_interval() * 10 <= lifetime.idle());
        }
    }
}
