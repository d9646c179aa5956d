//! Plays one history, and checks the session that each request reads:
//!
//! 1. The session is no older than the bound: it contains every write acknowledged that long before the
//!    request.
//! 2. The session is no older than the writes in the client's own responses.
//! 3. The session has not ended, as far as the server knows.
//! 4. The session is no older than the last loss of the server's connection, as noticed by the server.

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use session_axum::MemoryStore;
use session_core::{
    CookieChange, Key, Session, SessionError, SessionId, SessionKey, SessionStore as _, Sessions,
    testing::Intercepted,
};

use super::{
    NearBroken, NearCounters,
    network::{Event, STALENESS, World},
    server::NearStore,
};
use crate::{
    random::{Part, Random},
    sim::Found,
};

const COUNT: Key<u64> = Key::new("count");

pub(super) struct History {
    world: World,
    servers: Vec<Sessions>,
    stores: Vec<NearStore>,
    clients: Vec<Client>,
    requests: BTreeMap<usize, Request>,
    responses: BTreeMap<usize, (usize, Response)>,
    made: usize,
}

/// A browser with several tabs.
#[derive(Default)]
struct Client {
    id: Option<SessionId>,
    marked_until: u64,
    marked_count: u64,
    /// The latest write that a response contained.
    told: u64,
    acts: Vec<(usize, Act)>,
    /// The acknowledged writes, each with the time of its acknowledgement by a server.
    written: Vec<(u64, u64)>,
}

#[derive(Clone, Copy, Debug)]
enum Act {
    /// A read by a client that has the ID, and no marker cookie.
    Peek,
    Read,
    Write,
    Renew,
    LogOut,
    EndAll,
}

struct Request {
    client: usize,
    future: Pin<Box<dyn Future<Output = Response>>>,
}

/// The session that a request reads, and its response.
struct Response {
    seen: Option<u64>,
    change: CookieChange,
    marker: u64,
    wrote: Option<u64>,
    is_over: bool,
    is_peek: bool,
}

/// An incoming request.
struct Arrival {
    id: Option<SessionId>,
    is_marked: bool,
    marked_count: u64,
    act: Act,
    begun_at: u64,
    server: usize,
    client: usize,
    told: u64,
}

impl History {
    pub(super) fn play(seed: u64, broken: Option<NearBroken>) -> (NearCounters, Option<Found>) {
        let mut random = Random::of(seed, Part::Near, 0);
        let servers = random.index(2) + 2;
        let world = World::new(Random::of(seed, Part::Near, 1), broken, servers);
        let mut history = Self::new(&world, servers);
        history.plan(&mut random);
        history.run();
        drop(history);
        let mut state = world.state();
        let found = state.violation.take().map(|text| {
            let trace = std::mem::take(&mut state.trace);
            Found { seed, rule: "the near cache", text, trace }
        });
        (state.counters, found)
    }

    fn new(world: &World, servers: usize) -> Self {
        let clock = Arc::clone(&world.state().clock);
        let stores: Vec<_> = (0..servers).map(|server| NearStore::new(world, server)).collect();
        let sessions = |store: &NearStore| {
            Sessions::builder(Intercepted::new(MemoryStore::default(), store.clone()))
                .with_clock(Arc::clone(&clock))
                .with_id_generator(world.clone())
                .build()
                .expect("the rules are valid")
        };
        Self {
            world: world.clone(),
            servers: stores.iter().map(sessions).collect(),
            stores,
            clients: Vec::new(),
            requests: BTreeMap::new(),
            responses: BTreeMap::new(),
            made: 0,
        }
    }

    fn plan(&mut self, random: &mut Random) {
        let servers = self.servers.len();
        let mut state = self.world.state();
        for number in 0..=random.index(2) {
            let mut client = Client::default();
            let mut time = 0;
            // The first act signs in, and precedes all others.
            for act in 0..random.between(8, 30) {
                let kind = match act {
                    0 => Act::Write,
                    _ => random.weighted(&[
                        (50, Act::Peek),
                        (20, Act::Read),
                        (24, Act::Write),
                        (2, Act::Renew),
                        (2, Act::LogOut),
                        (2, Act::EndAll),
                    ]),
                };
                client.acts.push((random.index(servers), kind));
                let act = client.acts.len() - 1;
                state.schedule(time, Event::Begin { client: number, act });
                time += match act {
                    0 => 1_500,
                    _ => random.weighted(&[(5, 0), (10, 20), (10, 150), (3, 1_200), (1, 3_000)]),
                };
            }
            self.clients.push(client);
        }
        for _ in 0..random.index(3) {
            let (server, span) = (random.index(servers), random.weighted(&[(2, 400), (2, 6_000)]));
            let time = random.between(1_500, 8_000);
            state.schedule(time, Event::Hang { server, span });
        }
        for _ in 0..random.index(3) {
            let (server, time) = (random.index(servers), random.between(1_500, 8_000));
            state.schedule(time, Event::Cut { server });
        }
    }

