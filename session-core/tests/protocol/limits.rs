//! I9: values, sessions, changes and commits are bounded.

use std::time::Duration;

use session_core::{Key, Lifetime, Limits, Raw, SessionError, StoreErrorKind};

use crate::support::{Fault, NOTE, VISITS, Verb, World, told};

const RAW: Key<Vec<u8>, Raw> = Key::new("raw");

fn limit_of(result: Result<(), SessionError>) -> String {
    match result {
        Err(error @ SessionError::TooLarge { .. }) => error.to_string(),
        other => panic!("no limit: {other:?}"),
    }
}

#[tokio::test]
async fn value_has_at_most_64_kib() {
    let session = World::new().anonymous().await;
    session.set(RAW, vec![1; 64 * 1024]).unwrap();
    let refused = limit_of(session.set(RAW, vec![2; 64 * 1024 + 1]));
    insta::assert_snapshot!(refused, @"the value exceeds the limit of 65536");
    assert_eq!(session.get(RAW).unwrap()[0], 1, "nothing was changed");
}

#[tokio::test]
async fn session_has_at_most_256_kib() {
    let session = World::new().anonymous().await;
    for name in ["1", "2", "3"] {
        session.set(Key::<_, Raw>::new(name), vec![0; 64 * 1024]).unwrap();
    }
    let rest = 64 * 1024 - 3 * 2 - 2;
    let refused = limit_of(session.set(Key::<_, Raw>::new("4"), vec![0; rest + 1]));
    insta::assert_snapshot!(refused, @"the session exceeds the limit of 262144");
    session.set(Key::<_, Raw>::new("4"), vec![0; rest]).unwrap();
    let _ = session.finish().await.unwrap();
}

#[tokio::test]
async fn session_has_at_most_1024_values() {
    let session = World::new().anonymous().await;
    for number in 0..1_024 {
        session.set(Key::<u64>::new(&number.to_string()), number).unwrap();
    }
    let refused = limit_of(session.set(VISITS, 1));
    insta::assert_snapshot!(refused, @"the number of values exceeds the limit of 1024");
    session.remove(Key::<u64>::new("0")).unwrap();
    session.set(VISITS, 1).unwrap();
    let _ = session.finish().await.unwrap();
}

#[tokio::test]
async fn name_has_at_most_128_bytes() {
    let session = World::new().anonymous().await;
    session.set(Key::<u64>::new(&"n".repeat(128)), 1).unwrap();
    let long = "é".repeat(65);
    let refused = limit_of(session.set(Key::<u64>::new(&long), 1));
    insta::assert_snapshot!(refused, @"the name of a value exceeds the limit of 128");
    let refused = limit_of(session.update(Key::<u64>::new(&long), |_| {}).map(drop));
    insta::assert_snapshot!(refused, @"the name of a value exceeds the limit of 128");
}

#[tokio::test]
async fn owner_has_1_to_256_bytes() {
    let session = World::new().anonymous().await;
    session.authenticate("o".repeat(256)).unwrap();
    let refused = limit_of(session.authenticate("o".repeat(257)));
    insta::assert_snapshot!(refused, @"the owner exceeds the limit of 256");
    let _ = session.finish().await.unwrap();
}

/// The sessions of all forms sent without a name would belong to one user.
#[tokio::test]
async fn empty_owner_is_refused_everywhere() {
    let world = World::new();
    let empty: [session_core::Owner; 3] = ["".into(), String::new().into(), b"".as_slice().into()];
    for owner in empty {
        let session = world.anonymous().await;
        session.set(VISITS, 1).unwrap();
        assert!(matches!(session.authenticate(owner.clone()), Err(SessionError::EmptyOwner)));
        assert_eq!(session.owner(), None);
        let id = told(session.finish().await.unwrap());
        assert_eq!(world.open(&id).await.owner(), None);
        world.store.calls();

        let sessions = &world.sessions;
        assert!(matches!(sessions.list(owner.clone()).await, Err(SessionError::EmptyOwner)));
        let revoked = sessions.revoke(owner.clone(), id.key()).await;
        assert!(matches!(revoked, Err(SessionError::EmptyOwner)));
        let revoked = sessions.revoke_all(owner.clone()).await;
        assert!(matches!(revoked, Err(SessionError::EmptyOwner)));
        assert_eq!(world.store.calls(), []);
    }
}

