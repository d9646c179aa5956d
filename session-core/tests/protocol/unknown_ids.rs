//! I3: no adopted ID, and I11: deploys survive.

use session_core::{
    CookieChange, IdGenerator as _, OsRandom, SessionId, Sessions, StoreErrorKind, UuidV4,
};

use crate::support::{Fault, VISITS, Verb, World, told};

#[tokio::test]
async fn an_unknown_id_never_becomes_a_session() {
    let world = World::new();
    for id in [OsRandom.generate(), UuidV4.generate()] {
        let session = world.open(&id).await;
        assert_eq!(session.key(), None);
        session.set(VISITS, &1).unwrap();
        let new = told(session.finish().await.unwrap());
        assert_ne!(new.key(), id.key());
        assert!(world.stored(&id).await.is_none());

        let session = world.open(&id).await;
        session.authenticate("ada").unwrap();
        session.renew().unwrap();
        let new = told(session.finish().await.unwrap());
        assert_ne!(new.key(), id.key());
        assert!(world.stored(&id).await.is_none());
    }
}

#[tokio::test]
async fn what_is_no_id_costs_no_call_and_is_removed() {
    let world = World::new();
    let almost = format!("{}=", OsRandom.generate().expose());
    for text in ["", "1", "null", almost.as_str(), "../../etc/passwd", "é"] {
        let session = world.sessions.open([text.as_bytes()]).await.unwrap();
        assert!(matches!(session.finish().await.unwrap(), CookieChange::Remove), "{text:?}");
    }
    let session = world.sessions.open([&[0xff; 1 << 20][..]]).await.unwrap();
    assert!(matches!(session.finish().await.unwrap(), CookieChange::Remove));
    assert_eq!(world.store.calls(), []);
}

#[tokio::test]
async fn the_first_cookie_that_opens_a_session_is_used() {
    let world = World::new();
    let (first, second) = (world.visitor().await, world.visitor().await);
    let unknown = OsRandom.generate();
    let cookies = ["no ID", unknown.expose(), first.expose(), second.expose()];
    let session = world.sessions.open(cookies.map(str::as_bytes)).await.unwrap();
    assert_eq!(session.key(), Some(first.key()));
    assert_eq!(world.store.calls(), [Verb::Load, Verb::Load]);
}

#[tokio::test]
async fn no_more_than_four_cookies_are_tried() {
    let world = World::new();
    let id = world.visitor().await;
    let unknown: Vec<SessionId> = (0..100).map(|_| OsRandom.generate()).collect();
    let cookies = unknown.iter().chain([&id]).map(|id| id.expose().as_bytes());
    let session = world.sessions.open(cookies).await.unwrap();
    assert_eq!(session.key(), None);
    assert_eq!(world.store.calls().len(), Sessions::MAX_COOKIES);
}

#[tokio::test]
async fn an_unreadable_record_is_counted_and_answered_with_a_fresh_session() {
    let world = World::new();
    let id = world.visitor().await;
    world.store.fail(Verb::Load, Fault::Before(StoreErrorKind::Corrupt));
    let session = world.open(&id).await;
    assert_eq!(session.key(), None);
    assert_eq!(world.sessions.corrupt_records(), 1);
    session.set(VISITS, &7).unwrap();
    let new = told(session.finish().await.unwrap());
    assert_ne!(new.key(), id.key(), "the ID is not adopted");
    assert_eq!(world.open(&new).await.get(VISITS), Some(7));
    assert_eq!(world.sessions.corrupt_records(), 1);
}

#[tokio::test]
async fn an_id_in_use_is_not_given_to_another() {
    #[derive(Debug)]
    struct Repeating(std::sync::Mutex<Vec<SessionId>>);

    impl session_core::IdGenerator for Repeating {
        fn generate(&self) -> SessionId {
            let mut ids = self.0.lock().unwrap();
            if ids.len() > 1 { ids.remove(0) } else { ids[0].clone() }
        }
    }

    let ids: Vec<_> = [1, 1, 1, 2].map(|bits| SessionId::from_random_bits([bits; 32])).into();
    let world = World::with(|sessions| sessions.with_id_generator(Repeating(ids.into())));
    let first = world.visitor().await;
    let second = world.visitor().await;
    assert_ne!(first.key(), second.key());
    assert_eq!(world.open(&first).await.get(VISITS), Some(1));

    // From now on it makes one ID only.
    let session = world.anonymous().await;
    session.set(VISITS, &9).unwrap();
    let session_core::SessionError::Store(error) = session.finish().await.unwrap_err() else {
        panic!("another error")
    };
    assert_eq!(error.kind(), StoreErrorKind::Misconfigured);
    assert_eq!(world.open(&second).await.get(VISITS), Some(1));
}
