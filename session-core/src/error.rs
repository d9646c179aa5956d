use std::{error::Error, fmt, sync::Arc};

/// An error of any type.
pub type BoxError = Box<dyn Error + Send + Sync + 'static>;

/// The error of a setting that cannot be used. The text quotes the setting.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(String);

impl ConfigError {
    /// Creates an error. The text quotes the value, and names the bound that the value exceeds.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

/// A fault of the store: its kind, and its cause.
///
/// A missing or expired session is an answer, not a fault: see each verb of
/// [`SessionStore`](crate::SessionStore). Clones are the same error, for requests that wait for one
/// answer.
#[derive(Clone, Debug)]
pub struct StoreError {
    kind: StoreErrorKind,
    source: Option<Arc<dyn Error + Send + Sync>>,
}

impl StoreError {
    /// Creates an error of a kind.
    #[must_use]
    pub const fn new(kind: StoreErrorKind) -> Self {
        Self { kind, source: None }
    }

    /// Adds the cause of the error. The text of the cause must hold neither an ID nor a value.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<BoxError>) -> Self {
        self.source = Some(source.into().into());
        self
    }

    /// Returns the meaning of the error.
    #[must_use]
    pub const fn kind(&self) -> StoreErrorKind {
        self.kind
    }

    /// Returns `true` if the same call may succeed a little later.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        match self.kind {
            StoreErrorKind::Unavailable
            | StoreErrorKind::Timeout
            | StoreErrorKind::Unreplicated
            | StoreErrorKind::Full => true,
            StoreErrorKind::Corrupt | StoreErrorKind::TooLarge | StoreErrorKind::Misconfigured => {
                false
            }
        }
    }

    /// Returns `true` if the operation may have been carried out without a confirmation. The
    /// protocol repeats such an operation.
    #[must_use]
    pub const fn is_outcome_unknown(&self) -> bool {
        matches!(self.kind, StoreErrorKind::Timeout | StoreErrorKind::Unreplicated)
    }

    /// Returns the text of the cause, for an event.
    pub(crate) fn source_text(&self) -> String {
        self.source.as_ref().map_or_else(|| self.to_string(), ToString::to_string)
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            StoreErrorKind::Unavailable => "the session store is unavailable",
            StoreErrorKind::Timeout => "the session store did not answer in time",
            StoreErrorKind::Unreplicated => {
                "too few replicas of the session store confirmed the change"
            }
            StoreErrorKind::Full => "the session store is full",
            StoreErrorKind::Corrupt => "the stored session is unreadable",
            StoreErrorKind::TooLarge => "the session is too large for the store",
            StoreErrorKind::Misconfigured => "the session store is not set up as it must be",
        })
    }
}

impl Error for StoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

/// The meaning of a [`StoreError`] to the caller.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// The store is unreachable or refuses to work. The operation was not carried out.
    Unavailable,
    /// The store did not answer in time, or the connection was lost before the answer. The operation
    /// may have been carried out.
    Timeout,
    /// The operation was carried out, but too few replicas have confirmed it: a failover may undo
    /// the operation. A repetition waits for the replicas again.
    Unreplicated,
    /// The store is full. The operation was not carried out.
    Full,
    /// The bytes under the key are not a record, or a record of a format unknown to this version.
    Corrupt,
    /// The record exceeds the limit of the store.
    TooLarge,
    /// The store refuses this client: a wrong password, a missing right, a wrong kind of server.
    Misconfigured,
}

