//! The commit of one request's changes, by optimistic concurrency: see the page of
//! [`protocol`](super).

use std::{slice, sync::Arc};

use super::{
    ClosedId, Located, MAX_MOVES, Protocol, ROTATION_WINDOW, WriteContext,
    locate::unseal,
    write::{Move, Patience},
};
use crate::{
    Committed, Entry, EventKind, Record, SessionError, Tombstone,
    metrics::Operation,
    record::{Cause, Change, IdUse, Realm, replay},
};

/// One commit of a request.
pub(crate) struct PendingCommit {
    pub(crate) start: Start,
    /// The realm of the IDs that the commit generates.
    pub(crate) realm: Realm,
    /// The record after a replay of the changes on `start`, with the stamp of `context`.
    pub(crate) record: Arc<Record>,
    pub(crate) log: Vec<Change>,
    pub(crate) context: WriteContext,
    /// Another request's login or rotation may come between the load and the commit.
    pub(crate) carries_over: bool,
}

/// The session that a commit starts from.
#[derive(Clone)]
pub(crate) enum Start {
    /// The session is not stored yet.
    New,
    /// The stored session, as the request knows it.
    Stored(Located),
    /// The request signs in, and another login or rotation has closed the ID in the cookie. The
    /// request joins the session of that login, if the rules allow this.
    Closed(Arc<ClosedId>),
}

/// The session after a commit.
pub(crate) enum Outcome {
    /// The commit has stored this record.
    Stored(Located),
    /// Another request has made the changes already: the session as loaded.
    Found(Located),
    /// Another request's login or rotation came between the load and the commit. This request must
    /// not see the stored session: the session as the request loaded it, with its changes.
    Overtaken(Located),
}

impl Outcome {
    pub(crate) fn located(&self) -> &Located {
        match self {
            Self::Stored(located) | Self::Found(located) | Self::Overtaken(located) => located,
        }
    }
}

/// The rights of a commit in the session that the commit has reached.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Standing {
    /// All changes: the request knows the session.
    Own,
    /// All changes but a further move: the request joined the session of another login.
    Joined,
    /// Changes of single values: another request's login or rotation came first.
    Overtaken,
}

/// The outcome of one attempt.
pub(super) enum Attempt {
    Done(Located),
    Newer(Arc<Record>),
    Tombstone(Arc<Tombstone>),
    Gone,
}

impl Protocol {
    /// Commits the changes of a request. If another request committed first, the changes are
    /// replayed on the newer record (I1).
    pub(crate) fn commit<'c>(
        &'c self,
        pending: &'c PendingCommit,
    ) -> impl Future<Output = Result<Outcome, SessionError>> + Send + 'c {
        self.metrics.measured(Operation::Commit, self.store_changes(pending))
    }

    async fn store_changes(&self, pending: &PendingCommit) -> Result<Outcome, SessionError> {
        let PendingCommit { start, record, log, context, .. } = pending;
        let conflict = match start {
            Start::Stored(base)
                if context.is_alive(record) && move_of(log, base, self).is_none() =>
            {
                match self.replace(base, record, context).await? {
                    Attempt::Done(located) => return Ok(Outcome::Stored(located)),
                    conflict => Some(conflict),
                }
            }
            Start::Closed(closed) => Some(Attempt::Tombstone(Arc::clone(&closed.tombstone))),
            Start::New | Start::Stored(_) => None,
        };
        // Boxed, to keep the future of a commit small: most commits succeed without this loop.
        Box::pin(Commit::new(self, pending).run(conflict)).await
    }

    /// Replaces the located record by compare-and-swap.
    pub(super) async fn replace(
        &self,
        base: &Located,
        record: &Arc<Record>,
        context: &WriteContext,
    ) -> Result<Attempt, SessionError> {
        context.check_fence(&base.record, || self.now())?;
        self.extend_in_indexes(base, record, context.now).await?;
        let entry = Entry::Session(Arc::clone(record));
        Ok(match self.commit_entry(base, entry, context.now).await? {
            Committed::Committed => {
                Attempt::Done(Located { record: Arc::clone(record), ..base.clone() })
            }
            Committed::Conflict(entry) => Attempt::conflict(entry),
            Committed::Gone => Attempt::Gone,
        })
    }

    /// Expires the located session by compare-and-swap, because a change of this commit set an end
    /// or a lifetime that has passed.
    ///
    /// A deletion would follow the session to a new ID, where the change does not count.
    async fn expire(
        &self,
        base: &Located,
        context: &WriteContext,
    ) -> Result<Attempt, SessionError> {
        context.check_fence(&base.record, || self.now())?;
        let marker = Tombstone {
            revision: base.record.revision.next(),
            family: base.record.family,
            id_use: base.record.id_use,
            ..Tombstone::end_marker(context.nonce, context.now + ROTATION_WINDOW)
        };
        Ok(match self.commit_entry(base, Entry::Tombstone(Arc::new(marker)), context.now).await? {
            Committed::Committed => {
                self.leave_indexes(base.key, &base.record).await;
                self.report(EventKind::Expired, base.key, Some(&base.record));
                Attempt::Gone
            }
            Committed::Conflict(entry) => Attempt::conflict(entry),
            Committed::Gone => Attempt::Gone,
        })
    }
}

