use std::{fmt, sync::Arc};

use crate::{Codec, IndexKey, Key, Lifetime, Limits, Owner, Record, SessionError, Timestamp};

use super::{Links, decode};

/// One change of a session by a request, kept in order to replay it on a newer record.
///
/// Concurrent requests add up because each commits its own changes, never the whole session as the
/// request read it (I1).
pub(crate) enum Change {
    Set {
        name: Box<str>,
        value: Vec<u8>,
    },
    Remove {
        name: Box<str>,
    },
    Update {
        name: Arc<str>,
        /// The closure can refuse, and reads the other values.
        is_conditional: bool,
        apply: Box<Apply>,
        preview: Option<Vec<u8>>,
    },
    Take {
        name: Box<str>,
        value: Vec<u8>,
    },
    Clear {
        /// The removals of the values that the request saw, for a session hidden from the request.
        seen: Vec<Change>,
    },
    SetLifetime(Lifetime),
    EndBy(Timestamp),
    Authenticate(Authentication),
    /// The owner has proved the identity again.
    Reauthenticate {
        owner: Owner,
        at: Timestamp,
    },
    /// The session can be found by a name of the application.
    Link(IndexKey),
    /// The owner acts as a user, until this instant at the latest.
    ActAs {
        user: Owner,
        until: Timestamp,
    },
    /// The actor goes back to the own login.
    StopActing,
    Rotate,
    Renew,
    /// The request presented the ID of a renewal. The stamp of the commit records the use.
    Present,
}

/// A login: the user, and all that the login sets for the session.
pub(crate) struct Authentication {
    pub(crate) owner: Owner,
    pub(crate) at: Timestamp,
    pub(crate) lifetime: Lifetime,
    pub(crate) end: Option<Timestamp>,
    pub(crate) links: Links,
}

/// A function from the present encoded value to the new one. `None` is a missing value.
pub(crate) type Apply =
    dyn Fn(Option<&[u8]>, &View<'_>) -> Result<Option<Vec<u8>>, SessionError> + Send + Sync;

/// The session as an [`update`](crate::Session::update) finds it, for reads by the closure.
///
/// A closure must read the session only through this view. If another request committed in between,
/// the closure runs again on the newer record.
#[derive(Clone, Copy)]
pub struct View<'a>(Option<&'a Record>);

impl<'a> View<'a> {
    pub(crate) fn new(record: Option<&'a Record>) -> Self {
        Self(record)
    }

    /// Returns a value. Returns `None` if the value is missing or cannot be decoded.
    #[must_use]
    pub fn get<T, C: Codec<T>>(&self, key: Key<'_, T, C>) -> Option<T> {
        let value = self.0?.values.get(key.name())?;
        decode::<T, C>(key.name(), value).ok()
    }

    /// Returns the user to whom the session belongs.
    #[must_use]
    pub fn owner(&self) -> Option<&'a Owner> {
        self.0?.owner()
    }

    /// Returns the user who [acts as](crate::Session::act_as) the owner. Returns `None` if the owner has
    /// signed in.
    #[must_use]
    pub fn actor(&self) -> Option<&'a Owner> {
        self.0?.actor()
    }
}

impl fmt::Debug for View<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("View(..)")
    }
}

impl Change {
    /// Applies the change to a record.
    ///
    /// The stamp of the commit sets the instants at which a login or a new ID begins.
    ///
    /// `is_own`: the closure of an update may see the owner and the other values.
    pub(crate) fn apply(&self, record: &mut Record, is_own: bool) -> Result<(), SessionError> {
        if let Self::Update { name, apply, .. } = self {
            let view = View::new(is_own.then_some(&*record));
            let value = apply(record.values.get(name), &view)?;
            record.values.replace(name, value.as_deref());
            return Ok(());
        }
        if let Self::Take { name, value } = self
            && record.values.get(name) != Some(value)
        {
            return Err(SessionError::Taken);
        }
        self.check_user(Some(record))?;
        self.preview(record);
        Ok(())
    }

