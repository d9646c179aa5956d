use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::{SessionKey, Sessions};

/// Something that happened to a session, seen by this process.
///
/// It carries keys, which are safe to show, and never an ID (I10).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// A session was stored for the first time.
    Created {
        /// The session.
        key: SessionKey,
    },
    /// A user signed in: the session got a fresh ID, and an owner.
    Authenticated {
        /// The session from now on.
        key: SessionKey,
        /// Its key before, if it was stored.
        former: Option<SessionKey>,
    },
    /// The session got a fresh ID because it was asked for, or due.
    Renewed {
        /// The session from now on.
        key: SessionKey,
        /// Its key before.
        former: SessionKey,
    },
    /// A request ended its own session, as a logout does.
    Destroyed {
        /// The session that was.
        key: SessionKey,
    },
    /// A session was ended from elsewhere: by its owner on another device, or by the application.
    Revoked {
        /// The session that was.
        key: SessionKey,
    },
    /// A session was ended by a login, to keep its owner's [limit](crate::SessionLimit).
    Evicted {
        /// The session that was.
        key: SessionKey,
    },
    /// A request under way met its session's deadline. Most sessions expire unseen: stores answer nothing for
    /// one that expired before.
    Expired {
        /// The session that was.
        key: SessionKey,
    },
    /// A record could not be read; it counts as no session (I11).
    Corrupt {
        /// Where it is stored.
        key: SessionKey,
    },
}

impl Event {
    /// The word for it, as in `session created`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Created { .. } => "created",
            Self::Authenticated { .. } => "authenticated",
            Self::Renewed { .. } => "renewed",
            Self::Destroyed { .. } => "destroyed",
            Self::Revoked { .. } => "revoked",
            Self::Evicted { .. } => "evicted",
            Self::Expired { .. } => "expired",
            Self::Corrupt { .. } => "corrupt",
        }
    }

    /// The session it is about, under its key from now on.
    #[must_use]
    pub fn key(&self) -> SessionKey {
        match *self {
            Self::Created { key }
            | Self::Authenticated { key, .. }
            | Self::Renewed { key, .. }
            | Self::Destroyed { key }
            | Self::Revoked { key }
            | Self::Evicted { key }
            | Self::Expired { key }
            | Self::Corrupt { key } => key,
        }
    }

    /// The session's key before it got another ID.
    #[must_use]
    pub fn former(&self) -> Option<SessionKey> {
        match *self {
            Self::Authenticated { former, .. } => former,
            Self::Renewed { former, .. } => Some(former),
            _ => None,
        }
    }
}

/// Where an application hears what happens to its sessions: for an audit log, a metric, a notice to the user.
///
/// It is a queue, so that whatever listens can neither fail nor delay a request. When it is full, further
/// events are lost and [counted](Self::lost). Clones are the same queue: each event reaches one of those who
/// wait for it.
///
/// The crate's page shows how to listen.
#[derive(Clone)]
pub struct Events(Arc<Queue>);

struct Queue {
    sender: async_channel::Sender<Event>,
    receiver: async_channel::Receiver<Event>,
    lost: AtomicU64,
}

impl Events {
    /// The largest capacity.
    pub const MAX_CAPACITY: usize = 1 << 20;

    /// Makes a queue that holds so many events, 1 to [`MAX_CAPACITY`](Self::MAX_CAPACITY).
    ///
    /// # Errors
    ///
    /// Returns a [`ConfigError`](crate::ConfigError) if the capacity is out of bounds.
    pub fn with_capacity(capacity: usize) -> Result<Self, crate::ConfigError> {
        if !(1..=Self::MAX_CAPACITY).contains(&capacity) {
            return Err(crate::ConfigError::new(format!(
                "a queue of {capacity} events is not between 1 and {}",
                Self::MAX_CAPACITY
            )));
        }
        let (sender, receiver) = async_channel::bounded(capacity);
        Ok(Self(Arc::new(Queue { sender, receiver, lost: AtomicU64::new(0) })))
    }

    /// Waits for the next event.
    ///
    /// # Cancel safety
    ///
    /// No event is lost when the future is dropped.
    pub async fn next(&self) -> Event {
        self.0.receiver.recv().await.expect("the queue holds a sender itself")
    }

    /// Takes an event that is there already.
    #[must_use]
    pub fn try_next(&self) -> Option<Event> {
        self.0.receiver.try_recv().ok()
    }

    /// How many events were lost because nobody took them in time.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.0.lost.load(Ordering::Relaxed)
    }

    fn push(&self, event: Event) {
        if self.0.sender.try_send(event).is_err() {
            self.0.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events")
            .field("waiting", &self.0.receiver.len())
            .field("lost", &self.lost())
            .finish_non_exhaustive()
    }
}

impl Sessions {
    /// Tells what happened: to the queue, and as a `tracing` event of the target `session`, quiet by its
    /// level.
    pub(crate) fn tell(&self, event: Event) {
        match event.former() {
            Some(former) => tracing::debug!(
                target: "session", key = %event.key(), %former, "session {}", event.name()
            ),
            None => {
                tracing::debug!(target: "session", key = %event.key(), "session {}", event.name());
            }
        }
        if let Some(events) = &self.events {
            events.push(event);
        }
    }
}
