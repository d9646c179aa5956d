//! I3, I11: an unknown ID is never adopted, and an unreadable record is no error.

use session_core::{
    CookieChange, EventKind, IdGenerator, OsRandom, SessionError, SessionId, Sessions,
    StoreErrorKind, UuidV4,
};

use crate::support::{Fault, VISITS, Verb, World, told};

const CORRUPT: Fault = Fault::Before(StoreErrorKind::Corrupt);

#[tokio::test]
async fn unknown_id_never_becomes_a_session() {
    let world = World::new();
    for id in [OsRandom.generate(), UuidV4.generate()] {
        let session = world.open(&id).await;
        assert_eq!(session.key(), None);
        assert!(session.had_unknown_id());
        session.set(VISITS, 1).unwrap();
        let new = told(session.finish().await.unwrap());
        assert_ne!(new.key(), id.key());
        assert!(world.stored(&id).await.is_none());

        let session = world.open(&id).await;
        session.authenticate("ada").unwrap();
        session.renew().unwrap();
        session.rotate().unwrap();
        let new = told(session.finish().await.unwrap());
        assert_ne!(new.key(), id.key());
        assert!(world.stored(&id).await.is_none());
    }
}

/// An unknown cookie stays: only the request that destroys a session removes the cookie.
#[tokio::test]
async fn malformed_id_costs_no_call_and_keeps_the_cookie() {
    let world = World::new();
    let almost = format!("{}=", OsRandom.generate().expose());
    for text in ["", "1", "null", almost.as_str(), "../../etc/passwd", "é"] {
        let session = world.sessions.open([text.as_bytes()]).await.unwrap();
        assert!(session.had_unknown_id(), "{text:?}");
        assert!(matches!(session.finish().await.unwrap(), CookieChange::Keep), "{text:?}");
    }
    let session = world.sessions.open([&[0xff; 1 << 20][..]]).await.unwrap();
    assert!(matches!(session.finish().await.unwrap(), CookieChange::Keep));
    assert_eq!(world.store.calls(), []);
}

#[tokio::test]
async fn request_uses_the_first_cookie_that_opens_a_session() {
    let world = World::new();
    let (first, second) = (world.visitor().await, world.visitor().await);
    let unknown = OsRandom.generate();
    let cookies = ["no ID", unknown.expose(), first.expose(), second.expose()];
    let session = world.sessions.open(cookies.map(str::as_bytes)).await.unwrap();
    assert_eq!(session.key(), Some(first.key()));
    assert!(!session.had_unknown_id());
    assert_eq!(world.store.calls(), [Verb::Load, Verb::Load]);
}

#[tokio::test]
async fn request_tries_no_more_than_four_cookies() {
    let world = World::new();
    let id = world.visitor().await;
    let unknown: Vec<SessionId> = (0..100).map(|_| OsRandom.generate()).collect();
    let cookies = unknown.iter().chain([&id]).map(|id| id.expose().as_bytes());
    let session = world.sessions.open(cookies).await.unwrap();
    assert_eq!(session.key(), None);
    assert_eq!(world.store.calls().len(), Sessions::MAX_COOKIES);
}

#[tokio::test]
async fn unreadable_record_is_counted_and_opens_a_fresh_session() {
    let world = World::new();
    let id = world.visitor().await;
    let mut events = world.sessions.events();
    world.store.fail(Verb::Load, CORRUPT);
    let session = world.open(&id).await;
    assert_eq!(session.key(), None);
    assert_eq!(world.sessions.corrupt_records(), 1);
    let event = events.try_next().unwrap();
    assert_eq!((event.kind, event.key), (EventKind::Corrupt, id.key()));
    session.set(VISITS, 7).unwrap();
    let new = told(session.finish().await.unwrap());
    assert_ne!(new.key(), id.key(), "the ID is not adopted");
    assert_eq!(world.open(&new).await.get(VISITS), Some(7));
    assert_eq!(world.sessions.corrupt_records(), 1);
}

/// A process of a newer version may be able to read the record.
#[tokio::test]
async fn unreadable_record_stays_and_keeps_its_cookie() {
    let world = World::new();
    let id = world.visitor().await;
    world.store.fail(Verb::Load, CORRUPT);
    assert!(matches!(world.read(&id).await, CookieChange::Keep));
    assert_eq!(world.open(&id).await.get(VISITS), Some(1));
}

#[tokio::test]
async fn generator_that_repeats_an_id_shares_no_session() {
    #[derive(Debug)]
    struct Repeating(std::sync::Mutex<Vec<SessionId>>);

    impl IdGenerator for Repeating {
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

    // If the ID of a login is in use, the index of the login's owner must not hold the other
    // session.
    let ids: Vec<_> = [1, 2].map(|bits| SessionId::from_random_bits([bits; 32])).into();
    let other = World {
        sessions: Sessions::builder(std::sync::Arc::clone(&world.store))
            .with_clock(std::sync::Arc::clone(&world.clock))
            .with_id_generator(Repeating(std::sync::Mutex::new(ids)))
            .build()
            .unwrap(),
        store: std::sync::Arc::clone(&world.store),
        clock: std::sync::Arc::clone(&world.clock),
    };
    let login = other.anonymous().await;
    login.authenticate("ada").unwrap();
    assert!(login.finish().await.is_err());
    assert_eq!(world.count_entered().await, 0);

    // From now on the generator always returns the same ID.
    let session = world.anonymous().await;
    session.set(VISITS, 9).unwrap();
    let Err(SessionError::Store(error)) = session.finish().await else { panic!("another answer") };
    assert_eq!(error.kind(), StoreErrorKind::Misconfigured);
    assert_eq!(world.open(&second).await.get(VISITS), Some(1));
}

/// I2, I11: a version can delete a session that it cannot read.
#[tokio::test]
async fn logout_and_login_end_an_unreadable_session() {
    for login in [false, true] {
        let world = World::new();
        let id = world.user("ada").await;
        world.store.fail(Verb::Load, Fault::Before(StoreErrorKind::Corrupt));
        let session = world.open(&id).await;
        assert_eq!(session.key(), None);
        if login {
            session.authenticate("ada").unwrap();
        } else {
            session.destroy().unwrap();
        }
        let change = session.finish().await.unwrap();
        assert_eq!(matches!(change, CookieChange::Remove), !login);
        assert_eq!(world.stored(&id).await, None);
    }
}
