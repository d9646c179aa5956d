use std::{collections::BTreeSet, time::Duration};

use session_core::{AtLimit, Lifetime};

/// All actions of one history, generated from the seed before the history begins.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) seed: u64,
    pub(super) servers: usize,
    pub(super) browsers: usize,
    /// The first is the lifetime of new sessions.
    pub(super) lifetimes: [Lifetime; 3],
    pub(super) grace: Duration,
    /// The maximum number of concurrent sessions per owner, if there is a limit.
    pub(super) limit: Option<Limit>,
    pub(super) clients: Vec<ClientPlan>,
    pub(super) clock_moves: Vec<ClockMove>,
    pub(super) crashes: Vec<Crash>,
    /// An entry in the index and the following creation travel as two commands.
    pub(super) splits_creations: bool,
    /// The percentage of store calls that fail.
    pub(super) fault_percent: u64,
    /// Calls that succeed regardless of the drawn fate: the number of the request, and the ordinal of the
    /// call.
    pub(super) spared: BTreeSet<(usize, u64)>,
}

/// The session limit, which is the same on all servers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limit {
    pub(super) max: usize,
    pub(super) at_limit: AtLimit,
}

/// A tab of a browser, or a client without a browser.
#[derive(Clone, Debug)]
pub(super) struct ClientPlan {
    /// The browser whose cookies the client has; an attacker has none.
    pub(super) browser: Option<usize>,
    pub(super) requests: Vec<RequestPlan>,
}

#[derive(Clone, Debug)]
pub(super) struct RequestPlan {
    pub(super) number: usize,
    pub(super) server: usize,
    /// The delay after the previous request.
    pub(super) think: u64,
    pub(super) cookies: Cookies,
    pub(super) deeds: Vec<Deed>,
    pub(super) ending: Ending,
    /// No call of the request fails.
    pub(super) calm: bool,
}

/// The cookies of a request.
#[derive(Clone, Copy, Debug)]
pub(super) enum Cookies {
    /// The cookie of the browser.
    Jar,
    /// The cookie of the browser, after a made-up one.
    JarBehindJunk,
    /// A made-up cookie.
    MadeUp,
    /// A cookie that a server sent to any client, chosen by this number.
    Stolen(u64),
}

/// An action of a handler.
#[derive(Clone, Copy, Debug)]
pub(super) enum Deed {
    Set(usize),
    Increment(usize),
    Remove(usize),
    Take(usize),
    Clear,
    Authenticate(u8),
    /// Signs a user in, with a link.
    LinkedLogin(u8, u8),
    /// Links the session to a name of its own.
    Link,
    /// Acts as a user, for one of three times.
    ActAs(u8, usize),
    StopActing,
    Rotate,
    Renew,
    Destroy,
    SetLifetime(usize),
    Commit,
    /// Acquires the session's lock for the deeds up to the next `Unlock`, unless another request holds
    /// the lock.
    Lock,
    /// Ends the work under the lock.
    Unlock,
    Discard,
    List(u8),
    EndAll(u8),
    ListLinked(LinkName),
    EndLinked(LinkName),
    EndOthers,
    /// Revokes the session with this number among all, if it belongs to the present owner.
    EndOne(u64),
}

/// The value of a link.
#[derive(Clone, Copy, Debug)]
pub(super) enum LinkName {
    /// Shared by logins.
    Shared(u8),
    /// The name that one deed gave to its session.
    Own(usize),
    /// The own name with this number among all, or else a shared one.
    Any(u64),
}

/// The fate of a request and its response.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ending {
    /// The response arrives after this delay.
    Answered(u64),
    /// The response never arrives.
    Lost,
    /// The client disconnects this long after its request, and the server drops the request.
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

/// The time after which a lock expires that was not released.
pub(super) const LEASE_SPAN: Duration = Duration::from_secs(10);

/// The names of the values, by slot.
pub(super) const NAMES: [&str; 8] =
    ["count", "shared", "own-0", "own-1", "own-2", "own-3", "own-4", "own-5"];

/// The number of slots that all clients write to; each of the others belongs to one client.
pub(super) const SHARED_SLOTS: usize = 2;

impl Plan {
    /// Returns every plan that results from the removal of one element.
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
