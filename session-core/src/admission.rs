//! How a login finds room where the sessions of an owner are limited.

use std::{collections::HashSet, sync::Arc};

use crate::{
    Admission, Admitted, AtLimit, Created, Ended, Entry, Event, Owner, Record, SessionError,
    SessionKey, SessionLimit, Sessions, StoreError, StoreErrorKind, Timestamp, Tombstone,
    merge::MAX_CONFLICTS,
    sessions::Home,
    work::{Rotation, Stamp},
};

impl Sessions {
    /// Waits for this process's turn to sign an owner in, if that is limited.
    ///
    /// Logins of one owner at once would take each other's places, and two that a double click sent from
    /// one session would not see that one replaces the other.
    pub(crate) async fn login_turn(
        &self,
        record: &Record,
        rotation: Option<Rotation>,
    ) -> Option<async_lock::MutexGuard<'_, ()>> {
        match (&record.owner, self.session_limit, rotation) {
            (Some(owner), Some(_), Some(Rotation::Login)) => {
                let turn = usize::from(owner.key().as_bytes()[0]);
                Some(self.login_turns[turn].lock().await)
            }
            _ => None,
        }
    }

    /// Enters the key of a session that is about to be created into its owner's index, if there is a
    /// limit, and makes room by the limit's policy.
    pub(crate) async fn admit(
        &self,
        key: &SessionKey,
        record: &Record,
        former: Option<&Home>,
        stamp: Stamp,
    ) -> Result<Admittance, SessionError> {
        let (Some(limit), Some(owner)) = (self.session_limit, &record.owner) else {
            return Ok(Admittance::Admitted);
        };
        let replaces = former.filter(|home| home.record.owner.as_ref() == Some(owner));
        let mut room = Room {
            sessions: self,
            owner,
            limit,
            former: former.map(|home| home.key),
            ended: Vec::new(),
            missing: HashSet::new(),
        };
        let owner_key = owner.key();
        for _ in 0..MAX_CONFLICTS {
            self.check_patience(stamp)?;
            let admission = Admission {
                max: limit.max,
                replaces: replaces.map(|home| home.key),
                ended: &room.ended,
            };
            let until = record.absolute_deadline();
            match self.admit_at(&owner_key, key, until, &admission, stamp).await? {
                Admitted::Admitted => return Ok(Admittance::Admitted),
                Admitted::Full(present) => {
                    if let Some(tombstone) = room.make(&present).await? {
                        return Ok(Admittance::FormerMoved(tombstone));
                    }
                }
            }
        }
        Err(SessionError::Contended)
    }
}

/// What [`Sessions::admit`] comes to.
pub(crate) enum Admittance {
    Admitted,
    /// The session that it is made of has moved.
    FormerMoved(Arc<Tombstone>),
}

/// Makes room in a full index.
struct Room<'a> {
    sessions: &'a Sessions,
    owner: &'a Owner,
    limit: SessionLimit,
    /// The session that the new one is made of, whoever's it is.
    former: Option<SessionKey>,
    /// Keys under which nothing can live any more.
    ended: Vec<SessionKey>,
    /// Keys that held nothing when they were last looked at.
    missing: HashSet<SessionKey>,
}

impl Room<'_> {
    /// Looks at who has the places, and frees as many as are needed, if the policy allows it; the next
    /// attempt tells whether that was enough.
    async fn make(
        &mut self,
        present: &[SessionKey],
    ) -> Result<Option<Arc<Tombstone>>, SessionError> {
        self.ended.clear();
        let keys: Vec<_> = present.iter().copied().chain(self.former).collect();
        let sessions = self.sessions;
        let now = sessions.now();
        let mut loaded = (*sessions.store).load_many(&keys, now).await?;
        if self.former.is_some() {
            // Nobody is evicted for a login that comes to nothing.
            match loaded.pop() {
                Some(Ok(Some(Entry::Live(record)))) if now < record.expires_at() => {}
                Some(Ok(Some(Entry::Moved(tombstone)))) => return Ok(Some(tombstone)),
                Some(Err(error)) => return Err(error.into()),
                _ => return Err(SessionError::Ended),
            }
        }
        let (mut live, mut missing) = (Vec::new(), Vec::new());
        for (&key, entry) in present.iter().zip(loaded) {
            match entry {
                Ok(Some(entry)) if !entry.is_live(now) => missing.push(key),
                Ok(None) => missing.push(key),
                Ok(Some(Entry::Live(record))) if record.owner.as_ref() == Some(self.owner) => {
                    live.push((self.rank(&record), key));
                }
                // It has left this key, or is another owner's.
                Ok(Some(_)) => self.ended.push(key),
                // A version that can read it may count on it, but nobody knows how old it is.
                Err(error) if error.kind() == StoreErrorKind::Corrupt => {
                    live.push((Default::default(), key));
                }
                Err(error) => return Err(error.into()),
            }
        }
        let places = (present.len() + 1).saturating_sub(self.limit.max.get());
        self.bar(&missing, places).await?;
        if self.ended.len() >= places || !missing.is_empty() {
            return Ok(None);
        }
        if self.limit.at_limit == AtLimit::Reject {
            return Err(SessionError::TooManySessions { limit: self.limit.max.get() });
        }
        live.sort_unstable();
        let victims: Vec<_> =
            live.into_iter().take(places - self.ended.len()).map(|(_, key)| key).collect();
        self.evict(&victims).await?;
        Ok(None)
    }

    /// Makes keys without a session useless for a login that is under way, so that they can be forgotten
    /// (I8). Each is given one more look before: a login needs a moment between its entry and its session.
    async fn bar(&mut self, missing: &[SessionKey], places: usize) -> Result<(), StoreError> {
        let sessions = self.sessions;
        for key in missing {
            if self.ended.len() < places && self.missing.contains(key) {
                // One that has expired may still be in the way of another, and never becomes a session.
                if sessions.bar(key).await? == Created::Created
                    || sessions.load(key).await?.is_none()
                {
                    self.ended.push(*key);
                }
            }
        }
        self.missing = missing.iter().copied().collect();
        Ok(())
    }

    async fn evict(&mut self, victims: &[SessionKey]) -> Result<(), SessionError> {
        let sessions = self.sessions;
        let answers = sessions.end_many_at(victims).await?;
        for (key, answer) in victims.iter().zip(answers) {
            if answer == Ended::Session {
                sessions.tell(Event::Evicted { key: *key });
            }
            // One that has just moved has another entry, which the next attempt meets.
            self.ended.push(*key);
        }
        Ok(())
    }

    /// What comes first is evicted first.
    fn rank(&self, record: &Record) -> (Timestamp, Timestamp) {
        match self.limit.at_limit {
            AtLimit::EvictLeastRecent => (record.last_seen_at, record.created_at),
            AtLimit::Reject | AtLimit::EvictOldest => (record.created_at, record.last_seen_at),
        }
    }
}
