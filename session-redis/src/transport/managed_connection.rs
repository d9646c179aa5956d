//! The connection to one server, which is made again when it is lost.
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
//! Commands are what starts an attempt: nothing runs in the background. Until an attempt may begin,
//! commands fail immediately with the error of the last one.

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
    near_cache::Tracking,
    transport::{
        access::Endpoint,
        connector::{Link, connect},
        failure::Failure,
        handshake::{self, Wanted},
        limits::Limits,
        socket::Socket,
    },
};

/// The connection to one server, made by one task for all who wait for it.
///
/// redis-rs has a manager that does this too. It keeps a set-up that the server refused for ever
/// (`aio/connection_manager.rs:417` in 1.8.1), it notices neither a connection that stays silent nor one
/// that leads to a server that became a replica, and it costs each command two steps more.
pub(crate) struct ManagedConnection {
    source: Source,
    limits: Limits,
    /// Read with every command, by all threads: they must not wait for each other.
    state: ArcSwap<State>,
    /// Held while the state is changed.
    changing: Mutex<()>,
    /// Nothing was answered since the last attempt began.
    is_unproven: AtomicBool,
}

/// Where connections come from.
#[derive(Clone)]
pub(crate) enum Source {
    Server(Box<Server>),
    #[cfg(feature = "sentinel")]
    Sentinels(Arc<crate::transport::sentinel::Sentinels>),
}

/// A server with an address of its own.
#[derive(Clone)]
pub(crate) struct Server {
    endpoint: Endpoint,
    tracking: Tracking,
    wanted: Wanted,
}

struct State {
    channel: Channel,
    /// Counts the connections, so that a command which fails late does not replace a newer one.
    number: u64,
    begun_at: Instant,
    /// The attempts before this one, in a row, over which nothing was answered.
    failures: u32,
    /// Scales the back-off.
    jitter: f64,
}

#[derive(Clone)]
pub(crate) enum Channel {
    Open(Link),
    Opening(Opening),
}

/// Why a connection is replaced.
#[derive(Clone, Copy)]
enum Reason {
    /// It could not be set up, or is gone.
    Lost,
    /// Another server takes the place of its server.
    Moved,
    /// It leads to a server that cannot be of use.
    Stale,
    /// It does not answer.
    Silent,
}

impl ManagedConnection {
    /// A connection that the first command makes, unless [`connect`](Self::connect) does.
    pub(crate) fn new(source: Source, limits: Limits) -> Self {
        let channel = Channel::Opening(Opening::none());
        let state =
            State { channel, number: 0, begun_at: Instant::now(), failures: 0, jitter: 1.0 };
        Self {
            source,
            limits,
            state: ArcSwap::from_pointee(state),
            changing: Mutex::new(()),
            is_unproven: AtomicBool::new(false),
        }
    }

    /// Connects, unless there is a connection.
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

    /// The connection, or the attempt to make one, and its number.
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