impl Attempt {
    /// Returns the outcome of a compare-and-swap that found another entry.
    pub(super) fn conflict(entry: Entry) -> Self {
        match entry {
            Entry::Session(newer) => Self::Newer(newer),
            Entry::Tombstone(tombstone) => Self::Tombstone(tombstone),
        }
    }
}

/// A commit that needs more than one compare-and-swap.
pub(super) struct Commit<'c> {
    pub(super) protocol: &'c Protocol,
    pub(super) pending: &'c PendingCommit,
    /// The context, with the time of the present attempt.
    pub(super) context: WriteContext,
    base: Option<Located>,
    pub(super) record: Arc<Record>,
    standing: Standing,
    pub(super) patience: Patience,
    /// The record that an attempt has created under a fresh ID, until its move is done.
    pub(super) created: Option<Located>,
    pub(super) has_place: bool,
}

impl<'c> Commit<'c> {
    fn new(protocol: &'c Protocol, pending: &'c PendingCommit) -> Self {
        let context = pending.context;
        let base = match &pending.start {
            Start::New => None,
            Start::Stored(base) => Some(base.clone()),
            Start::Closed(closed) => {
                // Only the tombstone of a visitor's login leads to the new ID.
                let visitor = Record::new(context.now, protocol.settings.anonymous_lifetime);
                Some(Located {
                    key: closed.id.key(),
                    id: Some(closed.id.clone()),
                    record: Arc::new(visitor),
                    is_presented: true,
                })
            }
        };
        Self {
            protocol,
            pending,
            context,
            base,
            record: Arc::clone(&pending.record),
            standing: Standing::Own,
            patience: Patience::new(context.now),
            created: None,
            has_place: false,
        }
    }

    async fn run(mut self, conflict: Option<Attempt>) -> Result<Outcome, SessionError> {
        let result = self.attempts(conflict).await;
        if let Some(unused) = self.created.take() {
            self.protocol.abandon(&unused).await;
        }
        match (result?, &self.pending.start) {
            // The request continues as if the session were the loaded one, with its own changes.
            (_, Start::Stored(base)) if self.standing == Standing::Overtaken => {
                let record = Arc::clone(&self.pending.record);
                Ok(Outcome::Overtaken(Located { record, ..base.clone() }))
            }
            (outcome, _) => Ok(outcome),
        }
    }

