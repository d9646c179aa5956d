//! The metrics that a test records, and the pages that list them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Mutex,
};

use metrics::{LocalRecorderGuard, Unit};
use metrics_util::{
    MetricKind,
    debugging::{DebugValue, DebuggingRecorder, Snapshotter},
};

/// A row of a page's table: type, unit and label names.
pub(crate) type Row = (&'static str, &'static str, BTreeSet<String>);

/// The values that a recorder has received.
pub(crate) struct Metrics {
    snapshotter: Snapshotter,
    seen: Mutex<Seen>,
}

#[derive(Default)]
pub(crate) struct Seen {
    /// The total of each series, by name and labels. For a histogram, the number of values.
    pub(crate) totals: BTreeMap<(String, BTreeMap<String, String>), f64>,
    pub(crate) rows: BTreeMap<String, Row>,
    /// The largest value in a histogram.
    pub(crate) longest: f64,
}

impl Metrics {
    /// Records the metrics of this thread until the guard is dropped.
    pub(crate) fn listen() -> (Self, LocalRecorderGuard<'static>) {
        let recorder = Box::leak(Box::new(DebuggingRecorder::new()));
        let snapshotter = recorder.snapshotter();
        let guard = metrics::set_default_local_recorder(recorder);
        (Self { snapshotter, seen: Mutex::default() }, guard)
    }

    /// Adds the values since the last call, because a snapshot empties the recorder.
    pub(crate) fn look<R>(&self, read: impl FnOnce(&Seen) -> R) -> R {
        let mut seen = self.seen.lock().unwrap();
        for (key, unit, description, value) in self.snapshotter.snapshot().into_vec() {
            assert!(description.is_some_and(|text| !text.is_empty()), "{key:?}");
            let kind = match key.kind() {
                MetricKind::Counter => "counter",
                MetricKind::Gauge => "gauge",
                MetricKind::Histogram => "histogram",
            };
            let unit = match unit {
                Some(Unit::Seconds) => "seconds",
                Some(Unit::Count) => "count",
                other => panic!("{key:?}: {other:?}"),
            };
            let added = match value {
                DebugValue::Counter(count) => count as f64,
                DebugValue::Gauge(change) => change.0,
                DebugValue::Histogram(values) => {
                    assert!(values.iter().all(|value| value.0 > 0.0), "{key:?}");
                    let longest = values.iter().map(|value| value.0).fold(seen.longest, f64::max);
                    seen.longest = longest;
                    values.len() as f64
                }
            };
            let (name, labels) = key.key().clone().into_parts();
            let labels: BTreeMap<_, _> = labels
                .iter()
                .map(|label| (label.key().to_owned(), label.value().to_owned()))
                .collect();
            let name = name.as_str().to_owned();
            let row = seen.rows.entry(name.clone()).or_insert((kind, unit, BTreeSet::new()));
            assert_eq!((row.0, row.1), (kind, unit), "{name}");
            row.2.extend(labels.keys().cloned());
            *seen.totals.entry((name, labels)).or_default() += added;
        }
        read(&seen)
    }

    /// Returns the sum over all series with at least these labels.
    pub(crate) fn of(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.look(|seen| {
            let has = |of: &BTreeMap<String, String>| {
                labels.iter().all(|(label, value)| of.get(*label).is_some_and(|is| is == value))
            };
            let matching = seen.totals.iter().filter(|((of, is), _)| of == name && has(is));
            matching.map(|(_, total)| total).sum()
        })
    }
}

/// Returns the rows of a page's first table of metrics, in which `server` stands for three labels.
pub(crate) fn documented(page: &'static str) -> BTreeMap<String, Row> {
    let (_, section) = page.split_once("\n# Metrics\n").unwrap();
    let mut rows = BTreeMap::new();
    for line in section.lines().skip_while(|line| !line.starts_with("| metric | type")).skip(2) {
        if !line.starts_with('|') {
            break;
        }
        let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [name, kind, unit, labels] = cells[..] else { panic!("{line}") };
        let labels = labels.split(", ").filter(|label| !label.is_empty());
        let labels = labels.flat_map(|label| match label {
            "server" => vec!["db.system.name", "server.address", "server.port"],
            label => vec![label.trim_matches('`')],
        });
        let labels = labels.map(str::to_owned).collect();
        rows.insert(name.trim_matches('`').to_owned(), (kind, unit, labels));
    }
    rows
}
