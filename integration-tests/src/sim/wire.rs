use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use session_core::{
    CookieChange, IdGenerator, ManualClock, SessionId, StoreErrorKind, Timestamp,
    testing::{Answer, Operation},
};

use super::{
    broken::Broken,
    ledger::{Call, Ledger},
};
use crate::random::{Part, Random};

/// The state that the servers of a history share with its driver.
pub(super) struct World {
    pub(super) seed: u64,
    pub(super) clock: Arc<ManualClock>,
    pub(super) broken: Option<Broken>,
    /// An entry in the index and the following creation travel as two commands.
    pub(super) splits_creations: bool,
    ledger: Mutex<Ledger>,
    wire: Mutex<Wire>,
}

/// Calls in transit to the store, and answers in transit back.
#[derive(Debug, Default)]
struct Wire {
    /// The request that runs at present.
    request: usize,
    /// The numbers of calls and of IDs that each request has made.
    made: BTreeMap<usize, (u64, u64)>,
    sent: Vec<Call>,
    answers: Vec<Option<Result<Answer, StoreErrorKind>>>,
    /// The ID that each request's client made up.
    made_up: BTreeMap<usize, SessionId>,
    responses: BTreeMap<usize, CookieChange>,
}

impl World {
    pub(super) fn new(
        seed: u64,
        clock: Arc<ManualClock>,
        broken: Option<Broken>,
        splits_creations: bool,
        ledger: Ledger,
    ) -> Self {
        Self {
            seed,
            clock,
            broken,
            splits_creations,
            ledger: Mutex::new(ledger),
            wire: Mutex::default(),
        }
    }

    pub(super) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the request that runs from now on.
    pub(super) fn enter(&self, request: usize) {
        self.wire().request = request;
    }

    /// Returns `true` if the running request signs a user in.
    pub(super) fn is_signing_in(&self) -> bool {
        let request = self.wire().request;
        self.ledger().is_signing_in(request)
    }

    /// Records the ID that the client of a request made up.
    pub(super) fn presents(&self, request: usize, made_up: Option<SessionId>) {
        if let Some(id) = made_up {
            self.wire().made_up.insert(request, id);
        }
    }

    /// Keeps a response while it is in transit.
    pub(super) fn set_response(&self, request: usize, change: CookieChange) {
        self.wire().responses.insert(request, change);
    }

    pub(super) fn take_response(&self, request: usize) -> CookieChange {
        self.wire().responses.remove(&request).expect("it was sent")
    }

    pub(super) fn into_ledger(self) -> Ledger {
        self.ledger.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the calls since the last call of this function.
    pub(super) fn sent(&self) -> Vec<Call> {
        std::mem::take(&mut self.wire().sent)
    }

    pub(super) fn answer(&self, call: usize, answer: Result<Answer, StoreErrorKind>) {
        self.wire().answers[call] = Some(answer);
    }

    pub(super) fn send(&self, operation: Operation, now: Timestamp) -> usize {
        let mut wire = self.wire();
        let request = wire.request;
        let number = wire.answers.len();
        let made = wire.made.entry(request).or_default();
        made.0 += 1;
        let ordinal = made.0;
        let attempt = self.ledger().attempt_of(request);
        wire.answers.push(None);
        wire.sent.push(Call { number, request, ordinal, operation, now, attempt });
        number
    }

    pub(super) fn take_answer(&self, call: usize) -> Option<Result<Answer, StoreErrorKind>> {
        self.wire().answers[call].take()
    }

    fn wire(&self) -> MutexGuard<'_, Wire> {
        self.wire.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World").field("seed", &self.seed).finish_non_exhaustive()
    }
}

/// Generates IDs from the seed.
#[derive(Debug)]
pub(super) struct Ids(pub(super) Arc<World>);

impl IdGenerator for Ids {
    fn generate(&self) -> SessionId {
        let mut wire = self.0.wire();
        let request = wire.request;
        let made = wire.made.entry(request).or_default();
        made.1 += 1;
        let number = made.1;
        let adopted = match self.0.broken {
            Some(Broken::AdoptsUnknownId) => wire.made_up.remove(&request),
            _ => None,
        };
        drop(wire);
        let id = adopted.unwrap_or_else(|| made_id(self.0.seed, request, number));
        self.0.ledger().issue(&id, request);
        id
    }
}

/// Returns an ID that no server issued.
pub(super) fn made_up_id(seed: u64, request: usize) -> SessionId {
    made_id(seed, request, 0)
}

fn made_id(seed: u64, request: usize, number: u64) -> SessionId {
    let mut random = Random::of(seed, Part::Id, ((request as u64) << 16) | number);
    let mut bits = [0; 32];
    for part in bits.chunks_mut(8) {
        part.copy_from_slice(&random.next().to_le_bytes());
    }
    SessionId::from_random_bits(bits)
}
