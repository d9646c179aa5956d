use std::{fmt, time::Duration};

use crate::{
    Clock, Session, SessionError, Timestamp,
    lease::{Attempt, Hold, Standing},
    record::Nonce,
    sessions::Home,
};

impl Session {
    /// Waits until no other request holds the lock of this session, and takes it: for work outside of
    /// the session that two requests must not do at the same time, like charging a card.
    ///
    /// The changes of a session need no lock: an [`update`](Self::update) adds up as it is. The lock
    /// binds those who ask for it; other requests read and write the session as ever.
    ///
    /// From then on this request sees the session as it is stored now, what the former holder committed
    /// included, with its own changes on top. The lock is released by [`Lock::release`], by dropping
    /// the [`Lock`], and with the end of the request at the latest; what was recorded under it is
    /// committed in the same step, so that the next holder sees it.
    ///
    /// A lock is a lease: it ends by itself [some time](crate::Sessions::with_lease) after it was taken,
    /// so that a process that is killed holds up nobody for long. If that happens while its holder
    /// still works, nothing that the holder recorded is stored: its commits are refused with
    /// [`SessionError::LeaseLost`]. The work outside cannot be taken back; give it a time limit
    /// shorter than the lease.
    ///
    /// Waiting takes at most `wait`, besides the time that the store takes to answer; zero tries once.
    /// Those who wait ask again every 10 to 100 ms, and are not served in the order of their coming.
    /// A session that is not stored yet is nobody else's, and costs nothing to lock. A
    /// [`destroy`](Self::destroy) is carried out whether the lock was lost or not.
    ///
    /// Servers must keep their clocks together: one that is ahead takes a lease over early by as much.
    /// The former holder's commits are refused then too, but both may be at work for a moment. A lease
    /// that ends later than twice its length from now, as after a clock was set back, is cut to its
    /// length from now by the first who waits for it.
    ///
    /// # Errors
    ///
    /// - [`SessionError::Locked`] if another request held it all the time.
    /// - [`SessionError::AlreadyLocked`] at once, if this request (or a clone of its session) holds it
    ///   or waits for it.
    /// - [`SessionError::Ended`] if the session was ended meanwhile, or moved to another ID by a login.
    /// - [`SessionError::LeaseLost`] if the request dropped a lock before whose lease has ended since,
    ///   and has neither committed what it recorded under it nor [given it up](Self::discard).
    /// - [`SessionError::Store`], [`SessionError::Contended`], [`SessionError::Unconfirmed`] and
    ///   [`SessionError::Closed`], as for [`commit`](Self::commit).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped the lock is not held. Should the lease be in the store by then, it is
    /// released as that of a dropped [`Lock`], or ends by itself.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use session_core::{Key, Session, SessionError};
    ///
    /// const PAID: Key<bool> = Key::new("paid");
    ///
    /// async fn pay(session: &Session) -> Result<(), SessionError> {
    ///     let lock = session.lock(Duration::from_secs(5)).await?;
    ///     if session.get(PAID) != Some(true) {
    ///         // Charge the card, within less than the lease.
    ///         session.set(PAID, &true)?;
    ///     }
    ///     lock.release().await // commits `PAID`, or says that the lease was lost
    /// }
    /// ```
    pub async fn lock(&self, wait: Duration) -> Result<Lock, SessionError> {
        let mut request = LockRequest::begin(self)?;
        let mut patience = Patience::new(&*self.sessions().clock, wait);
        while let Some(until) = request.attempt().await? {
            patience.wait(until, self.sessions().next_nonce()).await?;
        }
        Ok(request.granted())
    }

    /// Goes on with the session as a lease found or left it, with this request's changes on top.
    fn adopt(&self, home: Home) {
        let mut state = self.state();
        let Some(present) = &state.home else {
            // A clone is ending the session, and may think better of it.
            if state.left.as_ref().is_some_and(|left| left.key == home.key) {
                state.left = Some(home);
            }
            return;
        };
        let moved = present.key != home.key;
        state.tell |= moved;
        state.home = Some(home);
        state.dirty = !state.log.is_empty();
        state.stale = state.dirty;
        if !state.dirty {
            state.draft = None;
        }
        drop(state);
        // What cannot be done to the session as it is now fails the next commit.
        let _ = self.redraft();
    }

