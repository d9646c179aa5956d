use std::{
    fmt,
    pin::Pin,
    sync::{Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;

use super::{Answer, Intercept, Intercepted, Operation, Verb};
use crate::{Backend, LocalReads, SessionStore, StoreError, StoreErrorKind, Timestamp};

/// A failure of one call.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Fault {
    /// The store does nothing, and the call fails.
    Before(StoreErrorKind),
    /// The store carries the operation out, but the call fails: the answer is lost.
    After(StoreErrorKind),
}

impl Fault {
    /// The request never reaches the store, and the outcome is unknown to the caller.
    pub const UNSENT: Self = Self::Before(StoreErrorKind::Timeout);
    /// The store has carried the operation out, and the outcome is unknown to the caller.
    pub const ANSWER_LOST: Self = Self::After(StoreErrorKind::Timeout);
    /// The store is unreachable.
    pub const DOWN: Self = Self::Before(StoreErrorKind::Unavailable);
}

/// A store that records its calls, and fails according to the plan of a test.
pub type FaultStore<S> = Intercepted<S, Faults>;

/// The plans of a [`FaultStore`], and its recorded calls.
#[derive(Default)]
pub struct Faults(Mutex<State>);

#[derive(Default)]
struct State {
    calls: Vec<Operation>,
    plans: Vec<Plan>,
    outage: Option<StoreErrorKind>,
}

/// An action at the n-th call of a verb, counted from now on.
struct Plan {
    verb: Verb,
    left: usize,
    action: Action,
}

enum Action {
    Fail(Fault),
    Run(Hook),
}

type Hook = Box<dyn FnOnce() -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

impl<S: Backend> Intercepted<S, Faults> {
    /// Creates a store around another store. Every call succeeds until a test plans a failure.
    #[must_use]
    pub fn new_working(store: S) -> Self {
        Self::new(store, Faults::default())
    }

    /// Makes the next call of a verb fail.
    pub fn fail(&self, verb: Verb, fault: Fault) {
        self.fail_nth(1, verb, fault);
    }

    /// Makes the n-th call of a verb fail, counted from now on.
    pub fn fail_nth(&self, nth: usize, verb: Verb, fault: Fault) {
        self.plan(nth, verb, Action::Fail(fault));
    }

    /// Makes all calls fail, until `None` ends the outage.
    pub fn set_outage(&self, kind: Option<StoreErrorKind>) {
        self.intercept().state().outage = kind;
    }

    /// Runs a function just before the next call of a verb.
    pub fn before<F>(&self, verb: Verb, hook: impl FnOnce() -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.before_nth(1, verb, hook);
    }

    /// Runs a function just before the n-th call of a verb, counted from now on.
    pub fn before_nth<F>(&self, nth: usize, verb: Verb, hook: impl FnOnce() -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.plan(nth, verb, Action::Run(Box::new(|| Box::pin(hook()))));
    }

    /// Returns the verbs called since the last `calls` or `operations`.
    pub fn calls(&self) -> Vec<Verb> {
        self.operations().iter().map(Operation::verb).collect()
    }

    /// Returns the calls since the last `calls` or `operations`, with their arguments.
    pub fn operations(&self) -> Vec<Operation> {
        std::mem::take(&mut self.intercept().state().calls)
    }

    fn plan(&self, left: usize, verb: Verb, action: Action) {
        self.intercept().state().plans.push(Plan { verb, left, action });
    }
}

impl Faults {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Faults(..)")
    }
}

#[async_trait]
impl<S: Backend> Intercept<S> for Faults {
    async fn call(
        &self,
        store: &S,
        operation: Operation,
        now: Timestamp,
    ) -> Result<Answer, StoreError> {
        let (due, outage) = {
            let mut state = self.state();
            state.calls.push(operation.clone());
            for plan in &mut state.plans {
                plan.left -= usize::from(plan.verb == operation.verb());
            }
            let due: Vec<_> = state.plans.extract_if(.., |plan| plan.left == 0).collect();
            (due, state.outage)
        };
        if let Some(kind) = outage {
            return Err(StoreError::new(kind));
        }
        let mut lost = None;
        for plan in due {
            match plan.action {
                Action::Run(hook) => hook().await,
                Action::Fail(Fault::Before(kind)) => return Err(StoreError::new(kind)),
                Action::Fail(Fault::After(kind)) => lost = Some(StoreError::new(kind)),
            }
        }
        let answer = operation.perform(store, now).await;
        lost.map_or(answer, Err)
    }

    /// Each load is a call, which is recorded and can fail. A memory store would answer by itself.
    fn local_reads<'s>(&'s self, _: &'s S) -> Option<&'s dyn LocalReads>
    where
        S: SessionStore,
    {
        None
    }
}
