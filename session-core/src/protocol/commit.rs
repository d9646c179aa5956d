//! The commit of one request's changes: see the page of [`protocol`](super).

use std::sync::Arc;

use super::{
    Located, MAX_MOVES, Protocol, ROTATION_WINDOW, Superseded, WriteContext,
    locate::unseal,
    rotate::Progress,
    write::{Patience, Rotation},
};
use crate::{
    Committed, Entry, Event, EventKind, Record, SessionError, Tombstone,
    record::{Cause, Change, IdUse, replay},
};

/// One commit of a request.
pub(crate) struct PendingCommit {
    /// The session as the request knows it. `None` if it is not stored.
    pub(crate) base: Option<Located>,
    /// The request signs in, and its cookie holds an ID that another login has closed.
    pub(crate) superseded: Option<Arc<Superseded>>,
    /// The changes, replayed on `base`, with the stamp of `context`.
    pub(crate) record: Arc<Record>,
    pub(crate) log: Vec<Change>,
    pub(crate) context: WriteContext,
}

impl PendingCommit {
    /// The session as the request has loaded it, or would have before the other login.
    fn loaded(&self, protocol: &Protocol) -> Option<Located> {
        self.base.clone().or_else(|| {
            let id = self.superseded.as_ref()?.id.clone();
            // The tombstone of a visitor's login alone leads to the new ID.
            let visitor = Record::new(self.context.now, protocol.settings.anonymous_lifetime);
            let record = Arc::new(visitor);
            Some(Located { key: id.key(), id: Some(id), record, is_presented: true })
        })
    }
}

/// The session after a commit.
pub(crate) struct Outcome {
    pub(crate) located: Located,
    /// Another request's login or rotation lies between the session that this request loaded and the
    /// stored one, which this request must not see.
    pub(crate) is_overtaken: bool,
}

/// The part of a change log that is replayed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Part {
    Everything,
    /// The request joined the session of another login: nothing moves it again.
    WithoutMove,
    /// The request was overtaken by a login or a rotation.
    ValuesOnly,
}

/// The outcome of one attempt.
pub(super) enum Attempt {
    Done(Located),
    Newer(Arc<Record>),
    Moved(Arc<Tombstone>),
    Gone,
}

impl Protocol {
    /// Carries out a commit.
    pub(crate) async fn commit(&self, pending: &PendingCommit) -> Result<Outcome, SessionError> {
        let PendingCommit { base, superseded, record, log, context } = pending;
        if let Some(base) = base
            && context.is_alive(record)
            && rotation_of(log, base, self).is_none()
        {
            match self.replace(base, record, *context).await? {
                Attempt::Done(located) => return Ok(Outcome { located, is_overtaken: false }),
                // In a box: most requests meet nobody, and would carry the future's size about.
                met => return Box::pin(Commit::new(self, pending).run(Some(met))).await,
            }
        }
        let moved =
            |superseded: &Arc<Superseded>| Attempt::Moved(Arc::clone(&superseded.tombstone));
        Box::pin(Commit::new(self, pending).run(superseded.as_ref().map(moved))).await
    }

    /// Puts a record in place of the located one, if that is still there.
    pub(super) async fn replace(
        &self,
        base: &Located,
        record: &Arc<Record>,
        context: WriteContext,
    ) -> Result<Attempt, SessionError> {
        context.check_fence(&base.record, self.now())?;
        self.keep_entered(base, record, context).await?;
        let entry = Entry::Live(Arc::clone(record));
        Ok(match self.commit_entry(base, entry, context).await? {
            Committed::Committed => {
                Attempt::Done(Located { record: Arc::clone(record), ..base.clone() })
            }
            Committed::Conflict(entry) => Attempt::met(entry),
            Committed::Gone => Attempt::Gone,
        })
    }

    /// Ends the located session, if it is still there, because a change of this commit set an end
    /// or a lifetime that has passed.
    ///
    /// It is no deletion, which would follow the session to a new ID, where the change does not
    /// count.
    async fn expire(&self, base: &Located, context: WriteContext) -> Result<Attempt, SessionError> {
        context.check_fence(&base.record, self.now())?;
        let marker = Tombstone {
            revision: base.record.revision.next(),
            family: base.record.family,
            id_use: base.record.id_use,
            ..Tombstone::end_marker(context.nonce, context.now + ROTATION_WINDOW)
        };
        Ok(match self.commit_entry(base, Entry::Moved(Arc::new(marker)), context).await? {
            Committed::Committed => {
                self.drop_entry(base.key, &base.record).await;
                self.report(EventKind::Expired, base.key, base.record.owner.as_ref());
                Attempt::Gone
            }
            Committed::Conflict(entry) => Attempt::met(entry),
            Committed::Gone => Attempt::Gone,
        })
    }
}

