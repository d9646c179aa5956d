//! I5: the user acts until the end of the time, and the actor's login stays or ends with it.

use std::{sync::Arc, time::Duration};

use session_core::{AtLimit, CookieChange, Lifetime, Session, SessionError, SessionLimit};

use super::{act, acting, finish, names, seen, some};
use crate::support::{DAY, HOUR, MINUTE, SECOND, Verb, World, keys};

/// The impersonation ends after its time, whatever its lifetime, and never after the login of the actor.
#[tokio::test]
async fn impersonation_ends_in_time_and_with_the_login() {
    let long = Lifetime::aal1();
    for (time, end) in
        [(HOUR / 2, HOUR / 2), (400 * DAY, Session::MAX_ACTING), (11 * HOUR, 11 * HOUR)]
    {
        let world = World::with_lifetime(long);
        let login = world.user("ada").await;
        let id = world.moved(&login, |session| session.act_as("grace", time)).await;
        world.change(&id, |session| session.set_lifetime(Lifetime::remember_me())).await;
        world.wait(end - SECOND);
        assert!(world.opens(&id).await);
        world.wait(SECOND);
        assert!(!world.opens(&id).await);
        assert_eq!(world.count().await.0, 0, "the login has ended too");
    }
    let world = World::with_lifetime(Lifetime::new(HOUR, HOUR).unwrap());
    let login = world.user("ada").await;
    world.wait(HOUR / 2);
    let id = world.moved(&login, |session| session.act_as("grace", HOUR)).await;
    world.change(&id, |session| session.set_lifetime(Lifetime::remember_me())).await;
    world.wait(HOUR / 2);
    assert!(!world.opens(&id).await);
}

/// The login begins at its commit, and the impersonation of the same request ends with it.
#[tokio::test]
async fn impersonation_that_begins_with_the_login_ends_with_it() {
    let world = World::with_lifetime(Lifetime::new(HOUR, HOUR).unwrap());
    let session = world.anonymous().await;
    session.authenticate("ada").unwrap();
    session.act_as("grace", Session::MAX_ACTING).unwrap();
    world.wait(HOUR / 2);
    let begin = world.sessions_now();
    let id = finish(session).await;
    assert_eq!(world.open(&id).await.expires_at(), Some(begin + HOUR));
    let back = world.moved(&id, Session::stop_acting).await;
    assert_eq!(world.open(&back).await.expires_at(), Some(begin + HOUR));
}

/// Calls of `act_as` that are over before their commit.
const LATE: [fn(&World, &Session); 3] = [
    |_, session| session.act_as("grace", Duration::ZERO).unwrap(),
    |world, session| {
        session.act_as("grace", MINUTE).unwrap();
        world.wait(MINUTE);
    },
    |world, session| {
        act(session).unwrap();
        session.end_by(world.sessions_now()).unwrap();
    },
];

/// The actor is not signed out.
#[tokio::test]
async fn impersonation_that_is_over_before_its_commit_is_not_stored() {
    for record in LATE {
        let world = World::new();
        let login = world.user("ada").await;
        let mut events = world.sessions.events();
        let session = world.open(&login).await;
        record(&world, &session);
        assert!(matches!(session.finish().await, Err(SessionError::Ended)));
        assert_eq!(names(&world.open(&login).await), some(["ada", ""]));
        assert_eq!(world.entered("ada").await, keys(&[&login]));
        assert_eq!((world.count_entered().await, seen(&mut events)), (1, vec![]));
    }
}

/// An end that the request sets for its own login after it went back ends the login.
#[tokio::test]
async fn end_in_the_past_after_the_way_back_ends_the_login() {
    let world = World::new();
    let (id, _) = acting(&world).await;
    let session = world.open(&id).await;
    session.stop_acting().unwrap();
    session.end_by(world.sessions_now()).unwrap();
    assert!(matches!(session.finish().await, Err(SessionError::Ended)));
    assert!(!world.opens(&id).await);
    assert_eq!(world.count_entered().await, 0);
}

/// An end and a lifetime that are set during an impersonation shorten it only.
#[tokio::test]
async fn end_during_an_impersonation_only_shortens_the_impersonation() {
    let world = World::new();
    for (end, expected) in [(HOUR / 4, HOUR / 4), (HOUR, HOUR / 2)] {
        let (id, _) = acting(&world).await;
        let begin = world.sessions_now();
        world
            .change(&id, |session| {
                session.set_lifetime(Lifetime::remember_me())?;
                session.end_by(begin + end)
            })
            .await;
        assert_eq!(world.open(&id).await.expires_at(), Some(begin + expected));
        let back = world.moved(&id, Session::stop_acting).await;
        let session = world.open(&back).await;
        assert_eq!(session.lifetime(), Lifetime::default());
        assert_eq!(session.expires_at(), Some(begin + Lifetime::default().idle()));

        let (id, _) = acting(&world).await;
        world.change(&id, |session| session.end_by(world.sessions_now() + end)).await;
        world.wait(expected);
        assert!(!world.opens(&id).await, "nobody is signed in after the end of the impersonation");
    }
}

