//! Work under the session's lock.

use std::{pin::pin, time::Duration};

use futures_util::future::{Either, select};

use super::{Session, state::Lock};
use crate::{
    Nonce, SessionError, Timestamp,
    protocol::{Acquired, MAX_LEASE, Turn},
};

impl Session {
    /// Runs work under the session's lock, one request at a time: for work such as charging a card.
    ///
    /// Changes of the session itself are safe without the lock: concurrent [updates](Self::update)
    /// add up. The lock is advisory, and makes only other calls of `locked` wait. Ordinary reads,
    /// writes, logins and logouts ignore the lock.
    ///
    /// ```text
    /// commit the earlier changes ─▶ wait for the lock ─▶ work ─▶ Ok: commit its changes and release, in one step
    ///                               at most `wait`        │ ▲    Err: discard its changes and release
    ///                                                     └─┘ the lock is prolonged while the work runs
    /// ```
    ///
    /// The work sees the stored session, with the changes of the former holder. A session that is
    /// not stored yet belongs to this request alone, and is not locked.
    ///
    /// The lock is a lease of [10 seconds](crate::SessionsBuilder::with_lease), prolonged while the
    /// work runs, for at most [`Sessions::MAX_LEASE`](crate::Sessions::MAX_LEASE). If the request
    /// is cancelled or its process dies, the lease lapses, and only then another request enters.
    /// After a long pause of its process, a holder may have lost the lease. The holder cannot
    /// commit then, because each lease carries a fencing token.
    ///
    /// A `wait` of zero tries once. The waiting requests of one process form a queue in memory, and
    /// only the first asks the store, at most 5 times a second. After another process has released
    /// the lock, the next acquisition comes up to 300 milliseconds later.
    ///
    /// # Security
    ///
    /// The lock does not replace an idempotency key. The request may be cancelled between the
    /// charge and the commit. The next request must then find out the outcome, as in the example.
    ///
    /// # Errors
    ///
    /// - [`SessionError::Locked`] if another request held the lock for the whole wait.
    /// - [`SessionError::AlreadyLocked`] if this request, or a clone of its session, holds the
    ///   lock.
    /// - [`SessionError::Ended`] if the session was ended meanwhile. After a login or rotation of
    ///   another request, the call stores the work's values as
    ///   [`authenticate`](Self::authenticate) describes, or returns this error.
    /// - [`SessionError::LeaseLost`] if the lease lapsed before the work's changes were stored.
    /// - The errors of the work, and of [`commit`](Self::commit). The work's changes are discarded.
    ///   If the answer of the store was lost, the changes may be stored, and the next holder of the
    ///   lock sees them.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the lease lapses. The changes of the work stay recorded. Until the
    /// lease has lapsed, a commit stores them. After that, each commit returns
    /// [`SessionError::LeaseLost`], until [`discard`](Self::discard) removes the changes.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use session_core::{Key, Session, SessionError};
    ///
    /// const PAYMENT: Key<String> = Key::new("payment");
    /// const PAID: Key<bool> = Key::new("paid");
    ///
    /// # struct Cards;
    /// # impl Cards {
    /// #     async fn charge(&self, _idempotency_key: &str) {}
    /// # }
    /// async fn pay(session: &Session, cards: &Cards) -> Result<(), SessionError> {
    ///     session
    ///         .locked(Duration::from_secs(5), async || {
    ///             if session.get(PAID) == Some(true) {
    ///                 return Ok(());
    ///             }
    ///             let new_payment = || uuid::Uuid::new_v4().to_string();
    ///             let payment = session.get(PAYMENT).unwrap_or_else(new_payment);
    ///             // Stored before the card is charged, so that a later request repeats this very
    ///             // payment instead of making another one.
    ///             session.set(PAYMENT, &payment)?;
    ///             session.commit().await?;
    ///             cards.charge(&payment).await;
    ///             session.set(PAID, true)
    ///         })
    ///         .await
    /// }
    /// ```
    pub async fn locked<T, E>(
        &self,
        wait: Duration,
        work: impl AsyncFnOnce() -> Result<T, E>,
    ) -> Result<T, E>
    where
        E: From<SessionError>,
    {
        drop(self.open_state()?);
        if let Lock::Held(_) = self.state().lock {
            return Err(SessionError::AlreadyLocked.into());
        }
        self.commit().await?;
        let Some(held) = self.acquire(wait).await? else {
            let outcome = match work().await {
                Ok(value) => self.commit().await.map(|()| value).map_err(E::from),
                Err(error) => Err(error),
            };
            if outcome.is_err() {
                self.discard();
            }
            return outcome;
        };
        let outcome = match self.prolonged(held.token, work()).await {
            Ok(value) => self.commit_and_release(held.token).await.map(|()| value).map_err(E::from),
            Err(error) => Err(error),
        };
        if outcome.is_err() {
            self.discard();
            self.release(held.token).await;
        }
        outcome
    }

