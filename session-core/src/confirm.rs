//! The store's verbs, asked again once where an answer was lost (I6).

use std::sync::Arc;

use crate::{
    Admission, Admitted, Committed, Created, Ended, Entry, Expected, OwnerKey, Record,
    SessionError, SessionKey, Sessions, StoreError, Timestamp,
    sessions::{Home, MAX_MOVES},
    work::Stamp,
};

impl Sessions {
    /// Creates, and finds out what came of it if the answer was lost (I6): by barring the key. Asking again
    /// would leave two commands under way, of which the second to arrive could bring back what was ended
    /// between them (I2, I8).
    pub(crate) async fn create_at(
        &self,
        key: &SessionKey,
        record: &Arc<Record>,
        stamp: Stamp,
    ) -> Result<Created, StoreError> {
        match self.create_once(key, record, stamp).await {
            Err(lost) if lost.is_outcome_unknown() => {
                if self.bar(key).await.is_err() {
                    return Err(lost);
                }
                match self.load(key).await {
                    Ok(Some(stored)) if stored.nonce() == stamp.nonce => Ok(Created::Created),
                    Ok(Some(_)) => Ok(Created::Exists),
                    Ok(None) | Err(_) => Err(lost),
                }
            }
            answer => answer,
        }
    }

    async fn create_once(
        &self,
        key: &SessionKey,
        record: &Arc<Record>,
        stamp: Stamp,
    ) -> Result<Created, StoreError> {
        let entry = Entry::Live(Arc::clone(record));
        match &record.owner {
            Some(owner) => {
                let (owner, until) = (owner.key(), record.absolute_deadline());
                (*self.store).create_entered(&owner, until, key, entry, stamp.now).await
            }
            None => (*self.store).create(key, entry, stamp.now).await,
        }
    }

    /// Commits, and asks again once if the answer was lost. The nonce tells whether the first time
    /// counted, so that nothing is applied twice (I6).
    pub(crate) async fn commit_at(
        &self,
        home: &Home,
        entry: Entry,
        stamp: Stamp,
    ) -> Result<Committed, StoreError> {
        let expected = Expected::from(&*home.record);
        let ours = |stored: &Entry| stored.nonce() == stamp.nonce;
        let moves = matches!(entry, Entry::Moved(_));
        match (*self.store).commit(&home.key, expected, entry.clone(), stamp.now).await {
            Ok(Committed::Conflict(stored)) if ours(&stored) => Ok(Committed::Committed),
            Err(lost) if lost.is_outcome_unknown() => {
                match (*self.store).commit(&home.key, expected, entry, stamp.now).await {
                    Ok(Committed::Conflict(stored)) if ours(&stored) => Ok(Committed::Committed),
                    // A tombstone stays where it is: ours is not there, and comes too late now.
                    Ok(Committed::Conflict(Entry::Live(newer))) if moves => {
                        Ok(Committed::Conflict(Entry::Live(newer)))
                    }
                    // Somebody committed since, on top of our commit or instead of it.
                    Ok(Committed::Conflict(_)) | Err(_) => Err(lost),
                    answer => answer,
                }
            }
            answer => answer,
        }
    }

    /// Ends a session, or the one it moved to, and tells the key of the one that ended.
    pub(crate) async fn end(
        &self,
        mut key: SessionKey,
    ) -> Result<Option<SessionKey>, SessionError> {
        for _ in 0..=MAX_MOVES {
            match self.delete_at(&key).await? {
                Deleted::Told(Entry::Moved(tombstone)) => match tombstone.successor {
                    Some(successor) => key = successor,
                    None => return Ok(None),
                },
                Deleted::Told(Entry::Live(record)) => {
                    self.forget(&record, &[key]).await;
                    return Ok(Some(key));
                }
                Deleted::Untold => return Ok(Some(key)),
                Deleted::Nothing => return Ok(None),
            }
        }
        Err(SessionError::Contended)
    }

    /// Ends many sessions, and asks again once if the answer was lost. `was_live` tells
    /// whether a session was there a moment ago.
    ///
    /// The marker tells what the first time found: where it stands, nothing was there. What was there before
    /// and left no marker of ours has been ended since, by the first time or by somebody else in the same
    /// moment, and counts as ended here: rather twice than never.
    pub(crate) async fn end_many_at(
        &self,
        keys: &[SessionKey],
        was_live: impl Fn(&SessionKey) -> bool,
    ) -> Result<Vec<Ended>, StoreError> {
        let marker = self.end_marker();
        match (*self.store).end_many(keys, marker.clone(), self.now()).await {
            Err(lost) if lost.is_outcome_unknown() => {
                let nonce = marker.nonce();
                let again = (*self.store).end_many(keys, marker, self.now()).await;
                let mut answers = again.map_err(|_| lost)?;
                for (key, answer) in keys.iter().zip(&mut answers) {
                    let is_over = match answer {
                        Ended::Barred => true,
                        Ended::Moved(stone) => stone.successor.is_none() && stone.nonce != nonce,
                        Ended::Session => false,
                    };
                    if is_over && was_live(key) {
                        *answer = Ended::Session;
                    }
                }
                Ok(answers)
            }
            answer => answer,
        }
    }

    /// Enters a key into an owner's index, and asks again once if the answer was lost.
    pub(crate) async fn enter_at(
        &self,
        owner: &OwnerKey,
        key: &SessionKey,
        until: Timestamp,
        stamp: Stamp,
    ) -> Result<(), StoreError> {
        match (*self.store).enter(owner, key, until, stamp.now).await {
            Err(lost) if lost.is_outcome_unknown() => {
                (*self.store).enter(owner, key, until, stamp.now).await.map_err(|_| lost)
            }
            answer => answer,
        }
    }

    /// Enters a key if there is room, and asks again once if the answer was lost: a key that is in the
    /// index already has its place. What stays unknown is taken back, as nothing lives there.
    pub(crate) async fn admit_at(
        &self,
        owner: &OwnerKey,
        key: &SessionKey,
        until: Timestamp,
        admission: &Admission<'_>,
        stamp: Stamp,
    ) -> Result<Admitted, StoreError> {
        match (*self.store).admit(owner, key, until, admission, stamp.now).await {
            Err(lost) if lost.is_outcome_unknown() => {
                match (*self.store).admit(owner, key, until, admission, stamp.now).await {
                    Ok(answer) => Ok(answer),
                    Err(_) => {
                        self.forget_of(owner, &[*key]).await;
                        Err(lost)
                    }
                }
            }
            answer => answer,
        }
    }

    /// Deletes, and asks again once if the answer was lost.
    async fn delete_at(&self, key: &SessionKey) -> Result<Deleted, StoreError> {
        match (*self.store).delete(key, self.now()).await {
            Err(lost) if lost.is_outcome_unknown() => {
                // What is gone now was a session: a tombstone is left in place, and tells again.
                let again = (*self.store).delete(key, self.now()).await.map_err(|_| lost)?;
                Ok(again.map_or(Deleted::Untold, Deleted::Told))
            }
            answer => Ok(answer?.map_or(Deleted::Nothing, Deleted::Told)),
        }
    }
}

/// What was there when it was deleted.
enum Deleted {
    Told(Entry),
    /// It was gone when the store was asked again.
    Untold,
    Nothing,
}
