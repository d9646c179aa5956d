use std::{collections::BTreeSet, time::Duration};

use session_core::{AtLimit, Lifetime};

/// Who does what in one history. Made from the seed, before anything runs.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) seed: u64,
    pub(super) servers: usize,
    pub(super) browsers: usize,
    /// The first is that of new sessions.
    pub(super) lifetimes: [Lifetime; 3],
    pub(super) grace: Duration,
    /// How many sessions an owner may have at once, if there is a limit.
    pub(super) limit: Option<Limit>,
    pub(super) clients: Vec<ClientPlan>,
    pub(super) clock_moves: Vec<ClockMove>,
    pub(super) crashes: Vec<Crash>,
    /// An entry in the index and the creation after it travel as two commands.
    pub(super) splits_creations: bool,
    /// How many of a hundred calls of the store go wrong.
    pub(super) fault_percent: u64,
    /// Calls that go well whatever was drawn for them: a request's number, and which of its calls.
    pub(super) spared: BTreeSet<(usize, u64)>,
}

/// The same on all servers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limit {
    pub(super) max: usize,
    pub(super) at_limit: AtLimit,
}

/// A tab of a browser, or somebody without one.
#[derive(Clone, Debug)]
pub(super) struct ClientPlan {
    /// Whose cookies the client has; an attacker has none.
    pub(super) browser: Option<usize>,
    pub(super) requests: Vec<RequestPlan>,
}

#[derive(Clone, Debug)]
pub(super) struct RequestPlan {
    pub(super) number: usize,
    pub(super) server: usize,
    /// How long after the request before it.
    pub(super) think: u64,
    pub(super) cookies: Cookies,
    pub(super) deeds: Vec<Deed>,
    pub(super) ending: Ending,
    /// Nothing goes wrong.
    pub(super) calm: bool,
}

/// What a request presents.
#[derive(Clone, Copy, Debug)]
pub(super) enum Cookies {
    /// What the browser holds.
    Jar,
    /// That, behind one that nobody issued.
    JarBehindJunk,
    /// One that nobody issued.
    MadeUp,
    /// One that somebody was told, chosen by this number.
    Stolen(u64),
}

/// What a handler does.
#[derive(Clone, Copy, Debug)]
pub(super) enum Deed {
    Set(usize),
    Increment(usize),
    Remove(usize),
    Take(usize),
    Clear,
    Authenticate(u8),
    Rotate,
    Renew,
    Destroy,
    SetLifetime(usize),
    Commit,
    /// Takes the session's lock for the deeds up to the next `Unlock`, if no other request has it.
    Lock,
    /// Ends the work under the lock.
    Unlock,
    Discard,
    List(u8),
    EndAll(u8),
    EndOthers,
    /// Ends the session of the present owner whose key has this number among all.
    EndOne(u64),
}

/// What becomes of a request and its response.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ending {
    /// The response arrives so much later.
    Answered(u64),
    /// The response never arrives.
    Lost,
    /// The client goes away so long after it asked, and the server drops the request.
    Gone(u64),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct ClockMove {
    pub(super) at: u64,
    pub(super) by_ms: i64,
}

/// A server stops, and starts again as another process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Crash {
    pub(super) at: u64,
    pub(super) server: usize,
}

/// How long a lock is held that is not released.
pub(super) const LEASE_SPAN: Duration = Duration::from_secs(10);

/// The names of the values, by slot.
pub(super) const NAMES: [&str; 8] =
    ["count", "shared", "own-0", "own-1", "own-2", "own-3", "own-4", "own-5"];

/// The slots that all clients write to; the others are one client's own.
pub(super) const SHARED_SLOTS: usize = 2;

impl Plan {
    /// Every plan that has one thing less.
    pub(super) fn reductions(&self, faults: &[(usize, u64)]) -> Vec<Self> {
        let mut all = Vec::new();
        let mut add = |change: &dyn Fn(&mut Self)| {
            let mut plan = self.clone();
            change(&mut plan);
            all.push(plan);
        };
        for at in 0..self.clients.len() {
            if !self.clients[at].requests.is_empty() {
                add(&|plan| plan.clients[at].requests.clear());
            }
        }
        if self.limit.is_some() {
            add(&|plan| plan.limit = None);
        }
        for at in 0..self.crashes.len() {
            add(&|plan| {
                let _ = plan.crashes.remove(at);
            });
        }
        for at in 0..self.clock_moves.len() {
            add(&|plan| {
                let _ = plan.clock_moves.remove(at);
            });
        }
        for &fault in faults.iter().filter(|fault| !self.spared.contains(fault)) {
            add(&|plan| {
                let _ = plan.spared.insert(fault);
            });
        }
        for (client, requests) in self.clients.iter().map(|client| &client.requests).enumerate() {
            for (at, request) in requests.iter().enumerate() {
                add(&|plan| {
                    let _ = plan.clients[client].requests.remove(at);
                });
                for deed in 0..request.deeds.len() {
                    add(&|plan| {
                        let _ = plan.clients[client].requests[at].deeds.remove(deed);
                    });
                }
                if !matches!(request.ending, Ending::Answered(_)) {
                    add(&|plan| {
                        plan.clients[client].requests[at].ending = Ending::Answered(1);
                    });
                }
                if matches!(request.cookies, Cookies::JarBehindJunk) {
                    add(&|plan| plan.clients[client].requests[at].cookies = Cookies::Jar);
                }
            }
        }
        all
    }
}