    /// Waits for the lock. Returns `None` if the session is not stored.
    async fn acquire(&self, wait: Duration) -> Result<Option<Held<'_>>, SessionError> {
        let protocol = self.protocol();
        let Some(key) = self.key() else { return Ok(None) };
        let token = protocol.next_nonce();
        let began = protocol.now();
        let mut turn = match select(pin!(protocol.lock_turn(key)), protocol.clock.sleep(wait)).await
        {
            Either::Left((turn, _)) => turn,
            Either::Right(_) => return Err(SessionError::Locked),
        };
        loop {
            // Another request of the queue may have asked the store just before, and stopped
            // waiting.
            let now = protocol.now();
            let left = wait.saturating_sub(now.since(began));
            let pause = turn.next_question().since(now).min(2 * POLL);
            protocol.clock.sleep(pause.min(left)).await;
            if pause > left {
                return Err(SessionError::Locked);
            }
            let until = {
                let _turn = self.committing().lock().await;
                let Some(located) = self.state().located().cloned() else { return Ok(None) };
                match protocol.acquire(located, token).await {
                    Ok(Acquired::Held(located)) => {
                        turn.set_next_question(Timestamp::default());
                        let mut state = self.open_state()?;
                        if let Lock::Held(_) = state.lock {
                            return Err(SessionError::AlreadyLocked);
                        }
                        state.lock = Lock::Held(token);
                        state.has_written = true;
                        let dropped = state.settle(located);
                        drop(state);
                        drop(dropped);
                        return Ok(Some(Held { session: self, token, _turn: turn }));
                    }
                    Ok(Acquired::HeldUntil(until)) => until,
                    Err(error) => {
                        if let SessionError::Ended = error {
                            self.state().forget_id();
                        }
                        return Err(error);
                    }
                }
            };
            let now = protocol.now();
            // The jitter, up to half of `POLL`, spreads the attempts of the waiting processes.
            let half = POLL / 2;
            let jitter = half * u32::from(protocol.next_nonce().0.to_be_bytes()[0]) / 255;
            turn.set_next_question(now + (POLL + jitter).min(until.since(now)).max(POLL));
        }
    }

    /// Runs the work, and prolongs the lease until the work returns or `MAX_LEASE` has passed.
    async fn prolonged<R>(&self, token: Nonce, work: impl Future<Output = R>) -> R {
        let protocol = self.protocol();
        let began = protocol.now();
        let mut work = pin!(work);
        loop {
            let pause = protocol.clock.sleep(protocol.settings.lease / 3);
            let prolong = async {
                pause.await;
                if protocol.now().since(began) < MAX_LEASE {
                    self.prolong(token).await;
                }
            };
            match select(work, pin!(prolong)).await {
                Either::Left((result, _)) => return result,
                Either::Right(((), unfinished)) => work = unfinished,
            }
        }
    }

    async fn prolong(&self, token: Nonce) {
        let _turn = self.committing().lock().await;
        let located = {
            let state = self.state();
            match state.located() {
                Some(located) if state.lock == Lock::Held(token) => located.clone(),
                _ => return,
            }
        };
        match self.protocol().prolong(located, token).await {
            Ok(located) => self.settle(located),
            // If the lease is lost, the fencing token refuses the next commit.
            Err(error) => tracing::debug!(target: "session", %error, "lock not prolonged"),
        }
    }

    /// Commits the work's changes and releases the lock. If there are changes, one write does both.
    async fn commit_and_release(&self, token: Nonce) -> Result<(), SessionError> {
        let _turn = self.committing().lock().await;
        self.flush(true).await?;
        match self.release_held(token).await {
            Err(error @ (SessionError::Store(_) | SessionError::Contended)) => {
                // The work has succeeded: all changes are stored.
                tracing::debug!(target: "session", %error, "lock not released, lapses");
                Ok(())
            }
            released => released,
        }
    }

    /// Releases the lock after the work has failed. If that fails, the lease lapses.
    async fn release(&self, token: Nonce) {
        let _turn = self.committing().lock().await;
        if let Err(error) = self.release_held(token).await {
            self.state().forget_lock(token);
            tracing::debug!(target: "session", %error, "lock not released, lapses");
        }
    }

    async fn release_held(&self, token: Nonce) -> Result<(), SessionError> {
        let located = {
            let mut state = self.state();
            if state.lock != Lock::Held(token) {
                // The commit has released the lock.
                return Ok(());
            }
            state.forget_lock(token);
            state.located().cloned()
        };
        if let Some(located) = located {
            let located = self.protocol().release(located, token).await?;
            self.settle(located);
        }
        Ok(())
    }
}

/// The lock of a session, held by this request, and the request's turn in the queue of this
/// process.
struct Held<'s> {
    session: &'s Session,
    token: Nonce,
    _turn: Turn<'s>,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        // After a release, this has no effect.
        self.session.state().cancel_lock(self.token);
    }
}

/// The shortest pause between two attempts to acquire the lock: at most 5 attempts a second.
const POLL: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locked_work_is_send() {
        fn check(_: impl Send) {}
        fn waiting(session: &Session) {
            check(session.locked(Duration::ZERO, async || Ok::<_, SessionError>(())));
        }
        let _ = waiting;
    }
}
