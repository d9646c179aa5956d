//! The protocol's second half: how what a request recorded becomes what is stored.

use std::{ops::Deref, sync::Arc, time::Duration};

use crate::{
    Committed, CookieChange, Created, Entry, Record, Session, SessionError, SessionId, SessionKey,
    Sessions, StoreError, StoreErrorKind, Timestamp, Tombstone,
    change::{Change, replay},
    record::Grace,
    seal::SealedId,
    session::State,
    sessions::{Home, MAX_MOVES, Presented},
};

impl Session {
    /// Stores what was recorded so far, for a handler that must know before it goes on, or whose
    /// response's head leaves early (a stream, a web socket).
    ///
    /// Nothing recorded, nothing done. A conflict with another request is solved by replaying this
    /// one's changes on the newer session (I1).
    ///
    /// # Errors
    ///
    /// - [`SessionError::Store`] if the store failed. Where it certainly did nothing, the changes stay
    ///   recorded, and the next commit tries again. Where it did not say, the commit was repeated once;
    ///   if that did not tell either, further commits fail with [`SessionError::Unconfirmed`].
    /// - [`SessionError::Ended`] if the session was ended meanwhile (I2).
    /// - [`SessionError::Contended`] if other requests were faster each of 128 times, or for 5 seconds.
    /// - Those of an [`update`](Self::update) that was replayed.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped the changes are stored or not, all or none of them. A further commit
    /// fails with [`SessionError::Unconfirmed`], so that none is applied twice.
    pub async fn commit(&self) -> Result<(), SessionError> {
        let _committing = self.committing().lock().await;
        self.end_doomed().await?;
        self.write().await
    }

    /// Commits what is left, notes that the session was used, and says what the response has to do to
    /// the client's cookie. Changes after this are refused.
    ///
    /// For integrations, before the response's head leaves.
    ///
    /// # Errors
    ///
    /// Those of [`commit`](Self::commit). The response must then report failure (I6), and do nothing to
    /// the cookie but what [`untold_cookie`](Self::untold_cookie) says (I7).
    pub async fn finish(&self) -> Result<CookieChange, SessionError> {
        self.state().closed = true;
        let _committing = self.committing().lock().await;
        self.end_doomed().await?;
        self.write().await?;
        let now = self.sessions.now();
        let stale = self.state().home.as_ref().filter(|home| is_stale(home, now)).cloned();
        if let Some(home) = stale {
            self.keep_alive(home).await;
        }
        Ok(self.state().cookie(self.sessions.now()))
    }

    /// What the client has to be told although [`finish`](Self::finish) failed: the ID that an earlier
    /// [`commit`](Self::commit) of the request gave the session. Never a removal.
    pub fn untold_cookie(&self) -> CookieChange {
        self.state().untold(self.sessions.now())
    }

    /// Does what [`finish`](Self::finish) does if that needs no I/O, the usual case of a request that
    /// only read.
    #[must_use]
    pub fn finish_without_io(&self) -> Option<CookieChange> {
        // A commit under way by a clone has to be waited for.
        let _committing = self.committing().try_lock()?;
        let now = self.sessions.now();
        let mut state = self.state();
        let idle = !state.dirty
            && state.doomed.is_empty()
            && !state.unconfirmed
            && !state.home.as_ref().is_some_and(|home| is_stale(home, now));
        idle.then(|| {
            state.closed = true;
            state.cookie(now)
        })
    }

    /// Ends the sessions that the request wants ended, before anything new is stored.
    async fn end_doomed(&self) -> Result<(), SessionError> {
        loop {
            let key = {
                let state = self.state();
                if state.unconfirmed {
                    return Err(SessionError::Unconfirmed);
                }
                match state.doomed.first() {
                    Some(key) => *key,
                    None => return Ok(()),
                }
            };
            self.attempt(|| self.sessions.end(key)).await?;
            let mut state = self.state();
            state.doomed.retain(|doomed| *doomed != key);
            state.unreadable.retain(|unreadable| *unreadable != key);
            state.left.take_if(|home| home.key == key);
            drop(state);
            tracing::debug!(target: "session", %key, "session destroyed");
        }
    }