    /// Waits for a connection that is being made.
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
            self.state.store(Arc::new(State { channel, ..**state }));
        }
    }

    /// Returns why the last attempt to connect failed, if no other one has begun since.
    pub(crate) fn error(&self) -> Option<ConnectError> {
        match &self.state.load().channel {
            Channel::Opening(opening) => opening.error(),
            Channel::Open(_) => None,
        }
    }

    /// Records that the connection with this number answered.
    pub(crate) fn on_answer(&self, number: u64) {
        if !self.is_unproven.load(Ordering::Relaxed) {
            return;
        }
        let _changing = self.changing();
        if self.state.load().number == number {
            self.is_unproven.store(false, Ordering::Relaxed);
        }
    }

    /// Records that the connection with this number is gone.
    pub(crate) fn on_loss(&self, number: u64) {
        self.replace(number, Reason::Lost);
    }

    /// Records that the server at the other end cannot be of use, though it answers. Nothing is sent to it any
    /// more, reads included.
    pub(crate) fn on_stale_server(&self, number: u64) {
        self.replace(number, Reason::Stale);
    }

    /// Records that too many commands in a row got no answer in time.
    pub(crate) fn on_silence(&self, number: u64) {
        self.replace(number, Reason::Silent);
    }

    /// Begins another connection in place of the one with this number, unless it is too early.
    fn replace(&self, number: u64, reason: Reason) {
        let _changing = self.changing();
        let state = self.state.load();
        // An attempt ends by itself.
        let is_under_way =
            matches!(&state.channel, Channel::Opening(opening) if opening.is_under_way());
        if state.number != number || is_under_way {
            return;
        }
        let is_unproven = self.is_unproven.load(Ordering::Relaxed);
        let failures = if is_unproven { state.failures.saturating_add(1) } else { 0 };
        let min_age = match (reason, &state.channel) {
            // It was set up, so the next one may be as well.
            (Reason::Lost | Reason::Moved, Channel::Open(_)) => {
                back_off(failures.saturating_sub(1)).mul_f64(state.jitter)
            }
            (Reason::Lost | Reason::Moved, Channel::Opening(_)) => {
                back_off(failures).mul_f64(state.jitter)
            }
            // It answers, and may refuse the next command as well.
            (Reason::Stale, _) => LONGEST_BACK_OFF.mul_f64(state.jitter),
            // A new connection may need all of its time to be set up.
            (Reason::Silent, _) => self.limits.connect + self.limits.response,
        };
        if state.begun_at.elapsed() < min_age {
            if let (Reason::Stale, Channel::Open(link)) = (reason, &state.channel) {
                link.tracked.end();
                let channel = Channel::Opening(Opening::failed(stale()));
                // The longest back-off: a primary that refuses all writes would answer the reads in between.
                let failures = u32::MAX;
                self.is_unproven.store(true, Ordering::Relaxed);
                let number = number + 1;
                self.state.store(Arc::new(State { channel, number, failures, ..**state }));
            }
            return;
        }
        // A server that is slow becomes no faster by another connection. The commands before the last
        // one may have taken their time as well.
        if let (Reason::Silent, Channel::Open(link)) = (reason, &state.channel)
            && link.connection.was_read_within(2 * self.limits.response)
        {
            return;
        }
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
            // Processes that lost the same server must not come back at the same instants.
            jitter: 0.75 + fastrand::f64() / 2.0,
        }));
    }

    fn changing(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns how long after the begin of an attempt the next one may begin: immediately if something was
/// answered over the connection, and otherwise the later, the more attempts in a row have failed. That
/// is at most five attempts in the first second, and three in each later one.
fn back_off(failures: u32) -> Duration {
    match failures.checked_sub(1) {
        None => Duration::ZERO,
        Some(doublings) => LONGEST_BACK_OFF.min(SHORTEST_BACK_OFF * (1 << doublings.min(8))),
    }
}

impl Source {
    /// A server that is asked at each connection who it is: its address may lead to another one by then.
    pub(crate) fn server(endpoint: Endpoint, tracking: Tracking, wanted: Wanted) -> Self {
        Self::Server(Box::new(Server { endpoint, tracking, wanted }))
    }

    /// The address of the server, or what the sentinels call it.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Server(server) => server.endpoint.addr().to_string(),
            #[cfg(feature = "sentinel")]
            Self::Sentinels(sentinels) => sentinels.name().to_owned(),
        }
    }

    /// Labels the metrics of this server. Where sentinels watch, these name no address, as it changes.
    pub(crate) fn labels(&self) -> ServerLabels {
        match self {
            Self::Server(server) => ServerLabels::of(server.endpoint.addr()),
            #[cfg(feature = "sentinel")]
            Self::Sentinels(sentinels) => ServerLabels::named(sentinels.name()),
        }
    }

    async fn connect(&self, limits: Limits) -> Result<Link, ConnectError> {
        match self {
            Self::Server(server) => server.connect(limits).await,
            #[cfg(feature = "sentinel")]
            Self::Sentinels(sentinels) => sentinels.find().await,
        }
    }

    /// Returns `true` if another server is to be connected to by now, as far as is known.
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

/// A connection that is being made, for which any number of commands can wait.
#[derive(Clone)]
pub(crate) struct Opening(watch::Receiver<Option<Result<Link, ConnectError>>>);

impl Opening {
    fn none() -> Self {
        Self(watch::channel(None).1)
    }

    fn failed(error: ConnectError) -> Self {
        Self(watch::channel(Some(Err(error))).1)
    }

    /// Once there is the new connection, commands that wait for their answers over the former one fail: a
    /// primary that is none any more would acknowledge writes that are lost.
    fn begin(source: Source, limits: Limits, is_first: bool, former: Option<Socket>) -> Self {
        let (sender, receiver) = watch::channel(None);
        tokio::spawn(async move {
            let result = source.connect(limits).await;
            if let (Ok(_), Some(former)) = (&result, former) {
                former.close();
            }
            match &result {
                Ok(_) => tracing::debug!(target: "session", "connected to Redis"),
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
            // With its runtime.
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

/// A replica may answer reads, but with what is older than what was acknowledged.
fn stale() -> ConnectError {
    ConnectError::new(
        StoreErrorKind::Unavailable,
        "the server refused a write as a replica does: a failover may be under way",
    )
}

/// How long after the begin of an attempt that failed the second one may begin.
const SHORTEST_BACK_OFF: Duration = Duration::from_millis(75);

/// How long after the begin of an attempt the next one may begin at the latest.
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
