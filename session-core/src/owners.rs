//! The sessions of one owner: listed, and ended from elsewhere.

use std::{
    cmp::Reverse,
    collections::{HashMap, HashSet},
    sync::Arc,
};

use crate::{
    Created, Ended, Entry, Event, Owner, Record, Session, SessionError, SessionInfo, SessionKey,
    Sessions, StoreError, StoreErrorKind, Timestamp, freshness::MAX_SKEW, sessions::MAX_MOVES,
};

impl Sessions {
    /// Lists an owner's sessions, the last used first.
    ///
    /// Costs a round trip for the index, and one per 100 sessions where the store sends so many together; another
    /// per 100 for those that got their ID within five minutes and were not written to since.
    ///
    /// # Errors
    ///
    /// Returns [`SessionError::TooLarge`] if the owner is longer than
    /// [`Limits::OWNER_BYTES`](crate::Limits::OWNER_BYTES), [`SessionError::Store`] if the store failed, and
    /// [`SessionError::Contended`] if a session gets one ID after the other all the time. A session that cannot
    /// be read is counted, and left out.
    pub async fn of(
        self: &Arc<Self>,
        owner: impl Into<Owner>,
    ) -> Result<Vec<SessionInfo>, SessionError> {
        let owner = Owner::checked(owner)?;
        let keys = self.entries(&owner).await?;
        let mut found = self.owned(&owner, keys, self.now(), &mut HashSet::new()).await?;
        // One that is getting another ID is under both keys, and as yet goes by the first.
        let live: HashSet<_> = found.iter().map(|(key, _)| *key).collect();
        found.retain(|(_, record)| !record.predecessor.is_some_and(|key| live.contains(&key)));
        let overtaken = self.overtaken(&found).await?;
        found.retain(|(key, _)| !overtaken.contains(key));
        let mut list: Vec<_> = found
            .into_iter()
            .map(|(key, record)| SessionInfo { key, record, sessions: Arc::clone(self) })
            .collect();
        list.sort_by_key(|info| Reverse((info.last_seen_at(), info.created_at(), info.key)));
        Ok(list)
    }

    /// Ends one session of an owner, and tells whether there was one.
    ///
    /// If an answer of the store is lost it is asked once more, and what was there before and is gone then
    /// counts as ended by this, even if somebody else did it in that moment.
    ///
    /// A key of somebody else's session and one of no session are answered alike, and nothing is touched:
    /// the key may come from a form.
    ///
    /// # Errors
    ///
    /// Those of [`of`](Self::of).
    pub async fn end_one(
        &self,
        owner: impl Into<Owner>,
        key: SessionKey,
    ) -> Result<bool, SessionError> {
        let owner = Owner::checked(owner)?;
        let mut seen = HashSet::from([key]);
        let found = self.owned(&owner, vec![key], self.skewed_now(), &mut seen).await?;
        let (keys, live) = targets(found);
        Ok(self.end_keys(&owner, keys, live, &mut seen, HashSet::new()).await? > 0)
    }

    /// Ends all sessions of an owner, and tells how many those were: "sign out everywhere", or an account
    /// that is locked.
    ///
    /// Requests that start later find none of them, in any process, and those under way store nothing
    /// any more (I2). A login whose session is not there yet signs in after this.
    ///
    /// Costs a round trip for the index, and two per 100 sessions where the store sends so many together: to
    /// look at them, for the count and the [events](Event::Revoked), and to end them. Keys in the index that
    /// hold no session any more take one more.
    ///
    /// # Errors
    ///
    /// Those of [`of`](Self::of). Some of the sessions may have been ended then: ask again.
    pub async fn end_all(&self, owner: impl Into<Owner>) -> Result<usize, SessionError> {
        let owner = Owner::checked(owner)?;
        let keys = self.entries(&owner).await?;
        let (there, live) = self.there(&keys).await?;
        let mut seen = HashSet::new();
        let ended = self.end_keys(&owner, there, live, &mut seen, HashSet::new()).await?;
        let mut empty = keys;
        empty.retain(|key| !seen.contains(key));
        self.clear(&owner, &empty).await;
        Ok(ended)
    }

    /// Takes keys that hold nothing out of an owner's index. A login that is under way takes another one.
    ///
    /// What cannot be barred, as on a server that is full, stays in the index until its deadline.
    async fn clear(&self, owner: &Owner, keys: &[SessionKey]) {
        match self.bar_all(keys).await {
            Ok(answers) => {
                let barred = answers.into_iter().filter(|(_, answer)| *answer == Created::Created);
                let barred: Vec<_> = barred.map(|(key, _)| key).collect();
                if !barred.is_empty() {
                    self.forget_of(&owner.key(), &barred).await;
                }
            }
            Err(error) => {
                let owner = owner.key();
                tracing::debug!(target: "session", %owner, %error, "keys left in the index");
            }
        }
    }

