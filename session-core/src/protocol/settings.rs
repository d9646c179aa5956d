//! The rules by which sessions live.

use std::{num::NonZeroUsize, time::Duration};

use crate::{ConfigError, Lifetime, Limits};

/// The rules by which sessions live.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) lifetime: Lifetime,
    pub(crate) anonymous_lifetime: Lifetime,
    pub(crate) limits: Limits,
    pub(crate) renewal_grace: Duration,
    pub(crate) lease: Duration,
    pub(crate) live_interval: Duration,
    pub(crate) session_limit: Option<SessionLimit>,
    pub(crate) reuse: OnReuse,
    pub(crate) carries_over: bool,
}

/// The number of sessions that an owner may have at the same time, and the outcome of a login
/// beyond the limit.
///
/// Each live session counts once, also during a move to another ID. A login from a session of the
/// same owner replaces that session. A renewal is exempt from the limit, and evicts no session.
///
/// # Examples
///
/// ```
/// use session_core::{AtLimit, SessionLimit};
///
/// # fn main() -> Result<(), session_core::ConfigError> {
/// let three_devices = SessionLimit::new(3, AtLimit::EvictLeastRecent)?;
/// # drop(three_devices);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SessionLimit {
    pub(crate) max: NonZeroUsize,
    pub(crate) at_limit: AtLimit,
}

impl SessionLimit {
    /// The largest limit.
    pub const MAX: usize = 1_000;

    /// Makes a limit.
    ///
    /// # Errors
    ///
    /// Returns a [`ConfigError`] if `max` is zero or more than [`MAX`](Self::MAX).
    pub fn new(max: usize, at_limit: AtLimit) -> Result<Self, ConfigError> {
        match NonZeroUsize::new(max) {
            None => Err(ConfigError::new("a limit of 0 sessions lets no user sign in")),
            Some(_) if max > Self::MAX => Err(ConfigError::new(format!(
                "a limit of {max} sessions is more than {}",
                Self::MAX
            ))),
            Some(max) => Ok(Self { max, at_limit }),
        }
    }

    /// Returns the number of sessions that an owner may have.
    #[must_use]
    pub fn max(&self) -> usize {
        self.max.get()
    }

    /// Returns the outcome of a login beyond the limit.
    #[must_use]
    pub fn at_limit(&self) -> AtLimit {
        self.at_limit
    }
}

/// The outcome of a login that exceeds the [`SessionLimit`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum AtLimit {
    /// The login fails with
    /// [`SessionError::TooManySessions`](crate::SessionError::TooManySessions).
    Reject,
    /// The session with the oldest login is evicted.
    EvictOldest,
    /// The session with the oldest use is evicted. A use is recorded at most once per
    /// [`Lifetime::touch_interval`].
    EvictLeastRecent,
}

/// The reaction to an old ID that is presented after its grace.
///
/// Either the cookie was copied, or a client keeps old cookies. In both cases the protocol reports
/// the event [`Reused`](crate::EventKind::Reused), and the old ID does not open the session.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum OnReuse {
    /// The session goes on.
    #[default]
    Report,
    /// The session is revoked, for the holder of the present ID too, as RFC 9700, 4.14.2 describes
    /// for refresh tokens.
    EndSession,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limit_out_of_bounds_is_refused() {
        let text = |max| SessionLimit::new(max, AtLimit::Reject).unwrap_err().to_string();
        insta::assert_snapshot!(text(0), @"a limit of 0 sessions lets no user sign in");
        insta::assert_snapshot!(text(1_001), @"a limit of 1001 sessions is more than 1000");
        assert!(SessionLimit::new(1, AtLimit::Reject).is_ok());
        assert!(SessionLimit::new(SessionLimit::MAX, AtLimit::EvictOldest).is_ok());
    }
}