    fn run(&mut self) {
        while let Some(event) = self.next() {
            match event {
                Event::Begin { client, act } => self.begin(client, act),
                Event::Response { request } => self.respond(request),
                event => self.world.state().happen(event),
            }
            self.poll();
            let doubts = std::mem::take(&mut self.world.state().doubts);
            for (server, key) in doubts {
                self.confirm(server, key);
            }
        }
    }

    /// Returns the next event, or `None` at the end and after a violation.
    fn next(&self) -> Option<Event> {
        let mut state = self.world.state();
        if state.violation.is_some() { None } else { state.next() }
    }

    fn begin(&mut self, number: usize, act: usize) {
        let client = &self.clients[number];
        let (server, act) = client.acts[act];
        let mut state = self.world.state();
        if client.id.is_none() && state.time > 0 {
            return;
        }
        let broken = state.broken;
        let is_peek = matches!(act, Act::Peek);
        let is_marked =
            broken != Some(NearBroken::NoMarker) && client.marked_until >= state.time && !is_peek;
        state.counters.marked += u64::from(is_marked);
        let arrival = Arrival {
            id: client.id.clone(),
            is_marked,
            marked_count: client.marked_count,
            act,
            begun_at: state.time,
            server,
            client: number,
            told: if is_peek { 0 } else { client.told },
        };
        self.made += 1;
        state.say(format!(
            "request {} of client {number} to server {server}: {act:?}, marked: {is_marked}",
            self.made
        ));
        drop(state);
        let sessions = self.servers[server].clone();
        let check = Check::new(self, &arrival);
        let (world, request) = (self.world.clone(), self.made);
        let future = Box::pin(arrival.handle(sessions, broken, check, world, request));
        self.requests.insert(self.made, Request { client: number, future });
    }

    /// Loads a session again to confirm a server's copy, without a request.
    fn confirm(&mut self, server: usize, key: SessionKey) {
        let store = Intercepted::new(MemoryStore::default(), self.stores[server].clone());
        let world = self.world.clone();
        self.made += 1;
        let future = Box::pin(async move {
            let now = session_core::Clock::now(&*world.state().clock);
            let _ = store.load(&key, now).await;
            Response::nothing()
        });
        self.requests.insert(self.made, Request { client: NOBODY, future });
        self.poll();
    }

    fn poll(&mut self) {
        let numbers: Vec<_> = self.requests.keys().copied().collect();
        for number in numbers {
            let Some(request) = self.requests.get_mut(&number) else { continue };
            let mut context = Context::from_waker(Waker::noop());
            let Poll::Ready(response) = request.future.as_mut().poll(&mut context) else {
                continue;
            };
            let client = request.client;
            self.requests.remove(&number);
            if client == NOBODY {
                continue;
            }
            let mut state = self.world.state();
            if let Some(wrote) = response.wrote {
                self.clients[client].written.push((state.time, wrote));
            }
            let after = state.random.weighted(&[(6, 1), (3, 40), (1, 700)]);
            let time = state.time + after;
            state.schedule(time, Event::Response { request: number });
            drop(state);
            self.responses.insert(number, (client, response));
        }
    }

    /// Delivers a response.
    fn respond(&mut self, request: usize) {
        let (number, response) = self.responses.remove(&request).expect("it was sent");
        let mut state = self.world.state();
        let client = &mut self.clients[number];
        if response.marker > 0 {
            client.marked_until = state.time + response.marker;
        }
        match response.change {
            // A client that peeks has no cookie jar.
            _ if response.is_peek => {}
            CookieChange::Keep => {}
            CookieChange::Set { id, .. } => client.id = Some(id),
            CookieChange::Remove => client.id = None,
        }
        if let Some(wrote) = response.wrote {
            client.marked_count = wrote;
            client.told = client.told.max(wrote);
        }
        if response.is_over {
            client.id = None;
        }
        let (seen, wrote) = (response.seen, response.wrote);
        state.say(format!("the response to request {request}: read {seen:?}, wrote {wrote:?}"));
    }
}

