//! Values that concurrent requests agree on: the store decides before the handler goes on.
//!
//! ```text
//! take_once        commit the removal of this very value   ──▶ one request receives the value
//! get_or_insert    commit the value, if there is none yet  ──▶ all requests receive the same value
//! ```

use super::Session;
use crate::{
    Codec, Key, SessionError,
    record::{Apply, Change, decode, encode},
};

impl Session {
    /// Returns a value. If the value is missing, commits the result of `make` first, so that all
    /// concurrent requests of the session receive the same value. Use this for a number or a secret
    /// that a page shows.
    ///
    /// A stored value costs no command. A missing value commits the earlier changes of the request
    /// too. Two first requests of a browser without a cookie begin two sessions, with a value each.
    ///
    /// # Errors
    ///
    /// The errors of [`commit`](Self::commit), [`set`](Self::set) and [`try_get`](Self::try_get):
    /// a stored value of another type is never overwritten. Returns [`SessionError::Ended`] if
    /// another request's login or rotation came first, because this request must not see the new
    /// session. Returns [`SessionError::Contended`] if a clone of the session removes the value
    /// concurrently.
    ///
    /// # Examples
    ///
    /// ```
    /// # use session_core::{Key, Session, SessionError};
    /// const ORDER: Key<u64> = Key::new("order");
    ///
    /// # fn new_number() -> u64 { 7 }
    /// async fn order_number(session: &Session) -> Result<u64, SessionError> {
    ///     session.get_or_insert(ORDER, new_number).await
    /// }
    /// ```
    pub async fn get_or_insert<T, C: Codec<T>>(
        &self,
        key: Key<'_, T, C>,
        make: impl FnOnce() -> T,
    ) -> Result<T, SessionError> {
        let name = key.name();
        let _turn = self.committing().lock().await;
        if let Some(stored) = self.stored_and_seen(name)? {
            return decode::<T, C>(name, &stored);
        }
        if !self.contains(key) {
            let made = encode::<T, C>(name, &make(), &self.protocol().settings.limits)?;
            self.insert_if_missing(name, made)?;
        }
        self.flush(false).await?;
        let stored = self.state().stored_value(name)?.map(<[u8]>::to_vec);
        decode::<T, C>(name, &stored.ok_or(SessionError::Contended)?)
    }

    /// Removes a value and commits, so that only one of all concurrent requests receives the value.
    /// For values under tokens, such as the `state` of an OAuth login, use [`issue`](Self::issue).
    ///
    /// Commits the earlier changes of the request first. Returns `None` if the value is missing, or
    /// if another request took or changed the value first.
    ///
    /// # Errors
    ///
    /// The errors of [`commit`](Self::commit) and [`try_get`](Self::try_get). After an error, the
    /// value may have been removed.
    pub async fn take_once<T, C: Codec<T>>(
        &self,
        key: Key<'_, T, C>,
    ) -> Result<Option<T>, SessionError> {
        let _turn = self.committing().lock().await;
        self.flush(false).await?;
        let Some(located) = self.open_state()?.located().cloned() else { return Ok(None) };
        let name = key.name();
        let Some(stored) = located.record.values.get(name) else { return Ok(None) };
        let value = decode::<T, C>(name, stored)?;
        let take = Change::Take { name: name.into(), value: stored.to_vec() };
        match self.commit_alone(located, take).await {
            Ok(()) => Ok(Some(value)),
            Err(SessionError::Taken) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Returns a stored value, unless this request has changed it since.
    fn stored_and_seen(&self, name: &str) -> Result<Option<Vec<u8>>, SessionError> {
        let state = self.state();
        let stored = state.stored_value(name)?;
        Ok(stored.filter(|stored| state.value(name) == Some(stored)).map(<[u8]>::to_vec))
    }

    /// Records a value that counts only if the session has none of this name at the commit.
    fn insert_if_missing(&self, name: &str, made: Vec<u8>) -> Result<(), SessionError> {
        let state = self.open_state()?;
        if state.value(name).is_some() {
            // A clone of the session was faster.
            return Ok(());
        }
        self.check_set(state.view().map(|record| &record.values), name, &made)?;
        let preview = Some(made.clone());
        let apply: Box<Apply> =
            Box::new(move |present, _| Ok(Some(present.unwrap_or(&made).to_vec())));
        let insert = Change::Update { name: name.into(), is_conditional: false, apply, preview };
        self.change(state, insert, false)
    }
}