    /// Stores what the log says.
    async fn write(&self) -> Result<(), SessionError> {
        self.redraft()?;
        let Some(work) = self.state().work(&self.sessions)? else { return Ok(()) };
        let told_before = work.home.as_ref().map(|home| (home.key, home.record.lifetime));
        let stored = self.attempt(|| self.sessions.store_changes(&work)).await;

        let mut state = self.state();
        let Stored { home, crossed } = match stored {
            Ok(stored) => stored,
            Err(error) => {
                if matches!(error, SessionError::Ended) {
                    // An ID that opens nothing is not told, whatever the request was to tell before.
                    state.tell = false;
                }
                return Err(error);
            }
        };
        // Whoever signed in meanwhile is told the ID; the one that this request knows is dead.
        state.tell =
            !crossed && (state.tell || told_before != Some((home.key, home.record.lifetime)));
        // A clone of the session may have recorded, given up or ended things meanwhile.
        if state.endings != state.endings_at_commit {
            state.doomed.push(home.key);
            state.left = Some(home);
            return Ok(());
        }
        state.log.retain(|change| !work.log.iter().any(|done| Arc::ptr_eq(done, change)));
        state.dirty = !state.log.is_empty();
        state.stale = state.dirty;
        if !state.dirty {
            state.draft = None;
        }
        state.home = Some(home);
        drop(state);
        // What cannot be done to the session as it is now fails the next commit, not this one.
        let _ = self.redraft();
        Ok(())
    }

    /// Does what is left of the log anew, to the session as a commit stored it. The application's code
    /// runs without the lock.
    fn redraft(&self) -> Result<(), SessionError> {
        for _ in 0..MAX_REDRAFTS {
            let (home, log) = {
                let state = self.state();
                match &state.home {
                    Some(home) if state.stale => (Arc::clone(&home.record), state.log.clone()),
                    _ => return Ok(()),
                }
            };
            let mut draft = Record::clone(&home);
            replay(&log, &mut draft, &self.sessions.limits)?;
            let mut state = self.state();
            let unchanged = state.log.len() == log.len()
                && state.log.iter().zip(&log).all(|(now, then)| Arc::ptr_eq(now, then));
            if unchanged {
                state.draft = Some(Arc::new(draft));
                state.stale = false;
                return Ok(());
            }
        }
        // Others record all the time, or an update's closure does.
        Err(SessionError::Contended)
    }

    /// Runs a step that changes the store, and remembers if its outcome stays unknown: because the
    /// store did not say, or because the future was dropped.
    async fn attempt<T, F>(&self, step: impl FnOnce() -> F) -> Result<T, SessionError>
    where
        F: Future<Output = Result<T, SessionError>>,
    {
        self.state().unconfirmed = true;
        let result = step().await;
        self.state().unconfirmed = matches!(
            &result,
            Err(SessionError::Store(error)) if error.is_outcome_unknown()
        );
        result
    }

    /// Moves the idle deadline or replaces an old ID, if it is time. Nobody recorded this, so its
    /// failure fails no request: the next one tries again.
    async fn keep_alive(&self, home: Home) {
        let now = self.sessions.now();
        let key = home.key;
        if renewal_is_due(&home, now) {
            let renewal = State::renewal(home, now, &self.sessions);
            match self.sessions.store_changes(&renewal).await {
                Ok(Stored { home, crossed }) => {
                    let mut state = self.state();
                    state.tell = !crossed && (state.tell || home.key != key);
                    state.home = Some(home);
                }
                Err(error) => tracing::warn!(
                    target: "session", %key, %error, "session not renewed this time"
                ),
            }
        } else if touch_is_due(&home.record, now)
            && let Err(error) = (*self.sessions.store).touch(&key, now).await
        {
            // If this goes on, as it does on a server that is full, busy sessions end too early.
            tracing::warn!(target: "session", %key, %error, "session not touched this time");
        }
    }
}

