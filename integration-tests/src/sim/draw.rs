//! Plans, generated from a seed.

use std::{collections::BTreeSet, time::Duration};

use session_core::{AtLimit, Lifetime, Sessions};

use super::plan::{
    ClientPlan, ClockMove, Cookies, Crash, Deed, Ending, LEASE_SPAN, Limit, LinkName, Plan,
    RequestPlan, SHARED_SLOTS,
};
use crate::random::{Part, Random};

/// The resolution of clock moves.
#[derive(Clone, Copy, Debug)]
pub(super) enum Grain {
    /// Milliseconds.
    Fine,
    /// Whole minutes, with deadlines on whole minutes. A live session then stays alive for at least a
    /// minute. A history takes less time, also on a store that expires entries by its own clock.
    Coarse,
}

impl Plan {
    pub(super) fn draw(seed: u64, grain: Grain) -> Self {
        let mut random = Random::of(seed, Part::Plan, 0);
        let browsers = random.weighted(&[(3, 1), (2, 2)]);
        let tabs = browsers + random.index(5 - browsers);
        let attackers = random.index(2).max(2_usize.saturating_sub(tabs));
        let servers = 1 + random.index(3);
        let (lifetimes, grace) = lifetimes(&mut random, grain);
        let mut for_limit = Random::of(seed, Part::Limit, 0);
        let limit = limit(&mut for_limit);
        let warm = random.percent(85);
        let mut clients: Vec<_> = (0..tabs + attackers)
            .map(|number| {
                let browser = (number < tabs).then_some(number % browsers);
                let first = warm && number < browsers;
                client(seed, number, browser, servers, first, warm, limit.is_some())
            })
            .collect();
        number_requests(&mut clients);
        let ends_at = random.between(60, 400);
        let mut clock_moves: Vec<_> =
            (0..random.weighted(&[(3, 0), (2, 1), (2, 2), (2, 3), (1, 5)]))
                .map(|_| ClockMove {
                    at: random.between(if warm { WARM_UP } else { 1 }, ends_at),
                    by_ms: clock_move(&mut random, &lifetimes[0], grace, grain),
                })
                .collect();
        if limit.is_some() {
            // The choice of the evicted session depends on the times at which each session began and was
            // used.
            clock_moves.extend((0..for_limit.between(2, 6)).map(|_| ClockMove {
                at: for_limit.between(1, ends_at.min(200)),
                by_ms: match grain {
                    Grain::Fine => 1,
                    Grain::Coarse => 60_000,
                },
            }));
        }
        let crashes = (0..random.weighted(&[(7, 0), (2, 1), (1, 2)]))
            .map(|_| Crash { at: random.between(1, ends_at), server: random.index(servers) })
            .collect();
        Self {
            seed,
            servers,
            browsers,
            lifetimes,
            grace,
            limit,
            clients,
            clock_moves,
            crashes,
            splits_creations: random.percent(50),
            fault_percent: random.pick(&[0, 4, 10, 25]),
            spared: BTreeSet::new(),
        }
    }
}

fn limit(random: &mut Random) -> Option<Limit> {
    let policies = [AtLimit::Reject, AtLimit::EvictOldest, AtLimit::EvictLeastRecent];
    let limit =
        Limit { max: random.weighted(&[(4, 1), (4, 2), (1, 3)]), at_limit: random.pick(&policies) };
    random.percent(35).then_some(limit)
}

fn lifetimes(random: &mut Random, grain: Grain) -> ([Lifetime; 3], Duration) {
    let minute = Duration::from_secs(60);
    let (idle, grace) = match grain {
        Grain::Fine => (random.pick(&[10, 60]) * minute, Duration::from_secs(30)),
        Grain::Coarse => (10 * minute, 2 * minute),
    };
    let absolute = random.pick(&[2, 4]) * idle;
    let renew_after = random.pick(&[None, None, Some(idle * 2 / 5)]);
    let lifetime = |idle, absolute| {
        let lifetime = Lifetime::new(idle, absolute).expect("the spans are in order");
        match renew_after {
            Some(age) => lifetime.with_renew_after(age).expect("the age is not zero"),
            None => lifetime,
        }
    };
    let short = lifetime(idle / 2, absolute / 2);
    ([lifetime(idle, absolute), lifetime(idle * 2, absolute * 2), short], grace)
}

/// Clients number their requests independently; this function makes the numbers continuous over all
/// clients.
fn number_requests(clients: &mut [ClientPlan]) {
    let requests = clients.iter_mut().flat_map(|client| &mut client.requests);
    for (number, request) in requests.enumerate() {
        request.number = number;
    }
}