/// A number is the same owner as its text, but two Unicode forms of one text
/// are two owners.
#[tokio::test]
async fn owner_of_a_number_is_its_text() {
    let world = World::new();
    let id = world.begin(|session| session.authenticate(7_u64)).await;
    assert_eq!(world.open(&id).await.owner_as::<u64>(), Some(7));
    assert_eq!(world.sessions.list("7").await.unwrap().len(), 1);
    let [composed, decomposed] = ["\u{e9}", "e\u{301}"];
    let _ = world.user(composed).await;
    assert_eq!(world.sessions.list(composed).await.unwrap().len(), 1);
    assert_eq!(world.sessions.list(decomposed).await.unwrap().len(), 0);
}

#[tokio::test]
async fn limit_of_zero_allows_nothing() {
    let limits = [
        Limits::default().with_values(0),
        Limits::default().with_value_bytes(0),
        Limits::default().with_session_bytes(0),
    ];
    for limits in limits {
        let world = World::with(|sessions| sessions.with_limits(limits));
        let session = world.anonymous().await;
        limit_of(session.set(VISITS, 1));
        limit_of(session.update(VISITS, |visits| *visits += 1).map(drop));
        let _ = session.finish().await.unwrap();
        assert_eq!(world.store.calls(), []);
    }
}

#[tokio::test]
async fn two_requests_together_exceed_no_limit() {
    let limits = Limits::default().with_values(2);
    let world = World::with(|sessions| sessions.with_limits(limits));
    let id = world.visitor().await;
    let (left, right) = (world.open(&id).await, world.open(&id).await);
    left.set(NOTE, "one more".to_owned()).unwrap();
    right.set(RAW, vec![1]).unwrap();
    let _ = left.finish().await.unwrap();
    limit_of(right.finish().await.map(drop));
    assert_eq!(world.open(&id).await.names(), ["note", "visits"]);
}

#[tokio::test]
async fn session_over_a_lowered_limit_stays_usable() {
    let world = World::new();
    let id = world.visitor().await;
    world.change(&id, |session| session.set(NOTE, "second")).await;
    let limits = Limits::default().with_values(1);
    let strict = World {
        sessions: session_core::Sessions::builder(std::sync::Arc::clone(&world.store))
            .with_clock(std::sync::Arc::clone(&world.clock))
            .with_limits(limits)
            .build()
            .unwrap(),
        ..world
    };
    let session = strict.open(&id).await;
    assert_eq!(session.get(VISITS), Some(1));
    session.remove(NOTE).unwrap();
    session.set(VISITS, 2).unwrap();
    let _ = session.finish().await.unwrap();
    assert_eq!(strict.open(&id).await.get(VISITS), Some(2));
}

/// The session keeps each change until the commit, in order to replay it.
#[tokio::test]
async fn request_has_at_most_8192_uncommitted_changes() {
    let session = World::new().anonymous().await;
    for _ in 0..Limits::CHANGES {
        session.update(VISITS, |visits| *visits += 1).unwrap();
    }
    let refused = limit_of(session.update(VISITS, |visits| *visits += 1).map(drop));
    insta::assert_snapshot!(refused, @"the number of changes of a request exceeds the limit of 8192");
    session.commit().await.unwrap();
    assert_eq!(session.update(VISITS, |visits| *visits += 1).unwrap(), 8_193);
    let _ = session.finish().await.unwrap();
}

/// A login is recorded together with its end, or not at all.
#[tokio::test]
async fn login_needs_room_for_its_end() {
    for has_room in [false, true] {
        let world = World::new();
        let id = world.visitor().await;
        let session = world.open(&id).await;
        let end = world.sessions_now() + Duration::from_secs(60);
        session.end_by(end + Duration::from_secs(60)).unwrap();
        session.end_by(end).unwrap();
        for _ in 2..Limits::CHANGES - usize::from(has_room) {
            session.update(VISITS, |visits| *visits += 1).unwrap();
        }
        let login = session.authenticate("ada");
        if has_room {
            login.unwrap();
        } else {
            limit_of(login);
        }
        let cookie = session.finish().await.unwrap();
        let id = if has_room { told(cookie) } else { id };
        let session = world.open(&id).await;
        assert_eq!(session.owner().is_some(), has_room);
        assert_eq!(session.expires_at(), Some(end));
    }
}