    /// Releases the lock, if no commit of the request has done that.
    pub(crate) async fn release_hold(&self) -> Result<(), SessionError> {
        let (home, token) = {
            let mut state = self.state();
            let home = state.home.clone();
            match (&state.hold, home) {
                (Some(hold), Some(home)) if hold.leased => (home, hold.token),
                _ => {
                    state.end_hold();
                    return Ok(());
                }
            }
        };
        let released = match self.sessions().check_lease(&home.record, token) {
            Ok(()) => self.sessions().release_lease(home.clone(), token).await,
            Err(lost) => Err(lost),
        };
        if let Ok(released) = &released
            && released.key == home.key
        {
            self.adopt(released.clone());
        }
        let mut state = self.state();
        // What a clone recorded meanwhile is refused if the lease was lost.
        if released.is_ok() || (matches!(released, Err(SessionError::LeaseLost)) && !state.dirty) {
            state.end_hold();
        }
        released.map(drop)
    }
}

/// The lock of a session, held. See [`Session::lock`].
///
/// Dropping it releases it. If the request recorded changes that are not committed yet, that happens in
/// the same step with them, by the request's end or its next commit; if not, at once, where the sessions
/// have [something to run it on](crate::Sessions::with_spawner), and else by the request's end. If the
/// request never ends because it is cancelled, it is released at once, or ends by itself.
#[must_use = "the lock is released when it is dropped"]
pub struct Lock {
    session: Session,
}

impl Lock {
    /// Commits what the request recorded, as [`Session::commit`] does, and releases the lock in the same
    /// step.
    ///
    /// # Errors
    ///
    /// [`SessionError::LeaseLost`] if the lease had ended: nothing that was recorded is stored, and
    /// another request may have worked at the same time. Those of [`Session::commit`]. The lock then
    /// stays with the request, whose commits go on to be refused if the lease was lost, until
    /// [`Session::discard`] gives up what it recorded.
    pub async fn release(self) -> Result<(), SessionError> {
        if let Some(hold) = &mut self.session.state().hold {
            hold.standing = Standing::Dropped;
        }
        self.session.commit_and_release().await
    }

    /// When the lease ends by itself. None for a session that is not stored, which needs none, and for
    /// a lock that ended with the request.
    #[must_use]
    pub fn expires_at(&self) -> Option<Timestamp> {
        let state = self.session.state();
        let token = state.hold.as_ref().filter(|hold| hold.leased)?.token;
        let lease = state.home.as_ref()?.record.lease?;
        (lease.token == token).then_some(lease.until)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        let now = self.session.sessions().now();
        let mut state = self.session.state();
        if state.hold.is_some() && !state.dirty {
            // What only confirms what is stored is settled by the end of the lock, as by a commit. Done
            // again later, it would undo what others have stored since.
            state.log.clear();
        }
        let Some(hold) = &mut state.hold else { return };
        if hold.standing == Standing::Wanted {
            // Its release failed, and a clone takes it up again.
            return;
        }
        hold.standing = Standing::Dropped;
        let (token, leased, lost) = (hold.token, hold.leased, hold.lost);
        if leased && !lost && !state.dirty && self.session.sessions().spawner.is_some() {
            // Where there are changes they must be stored no later than the lock is released, and
            // whether they are to be stored at all is not known before the request ends.
            let Some(home) = state.home.clone() else { return };
            state.hold = None;
            drop(state);
            self.session.sessions().release_soon(home, token);
        } else {
            state.settle_hold(now);
        }
    }
}

impl fmt::Debug for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lock").field("expires_at", &self.expires_at()).finish_non_exhaustive()
    }
}

/// A request's wait for the lock.
struct LockRequest<'s> {
    session: &'s Session,
    token: Nonce,
    /// Where a lease may have been stored although nobody said so.
    unsettled: Option<Home>,
    granted: bool,
}