/// A failure of a request to use its session.
///
/// All calls share this type. [`SessionError::is_retryable`] separates temporary failures from
/// final ones.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),

    /// The session ended while the request was under way: by a logout, a revocation, its deadline, or
    /// because a login gave it another ID. The changes of the request are not stored.
    #[error("the session was ended while the request was under way")]
    Ended,

    /// Other requests changed the session each time before this request could. The changes of the
    /// request are not stored; a retry may succeed.
    #[error("too many requests change the session concurrently")]
    Contended,

    /// An earlier commit of the request was interrupted or not confirmed, so another commit could
    /// apply a change twice. [`Session::discard`](crate::Session::discard) gives the changes up.
    #[error("an earlier commit of the request was not confirmed")]
    Unconfirmed,

    /// Another request held the session's [lock](crate::Session::locked) for the whole wait.
    #[error("another request holds the lock of the session")]
    Locked,

    /// The request holds the session's lock already, or waits for it.
    #[error("the request has locked the session already")]
    AlreadyLocked,

    /// The lock lapsed before the commit of the work under the lock. The changes are not stored,
    /// and another request may have done the same work.
    #[error("the lock of the session was lost before the commit")]
    LeaseLost,

    /// The session has no owner, or its owner has not signed in recently enough.
    #[error("the owner of the session has not signed in recently enough")]
    NotFresh,

    /// Nobody is signed in. No call of this crate returns this error: it is for applications, and for the
    /// guards of `session-axum`.
    #[error("nobody is signed in")]
    SignedOut,

    /// The session has no owner who could [act as](crate::Session::act_as) a user, or the owner is that
    /// user.
    #[error("only a signed-in user can act as another user")]
    CannotAct,

    /// A user [acts as](crate::Session::act_as) the owner of the session, and only the owner may do
    /// this.
    #[error("a user who acts as the owner of the session may not do this")]
    Acting,

    /// The owner has as many sessions as the [`SessionLimit`](crate::SessionLimit) allows, and the
    /// login is not stored. After one session has ended, the same commit succeeds.
    /// [`Session::discard`](crate::Session::discard) gives the login up.
    #[error("the owner has as many sessions as the limit of {limit} allows")]
    #[non_exhaustive]
    TooManySessions {
        /// The limit.
        limit: usize,
    },

    /// The session was changed after the response had begun.
    #[error("the session was changed after the response had begun")]
    Closed,

    /// The owner has an empty name, for example from a field left empty.
    #[error("the owner of a session must not be empty")]
    EmptyOwner,

    /// A link has an empty name or an empty value, for example from a token without the claim.
    #[error("the name and the value of a link must not be empty")]
    EmptyLink,

    /// A value, its name, the owner, a link or the session exceeds one of the [`Limits`](crate::Limits).
    #[error("{what} exceeds the limit of {limit}")]
    #[non_exhaustive]
    TooLarge {
        /// The part beyond its limit.
        what: &'static str,
        /// The limit.
        limit: usize,
    },

    /// The stored value is of another type, or in another format, than the key of the read.
    #[error("the value {name:?} cannot be decoded")]
    #[non_exhaustive]
    Decode {
        /// The value's name.
        name: String,
        /// The codec's error.
        source: BoxError,
    },

    /// The codec cannot write the value so that it reads back equal.
    #[error("the value {name:?} cannot be encoded")]
    #[non_exhaustive]
    Encode {
        /// The value's name.
        name: String,
        /// The codec's error.
        source: BoxError,
    },

    /// The closure of a [`try_update`](crate::Session::try_update) refused the present value.
    #[error("the update of the value {name:?} was refused")]
    #[non_exhaustive]
    Refused {
        /// The value's name.
        name: String,
        /// The closure's error.
        source: BoxError,
    },

    /// Another request took the value of a [`take_once`](crate::Session::take_once) first.
    #[error("another request took the value first")]
    Taken,
}

impl SessionError {
    /// Returns `true` if the same request may succeed a little later.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Store(error) => error.is_retryable(),
            Self::Contended | Self::Unconfirmed | Self::Locked => true,
            Self::Ended
            | Self::AlreadyLocked
            | Self::LeaseLost
            | Self::NotFresh
            | Self::SignedOut
            | Self::CannotAct
            | Self::Acting
            | Self::TooManySessions { .. }
            | Self::Closed
            | Self::EmptyOwner
            | Self::EmptyLink
            | Self::TooLarge { .. }
            | Self::Decode { .. }
            | Self::Encode { .. }
            | Self::Refused { .. }
            | Self::Taken => false,
        }
    }

    /// Returns `true` if the outcome of the operation is unknown.
    pub(crate) const fn is_outcome_unknown(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_outcome_unknown())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_text_names_no_internals() {
        let store = StoreError::new(StoreErrorKind::Unavailable).with_source("redis://secret@host");
        insta::assert_snapshot!(store, @"the session store is unavailable");
        insta::assert_snapshot!(SessionError::from(store), @"the session store is unavailable");
        insta::assert_snapshot!(
            SessionError::TooLarge { what: "the value", limit: 7 },
            @"the value exceeds the limit of 7"
        );
        insta::assert_snapshot!(
            SessionError::Decode { name: "cart".into(), source: "private".into() },
            @r#"the value "cart" cannot be decoded"#
        );
    }

    #[test]
    fn errors_are_send_and_sync() {
        fn check<T: Send + Sync + 'static>() {}
        check::<SessionError>();
        check::<StoreError>();
        check::<ConfigError>();
    }
}
