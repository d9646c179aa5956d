//! Plays one history; the seed of its plan alone determines the order of all steps.

mod calls;
mod mishaps;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, VecDeque},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use session_axum::MemoryStore;
use session_core::{
    Backend, CookieChange, ManualClock, SessionId, SessionLimit, Sessions, StoreError, Timestamp,
    testing::{Answer, Intercepted},
};

use crate::sim::{
    broken::Broken,
    counters::Counters,
    fate::Fate,
    flaw::Shop,
    ledger::{Call, Ledger, Rules, Violation},
    plan::{Cookies, Deed, Ending, LEASE_SPAN, Limit, Plan, RequestPlan},
    remote::Remote,
    request::Request,
    stores::Stores,
    wire::{Ids, World, made_up_id},
};

/// The result of a history.
#[derive(Debug)]
pub(in crate::sim) struct Outcome {
    pub(in crate::sim) counters: Counters,
    pub(in crate::sim) violation: Option<Violation>,
    /// The calls that failed: the number of the request, and the ordinal of the call.
    pub(in crate::sim) faults: Vec<(usize, u64)>,
    pub(in crate::sim) trace: Vec<String>,
}

/// The conditions under which a history is played.
#[derive(Clone, Debug)]
pub(in crate::sim) struct Stage {
    pub(in crate::sim) stores: Stores,
    pub(in crate::sim) broken: Option<Broken>,
    /// A session that was found expired stays expired, even if the clock jumps back.
    pub(in crate::sim) expiry_is_final: bool,
    pub(in crate::sim) traced: bool,
}

impl Stage {
    /// Plays a history to its end, or to the first violation.
    ///
    /// Waits only for the store.
    pub(in crate::sim) async fn play(&self, plan: &Plan) -> Result<Outcome, StoreError> {
        let mut history = History::new(self, self.stores.empty().await?, plan);
        history.run().await?;
        let History { world, servers, running, faults, .. } = history;
        drop((servers, running));
        let world = Arc::into_inner(world).expect("no request is left");
        let mut ledger = world.into_ledger();
        Ok(Outcome {
            counters: std::mem::take(&mut ledger.counters),
            violation: ledger.violation.take(),
            faults,
            trace: ledger.into_trace(),
        })
    }
}

struct History<'p> {
    plan: &'p Plan,
    world: Arc<World>,
    clock: Arc<ManualClock>,
    shop: Shop,
    servers: Vec<Sessions>,
    jars: Vec<Option<SessionId>>,
    /// Every ID that a response sent.
    told: Vec<SessionId>,
    /// The number of requests that each client has made.
    made: Vec<usize>,
    running: BTreeMap<usize, Running>,
    /// Requests that wait for others, in the order of arrival.
    waiting: VecDeque<usize>,
    calls: Vec<(Call, Option<Fate>, Option<Answer>)>,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    time: u64,
    scheduled: u64,
    faults: Vec<(usize, u64)>,
}

struct Running {
    client: usize,
    server: usize,
    ending: Ending,
    future: Pin<Box<dyn Future<Output = CookieChange>>>,
}

#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Event {
    Begin { client: usize },
    Apply { call: usize, again: bool },
    Answer { call: usize },
    Response { client: usize, number: usize },
    Gone { number: usize },
    ClockMove { at: usize },
    Crash { at: usize },
}

impl<'p> History<'p> {
    fn new(stage: &Stage, store: Arc<dyn Backend>, plan: &'p Plan) -> Self {
        let clock = Arc::new(ManualClock::new(START));
        let rules = Rules {
            lifetime: plan.lifetimes[0],
            grace: plan.grace,
            limit: plan.limit,
            keeps_ids: stage.broken == Some(Broken::KeepsIdsReadable),
            expiry_is_final: stage.expiry_is_final,
        };
        let ledger = Ledger::new(Arc::clone(&clock), rules, stage.traced);
        let world = Arc::new(World::new(
            plan.seed,
            Arc::clone(&clock),
            stage.broken,
            plan.splits_creations,
            ledger,
        ));
        let mut history = Self {
            plan,
            servers: (0..plan.servers).map(|_| restarted(plan, &world)).collect(),
            world,
            clock,
            shop: Shop::new(store, stage.broken),
            jars: vec![None; plan.browsers],
            told: Vec::new(),
            made: vec![0; plan.clients.len()],
            running: BTreeMap::new(),
            waiting: VecDeque::new(),
            calls: Vec::new(),
            events: BinaryHeap::new(),
            time: 0,
            scheduled: 0,
            faults: Vec::new(),
        };
        for client in 0..plan.clients.len() {
            history.begin_next(client, 0);
        }
        for (at, step) in plan.clock_moves.iter().enumerate() {
            history.schedule(step.at, Event::ClockMove { at });
        }
        for (at, crash) in plan.crashes.iter().enumerate() {
            history.schedule(crash.at, Event::Crash { at });
        }
        history
    }

