//! The connection to one server, replaced when lost.
//!
//! ```text
//!             set up                 lost, moved, stale or silent
//! Connecting ---------> Connected ------------------------------+
//!   ^    |                                                      |
//!   |    | failed          the first command after the back-off |
//!   |    +------> Failed -----------------+                     |
//!   +-------------------------------------+<--------------------+
//! ```
//!
//! Only commands start an attempt, so an idle client makes none. Until the next attempt may begin,
//! commands fail immediately with the error of the last attempt.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use session_core::StoreErrorKind;
use tokio::{sync::watch, time::Instant};

use crate::{
    error::ConnectError,
    metrics::ServerLabels,
    tracking::Tracking,
    transport::{
        access::Endpoint,
        connector::{Link, connect},
        failure::Failure,
        handshake::{self, Wanted},
        limits::Limits,
        socket::Socket,
    },
};

/// The connection to one server. One task sets the connection up for all waiting commands.
///
/// redis-rs has a connection manager as well. The manager keeps a refused set-up for ever
/// (`aio/connection_manager.rs:417` in 1.8.1), and misses both a silent connection and a server
/// that became a replica. Each command takes two more steps there.
pub(crate) struct ManagedConnection {
    source: Source,
    limits: Limits,
    /// Every command reads the state, on any thread: readers must not wait for each other.
    state: ArcSwap<State>,
    /// Locked while the state changes.
    changing: Mutex<()>,
    /// `true` from the start of an attempt until the first reply.
    is_unproven: AtomicBool,
}

/// The source of new connections.
#[derive(Clone)]
pub(crate) enum Source {
    Server(Box<Server>),
    #[cfg(feature = "sentinel")]
    Sentinels(Arc<crate::transport::sentinel::Sentinels>),
}

/// A server at a known address.
#[derive(Clone)]
pub(crate) struct Server {
    endpoint: Endpoint,
    tracking: Tracking,
    wanted: Wanted,
}

struct State {
    channel: Channel,
    /// Numbers the connections, so that a command that fails late does not replace a newer
    /// connection.
    number: u64,
    begun_at: Instant,
    /// The number of earlier attempts in a row without any reply.
    failures: u32,
    /// The random factor of the back-off.
    jitter: f64,
    /// The error of the attempt before this one, if that failed.
    former_error: Option<ConnectError>,
}

#[derive(Clone)]
pub(crate) enum Channel {
    Open(Link),
    Opening(Opening),
}

/// The reason why a connection is replaced.
#[derive(Clone, Copy)]
enum Reason {
    /// The connection was lost, or could not be set up.
    Lost,
    /// The sentinels name or promote another server.
    Moved,
    /// The server replies, but cannot be used.
    Stale,
    /// The server does not reply.
    Silent,
}

impl ManagedConnection {
    /// Creates a connection. The first command connects, unless [`connect`](Self::connect) was
    /// called before.
    pub(crate) fn new(source: Source, limits: Limits) -> Self {
        let channel = Channel::Opening(Opening::none());
        let state = State {
            channel,
            number: 0,
            begun_at: Instant::now(),
            failures: 0,
            jitter: 1.0,
            former_error: None,
        };
        Self {
            source,
            limits,
            state: ArcSwap::from_pointee(state),
            changing: Mutex::new(()),
            is_unproven: AtomicBool::new(false),
        }
    }

    /// Connects, unless the connection is open already.
    pub(crate) async fn connect(&self) -> Result<(), ConnectError> {
        if let (Channel::Opening(opening), number) = self.channel() {
            let link = opening.result().await?;
            self.adopt(number, &link);
        }
        Ok(())
    }

    pub(crate) fn source(&self) -> &Source {
        &self.source
    }