    async fn attempts(&mut self, conflict: Option<Attempt>) -> Result<Outcome, SessionError> {
        let protocol = self.protocol;
        let mut conflict = conflict;
        let mut turn = None;
        loop {
            let attempt = match conflict.take() {
                Some(conflict) => conflict,
                None => self.attempt().await?,
            };
            let base = match attempt {
                Attempt::Done(located) => return Ok(Outcome::Stored(located)),
                Attempt::Newer(newer) => {
                    protocol.metrics.on_conflict();
                    let base = self.base.take().expect("a conflict is about a stored session");
                    Located { record: newer, ..base }
                }
                Attempt::Tombstone(tombstone) => {
                    protocol.metrics.on_conflict();
                    match self.follow(&tombstone).await {
                        Err(SessionError::Ended) if self.restart_as_new() => continue,
                        followed => followed?,
                    }
                }
                Attempt::Gone => return Err(self.ended()),
            };
            if turn.is_none() {
                turn = Some(protocol.contention.turn(base.key).await);
            }
            self.context = self.context.at(protocol.now());
            self.patience.check(self.context.now)?;
            if !self.log().any(|change| self.is_due(change, &base)) {
                // Another request has made the remaining changes, or they do not count any more.
                return Ok(Outcome::Found(base));
            }
            let mut draft = Record::clone(&base.record);
            self.base = Some(base);
            let created_at = draft.created_at;
            let is_own = self.standing != Standing::Overtaken;
            replay(self.log(), &mut draft, &protocol.settings.limits, is_own)
                .map_err(|error| if is_own { error } else { without_content(error) })?;
            self.context.stamp(self.base.as_ref(), &mut draft);
            if self.standing == Standing::Joined {
                // The session began with the login that it joins. The limit orders logins by this.
                draft.created_at = created_at;
            }
            self.record = Arc::new(draft);
        }
    }

    async fn attempt(&mut self) -> Result<Attempt, SessionError> {
        let protocol = self.protocol;
        if !self.context.is_alive(&self.record) {
            return match &self.base {
                // The store decides: another request may have extended the session meanwhile.
                Some(base) if !self.begins_login_or_acting() => {
                    protocol.expire(base, &self.context).await
                }
                _ => Ok(Attempt::Gone),
            };
        }
        let Some(base) = self.base.clone() else {
            let new = self.create(&Arc::clone(&self.record)).await?;
            return self.begin(new).await;
        };
        let fresh_id = match self.standing {
            Standing::Own => move_of(&self.pending.log, &base, protocol),
            Standing::Joined | Standing::Overtaken => None,
        };
        match fresh_id {
            None => protocol.replace(&base, &self.record, &self.context).await,
            Some(kind) => self.move_to_fresh_id(&base, kind).await,
        }
    }

    /// Returns `true` if the commit signs a user in, or makes a user act as another. If the record has
    /// expired already, it is not stored, and the session before stays.
    pub(super) fn begins_login_or_acting(&self) -> bool {
        let acts = |change: &Change| matches!(change, Change::ActAs { .. });
        let begins_acting = self.record.actor.is_some() && self.pending.log.iter().any(acts);
        self.context.login_at.is_some() || begins_acting
    }

    /// Returns `true` if a login or an impersonation has reached its end while it was stored. Such a
    /// record ends no other session, and does not take the place of the session before.
    pub(super) fn is_over(&mut self, new: &Located) -> bool {
        self.context = self.context.at(self.protocol.now());
        self.begins_login_or_acting() && !self.context.is_alive(&new.record)
    }

    /// Stores a record under a fresh ID.
    pub(super) async fn create(&mut self, record: &Arc<Record>) -> Result<Located, SessionError> {
        let realm = self.pending.realm;
        self.protocol.create(record, realm, self.context.now, &mut self.patience).await
    }

    /// Completes a session that was not stored before.
    async fn begin(&mut self, new: Located) -> Result<Attempt, SessionError> {
        let protocol = self.protocol;
        if new.record.owner.is_some() {
            self.created = Some(new.clone());
            if self.is_over(&new) {
                return Ok(Attempt::Gone);
            }
            protocol.make_room(&new, None).await?;
            if self.is_over(&new) {
                return Ok(Attempt::Gone);
            }
            self.created = None;
        }
        protocol.report_fresh_id(&self.pending.log, None, &new);
        Ok(Attempt::Done(new))
    }

    /// The changes that this commit replays.
    fn log(&self) -> impl Iterator<Item = &'c Change> + use<'c> {
        let (log, standing) = (&self.pending.log, self.standing);
        let last_login = log.iter().rposition(Change::is_login);
        log.iter().enumerate().flat_map(move |(place, change)| match (standing, change) {
            // An earlier login of another user in this request would clear the values of the joined
            // session.
            (Standing::Joined, Change::Authenticate(_)) if Some(place) != last_login => &[],
            (Standing::Joined, Change::Rotate | Change::Renew) => &[],
            (Standing::Own | Standing::Joined, _) => slice::from_ref(change),
            (Standing::Overtaken, Change::Clear { seen }) => seen.as_slice(),
            (Standing::Overtaken, change) if change.name().is_some() => slice::from_ref(change),
            (Standing::Overtaken, _) => &[],
        })
    }