/// The owner and the actor are the same as before.
#[tokio::test]
async fn second_impersonation_over_before_its_commit_is_not_stored() {
    for record in LATE {
        let world = World::new();
        let (id, _) = acting(&world).await;
        let session = world.open(&id).await;
        session.stop_acting().unwrap();
        record(&world, &session);
        assert!(matches!(session.finish().await, Err(SessionError::Ended)));
        assert_eq!(names(&world.open(&id).await), some(["grace", "ada"]));
        let back = world.moved(&id, Session::stop_acting).await;
        assert_eq!(names(&world.open(&back).await), some(["ada", ""]));
    }
}

/// The store is slow: the deadline passes between the new record and the tombstone.
#[tokio::test]
async fn login_that_ends_while_it_is_stored_leaves_the_session_before() {
    let changes: [fn(&World, &Session); 3] = [
        |_, session| session.act_as("grace", SECOND).unwrap(),
        |_, session| {
            session.stop_acting().unwrap();
            session.act_as("grace", SECOND).unwrap();
        },
        |world, session| {
            session.authenticate("linus").unwrap();
            session.end_by(world.sessions_now() + SECOND).unwrap();
        },
    ];
    for change in changes {
        let world = World::new();
        let login = world.user("ada").await;
        let mut events = world.sessions.events();
        let session = world.open(&login).await;
        change(&world, &session);
        let clock = Arc::clone(&world.clock);
        world.store.before(Verb::CreateEntered, || async move { clock.advance(SECOND) });
        assert!(matches!(session.finish().await, Err(SessionError::Ended)));
        assert_eq!(names(&world.open(&login).await), some(["ada", ""]));
        assert_eq!(world.entered("ada").await, keys(&[&login]));
        assert_eq!((world.count().await, world.count_entered().await), ((1, 0), 1));
        assert_eq!(seen(&mut events), vec![]);
    }
}

/// A login that is over leaves the other sessions of the user.
#[tokio::test]
async fn login_that_ends_while_it_is_stored_evicts_nobody() {
    let limit = SessionLimit::new(1, AtLimit::EvictOldest).unwrap();
    for has_session in [true, false] {
        let world = World::with(|sessions| sessions.with_session_limit(limit));
        let phone = world.user("ada").await;
        let session = match has_session {
            true => world.open(&world.visitor().await).await,
            false => world.anonymous().await,
        };
        session.authenticate("ada").unwrap();
        session.end_by(world.sessions_now() + SECOND).unwrap();
        let clock = Arc::clone(&world.clock);
        world.store.before(Verb::CreateEntered, || async move { clock.advance(SECOND) });
        assert!(matches!(session.finish().await, Err(SessionError::Ended)));
        assert!(world.opens(&phone).await);
        assert_eq!(world.entered("ada").await, keys(&[&phone]));
    }
}

/// An application may set its lifetime in each request.
#[tokio::test]
async fn lifetime_that_is_set_again_while_a_user_acts_costs_no_write() {
    let world = World::new();
    let (id, _) = acting(&world).await;
    world.change(&id, |session| session.set_lifetime(Lifetime::remember_me())).await;
    world.store.calls();
    let session = world.open(&id).await;
    session.set_lifetime(Lifetime::remember_me()).unwrap();
    assert!(matches!(session.finish().await.unwrap(), CookieChange::Keep));
    assert_eq!(world.store.calls().len(), 1, "the load");
}

/// Otherwise an abandoned browser would come back to the login long after the idle time.
#[tokio::test]
async fn lifetime_while_a_user_acts_leaves_the_idle_time_of_the_login() {
    let world = World::new();
    let login = world.user("ada").await;
    let id = world
        .moved(&login, |session| {
            session.act_as("grace", Session::MAX_ACTING)?;
            session.set_lifetime(Lifetime::remember_me())
        })
        .await;
    world.change(&id, |session| session.set_lifetime(Lifetime::remember_me())).await;
    let session = world.open(&id).await;
    let idle = Lifetime::default().idle();
    assert_eq!(session.lifetime().idle(), idle);
    assert_eq!(session.expires_at(), Some(world.sessions_now() + idle));
    world.wait(idle);
    assert!(!world.opens(&id).await);

    let login = world.user("ada").await;
    let id = world.moved(&login, act).await;
    world.change(&id, |session| session.set_lifetime(Lifetime::strict())).await;
    world.wait(Lifetime::strict().idle());
    assert!(!world.opens(&id).await, "a shorter idle time counts");
}