impl State {
    /// What a commit has to do, if anything.
    fn work(&mut self, sessions: &Sessions) -> Result<Option<Work>, SessionError> {
        self.endings_at_commit = self.endings;
        let Some(draft) = self.draft.as_mut().filter(|_| self.dirty) else { return Ok(None) };
        let rotation = Rotation::of(&self.log);
        if self.home.is_none() {
            if draft.values.is_empty() && draft.owner.is_none() {
                // Nothing was written, nothing is stored: a lifetime alone is no session.
                return Ok(None);
            }
            if self.presented == Presented::Superseded && rotation != Some(Rotation::Login) {
                // The browser sent this before it learned its new ID. A session of its own would
                // replace the one that somebody just signed in to.
                return Err(SessionError::Ended);
            }
        }
        let stamp = Stamp::now(sessions);
        stamp.mark(self.home.as_ref().map(|home| &*home.record), Arc::make_mut(draft));
        Ok(Some(Work {
            home: self.home.clone(),
            record: Arc::clone(draft),
            log: self.log.clone(),
            rotation,
            stamp,
        }))
    }

    fn renewal(home: Home, now: Timestamp, sessions: &Sessions) -> Work {
        let mut draft = Record::clone(&home.record);
        draft.issued_at = now;
        let stamp = Stamp::now(sessions);
        let record = stamp.onto(Some(&home.record), draft);
        let log = vec![Arc::new(Change::Renew { at: now })];
        Work { home: Some(home), record, log, rotation: Some(Rotation::Renewal), stamp }
    }
}

/// One commit: where the session is, what it shall be, and how to make that of a newer one.
struct Work {
    home: Option<Home>,
    record: Arc<Record>,
    log: Vec<Arc<Change>>,
    rotation: Option<Rotation>,
    stamp: Stamp,
}

/// What every record of one commit carries, whatever it is made of.
#[derive(Clone, Copy)]
struct Stamp {
    nonce: crate::Nonce,
    now: Timestamp,
}

impl Stamp {
    fn now(sessions: &Sessions) -> Self {
        Self { nonce: sessions.next_nonce(), now: sessions.now() }
    }

    /// Makes a draft the record that follows `base`.
    fn onto(self, base: Option<&Record>, mut draft: Record) -> Arc<Record> {
        self.mark(base, &mut draft);
        Arc::new(draft)
    }

    fn mark(self, base: Option<&Record>, draft: &mut Record) {
        draft.revision = base.map(|base| base.revision).unwrap_or_default().next();
        draft.nonce = self.nonce;
        draft.last_seen_at = draft.last_seen_at.max(self.now);
    }
}

/// Why a session moves to a fresh ID.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Rotation {
    Login,
    Renewal,
}

impl Rotation {
    fn of(log: &[impl Deref<Target = Change>]) -> Option<Self> {
        let mut rotation = None;
        for change in log {
            match **change {
                Change::Authenticate { .. } => return Some(Self::Login),
                Change::Renew { .. } => rotation = Some(Self::Renewal),
                _ => {}
            }
        }
        rotation
    }
}

impl Sessions {
    async fn store_changes(&self, work: &Work) -> Result<Stored, SessionError> {
        let Work { home, record, log, rotation, stamp } = work;
        let (record, stamp) = (Arc::clone(record), *stamp);
        let Some(origin) = home else {
            let home = self.create(&record, stamp).await?;
            tracing::debug!(target: "session", key = %home.key, "session created");
            return Ok(Stored { home, crossed: false });
        };
        let home = match rotation {
            None => self.update(origin.clone(), record, log, stamp).await?,
            Some(rotation) => self.rotate(origin.clone(), record, log, *rotation, stamp).await?,
        };
        if home.id.is_some() {
            return Ok(Stored { home, crossed: false });
        }
        // Another request signed in meanwhile. What this one began before that is merged, but what the
        // session holds now is not for it to see, nor is the ID: it goes on as if the session were what
        // it loaded, with its own changes (I4).
        let home = Home { record: Arc::clone(&work.record), ..origin.clone() };
        Ok(Stored { home, crossed: true })
    }

