//! The store, the connections of each server to the store, and the time.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use futures_util::FutureExt as _;
use session_axum::MemoryStore;
use session_core::{
    Committed, Created, Ended, Entry, IdGenerator, ManualClock, SessionId, SessionKey,
    StoreErrorKind, Timestamp,
    testing::{Answer, Operation},
};
use session_redis::cache::{ConnectionFreshness, NearCopies, ReadMark};

use super::{NearBroken, NearCounters};
use crate::random::Random;

/// The state that the servers share with the driver of the history.
#[derive(Clone)]
pub(super) struct World(Arc<Mutex<State>>);

pub(super) struct State {
    pub(super) broken: Option<NearBroken>,
    pub(super) random: Random,
    /// Milliseconds since the start.
    pub(super) time: u64,
    begun_at: Instant,
    pub(super) clock: Arc<ManualClock>,
    store: MemoryStore,
    events: BTreeMap<(u64, u64), Event>,
    scheduled: u64,
    connections: Vec<Connection>,
    pub(super) servers: Vec<Server>,
    calls: Vec<Call>,
    /// The connections that have read each key since their last invalidation.
    tracked: BTreeMap<SessionKey, BTreeSet<usize>>,
    /// `true` if the connection that makes a change receives the invalidation before the reply, as up
    /// to Redis 6.2.
    invalidates_first: bool,
    /// When each session was deleted from the store.
    pub(super) ended: BTreeMap<SessionKey, u64>,
    /// Copies that a server wants to confirm.
    pub(super) doubts: Vec<(usize, SessionKey)>,
    pub(super) counters: NearCounters,
    pub(super) trace: Vec<String>,
    pub(super) violation: Option<String>,
}

#[derive(Debug)]
pub(super) enum Event {
    /// Events for the driver of the history.
    Begin {
        client: usize,
        act: usize,
    },
    Response {
        request: usize,
    },
    Apply {
        call: usize,
    },
    Answer {
        call: usize,
        answer: Result<Answer, StoreErrorKind>,
    },
    /// The task that waits for the reply is polled.
    Wake {
        call: usize,
    },
    Timeout {
        call: usize,
    },
    Invalidate {
        connection: usize,
        key: SessionKey,
    },
    Hang {
        server: usize,
        span: u64,
    },
    Cut {
        server: usize,
    },
    Notice {
        connection: usize,
    },
}

pub(super) struct Server {
    pub(super) copies: Arc<NearCopies>,
    /// The tracked connection, and one for commands that end sessions.
    main: Option<usize>,
    second: Option<usize>,
    has_second: bool,
    silences: u32,
    shared_horizon: Option<Arc<ConnectionFreshness>>,
    /// When the server last noticed a loss of the tracked connection.
    pub(super) lost_at: Option<u64>,
    /// When the server learned of the end of each key's session.
    pub(super) heard: BTreeMap<SessionKey, u64>,
}

struct Connection {
    server: usize,
    horizon: Option<Arc<ConnectionFreshness>>,
    /// The earliest arrival times in both directions, which keep messages in order.
    next_there: u64,
    next_back: u64,
    is_cut: bool,
    is_closed: bool,
}

struct Call {
    connection: usize,
    command: (Operation, Timestamp),
    sent_at: u64,
    arrived: Option<Result<Answer, StoreErrorKind>>,
    answer: Option<Result<Answer, StoreErrorKind>>,
}