    async fn run(&mut self) -> Result<(), StoreError> {
        self.drain().await?;
        // All late calls have arrived, so that the effect of each ID is certain, now and after every
        // deadline.
        for wait in [Duration::ZERO, self.plan.lifetimes[1].absolute()] {
            self.clock.advance(wait);
            self.world.ledger().clock_moved();
            for id in self.told.clone() {
                self.look_in(id);
                self.drain().await?;
            }
        }
        Ok(())
    }

    async fn drain(&mut self) -> Result<(), StoreError> {
        while let Some(Reverse((time, _, event))) = self.events.pop() {
            if self.world.ledger().violation.is_some() {
                self.events.clear();
                break;
            }
            self.time = time;
            self.world.ledger().next_step();
            match event {
                Event::Begin { client } => self.begin(client),
                Event::Apply { call, again } => self.apply(call, again).await?,
                Event::Answer { call } => self.answer(call),
                Event::Response { client, number } => self.respond(client, number),
                Event::Gone { number } => self.go_away(number),
                Event::ClockMove { at } => self.move_clock(at),
                Event::Crash { at } => self.crash(at),
            }
        }
        Ok(())
    }

    fn begin_next(&mut self, client: usize, after: u64) {
        let next = self.plan.clients[client].requests.get(self.made[client]);
        if let Some(next) = next {
            self.schedule(after + next.think, Event::Begin { client });
        }
    }

    fn begin(&mut self, client: usize) {
        let plan = &self.plan.clients[client];
        let request = &plan.requests[self.made[client]];
        self.made[client] += 1;
        let RequestPlan { number, server, ending, .. } = *request;
        let (junk, id) = self.cookies(plan.browser, request);
        self.world.ledger().say(|names| {
            let who = match plan.browser {
                Some(browser) => format!("browser {browser}"),
                None => "the attacker".to_owned(),
            };
            let what = match (&junk, &id) {
                (_, Some(id)) => format!("the cookie of {}", names.of(id.key())),
                (Some(_), None) => "a made-up cookie".to_owned(),
                (None, None) => "no cookie".to_owned(),
            };
            format!("request {number} of {who} comes to server {server} with {what}")
        });
        if let Ending::Gone(after) = ending {
            self.schedule(after, Event::Gone { number });
        }
        self.start(number, client, server, ending, (junk, id), request.deeds.clone());
    }

    /// Returns the cookies of a request: first a made-up ID, then an issued ID.
    fn cookies(
        &self,
        browser: Option<usize>,
        request: &RequestPlan,
    ) -> (Option<SessionId>, Option<SessionId>) {
        let jar = browser.and_then(|browser| self.jars[browser].clone());
        let junk = || Some(made_up_id(self.plan.seed, request.number));
        match request.cookies {
            Cookies::Jar => (None, jar),
            Cookies::JarBehindJunk => (junk(), jar),
            Cookies::Stolen(which) if !self.told.is_empty() => {
                let which = which % self.told.len() as u64;
                let which = usize::try_from(which).expect("it is below a length");
                (None, Some(self.told[which].clone()))
            }
            Cookies::MadeUp | Cookies::Stolen(_) => (junk(), None),
        }
    }

    fn start(
        &mut self,
        number: usize,
        client: usize,
        server: usize,
        ending: Ending,
        (junk, id): (Option<SessionId>, Option<SessionId>),
        deeds: Vec<Deed>,
    ) {
        let mut ledger = self.world.ledger();
        if let Some(junk) = &junk {
            ledger.make_up(junk);
        }
        ledger.begin(number, id.as_ref().map(SessionId::key));
        drop(ledger);
        self.world.presents(number, junk.clone());
        let request = Request {
            world: Arc::clone(&self.world),
            sessions: self.servers[server].clone(),
            number,
            cookies: junk.into_iter().chain(id).collect(),
            deeds,
            lifetimes: self.plan.lifetimes,
        };
        let running = Running { client, server, ending, future: Box::pin(request.handle()) };
        self.running.insert(number, running);
        self.poll(number);
    }