    /// Applies the change as this request saw it, without running code of the application.
    pub(crate) fn preview(&self, record: &mut Record) {
        match self {
            Self::Set { name, value } => record.values.set(name, value),
            Self::Update { name, preview, .. } => record.values.replace(name, preview.as_deref()),
            Self::Remove { name } | Self::Take { name, .. } => record.values.remove(name),
            Self::Clear { .. } => record.values.clear(),
            Self::SetLifetime(lifetime) => {
                record.lifetime = record.permitted_lifetime(*lifetime);
            }
            Self::EndBy(at) => {
                record.ends_by = Some(record.ends_by.map_or(*at, |end| end.min(*at)));
            }
            Self::Authenticate(Authentication { owner, at, lifetime, end, links }) => {
                let is_other = record.owner.as_ref().is_some_and(|former| former != owner);
                if record.actor.take().is_some() || is_other {
                    // The values belong to the former owner.
                    record.values.clear();
                }
                record.owner = Some(owner.clone());
                record.authenticated_at = Some(*at);
                // The former ones were chosen for the former login.
                (record.lifetime, record.ends_by) = (*lifetime, *end);
                record.links.clone_from(links);
                record.created_at = *at;
            }
            Self::Reauthenticate { at, .. } => {
                record.authenticated_at = Some(*at);
            }
            Self::Link(link) => record.links.add(*link),
            Self::ActAs { user, until } if self.check_user(Some(record)).is_ok() => {
                let login = record.clone();
                record.values.clear();
                record.links = Links::default();
                record.owner = Some(user.clone());
                record.authenticated_at = None;
                // Not the deadline of the login, which the stamp of the commit can move.
                record.ends_by = Some(login.ends_by.map_or(*until, |end| end.min(*until)));
                record.actor = Some(Arc::new(login));
            }
            Self::StopActing => {
                if let Some(login) = record.actor.take() {
                    let Record { owner, values, links, authenticated_at, unknown, .. } =
                        Record::clone(&login);
                    (record.owner, record.values, record.links) = (owner, values, links);
                    record.unknown = unknown;
                    record.authenticated_at = authenticated_at;
                    (record.lifetime, record.ends_by) = (login.lifetime, login.ends_by);
                }
            }
            Self::ActAs { .. } | Self::Rotate | Self::Renew | Self::Present => {}
        }
    }

    /// Refuses a change that the user of the session may not make.
    pub(crate) fn check_user(&self, record: Option<&Record>) -> Result<(), SessionError> {
        let is_acting = record.is_some_and(|record| record.actor.is_some());
        let present = record.and_then(|record| record.owner.as_ref());
        match self {
            Self::ActAs { .. } | Self::Reauthenticate { .. } if is_acting => {
                Err(SessionError::Acting)
            }
            Self::ActAs { user, .. } if present.is_none_or(|owner| owner == user) => {
                Err(SessionError::CannotAct)
            }
            Self::Reauthenticate { owner, .. } if present != Some(owner) => {
                Err(SessionError::NotFresh)
            }
            _ => Ok(()),
        }
    }

    /// Returns `true` if the change signs a user in.
    pub(crate) fn is_login(&self) -> bool {
        matches!(self, Self::Authenticate(_))
    }

    /// Returns `true` if the change gives a session like `base` to another user, even if a later change
    /// gives it back.
    pub(crate) fn changes_user(&self, base: &Record) -> bool {
        match self {
            Self::Authenticate(Authentication { owner, .. }) => {
                base.actor.is_some() || base.owner.as_ref() != Some(owner)
            }
            Self::ActAs { .. } | Self::StopActing => true,
            _ => false,
        }
    }

    /// Returns `true` if the change closes the session's ID: from the commit on, the ID opens nothing.
    pub(crate) fn closes_id(&self) -> bool {
        matches!(
            self,
            Self::Authenticate(_)
                | Self::Reauthenticate { .. }
                | Self::Link(_)
                | Self::ActAs { .. }
                | Self::StopActing
                | Self::Rotate
        )
    }

