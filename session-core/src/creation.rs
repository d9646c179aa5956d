//! How a session gets its place: under a fresh ID, and in its owner's index before anything else.

use std::sync::Arc;

use futures_util::future::try_join_all;

use crate::{
    Created, Entry, OwnerKey, Record, SessionError, SessionKey, Sessions, StoreError,
    StoreErrorKind, Tombstone,
    admission::Admittance,
    merge::MAX_CONFLICTS,
    sessions::Home,
    work::{Rotation, Stamp},
};

impl Sessions {
    /// Stores a session under a fresh ID, in place of the one that it is made of, if there is one.
    pub(crate) async fn create(
        &self,
        record: &Arc<Record>,
        rotation: Option<Rotation>,
        former: Option<&Home>,
        stamp: Stamp,
    ) -> Result<Placed, SessionError> {
        let mut collisions = 0;
        for _ in 0..MAX_CONFLICTS {
            self.check_patience(stamp)?;
            let id = self.ids.generate();
            let key = id.key();
            // Boxed, like what is done to an index: most commits do not need it and would carry its size
            // about.
            let mut siblings = Vec::new();
            if rotation == Some(Rotation::Login) && self.session_limit.is_some() {
                siblings = match Box::pin(self.admit(&key, record, former, stamp)).await? {
                    Admittance::Admitted(siblings) => siblings,
                    Admittance::FormerMoved(tombstone) => {
                        return Ok(Placed::FormerMoved(tombstone));
                    }
                };
            }
            match self.create_at(&key, record, stamp).await {
                Ok(Created::Created) => {
                    let record = Arc::clone(record);
                    return Ok(Placed::At(Home { key, id: Some(id), record }, siblings));
                }
                Ok(Created::Exists) if self.is_barred(&key).await? => {
                    // Who ended the owner's sessions met the key in the index, and nothing under it yet; or
                    // it was not known whether there was.
                    self.forget(record, &[key]).await;
                }
                Ok(Created::Exists) => {
                    collisions += 1;
                    tracing::warn!(
                        target: "session", %key, "the ID generator made an ID that is in use"
                    );
                    if collisions == MAX_COLLISIONS {
                        return Err(StoreError::new(StoreErrorKind::Misconfigured)
                            .with_source("the ID generator repeats itself")
                            .into());
                    }
                }
                Err(error) => {
                    // What may be stored stays in the index.
                    if !error.is_outcome_unknown() {
                        self.forget(record, &[key]).await;
                    }
                    return Err(error.into());
                }
            }
        }
        Err(SessionError::Contended)
    }

    /// Sees to it that the owner's index keeps a session for as long as it can live from now on (I8).
    pub(crate) async fn keep_entered(
        &self,
        key: &SessionKey,
        before: &Record,
        after: &Record,
        stamp: Stamp,
    ) -> Result<(), StoreError> {
        match &after.owner {
            Some(owner) if before.absolute_deadline() < after.absolute_deadline() => {
                let (owner, until) = (owner.key(), after.absolute_deadline());
                Box::pin(self.enter_at(&owner, key, until, stamp)).await
            }
            _ => Ok(()),
        }
    }

    /// Drops keys under which nothing can live any more from the index of the record's owner. What stays
    /// goes at its deadline, so this fails nothing.
    pub(crate) async fn forget(&self, record: &Record, keys: &[SessionKey]) {
        if let Some(owner) = &record.owner {
            Box::pin(self.forget_of(&owner.key(), keys)).await;
        }
    }

    /// Drops keys from an owner's index.
    pub(crate) async fn forget_of(&self, owner: &OwnerKey, keys: &[SessionKey]) {
        if let Err(error) = (*self.store).leave(owner, keys, self.now()).await {
            tracing::debug!(target: "session", %owner, %error, "ended sessions left in the index");
        }
    }

    /// Sees to it that nothing can be created under a key that holds nothing.
    pub(crate) async fn bar(&self, key: &SessionKey) -> Result<Created, StoreError> {
        (*self.store).create(key, self.end_marker(), self.now()).await
    }

    /// [Bars](Self::bar) keys, many at once, and tells of each whether it held nothing.
    pub(crate) async fn bar_all(
        &self,
        keys: &[SessionKey],
    ) -> Result<Vec<(SessionKey, Created)>, StoreError> {
        let mut answers = Vec::with_capacity(keys.len());
        for some in keys.chunks(BARRED_TOGETHER) {
            let bars =
                some.iter().map(async |key| self.bar(key).await.map(|answer| (*key, answer)));
            answers.extend(try_join_all(bars).await?);
        }
        Ok(answers)
    }

    /// A note that nothing shall live under a key.
    pub(crate) fn end_marker(&self) -> Entry {
        let expires_at = self.now() + Self::ROTATION_WINDOW;
        Entry::Moved(Arc::new(Tombstone::end_marker(self.next_nonce(), expires_at)))
    }

    async fn is_barred(&self, key: &SessionKey) -> Result<bool, StoreError> {
        Ok(match self.load(key).await? {
            Some(Entry::Moved(tombstone)) => tombstone.successor.is_none(),
            Some(Entry::Live(_)) | None => false,
        })
    }
}

/// What became of an attempt to place a session.
pub(crate) enum Placed {
    /// It is there. Other logins from the session that it is made of have these keys.
    At(Home, Vec<SessionKey>),
    /// It is not placed: the session that it is made of has moved.
    FormerMoved(Arc<Tombstone>),
}

/// How many keys are barred at once.
const BARRED_TOGETHER: usize = 100;

/// How many IDs in use the generator may offer.
const MAX_COLLISIONS: usize = 3;
