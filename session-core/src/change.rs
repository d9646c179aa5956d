use std::fmt;

use bytes::Bytes;

use crate::{Lifetime, Limits, Owner, Record, SessionError, Timestamp};

/// One thing that a request did to its session, kept so that it can be done again on a newer record.
///
/// That is what makes concurrent requests add up (I1): each commits its own changes, never the whole
/// session as it saw it.
pub(crate) enum Change {
    Set { name: Box<str>, value: Bytes },
    Remove { name: Box<str> },
    Update { name: Box<str>, apply: Box<Apply> },
    Clear,
    SetLifetime(Lifetime),
    Authenticate { owner: Owner, at: Timestamp },
    Renew { at: Timestamp },
}

/// Makes the new encoded value of the present one.
pub(crate) type Apply = dyn Fn(Option<&Bytes>) -> Result<Bytes, SessionError> + Send + Sync;

impl Change {
    /// Does the change to a record.
    pub(crate) fn apply(&self, record: &mut Record) -> Result<(), SessionError> {
        match self {
            Self::Set { name, value } => record.values.set(name, value.clone()),
            Self::Remove { name } => record.values.remove(name),
            Self::Update { name, apply } => {
                let value = apply(record.values.get(name))?;
                record.values.set(name, value);
            }
            Self::Clear => record.values.clear(),
            Self::SetLifetime(lifetime) => record.lifetime = *lifetime,
            Self::Authenticate { owner, at } => {
                record.owner = Some(owner.clone());
                record.authenticated_at = Some(*at);
                // What follows a login is a new session that took over the values: its absolute
                // lifetime begins now.
                record.created_at = *at;
                record.issued_at = *at;
                record.last_seen_at = record.last_seen_at.max(*at);
            }
            Self::Renew { at } => record.issued_at = *at,
        }
        Ok(())
    }

    /// The name of the one value that the change is about.
    pub(crate) fn name(&self) -> Option<&str> {
        match self {
            Self::Set { name, .. } | Self::Remove { name } | Self::Update { name, .. } => {
                Some(name)
            }
            Self::Clear | Self::SetLifetime(_) | Self::Authenticate { .. } | Self::Renew { .. } => {
                None
            }
        }
    }

    /// Tells whether the change decides what the value of this name is.
    pub(crate) fn concerns(&self, name: &str) -> bool {
        matches!(self, Self::Clear) || self.name() == Some(name)
    }
}

impl fmt::Debug for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Set { name, .. } => write!(f, "Set({name:?})"),
            Self::Remove { name } => write!(f, "Remove({name:?})"),
            Self::Update { name, .. } => write!(f, "Update({name:?})"),
            Self::Clear => f.write_str("Clear"),
            Self::SetLifetime(lifetime) => write!(f, "SetLifetime({lifetime:?})"),
            Self::Authenticate { .. } => f.write_str("Authenticate"),
            Self::Renew { .. } => f.write_str("Renew"),
        }
    }
}

/// Does all changes to a record, in their order.
pub(crate) fn replay(
    changes: &[impl std::ops::Deref<Target = Change>],
    record: &mut Record,
    limits: &Limits,
) -> Result<(), SessionError> {
    for change in changes {
        change.apply(record)?;
    }
    record.values.check(limits)
}