    /// Returns `false` if another request has just made the same change.
    fn is_due(&self, change: &Change, base: &Located) -> bool {
        match change {
            Change::Renew => move_of(&self.pending.log, base, self.protocol).is_some(),
            Change::Present => base.is_presented && base.record.id_use == IdUse::Renewed,
            _ => true,
        }
    }

    /// Returns the session that a tombstone leads to, and decides which changes of this commit
    /// count there.
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
                Cause::Rotated { changes_user: true, .. } => return Err(SessionError::Ended),
                Cause::Rotated { successor, .. } => {
                    self.be_overtaken(id.is_some())?;
                    *successor
                }
            };
            match protocol.load_entry(&successor).await? {
                Some(Entry::Session(record)) => {
                    let stays =
                        former.record.owner.is_none() || record.is_of_same_user(&former.record);
                    // A joined session keeps its key, and so its links.
                    let joins = self.standing != Standing::Joined
                        || record.is_of_same_user(&self.record)
                            && record.links == self.record.links;
                    if !(stays && joins) {
                        return Err(SessionError::Ended);
                    }
                    if self.standing == Standing::Overtaken {
                        id = None;
                    }
                    return Ok(Located { key: successor, id, record, is_presented: false });
                }
                Some(Entry::Tombstone(next)) => tombstone = next,
                None => break,
            }
        }
        Err(SessionError::Ended)
    }

    /// Begins a new session, instead of joining the session of another login, if the request was
    /// opened after that login. Returns `true` if the commit begins a new session.
    fn restart_as_new(&mut self) -> bool {
        let Start::Closed(closed) = &self.pending.start else { return false };
        let is_first = self.base.as_ref().is_some_and(|base| base.key == closed.id.key());
        if is_first {
            self.base = None;
            self.standing = Standing::Own;
        }
        is_first
    }

    /// Decides whether this commit may follow another request's login or rotation.
    fn be_overtaken(&mut self, knows_id: bool) -> Result<(), SessionError> {
        if self.pending.log.iter().any(Change::closes_id) {
            let was_visitor = match &self.pending.start {
                Start::New => false,
                Start::Stored(base) => base.record.owner.is_none(),
                Start::Closed(_) => true,
            };
            let signs_in = self.context.login_at.is_some();
            // A stolen or planted ID must not lead to the ID of a login. Only a second login
            // of the same user on a visitor's session may join the first login.
            if !(signs_in && was_visitor && knows_id && self.standing == Standing::Own) {
                return Err(SessionError::Ended);
            }
            self.standing = Standing::Joined;
        } else {
            if !self.pending.carries_over {
                return Err(SessionError::Ended);
            }
            self.standing = Standing::Overtaken;
        }
        Ok(())
    }

    /// Returns the error for a session that is gone, and reports its expiry if its deadline has
    /// passed.
    fn ended(&self) -> SessionError {
        if let Some(base) = &self.base
            && base.record.expires_at() <= self.protocol.now()
        {
            // The session stays in the index: on a server whose clock is behind, the session may
            // still be alive.
            self.protocol.report(EventKind::Expired, base.key, Some(&base.record));
        }
        SessionError::Ended
    }
}

/// Returns the move that a change log requires.
pub(super) fn move_of(log: &[Change], base: &Located, protocol: &Protocol) -> Option<Move> {
    let may_renew = || base.may_renew(protocol.now(), protocol.settings.renewal_grace);
    let moves = log.iter().filter_map(|change| match change {
        Change::Authenticate(_) => Some(Move::Login),
        Change::Renew => may_renew().then_some(Move::Renewal),
        // The indexes of a record never change under one key.
        Change::Link(link) if base.record.links.contains(link) => None,
        change => change.closes_id().then_some(Move::Rotation),
    });
    moves.max()
}

/// Returns the error of an overtaken request. A text from the application or a codec could hold content
/// of the session, which this request must not see.
fn without_content(error: SessionError) -> SessionError {
    match error {
        SessionError::Refused { .. }
        | SessionError::Decode { .. }
        | SessionError::Encode { .. } => SessionError::Ended,
        other => other,
    }
}