    /// Stores a session under a fresh ID.
    async fn create(&self, record: &Arc<Record>, stamp: Stamp) -> Result<Home, SessionError> {
        for _ in 0..MAX_COLLISIONS {
            let id = self.ids.generate();
            let key = id.key();
            if self.create_at(&key, record, stamp).await? == Created::Created {
                return Ok(Home { key, id: Some(id), record: Arc::clone(record) });
            }
            tracing::warn!(target: "session", %key, "the ID generator made an ID that is in use");
        }
        Err(StoreError::new(StoreErrorKind::Misconfigured)
            .with_source("the ID generator repeats itself")
            .into())
    }

    /// Creates, and asks again once if the answer was lost (I6).
    async fn create_at(
        &self,
        key: &SessionKey,
        record: &Arc<Record>,
        stamp: Stamp,
    ) -> Result<Created, StoreError> {
        let entry = Entry::Live(Arc::clone(record));
        match (*self.store).create(key, entry.clone(), stamp.now).await {
            Err(lost) if lost.is_outcome_unknown() => {
                match (*self.store).create(key, entry, stamp.now).await {
                    Ok(Created::Created) => Ok(Created::Created),
                    Ok(Created::Exists) => match self.load(key).await {
                        Ok(Some(stored)) if stored.nonce() == stamp.nonce => Ok(Created::Created),
                        Ok(Some(_)) => Ok(Created::Exists),
                        Ok(None) | Err(_) => Err(lost),
                    },
                    Err(_) => Err(lost),
                }
            }
            answer => answer,
        }
    }

    /// Stores changes where the session is.
    async fn update(
        &self,
        mut home: Home,
        mut record: Arc<Record>,
        log: &[Arc<Change>],
        stamp: Stamp,
    ) -> Result<Home, SessionError> {
        let mut turn = None;
        for _ in 0..MAX_CONFLICTS {
            self.check_patience(stamp)?;
            match self.commit_at(&home, Entry::Live(Arc::clone(&record)), stamp).await? {
                Committed::Committed => return Ok(Home { record, ..home }),
                Committed::Gone => return Err(SessionError::Ended),
                Committed::Conflict(Entry::Live(newer)) => home.record = newer,
                Committed::Conflict(Entry::Moved(tombstone)) => {
                    home = self.successor(&home, &tombstone).await?;
                }
            }
            if turn.is_none() {
                turn = Some(self.turn(&home.key).await);
            }
            record = self.replayed(&home, log, stamp)?;
        }
        Err(SessionError::Contended)
    }

    /// Moves the session to a fresh ID: the new record first, then the tombstone in place of the old
    /// one, each on its own key, so that a crash in between logs nobody out (I4).
    async fn rotate(
        &self,
        mut home: Home,
        mut record: Arc<Record>,
        log: &[Arc<Change>],
        rotation: Rotation,
        stamp: Stamp,
    ) -> Result<Home, SessionError> {
        for _ in 0..MAX_MOVES {
            if home.id.is_none() && home.record.owner != record.owner {
                // The session is another user's by now, and so are its values.
                return Err(SessionError::Ended);
            }
            let new = self.create(&record, stamp).await?;
            match self.replace(&mut home, new, log, rotation, stamp).await? {
                Replaced::Done(new) => {
                    tracing::debug!(
                        target: "session", former = %home.key, key = %new.key, "session moved"
                    );
                    return Ok(new);
                }
                Replaced::MovedTo(successor) => home = successor,
            }
            match rotation {
                Rotation::Login => record = self.replayed(&home, log, stamp)?,
                // Another request has just renewed the session: what is left is to store the rest.
                Rotation::Renewal => {
                    let rest: Vec<_> = log
                        .iter()
                        .filter(|change| !matches!(***change, Change::Renew { .. }))
                        .cloned()
                        .collect();
                    if rest.is_empty() {
                        return Ok(home);
                    }
                    let record = self.replayed(&home, &rest, stamp)?;
                    return self.update(home, record, &rest, stamp).await;
                }
            }
        }
        Err(SessionError::Contended)
    }

