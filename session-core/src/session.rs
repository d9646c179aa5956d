use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::{
    Codec, Key, Lifetime, Owner, Record, SessionError, SessionId, SessionKey, Sessions, Timestamp,
    change::{Apply, Change},
    lease::Standing,
    sessions::{Home, Presented},
    state::State,
    values::{self, Values},
};

/// The session of one request: a snapshot to read, and a log of what the request changes.
///
/// Nothing here touches the store but [`commit`](Self::commit), [`finish`](Self::finish) and
/// [`lock`](Self::lock). What is
/// changed is seen at once by this request, and takes effect for others together, in the order of the
/// calls, at the commit.
///
/// Clones are the same session.
#[derive(Clone)]
pub struct Session(Arc<Shared>);

struct Shared {
    sessions: Arc<Sessions>,
    state: Mutex<State>,
    /// Held while the session is committed. Not the kind of lock that is fair: that one allocates each time
    /// it is freed, and here only clones within a request meet.
    committing: futures_util::lock::Mutex<()>,
}

impl Drop for Shared {
    /// A request that was cancelled, or could not be finished, leaves its lock to whoever is next.
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(hold) = state.hold.take()
            && hold.leased
            && let Some(home) = state.home.take().or_else(|| state.left.take())
        {
            self.sessions.release_soon(home, hold.token);
        }
    }
}

impl Session {
    pub(crate) fn at_home(sessions: &Arc<Sessions>, home: Home, tell: bool) -> Self {
        // Once it is ended, the cookie that opened it opens nothing.
        let state = State { home: Some(home), tell, ..State::empty(Presented::Dead) };
        Self::new(sessions, state)
    }

    pub(crate) fn fresh(
        sessions: &Arc<Sessions>,
        presented: Presented,
        unreadable: Vec<SessionKey>,
        missing: Vec<SessionKey>,
    ) -> Self {
        let opened_nothing = presented == Presented::Dead;
        let empty = State::empty(presented);
        Self::new(sessions, State { unreadable, missing, opened_nothing, ..empty })
    }

    fn new(sessions: &Arc<Sessions>, state: State) -> Self {
        Self(Arc::new(Shared {
            sessions: Arc::clone(sessions),
            state: Mutex::new(state),
            committing: futures_util::lock::Mutex::new(()),
        }))
    }

    /// Reads a value, if it is there.
    ///
    /// A value that cannot be decoded, because it is not of the key's type and format, counts as
    /// missing: after a deployment that changed a type, a request that reads an old value goes on as if
    /// there were none, instead of failing for as long as the session lives (I11). It is reported by a
    /// `tracing` event and [counted](Sessions::unreadable_values). Where the difference matters, use
    /// [`try_get`](Self::try_get).
    #[must_use]
    pub fn get<T, C: Codec<T>>(&self, key: Key<'_, T, C>) -> Option<T> {
        let record = self.record_in_view()?;
        let value = record.values.get(key.name())?;
        self.sessions().decode_or_report::<T, C>(key.name(), value)
    }

    /// Reads a value, if it is there, and tells if it cannot be decoded.
    ///
    /// # Errors
    ///
    /// Returns [`SessionError::Decode`] if what is stored is not of the key's type and format.
    pub fn try_get<T, C: Codec<T>>(&self, key: Key<'_, T, C>) -> Result<Option<T>, SessionError> {
        let record = self.record_in_view();
        let value = record.as_ref().and_then(|record| record.values.get(key.name()));
        value.map(|value| values::decode::<T, C>(key.name(), value)).transpose()
    }

    /// Tells whether there is a value of this name, of whatever type.
    #[must_use]
    pub fn contains<T, C>(&self, key: Key<'_, T, C>) -> bool {
        self.state().value(key.name()).is_some()
    }

