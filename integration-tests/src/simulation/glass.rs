use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use futures_util::FutureExt as _;
use session_core::{
    Admission, Admitted, Committed, Created, Ended, Entry, Expected, Key, OwnerIndex, OwnerKey,
    Record, Session, SessionId, SessionKey, SessionStore, Sessions, StoreError, Timestamp, Touched,
};

use super::{
    ledger::{State, Values},
    plan::NAMES,
};

/// Reads what a record holds, whatever its deadlines.
pub(super) struct Glass {
    sessions: Arc<Sessions>,
    shown: Arc<Shown>,
    id: SessionId,
}

impl Glass {
    pub(super) fn new() -> Self {
        let shown = Arc::new(Shown::default());
        let clock = session_core::ManualClock::new(Timestamp::from_millis(0));
        let sessions = Arc::new(Sessions::new(Arc::clone(&shown)).with_clock(clock));
        Self { sessions, shown, id: SessionId::from_random_bits([0; 32]) }
    }

    pub(super) fn read(&self, record: &Arc<Record>) -> State {
        *self.shown.entry() = Some(Entry::Live(Arc::clone(record)));
        let open = self.sessions.open([self.id.expose().as_bytes()]);
        let session = open.now_or_never().expect("nothing waits").expect("nothing fails");
        State {
            values: values(&session),
            owner: record.owner().cloned(),
            lifetime: record.lifetime(),
            created_at: record.created_at(),
            last_seen_at: record.last_seen_at(),
        }
    }
}

/// The values of a session, by slot.
pub(super) fn values(session: &Session) -> Values {
    NAMES.map(|name| session.get(Key::<u64>::new(name)))
}

impl fmt::Debug for Glass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Glass").finish_non_exhaustive()
    }
}

/// A store that shows one entry under every key.
#[derive(Debug, Default)]
struct Shown(Mutex<Option<Entry>>);

impl Shown {
    fn entry(&self) -> std::sync::MutexGuard<'_, Option<Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait::async_trait]
impl SessionStore for Shown {
    async fn create(&self, _: &SessionKey, _: Entry, _: Timestamp) -> Result<Created, StoreError> {
        Ok(Created::Exists)
    }

    async fn load(&self, _: &SessionKey, _: Timestamp) -> Result<Option<Entry>, StoreError> {
        Ok(self.entry().clone())
    }

    async fn commit(
        &self,
        _: &SessionKey,
        _: Expected,
        _: Entry,
        _: Timestamp,
    ) -> Result<Committed, StoreError> {
        Ok(Committed::Gone)
    }

    async fn touch(&self, _: &SessionKey, _: Timestamp) -> Result<Touched, StoreError> {
        Ok(Touched::Gone)
    }

    async fn delete(&self, _: &SessionKey, _: Timestamp) -> Result<Option<Entry>, StoreError> {
        Ok(None)
    }
}

#[async_trait::async_trait]
impl OwnerIndex for Shown {
    async fn enter(
        &self,
        _: &OwnerKey,
        _: &SessionKey,
        _: Timestamp,
        _: Timestamp,
    ) -> Result<(), StoreError> {
        Ok(())
    }

    async fn admit(
        &self,
        _: &OwnerKey,
        _: &SessionKey,
        _: Timestamp,
        _: &Admission<'_>,
        _: Timestamp,
    ) -> Result<Admitted, StoreError> {
        Ok(Admitted::Admitted)
    }

    async fn create_entered(
        &self,
        _: &OwnerKey,
        _: Timestamp,
        _: &SessionKey,
        _: Entry,
        _: Timestamp,
    ) -> Result<Created, StoreError> {
        Ok(Created::Exists)
    }

    async fn leave(&self, _: &OwnerKey, _: &[SessionKey], _: Timestamp) -> Result<(), StoreError> {
        Ok(())
    }

    async fn entries(&self, _: &OwnerKey, _: Timestamp) -> Result<Vec<SessionKey>, StoreError> {
        Ok(Vec::new())
    }

    async fn load_many(
        &self,
        keys: &[SessionKey],
        _: Timestamp,
    ) -> Result<Vec<Result<Option<Entry>, StoreError>>, StoreError> {
        Ok(keys.iter().map(|_| Ok(None)).collect())
    }

    async fn end_many(
        &self,
        keys: &[SessionKey],
        _: Entry,
        _: Timestamp,
    ) -> Result<Vec<Ended>, StoreError> {
        Ok(keys.iter().map(|_| Ended::Barred).collect())
    }
}
