//! The values of a session: read, written and updated.

use std::sync::Arc;

use super::{IntoValue, Session};
use crate::{
    BoxError, Codec, Key, Record, SessionError,
    record::{Apply, Change, Values, View, decode, encode},
};

impl Session {
    /// Reads a value. Returns `None` if the value is missing.
    ///
    /// A value of another type or format than the key's counts as missing, so that requests go on
    /// after a deployment that changed a type ([I11]). The failure is reported by a `tracing` event
    /// and [counted](crate::Sessions::unreadable_values). If the difference matters, use
    /// [`try_get`](Self::try_get).
    ///
    /// [I11]: crate::guarantees#i11-deployments-survive
    #[must_use]
    pub fn get<T, C: Codec<T>>(&self, key: Key<'_, T, C>) -> Option<T> {
        let record = self.view()?;
        let value = record.values.get(key.name())?;
        self.protocol().decode_or_report::<T, C>(key.name(), value)
    }

    /// Reads a value. Returns `None` if the value is missing.
    ///
    /// # Errors
    ///
    /// Returns [`SessionError::Decode`] if the stored value is not of the key's type and format.
    pub fn try_get<T, C: Codec<T>>(&self, key: Key<'_, T, C>) -> Result<Option<T>, SessionError> {
        let record = self.view();
        let value = record.as_ref().and_then(|record| record.values.get(key.name()));
        value.map(|value| decode::<T, C>(key.name(), value)).transpose()
    }

    /// Returns `true` if the session has a value of this name, of any type.
    #[must_use]
    pub fn contains<T, C>(&self, key: Key<'_, T, C>) -> bool {
        self.state().value(key.name()).is_some()
    }