    /// The names of all values, in their order.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let state = self.state();
        state
            .view()
            .map_or_else(Vec::new, |record| record.values.names().map(str::to_owned).collect())
    }

    /// Writes a value. Of two requests that set the same one, the later commit wins; to count or to
    /// collect, use [`update`](Self::update).
    ///
    /// # Errors
    ///
    /// Returns [`SessionError::Encode`] if the value has no form in the key's format,
    /// [`SessionError::TooLarge`] if it exceeds one of the [`Limits`](crate::Limits), and [`SessionError::Closed`]
    /// after the response has begun. Nothing is changed then.
    pub fn set<T, C: Codec<T>>(&self, key: Key<'_, T, C>, value: &T) -> Result<(), SessionError> {
        let name = key.name();
        let value = values::encode::<T, C>(name, value, &self.sessions().limits)?;
        let mut state = self.open_state()?;
        let weak = state.is_stored_as(name, &value);
        self.record(&mut state, Change::Set { name: name.into(), value }, weak)
    }

    /// Changes a value in place, starting from its default if there is none, and returns how it is now.
    ///
    /// The closure is called again on the newer value if another request committed in between, so that
    /// N increments at the same time add N (I1). What was returned here is not what counts then. A value
    /// that cannot be decoded counts as missing, as for [`get`](Self::get). The closure may read the session,
    /// but not change it.
    ///
    /// # Errors
    ///
    /// Those of [`set`](Self::set). A closure that is called again at the commit can make the same
    /// errors arise there.
    pub fn update<T, C>(
        &self,
        key: Key<'_, T, C>,
        change: impl Fn(&mut T) + Send + Sync + 'static,
    ) -> Result<T, SessionError>
    where
        T: Default + 'static,
        C: Codec<T> + 'static,
    {
        let name: Arc<str> = key.name().into();
        let limits = self.sessions().limits;
        let step = {
            let name = Arc::clone(&name);
            let sessions = Arc::clone(self.sessions());
            move |present: Option<&[u8]>| {
                let mut value = present
                    .and_then(|value| sessions.decode_or_report::<T, C>(&name, value))
                    .unwrap_or_default();
                change(&mut value);
                let encoded = values::encode::<T, C>(&name, &value, &limits)?;
                Ok::<_, SessionError>((value, encoded))
            }
        };
        // The application's code runs without the lock, so that it may use the session.
        let mut before = self.open_state()?.view().cloned();
        loop {
            let present = before.as_ref().and_then(|record| record.values.get(&name));
            let (value, encoded) = step(present)?;
            let mut state = self.open_state()?;
            let same = match (state.view(), &before) {
                (Some(now), Some(before)) => Arc::ptr_eq(now, before),
                (now, before) => now.is_none() && before.is_none(),
            };
            if !same && state.value(&name) != present {
                before = state.view().cloned();
                continue;
            }
            let weak = present == Some(&encoded) && state.is_stored_as(&name, &encoded);
            // Else the draft would be copied for its sake.
            drop(before);
            let apply: Box<Apply> = Box::new(move |present| Ok(step(present)?.1));
            self.record_as(&mut state, Change::Update { name, apply }, Some(&encoded), weak)?;
            return Ok(value);
        }
    }

    /// Removes a value.
    ///
    /// # Errors
    ///
    /// Returns [`SessionError::TooLarge`] beyond [`Limits::CHANGES`](crate::Limits::CHANGES), and
    /// [`SessionError::Closed`] after the response has begun. Nothing is changed then.
    pub fn remove<T, C>(&self, key: Key<'_, T, C>) -> Result<(), SessionError> {
        let mut state = self.open_state()?;
        let weak = state.value(key.name()).is_none();
        self.record(&mut state, Change::Remove { name: key.name().into() }, weak)
    }

    /// Removes a value and returns what it was: for a message that is shown once.
    ///
    /// Two requests at the same time can both take the same value: what must be used only once, like a
    /// token, needs a place of its own that is changed atomically.
    ///
    /// # Errors
    ///
    /// Those of [`remove`](Self::remove).
    pub fn take<T, C: Codec<T>>(&self, key: Key<'_, T, C>) -> Result<Option<T>, SessionError> {
        let value = self.get(key);
        self.remove(key)?;
        Ok(value)
    }

    /// Removes all values. The session, its ID and its owner stay; to end it, use
    /// [`destroy`](Self::destroy).
    ///
    /// # Errors
    ///
    /// Returns [`SessionError::TooLarge`] beyond [`Limits::CHANGES`](crate::Limits::CHANGES), and
    /// [`SessionError::Closed`] after the response has begun. Nothing is changed then.
    pub fn clear(&self) -> Result<(), SessionError> {
        let mut state = self.open_state()?;
        let weak = state.view().is_none_or(|record| record.values.is_empty());
        self.record(&mut state, Change::Clear, weak)
    }

    /// Says who the session belongs to from now on, after a login or a change of privileges.
    ///
    /// At the commit the session gets a new ID, and the old one opens nothing from then on (OWASP ASVS
    /// 5.0, 7.2.4). What a visitor left in the session stays, like a cart, and what its owner left stays for
    /// the owner; another one begins without values.
    ///
    /// The absolute lifetime begins anew. A [visitor's lifetime](Sessions::with_anonymous_lifetime)
    /// becomes a user's, and an [end](Self::end_by) that was set with the login before no longer counts.
    ///
    /// # Errors
    ///
    /// Returns [`SessionError::TooLarge`] if the owner is longer than
    /// [`Limits::OWNER_BYTES`](crate::Limits::OWNER_BYTES), or more was recorded than
    /// [`Limits::CHANGES`](crate::Limits::CHANGES) allow, and [`SessionError::Closed`] after the response has
    /// begun. Nothing is changed then.
    pub fn authenticate(&self, owner: impl Into<Owner>) -> Result<(), SessionError> {
        let owner = Owner::checked(owner)?;
        let (at, lifetime) = (self.sessions().now(), self.sessions().lifetime);
        let mut state = self.open_state()?;
        // An end that this request set is meant for the session that the login begins. Of several the
        // earliest counts.
        let end = state.log.iter().filter_map(|change| change.end()).min();
        // The login and its end are recorded both or neither.
        state.check_room(1 + usize::from(end.is_some()))?;
        // What the cookie named is ended by the login, readable or not.
        state.doom_unreadable();
        self.record(&mut state, Change::Authenticate { owner, at, lifetime }, false)?;
        end.map_or(Ok(()), |end| self.record(&mut state, Change::EndBy(end), false))
    }

    /// Gives the session a new ID at the commit. The old one still opens it for the
    /// [grace time](Sessions::with_renewal_grace), for requests that were sent together with this one
    /// and for the case that its response is lost.
    ///
    /// After a login use [`authenticate`](Self::authenticate). Nothing happens to a session that was
    /// never stored.
    ///
    /// # Errors
    ///
    /// Returns [`SessionError::TooLarge`] beyond [`Limits::CHANGES`](crate::Limits::CHANGES), and
    /// [`SessionError::Closed`] after the response has begun. Nothing is changed then.
    pub fn renew(&self) -> Result<(), SessionError> {
        let at = self.sessions().now();
        let mut state = self.open_state()?;
        if state.home.is_none() {
            return Ok(());
        }
        self.record(&mut state, Change::Renew { at }, false)
    }

    /// Sets how long this session lives, from its begin on: "remember me". It is kept in the session,
    /// through logins too. An end that was set by [`end_by`](Self::end_by) stays.
    ///
    /// # Errors
    ///
    /// Returns [`SessionError::TooLarge`] beyond [`Limits::CHANGES`](crate::Limits::CHANGES), and
    /// [`SessionError::Closed`] after the response has begun. Nothing is changed then.
    pub fn set_lifetime(&self, lifetime: Lifetime) -> Result<(), SessionError> {
        let mut state = self.open_state()?;
        let weak =
            state.view().is_some_and(|record| record.lifetime == lifetime && !record.provisional);
        self.record(&mut state, Change::SetLifetime(lifetime), weak)
    }

    /// Ends the session at the commit: it is removed from the store, for every request that starts
    /// later and every one under way (I2), and the cookie is removed.
    ///
    /// What is written after this belongs to a new session with an ID of its own, like a farewell on
    /// the next page.
    ///
    /// # Errors
    ///
    /// Returns [`SessionError::Closed`] after the response has begun.
    pub fn destroy(&self) -> Result<(), SessionError> {
        let mut state = self.open_state()?;
        if let Some(home) = state.home.take() {
            state.doomed.push(home.key);
            state.left.get_or_insert(home);
        }
        state.doom_unreadable();
        // An end that was done before may have to be confirmed: it is asked for again.
        state.doom_missing();
        if state.presented == Presented::Superseded {
            // Who ends a session that another one took the place of wants a fresh one.
            state.presented = Presented::Nothing;
        }
        state.endings += 1;
        state.forget_changes();
        Ok(())
    }

    /// Gives up all that was recorded since the last commit.
    pub fn discard(&self) {
        let now = self.sessions().now();
        let mut state = self.state();
        if let Some(home) = state.left.take() {
            state.home = Some(home);
            // A lock that was taken since was on a session not stored yet. On this one it is as good as
            // lost, for another request may hold it.
            if let Some(hold) = &mut state.hold {
                hold.leased |= hold.standing == Standing::Held;
            }
        }
        state.doomed.clear();
        state.endings = state.endings_at_commit;
        state.forget_changes();
        // With what was done under a lock that was lost, noticed or not, and is not held any more, that
        // is settled.
        state.settle_hold(now);
        // What a commit under way comes to is not known yet.
        if self.committing().try_lock().is_some() {
            state.unconfirmed = false;
        }
    }

    /// The key under which the session is stored, safe to log. None if it is not stored yet.
    ///
    /// [`authenticate`](Self::authenticate) and [`renew`](Self::renew) change it at the commit.
    #[must_use]
    pub fn key(&self) -> Option<SessionKey> {
        self.state().home.as_ref().map(|home| home.key)
    }

    /// Tells whether the client came with an ID that opens nothing: of a session that has expired or was
    /// ended, by a logout, by the user on another device, or by an administrator. For a note such as "You
    /// have been signed out".
    ///
    /// It is no proof that there ever was a session: anybody can send an ID that was made up.
    #[must_use]
    pub fn cookie_opened_nothing(&self) -> bool {
        self.state().opened_nothing
    }

    /// Whose session it is, if somebody signed in.
    #[must_use]
    pub fn owner(&self) -> Option<Owner> {
        self.state().view()?.owner.clone()
    }

    /// When the owner last signed in.
    #[must_use]
    pub fn authenticated_at(&self) -> Option<Timestamp> {
        self.state().view()?.authenticated_at
    }

    /// When the session began: when it was first written to, or when its owner signed in.
    #[must_use]
    pub fn created_at(&self) -> Option<Timestamp> {
        Some(self.state().view()?.created_at)
    }

    /// When the session ends if no further request comes.
    #[must_use]
    pub fn expires_at(&self) -> Option<Timestamp> {
        Some(self.state().view()?.expires_at())
    }

    /// How long the session lives.
    #[must_use]
    pub fn lifetime(&self) -> Lifetime {
        let lifetime = self.state().view().map(|record| record.lifetime);
        lifetime.unwrap_or_else(|| self.sessions().anonymous_lifetime())
    }

    /// The sessions of the application, to list and to end those of an owner.
    #[must_use]
    pub fn sessions(&self) -> &Arc<Sessions> {
        &self.0.sessions
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        // No code of the application runs under the lock, and no step of ours leaves it half done.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn committing(&self) -> &futures_util::lock::Mutex<()> {
        &self.0.committing
    }

    /// The record as this request sees it, to be read without the lock: decoding runs code of the
    /// application.
    fn record_in_view(&self) -> Option<Arc<Record>> {
        self.state().view().cloned()
    }

    pub(crate) fn open_state(&self) -> Result<MutexGuard<'_, State>, SessionError> {
        let state = self.state();
        if state.closed { Err(SessionError::Closed) } else { Ok(state) }
    }

    /// Does a change to the draft and logs it, or neither.
    pub(crate) fn record(
        &self,
        state: &mut State,
        change: Change,
        weak: bool,
    ) -> Result<(), SessionError> {
        self.record_as(state, change, None, weak)
    }

    /// Does a change, given what it computes, if it computes something: that is not done twice.
    ///
    /// A weak change is one that changes nothing this request can see. It is replayed with the others,
    /// for another request may have committed something else meanwhile, but is no reason to commit.
    fn record_as(
        &self,
        state: &mut State,
        change: Change,
        computed: Option<&[u8]>,
        weak: bool,
    ) -> Result<(), SessionError> {
        state.check_room(1)?;
        if weak {
            if state.home.is_some() {
                state.log(change);
            }
            return Ok(());
        }
        let value = match &change {
            Change::Set { value, .. } => Some(&value[..]),
            _ => computed,
        };
        if let (Some(name), Some(value)) = (change.name(), value) {
            let empty = Values::default();
            let present = state.view().map_or(&empty, |record| &record.values);
            present.check_set(name, value, &self.sessions().limits)?;
        }
        let draft = state.draft.get_or_insert_with(|| match &state.home {
            Some(home) => Arc::clone(&home.record),
            None => {
                let lifetime = self.sessions().anonymous_lifetime();
                let provisional = self.sessions().anonymous_lifetime.is_some();
                Arc::new(Record { provisional, ..Record::new(self.sessions().now(), lifetime) })
            }
        });
        let draft = Arc::make_mut(draft);
        match (change.name(), value) {
            (Some(name), Some(value)) => draft.values.set(name, value),
            _ => change.apply(draft)?,
        }
        state.log(change);
        state.dirty = true;
        Ok(())
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        f.debug_struct("Session")
            .field("key", &state.home.as_ref().map(|home| home.key))
            .field("changes", &state.log)
            .finish_non_exhaustive()
    }
}

/// What a response has to do to the client's cookie.
#[derive(Clone, Debug)]
#[must_use]
pub enum CookieChange {
    /// Nothing.
    Keep,
    /// Set it to this ID.
    Set {
        /// The ID to tell the client.
        id: SessionId,
        /// How long the client shall keep the cookie; until it is closed, if nothing is said.
        max_age: Option<Duration>,
    },
    /// Remove it.
    Remove,
}
