//! The session of a web socket or an event stream.

use std::{
    fmt,
    future::ready,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
};

use super::Session;
use crate::{
    BoxError, Codec, Key, Owner, SessionError, SessionKey, Touched, View,
    protocol::{CookieLookup, EndReason, Followed, Protocol},
    record::Realm,
};

/// The session of a connection that outlives its request: a web socket, or a stream of events.
///
/// A connection sees its session end in whatever process that happens. The handle follows each
/// renewal, and a login or rotation of the same user. Created by [`Session::live`]. Wait for
/// [`ended`](Self::ended) for as long as the connection is open: a handle that is not used for 5
/// minutes may lose a session that has moved, and then reports its end.
///
/// ```
/// use session_core::{EndReason, Key, Session, SessionError};
///
/// const SEEN: Key<u64> = Key::new("seen");
///
/// # struct Socket;
/// # impl Socket {
/// #     async fn next(&mut self) -> Option<u64> { None }
/// # }
/// # async fn select<A, B>(a: impl Future<Output = A>, b: impl Future<Output = B>) -> Result<A, B> {
/// #     let (mut a, mut b) = (std::pin::pin!(a), std::pin::pin!(b));
/// #     std::future::poll_fn(|context| match a.as_mut().poll(context) {
/// #         std::task::Poll::Ready(a) => std::task::Poll::Ready(Ok(a)),
/// #         std::task::Poll::Pending => b.as_mut().poll(context).map(Err),
/// #     })
/// #     .await
/// # }
/// async fn talk(session: Session, mut socket: Socket) -> Result<(), SessionError> {
///     let mut live = session.live().await?;
///     loop {
///         // `tokio::select!` in a real program.
///         match select(socket.next(), live.ended()).await {
///             Ok(Some(message)) => drop(live.update(SEEN, move |seen| *seen = message).await?),
///             Ok(None) | Err(_) => return Ok(()),
///         }
///     }
/// }
/// ```
///
/// A clone follows the same session, for a second task. A handle keeps the names of the users and the
/// deadlines, and no values.
///
/// # Security
///
/// An open connection does not keep its session in use: an abandoned browser must not stay signed
/// in (NIST SP 800-63B-4, 2.2.3). Call [`touch`](Self::touch) when the user acts.
///
/// The connection of a visitor ends when the visitor signs in or rotates the ID. An attacker may
/// have planted the visitor's ID, and must not read the session of the user.
///
/// A connection of a user survives a login or [rotation](Session::rotate) of the same user. If
/// [carrying over](crate::SessionsBuilder::with_carry_over) is off, the connection ends too.
/// [`act_as`](Session::act_as) and [`stop_acting`](Session::stop_acting) end it always. To close all
/// connections of a user, [revoke](crate::Sessions::revoke_all) the sessions.
pub struct Live {
    shared: Arc<Shared>,
    /// The wait for the end. The wait belongs to the handle, so that it goes on where it was if
    /// [`ended`](Self::ended) is dropped. The mutex is never locked: it makes the handle `Sync`.
    end: Mutex<Pin<Box<dyn Future<Output = EndReason> + Send>>>,
}

struct Shared {
    protocol: Arc<Protocol>,
    session: Followed,
}

impl Session {
    /// Returns a handle for a connection that outlives the request. [Commits](Self::commit) the
    /// changes of the request first.
    ///
    /// # Errors
    ///
    /// Returns [`SessionError::Ended`] if the session is not stored: a visitor without a session, or
    /// a session that ended. Also the errors of [`commit`](Self::commit).
    pub async fn live(&self) -> Result<Live, SessionError> {
        self.commit().await?;
        let followed = self.state().located().map(Followed::new).ok_or(SessionError::Ended)?;
        let protocol = Arc::clone(self.protocol());
        Ok(Live::new(Arc::new(Shared { protocol, session: followed })))
    }
}

impl Live {
    fn new(shared: Arc<Shared>) -> Self {
        let waiting = Arc::clone(&shared);
        let end = async move { waiting.protocol.end_of(&waiting.session).await };
        Self { shared, end: Mutex::new(Box::pin(end)) }
    }

    /// Waits until the session has ended. Later calls return the same reason immediately.
    ///
    /// The handle learns of the end from the store if the store [reports
    /// changes](crate::SessionStore::watch), and loads the session at least once per
    /// [interval](crate::SessionsBuilder::with_live_interval), 5 seconds by default. While the store
    /// fails, the call waits: an outage ends no session ([I7]). The delay is at most the interval and
    /// the time of one load, from the end of the outage on.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the next call continues the same wait. A flood of messages in the
    /// other branch of a `select!` therefore delays no end.
    ///
    /// [I7]: crate::guarantees#i7-an-outage-is-not-a-logout
    pub async fn ended(&mut self) -> EndReason {
        let end = self.end.get_mut().unwrap_or_else(PoisonError::into_inner);
        let reason = end.as_mut().await;
        *end = Box::pin(ready(reason));
        reason
    }