    /// Returns the names of all values, in their order.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let record = self.view();
        record.map_or_else(Vec::new, |record| record.values.names().map(str::to_owned).collect())
    }

    /// Writes a value: `set(KEY, &cart)`, `set(KEY, 7)`, `set(NAME, "Ada")`.
    ///
    /// If two requests set the same value, the later commit wins. To count or to collect, use
    /// [`update`](Self::update).
    ///
    /// # Errors
    ///
    /// Returns [`SessionError::Encode`] if the key's format cannot represent the value so that
    /// [`get`](Self::get) reads it back equal (see [refused
    /// values](crate::MessagePack#refused-values)). Returns [`SessionError::TooLarge`] if the value
    /// exceeds one of the [`Limits`](crate::Limits), and [`SessionError::Closed`] after the response
    /// has begun. After an error the session is unchanged.
    pub fn set<T, C: Codec<T>>(
        &self,
        key: Key<'_, T, C>,
        value: impl IntoValue<T>,
    ) -> Result<(), SessionError> {
        let name = key.name();
        let limits = &self.protocol().settings.limits;
        let value = value.lend(|value| encode::<T, C>(name, value, limits))?;
        let state = self.open_state()?;
        let only_confirms = state.is_stored_as(name, &value);
        if !only_confirms {
            self.check_set(state.view().map(|record| &record.values), name, &value)?;
        }
        self.change(state, Change::Set { name: name.into(), value }, only_confirms)
    }

    /// Changes a value in place, and returns the new value. A missing value starts from its
    /// default.
    ///
    /// If another request commits in between, the closure runs again on the newer value, so that N
    /// concurrent increments add N ([I1]). The returned value is then outdated: the store has the
    /// result of the last run.
    ///
    /// The closure owns its captured values, because it may run after this call. The closure may
    /// run more than once: if it stores a captured value, clone the value.
    ///
    /// ```
    /// # use session_core::{Key, Session, SessionError};
    /// const VISITS: Key<u64> = Key::new("visits");
    ///
    /// # fn handler(session: &Session) -> Result<(), SessionError> {
    /// let visits = session.update(VISITS, |n| *n += 1)?;
    ///
    /// const SEEN: Key<Vec<String>> = Key::new("seen");
    /// let page = "tea".to_owned();
    /// session.update(SEEN, move |pages| pages.push(page.clone()))?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns [`SessionError::Decode`] if the stored value is not of the key's type and format, as
    /// after a deployment that was rolled back. The value stays. To start afresh instead, use
    /// [`update_or_reset`](Self::update_or_reset).
    ///
    /// Also returns the errors of [`set`](Self::set), and [`SessionError::Contended`] if clones of
    /// the session change the same value all the time. If the commit runs the closure again, the
    /// commit can return the same errors.
    ///
    /// [I1]: crate::guarantees#i1-no-lost-update
    pub fn update<T, C>(
        &self,
        key: Key<'_, T, C>,
        change: impl Fn(&mut T) + Send + Sync + 'static,
    ) -> Result<T, SessionError>
    where
        T: Default + 'static,
        C: Codec<T> + 'static,
    {
        self.update_by::<T, C>(key.name(), UpdateKind::Plain, move |value, _| {
            change(value);
            Ok(())
        })
    }

    /// Does the same as [`update`](Self::update), but overwrites a stored value that cannot be
    /// decoded, as if the value were missing.
    ///
    /// # Errors
    ///
    /// The errors of [`update`](Self::update), except [`SessionError::Decode`].
    pub fn update_or_reset<T, C>(
        &self,
        key: Key<'_, T, C>,
        change: impl Fn(&mut T) + Send + Sync + 'static,
    ) -> Result<T, SessionError>
    where
        T: Default + 'static,
        C: Codec<T> + 'static,
    {
        self.update_by::<T, C>(key.name(), UpdateKind::OrReset, move |value, _| {
            change(value);
            Ok(())
        })
    }

    /// Does the same as [`update`](Self::update) with a closure that can refuse the change, and can
    /// read the other values. Use this for a limit, or for a condition on another value.
    ///
    /// ```
    /// # use session_core::{Key, Session, SessionError};
    /// const CART: Key<Vec<u32>> = Key::new("cart");
    ///
    /// # fn handler(session: &Session) -> Result<(), SessionError> {
    /// session.try_update(CART, |cart, _view| {
    ///     if cart.len() == 100 {
    ///         return Err("the cart is full");
    ///     }
    ///     cart.push(7);
    ///     Ok(())
    /// })?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns [`SessionError::Refused`] if the closure returns an error, here or when the commit
    /// runs it again. Also the errors of [`update`](Self::update).
    pub fn try_update<T, C, E>(
        &self,
        key: Key<'_, T, C>,
        change: impl Fn(&mut T, &View<'_>) -> Result<(), E> + Send + Sync + 'static,
    ) -> Result<T, SessionError>
    where
        T: Default + 'static,
        C: Codec<T> + 'static,
        E: Into<BoxError>,
    {
        let name: Box<str> = key.name().into();
        self.update_by::<T, C>(key.name(), UpdateKind::Conditional, move |value, view| {
            change(value, view).map_err(|error| SessionError::Refused {
                name: name.to_string(),
                source: error.into(),
            })
        })
    }

    /// Removes a value.
    ///
    /// # Errors
    ///
    /// Returns [`SessionError::TooLarge`] beyond [`Limits::CHANGES`](crate::Limits::CHANGES), and
    /// [`SessionError::Closed`] after the response has begun. After an error the session is
    /// unchanged.
    pub fn remove<T, C>(&self, key: Key<'_, T, C>) -> Result<(), SessionError> {
        let state = self.open_state()?;
        let only_confirms = state.value(key.name()).is_none();
        self.change(state, Change::Remove { name: key.name().into() }, only_confirms)
    }

    /// Removes and returns a value.
    ///
    /// Two concurrent requests can both take the same value. For a value that must be used once
    /// only, use [`take_once`](Self::take_once), for tokens [`issue`](Self::issue), and for messages
    /// [`flash`](Self::flash).
    ///
    /// # Errors
    ///
    /// The errors of [`remove`](Self::remove).
    pub fn take<T, C: Codec<T>>(&self, key: Key<'_, T, C>) -> Result<Option<T>, SessionError> {
        let value = self.get(key);
        self.remove(key)?;
        Ok(value)
    }

    /// Removes all values. The session, its ID and its owner stay. To end the session, use
    /// [`destroy`](Self::destroy).
    ///
    /// # Errors
    ///
    /// Returns [`SessionError::TooLarge`] beyond [`Limits::CHANGES`](crate::Limits::CHANGES), and
    /// [`SessionError::Closed`] after the response has begun. After an error the session is
    /// unchanged.
    pub fn clear(&self) -> Result<(), SessionError> {
        let state = self.open_state()?;
        let removal = |name: &str| Change::Remove { name: name.into() };
        let seen: Vec<_> = match state.view() {
            Some(record) => record.values.names().map(removal).collect(),
            None => Vec::new(),
        };
        let only_confirms = seen.is_empty();
        self.change(state, Change::Clear { seen }, only_confirms)
    }

    /// Runs the closure outside the lock of the state. The result counts if the closure's input has
    /// not changed meanwhile.
    fn update_by<T, C>(
        &self,
        name: &str,
        kind: UpdateKind,
        change: impl Fn(&mut T, &View<'_>) -> Result<(), SessionError> + Send + Sync + 'static,
    ) -> Result<T, SessionError>
    where
        T: Default + 'static,
        C: Codec<T> + 'static,
    {
        let limits = self.protocol().settings.limits;
        let run = {
            let name: Box<str> = name.into();
            move |present: Option<&[u8]>, view: &View<'_>| {
                let mut value = match present.map(|value| decode::<T, C>(&name, value)) {
                    None => T::default(),
                    Some(Ok(value)) => value,
                    Some(Err(_)) if kind == UpdateKind::OrReset => T::default(),
                    Some(Err(error)) => return Err(error),
                };
                change(&mut value, view)?;
                let encoded = encode::<T, C>(&name, &value, &limits)?;
                Ok((value, encoded))
            }
        };
        for _ in 0..MAX_RACES {
            let before = {
                let state = self.open_state()?;
                state.view().cloned()
            };
            let present = before.as_ref().and_then(|record| record.values.get(name));
            let (value, preview) = run(present, &View::new(before.as_deref()))?;
            let state = self.open_state()?;
            let is_unchanged = match kind {
                UpdateKind::Plain | UpdateKind::OrReset => state.value(name) == present,
                UpdateKind::Conditional => is_same_view(state.view(), before.as_ref()),
            };
            if !is_unchanged {
                // A clone of the session has changed the input meanwhile.
                continue;
            }
            let only_confirms = present == Some(&preview) && state.is_stored_as(name, &preview);
            if !only_confirms {
                self.check_set(state.view().map(|record| &record.values), name, &preview)?;
            }
            // Another reference to the record would make the change copy the record.
            drop(before);
            let apply: Box<Apply> = Box::new(move |present, view| Ok(Some(run(present, view)?.1)));
            let is_conditional = kind == UpdateKind::Conditional;
            let update =
                Change::Update { name: name.into(), is_conditional, apply, preview: Some(preview) };
            self.change(state, update, only_confirms)?;
            return Ok(value);
        }
        Err(SessionError::Contended)
    }

    pub(super) fn check_set(
        &self,
        values: Option<&Values>,
        name: &str,
        value: &[u8],
    ) -> Result<(), SessionError> {
        let empty = Values::default();
        values.unwrap_or(&empty).check_set(name, value, &self.protocol().settings.limits)
    }
}

/// The kind of an update.
#[derive(Clone, Copy, Eq, PartialEq)]
enum UpdateKind {
    /// A value that cannot be decoded is an error.
    Plain,
    /// A value that cannot be decoded counts as missing.
    OrReset,
    /// The closure reads the other values too.
    Conditional,
}

/// Returns `true` if an update's closure reads the same data from both records.
fn is_same_view(left: Option<&Arc<Record>>, right: Option<&Arc<Record>>) -> bool {
    match (left, right) {
        (Some(left), Some(right)) => {
            Arc::ptr_eq(left, right) || (left.values == right.values && left.is_of_same_user(right))
        }
        (left, right) => left.is_none() && right.is_none(),
    }
}

/// The number of attempts of an update while clones of the session change the same value.
const MAX_RACES: usize = 8;