impl Attempt {
    /// A compare-and-swap met another entry.
    pub(super) fn met(entry: Entry) -> Self {
        match entry {
            Entry::Live(newer) => Self::Newer(newer),
            Entry::Moved(tombstone) => Self::Moved(tombstone),
        }
    }
}

/// A commit that needs more than one compare-and-swap.
struct Commit<'c> {
    protocol: &'c Protocol,
    pending: &'c PendingCommit,
    base: Option<Located>,
    record: Arc<Record>,
    part: Part,
    patience: Patience,
    /// The record under a fresh ID that an attempt has created and whose move is not done.
    created: Option<Located>,
    /// The session limit has been checked.
    has_room: bool,
}

impl<'c> Commit<'c> {
    fn new(protocol: &'c Protocol, pending: &'c PendingCommit) -> Self {
        Self {
            protocol,
            pending,
            base: pending.loaded(protocol),
            record: Arc::clone(&pending.record),
            part: Part::Everything,
            patience: Patience::new(pending.context.now),
            created: None,
            has_room: false,
        }
    }

    async fn run(mut self, met: Option<Attempt>) -> Result<Outcome, SessionError> {
        let result = self.attempts(met).await;
        if let Some(unused) = self.created.take() {
            self.protocol.abandon(&unused).await;
        }
        let located = result?;
        if self.part != Part::ValuesOnly {
            return Ok(Outcome { located, is_overtaken: false });
        }
        // The request goes on as if the session were the one that it loaded, with its own changes.
        let base = self.pending.base.clone().expect("only a stored session is overtaken");
        let located = Located { record: Arc::clone(&self.pending.record), id: None, ..base };
        Ok(Outcome { located, is_overtaken: true })
    }

    async fn attempts(&mut self, met: Option<Attempt>) -> Result<Located, SessionError> {
        let (protocol, context) = (self.protocol, self.pending.context);
        let mut met = met;
        let mut turn = None;
        loop {
            let attempt = match met.take() {
                Some(attempt) => attempt,
                None => self.attempt().await?,
            };
            let base = match attempt {
                Attempt::Done(located) => return Ok(located),
                Attempt::Newer(newer) => {
                    let base = self.base.take().expect("a conflict is about a stored session");
                    Located { record: newer, ..base }
                }
                Attempt::Moved(tombstone) => match self.follow(&tombstone).await {
                    Err(SessionError::Ended) if self.begins_anew() => continue,
                    followed => followed?,
                },
                Attempt::Gone => return Err(self.ended()),
            };
            if turn.is_none() {
                turn = Some(protocol.contention.turn(base.key).await);
            }
            self.patience.check(protocol.now())?;
            if !self.log().any(|change| self.is_due(change, &base)) {
                // Another request has done the rest, or none of it counts any more.
                return Ok(base);
            }
            let mut draft = Record::clone(&base.record);
            replay(self.log(), &mut draft, &protocol.settings.limits)?;
            context.stamp(Some(&base), &mut draft);
            self.record = Arc::new(draft);
            self.base = Some(base);
        }
    }

    async fn attempt(&mut self) -> Result<Attempt, SessionError> {
        let (protocol, context) = (self.protocol, self.pending.context);
        if !context.is_alive(&self.record) {
            return match &self.base {
                // A login that has expired is not stored, and ends no session.
                Some(base) if context.is_alive(&base.record) && !context.is_login => {
                    protocol.expire(base, context).await
                }
                _ => Ok(Attempt::Gone),
            };
        }
        let Some(base) = &self.base else {
            let new = protocol.create(&self.record, context, &mut self.patience).await?;
            return self.begin(new).await;
        };
        let rotation = match self.part {
            Part::Everything => rotation_of(&self.pending.log, base, protocol),
            Part::WithoutMove | Part::ValuesOnly => None,
        };
        match rotation {
            None => protocol.replace(base, &self.record, context).await,
            Some(rotation) => {
                let mut progress = Progress {
                    created: &mut self.created,
                    has_room: &mut self.has_room,
                    patience: &mut self.patience,
                };
                protocol.rotate(base, &self.record, rotation, context, &mut progress).await
            }
        }
    }

    /// Completes a session that was not stored before.
    async fn begin(&mut self, new: Located) -> Result<Attempt, SessionError> {
        let protocol = self.protocol;
        let owner = new.record.owner.clone();
        if owner.is_some() {
            self.created = Some(new.clone());
            protocol.make_room(&new, None).await?;
            self.created = None;
        }
        let kind = match &owner {
            Some(_) => EventKind::Authenticated,
            None => EventKind::Created,
        };
        protocol.report(kind, new.key, owner.as_ref());
        Ok(Attempt::Done(new))
    }

