//! Commit and finish of a request. The work on the store is in [`protocol`](crate::protocol).

use std::{
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use tracing::{Instrument as _, Level, debug_span, field::display, span_enabled};

use super::{CookieChange, Session};
use crate::{
    Entry, EventKind, Record, SessionError, SessionKey, Timestamp, Touched,
    metrics::Operation,
    protocol::{Located, PendingCommit, Start, WriteContext},
    record::{Change, IdUse},
};

impl Session {
    /// Stores the changes so far. Call this if the handler needs the outcome before it goes on, or
    /// if the response's head leaves early (a stream, a web socket).
    ///
    /// Without changes, the call returns immediately. Commits use optimistic concurrency: if
    /// another request has committed meanwhile, the changes are replayed on the newer session
    /// ([I1]).
    ///
    /// # Errors
    ///
    /// - [`SessionError::Store`] if the store failed. If the changes are certainly not stored, they
    ///   stay recorded, and the next commit tries again. If the store's answer was lost, the commit
    ///   was repeated once. If the second answer was lost too, further commits fail with
    ///   [`SessionError::Unconfirmed`].
    /// - [`SessionError::Ended`] if the session was ended meanwhile ([I2]), or if the request signs
    ///   in or rotates and another request did that first. If [carrying
    ///   over](crate::SessionsBuilder::with_carry_over) is off, any other change fails too after
    ///   another request's login or rotation. Also if the request would begin a session although
    ///   the ID in its cookie was closed less than 30 seconds ago.
    /// - [`SessionError::Contended`] if other requests were faster 128 times, or for 5 seconds.
    /// - [`SessionError::TooManySessions`] if the login exceeds the session limit.
    /// - [`SessionError::Closed`] if the request was [dropped](Self::close) with changes.
    /// - The errors of an [`update`](Self::update) that was replayed.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the store has all of the changes or none of them. If the store had
    /// not answered yet, further commits fail with [`SessionError::Unconfirmed`], so that each
    /// change is applied at most once.
    ///
    /// [I1]: crate::guarantees#i1-no-lost-update
    /// [I2]: crate::guarantees#i2-no-resurrection
    pub async fn commit(&self) -> Result<(), SessionError> {
        let _turn = self.committing().lock().await;
        self.flush(false).await
    }

    /// Returns `true` if the last [`commit`](Self::commit) has failed, and its changes were not
    /// [discarded](Self::discard).
    ///
    /// If the response is an error too, the handler has reported the failure, and an integration
    /// [aborts](Self::abort) the session.
    #[must_use]
    pub fn has_failed_commit(&self) -> bool {
        self.state().has_failed_commit
    }

    /// Commits the remaining changes, records the use of the session, and returns the change of the
    /// client's cookie. Later changes are refused.
    ///
    /// An integration calls this before the response's head leaves.
    ///
    /// # Errors
    ///
    /// The errors of [`commit`](Self::commit). The response must then report a failure ([I6]), and
    /// must carry the cookie of [`pending_cookie`](Self::pending_cookie) ([I7]).
    ///
    /// [I6]: crate::guarantees#i6-acknowledged-means-stored
    /// [I7]: crate::guarantees#i7-an-outage-is-not-a-logout
    pub async fn finish(&self) -> Result<CookieChange, SessionError> {
        self.state().is_closed = true;
        let _turn = self.committing().lock().await;
        if let Err(error) = self.flush(false).await {
            self.drop_changes();
            return Err(error);
        }
        let now = self.protocol().now();
        let stale = {
            let state = self.state();
            let stale = state.located().filter(|located| self.upkeep_is_due(located, now)).cloned();
            if stale.is_none() && state.unchecked_key().is_none() {
                return Ok(state.cookie_change(now));
            }
            stale
        };
        if let Some(located) = stale {
            Box::pin(self.upkeep(located)).await;
        }
        let unchecked = self.state().unchecked_key();
        if let Some(key) = unchecked {
            Box::pin(self.check_key(key)).await;
        }
        Ok(self.state().cookie_change(now))
    }

    /// Does the same as [`finish`](Self::finish) without I/O, which is the usual case for a request
    /// that only read. Returns `None` if `finish` needs I/O, or has to wait for the commit of a
    /// clone.
    #[must_use]
    pub fn try_finish(&self) -> Option<CookieChange> {
        // A clone may be committing.
        let _turn = self.committing().try_lock()?;
        let mut state = self.state();
        if !state.is_idle() {
            return None;
        }
        let now = self.protocol().now();
        let upkeep_is_due = state.located().is_some_and(|located| self.upkeep_is_due(located, now));
        if upkeep_is_due || state.unchecked_key().is_some() {
            return None;
        }
        state.is_closed = true;
        let cookie = state.cookie_change(now);
        let dropped = state.take_changes();
        drop(state);
        drop(dropped);
        Some(cookie)
    }

    /// Discards the uncommitted changes, and refuses later changes. If there were uncommitted
    /// changes, [`commit`](Self::commit) returns [`SessionError::Closed`] to a task that still
    /// holds the session.
    ///
    /// An integration calls this when a request is dropped before [`finish`](Self::finish).
    pub fn close(&self) {
        let dropped = self.state().close();
        drop(dropped);
    }

    /// [Closes](Self::close) the session, and returns the change of the client's cookie by the
    /// commits so far. The call needs no I/O, and records no use of the session.
    ///
    /// An integration calls this in place of [`finish`](Self::finish) if the response reports a
    /// failure and must store nothing more.
    pub fn abort(&self) -> CookieChange {
        self.close();
        self.state().cookie_change(self.protocol().now())
    }

    /// Returns the change of the client's cookie after [`finish`](Self::finish) has failed: the ID
    /// that an earlier [`commit`](Self::commit) of the request gave the session. Never returns
    /// [`CookieChange::Remove`].
    pub fn pending_cookie(&self) -> CookieChange {
        self.state().pending_cookie(self.protocol().now())
    }

    /// Returns the time for which the client must carry a mark, for read-your-writes consistency.
    ///
    /// Until then, other processes may hold [local copies](crate::LocalReads) from before this
    /// request's changes, and the integration must pass the mark to
    /// [`Sessions::try_open_local`](crate::Sessions::try_open_local). Returns `None` if the request
    /// changed nothing, or if the store's copies are never stale.
    ///
    /// An integration calls this after [`finish`](Self::finish), after a failure too. The mark goes
    /// to the client with the response, in a separate cookie for example. The mark holds no data
    /// and is public. It must not hold a revision: responses to concurrent requests arrive in any
    /// order, and the older response would replace the newer mark.
    #[must_use]
    pub fn read_your_writes(&self) -> Option<Duration> {
        let has_written = self.state().has_written();
        let reads = has_written.then(|| (*self.protocol().store).local_reads()).flatten()?;
        Some(reads.mark_lifetime()).filter(|lifetime| !lifetime.is_zero())
    }

    /// Deletes the destroyed sessions, then stores the changes. The caller holds the lock of
    /// commits.
    pub(super) async fn flush(&self, releases_lock: bool) -> Result<(), SessionError> {
        let result = self.flush_all(releases_lock).await;
        self.state().has_failed_commit = result.is_err();
        result
    }

    async fn flush_all(&self, releases_lock: bool) -> Result<(), SessionError> {
        loop {
            let next = {
                let state = self.state();
                if state.has_lost_changes {
                    return Err(SessionError::Closed);
                }
                state.next_delete()
            };
            let Some((key, record)) = next else { break };
            self.delete(key, record).await?;
        }
        self.write(releases_lock).await
    }

    /// Deletes a session that the request destroys.
    async fn delete(
        &self,
        key: SessionKey,
        known: Option<Arc<Record>>,
    ) -> Result<(), SessionError> {
        self.state().begin_delete()?;
        let in_flight = InFlight { session: self, is_answered: false };
        let protocol = self.protocol();
        let deleting = protocol.metrics.measured(Operation::Destroy, protocol.delete_session(key));
        let deleted = match deleting.await {
            Ok(deleted) => deleted,
            Err(error) => {
                if !error.is_outcome_unknown() {
                    in_flight.answered();
                    self.state().delete_failed();
                }
                return Err(error);
            }
        };
        in_flight.answered();
        let was_there = match &deleted {
            Some((_, Some(_))) => true,
            // The record is missing if the store could not read it, or if the deletion was
            // repeated.
            _ => self.state().is_known(key, deleted.is_some()),
        };
        self.state().key_deleted(key, was_there);
        if was_there {
            let (key, record) = deleted.unwrap_or((key, None));
            protocol.report(EventKind::Destroyed, key, record.or(known).as_deref());
        }
        Ok(())
    }

    /// Stores the changes of the log.
    async fn write(&self, releases_lock: bool) -> Result<(), SessionError> {
        let Some((in_flight, pending)) = self.begin_write(releases_lock)? else { return Ok(()) };
        let answer = {
            // Pinned here, so that the future of this function holds it once.
            let commit = pin!(self.protocol().commit(&pending));
            traced(commit, || self.key()).await
        };
        match answer {
            Ok(outcome) => {
                in_flight.answered();
                let dropped = self.state().commit_stored(outcome);
                drop(dropped);
                Ok(())
            }
            Err(error) => {
                if !error.is_outcome_unknown() {
                    in_flight.answered();
                    let dropped = self.state().commit_failed(pending.log, &error);
                    drop(dropped);
                }
                Err(error)
            }
        }
    }

    /// Prepares the commit of the log. Returns `None` if a write is unnecessary.
    ///
    /// A function of its own, so that the future of a commit does not hold the parts of `pending`
    /// beside it.
    fn begin_write(
        &self,
        releases_lock: bool,
    ) -> Result<Option<(InFlight<'_>, PendingCommit)>, SessionError> {
        let begun = self.state().begin_commit(self.protocol(), releases_lock)?;
        let Some(mut taken) = begun else {
            let confirmed = self.state().take_confirmed();
            drop(confirmed);
            return Ok(None);
        };
        let in_flight = InFlight { session: self, is_answered: false };
        // Closures of the application run without the lock of the state.
        match taken.record(self.protocol()) {
            Ok(record) => Ok(Some((in_flight, taken.pending(record, self.realm())))),
            Err(error) => {
                in_flight.answered();
                let dropped = self.state().commit_failed(taken.log, &error);
                drop(dropped);
                Err(error)
            }
        }
    }

    /// Renews the ID, records that the client presented it, or moves the idle deadline: the first
    /// that is due.
    ///
    /// This is housekeeping: after a failure the request still succeeds, and the next request tries
    /// again.
    async fn upkeep(&self, located: Located) {
        let protocol = self.protocol();
        let now = protocol.now();
        let key = located.key;
        let change = if self.renewal_is_due(&located, now) {
            Some(Change::Renew)
        } else if presentation_is_due(&located) {
            Some(Change::Present)
        } else {
            None
        };
        if let Some(change) = change
            && let Err(error) = self.commit_alone(located, change).await
        {
            tracing::warn!(
                target: "session", %error, session.id = %key, "session not renewed this time"
            );
            return;
        }
        // Also if another request made the change, with an earlier use.
        let unrecorded = {
            let state = self.state();
            let located = state.located().filter(|located| touch_is_due(&located.record, now));
            located.map(|located| located.key)
        };
        let Some(key) = unrecorded else { return };
        match (*protocol.store).touch(&key, now).await {
            Ok(Touched::Touched) => {}
            // A login in another tab has moved the session: the ID is closed.
            Ok(Touched::Gone) => self.state().forget_id(),
            Err(error) => {
                // If the failures go on, sessions in use expire too early.
                tracing::warn!(
                    target: "session", %error, session.id = %key, "use of the session not recorded"
                );
            }
        }
    }

    fn upkeep_is_due(&self, located: &Located, now: Timestamp) -> bool {
        touch_is_due(&located.record, now)
            || presentation_is_due(located)
            || self.renewal_is_due(located, now)
    }

    fn renewal_is_due(&self, located: &Located, now: Timestamp) -> bool {
        let is_old = |renew_after| now.since(located.record.issued_at) >= renew_after;
        located.record.lifetime.renew_after().is_some_and(is_old)
            && located.may_renew(now, self.protocol().settings.renewal_grace)
    }

    /// Commits one change beside the log. The caller holds the lock of commits.
    pub(super) async fn commit_alone(
        &self,
        located: Located,
        change: Change,
    ) -> Result<(), SessionError> {
        let protocol = self.protocol();
        let context = {
            let mut state = self.state();
            state.has_written = true;
            WriteContext::new(protocol, state.fence(false), false)
        };
        let mut draft = Record::clone(&located.record);
        change.apply(&mut draft, true)?;
        context.stamp(Some(&located), &mut draft);
        let pending = PendingCommit {
            start: Start::Stored(located),
            realm: self.realm(),
            record: draft.into(),
            log: vec![change],
            context,
            carries_over: protocol.settings.carries_over,
        };
        match protocol.commit(&pending).await {
            Ok(outcome) => {
                let dropped = self.state().settle_outcome(outcome);
                drop(dropped);
                Ok(())
            }
            Err(error) => {
                if let SessionError::Ended = error {
                    self.state().forget_id();
                }
                Err(error)
            }
        }
    }

    /// Checks, for a session that a former ID opened, that the session still has the ID that the
    /// response would send. After a login in another tab, the browser may hold a newer cookie.
    ///
    /// If the store fails, the next response sends the ID instead.
    async fn check_key(&self, key: SessionKey) {
        let entry = self.protocol().load_entry(&key).await;
        self.state().key_checked(matches!(entry, Ok(Some(Entry::Session(_)))));
    }
}

/// Runs a commit in a span. Most applications disable debug spans, and a disabled one would still
/// cost a commit 2 % of its instructions.
async fn traced<T>(
    commit: Pin<&mut impl Future<Output = T>>,
    key: impl FnOnce() -> Option<SessionKey>,
) -> T {
    if span_enabled!(target: "session", Level::DEBUG) {
        let key = key().map(display);
        let span = debug_span!(target: "session", "session commit", session.id = key);
        commit.instrument(span).await
    } else {
        commit.await
    }
}

/// A write that the store has not answered yet. If its future is dropped, the outcome is unknown.
struct InFlight<'s> {
    session: &'s Session,
    is_answered: bool,
}

impl InFlight<'_> {
    fn answered(mut self) {
        self.is_answered = true;
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        if !self.is_answered {
            self.session.state().commit_lost();
        }
    }
}

fn touch_is_due(record: &Record, now: Timestamp) -> bool {
    record.lifetime.touch_is_due(record.last_seen_at, now)
}

/// Returns `true` if this is the first request with a renewed ID, which starts the grace of the
/// former ID.
fn presentation_is_due(located: &Located) -> bool {
    located.is_presented && located.record.id_use == IdUse::Renewed
}