    /// Returns `true` if a replay needs the changes of values before this change, also if later changes
    /// replace their results.
    pub(crate) fn needs_earlier_changes(&self) -> bool {
        matches!(self, Self::Update { is_conditional: true, .. } | Self::ActAs { .. })
    }

    /// Returns the name of the changed value, if the change concerns exactly one.
    pub(crate) fn name(&self) -> Option<&str> {
        match self {
            Self::Set { name, .. } | Self::Remove { name } | Self::Take { name, .. } => Some(name),
            Self::Update { name, .. } => Some(name),
            _ => None,
        }
    }
}

impl fmt::Debug for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Set { name, .. } => write!(f, "Set({name:?})"),
            Self::Remove { name } => write!(f, "Remove({name:?})"),
            Self::Update { name, .. } => write!(f, "Update({name:?})"),
            Self::Take { name, .. } => write!(f, "Take({name:?})"),
            Self::Clear { .. } => f.write_str("Clear"),
            Self::SetLifetime(lifetime) => write!(f, "SetLifetime({lifetime:?})"),
            Self::EndBy(at) => write!(f, "EndBy({at:?})"),
            Self::Authenticate(_) => f.write_str("Authenticate"),
            Self::Reauthenticate { .. } => f.write_str("Reauthenticate"),
            Self::Link(link) => write!(f, "Link({link})"),
            Self::ActAs { until, .. } => write!(f, "ActAs({until:?})"),
            Self::StopActing => f.write_str("StopActing"),
            Self::Rotate => f.write_str("Rotate"),
            Self::Renew => f.write_str("Renew"),
            Self::Present => f.write_str("Present"),
        }
    }
}

