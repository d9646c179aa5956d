//! A session that is just getting another ID is under two keys, and is one session all the same.

use std::{pin::Pin, sync::Arc, time::Duration};

use session_core::{
    AtLimit, Clock as _, CookieChange, Event, Events, Session, SessionError, SessionId, SessionKey,
    SessionLimit, Sessions, SystemClock,
};

use crate::support::{Fault, Steps, VISITS, Verb, World, interleavings, run, told};

const MINUTE: Duration = Duration::from_secs(60);

fn login(session: &Session) {
    session.authenticate("ada").unwrap();
}

fn renew(session: &Session) {
    session.renew().unwrap();
}

fn world(max: usize, at_limit: AtLimit) -> World {
    let limit = SessionLimit::new(max, at_limit).unwrap();
    World::with(|sessions| sessions.with_session_limit(limit))
}

fn other_process(world: &World, max: usize, at_limit: AtLimit) -> World {
    let limit = SessionLimit::new(max, at_limit).unwrap();
    let sessions = Sessions::new(Arc::clone(&world.store)).with_clock(Arc::clone(&world.clock));
    World {
        store: Arc::clone(&world.store),
        clock: Arc::clone(&world.clock),
        sessions: Arc::new(sessions.with_session_limit(limit)),
    }
}

async fn listed(world: &World) -> Vec<SessionKey> {
    world.sessions.of("ada").await.unwrap().iter().map(|info| info.key()).collect()
}

async fn sign_in(world: &World) -> Result<SessionId, SessionError> {
    let session = world.anonymous().await;
    login(&session);
    session.finish().await.map(told)
}

/// The new record is there, and the tombstone never comes.
async fn break_off(world: &World, id: &SessionId, deed: fn(&Session)) {
    let session = world.open(id).await;
    deed(&session);
    world.store.fail_nth(1, Verb::Commit, Fault::UNSENT);
    world.store.fail_nth(2, Verb::Commit, Fault::UNSENT);
    assert!(session.finish().await.is_err());
}

#[tokio::test]
async fn ending_the_others_spares_the_own_session_under_both_keys() {
    for deed in [login, renew] {
        let world = World::new();
        let (id, other) = (world.user("ada").await, world.user("ada").await);
        let (session, keeps) = (world.open(&id).await, world.open(&id).await);
        deed(&session);
        world.store.before(Verb::Commit, move || async move {
            assert_eq!(keeps.sessions().end_others(&keeps).await.unwrap(), 1);
        });
        let id = told(session.finish().await.unwrap());
        assert!(world.opens(&id).await);
        assert!(!world.opens(&other).await);
    }
}

#[tokio::test]
async fn ending_the_others_ends_those_that_are_getting_another_id() {
    for deed in [login, renew] {
        let world = World::new();
        let (id, other) = (world.user("ada").await, world.user("ada").await);
        let (keeps, session) = (world.open(&id).await, world.open(&other).await);
        deed(&session);
        world.store.before(Verb::Commit, move || async move {
            assert_eq!(keeps.sessions().end_others(&keeps).await.unwrap(), 1);
        });
        assert!(matches!(session.finish().await, Err(SessionError::Ended)));
        assert_eq!(listed(&world).await, [id.key()]);
        assert_eq!(world.count().await, (1, 0));
    }
}

#[tokio::test]
async fn ending_all_ends_both_keys() {
    for deed in [login, renew] {
        let world = World::new();
        let id = world.user("ada").await;
        break_off(&world, &id, deed).await;
        assert_eq!(world.count().await.0, 2);
        assert_eq!(world.sessions.end_all("ada").await.unwrap(), 1);
        assert_eq!(world.count().await.0, 0);
        assert_eq!(world.store.count_entered(world.sessions_now()).await, 0);
    }
}

#[tokio::test]
async fn a_list_has_the_session_once_by_the_key_that_it_has() {
    for deed in [login, renew] {
        let world = World::new();
        let id = world.user("ada").await;
        break_off(&world, &id, deed).await;
        assert_eq!(listed(&world).await, [id.key()]);
        let session = world.open(&id).await;
        deed(&session);
        let id = told(session.finish().await.unwrap());
        assert!(listed(&world).await.contains(&id.key()));
    }
}

#[tokio::test]
async fn the_next_commit_forgets_the_key_before() {
    let world = World::new();
    let id = world.user("ada").await;
    let session = world.open(&id).await;
    renew(&session);
    let id = told(session.finish().await.unwrap());
    let rotated = world.stored(&id).await.unwrap().encode().len();
    let session = world.open(&id).await;
    session.set(VISITS, &2).unwrap();
    session.commit().await.unwrap();
    let committed = world.stored(&id).await.unwrap().encode().len();
    assert_eq!(rotated - committed, "f".len() + 1 + 2 + SessionKey::LEN);
}