/// A refused login keeps the cookie's unreadable session.
#[tokio::test]
async fn refused_login_ends_no_session() {
    let world = World::new();
    let id = world.visitor().await;
    world.store.fail(Verb::Load, Fault::Before(StoreErrorKind::Corrupt));
    let session = world.open(&id).await;
    for _ in 0..Limits::CHANGES {
        session.update(VISITS, |visits| *visits += 1).unwrap();
    }
    limit_of(session.authenticate("ada"));
    let _ = session.finish().await.unwrap();
    assert!(world.opens(&id).await);
}

/// A request can destroy its session, however many changes it has recorded.
#[tokio::test]
async fn full_log_refuses_every_change_but_destroy() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    for _ in 0..Limits::CHANGES {
        session.update(VISITS, |visits| *visits += 1).unwrap();
    }
    let (now, view) = (world.sessions_now(), format!("{session:?}"));
    let deadline = session.expires_at();
    limit_of(session.end_by(now + Duration::from_secs(1)));
    limit_of(session.renew());
    limit_of(session.rotate());
    limit_of(session.authenticate("ada"));
    limit_of(session.set_lifetime(Lifetime::remember_me()));
    limit_of(session.remove(VISITS));
    limit_of(session.clear());
    assert_eq!(format!("{session:?}"), view);
    assert_eq!((session.expires_at(), session.owner()), (deadline, None));
    session.destroy().unwrap();
    session.set(VISITS, 1).unwrap();
    let new = told(session.finish().await.unwrap());
    assert!(!world.opens(&id).await);
    assert!(world.opens(&new).await);
}

/// I9: a commit is bounded.
#[tokio::test]
async fn commit_gives_up_after_five_seconds() {
    let world = World::new();
    let id = world.visitor().await;
    let (session, other) = (world.open(&id).await, world.open(&id).await);
    session.set(NOTE, "late").unwrap();
    other.set(VISITS, 2).unwrap();
    let clock = std::sync::Arc::clone(&world.clock);
    world.store.before(Verb::Commit, move || async move {
        let _ = other.finish().await.unwrap();
        clock.advance(std::time::Duration::from_secs(6));
    });
    assert!(matches!(session.commit().await, Err(SessionError::Contended)));
}

/// A session stored before the limits were lowered stays usable, and can shrink.
#[tokio::test]
async fn session_over_lowered_limits_can_shrink() {
    let world = World::new();
    let id = world.visitor().await;
    world.change(&id, |session| session.set(NOTE, "x".repeat(1_000))).await;
    let strict = session_core::Sessions::builder(std::sync::Arc::clone(&world.store))
        .with_clock(std::sync::Arc::clone(&world.clock))
        .with_limits(session_core::Limits::default().with_session_bytes(100))
        .build()
        .unwrap();
    let session = strict.open([id.expose().as_bytes()]).await.unwrap();
    session.set(NOTE, "x".repeat(900)).unwrap();
    session.update(VISITS, |visits| *visits += 1).unwrap();
    let _ = session.finish().await.unwrap();
    let session = strict.open([id.expose().as_bytes()]).await.unwrap();
    assert!(matches!(session.set(NOTE, "x".repeat(901)), Err(SessionError::TooLarge { .. })));
}

/// I9: the replay keeps the limit of values in every order: how far beyond the limit?
#[tokio::test]
async fn replays_collect_no_values_beyond_the_limit() {
    let world = World::with(|s| s.with_limits(Limits::default().with_values(10)));
    let id = world.begin(|session| session.set(NOTE, "n".repeat(50_000))).await;
    let mut requests = Vec::new();
    for request in 0..20 {
        let session = world.open(&id).await;
        session.set(NOTE, "n".repeat(40_000 - 1_000 * request)).unwrap();
        for value in 0..9 {
            let name = format!("{request}-{value}");
            session.set(Key::<u64>::new(&name), 1).unwrap();
        }
        requests.push(session);
    }
    for session in requests {
        let _ = session.finish().await;
    }
    let count = world.open(&id).await.names().len();
    assert!(count <= 10, "{count} values");
}
