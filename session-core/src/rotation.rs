//! How a session moves to a fresh ID.

use std::sync::Arc;

use crate::{
    Committed, Entry, Event, Record, SessionError, SessionId, SessionKey, Sessions, Tombstone,
    change::{Change, replay},
    creation::Placed,
    merge::MAX_CONFLICTS,
    record::Grace,
    seal::SealedId,
    sessions::{Home, MAX_MOVES},
    work::{Rotation, Stamp},
};

impl Sessions {
    /// Moves the session to a fresh ID: the new record first, then the tombstone in place of the old
    /// one, each on its own key, so that a crash in between logs nobody out (I4).
    pub(crate) async fn rotate(
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
            self.check_claim(&home, stamp)?;
            Arc::make_mut(&mut record).predecessor = Some(home.key);
            home = match self.create(&record, Some(rotation), Some(&home), stamp).await? {
                Placed::FormerMoved(tombstone) => self.successor(&home, &tombstone).await?,
                Placed::At(new, siblings) => {
                    match self.replace(&mut home, new, log, rotation, stamp).await? {
                        Replaced::MovedTo(successor) => successor,
                        Replaced::Done(new) => {
                            let (key, former) = (new.key, home.key);
                            self.forget(&home.record, &[former]).await;
                            self.end_siblings(&new.record, &siblings).await;
                            self.tell(match rotation {
                                Rotation::Login => {
                                    Event::Authenticated { key, former: Some(former) }
                                }
                                Rotation::Renewal => Event::Renewed { key, former },
                            });
                            return Ok(new);
                        }
                    }
                }
            };
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
                    return self.update(&home, record, &rest, stamp).await;
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
            let checked = self.check_patience(stamp).and_then(|()| self.check_claim(home, stamp));
            if let Err(error) = checked {
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
                    if matches!(error, SessionError::Ended)
                        && let Some(Entry::Moved(tombstone)) = self.load(&home.key).await?
                    {
                        // A login from the same session was faster, and has ended what came too late.
                        return Ok(Replaced::MovedTo(self.successor(home, &tombstone).await?));
                    }
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
        let mut merged = stamp.onto(Some(&new.record), draft);
        Arc::make_mut(&mut merged).predecessor = new.record.predecessor;
        self.keep_entered(&new.key, &new.record, &merged, stamp).await?;
        match self.commit_at(new, Entry::Live(Arc::clone(&merged)), stamp).await? {
            Committed::Committed => Ok(merged),
            // Nobody knows the new ID yet: it can only have been evicted or have expired.
            Committed::Conflict(_) | Committed::Gone => Err(SessionError::Ended),
        }
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
            successor: Some(new.key),
            expires_at: stamp.now + Self::ROTATION_WINDOW,
            grace,
        }
    }

    /// Removes a new record that came to nothing, if it can: nobody knows its ID, and it would end by
    /// itself.
    async fn abandon(&self, new: &Home) {
        match (*self.store).delete(&new.key, self.now()).await {
            Ok(_) => self.forget(&new.record, &[new.key]).await,
            Err(error) => {
                tracing::debug!(target: "session", key = %new.key, %error, "abandoned session left");
            }
        }
    }

    /// Ends what other logins from the same session have stored, whose tombstone comes too late now: one that
    /// broke off would take a place for as long as it lives.
    async fn end_siblings(&self, record: &Record, siblings: &[SessionKey]) {
        if siblings.is_empty() {
            return;
        }
        match (*self.store).end_many(siblings, self.end_marker(), self.now()).await {
            Ok(_) => self.forget(record, siblings).await,
            Err(error) => tracing::debug!(target: "session", %error, "abandoned sessions left"),
        }
    }

    /// Loads the session that a tombstone leads to, for a request that had loaded it before it moved. One
    /// that another user took over is over for this one's.
    pub(crate) async fn successor(
        &self,
        home: &Home,
        tombstone: &Tombstone,
    ) -> Result<Home, SessionError> {
        let mut id = follow_id(home.id.as_ref(), tombstone);
        let mut successor = tombstone.successor;
        for _ in 0..MAX_MOVES {
            let Some(key) = successor else { break };
            match self.load(&key).await? {
                Some(Entry::Live(record)) => {
                    let former = &home.record.owner;
                    if former.is_some() && record.owner != *former {
                        break;
                    }
                    return Ok(Home { key, id, record });
                }
                Some(Entry::Moved(next)) => {
                    id = follow_id(id.as_ref(), &next);
                    successor = next.successor;
                }
                None => break,
            }
        }
        Err(SessionError::Ended)
    }
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
    tombstone.grace.as_ref()?.sealed_id.unseal(former?, tombstone.successor?)
}
