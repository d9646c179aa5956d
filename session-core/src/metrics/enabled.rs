use std::{collections::BTreeMap, time::Instant};

use metrics::{
    Counter, Histogram, Label, Unit, counter, describe_counter, describe_histogram, histogram,
};

use super::{OpenResult, Operation};
use crate::{SessionError, StoreError, StoreErrorKind};

/// The metrics of the sessions of an application.
pub(crate) struct Metrics {
    opens: [Counter; OPEN_RESULTS.len()],
    /// The durations of successful operations. Series of failures are registered when one occurs.
    durations: [Histogram; OPERATIONS.len()],
    conflicts: Counter,
    unreadable_values: Counter,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        describe();
        Self {
            opens: OPEN_RESULTS.map(|result| counter!(OPENS, "session_core.open.result" => result)),
            durations: OPERATIONS.map(|name| histogram!(DURATION, vec![operation_label(name)])),
            conflicts: counter!(CONFLICTS),
            unreadable_values: counter!(UNREADABLE_VALUES),
        }
    }

    /// Runs an operation, and records its duration. An operation that is dropped is not recorded.
    pub(crate) async fn measured<T, E: ErrorType>(
        &self,
        operation: Operation,
        running: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let begun_at = Instant::now();
        let result = running.await;
        let elapsed = begun_at.elapsed();
        match &result {
            Ok(_) => self.durations[operation as usize].record(elapsed),
            Err(error) => {
                let operation = operation_label(OPERATIONS[operation as usize]);
                histogram!(DURATION, vec![operation, error_label(error)]).record(elapsed);
            }
        }
        result
    }

    pub(crate) fn on_open(&self, result: impl FnOnce() -> OpenResult) {
        self.opens[result() as usize].increment(1);
    }

    pub(crate) fn on_conflict(&self) {
        self.conflicts.increment(1);
    }

    pub(crate) fn on_unreadable_value(&self) {
        self.unreadable_values.increment(1);
    }
}

/// The numbers of events, by the name of their kind.
pub(crate) struct EventMetrics(BTreeMap<&'static str, Counter>);

impl EventMetrics {
    /// Registers a counter per kind, so that an alert sees the first event too.
    pub(crate) fn new(kinds: &[&'static str]) -> Self {
        Self(kinds.iter().map(|kind| (*kind, event_counter(kind))).collect())
    }

    pub(crate) fn on_event(&self, kind: &'static str) {
        match self.0.get(kind) {
            Some(counter) => counter.increment(1),
            None => event_counter(kind).increment(1),
        }
    }
}

fn event_counter(kind: &'static str) -> Counter {
    counter!(EVENTS, "session_core.event.kind" => kind)
}

/// Counts a response that an error became.
#[cfg(feature = "axum")]
pub(crate) fn on_error_response(status: http::StatusCode, error: &SessionError) {
    let status = Label::new("http.response.status_code", status.as_str().to_owned());
    counter!(ERROR_RESPONSES, vec![status, error_label(error)]).increment(1);
}

fn describe() {
    describe_counter!(OPENS, Unit::Count, "Sessions that requests opened");
    describe_histogram!(
        DURATION,
        Unit::Seconds,
        "Duration of an operation on the store, including its retries"
    );
    describe_counter!(CONFLICTS, Unit::Count, "Commits that were replayed on a newer session");
    describe_counter!(EVENTS, Unit::Count, "Events in the life of sessions");
    describe_counter!(UNREADABLE_VALUES, Unit::Count, "Reads of values of another type");
    #[cfg(feature = "axum")]
    describe_counter!(ERROR_RESPONSES, Unit::Count, "Responses that a session error became");
}

fn operation_label(name: &'static str) -> Label {
    Label::from_static_parts("session_core.operation.name", name)
}

fn error_label(error: &impl ErrorType) -> Label {
    Label::from_static_parts("error.type", error.error_type())
}

/// An error with a name in the label `error.type`.
pub(crate) trait ErrorType {
    fn error_type(&self) -> &'static str;
}

impl ErrorType for StoreError {
    fn error_type(&self) -> &'static str {
        match self.kind() {
            StoreErrorKind::Unavailable => "unavailable",
            StoreErrorKind::Timeout => "timeout",
            StoreErrorKind::Unreplicated => "unreplicated",
            StoreErrorKind::Full => "full",
            StoreErrorKind::Corrupt => "corrupt",
            StoreErrorKind::TooLarge => "store_too_large",
            StoreErrorKind::Misconfigured => "misconfigured",
        }
    }
}

impl ErrorType for SessionError {
    fn error_type(&self) -> &'static str {
        match self {
            Self::Store(error) => error.error_type(),
            Self::Ended => "ended",
            Self::Contended => "contended",
            Self::Unconfirmed => "unconfirmed",
            Self::Locked => "locked",
            Self::AlreadyLocked => "already_locked",
            Self::LeaseLost => "lease_lost",
            Self::NotFresh => "not_fresh",
            Self::SignedOut => "signed_out",
            Self::CannotAct => "cannot_act",
            Self::Acting => "acting",
            Self::TooManySessions { .. } => "too_many_sessions",
            Self::Closed => "closed",
            Self::EmptyOwner => "empty_owner",
            Self::EmptyLink => "empty_link",
            Self::TooLarge { .. } => "too_large",
            Self::Decode { .. } => "decode",
            Self::Encode { .. } => "encode",
            Self::Refused { .. } => "refused",
            Self::Taken => "taken",
        }
    }
}

const OPENS: &str = "session_core.opens";
const DURATION: &str = "session_core.operation.duration";
const CONFLICTS: &str = "session_core.conflicts";
const EVENTS: &str = "session_core.events";
const UNREADABLE_VALUES: &str = "session_core.unreadable_values";
#[cfg(feature = "axum")]
const ERROR_RESPONSES: &str = "session_core.error_responses";

/// The values of `session_core.open.result`, in the order of [`OpenResult`].
const OPEN_RESULTS: [&str; 4] = ["none", "found", "unknown", "unreadable"];

/// The values of `session_core.operation.name`, in the order of [`Operation`].
const OPERATIONS: [&str; 5] = ["open", "commit", "destroy", "list", "revoke"];