/// Applies all changes to a record, in their order. `is_own`: see [`Change::apply`].
pub(crate) fn replay<'c>(
    changes: impl IntoIterator<Item = &'c Change>,
    record: &mut Record,
    limits: &Limits,
    is_own: bool,
) -> Result<(), SessionError> {
    let extent = |record: &Record| (record.values.len(), record.values.size());
    let mut before = extent(record);
    for change in changes {
        if let Change::ActAs { .. } = change {
            record.values.check_growth(before, limits)?;
        }
        change.apply(record, is_own)?;
        if let Change::ActAs { .. } | Change::StopActing = change {
            // The values are now those of another login.
            before = extent(record);
        }
    }
    record.values.check_growth(before, limits)
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, sample::select};

    use super::*;
    use crate::record::too_large;

    /// A change as text, so that proptest can show it.
    #[derive(Clone, Debug)]
    enum Step {
        Set(&'static str, u8),
        Remove(&'static str),
        Increment(&'static str),
        Clear,
    }

    impl Step {
        fn change(&self) -> Box<Change> {
            Box::new(match *self {
                Self::Set(name, value) => {
                    Change::Set { name: name.into(), value: encoded(u64::from(value)) }
                }
                Self::Remove(name) => Change::Remove { name: name.into() },
                Self::Increment(name) => Change::Update {
                    name: name.into(),
                    is_conditional: false,
                    apply: Box::new(|present, _| Ok(Some(encoded(present.map_or(0, decoded) + 1)))),
                    preview: None,
                },
                Self::Clear => Change::Clear { seen: Vec::new() },
            })
        }
    }

    fn encoded(number: u64) -> Vec<u8> {
        number.to_be_bytes().to_vec()
    }

    fn decoded(value: &[u8]) -> u64 {
        u64::from_be_bytes(value.try_into().unwrap())
    }

    fn number(record: &Record, name: &str) -> Option<u64> {
        record.values.get(name).map(decoded)
    }

    fn empty() -> Record {
        Record::new(Timestamp::from_millis(0), Lifetime::default())
    }

    fn play(steps: &[Step], record: &mut Record) {
        let log: Vec<_> = steps.iter().map(Step::change).collect();
        replay(log.iter().map(|change| &**change), record, &Limits::default(), true).unwrap();
    }

    fn login(at: Timestamp) -> Authentication {
        let (lifetime, links) = (Lifetime::default(), Links::default());
        Authentication { owner: "ada".into(), at, lifetime, end: None, links }
    }

    fn steps(names: &'static [&'static str]) -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            (select(names), any::<u8>()).prop_map(|(name, value)| Step::Set(name, value)),
            select(names).prop_map(Step::Remove),
            select(names).prop_map(Step::Increment),
        ];
        vec(step, 0..12)
    }

    proptest! {
        /// I1: in either order of the commits, the values of both requests are as each request saw
        /// them.
        #[test]
        fn logs_on_different_names_commute(
            start in steps(&["a", "b", "c", "d"]),
            left in steps(&["a", "b"]),
            right in steps(&["c", "d"]),
        ) {
            let mut base = empty();
            play(&start, &mut base);
            let (mut alone_left, mut alone_right) = (base.clone(), base.clone());
            play(&left, &mut alone_left);
            play(&right, &mut alone_right);
            let (mut one, mut other) = (base.clone(), base);
            play(&left, &mut one);
            play(&right, &mut one);
            play(&right, &mut other);
            play(&left, &mut other);
            prop_assert_eq!(&one, &other);
            for name in ["a", "b"] {
                prop_assert_eq!(number(&one, name), number(&alone_left, name));
            }
            for name in ["c", "d"] {
                prop_assert_eq!(number(&one, name), number(&alone_right, name));
            }
        }

        /// I1: N increments add N, in any order of the commits and with any number of increments in
        /// each.
        #[test]
        fn increments_add_up(start in any::<u8>(), logs in vec(0..5u64, 0..20)) {
            let mut record = empty();
            play(&[Step::Set("n", start)], &mut record);
            for &count in &logs {
                let log: Vec<_> = (0..count).map(|_| Step::Increment("n")).collect();
                play(&log, &mut record);
            }
            let expected = u64::from(start) + logs.iter().sum::<u64>();
            prop_assert_eq!(number(&record, "n"), Some(expected));
        }

        /// A replay of two parts of the log, one after the other, equals a replay of the whole log.
        #[test]
        fn a_log_can_be_cut_anywhere(
            log in steps(&["a", "b", "c"]),
            at in any::<prop::sample::Index>(),
            clear in any::<bool>(),
        ) {
            let mut log = log;
            if clear {
                log.insert(at.index(log.len() + 1), Step::Clear);
            }
            let at = at.index(log.len() + 1);
            let (mut whole, mut parts) = (empty(), empty());
            play(&log, &mut whole);
            play(&log[..at], &mut parts);
            play(&log[at..], &mut parts);
            prop_assert_eq!(whole, parts);
        }
    }

    #[test]
    fn a_replay_minds_the_limits() {
        let log = [Step::Set("a", 1), Step::Set("b", 1)].map(|step| step.change());
        let limits = Limits::default().with_values(1);
        assert!(matches!(
            replay(log.iter().map(|change| &**change), &mut empty(), &limits, true),
            Err(SessionError::TooLarge { limit: 1, .. })
        ));
    }

    #[test]
    fn a_replay_stops_at_an_update_that_fails() {
        let fail = Box::new(Change::Update {
            name: "a".into(),
            is_conditional: false,
            apply: Box::new(|_, _| Err(too_large("the value", 1))),
            preview: None,
        });
        let mut record = empty();
        assert!(replay([&*fail], &mut record, &Limits::default(), true).is_err());
        assert!(record.values.is_empty());
    }

    #[test]
    fn login_never_moves_the_last_use_back() {
        let mut record = empty().seen(Timestamp::from_millis(100));
        let at = Timestamp::from_millis(50);
        Change::Authenticate(login(at)).apply(&mut record, true).unwrap();
        assert_eq!(record.last_seen_at.as_millis(), 100);
        assert_eq!(record.created_at, at);
    }

    /// I10: values and owners are hidden.
    #[test]
    fn debug_shows_names_only() {
        let changes = [
            Step::Set("a", 7).change(),
            Step::Increment("b").change(),
            Box::new(Change::Authenticate(login(Timestamp::default()))),
        ];
        insta::assert_snapshot!(
            format!("{changes:?}"),
            @r#"[Set("a"), Update("b"), Authenticate]"#
        );
    }
}
