//! Events in the life of sessions, for an audit log, a metric or a message to the user.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_util::Stream;

use crate::{Owner, Record, SessionKey, metrics::EventMetrics};

/// One change of a session, seen by this process.
///
/// A commit reports each login, each repeated proof of an identity, each
/// [`act_as`](crate::Session::act_as) and each [`stop_acting`](crate::Session::stop_acting), in the
/// order of the calls. A login that joins the session of another login, as a double click does, is
/// not reported again. An event carries keys and users, never an ID ([I10]).
///
/// [I10]: crate::guarantees#i10-nothing-leaks
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Event {
    /// The kind of event.
    pub kind: EventKind,
    /// The present key of the session.
    pub key: SessionKey,
    /// The session's key before, if the event gave the session another key.
    pub former: Option<SessionKey>,
    /// The user to whom the session belongs, if the session has an owner and the event knows the
    /// owner. Of [`ActingStopped`](EventKind::ActingStopped), the user to whom the session belonged
    /// until then.
    pub owner: Option<Owner>,
    /// The user who [acts as](crate::Session::act_as) the owner.
    pub actor: Option<Owner>,
}

/// The kind of an [`Event`].
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum EventKind {
    /// A session was stored for the first time.
    Created,
    /// A user signed in: the session got a fresh ID and an owner.
    Authenticated,
    /// The owner proved the identity again: the session got a fresh ID.
    Reauthenticated,
    /// The owner began to [act as](crate::Session::act_as) a user: the session got a fresh ID, and
    /// that user as its owner. A login that ends this later is `Authenticated` alone.
    ActingStarted,
    /// The actor went back: the session got a fresh ID, and belongs to the actor again. The event
    /// names both users in the same fields as `ActingStarted`.
    ActingStopped,
    /// [`Session::rotate`](crate::Session::rotate) or [`Session::link`](crate::Session::link) gave the
    /// session a fresh ID.
    Rotated,
    /// The session got a fresh ID because a request called for a renewal, or because the renewal
    /// was due.
    Renewed,
    /// A request destroyed its own session, as a logout does.
    Destroyed,
    /// The session was revoked from elsewhere: by its owner on another device, or by the
    /// application.
    Revoked,
    /// A login evicted the session, to keep its owner's [limit](crate::SessionLimit).
    Evicted,
    /// A request found its session at its deadline. Most sessions expire unseen.
    Expired,
    /// A request presented an ID after its [grace](crate::SessionsBuilder::with_renewal_grace) was
    /// over: the cookie was copied, or a client keeps old cookies.
    Reused,
    /// A record was unreadable, and counts as a missing session ([I11]).
    ///
    /// [I11]: crate::guarantees#i11-deployments-survive
    Corrupt,
}

impl EventKind {
    /// The kinds whose metrics begin with zero: all.
    const ALL: [Self; 13] = [
        Self::Created,
        Self::Authenticated,
        Self::Reauthenticated,
        Self::ActingStarted,
        Self::ActingStopped,
        Self::Rotated,
        Self::Renewed,
        Self::Destroyed,
        Self::Revoked,
        Self::Evicted,
        Self::Expired,
        Self::Reused,
        Self::Corrupt,
    ];

    /// Returns the name of the kind, as in `session created`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Authenticated => "authenticated",
            Self::Reauthenticated => "reauthenticated",
            Self::ActingStarted => "acting_started",
            Self::ActingStopped => "acting_stopped",
            Self::Rotated => "rotated",
            Self::Renewed => "renewed",
            Self::Destroyed => "destroyed",
            Self::Revoked => "revoked",
            Self::Evicted => "evicted",
            Self::Expired => "expired",
            Self::Reused => "reused",
            Self::Corrupt => "corrupt",
        }
    }
}

const _: () = assert!(
    EventKind::ALL.len() == EventKind::Corrupt as usize + 1,
    "a kind before the last one is missing"
);

impl Event {
    pub(crate) fn new(kind: EventKind, key: SessionKey, record: Option<&Record>) -> Self {
        let owner = record.and_then(Record::owner).cloned();
        let actor = record.and_then(Record::actor).cloned();
        Self { kind, key, former: None, owner, actor }
    }

    pub(crate) fn with_former(self, former: Option<SessionKey>) -> Self {
        Self { former, ..self }
    }
}

/// The events of an application's sessions, from the subscription on.
///
/// Each subscriber receives every event. A subscriber never delays a request. If it falls behind by
/// more than the [buffer](crate::SessionsBuilder::with_event_buffer), it loses the oldest events,
/// and [`lost`](Self::lost) counts them. `Events` is a [`Stream`] too.
pub struct Events {
    receiver: Pin<Box<async_broadcast::Receiver<Event>>>,
    lost: u64,
}

impl Events {
    /// Waits for the next event. Returns `None` after the last handle of the sessions was dropped.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no event.
    pub async fn next(&mut self) -> Option<Event> {
        std::future::poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }

    /// Returns the next event. Returns `None` if all events have been returned.
    pub fn try_next(&mut self) -> Option<Event> {
        loop {
            match self.receiver.try_recv() {
                Ok(event) => return Some(event),
                Err(async_broadcast::TryRecvError::Overflowed(count)) => self.count_lost(count),
                Err(_) => return None,
            }
        }
    }

    /// Returns the number of events that this subscriber lost because it was too slow.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost
    }

    fn count_lost(&mut self, count: u64) {
        self.lost += count;
    }
}

impl Stream for Events {
    type Item = Event;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Event>> {
        let events = self.get_mut();
        loop {
            match ready!(events.receiver.as_mut().poll_recv(context)) {
                Some(Ok(event)) => return Poll::Ready(Some(event)),
                Some(Err(async_broadcast::RecvError::Overflowed(count))) => {
                    events.count_lost(count);
                }
                Some(Err(async_broadcast::RecvError::Closed)) | None => return Poll::Ready(None),
            }
        }
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events")
            .field("waiting", &self.receiver.len())
            .field("lost", &self.lost())
            .finish_non_exhaustive()
    }
}

/// The sender of events.
pub(crate) struct EventSender {
    sender: async_broadcast::Sender<Event>,
    /// Keeps the channel open while it has no subscriber.
    template: async_broadcast::InactiveReceiver<Event>,
    metrics: EventMetrics,
}

impl EventSender {
    pub(crate) fn new(buffer: usize) -> Self {
        let (mut sender, receiver) = async_broadcast::broadcast(buffer);
        sender.set_overflow(true);
        sender.set_await_active(false);
        let metrics = EventMetrics::new(&EventKind::ALL.map(EventKind::name));
        Self { sender, template: receiver.deactivate(), metrics }
    }

    pub(crate) fn buffer(&self) -> usize {
        self.sender.capacity()
    }

    pub(crate) fn subscribe(&self) -> Events {
        let receiver = Box::pin(self.template.activate_cloned());
        Events { receiver, lost: 0 }
    }

    /// Sends an event to the subscribers and to `tracing`, target `session`.
    pub(crate) fn send(&self, event: Event) {
        self.metrics.on_event(event.kind.name());
        tracing::debug!(
            target: "session",
            {
                session.id = %event.key,
                session.previous_id = event.former.map(display),
                user.hash = event.owner.as_ref().map(|owner| display(owner.key())),
                actor.hash = event.actor.as_ref().map(|actor| display(actor.key())),
            },
            "session {}",
            event.kind.name()
        );
        if self.sender.receiver_count() > 0 {
            // An error means that all subscribers have been dropped meanwhile, which is fine.
            let _ = self.sender.try_broadcast(event);
        }
    }
}
