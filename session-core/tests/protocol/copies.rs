//! Requests that open their session from a possibly outdated copy.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use session_core::{
    Backend, Entry, LocalReads, Session, SessionId, SessionKey, Sessions, StoreError, Timestamp,
    testing::{Answer, FaultStore, Intercept, Intercepted, Operation},
};

use crate::support::{Fault, MapStore, NOTE, VISITS, Verb, told};

/// A store with one copy, which never changes.
#[derive(Debug, Default)]
struct OneCopy(Mutex<Option<(SessionKey, Entry)>>);

#[async_trait::async_trait]
impl<S: Backend> Intercept<S> for OneCopy {
    async fn call(
        &self,
        store: &S,
        operation: Operation,
        now: Timestamp,
    ) -> Result<Answer, StoreError> {
        let answer = operation.clone().perform(store, now).await?;
        if let (Operation::Load { key }, Answer::Loaded(Some(entry))) = (operation, &answer) {
            self.0.lock().unwrap().get_or_insert_with(|| (key, entry.clone()));
        }
        Ok(answer)
    }

    fn local_reads<'s>(&'s self, _: &'s S) -> Option<&'s dyn LocalReads> {
        Some(self)
    }
}

impl LocalReads for OneCopy {
    fn staleness(&self) -> Duration {
        Duration::from_secs(1)
    }

    fn find(&self, key: &SessionKey, _: Timestamp) -> Option<Entry> {
        let copy = self.0.lock().unwrap();
        copy.as_ref().filter(|(of, _)| of == key).map(|(_, entry)| entry.clone())
    }
}

/// A change equal to the copy is still a change: another request may have changed the session
/// before this request began.
#[tokio::test]
async fn change_that_equals_an_outdated_copy_is_stored() {
    type Change = fn(&Session);
    let changes: [(Change, Option<u64>, Option<&str>); 3] = [
        (|session| session.set(VISITS, 1).unwrap(), Some(1), Some("other")),
        (|session| session.remove(NOTE).unwrap(), Some(2), None),
        (
            |session| {
                session.update(VISITS, |visits| *visits = 1).unwrap();
            },
            Some(1),
            Some("other"),
        ),
    ];
    for (change, visits, note) in changes {
        let store = Arc::new(Intercepted::new(MapStore::default(), OneCopy::default()));
        let sessions = Sessions::builder(Arc::clone(&store)).build().unwrap();
        let session = sessions.open([]).await.unwrap();
        session.set(VISITS, 1).unwrap();
        let id = told(session.finish().await.unwrap());
        let open = async |id: &SessionId| sessions.open([id.expose().as_bytes()]).await.unwrap();

        let other = open(&id).await;
        other.set(VISITS, 2).unwrap();
        other.set(NOTE, "other").unwrap();
        let _ = other.finish().await.unwrap();

        let late = sessions.try_open_local([id.expose().as_bytes()], || false).expect("a copy");
        assert_eq!((late.get(VISITS), late.get(NOTE)), (Some(1), None));
        change(&late);
        let _ = late.finish().await.unwrap();
        let after = open(&id).await;
        assert_eq!((after.get(VISITS), after.get(NOTE).as_deref()), (visits, note));
    }
}

/// The client carries the mark of a change that the store has carried out, or may have.
#[tokio::test]
async fn failed_commit_sets_a_mark_if_it_may_be_stored() {
    let faults = [(None, true), (Some(Fault::UNSENT), true), (Some(Fault::DOWN), false)];
    for (fault, is_marked) in faults {
        // A fault store outside of the copies would let no request read them.
        let store = Arc::new(FaultStore::new_working(MapStore::default()));
        let sessions = Sessions::new(Intercepted::new(Arc::clone(&store), OneCopy::default()));
        let session = sessions.open([]).await.unwrap();
        session.set(VISITS, 1).unwrap();
        let id = told(session.finish().await.unwrap());

        let session = sessions.open([id.expose().as_bytes()]).await.unwrap();
        session.set(VISITS, 2).unwrap();
        assert_eq!(session.read_your_writes(), None);
        for nth in 1..=2 {
            // A commit with a lost answer is repeated once.
            fault.into_iter().for_each(|fault| store.fail_nth(nth, Verb::Commit, fault));
        }
        assert_eq!(session.finish().await.is_ok(), fault.is_none());
        session.close();
        assert_eq!(session.read_your_writes().is_some(), is_marked, "{fault:?}");
    }
}