    /// Ends all sessions of a session's owner but that one, and tells how many those were: after a change
    /// of the password, for example.
    ///
    /// [Commits](Session::commit) first what the request recorded, so that a login recorded before counts.
    /// A session without an owner has no others. If another request is just giving this one another ID, it is
    /// spared under both keys. A login whose session is not there yet signs in after this.
    ///
    /// Costs one round trip more than [`end_all`](Self::end_all), to find where this session is.
    ///
    /// # Errors
    ///
    /// Those of [`of`](Self::of) and of the commit; [`SessionError::Ended`] if the session was ended
    /// itself, which then ends no other.
    pub async fn end_others(&self, session: &Session) -> Result<usize, SessionError> {
        session.commit().await?;
        let home = session.state().home.clone();
        let Some((home, owner)) = home.and_then(|home| {
            let owner = home.record.owner.clone()?;
            Some((home, owner))
        }) else {
            return Ok(0);
        };
        // In this order: a key that the session was getting was empty when it was looked at, or names the
        // one before, or lies on the way from there.
        let mut keys = self.entries(&owner).await?;
        keys.retain(|key| *key != home.key);
        let (mut others, live) = self.there(&keys).await?;
        let mut own = self.lineage(&owner, home.key).await?;
        for (key, former) in &live {
            if former.is_some_and(|former| own.contains(&former)) {
                own.insert(*key);
            }
        }
        others.retain(|key| !own.contains(key));
        // Another request may have tried to move the session from the same key as its last move did.
        let told = home.record.predecessor.into_iter().collect();
        self.end_keys(&owner, others, live, &mut own, told).await
    }

    /// Those of the keys that hold something, and what has to be known of the sessions to end them.
    ///
    /// What is created under a key that holds nothing comes after this: a login, or the own session. What
    /// cannot be read may be a session for another version.
    async fn there(&self, keys: &[SessionKey]) -> Result<(Vec<SessionKey>, Formers), StoreError> {
        let entries = self.load_each(keys, self.skewed_now()).await?;
        let there = keys.iter().zip(&entries).filter(|(_, entry)| !matches!(entry, Ok(None)));
        let there = there.map(|(key, _)| *key).collect();
        let now = self.now();
        let live = sessions(keys, entries).filter(|(_, record)| now < record.expires_at());
        Ok((there, targets(live).1))
    }

    /// A server whose clock is behind may still serve what has expired by this one.
    fn skewed_now(&self) -> Timestamp {
        self.now().before(MAX_SKEW)
    }

    /// Those of live sessions that another request overtook as it moved the same one: nobody knows their IDs,
    /// and nobody will. That is known while the key before remembers who came first.
    pub(crate) async fn overtaken(
        &self,
        live: &[(SessionKey, Arc<Record>)],
    ) -> Result<HashSet<SessionKey>, StoreError> {
        let now = self.now();
        let recent =
            |record: &Record| now.since(record.issued_at) < Self::ROTATION_WINDOW + MAX_SKEW;
        let mut moved: Vec<_> = live
            .iter()
            .filter(|(_, record)| recent(record))
            .filter_map(|(key, record)| Some((record.predecessor?, *key)))
            .collect();
        let keys: HashSet<_> = live.iter().map(|(key, _)| *key).collect();
        moved.retain(|(former, _)| !keys.contains(former));
        let formers: Vec<_> = moved.iter().map(|(former, _)| *former).collect();
        let entries = self.load_each(&formers, now).await?;
        let overtaken = moved.iter().zip(entries).filter_map(|((_, key), entry)| match entry {
            // A note that the key is barred says nothing of who came first.
            Ok(Some(Entry::Moved(tombstone))) => {
                tombstone.successor.is_some_and(|first| first != *key).then_some(*key)
            }
            _ => None,
        });
        Ok(overtaken.collect())
    }

    async fn entries(&self, owner: &Owner) -> Result<Vec<SessionKey>, StoreError> {
        (*self.store).entries(&owner.key(), self.now()).await
    }

    /// The keys that a session had from this one on, to the one under which it lives.
    async fn lineage(
        &self,
        owner: &Owner,
        mut key: SessionKey,
    ) -> Result<HashSet<SessionKey>, SessionError> {
        let mut keys = HashSet::new();
        for _ in 0..MAX_MOVES {
            keys.insert(key);
            match self.load(&key).await? {
                Some(Entry::Live(record)) if record.owner.as_ref() == Some(owner) => {
                    return Ok(keys);
                }
                Some(Entry::Moved(tombstone)) => match tombstone.successor {
                    Some(successor) => key = successor,
                    None => break,
                },
                Some(Entry::Live(_)) | None => break,
            }
        }
        Err(SessionError::Ended)
    }