    /// Puts the tombstone in place of the old record, carrying over to the new one what others commit
    /// to the old one before that.
    async fn replace(
        &self,
        home: &mut Home,
        mut new: Home,
        log: &[Arc<Change>],
        rotation: Rotation,
        stamp: Stamp,
    ) -> Result<Replaced, SessionError> {
        let mut turn = None;
        for _ in 0..MAX_CONFLICTS {
            if let Err(error) = self.check_patience(stamp) {
                self.abandon(&new).await;
                return Err(error);
            }
            let tombstone = self.tombstone(home, &new, rotation, stamp);
            match self.commit_at(home, Entry::Moved(Arc::new(tombstone)), stamp).await {
                Ok(Committed::Committed) => return Ok(Replaced::Done(new)),
                Ok(Committed::Conflict(Entry::Live(newer))) => home.record = newer,
                Ok(Committed::Conflict(Entry::Moved(tombstone))) => {
                    self.abandon(&new).await;
                    return Ok(Replaced::MovedTo(self.successor(home, &tombstone).await?));
                }
                Ok(Committed::Gone) => {
                    // A new ID must not bring back what was ended (I2).
                    self.end(new.key).await?;
                    return Err(SessionError::Ended);
                }
                Err(error) => {
                    // If the tombstone may be in place, the new record is the session.
                    if !error.is_outcome_unknown() {
                        self.abandon(&new).await;
                    }
                    return Err(error.into());
                }
            }
            if turn.is_none() {
                turn = Some(self.turn(&home.key).await);
            }
            match self.merged(home, &new, log, stamp).await {
                Ok(merged) => new.record = merged,
                Err(error) => {
                    self.abandon(&new).await;
                    return Err(error);
                }
            }
        }
        self.abandon(&new).await;
        Err(SessionError::Contended)
    }

    /// Stores under the new key what another request committed to the old one, with this one's changes
    /// on top.
    async fn merged(
        &self,
        home: &Home,
        new: &Home,
        log: &[Arc<Change>],
        stamp: Stamp,
    ) -> Result<Arc<Record>, SessionError> {
        let mut draft = Record::clone(&home.record);
        replay(log, &mut draft, &self.limits)?;
        let merged = stamp.onto(Some(&new.record), draft);
        match self.commit_at(new, Entry::Live(Arc::clone(&merged)), stamp).await? {
            Committed::Committed => Ok(merged),
            // Nobody knows the new ID yet: it can only have been evicted or have expired.
            Committed::Conflict(_) | Committed::Gone => Err(SessionError::Ended),
        }
    }

    /// A commit that waits for others does not wait for ever (I9).
    fn check_patience(&self, stamp: Stamp) -> Result<(), SessionError> {
        if self.now().since(stamp.now) > PATIENCE {
            return Err(SessionError::Contended);
        }
        Ok(())
    }

    fn tombstone(&self, home: &Home, new: &Home, rotation: Rotation, stamp: Stamp) -> Tombstone {
        let grace = match (rotation, &home.id, &new.id) {
            (Rotation::Renewal, Some(former), Some(new)) => Some(Grace {
                until: stamp.now + self.renewal_grace,
                sealed_id: SealedId::seal(new, former),
            }),
            _ => None,
        };
        Tombstone {
            revision: home.record.revision.next(),
            nonce: stamp.nonce,
            successor: new.key,
            expires_at: stamp.now + Self::ROTATION_WINDOW,
            grace,
        }
    }

    /// Removes a new record that came to nothing, if it can: nobody knows its ID, and it would end by
    /// itself.
    async fn abandon(&self, new: &Home) {
        if let Err(error) = (*self.store).delete(&new.key, self.now()).await {
            tracing::debug!(target: "session", key = %new.key, %error, "abandoned session left");
        }
    }

    /// Loads the session that a tombstone leads to, for a request that had loaded it before it moved.
    async fn successor(&self, home: &Home, tombstone: &Tombstone) -> Result<Home, SessionError> {
        let mut id = follow_id(home.id.as_ref(), tombstone);
        let mut key = tombstone.successor;
        for _ in 0..MAX_MOVES {
            match self.load(&key).await? {
                Some(Entry::Live(record)) => return Ok(Home { key, id, record }),
                Some(Entry::Moved(next)) => {
                    id = follow_id(id.as_ref(), &next);
                    key = next.successor;
                }
                None => break,
            }
        }
        Err(SessionError::Ended)
    }

