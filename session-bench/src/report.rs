use std::{fmt::Write as _, time::Duration};

use session_bench::Table;

use crate::{
    candidate::TOWER_SESSIONS,
    comparison::{Comparison, Server},
    cores::Cores,
    failures::{Failures, Reads},
    footprint::Footprint,
    in_process::InProcess,
    sample::{Sample, median},
};

/// Returns the table of the speed of all measured routes.
pub(crate) fn speed(comparison: &Comparison<'_>) -> Table {
    let mut table = Table::new(
        2,
        &[
            "server",
            "route",
            "requests/s",
            "p50",
            "p99",
            "server CPU",
            "Redis CPU",
            "Redis commands",
        ],
    );
    for case in &comparison.cases {
        let number = |of: fn(&Sample) -> f64| median(case.samples.iter().map(of));
        let micros = |micros: f64| format!("{micros:.0} µs");
        let cpu = |of: fn(&Sample) -> Option<Duration>| {
            let spans = case.samples.iter().filter_map(of);
            median(spans.map(micros_of)).map(|micros| format!("{micros:.1} µs"))
        };
        table.row([
            Some(comparison.server(case).candidate.name.to_owned()),
            Some(case.measured.route.to_string()),
            number(|sample| sample.per_second).map(|number| format!("{number:.0}")),
            number(|sample| micros_of(sample.p50)).map(micros),
            number(|sample| micros_of(sample.p99)).map(micros),
            cpu(|sample| sample.server_cpu),
            cpu(|sample| sample.redis_cpu),
            case.commands.map(|commands| format!("{commands:.2}")),
        ]);
    }
    table
}

/// Returns the table of the shares: the requests per second of a route, relative to each route with
/// which it is compared.
pub(crate) fn shares(comparison: &Comparison<'_>) -> Table {
    let mut table = Table::new(2, &["server", "route", "share", "quartiles", "of", "target"]);
    for case in &comparison.cases {
        for against in case.measured.against {
            let Some([lower, share, upper]) =
                comparison.share(case, against.candidate, against.route)
            else {
                continue;
            };
            table.row([
                Some(comparison.server(case).candidate.name.to_owned()),
                Some(case.measured.route.to_string()),
                Some(format!("{share:.3}")),
                Some(format!("{lower:.3}–{upper:.3}")),
                Some(format!("{} {}", against.candidate, against.route)),
                against.at_least.map(|target| at_least(share, target)),
            ]);
        }
    }
    table
}

/// Returns a line with the least share of time in which a server kept the cores busy. In the rest of
/// the time, something else limited the throughput.
pub(crate) fn least_busy(comparison: &Comparison<'_>, cores: &Cores) -> String {
    let busy = comparison.cases.iter().filter_map(|case| {
        let shares = case.samples.iter().filter_map(|sample| {
            Some(sample.per_second * sample.server_cpu?.as_secs_f64() / cores.count() as f64)
        });
        let server = comparison.server(case).candidate.name;
        Some((median(shares)?, server, case.measured.route))
    });
    busy.min_by(|(one, ..), (other, ..)| one.total_cmp(other)).map_or_else(String::new, |least| {
        let (share, server, route) = least;
        format!(
            "the servers' cores were busy with them for {:.0} % of the time at least ({server} {route})\n",
            share * 100.0
        )
    })
}

/// Returns the table of the memory per session.
pub(crate) fn footprints(footprints: &[Footprint]) -> Table {
    let mut table = Table::new(
        1,
        &[
            "server",
            "in Redis, bytes per session",
            "by MEMORY USAGE",
            "keys",
            "of tower-sessions",
            "target",
            "in the process, per 100,000 sessions",
        ],
    );
    let theirs = footprints
        .iter()
        .find(|footprint| footprint.candidate.name == TOWER_SESSIONS)
        .and_then(|footprint| footprint.in_redis.as_ref());
    for Footprint { candidate, in_process, in_redis } in footprints {
        let in_redis = in_redis.as_ref();
        let share = in_redis.zip(theirs).map(|(ours, theirs)| ours.used / theirs.used);
        table.row([
            Some(candidate.name.to_owned()),
            in_redis.map(|redis| format!("{:.0}", redis.used)),
            in_redis.map(|redis| format!("{:.0}", redis.by_key)),
            in_redis.map(|redis| format!("{:.2}", redis.keys)),
            share.map(|share| format!("{share:.2}")),
            in_redis.zip(share).filter(|_| candidate.is_ours()).map(|(redis, share)| {
                let verdict = verdict(redis.used <= BYTES && share <= TIMES_THEIRS);
                format!("{BYTES:.0} and {TIMES_THEIRS:.2} {verdict}")
            }),
            in_process.map(|bytes| format!("{:.1} MB", bytes * 100_000.0 / 1e6)),
        ]);
    }
    table
}

/// Returns the table of lost changes and stale reads.
pub(crate) fn failures(failures: &[Failures]) -> Table {
    let mut table = Table::new(
        1,
        &[
            "server",
            "concurrent changes",
            "refused",
            "lost",
            "sessions read elsewhere",
            "stale immediately",
            "stale a second later",
        ],
    );
    for Failures { candidate, updates, reads } in failures {
        let changes = updates.acknowledged + updates.refused;
        let of_reads = |of: fn(&Reads) -> u64| reads.as_ref().map(of).map(|n| n.to_string());
        table.row([
            Some(candidate.name.to_owned()),
            Some(changes.to_string()),
            Some(updates.refused.to_string()),
            Some(updates.lost().to_string()),
            of_reads(|reads| reads.sessions),
            of_reads(|reads| reads.stale_at_once),
            of_reads(|reads| reads.stale_later),
        ]);
    }
    table
}

/// Returns a line with the time of a request through our core and memory store, without HTTP.
pub(crate) fn in_process(requests: &InProcess) -> String {
    let InProcess { alone, together } = requests;
    format!(
        "open, read and close in memory, without HTTP: {:.0} ns on one thread (target {ALONE_NS:.0} {}); \
         8 tasks on all cores do {together:.2} times as many (target {TOGETHER:.1} {})\n",
        alone * 1e9,
        verdict(alone * 1e9 <= ALONE_NS),
        verdict(*together >= TOGETHER),
    )
}

/// Returns a line per server with the number of acknowledged writes that the sessions hold at the end.
pub(crate) fn lost_writes(comparison: &Comparison<'_>) -> String {
    let mut text = String::new();
    for Server { candidate, writes, .. } in &comparison.servers {
        let (name, acknowledged) = (candidate.name, writes.acknowledged);
        if let Some(found) = writes.found {
            let _ = writeln!(text, "{name}: {found} of {acknowledged} acknowledged writes found");
        }
    }
    text
}

fn at_least(number: f64, target: f64) -> String {
    format!("{target:.2} {}", verdict(number >= target))
}

fn verdict(is_met: bool) -> &'static str {
    if is_met { "met" } else { "missed" }
}

fn micros_of(span: Duration) -> f64 {
    span.as_secs_f64() * 1e6
}

/// The targets for the memory of our sessions in Redis: the most bytes, and the most relative to
/// tower-sessions.
const BYTES: f64 = 280.0;
const TIMES_THEIRS: f64 = 1.35;
/// The targets for requests in the process: the longest time of a request, and the least speed-up by
/// all cores.
const ALONE_NS: f64 = 1_000.0;
const TOGETHER: f64 = 1.8;