    /// Begins a request that only reads, after the end of all others.
    fn look_in(&mut self, id: SessionId) {
        let number = LOOKS + usize::try_from(self.scheduled).unwrap_or(usize::MAX - LOOKS);
        self.scheduled += 1;
        self.world.ledger().next_step();
        self.world.ledger().say(|names| {
            format!("request {number} looks in with the cookie of {}", names.of(id.key()))
        });
        self.start(number, NOBODY, 0, Ending::Lost, (None, Some(id)), Vec::new());
    }

    /// Polls a request, and then the requests that wait for it.
    fn poll(&mut self, number: usize) {
        self.poll_one(number);
        // The request may have released a lock that others of the same server wait for: first come,
        // first served.
        let mut at = 0;
        while at < self.waiting.len() {
            let number = self.waiting[at];
            self.waiting.remove(at);
            let waited = self.waiting.len();
            self.poll_one(number);
            if self.waiting.len() > waited {
                self.waiting.pop_back();
                self.waiting.insert(at, number);
                at += 1;
            } else {
                at = 0;
            }
        }
    }

    fn poll_one(&mut self, number: usize) {
        let Some(running) = self.running.get_mut(&number) else { return };
        self.world.enter(number);
        match running.future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(change) => {
                let Running { client, ending, .. } = self.running.remove(&number).expect("it ran");
                self.finished(number, client, ending, change);
            }
            Poll::Pending => {
                let sent = self.world.sent();
                if sent.is_empty() {
                    self.world.ledger().counters.waits += 1;
                    self.waiting.push_back(number);
                }
                for call in sent {
                    self.send(call);
                }
            }
        }
    }

    fn finished(&mut self, number: usize, client: usize, ending: Ending, change: CookieChange) {
        if client == NOBODY {
            return;
        }
        let after = match ending {
            Ending::Answered(after) => after,
            Ending::Lost | Ending::Gone(_) => {
                self.world.ledger().counters.responses_lost += 1;
                self.world.ledger().say(|_| format!("the response to request {number} is lost"));
                return self.begin_next(client, 10);
            }
        };
        self.world.set_response(number, change);
        self.schedule(after, Event::Response { client, number });
    }

    /// Delivers a response.
    fn respond(&mut self, client: usize, number: usize) {
        let change = self.world.take_response(number);
        let browser = self.plan.clients[client].browser;
        self.world.ledger().say(|_| format!("the response to request {number} arrives"));
        if let Some(browser) = browser {
            self.world.ledger().arrived(browser, number, &change);
        }
        let jar = browser.map(|browser| &mut self.jars[browser]);
        match change {
            CookieChange::Keep => {}
            CookieChange::Set { id, .. } => {
                if self.told.iter().all(|told| told.key() != id.key()) {
                    self.told.push(id.clone());
                }
                if let Some(jar) = jar {
                    *jar = Some(id);
                }
            }
            CookieChange::Remove => {
                if let Some(jar) = jar {
                    *jar = None;
                }
            }
        }
        self.begin_next(client, 0);
    }

    fn schedule(&mut self, after: u64, event: Event) {
        self.scheduled += 1;
        self.events.push(Reverse((self.time + after, self.scheduled, event)));
    }
}

fn restarted(plan: &Plan, world: &Arc<World>) -> Sessions {
    let remote = Intercepted::new(MemoryStore::default(), Remote(Arc::clone(world)));
    let sessions = Sessions::builder(remote)
        .with_lifetime(plan.lifetimes[0])
        .with_clock(Arc::clone(&world.clock))
        .with_id_generator(Ids(Arc::clone(world)))
        .with_renewal_grace(plan.grace)
        .with_lease(match world.broken {
            Some(Broken::LeaseNotChecked) => Sessions::MAX_LEASE,
            _ => LEASE_SPAN,
        });
    let sessions = match plan.limit {
        Some(Limit { max, at_limit }) => {
            let limit = SessionLimit::new(max, at_limit).expect("the limit is small");
            sessions.with_session_limit(limit)
        }
        None => sessions,
    };
    sessions.build().expect("the rules are valid")
}

/// The time at the start of each history.
const START: Timestamp = Timestamp::from_millis(1_700_000_000_000);

/// The number of the first request that only reads at the end.
const LOOKS: usize = 10_000;

/// The client of requests outside the plan.
const NOBODY: usize = usize::MAX;
