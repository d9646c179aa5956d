//! How a login finds room where the sessions of an owner are limited.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use crate::{
    Admission, Admitted, AtLimit, Created, Ended, Entry, Event, Owner, Record, SessionError,
    SessionKey, SessionLimit, Sessions, StoreError, StoreErrorKind, Timestamp, Tombstone,
    merge::MAX_CONFLICTS,
    sessions::{Home, NothingThere},
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
            return Ok(Admittance::Admitted(Vec::new()));
        };
        let replaces = former.filter(|home| home.record.owner.as_ref() == Some(owner));
        let mut room = Room {
            sessions: self,
            owner,
            limit,
            former: former.map(|home| home.key),
            before_former: former.and_then(|home| home.record.predecessor),
            siblings: Vec::new(),
            uncertain: Vec::new(),
            pairs: Vec::new(),
            ended: Vec::new(),
            missing: HashSet::new(),
        };
        let owner_key = owner.key();
        for _ in 0..MAX_CONFLICTS {
            self.check_patience(stamp)?;
            let replaces: Vec<_> = replaces
                .iter()
                .map(|home| home.key)
                .chain(room.siblings.iter().copied())
                .chain(room.uncertain.iter().copied())
                .collect();
            let admission = Admission {
                max: limit.max,
                replaces: &replaces,
                pairs: &room.pairs,
                ended: &room.ended,
            };
            let until = record.absolute_deadline();
            match self.admit_at(&owner_key, key, until, &admission, stamp).await? {
                Admitted::Admitted => return Ok(Admittance::Admitted(room.siblings)),
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
    /// With keys that other logins from the same session have made: at most one login comes to something.
    Admitted(Vec<SessionKey>),
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
    /// The key that that session had before.
    before_former: Option<SessionKey>,
    /// Keys that others made for that session, which are under way, broke off, or came too late.
    siblings: Vec<SessionKey>,
    /// Keys of sessions that have expired by this clock, and may go on by one that is behind. They stay in the
    /// index, and are not counted.
    uncertain: Vec<SessionKey>,
    /// Keys of the same session each, which gets another ID right now: the one that it has and one that it may
    /// be about to have, or two of these.
    pairs: Vec<(SessionKey, SessionKey)>,
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
        let (mut found, mut missing, mut unreadable) = (Vec::new(), Vec::new(), Vec::new());
        for (&key, entry) in present.iter().zip(loaded) {
            match entry {
                Ok(Some(entry)) if !entry.is_live(now) => missing.push(key),
                Ok(None) => missing.push(key),
                Ok(Some(Entry::Live(record))) if record.owner.as_ref() == Some(self.owner) => {
                    match record.predecessor {
                        before @ Some(_)
                            if before == self.former || before == self.before_former =>
                        {
                            self.siblings.push(key);
                        }
                        _ => found.push((key, record)),
                    }
                }
                // It has left this key, or is another owner's.
                Ok(Some(_)) => self.ended.push(key),
                // A version that can read it may count on it, but nobody knows how old it is.
                Err(error) if error.kind() == StoreErrorKind::Corrupt => unreadable.push(key),
                Err(error) => return Err(error.into()),
            }
        }
        let overtaken = sessions.overtaken(&found).await?;
        if !overtaken.is_empty() {
            found.retain(|(key, _)| !overtaken.contains(key));
            let keys: Vec<_> = overtaken.into_iter().collect();
            sessions.end_many_at(&keys, |_| false).await?;
            self.ended.extend(keys);
        }
        self.pairs = pairs(&found);
        let mut live: Vec<_> =
            found.into_iter().map(|(key, record)| (self.rank(&record), key)).collect();
        live.extend(unreadable.into_iter().map(|key| (Rank::default(), key)));
        let taken = live.len() + missing.len() + self.ended.len() - self.pairs.len();
        let places = (taken + 1).saturating_sub(self.limit.max.get());
        self.bar(&missing).await?;
        if self.ended.len() >= places || !missing.is_empty() {
            return Ok(None);
        }
        if self.limit.at_limit == AtLimit::Reject {
            return Err(SessionError::TooManySessions { limit: self.limit.max.get() });
        }
        let mut units: Vec<_> = live.into_iter().map(|(rank, key)| (rank, vec![key])).collect();
        join(&mut units, &self.pairs);
        units.sort_unstable();
        let victims = units.into_iter().take(places - self.ended.len());
        self.evict(victims.map(|(_, keys)| keys).collect()).await?;
        Ok(None)
    }

    /// Makes keys without a session useless for a login that is under way, so that they can be forgotten
    /// (I8). Each is given one more look before: a login needs a moment between its entry and its session.
    async fn bar(&mut self, missing: &[SessionKey]) -> Result<(), StoreError> {
        let sessions = self.sessions;
        let twice: Vec<_> =
            missing.iter().filter(|key| self.missing.contains(key)).copied().collect();
        for (key, answer) in sessions.bar_all(&twice).await? {
            if answer == Created::Created {
                self.ended.push(key);
            } else if let Err(NothingThere::Missing) = sessions.load_readable(&key).await? {
                self.uncertain.push(key);
            }
        }
        self.missing = missing.iter().copied().collect();
        Ok(())
    }

    /// Ends sessions, each under all of its keys.
    async fn evict(&mut self, victims: Vec<Vec<SessionKey>>) -> Result<(), SessionError> {
        let sessions = self.sessions;
        let keys = victims.concat();
        let mut answers = sessions.end_many_at(&keys, |_| true).await?.into_iter();
        for victim in victims {
            let ended: Vec<_> = victim
                .iter()
                .zip(answers.by_ref())
                .filter(|(_, answer)| *answer == Ended::Session)
                .collect();
            if let Some((key, _)) = ended.first() {
                sessions.tell(Event::Evicted { key: **key });
            }
        }
        // One that has just moved has another entry, which the next attempt meets.
        self.ended.extend(keys);
        Ok(())
    }

    /// What comes first is evicted first.
    fn rank(&self, record: &Record) -> Rank {
        match self.limit.at_limit {
            AtLimit::EvictLeastRecent => (record.last_seen_at, record.created_at),
            AtLimit::Reject | AtLimit::EvictOldest => (record.created_at, record.last_seen_at),
        }
    }
}

/// Pairs of keys under which the same session is: at most one of those that name the same key before comes to
/// something.
fn pairs(live: &[(SessionKey, Arc<Record>)]) -> Vec<(SessionKey, SessionKey)> {
    let mut first: HashMap<_, _> = live.iter().map(|(key, _)| (*key, *key)).collect();
    let mut pairs = Vec::new();
    for (key, record) in live {
        if let Some(before) = record.predecessor {
            let first = *first.entry(before).or_insert(*key);
            if first != *key {
                pairs.push((first, *key));
            }
        }
    }
    pairs
}

/// When a session was signed in and used, in the order that counts.
type Rank = (Timestamp, Timestamp);

/// Makes one of the keys of one session, with the former one first. A login that is under way is as new as
/// one that is done.
fn join(units: &mut Vec<(Rank, Vec<SessionKey>)>, pairs: &[(SessionKey, SessionKey)]) {
    for (former, key) in pairs {
        let unit_of = |key| units.iter().position(|(_, keys)| keys.contains(key));
        let (Some(one), Some(other)) = (unit_of(former), unit_of(key)) else { continue };
        if one != other {
            let (rank, keys) = std::mem::take(&mut units[other]);
            units[one].0 = rank.max(units[one].0);
            units[one].1.extend(keys);
        }
    }
    units.retain(|(_, keys)| !keys.is_empty());
}
