use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use redis::Client;
use session_core::StoreErrorKind;
use tokio::{sync::watch, time::Instant};

use crate::{
    error::ConnectError,
    near_cache::Tracking,
    transport::{
        connector::{Link, connect},
        failure::Failure,
        limits::Limits,
    },
};

/// The connection to one server: made by one task for all who wait for it, and made again when it was lost.
///
/// redis-rs has a manager that does this too. It notices neither a connection that stays silent, nor one that
/// leads to a server that became a replica, nor one whose set-up the server refused; and it costs each
/// command two steps more.
pub(crate) struct ManagedConnection {
    source: Source,
    limits: Limits,
    /// Read with every command, by all threads at once: they must not wait for each other.
    state: ArcSwap<State>,
    /// Held while the state is changed.
    changing: Mutex<()>,
    /// How many commands in a row got no answer.
    silences: AtomicU32,
}

/// Where connections come from.
#[derive(Clone)]
pub(crate) enum Source {
    Server(Box<Client>, Tracking),
    #[cfg(feature = "sentinel")]
    Sentinels(Arc<crate::transport::sentinel::Sentinels>),
}

struct State {
    channel: Channel,
    /// Counts the connections, so that a command which fails late does not replace a newer one.
    number: u64,
    begun_at: Instant,
}

#[derive(Clone)]
pub(crate) enum Channel {
    Open(Link),
    Opening(Opening),
}

impl ManagedConnection {
    pub(crate) fn open(source: Source, link: Link, limits: Limits) -> Self {
        Self::new(source, Channel::Open(link), limits)
    }

    /// A line whose first command connects.
    #[cfg(feature = "cluster")]
    pub(crate) fn closed(source: Source, limits: Limits) -> Self {
        Self::new(source, Channel::Opening(Opening::none()), limits)
    }

    fn new(source: Source, channel: Channel, limits: Limits) -> Self {
        let state = State { channel, number: 0, begun_at: Instant::now() };
        Self {
            source,
            limits,
            state: ArcSwap::from_pointee(state),
            changing: Mutex::new(()),
            silences: AtomicU32::new(0),
        }
    }

    pub(crate) fn source(&self) -> &Source {
        &self.source
    }

    /// The connection, or the attempt to make one, and its number.
    pub(crate) fn channel(&self) -> (Channel, u64) {
        let state = self.state.load();
        if matches!(&state.channel, Channel::Opening(opening) if opening.has_failed()) {
            self.replace(state.number, self.source.pause());
        } else if self.source.has_moved() {
            self.replace(state.number, PAUSE);
        } else {
            return (state.channel.clone(), state.number);
        }
        let state = self.state.load();
        (state.channel.clone(), state.number)
    }

    /// Waits for a connection that is being made.
    pub(crate) async fn opened(
        &self,
        opening: Opening,
        number: u64,
        limit: Instant,
    ) -> Result<Link, Failure> {
        let link = match tokio::time::timeout_at(limit, opening.result()).await {
            Ok(result) => result.map_err(Failure::Lost)?,
            Err(_) => return Err(Failure::not_connected()),
        };
        let _changing = self.changing();
        let state = self.state.load();
        if state.number == number {
            let channel = Channel::Open(link.clone());
            self.state.store(Arc::new(State { channel, ..**state }));
        }
        Ok(link)
    }

    /// Notes that the connection with this number answered.
    pub(crate) fn note_answer(&self, number: u64) {
        if self.silences.load(Ordering::Relaxed) == 0 {
            return;
        }
        let _changing = self.changing();
        if self.state.load().number == number {
            self.silences.store(0, Ordering::Relaxed);
        }
    }

    /// Notes that the connection with this number did not answer in time. It is replaced when that is so
    /// several times in a row.
    pub(crate) fn note_silence(&self, number: u64) {
        let changing = self.changing();
        if self.state.load().number != number {
            return;
        }
        // Counted while nobody can replace the line.
        if self.silences.fetch_add(1, Ordering::Relaxed) + 1 >= MAX_SILENCES {
            drop(changing);
            // A new connection may need all of its time to be set up.
            self.replace(number, self.limits.connect + self.limits.response);
        }
    }