/// Merging what others commit meanwhile does not forget it.
#[tokio::test]
async fn a_rotation_that_merges_still_names_the_key_before() {
    let world = World::new();
    let id = world.user("ada").await;
    let (session, writer) = (world.open(&id).await, world.open(&id).await);
    let keeps = world.open(&id).await;
    renew(&session);
    writer.set(VISITS, &5).unwrap();
    // The renewal's tombstone, the writer's commit, the merged record, and the tombstone again.
    world.store.before(Verb::Commit, move || async move { writer.commit().await.unwrap() });
    world.store.before_nth(4, Verb::Commit, move || async move {
        assert_eq!(keeps.sessions().end_others(&keeps).await.unwrap(), 0);
    });
    let id = told(session.finish().await.unwrap());
    assert_eq!(world.open(&id).await.get(VISITS), Some(5));
}

#[tokio::test]
async fn a_login_elsewhere_finds_room_while_a_session_gets_another_id() {
    for at_limit in [AtLimit::Reject, AtLimit::EvictOldest, AtLimit::EvictLeastRecent] {
        for deed in [login, renew] {
            let world = world(2, at_limit);
            let id = sign_in(&world).await.unwrap();
            let session = world.open(&id).await;
            deed(&session);
            let elsewhere = other_process(&world, 2, at_limit);
            world.store.before(Verb::Commit, move || async move {
                sign_in(&elsewhere).await.unwrap();
            });
            let id = told(session.finish().await.unwrap());
            assert!(world.opens(&id).await);
            assert_eq!(world.count().await.0, 2);
            assert_eq!(listed(&world).await.len(), 2);
        }
    }
}

/// One that broke off takes no second place, and goes with the next that does not.
#[tokio::test]
async fn what_broke_off_takes_no_place() {
    for at_limit in [AtLimit::Reject, AtLimit::EvictOldest] {
        for owned in [true, false] {
            let world = world(1, at_limit);
            let id = if owned { sign_in(&world).await.unwrap() } else { world.visitor().await };
            break_off(&world, &id, login).await;
            break_off(&world, &id, login).await;
            let session = world.open(&id).await;
            login(&session);
            let id = told(session.finish().await.unwrap());
            assert_eq!(listed(&world).await, [id.key()]);
            assert_eq!(world.store.count_entered(world.sessions_now()).await, 1);
        }
    }
}

#[tokio::test]
async fn a_session_is_evicted_under_both_keys_and_told_once() {
    let events = Events::with_capacity(100).unwrap();
    let limit = SessionLimit::new(2, AtLimit::EvictOldest).unwrap();
    let world = World::with(|sessions| sessions.with_session_limit(limit).with_events(&events));
    let oldest = sign_in(&world).await.unwrap();
    world.wait(MINUTE);
    let second = sign_in(&world).await.unwrap();
    break_off(&world, &oldest, renew).await;
    while events.try_next().is_some() {}
    let third = sign_in(&world).await.unwrap();
    assert_eq!(events.try_next(), Some(Event::Evicted { key: oldest.key() }));
    assert!(matches!(events.try_next(), Some(Event::Authenticated { .. })));
    assert_eq!(events.try_next(), None);
    assert!(world.opens(&second).await && world.opens(&third).await);
    assert_eq!(world.count().await.0, 2);
    assert_eq!(world.store.count_entered(world.sessions_now()).await, 2);
}

type Request = Pin<Box<dyn Future<Output = Result<CookieChange, SessionError>>>>;

/// Two processes on a store that lets others in before each command.
struct Site {
    store: Arc<Steps>,
    one: Arc<Sessions>,
    other: Arc<Sessions>,
}

impl Site {
    fn new(limit: Option<SessionLimit>) -> Self {
        let store = Arc::new(Steps::default());
        let process = || {
            let sessions = Sessions::new(Arc::clone(&store));
            Arc::new(match limit {
                Some(limit) => sessions.with_session_limit(limit),
                None => sessions,
            })
        };
        Self { one: process(), other: process(), store: Arc::clone(&store) }
    }

    fn visitor(&self) -> SessionId {
        run(async {
            let session = self.one.open([]).await.unwrap();
            session.set(VISITS, &0).unwrap();
            told(session.finish().await.unwrap())
        })
    }