    fn replayed(
        &self,
        home: &Home,
        log: &[Arc<Change>],
        stamp: Stamp,
    ) -> Result<Arc<Record>, SessionError> {
        let mut draft = Record::clone(&home.record);
        replay(log, &mut draft, &self.limits)?;
        Ok(stamp.onto(Some(&home.record), draft))
    }

    /// Commits, and asks again once if the answer was lost. The nonce tells whether the first time
    /// counted, so that nothing is applied twice (I6).
    async fn commit_at(
        &self,
        home: &Home,
        entry: Entry,
        stamp: Stamp,
    ) -> Result<Committed, StoreError> {
        let expected = home.record.revision;
        let ours = |stored: &Entry| stored.nonce() == stamp.nonce;
        match (*self.store).commit(&home.key, expected, entry.clone(), stamp.now).await {
            Ok(Committed::Conflict(stored)) if ours(&stored) => Ok(Committed::Committed),
            Err(lost) if lost.is_outcome_unknown() => {
                match (*self.store).commit(&home.key, expected, entry, stamp.now).await {
                    Ok(Committed::Conflict(stored)) if ours(&stored) => Ok(Committed::Committed),
                    // Somebody committed since, on top of our commit or instead of it.
                    Ok(Committed::Conflict(_)) | Err(_) => Err(lost),
                    answer => answer,
                }
            }
            answer => answer,
        }
    }

    /// Ends a session, and the one it moved to.
    async fn end(&self, mut key: SessionKey) -> Result<(), SessionError> {
        for _ in 0..MAX_CONFLICTS {
            match self.delete_at(&key).await? {
                Some(Entry::Moved(tombstone)) => key = tombstone.successor,
                Some(Entry::Live(_)) | None => return Ok(()),
            }
        }
        Err(SessionError::Contended)
    }

    /// Deletes, and asks again once if the answer was lost.
    async fn delete_at(&self, key: &SessionKey) -> Result<Option<Entry>, StoreError> {
        match (*self.store).delete(key, self.now()).await {
            Err(lost) if lost.is_outcome_unknown() => {
                // What is gone now was a session: a tombstone is left in place, and tells again.
                (*self.store).delete(key, self.now()).await.map_err(|_| lost)
            }
            answer => answer,
        }
    }
}

/// Where a commit left the session.
struct Stored {
    home: Home,
    /// A login by another request lies between what this one loaded and what is stored.
    crossed: bool,
}

/// What became of an attempt to put a tombstone in place.
enum Replaced {
    /// It is there.
    Done(Home),
    /// Another request's is there; this is where the session is.
    MovedTo(Home),
}

/// The ID behind a tombstone, where the former one tells it.
fn follow_id(former: Option<&SessionId>, tombstone: &Tombstone) -> Option<SessionId> {
    tombstone.grace.as_ref()?.sealed_id.unseal(former?, tombstone.successor)
}

/// Tells whether it is time to move the idle deadline or to replace the ID.
fn is_stale(home: &Home, now: Timestamp) -> bool {
    touch_is_due(&home.record, now) || renewal_is_due(home, now)
}

fn touch_is_due(record: &Record, now: Timestamp) -> bool {
    let stale = now.since(record.last_seen_at);
    !stale.is_zero() && stale >= record.lifetime.touch_interval()
}

fn renewal_is_due(home: &Home, now: Timestamp) -> bool {
    let age = now.since(home.record.issued_at);
    home.id.is_some()
        && home.record.lifetime.renew_after().is_some_and(|renew_after| age >= renew_after)
}

/// How long one commit tries again after others were faster.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often one commit tries again after others were faster.
const MAX_CONFLICTS: usize = 128;

/// How often the changes that came during a commit are done anew because more of them came.
const MAX_REDRAFTS: usize = 8;

/// How many IDs in use the generator may offer in a row.
const MAX_COLLISIONS: usize = 3;
