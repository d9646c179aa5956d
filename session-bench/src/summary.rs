//! The panels of the picture of a comparison.

use crate::{
    candidate::{FLOOR, Keeps, NO_SESSIONS},
    comparison::Comparison,
    failures::Failures,
    picture::{Bar, Group, Panel},
    route::Route,
};

/// Returns the panels of requests per second: in memory relative to the server without sessions, in
/// Redis relative to the floor.
pub(crate) fn panels(comparison: &Comparison<'_>, failures: &[Failures]) -> [Panel; 2] {
    let in_memory = [
        (Route::Untouched, Route::Untouched),
        (Route::Read, Route::Read),
        (Route::Write, Route::Read),
        (Route::Login, Route::Read),
    ];
    let in_redis =
        [(Route::Read, Route::Read), (Route::Write, Route::Write), (Route::Login, Route::Login)];
    let groups = |keeps, whole, routes: &[(Route, Route)]| {
        let groups = routes.iter().map(|&(route, of)| Group {
            title: route.to_string(),
            bars: bars(comparison, failures, keeps, route, (whole, of)),
        });
        groups.filter(|group| !group.bars.is_empty()).collect()
    };
    [
        Panel {
            title: "Sessions in memory: requests per second",
            whole: "the same server without sessions",
            groups: groups(Keeps::InMemory, NO_SESSIONS, &in_memory),
        },
        Panel {
            title: "Sessions in Redis: requests per second",
            whole: "the least commands, without any sessions",
            groups: groups(Keeps::InRedis, FLOOR, &in_redis),
        },
    ]
}

fn bars(
    comparison: &Comparison<'_>,
    failures: &[Failures],
    keeps: Keeps,
    route: Route,
    whole: (&str, Route),
) -> Vec<Bar> {
    let cases = comparison.cases.iter().filter(|case| {
        let candidate = comparison.server(case).candidate;
        case.measured.route == route && candidate.keeps == keeps && candidate.name != whole.0
    });
    let bars = cases.filter_map(|case| {
        let candidate = comparison.server(case).candidate;
        let failures = failures.iter().find(|failures| failures.candidate.name == candidate.name);
        Some(Bar {
            label: candidate.title,
            is_ours: candidate.is_ours(),
            share: comparison.share(case, whole.0, whole.1)?,
            note: failures.and_then(|failures| note(failures, route)),
        })
    });
    bars.collect()
}

fn note(failures: &Failures, route: Route) -> Option<String> {
    match route {
        Route::Read => {
            let reads = failures.reads.filter(|reads| reads.stale_at_once > 0)?;
            Some(format!("{} of {} stale", reads.stale_at_once, reads.sessions))
        }
        Route::Write => {
            let (lost, acknowledged) = (failures.updates.lost(), failures.updates.acknowledged);
            (lost > 0).then(|| format!("{lost} of {acknowledged} lost"))
        }
        Route::Untouched | Route::Login => None,
    }
}