impl World {
    pub(super) fn new(mut random: Random, broken: Option<NearBroken>, servers: usize) -> Self {
        let (has_second, invalidates_first) = (random.percent(50), random.percent(50));
        let server = |_| Server {
            copies: Arc::new(NearCopies::new(1024 * 1024, Duration::from_millis(STALENESS))),
            main: None,
            second: None,
            has_second,
            silences: 0,
            shared_horizon: None,
            lost_at: None,
            heard: BTreeMap::new(),
        };
        Self(Arc::new(Mutex::new(State {
            broken,
            random,
            time: 0,
            begun_at: Instant::now(),
            clock: Arc::new(ManualClock::new(START)),
            store: MemoryStore::default(),
            events: BTreeMap::new(),
            scheduled: 0,
            connections: Vec::new(),
            servers: (0..servers).map(server).collect(),
            calls: Vec::new(),
            tracked: BTreeMap::new(),
            invalidates_first,
            ended: BTreeMap::new(),
            doubts: Vec::new(),
            counters: NearCounters::default(),
            trace: Vec::new(),
            violation: None,
        })))
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    pub(super) fn say(&mut self, text: String) {
        self.trace.push(format!("{:>6} ms  {text}", self.time));
    }

    pub(super) fn at(&self, time: u64) -> Instant {
        self.begun_at + Duration::from_millis(time)
    }

    pub(super) fn schedule(&mut self, time: u64, event: Event) {
        self.scheduled += 1;
        self.events.insert((time.max(self.time), self.scheduled), event);
    }

    /// Advances to the next event.
    pub(super) fn next(&mut self) -> Option<Event> {
        let ((time, _), event) = self.events.pop_first()?;
        self.clock.advance(Duration::from_millis(time - self.time));
        self.time = time;
        Some(event)
    }

    /// Sends a command. Returns its number, and the mark of the connection if that is tracked.
    pub(super) fn send(
        &mut self,
        server: usize,
        ends: bool,
        command: (Operation, Timestamp),
    ) -> (usize, Option<ReadMark>) {
        let connection = self.connection(server, ends);
        let (number, sent_at) = (self.calls.len(), self.time);
        let freshness = self.connections[connection].horizon.as_ref();
        let mark = freshness.map(|freshness| freshness.mark(self.at(sent_at)));
        let arrival = (sent_at + self.delay()).max(self.connections[connection].next_there);
        self.connections[connection].next_there = arrival;
        self.calls.push(Call { connection, command, sent_at, arrived: None, answer: None });
        self.schedule(arrival, Event::Apply { call: number });
        self.schedule(sent_at + TIMEOUT, Event::Timeout { call: number });
        (number, mark)
    }

    /// Returns the reply, once its task is polled. A reply proves that no earlier message is
    /// outstanding.
    pub(super) fn take_answer(&mut self, call: usize) -> Option<Result<Answer, StoreErrorKind>> {
        let answer = self.calls[call].answer.take()?;
        let Call { connection, sent_at, .. } = self.calls[call];
        if let (Ok(_), Some(horizon)) = (&answer, &self.connections[connection].horizon) {
            horizon.prove(self.at(sent_at));
        }
        Some(answer)
    }

    /// Imitates a cache without a bound: all connections of the server count as proven.
    pub(super) fn prove_anything(&mut self, server: usize) {
        let now = self.at(self.time);
        for connection in self.connections.iter().filter(|line| line.server == server) {
            if let Some(horizon) = &connection.horizon {
                horizon.prove(now);
            }
        }
    }

    /// Processes an event that is not one of the history's.
    pub(super) fn happen(&mut self, event: Event) {
        match event {
            Event::Apply { call } => self.apply(call),
            Event::Answer { call, answer } => {
                if !self.is_lost(self.calls[call].connection) {
                    self.calls[call].arrived = Some(answer);
                    let turn = self.time + self.random.weighted(&[(6, 0), (3, 3), (1, 60)]);
                    self.schedule(turn, Event::Wake { call });
                }
            }
            Event::Wake { call } => {
                if let Some(answer) = self.calls[call].arrived.take() {
                    self.calls[call].answer = Some(answer);
                }
                let server = self.connections[self.calls[call].connection].server;
                self.servers[server].silences = 0;
            }
            Event::Timeout { call } => self.time_out(call),
            Event::Invalidate { connection, key } => self.invalidate(connection, key),
            Event::Hang { server, span } => {
                if let Some(connection) = self.servers[server].main {
                    let until = self.time + span;
                    let line = &mut self.connections[connection];
                    line.next_back = line.next_back.max(until);
                    self.counters.hangs += 1;
                    self.say(format!("server {server} gets no answers for {span} ms"));
                }
            }
            Event::Cut { server } => {
                if let Some(connection) = self.servers[server].main {
                    self.connections[connection].is_cut = true;
                    self.tracked
                        .values_mut()
                        .for_each(|readers| readers.retain(|one| *one != connection));
                    let notice = self.time + self.random.weighted(&[(3, 0), (2, 50), (2, 4_000)]);
                    self.schedule(notice, Event::Notice { connection });
                    self.say(format!("the connection of server {server} is cut"));
                }
            }
            Event::Notice { connection } => self.close(connection),
            Event::Begin { .. } | Event::Response { .. } => unreachable!("these are the history's"),
        }
    }

    fn connection(&mut self, server: usize, ends: bool) -> usize {
        let ends = ends && self.servers[server].has_second;
        let open = if ends { self.servers[server].second } else { self.servers[server].main };
        if let Some(open) = open {
            return open;
        }
        let number = self.connections.len();
        let (begun_at, shares) =
            (self.at(self.time), self.broken == Some(NearBroken::OneHorizonForAll));
        let place = &mut self.servers[server];
        let horizon = match &place.shared_horizon {
            _ if ends => None,
            Some(shared) if shares => Some(Arc::clone(shared)),
            _ => Some(ConnectionFreshness::new(begun_at)),
        };
        if ends {
            place.second = Some(number);
        } else {
            (place.main, place.shared_horizon) = (Some(number), horizon.clone());
        }
        let (next_there, next_back) = (self.time, self.time);
        self.connections.push(Connection {
            server,
            horizon,
            next_there,
            next_back,
            is_cut: false,
            is_closed: false,
        });
        number
    }

    fn is_lost(&self, connection: usize) -> bool {
        let connection = &self.connections[connection];
        connection.is_cut || connection.is_closed
    }

    fn delay(&mut self) -> u64 {
        let most = self.random.weighted(&[(6, 3), (3, 25), (1, 300)]);
        self.random.between(0, most)
    }

    /// Sends a message to the server, after all earlier messages.
    fn send_back(&mut self, connection: usize, event: Event) {
        let arrival = (self.time + self.delay()).max(self.connections[connection].next_back);
        self.connections[connection].next_back = arrival;
        self.schedule(arrival, event);
    }

    fn apply(&mut self, call: usize) {
        let Call { connection, command, .. } = &self.calls[call];
        let (connection, command) = (*connection, command.clone());
        if self.is_lost(connection) {
            return;
        }
        let (operation, now) = command;
        let performed = operation.clone().perform(&self.store, now);
        let answer = performed.now_or_never().expect("memory does not wait");
        let answer = answer.map_err(|error| error.kind());
        let untracked = self.broken == Some(NearBroken::UntrackedReads) && self.random.percent(50);
        let is_tracked = self.connections[connection].horizon.is_some() && !untracked;
        if let Operation::Load { key } = operation
            && is_tracked
        {
            self.tracked.entry(key).or_default().insert(connection);
        }
        let changed = changed(&operation, &answer);
        for (key, ended) in &changed {
            if *ended {
                self.ended.entry(*key).or_insert(self.time);
            }
        }
        let mut own = Vec::new();
        for (key, _) in changed {
            for reader in self.tracked.remove(&key).unwrap_or_default() {
                let invalidate = Event::Invalidate { connection: reader, key };
                if reader == connection && !self.invalidates_first {
                    own.push(invalidate);
                } else {
                    self.send_back(reader, invalidate);
                }
            }
        }
        self.send_back(connection, Event::Answer { call, answer });
        // Since 7.0, the connection that makes a change receives the invalidation after the reply.
        for invalidate in own {
            self.send_back(connection, invalidate);
        }
    }

    fn invalidate(&mut self, connection: usize, key: SessionKey) {
        if self.is_lost(connection) {
            return;
        }
        let (server, time) = (self.connections[connection].server, self.time);
        self.servers[server].copies.invalidate(&key);
        self.hear_end(server, key, time);
    }

    /// Records that a server learned of an end.
    pub(super) fn hear_end(&mut self, server: usize, key: SessionKey, time: u64) {
        if self.ended.contains_key(&key) {
            self.servers[server].heard.entry(key).or_insert(time);
            self.counters.ends_heard += 1;
        }
    }

    fn time_out(&mut self, call: usize) {
        if self.calls[call].arrived.is_some() || self.calls[call].sent_at == DONE {
            return;
        }
        self.fail(call);
        let connection = self.calls[call].connection;
        let server = self.connections[connection].server;
        self.servers[server].silences += 1;
        if self.servers[server].silences >= 3 {
            self.close(connection);
        }
    }

    /// Closes a connection on the side of the server, and fails its pending calls.
    fn close(&mut self, connection: usize) {
        if std::mem::replace(&mut self.connections[connection].is_closed, true) {
            return;
        }
        let server = self.connections[connection].server;
        let place = &mut self.servers[server];
        if place.second == Some(connection) {
            place.second = None;
        }
        if place.main == Some(connection) {
            (place.main, place.lost_at) = (None, Some(self.time));
            let keeps = [NearBroken::NoFlushOnDisconnect, NearBroken::OneHorizonForAll];
            if let Some(horizon) = &self.connections[connection].horizon
                && !self.broken.is_some_and(|broken| keeps.contains(&broken))
            {
                place.copies.disconnect(horizon);
            }
            self.counters.losses += 1;
            self.say(format!("server {server} gives its connection up"));
        }
        self.servers[server].silences = 0;
        self.tracked.values_mut().for_each(|readers| readers.retain(|one| *one != connection));
        for call in 0..self.calls.len() {
            if self.calls[call].connection == connection {
                self.fail(call);
            }
        }
    }

    /// Fails a call that has no reply yet.
    fn fail(&mut self, call: usize) {
        let call = &mut self.calls[call];
        if call.sent_at != DONE && call.arrived.is_none() && call.answer.is_none() {
            call.answer = Some(Err(StoreErrorKind::Timeout));
        }
    }

    /// Marks a call whose task no longer waits for the reply.
    pub(super) fn done(&mut self, call: usize) {
        self.calls[call].sent_at = DONE;
    }
}

/// Returns the keys that a command has changed, and whether the change ended a session.
fn changed(
    operation: &Operation,
    answer: &Result<Answer, StoreErrorKind>,
) -> Vec<(SessionKey, bool)> {
    let Ok(answer) = answer else { return Vec::new() };
    let one = |ended| vec![(operation.keys()[0], ended)];
    match answer {
        Answer::Created(Created::Created) | Answer::Committed(Committed::Committed) => one(false),
        Answer::Touched(session_core::Touched::Touched) => one(false),
        Answer::Deleted(Some(Entry::Session(_))) => one(true),
        Answer::DeletedOrBlocked(ended) => operation
            .keys()
            .into_iter()
            .zip(ended)
            .map(|(key, ended)| (key, matches!(ended, Ended::Session(_))))
            .collect(),
        _ => Vec::new(),
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World").finish_non_exhaustive()
    }
}

impl IdGenerator for World {
    fn generate(&self) -> SessionId {
        let mut state = self.state();
        let mut bits = [0; 32];
        bits.chunks_mut(8)
            .for_each(|part| part.copy_from_slice(&state.random.next().to_le_bytes()));
        SessionId::from_random_bits(bits)
    }
}

/// The maximum age of a copy, in milliseconds.
pub(super) const STALENESS: u64 = 2_000;

/// The time limit for a reply, in milliseconds.
const TIMEOUT: u64 = 500;

/// The value of `sent_at` after the reply was taken.
const DONE: u64 = u64::MAX;

const START: session_core::Timestamp = session_core::Timestamp::from_millis(1_700_000_000_000);