impl<'s> LockRequest<'s> {
    fn begin(session: &'s Session) -> Result<Self, SessionError> {
        let mut state = session.open_state()?;
        let hold = state.hold.get_or_insert_with(|| Hold {
            token: session.sessions().next_nonce(),
            standing: Standing::Dropped,
            leased: false,
            lost: false,
        });
        if hold.standing != Standing::Dropped {
            return Err(SessionError::AlreadyLocked);
        }
        // A lock that the request dropped, and that is not released yet, is taken up again.
        hold.standing = Standing::Wanted;
        Ok(Self { session, token: hold.token, unsettled: None, granted: false })
    }

    /// Takes the lock, or tells until when another request has it.
    async fn attempt(&mut self) -> Result<Option<Timestamp>, SessionError> {
        // Not held while waiting: clones of the session may commit meanwhile.
        let _committing = self.session.committing().lock().await;
        let (home, only_if_held) = {
            let state = self.session.open_state()?;
            if state.unconfirmed {
                return Err(SessionError::Unconfirmed);
            }
            let Some(home) = state.home.clone() else { return Ok(None) };
            let is_leased = state.hold.as_ref().is_some_and(|hold| hold.leased);
            (home, is_leased && state.dirty)
        };
        self.unsettled = Some(home.clone());
        let taken = self.session.sessions().take_lease(home, self.token, only_if_held).await;
        match taken {
            Ok(Attempt::Taken(home)) => {
                self.unsettled = None;
                if let Some(hold) = &mut self.session.state().hold {
                    hold.leased = true;
                    hold.lost = false;
                }
                self.session.adopt(home);
                Ok(None)
            }
            Ok(Attempt::HeldUntil(until)) => {
                self.unsettled = None;
                Ok(Some(until))
            }
            Err(error) => {
                match &error {
                    SessionError::Store(error) if error.is_outcome_unknown() => {}
                    SessionError::LeaseLost => {
                        self.unsettled = None;
                        if let Some(hold) = &mut self.session.state().hold {
                            hold.lost = true;
                        }
                    }
                    SessionError::Ended => {
                        self.unsettled = None;
                        self.session.state().tell = false;
                    }
                    _ => self.unsettled = None,
                }
                Err(error)
            }
        }
    }

    fn granted(mut self) -> Lock {
        self.granted = true;
        Lock { session: self.session.clone() }
    }
}

impl Drop for LockRequest<'_> {
    fn drop(&mut self) {
        let mut state = self.session.state();
        match &mut state.hold {
            Some(hold) if self.granted => hold.standing = Standing::Held,
            Some(hold) if hold.leased => hold.standing = Standing::Dropped,
            _ => {
                state.hold = None;
                drop(state);
                if let Some(home) = self.unsettled.take() {
                    self.session.sessions().release_soon(home, self.token);
                }
            }
        }
    }
}

/// How much longer a request waits, and how often it asks.
struct Patience<'c> {
    clock: &'c dyn Clock,
    left: Duration,
    step: Duration,
}

impl<'c> Patience<'c> {
    fn new(clock: &'c dyn Clock, wait: Duration) -> Self {
        Self { clock, left: wait, step: SHORTEST_STEP }
    }

    /// Waits a while, not beyond the end of the other's lease.
    async fn wait(&mut self, until: Timestamp, random: Nonce) -> Result<(), SessionError> {
        if self.left.is_zero() {
            return Err(SessionError::Locked);
        }
        let before = self.clock.now();
        // Half of it by chance, so that those who wait together do not go on together.
        let half = self.step / 2;
        let jittered = half + half * u32::from(random.0.to_be_bytes()[0]) / u32::from(u8::MAX);
        let span = jittered.min(until.since(before)).max(Duration::from_millis(1)).min(self.left);
        self.clock.sleep(span).await;
        // A clock that is set back does not make it longer.
        let waited = self.clock.now().since(before).max(span);
        self.left = self.left.saturating_sub(waited);
        self.step = (self.step * 2).min(LONGEST_STEP);
        Ok(())
    }
}

const SHORTEST_STEP: Duration = Duration::from_millis(10);
const LONGEST_STEP: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_and_its_waiting_are_send() {
        fn check<T: Send + Sync + 'static>() {}
        fn check_future(_: impl Send) {}
        fn waiting(session: &Session) {
            check_future(session.lock(Duration::ZERO));
        }
        check::<Lock>();
        let _ = waiting;
    }
}