fn client(
    seed: u64,
    number: usize,
    browser: Option<usize>,
    servers: usize,
    first: bool,
    warm: bool,
    limited: bool,
) -> ClientPlan {
    let mut random = Random::of(seed, Part::Client, number as u64);
    let mut requests = Vec::new();
    if first {
        requests.push(RequestPlan {
            number: 0,
            server: random.index(servers),
            think: 0,
            cookies: Cookies::Jar,
            deeds: vec![Deed::Increment(0), Deed::Set(SHARED_SLOTS + number)],
            ending: Ending::Answered(1),
            calm: true,
        });
        if random.percent(50) {
            requests[0].deeds.push(random.pick(&[Deed::Authenticate(0), Deed::LinkedLogin(0, 0)]));
            if random.percent(20) {
                requests[0].deeds.push(Deed::ActAs(1, 0));
            }
        }
    }
    for at in 0..random.between(1, 4) {
        let think = match at {
            0 if warm && !first => WARM_UP + random.below(20),
            0 if warm => 30 + random.below(20),
            _ => random.below(30),
        };
        requests.push(RequestPlan {
            number: 0,
            server: random.index(servers),
            think,
            cookies: cookies(&mut random, browser, limited),
            deeds: deeds(&mut random, SHARED_SLOTS + number),
            ending: ending(&mut random),
            calm: false,
        });
    }
    ClientPlan { browser, requests }
}

fn cookies(random: &mut Random, browser: Option<usize>, limited: bool) -> Cookies {
    let which = random.next();
    match browser {
        // A client without a session may sign in to an additional one.
        Some(_) if limited => random.weighted(&[
            (65, Cookies::Jar),
            (4, Cookies::JarBehindJunk),
            (25, Cookies::MadeUp),
            (6, Cookies::Stolen(which)),
        ]),
        Some(_) => random.weighted(&[
            (88, Cookies::Jar),
            (4, Cookies::JarBehindJunk),
            (2, Cookies::MadeUp),
            (6, Cookies::Stolen(which)),
        ]),
        None => random.weighted(&[(30, Cookies::MadeUp), (70, Cookies::Stolen(which))]),
    }
}

fn deeds(random: &mut Random, own: usize) -> Vec<Deed> {
    let shared = random.index(SHARED_SLOTS);
    let owner = random.weighted(&[(4, 0), (1, 1)]);
    let lifetime = random.index(3);
    let link = random.weighted(&[(3, 0), (1, 1)]);
    let which = random.next();
    let name = random.pick(&[LinkName::Shared(link), LinkName::Any(which)]);
    let user = random.weighted(&[(1, 0), (4, 1)]);
    let time = random.weighted(&[(6, 0), (3, 1), (1, 2)]);
    let mut deeds = Vec::new();
    for _ in 0..random.weighted(&[(2, 0), (3, 1), (3, 2), (2, 3), (1, 5)]) {
        let deed = random.weighted(&[
            (18, Deed::Set(own)),
            (7, Deed::Set(shared)),
            (20, Deed::Increment(0)),
            (4, Deed::Increment(own)),
            (4, Deed::Remove(own)),
            (3, Deed::Remove(shared)),
            (3, Deed::Take(shared)),
            (2, Deed::Clear),
            (8, Deed::Authenticate(owner)),
            (4, Deed::LinkedLogin(owner, link)),
            (3, Deed::Link),
            (4, Deed::ActAs(user, time)),
            (6, Deed::StopActing),
            (9, Deed::Renew),
            (3, Deed::Rotate),
            (6, Deed::Destroy),
            (4, Deed::SetLifetime(lifetime)),
            (10, Deed::Commit),
            (16, Deed::Lock),
            (3, Deed::Unlock),
            (2, Deed::Discard),
            (4, Deed::List(owner)),
            (3, Deed::EndAll(owner)),
            (2, Deed::ListLinked(name)),
            (3, Deed::EndLinked(name)),
            (3, Deed::EndOthers),
            (3, Deed::EndOne(which)),
        ]);
        deeds.push(deed);
        if let Deed::StopActing = deed
            && random.percent(30)
        {
            deeds.push(Deed::ActAs(user, time));
        }
    }
    deeds
}

fn ending(random: &mut Random) -> Ending {
    let (soon, late, gone) = (random.between(1, 10), random.between(10, 80), random.between(1, 60));
    random.weighted(&[
        (72, Ending::Answered(soon)),
        (12, Ending::Answered(late)),
        (8, Ending::Lost),
        (8, Ending::Gone(gone)),
    ])
}

fn clock_move(random: &mut Random, lifetime: &Lifetime, grace: Duration, grain: Grain) -> i64 {
    let millis = |span: Duration| i64::try_from(span.as_millis()).expect("spans are short");
    let (idle, absolute, grace) =
        (millis(lifetime.idle()), millis(lifetime.absolute()), millis(grace));
    let window = millis(Sessions::ROTATION_WINDOW);
    match grain {
        Grain::Fine => random.weighted(&[
            (4, 1),
            (4, grace - 1),
            (4, grace),
            (2, 5_001),
            (4, millis(LEASE_SPAN)),
            (3, idle / 10 - 1),
            (6, idle / 10),
            (4, idle * 2 / 5),
            (3, idle / 2),
            (2, idle - 1),
            (3, idle),
            (2, window),
            (2, absolute),
            (2, -1),
            (2, -1_000),
            (2, -20_000),
        ]),
        Grain::Coarse => random.weighted(&[
            (8, 60_000),
            (4, grace),
            (4, idle * 2 / 5),
            (4, window),
            (3, idle),
            (2, absolute),
            (3, -60_000),
        ]),
    }
}

/// When the requests after each browser's first one begin.
const WARM_UP: u64 = 60;
