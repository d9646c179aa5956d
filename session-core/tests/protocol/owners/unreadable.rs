//! I8, I11: a session that this version cannot read is not listed, and is revoked and counted.

use std::sync::{Arc, Mutex};

use session_core::{
    AtLimit, SessionError, SessionId, SessionKey, SessionLimit, Sessions, StoreError,
    StoreErrorKind, Timestamp,
    testing::{Answer, Intercept, Intercepted, Operation},
};

use crate::support::{MapStore, finish, keys, told};

/// A store that makes records unreadable, like those of a later version.
#[derive(Default)]
struct Unreadable(Mutex<Vec<SessionKey>>);

#[session_core::async_trait]
impl Intercept<MapStore> for Unreadable {
    async fn call(
        &self,
        store: &MapStore,
        operation: Operation,
        now: Timestamp,
    ) -> Result<Answer, StoreError> {
        let keys = operation.keys();
        match operation.perform(store, now).await? {
            Answer::Loaded(Some(_)) if self.0.lock().unwrap().contains(&keys[0]) => {
                Err(StoreError::new(StoreErrorKind::Corrupt))
            }
            answer => Ok(answer),
        }
    }

    fn splits(&self) -> bool {
        true
    }
}

/// During a deployment, an older version of the application must be able to revoke a session
/// that it cannot read.
#[tokio::test]
async fn unreadable_session_is_revoked_though_it_is_not_listed() {
    for way in ["one", "operator", "others", "all"] {
        let store = Arc::new(Intercepted::new(MapStore::default(), Unreadable::default()));
        let sessions = Sessions::new(Arc::clone(&store));
        let user = async || {
            let session = sessions.open([]).await.unwrap();
            session.authenticate("ada").unwrap();
            finish(session).await
        };
        let (unreadable, own) = (user().await, user().await);
        let opens = async |id: &SessionId| {
            sessions.open([id.expose().as_bytes()]).await.unwrap().key().is_some()
        };
        store.intercept().0.lock().unwrap().push(unreadable.key());
        assert!(!opens(&unreadable).await);
        let list = sessions.list("ada").await.unwrap();
        assert_eq!(list.iter().map(|info| info.key()).collect::<Vec<_>>(), keys(&[&own]));

        match way {
            "one" => assert!(sessions.revoke("ada", unreadable.key()).await.unwrap()),
            "operator" => assert!(sessions.revoke_any(unreadable.key()).await.unwrap()),
            "others" => {
                let session = sessions.open([own.expose().as_bytes()]).await.unwrap();
                assert_eq!(sessions.revoke_others(&session).await.unwrap(), 1);
            }
            _ => assert_eq!(sessions.revoke_all("ada").await.unwrap(), 2),
        }
        // The later version finds the session deleted.
        store.intercept().0.lock().unwrap().clear();
        assert!(!opens(&unreadable).await, "{way}");
        assert_eq!(opens(&own).await, way != "all");
        assert!(!sessions.revoke("ada", unreadable.key()).await.unwrap());
    }
}

#[tokio::test]
async fn unreadable_session_takes_a_place_in_the_limit() {
    for at_limit in [AtLimit::Reject, AtLimit::EvictOldest, AtLimit::EvictLeastRecent] {
        let store = Arc::new(Intercepted::new(MapStore::default(), Unreadable::default()));
        let limit = SessionLimit::new(2, at_limit).unwrap();
        let sessions = Sessions::builder(Arc::clone(&store)).with_session_limit(limit);
        let sessions = sessions.build().unwrap();
        let user = async || {
            let session = sessions.open([]).await.unwrap();
            session.authenticate("ada").unwrap();
            session.finish().await.map(told)
        };
        let (unreadable, other) = (user().await.unwrap(), user().await.unwrap());
        store.intercept().0.lock().unwrap().push(unreadable.key());
        let new = user().await;
        store.intercept().0.lock().unwrap().clear();
        let opens = async |id: &SessionId| {
            sessions.open([id.expose().as_bytes()]).await.unwrap().key().is_some()
        };
        if at_limit == AtLimit::Reject {
            assert!(matches!(new, Err(SessionError::TooManySessions { limit: 2, .. })));
            assert!(opens(&unreadable).await);
        } else {
            assert!(opens(&new.unwrap()).await);
            assert!(!opens(&unreadable).await, "its age is unknown, so it is the first to go");
        }
        assert!(opens(&other).await);
    }
}