/// The minimum state of the session that a request reads.
struct Check {
    floors: [(u64, &'static str); 3],
    lost_at: Option<u64>,
    heard_at: Option<u64>,
    ended_at: Option<u64>,
    begun_at: u64,
    latest: u64,
}

impl Check {
    fn new(history: &History, arrival: &Arrival) -> Self {
        let Arrival { begun_at, server, .. } = *arrival;
        let written = &history.clients[arrival.client].written;
        let by = |time: Option<u64>| {
            let counts = written.iter().filter(|(at, _)| time.is_some_and(|time| *at <= time));
            counts.map(|(_, count)| *count).max().unwrap_or_default()
        };
        let state = history.world.state();
        let place = &state.servers[server];
        let key = arrival.id.as_ref().map(SessionId::key);
        Self {
            floors: [
                (by(begun_at.checked_sub(STALENESS)), "older than the bound"),
                (arrival.told, "older than what the client was told"),
                (by(place.lost_at), "from before the loss of the connection"),
            ],
            lost_at: place.lost_at,
            heard_at: key.and_then(|key| place.heard.get(&key).copied()),
            ended_at: key.and_then(|key| state.ended.get(&key).copied()),
            begun_at,
            latest: by(Some(begun_at)),
        }
    }

    /// Returns the error in opening a session with this count, or `None` if the request may open it.
    fn fault(&self, count: u64) -> Option<String> {
        if let Some((least, what)) = self.floors.iter().find(|(least, _)| count < *least) {
            return Some(format!("read {count}, which is {what}: {least}"));
        }
        if self.heard_at.is_some() {
            return Some("opened a session whose end the server knew of".to_owned());
        }
        let ended_at = self.ended_at?;
        if ended_at + STALENESS < self.begun_at {
            return Some("opened a session that ended before the bound".to_owned());
        }
        self.lost_at
            .is_some_and(|lost_at| ended_at < lost_at)
            .then(|| "opened a session that ended before the loss of the connection".to_owned())
    }
}

impl Arrival {
    async fn handle(
        self,
        sessions: Sessions,
        broken: Option<NearBroken>,
        check: Check,
        world: World,
        request: usize,
    ) -> Response {
        let Ok(session) = self.open(&sessions, broken).await else { return Response::nothing() };
        let seen = session.owner().map(|_| session.get(COUNT).unwrap_or_default());
        if let Some(count) = seen {
            let mut state = world.state();
            state.say(format!("request {request} reads {count}"));
            if let Some(fault) = check.fault(count) {
                state.violation = Some(format!("request {request} {fault}"));
            }
            state.counters.stale += u64::from(count < check.latest);
        }
        let done = self.perform(&session, seen.is_some()).await;
        let finished = match done {
            Ok(()) => session.finish().await,
            Err(error) => Err(error),
        };
        let wrote = (finished.is_ok() && matches!(self.act, Act::Write))
            .then(|| session.get(COUNT))
            .flatten();
        let is_end = matches!(self.act, Act::LogOut | Act::EndAll) && seen.is_some();
        Response {
            seen,
            marker: session
                .read_your_writes()
                .map_or(0, |span| span.as_millis().try_into().unwrap_or(0)),
            wrote,
            is_over: is_end && finished.is_ok(),
            is_peek: matches!(self.act, Act::Peek),
            change: finished.unwrap_or_else(|_| session.pending_cookie()),
        }
    }

    async fn open(
        &self,
        sessions: &Sessions,
        broken: Option<NearBroken>,
    ) -> Result<Session, SessionError> {
        let ids = || self.id.iter().map(|id| id.expose().as_bytes());
        if broken == Some(NearBroken::MarkerWithRevision) && self.is_marked {
            let copy = sessions.try_open_local(ids(), || false);
            let is_new =
                |session: &Session| session.get(COUNT).unwrap_or_default() >= self.marked_count;
            if let Some(session) = copy.filter(is_new) {
                return Ok(session);
            }
        }
        if let Some(session) = sessions.try_open_local(ids(), || self.is_marked) {
            return Ok(session);
        }
        sessions.open(ids()).await
    }

    async fn perform(&self, session: &Session, is_open: bool) -> Result<(), SessionError> {
        if self.id.is_none() {
            session.authenticate(format!("client {}", self.client))?;
        } else if !is_open {
            // The session has ended, and this request begins no new one.
            return Ok(());
        }
        match self.act {
            Act::Peek | Act::Read => Ok(()),
            Act::Write => session.update(COUNT, |count| *count += 1).map(drop),
            Act::Renew => session.renew(),
            Act::LogOut => session.destroy(),
            Act::EndAll => {
                let owner = session.owner().expect("it is open");
                session.sessions().revoke_all(owner).await.map(drop)
            }
        }
    }
}

impl Response {
    fn nothing() -> Self {
        let change = CookieChange::Keep;
        Self { seen: None, change, marker: 0, wrote: None, is_over: false, is_peek: false }
    }
}

/// The client number of loads without a client.
const NOBODY: usize = usize::MAX;