    /// Notes that the connection with this number is gone.
    pub(crate) fn note_loss(&self, number: u64) {
        self.replace(number, self.source.pause());
    }

    /// Notes that the connection with this number is of no use, though there is somebody who says so.
    pub(crate) fn note_refusal(&self, number: u64) {
        self.replace(number, PAUSE);
    }

    /// Begins another connection in place of the one with this number, if that is so old; not more often than a
    /// server in trouble bears.
    fn replace(&self, number: u64, min_age: Duration) {
        let _changing = self.changing();
        let state = self.state.load();
        // An attempt ends by itself.
        let is_under_way =
            matches!(&state.channel, Channel::Opening(opening) if opening.is_under_way());
        if state.number != number || is_under_way || state.begun_at.elapsed() < min_age {
            return;
        }
        if let Channel::Open(link) = &state.channel {
            link.tracked.end();
        }
        let channel = Channel::Opening(Opening::begin(self.source.clone(), self.limits));
        let begun_at = Instant::now();
        self.state.store(Arc::new(State { channel, number: number + 1, begun_at }));
        self.silences.store(0, Ordering::Relaxed);
    }

    fn changing(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Source {
    /// The address of the server, or what the sentinels call it.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Server(client, _) => client.get_connection_info().addr().to_string(),
            #[cfg(feature = "sentinel")]
            Self::Sentinels(sentinels) => sentinels.name().to_owned(),
        }
    }

    async fn connect(&self, limits: Limits) -> Result<Link, ConnectError> {
        match self {
            Self::Server(client, tracking) => connect(client, tracking, limits).await,
            #[cfg(feature = "sentinel")]
            Self::Sentinels(sentinels) => sentinels.find().await,
        }
    }

    /// Tells whether another server is to be connected to by now, as far as is known.
    fn has_moved(&self) -> bool {
        match self {
            Self::Server(..) => false,
            #[cfg(feature = "sentinel")]
            Self::Sentinels(sentinels) => sentinels.have_moved(),
        }
    }

    /// How old a connection must be to be replaced when it is lost. To a server none is needed: back is back,
    /// and as long as it is away every attempt fails at once. A search for a primary asks many.
    fn pause(&self) -> Duration {
        match self {
            Self::Server(..) => Duration::ZERO,
            #[cfg(feature = "sentinel")]
            Self::Sentinels(_) => PAUSE,
        }
    }
}

/// A connection that is being made, for which any number of commands can wait.
#[derive(Clone)]
pub(crate) struct Opening(watch::Receiver<Option<Result<Link, ConnectError>>>);

impl Opening {
    #[cfg(feature = "cluster")]
    fn none() -> Self {
        Self(watch::channel(None).1)
    }

    fn begin(source: Source, limits: Limits) -> Self {
        let (sender, receiver) = watch::channel(None);
        tokio::spawn(async move {
            let result = source.connect(limits).await;
            match &result {
                Ok(_) => tracing::debug!(target: "session", "connected to Redis"),
                Err(error) => tracing::debug!(target: "session", %error, "no connection to Redis"),
            }
            sender.send_replace(Some(result));
        });
        Self(receiver)
    }

    async fn result(&self) -> Result<Link, ConnectError> {
        let mut receiver = self.0.clone();
        match receiver.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(result)) => result.clone().map_err(ConnectError::nothing_sent),
            // With its runtime.
            _ => Err(ConnectError::new(
                StoreErrorKind::Unavailable,
                "the connection's set-up was ended",
            )),
        }
    }

    fn is_under_way(&self) -> bool {
        // Without a sender it will never end.
        self.0.borrow().is_none() && self.0.has_changed().is_ok()
    }

    fn has_failed(&self) -> bool {
        match &*self.0.borrow() {
            Some(result) => result.is_err(),
            None => self.0.has_changed().is_err(),
        }
    }
}

/// How many commands in a row may stay without an answer before a new connection is tried.
const MAX_SILENCES: u32 = 3;

/// How long a connection is given before it is replaced by another one to a server in trouble.
pub(crate) const PAUSE: Duration = Duration::from_millis(100);