    /// Records a use of the session, which moves its idle deadline. Call this when the user acts.
    ///
    /// Most calls need no I/O: a use is recorded at most once per
    /// [`Lifetime::touch_interval`](crate::Lifetime::touch_interval).
    ///
    /// # Errors
    ///
    /// Returns [`SessionError::Ended`] if the session has ended, and [`SessionError::Store`] if the
    /// store failed.
    pub async fn touch(&self) -> Result<(), SessionError> {
        let Shared { protocol, session } = &*self.shared;
        for _ in 0..MAX_TOUCHES {
            let (known, now) = (session.known(), protocol.now());
            if !known.touch_is_due(now) {
                break;
            }
            match (*protocol.store).touch(&known.key, now).await? {
                Touched::Touched => {
                    session.set_seen(known.key, now);
                    break;
                }
                // The session has another key, or has ended.
                Touched::Gone => drop(protocol.load_followed(session).await?),
            }
        }
        Ok(())
    }

    /// Loads the session, and returns the result of a closure on it.
    ///
    /// # Errors
    ///
    /// Returns [`SessionError::Ended`] if the session has ended, and [`SessionError::Store`] if the
    /// store failed.
    pub async fn read<T>(&self, read: impl FnOnce(&View<'_>) -> T) -> Result<T, SessionError> {
        let located = self.shared.protocol.load_followed(&self.shared.session).await?;
        Ok(read(&View::new(Some(&located.record))))
    }

    /// Loads the session, changes a value and stores it, and returns the stored value. A missing
    /// value starts from its default.
    ///
    /// Concurrent updates add up, as those of requests do: see [`Session::update`]. An update counts
    /// as a use of the session. Requests to a process with a [local copy](crate::LocalReads) may
    /// read the former value until the copy is replaced.
    ///
    /// # Errors
    ///
    /// The errors of [`Session::update`] and of [`Session::commit`]. Returns
    /// [`SessionError::Ended`] if the session has ended.
    pub async fn update<T, C>(
        &self,
        key: Key<'_, T, C>,
        change: impl Fn(&mut T) + Send + Sync + 'static,
    ) -> Result<T, SessionError>
    where
        T: Default + 'static,
        C: Codec<T> + 'static,
    {
        let change = Arc::new(change);
        let record = |session: &Session| {
            let change = Arc::clone(&change);
            session.update(key, move |value| change(value))
        };
        self.change(key, record).await
    }

    /// Does the same as [`update`](Self::update) with a closure that can refuse the change, and can
    /// read the other values.
    ///
    /// # Errors
    ///
    /// Returns [`SessionError::Refused`] if the closure returns an error. Also the errors of
    /// [`update`](Self::update).
    pub async fn try_update<T, C, E>(
        &self,
        key: Key<'_, T, C>,
        change: impl Fn(&mut T, &View<'_>) -> Result<(), E> + Send + Sync + 'static,
    ) -> Result<T, SessionError>
    where
        T: Default + 'static,
        C: Codec<T> + 'static,
        E: Into<BoxError>,
    {
        let change = Arc::new(change);
        let record = |session: &Session| {
            let change = Arc::clone(&change);
            session.try_update(key, move |value, view| change(value, view))
        };
        self.change(key, record).await
    }

    /// Returns the user to whom the session belongs. The user of a handle never changes.
    #[must_use]
    pub fn owner(&self) -> Option<Owner> {
        self.shared.session.owner().cloned()
    }

    /// Returns the user who [acts as](Session::act_as) the owner. Returns `None` if the owner has
    /// signed in. The actor of a handle never changes: the connection ends when the impersonation does.
    #[must_use]
    pub fn actor(&self) -> Option<Owner> {
        self.shared.session.actor().cloned()
    }

    /// Returns the key of the session, as last read.
    #[must_use]
    pub fn key(&self) -> SessionKey {
        self.shared.session.known().key
    }

    async fn change<T, C: Codec<T>>(
        &self,
        key: Key<'_, T, C>,
        record: impl Fn(&Session) -> Result<T, SessionError>,
    ) -> Result<T, SessionError> {
        let Shared { protocol, session } = &*self.shared;
        for _ in 0..MAX_RACES {
            let located = Some(protocol.load_followed(session).await?);
            let lookup = CookieLookup { located, is_connection: true, ..CookieLookup::default() };
            // The commit keeps the ID, and so its realm.
            let session = Session::new(protocol, Realm::default(), lookup);
            let value = record(&session)?;
            match session.commit().await {
                // A login, a rotation or an end came between. The next load decides which.
                Err(SessionError::Ended) => {}
                Err(error) => return Err(error),
                // The commit may have replayed the change on a newer record.
                Ok(()) => return Ok(session.get(key).unwrap_or(value)),
            }
        }
        Err(SessionError::Contended)
    }
}

impl Clone for Live {
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.shared))
    }
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Live").field("key", &self.key()).finish_non_exhaustive()
    }
}

/// The number of keys under which one touch looks for its session.
const MAX_TOUCHES: usize = 3;

/// The number of logins and rotations that may come between the load and the commit of one change.
const MAX_RACES: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handle_is_send_and_sync() {
        fn check<T: Send + Sync + 'static>() {}
        fn is_send(_: impl Send) {}
        check::<Live>();
        fn futures(live: &mut Live) {
            const COUNT: Key<u64> = Key::new("count");
            is_send(live.touch());
            is_send(live.update(COUNT, |count| *count += 1));
            is_send(live.ended());
        }
        let _ = futures;
    }
}