    fn user(&self) -> SessionId {
        run(async {
            let session = self.one.open([]).await.unwrap();
            login(&session);
            told(session.finish().await.unwrap())
        })
    }

    fn opens(&self, id: &SessionId) -> bool {
        run(self.one.open([id.expose().as_bytes()])).unwrap().key().is_some()
    }

    fn counts(&self) -> (usize, usize) {
        let now = SystemClock.now();
        (self.store.live(now).len(), self.store.entered("ada", now).len())
    }
}

fn request(sessions: &Arc<Sessions>, id: Option<&SessionId>, deed: fn(&Session)) -> Request {
    let (sessions, id) = (Arc::clone(sessions), id.cloned());
    Box::pin(async move {
        let session = sessions.open(id.as_ref().map(|id| id.expose().as_bytes())).await?;
        if id.is_none() || session.key().is_some() {
            deed(&session);
        }
        session.finish().await
    })
}

/// A browser whose session gets another ID, and which goes on with that.
fn request_and_next(sessions: &Arc<Sessions>, id: &SessionId, deed: fn(&Session)) -> Request {
    let (first, sessions) = (request(sessions, Some(id), deed), Arc::clone(sessions));
    Box::pin(async move {
        let change = first.await?;
        if let CookieChange::Set { id, .. } = &change {
            let session = sessions.open([id.expose().as_bytes()]).await?;
            session.set(VISITS, &1)?;
            let _ = session.finish().await?;
        }
        Ok(change)
    })
}

fn end_others(sessions: &Arc<Sessions>, id: &SessionId) -> Request {
    let (sessions, id) = (Arc::clone(sessions), id.clone());
    Box::pin(async move {
        let session = sessions.open([id.expose().as_bytes()]).await?;
        sessions.end_others(&session).await?;
        session.finish().await
    })
}

#[test]
fn ending_the_others_spares_the_own_session_in_every_order() {
    for deed in [login, renew] {
        let make = || {
            let site = Site::new(None);
            let (id, _) = (site.user(), site.user());
            let requests = [request_and_next(&site.one, &id, deed), end_others(&site.other, &id)];
            (site, requests)
        };
        interleavings(12, make, |site, [moved, ended], order| {
            let Ok(CookieChange::Set { id, .. }) = &moved else { panic!("{order:?}: {moved:?}") };
            assert!(site.opens(id), "{order:?}: {ended:?}");
        });
    }
}

/// A double click on "sign in" that two processes get: the session goes on under one ID, which one of the
/// two is told.
#[test]
fn two_logins_of_one_session_through_two_processes_keep_it() {
    for at_limit in [AtLimit::Reject, AtLimit::EvictOldest, AtLimit::EvictLeastRecent] {
        for owned in [true, false] {
            let make = || {
                let site = Site::new(Some(SessionLimit::new(1, at_limit).unwrap()));
                let id = if owned { site.user() } else { site.visitor() };
                let requests =
                    [request(&site.one, Some(&id), login), request(&site.other, Some(&id), login)];
                (site, requests)
            };
            interleavings(11, make, |site, answers, order| {
                assert_eq!(site.counts(), (1, 1), "{order:?}: {answers:?}");
                let told = answers.iter().filter(|answer| match answer {
                    Ok(CookieChange::Set { id, .. }) => site.opens(id),
                    Ok(_) => false,
                    Err(error) => panic!("{order:?}: {error}"),
                });
                assert_eq!(told.count(), 1, "{order:?}: {answers:?}");
            });
        }
    }
}

/// Whatever the order, a session that moves and a login elsewhere are two sessions at most, and as many as
/// the limit allows.
#[test]
fn a_login_and_a_session_that_moves_keep_the_limit() {
    for at_limit in [AtLimit::Reject, AtLimit::EvictOldest] {
        for (max, deed) in [(1, login as fn(&Session)), (1, renew), (2, login), (2, renew)] {
            let make = || {
                let site = Site::new(Some(SessionLimit::new(max, at_limit).unwrap()));
                let id = site.user();
                let requests =
                    [request(&site.one, Some(&id), deed), request(&site.other, None, login)];
                (site, requests)
            };
            interleavings(11, make, |site, answers, order| {
                assert_eq!(site.counts(), (max, max), "{order:?}: {answers:?}");
                let refused = |answer: &&Result<_, SessionError>| {
                    matches!(answer, Err(SessionError::TooManySessions { .. }))
                };
                let refused = answers.iter().filter(refused).count();
                let expected = usize::from(max == 1 && at_limit == AtLimit::Reject);
                assert_eq!(refused, expected, "{order:?}: {answers:?}");
            });
        }
    }
}