    /// The owner's live sessions under these keys, and under those that they moved to.
    async fn owned(
        &self,
        owner: &Owner,
        mut keys: Vec<SessionKey>,
        now: Timestamp,
        seen: &mut HashSet<SessionKey>,
    ) -> Result<Vec<(SessionKey, Arc<Record>)>, SessionError> {
        seen.extend(&keys);
        let mut found = Vec::new();
        for _ in 0..=MAX_MOVES {
            if keys.is_empty() {
                return Ok(found);
            }
            let entries = self.load_each(&keys, now).await?;
            let mut successors = Vec::new();
            for (key, entry) in keys.into_iter().zip(entries) {
                match entry {
                    Ok(Some(Entry::Live(record))) if record.owner.as_ref() == Some(owner) => {
                        found.push((key, record));
                    }
                    Ok(Some(Entry::Moved(tombstone))) => successors.extend(tombstone.successor),
                    Ok(Some(Entry::Live(_)) | None) | Err(_) => {}
                }
            }
            successors.retain(|key| seen.insert(*key));
            keys = successors;
        }
        Err(SessionError::Contended)
    }

    /// Ends what lives under keys of an owner, and what moved from there, but nothing that was seen
    /// before.
    ///
    /// A session that was just getting another ID is told once, by the key that it had, and not at all if that
    /// key is one of those that were told.
    async fn end_keys(
        &self,
        owner: &Owner,
        mut keys: Vec<SessionKey>,
        mut live: Formers,
        seen: &mut HashSet<SessionKey>,
        mut told: HashSet<SessionKey>,
    ) -> Result<usize, SessionError> {
        let owner_key = owner.key();
        seen.extend(&keys);
        let mut ended = 0;
        for _ in 0..=MAX_MOVES {
            if keys.is_empty() {
                return Ok(ended);
            }
            let answers = self.end_many_at(&keys, |key| live.contains_key(key)).await?;
            self.forget_of(&owner_key, &keys).await;
            let (mut gone, mut successors) = (Vec::new(), Vec::new());
            for (key, answer) in keys.iter().zip(answers) {
                match answer {
                    Ended::Session => gone.push(*key),
                    Ended::Moved(tombstone) => successors.extend(tombstone.successor),
                    Ended::Barred => {}
                }
            }
            // Those that were live under the key before come first.
            let former = |key: &SessionKey| live.get(key).copied().flatten();
            gone.sort_by_key(|key| former(key).is_some());
            for key in gone {
                let is_told = former(&key).is_some_and(|former| !told.insert(former));
                if told.insert(key) && !is_told {
                    ended += 1;
                    self.tell(Event::Revoked { key });
                }
            }
            successors.retain(|key| seen.insert(*key));
            // Where another user signed in, the session is that user's by now.
            let found = self.owned(owner, successors, self.skewed_now(), seen).await?;
            (keys, live) = targets(found);
        }
        Err(SessionError::Contended)
    }

    /// Loads what is under each key. The errors in the list are of records that cannot be read.
    async fn load_each(
        &self,
        keys: &[SessionKey],
        now: Timestamp,
    ) -> Result<Vec<Result<Option<Entry>, StoreError>>, StoreError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let loaded = (*self.store).load_many(keys, now).await?;
        keys.iter()
            .zip(loaded)
            .map(|(key, entry)| match entry {
                Ok(entry) => Ok(Ok(entry.filter(|entry| entry.is_live(now)))),
                Err(error) if error.kind() == StoreErrorKind::Corrupt => {
                    self.report_corrupt(key, &error);
                    Ok(Err(error))
                }
                Err(error) => Err(error),
            })
            .collect()
    }
}

/// Live sessions, with the key before of those that were given another since the last commit.
type Formers = HashMap<SessionKey, Option<SessionKey>>;

/// The keys of sessions, and what has to be known to end them.
fn targets(
    sessions: impl IntoIterator<Item = (SessionKey, Arc<Record>)>,
) -> (Vec<SessionKey>, Formers) {
    sessions.into_iter().map(|(key, record)| (key, (key, record.predecessor))).unzip()
}

/// The sessions among what was loaded.
fn sessions(
    keys: &[SessionKey],
    entries: Vec<Result<Option<Entry>, StoreError>>,
) -> impl Iterator<Item = (SessionKey, Arc<Record>)> {
    keys.iter().zip(entries).filter_map(|(key, entry)| match entry {
        Ok(Some(Entry::Live(record))) => Some((*key, record)),
        _ => None,
    })
}
