//! The protocol's second half, as a request sees it: commit and finish.

use std::{sync::Arc, time::Duration};

use tracing::{Instrument as _, debug_span};

use crate::{
    CookieChange, Event, Record, Session, SessionError, Timestamp, change::replay, merge::Stored,
    sessions::Home, state::State,
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
    /// - [`SessionError::Contended`] if other requests were faster each of 128 times, or for 5 seconds;
    ///   or if a login waited for 10 seconds for others of owners whose sessions are limited.
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
        let locks = self.state().hold.is_some();
        if locks && let Err(error) = Box::pin(self.release_hold()).await {
            // All that the request recorded is stored.
            tracing::debug!(target: "session", %error, "lock not released, ends by itself");
        }
        let now = self.sessions().now();
        let stale = self.state().home.as_ref().filter(|home| is_stale(home, now)).cloned();
        if let Some(home) = stale {
            Box::pin(self.keep_alive(home)).await;
        }
        Ok(self.state().cookie(now))
    }

    /// Commits, and releases the lock in the same step.
    pub(crate) async fn commit_and_release(&self) -> Result<(), SessionError> {
        let _committing = self.committing().lock().await;
        self.end_doomed().await?;
        self.write().await?;
        self.release_hold().await
    }

    /// What the client has to be told although [`finish`](Self::finish) failed: the ID that an earlier
    /// [`commit`](Self::commit) of the request gave the session. Never a removal.
    pub fn untold_cookie(&self) -> CookieChange {
        self.state().untold(self.sessions().now())
    }

    /// For how long the client has to be marked, because copies that are older than what this request has
    /// changed may be [answered](crate::Copies) by other processes. Until that time has passed,
    /// [`open_without_io`](crate::Sessions::open_without_io) has to know of it, so that the client reads what it
    /// wrote. None for a request that changed nothing, and with stores whose copies are never behind.
    ///
    /// For integrations, after [`finish`](Self::finish), whatever that came to. The mark is told with the response:
    /// in a cookie beside that with the ID, say. It holds nothing, and is not secret; a client that makes it up
    /// only has the store asked. It must not hold a revision: the responses to two requests that were sent
    /// together arrive in any order, and the older one would take the newer mark away.
    #[must_use]
    pub fn marker(&self) -> Option<Duration> {
        let changed = self.state().changed;
        let copies = changed.then(|| (*self.sessions().store).copies()).flatten()?;
        Some(copies.staleness()).filter(|staleness| !staleness.is_zero())
    }

    /// Does what [`finish`](Self::finish) does if that needs no I/O, the usual case of a request that
    /// only read.
    #[must_use]
    pub fn finish_without_io(&self) -> Option<CookieChange> {
        // A commit under way by a clone has to be waited for.
        let _committing = self.committing().try_lock()?;
        let mut state = self.state();
        let idle = !state.dirty
            && state.doomed.is_empty()
            && !state.unconfirmed
            && !state.hold.as_ref().is_some_and(|hold| hold.leased);
        if !idle {
            return None;
        }
        let now = self.sessions().now();
        if state.home.as_ref().is_some_and(|home| is_stale(home, now)) {
            return None;
        }
        state.closed = true;
        Some(state.cookie(now))
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
            let ended = self.attempt(|| self.sessions().end(key)).await?;
            let mut state = self.state();
            // A store has nothing to tell of what it cannot read.
            let ended = ended.or_else(|| state.unreadable.contains(&key).then_some(key));
            state.doomed.retain(|doomed| *doomed != key);
            state.unreadable.retain(|unreadable| *unreadable != key);
            state.left.take_if(|home| home.key == key);
            if state.home.is_none()
                && let Some(hold) = &mut state.hold
            {
                // The lease went with the session.
                hold.leased = false;
            }
            drop(state);
            if let Some(key) = ended {
                self.sessions().tell(Event::Destroyed { key });
            }
        }
    }

    /// Stores what the log says.
    async fn write(&self) -> Result<(), SessionError> {
        self.redraft()?;
        let Some(work) = self.state().work(self.sessions())? else { return Ok(()) };
        // What the client's cookie depends on.
        let told = |home: &Home| (home.key, home.record.lifetime, home.record.absolute_deadline());
        let told_before = work.home.as_ref().map(told);
        let span = debug_span!(target: "session", "session commit");
        let stored = self.attempt(|| self.sessions().store_changes(&work)).instrument(span).await;

        let mut state = self.state();
        let Stored { home, crossed } = match stored {
            Ok(stored) => stored,
            Err(error) => {
                if matches!(error, SessionError::Ended) {
                    // An ID that opens nothing is not told, whatever the request was to tell before.
                    state.tell = false;
                }
                if let (SessionError::LeaseLost, Some(hold)) = (&error, &mut state.hold) {
                    hold.lost = true;
                }
                return Err(error);
            }
        };
        // Whoever signed in meanwhile is told the ID; the one that this request knows is dead.
        state.tell = !crossed && (state.tell || told_before != Some(told(&home)));
        if let Some(hold) = &mut state.hold {
            hold.leased = home.record.lease.is_some_and(|lease| lease.token == hold.token);
        }
        // A clone of the session may have recorded, given up or ended things meanwhile.
        if state.endings != state.endings_at_commit {
            state.doomed.push(home.key);
            state.left = Some(home);
            return Ok(());
        }
        // What is left of them is in the same order, and in front of what was recorded since.
        let mut done = work.log.iter();
        state.log.retain(|change| !done.any(|done| Arc::ptr_eq(done, change)));
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
    pub(crate) fn redraft(&self) -> Result<(), SessionError> {
        for _ in 0..MAX_REDRAFTS {
            let (home, log) = {
                let state = self.state();
                match &state.home {
                    Some(home) if state.stale => (Arc::clone(&home.record), state.log.clone()),
                    _ => return Ok(()),
                }
            };
            let mut draft = Record::clone(&home);
            replay(&log, &mut draft, &self.sessions().limits)?;
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
        let mut state = self.state();
        state.unconfirmed = matches!(
            &result,
            Err(SessionError::Store(error)) if error.is_outcome_unknown()
        );
        state.changed |= result.is_ok() || state.unconfirmed;
        drop(state);
        result
    }

    /// Moves the idle deadline or replaces an old ID, if it is time. Nobody recorded this, so its
    /// failure fails no request: the next one tries again.
    async fn keep_alive(&self, home: Home) {
        let now = self.sessions().now();
        let key = home.key;
        if renewal_is_due(&home, now) {
            let renewal = State::renewal(home, now, self.sessions());
            self.state().changed = true;
            match self.sessions().store_changes(&renewal).await {
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
            && let Err(error) = (*self.sessions().store).touch(&key, now).await
        {
            // If this goes on, as it does on a server that is full, busy sessions end too early.
            tracing::warn!(target: "session", %key, %error, "session not touched this time");
        }
    }
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
    let is_due = |renew_after| now.since(home.record.issued_at) >= renew_after;
    home.id.is_some() && home.record.lifetime.renew_after().is_some_and(is_due)
}

/// How often the changes that came during a commit are done anew because more of them came.
const MAX_REDRAFTS: usize = 8;