    /// Returns the connection or the attempt to connect, and its number. If the last attempt failed
    /// or the server has moved, first begins a new attempt, unless the back-off is still running.
    pub(crate) fn channel(&self) -> (Channel, u64) {
        let state = self.state.load();
        if matches!(&state.channel, Channel::Opening(opening) if opening.has_failed()) {
            self.replace(state.number, Reason::Lost);
        } else if self.source.has_moved() {
            self.replace(state.number, Reason::Moved);
        } else {
            return (state.channel.clone(), state.number);
        }
        let state = self.state.load();
        (state.channel.clone(), state.number)
    }

    /// Returns the connection if it is open. Begins no attempt.
    #[cfg(feature = "cluster")]
    pub(crate) fn open(&self) -> Option<Link> {
        match &self.state.load().channel {
            Channel::Open(link) => Some(link.clone()),
            Channel::Opening(_) => None,
        }
    }

    /// Waits for the end of an attempt to connect.
    pub(crate) async fn opened(
        &self,
        opening: Opening,
        number: u64,
        limit: Instant,
    ) -> Result<Link, Failure> {
        let link = match tokio::time::timeout_at(limit, opening.result()).await {
            Ok(result) => result.map_err(|error| Failure::Lost(error.nothing_sent()))?,
            Err(_) => return Err(Failure::not_connected()),
        };
        self.adopt(number, &link);
        Ok(link)
    }

    fn adopt(&self, number: u64, link: &Link) {
        let _changing = self.changing();
        let state = self.state.load();
        if state.number == number {
            let channel = Channel::Open(link.clone());
            self.state.store(Arc::new(State { channel, former_error: None, ..**state }));
        }
    }

    /// Returns the error of the last attempt to connect that has ended, unless the connection is open.
    pub(crate) fn error(&self) -> Option<ConnectError> {
        let state = self.state.load();
        match &state.channel {
            Channel::Opening(opening) => opening.error().or_else(|| state.former_error.clone()),
            Channel::Open(_) => None,
        }
    }

    /// Records a reply over the connection with this number.
    pub(crate) fn on_answer(&self, number: u64) {
        if !self.is_unproven.load(Ordering::Relaxed) {
            return;
        }
        let _changing = self.changing();
        if self.state.load().number == number {
            self.is_unproven.store(false, Ordering::Relaxed);
        }
    }

    /// Records the loss of the connection with this number.
    pub(crate) fn on_loss(&self, number: u64) {
        self.replace(number, Reason::Lost);
    }

    /// Records that the server cannot be used, though the server replies. From now on the server
    /// receives no commands, reads included.
    pub(crate) fn on_stale_server(&self, number: u64) {
        self.replace(number, Reason::Stale);
    }

    /// Records that too many commands in a row got no reply in time.
    pub(crate) fn on_silence(&self, number: u64) {
        self.replace(number, Reason::Silent);
    }