    /// The changes that this commit replays.
    fn log(&self) -> impl Iterator<Item = &'c Change> + use<'c> {
        let part = self.part;
        self.pending.log.iter().filter(move |change| match part {
            Part::Everything => true,
            Part::WithoutMove => !matches!(change, Change::Rotate | Change::Renew),
            Part::ValuesOnly => matches!(
                change,
                Change::Set { .. }
                    | Change::Remove { .. }
                    | Change::Update { .. }
                    | Change::Take { .. }
            ),
        })
    }

    /// Returns `false` for a change that another request has just made as well.
    fn is_due(&self, change: &Change, base: &Located) -> bool {
        match change {
            Change::Renew => rotation_of(&self.pending.log, base, self.protocol).is_some(),
            Change::Present => base.is_presented && base.record.id_use == IdUse::Renewed,
            _ => true,
        }
    }

    /// Finds the session behind a tombstone, and decides which part of this commit counts there.
    async fn follow(&mut self, tombstone: &Arc<Tombstone>) -> Result<Located, SessionError> {
        let protocol = self.protocol;
        let former = self.base.clone().expect("only a stored session moves");
        let mut id = former.id.clone();
        let mut tombstone = Arc::clone(tombstone);
        for _ in 0..MAX_MOVES {
            id = unseal(id.as_ref(), &tombstone);
            let successor = match &tombstone.cause {
                Cause::Ended => return Err(SessionError::Ended),
                Cause::Renewed { successor, .. } => *successor,
                Cause::Rotated { successor, .. } => {
                    self.be_overtaken(id.is_some())?;
                    *successor
                }
            };
            match protocol.load_entry(&successor).await? {
                Some(Entry::Live(record)) => {
                    let owner = &former.record.owner;
                    let stays = owner.is_none() || record.owner == *owner;
                    let joins = self.part != Part::WithoutMove || record.owner == self.record.owner;
                    if !(stays && joins) {
                        return Err(SessionError::Ended);
                    }
                    if self.part == Part::ValuesOnly {
                        id = None;
                    }
                    return Ok(Located { key: successor, id, record, is_presented: false });
                }
                Some(Entry::Moved(next)) => tombstone = next,
                None => break,
            }
        }
        Err(SessionError::Ended)
    }

    /// Gives up to join the session of another login, if the request was opened after that. It
    /// begins a session of its own.
    fn begins_anew(&mut self) -> bool {
        let superseded = self.pending.superseded.as_ref();
        let is_first = superseded.is_some_and(|superseded| {
            self.base.as_ref().is_some_and(|base| base.key == superseded.id.key())
        });
        if is_first {
            self.base = None;
            self.part = Part::Everything;
        }
        is_first
    }

    /// Another request's login or rotation came before this commit.
    fn be_overtaken(&mut self, knows_id: bool) -> Result<(), SessionError> {
        let signs_in = self.pending.context.is_login;
        let moves =
            |change: &Change| matches!(change, Change::Authenticate { .. } | Change::Rotate);
        let loaded = self.pending.loaded(self.protocol);
        let is_visitor = loaded.is_some_and(|loaded| loaded.record.owner.is_none());
        if self.pending.log.iter().any(moves) {
            // A stolen or planted ID must not lead to the ID of a login (S0). Only the same user's
            // second login on a visitor's session may join the first.
            if !(signs_in && is_visitor && knows_id && self.part == Part::Everything) {
                return Err(SessionError::Ended);
            }
            self.part = Part::WithoutMove;
        } else {
            if !self.protocol.settings.carries_over {
                return Err(SessionError::Ended);
            }
            self.part = Part::ValuesOnly;
        }
        Ok(())
    }

    /// The store holds nothing under the key any more.
    fn ended(&self) -> SessionError {
        if let Some(base) = &self.base
            && base.record.expires_at() <= self.protocol.now()
        {
            // On a server whose clock is behind the session may live on, so it stays in the index.
            let owner = base.record.owner.as_ref();
            self.protocol.events.send(Event::new(EventKind::Expired, base.key, owner));
        }
        SessionError::Ended
    }
}

/// Returns the move that a change log asks for.
pub(super) fn rotation_of(log: &[Change], base: &Located, protocol: &Protocol) -> Option<Rotation> {
    let mut rotation = None;
    for change in log {
        match change {
            Change::Authenticate { .. } => return Some(Rotation::Login),
            Change::Rotate => rotation = Some(Rotation::Rotate),
            // One renewal at a time: while the former ID still opens the session, the present one is
            // fresh enough.
            Change::Renew
                if rotation.is_none()
                    && base.id.is_some()
                    && !base
                        .record
                        .id_use
                        .former_opens(protocol.now(), protocol.settings.renewal_grace) =>
            {
                rotation = Some(Rotation::Renewal);
            }
            _ => {}
        }
    }
    rotation
}