    /// Begins an attempt to replace the connection with this number, unless the back-off is still
    /// running.
    fn replace(&self, number: u64, reason: Reason) {
        let _changing = self.changing();
        let state = self.state.load();
        // An attempt under way ends by itself.
        let is_under_way =
            matches!(&state.channel, Channel::Opening(opening) if opening.is_under_way());
        if state.number != number || is_under_way {
            return;
        }
        let is_unproven = self.is_unproven.load(Ordering::Relaxed);
        let failures = if is_unproven { state.failures.saturating_add(1) } else { 0 };
        let min_age = match (reason, &state.channel) {
            // The connection was set up, so the next attempt may succeed as well.
            (Reason::Lost | Reason::Moved, Channel::Open(_)) => {
                back_off(failures.saturating_sub(1)).mul_f64(state.jitter)
            }
            (Reason::Lost | Reason::Moved, Channel::Opening(_)) => {
                back_off(failures).mul_f64(state.jitter)
            }
            // The server replies, and may refuse the next command as well.
            (Reason::Stale, _) => LONGEST_BACK_OFF.mul_f64(state.jitter),
            // The set-up and the first command may each take their full time.
            (Reason::Silent, _) => self.limits.connect + self.limits.response,
        };
        if state.begun_at.elapsed() < min_age {
            if let (Reason::Stale, Channel::Open(link)) = (reason, &state.channel) {
                link.tracked.end();
                let channel = Channel::Opening(Opening::failed(stale()));
                // The longest back-off applies, because a primary that refuses all writes would
                // serve reads in between.
                let failures = u32::MAX;
                self.is_unproven.store(true, Ordering::Relaxed);
                let number = number + 1;
                let former_error = None;
                self.state.store(Arc::new(State {
                    channel,
                    number,
                    failures,
                    former_error,
                    ..**state
                }));
            }
            return;
        }
        // A new connection does not make a slow server faster. The limit is two response timeouts,
        // because the commands before the last may have taken their full time as well.
        if let (Reason::Silent, Channel::Open(link)) = (reason, &state.channel)
            && link.connection.was_read_within(2 * self.limits.response)
        {
            return;
        }
        let former_error = self.error();
        let mut former = None;
        if let Channel::Open(link) = &state.channel {
            link.tracked.end();
            former = matches!(reason, Reason::Moved).then(|| link.connection.clone());
        }
        let opening = Opening::begin(self.source.clone(), self.limits, failures == 0, former);
        self.is_unproven.store(true, Ordering::Relaxed);
        self.state.store(Arc::new(State {
            channel: Channel::Opening(opening),
            number: number + 1,
            begun_at: Instant::now(),
            failures,
            // Jitter: processes that lost the same server must not reconnect at the same instants.
            jitter: 0.75 + fastrand::f64() / 2.0,
            former_error,
        }));
    }

    fn changing(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the time from the start of one attempt to the earliest start of the next, before jitter.
/// The time is zero if the connection got a reply, and otherwise grows with the number of failed
/// attempts in a row. At most five attempts begin in the first second, and three in each later
/// second.
fn back_off(failures: u32) -> Duration {
    match failures.checked_sub(1) {
        None => Duration::ZERO,
        Some(doublings) => LONGEST_BACK_OFF.min(SHORTEST_BACK_OFF * (1 << doublings.min(8))),
    }
}

impl Source {
    /// Creates the source for a server. Each new connection checks the server with `INFO`, because
    /// the address may lead to another server by then.
    pub(crate) fn server(endpoint: Endpoint, tracking: Tracking, wanted: Wanted) -> Self {
        Self::Server(Box::new(Server { endpoint, tracking, wanted }))
    }

    /// Returns the address of the server, or the sentinels' name for the primary.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Server(server) => server.endpoint.addr().to_string(),
            #[cfg(feature = "sentinel")]
            Self::Sentinels(sentinels) => sentinels.name().to_owned(),
        }
    }

    /// Returns the labels for the metrics of this server. With sentinels, the labels contain the
    /// name of the primary, because the address changes.
    pub(crate) fn labels(&self) -> ServerLabels {
        match self {
            Self::Server(server) => ServerLabels::of(server.endpoint.addr()),
            #[cfg(feature = "sentinel")]
            Self::Sentinels(sentinels) => ServerLabels::named(sentinels.name()),
        }
    }

    /// Returns the way to the server, or to the primary that the sentinels name. With sentinels, the
    /// number is that of the last failover, and otherwise zero.
    pub(crate) async fn endpoint(&self) -> Result<(Endpoint, u64), ConnectError> {
        match self {
            Self::Server(server) => Ok((server.endpoint.clone(), 0)),
            #[cfg(feature = "sentinel")]
            Self::Sentinels(sentinels) => sentinels.primary().await,
        }
    }

    async fn connect(&self, limits: Limits) -> Result<Link, ConnectError> {
        match self {
            Self::Server(server) => server.connect(limits).await,
            #[cfg(feature = "sentinel")]
            Self::Sentinels(sentinels) => sentinels.find().await,
        }
    }

    /// Returns `true` if sentinels are known to name or promote another server.
    fn has_moved(&self) -> bool {
        match self {
            Self::Server(..) => false,
            #[cfg(feature = "sentinel")]
            Self::Sentinels(sentinels) => sentinels.have_moved(),
        }
    }
}

impl Server {
    async fn connect(&self, limits: Limits) -> Result<Link, ConnectError> {
        let mut link = connect(&self.endpoint, &self.tracking, limits).await?;
        let address = self.endpoint.addr().to_string();
        handshake::check(&mut link.connection, &address, self.wanted, limits.response).await?;
        Ok(link)
    }
}

/// An attempt to connect. Any number of commands can wait for its end.
#[derive(Clone)]
pub(crate) struct Opening(watch::Receiver<Option<Result<Link, ConnectError>>>);

impl Opening {
    fn none() -> Self {
        Self(watch::channel(None).1)
    }

    fn failed(error: ConnectError) -> Self {
        Self(watch::channel(Some(Err(error))).1)
    }

    /// Begins an attempt. On success, the former connection is closed, and commands that wait there
    /// for a reply fail: a former primary would acknowledge writes that are lost.
    fn begin(source: Source, limits: Limits, is_first: bool, former: Option<Socket>) -> Self {
        let (sender, receiver) = watch::channel(None);
        tokio::spawn(async move {
            let result = source.connect(limits).await;
            if let (Ok(_), Some(former)) = (&result, former) {
                former.close();
            }
            match &result {
                Ok(link) => {
                    link.tracked.begin_use();
                    tracing::debug!(target: "session", "connected to Redis");
                }
                Err(error) if is_first => {
                    tracing::warn!(target: "session", %error, "no connection to Redis");
                }
                Err(error) => tracing::debug!(target: "session", %error, "no connection to Redis"),
            }
            sender.send_replace(Some(result));
        });
        Self(receiver)
    }

    async fn result(&self) -> Result<Link, ConnectError> {
        let mut receiver = self.0.clone();
        match receiver.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(result)) => result.clone(),
            // The task ended with its runtime.
            _ => Err(ConnectError::new(
                StoreErrorKind::Unavailable,
                "the connection's set-up was ended",
            )),
        }
    }

    fn error(&self) -> Option<ConnectError> {
        self.0.borrow().as_ref()?.as_ref().err().cloned().map(ConnectError::nothing_sent)
    }

    fn is_under_way(&self) -> bool {
        // Without a sender, the attempt never ends.
        self.0.borrow().is_none() && self.0.has_changed().is_ok()
    }

    fn has_failed(&self) -> bool {
        match &*self.0.borrow() {
            Some(result) => result.is_err(),
            None => self.0.has_changed().is_err(),
        }
    }
}

/// Returns the error for a server that cannot be used. A replica could serve reads, but would
/// return records older than acknowledged writes.
fn stale() -> ConnectError {
    ConnectError::new(
        StoreErrorKind::Unavailable,
        "the server refused a write as a replica does: a failover may be under way",
    )
}

/// The back-off after the first failed attempt, from start to start.
const SHORTEST_BACK_OFF: Duration = Duration::from_millis(75);

/// The longest back-off, from the start of one attempt to the start of the next.
const LONGEST_BACK_OFF: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_are_five_in_the_first_second_and_three_in_each_later_one() {
        let shortest = 0.75;
        let mut begun_at = vec![Duration::ZERO];
        for failures in 1..100 {
            let last = *begun_at.last().unwrap();
            begun_at.push(last + back_off(failures).mul_f64(shortest));
        }
        let in_second = |from: Duration| {
            let second = from..from + Duration::from_secs(1);
            begun_at.iter().filter(|at| second.contains(at)).count()
        };
        assert_eq!(in_second(Duration::ZERO), 5);
        assert!(begun_at.iter().skip(4).all(|at| in_second(*at) <= 3));
        assert_eq!(back_off(0), Duration::ZERO);
        assert_eq!(back_off(u32::MAX), LONGEST_BACK_OFF);
    }
}
