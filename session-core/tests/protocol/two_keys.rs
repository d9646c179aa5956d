//! A session in the middle of a move has two keys, and counts as one session.

use std::{pin::Pin, sync::Arc, time::Duration};

use session_core::{
    AtLimit, Clock as _, CookieChange, EventKind, Key, ManualClock, Session, SessionError,
    SessionId, SessionKey, SessionLimit, Sessions, Timestamp,
};

use crate::support::{
    Fault, Look as _, NOTE, Peek as _, Steps, VISITS, Verb, World, interleavings, run, steps, told,
};

const MINUTE: Duration = Duration::from_secs(60);
const CART: Key<Vec<u32>> = Key::new("cart");

type Deed = fn(&Session);

/// All moves of a user's session.
const MOVES: [Deed; 3] = [login, renew, rotate];

fn login(session: &Session) {
    session.authenticate("ada").unwrap();
}

fn renew(session: &Session) {
    session.renew().unwrap();
}

fn rotate(session: &Session) {
    session.rotate().unwrap();
}

fn world(max: usize, at_limit: AtLimit) -> World {
    let limit = SessionLimit::new(max, at_limit).unwrap();
    World::with(|sessions| sessions.with_session_limit(limit))
}

fn other_process(world: &World, max: usize, at_limit: AtLimit) -> World {
    let limit = SessionLimit::new(max, at_limit).unwrap();
    let sessions = Sessions::builder(Arc::clone(&world.store))
        .with_clock(Arc::clone(&world.clock))
        .with_session_limit(limit);
    World {
        store: Arc::clone(&world.store),
        clock: Arc::clone(&world.clock),
        sessions: sessions.build().unwrap(),
    }
}

async fn listed(world: &World) -> Vec<SessionKey> {
    world.sessions.list("ada").await.unwrap().iter().map(|info| info.key()).collect()
}

async fn sign_in(world: &World) -> Result<SessionId, SessionError> {
    let session = world.anonymous().await;
    login(&session);
    session.finish().await.map(told)
}

/// Breaks a move off after its new record is stored, and before its tombstone.
async fn break_off(world: &World, id: &SessionId, deed: Deed) {
    let session = world.open(id).await;
    deed(&session);
    world.store.fail_nth(1, Verb::Commit, Fault::UNSENT);
    world.store.fail_nth(2, Verb::Commit, Fault::UNSENT);
    assert!(session.finish().await.is_err());
}

#[tokio::test]
async fn revoking_the_others_spares_the_own_session_under_both_keys() {
    for deed in MOVES {
        let world = World::new();
        let (id, other) = (world.user("ada").await, world.user("ada").await);
        let (session, keeps) = (world.open(&id).await, world.open(&id).await);
        deed(&session);
        world.store.before(Verb::Commit, move || async move {
            assert_eq!(keeps.sessions().revoke_others(&keeps).await.unwrap(), 1);
        });
        let id = told(session.finish().await.unwrap());
        assert!(world.opens(&id).await);
        assert!(!world.opens(&other).await);
    }
}

#[tokio::test]
async fn revoking_the_others_ends_a_session_that_is_moving() {
    for deed in MOVES {
        let world = World::new();
        let (id, other) = (world.user("ada").await, world.user("ada").await);
        let (keeps, session) = (world.open(&id).await, world.open(&other).await);
        deed(&session);
        world.store.before(Verb::Commit, move || async move {
            assert_eq!(keeps.sessions().revoke_others(&keeps).await.unwrap(), 1);
        });
        assert!(matches!(session.finish().await, Err(SessionError::Ended)));
        assert_eq!(listed(&world).await, [id.key()]);
        assert_eq!(world.count().await.0, 1);
    }
}

#[tokio::test]
async fn revocation_ends_both_keys_and_counts_one_session() {
    for deed in MOVES {
        for by_key in [true, false] {
            let world = World::new();
            let id = world.user("ada").await;
            break_off(&world, &id, deed).await;
            assert_eq!(world.count().await.0, 2);
            let mut events = world.sessions.events();
            if by_key {
                assert!(world.sessions.revoke("ada", id.key()).await.unwrap());
            } else {
                assert_eq!(world.sessions.revoke_all("ada").await.unwrap(), 1);
            }
            let kinds = std::iter::from_fn(|| events.try_next()).map(|event| event.kind);
            assert_eq!(kinds.collect::<Vec<_>>(), [EventKind::Revoked]);
            assert_eq!(world.count().await.0, 0);
            assert_eq!(world.store.count_entered(world.sessions_now()).await, 0);
        }
    }
}

/// The key in the list revokes the session, whichever of its keys the list shows.
#[tokio::test]
async fn list_shows_a_session_under_two_keys_once() {
    for deed in MOVES {
        let world = World::new();
        let id = world.user("ada").await;
        break_off(&world, &id, deed).await;
        let session = world.open(&id).await;
        let list = world.sessions.list("ada").await.unwrap();
        assert_eq!(list.len(), 1);
        assert!(list[0].is(&session), "this device");
        assert!(world.sessions.revoke("ada", list[0].key()).await.unwrap());
        assert_eq!(world.count().await.0, 0);

        let id = world.user("ada").await;
        let id = {
            let session = world.open(&id).await;
            deed(&session);
            told(session.finish().await.unwrap())
        };
        assert_eq!(listed(&world).await, [id.key()]);
    }
}

/// A page may still show the key from before the move.
#[tokio::test]
async fn revocation_by_a_former_key_ends_the_session() {
    for deed in MOVES {
        let world = World::new();
        let former = world.user("ada").await;
        let session = world.open(&former).await;
        deed(&session);
        let id = told(session.finish().await.unwrap());
        assert!(!world.sessions.revoke("eve", former.key()).await.unwrap());
        assert!(world.opens(&id).await);
        assert!(world.sessions.revoke("ada", former.key()).await.unwrap());
        assert!(!world.opens(&id).await);
    }
}

/// A move replays another request's commit, while a third request revokes the others.
#[tokio::test]
async fn move_that_replays_is_still_one_session() {
    for deed in MOVES {
        let world = World::new();
        let id = world.user("ada").await;
        let (session, writer) = (world.open(&id).await, world.open(&id).await);
        let keeps = world.open(&id).await;
        deed(&session);
        writer.set(VISITS, 5).unwrap();
        // The tombstone, the writer's commit, the replayed record, and the tombstone again.
        world.store.before(Verb::Commit, move || async move { writer.commit().await.unwrap() });
        world.store.before_nth(4, Verb::Commit, move || async move {
            assert_eq!(keeps.sessions().revoke_others(&keeps).await.unwrap(), 0);
        });
        let id = told(session.finish().await.unwrap());
        assert_eq!(world.open(&id).await.get(VISITS), Some(5));
        assert_eq!(world.count().await, (1, 1));
    }
}

#[tokio::test]
async fn login_elsewhere_finds_room_while_a_session_moves() {
    for at_limit in [AtLimit::Reject, AtLimit::EvictOldest, AtLimit::EvictLeastRecent] {
        for deed in MOVES {
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

/// The number of broken-off logins of one browser does not matter.
#[tokio::test]
async fn logins_that_broke_off_take_no_second_place() {
    for at_limit in [AtLimit::Reject, AtLimit::EvictOldest] {
        for is_owned in [true, false] {
            let world = world(1, at_limit);
            let id = if is_owned { sign_in(&world).await.unwrap() } else { world.visitor().await };
            break_off(&world, &id, login).await;
            break_off(&world, &id, login).await;
            let session = world.open(&id).await;
            login(&session);
            let id = told(session.finish().await.unwrap());
            assert!(world.opens(&id).await);
            assert_eq!(listed(&world).await.len(), 1);
            assert_eq!(world.sessions.revoke_all("ada").await.unwrap(), 1);
            assert_eq!(world.count().await.0, 0);
            assert_eq!(world.store.count_entered(world.sessions_now()).await, 0);
        }
    }
}

#[tokio::test]
async fn eviction_ends_both_keys_and_reports_one_session() {
    let world = world(2, AtLimit::EvictOldest);
    let oldest = sign_in(&world).await.unwrap();
    world.wait(MINUTE);
    let second = sign_in(&world).await.unwrap();
    break_off(&world, &oldest, renew).await;
    world.wait(MINUTE);
    let mut events = world.sessions.events();
    let third = sign_in(&world).await.unwrap();
    let kinds = std::iter::from_fn(|| events.try_next()).map(|event| event.kind);
    assert_eq!(kinds.collect::<Vec<_>>(), [EventKind::Evicted, EventKind::Authenticated]);
    assert!(world.opens(&second).await && world.opens(&third).await);
    assert!(!world.opens(&oldest).await);
    assert_eq!(world.count().await.0, 2);
    assert_eq!(world.store.count_entered(world.sessions_now()).await, 2);
}

// Every order of the commands of two requests.

type Answer = Result<CookieChange, SessionError>;
type Request = Pin<Box<dyn Future<Output = Answer>>>;

/// Two processes on a store that lets other requests in before each command.
struct Site {
    store: Arc<Steps>,
    clock: Arc<ManualClock>,
    one: Sessions,
    other: Sessions,
}

impl Site {
    fn new(limit: Option<SessionLimit>) -> Self {
        let store = Arc::new(steps());
        let clock = Arc::new(ManualClock::new(Timestamp::from_secs(1_700_000_000)));
        let process = || {
            let sessions = Sessions::builder(Arc::clone(&store)).with_clock(Arc::clone(&clock));
            match limit {
                Some(limit) => sessions.with_session_limit(limit).build().unwrap(),
                None => sessions.build().unwrap(),
            }
        };
        Self { one: process(), other: process(), store, clock }
    }

    fn visitor(&self) -> SessionId {
        self.begin(|session| session.set(CART, &[1, 2][..]).unwrap())
    }

    fn user(&self) -> SessionId {
        self.begin(login)
    }

    /// Begins a session, with its last use a moment ago.
    fn begin(&self, deed: Deed) -> SessionId {
        let id = run(async {
            let session = self.one.open([]).await.unwrap();
            deed(&session);
            told(session.finish().await.unwrap())
        });
        self.clock.advance(Duration::from_secs(1));
        id
    }

    fn open(&self, id: &SessionId) -> Session {
        run(self.one.open([id.expose().as_bytes()])).unwrap()
    }

    fn opens(&self, id: &SessionId) -> bool {
        self.open(id).key().is_some()
    }

    /// Returns the numbers of live sessions and of entries in the index.
    fn counts(&self) -> (usize, usize) {
        let now = self.clock.now();
        (self.store.live(now).len(), self.store.entered("ada", now).len())
    }

    fn list(&self) -> Vec<SessionKey> {
        run(self.one.list("ada")).unwrap().iter().map(|info| info.key()).collect()
    }
}

/// Runs an operation on the session of a cookie, if the cookie opens a session.
fn request(sessions: &Sessions, id: Option<&SessionId>, deed: Deed) -> Request {
    let (sessions, id) = (sessions.clone(), id.cloned());
    Box::pin(async move {
        let session = sessions.open(id.as_ref().map(|id| id.expose().as_bytes())).await?;
        if id.is_none() || session.key().is_some() {
            deed(&session);
        }
        session.finish().await
    })
}

/// Gives a browser's session another ID, and goes on under the new ID.
fn request_and_next(sessions: &Sessions, id: &SessionId, deed: Deed) -> Request {
    let (first, sessions) = (request(sessions, Some(id), deed), sessions.clone());
    Box::pin(async move {
        let change = first.await?;
        if let CookieChange::Set { id, .. } = &change {
            let session = sessions.open([id.expose().as_bytes()]).await?;
            session.set(VISITS, 1)?;
            let _ = session.finish().await?;
        }
        Ok(change)
    })
}

fn revoke_others(sessions: &Sessions, id: &SessionId) -> Request {
    let (sessions, id) = (sessions.clone(), id.clone());
    Box::pin(async move {
        let session = sessions.open([id.expose().as_bytes()]).await?;
        sessions.revoke_others(&session).await?;
        session.finish().await
    })
}

/// Runs a request of the sign-in page, whether or not its cookie opens a session.
fn click(sessions: &Sessions, id: &SessionId, deed: Deed) -> Request {
    let (sessions, id) = (sessions.clone(), id.clone());
    Box::pin(async move {
        let session = sessions.open([id.expose().as_bytes()]).await?;
        deed(&session);
        session.finish().await
    })
}

#[test]
fn revoking_the_others_spares_the_own_session_in_every_order() {
    for deed in MOVES {
        let make = || {
            let site = Site::new(None);
            let (id, _) = (site.user(), site.user());
            let requests =
                [request_and_next(&site.one, &id, deed), revoke_others(&site.other, &id)];
            (site, requests)
        };
        interleavings(12, make, |site, [moved, ended], order| {
            let Ok(CookieChange::Set { id, .. }) = &moved else { panic!("{order:?}: {moved:?}") };
            assert!(site.opens(id), "{order:?}: {ended:?}");
        });
    }
}

/// A double click on "sign in": both requests carry the visitor's cookie, and the browser keeps the
/// last answer, in any order.
#[test]
fn double_click_on_sign_in_leaves_one_session_in_every_order() {
    let first: Deed = |session| {
        session.set(VISITS, 1).unwrap();
        login(session);
    };
    let second: Deed = |session| {
        login(session);
        session.set(NOTE, "second").unwrap();
    };
    for (two_processes, limit) in [
        (false, None),
        (true, None),
        (true, Some(AtLimit::Reject)),
        (true, Some(AtLimit::EvictOldest)),
    ] {
        let make = || {
            let limit = limit.map(|at_limit| SessionLimit::new(1, at_limit).unwrap());
            let site = Site::new(limit);
            let id = site.visitor();
            let other = if two_processes { &site.other } else { &site.one };
            let clicks = [click(&site.one, &id, first), click(other, &id, second)];
            ((site, id), clicks)
        };
        interleavings(11, make, |(site, former), answers, order| {
            let order = format!("{order:?} {limit:?}: {answers:?}");
            for answer in &answers {
                let Ok(CookieChange::Set { id, .. }) = answer else { panic!("{order}") };
                let session = site.open(id);
                assert_eq!(session.owner(), Some("ada".into()), "{order}");
                assert_eq!(session.get(CART), Some(vec![1, 2]), "{order}");
                assert_eq!(session.get(VISITS), Some(1), "{order}");
                assert_eq!(session.get(NOTE).as_deref(), Some("second"), "{order}");
            }
            assert!(!site.opens(&former), "{order}");
            assert_eq!(site.counts(), (1, 1), "{order}");
            assert_eq!(site.list().len(), 1, "{order}");
        });
    }
}

/// The clicks sign in different users: a user never gets a value of the other user.
#[test]
fn concurrent_logins_of_two_users_share_nothing_in_any_order() {
    let ada: Deed = |session| {
        session.set(VISITS, 1).unwrap();
        login(session);
    };
    let eve: Deed = |session| {
        session.set(NOTE, "eve's").unwrap();
        session.authenticate("eve").unwrap();
    };
    let make = || {
        let site = Site::new(None);
        let id = site.visitor();
        let clicks = [click(&site.one, &id, ada), click(&site.other, &id, eve)];
        (site, clicks)
    };
    interleavings(11, make, |site, answers, order| {
        let mut keys = Vec::new();
        for (answer, owner) in answers.iter().zip(["ada", "eve"]) {
            let id = match answer {
                Ok(CookieChange::Set { id, .. }) => id,
                Err(SessionError::Ended) => continue,
                other => panic!("{order:?}: {other:?}"),
            };
            let session = site.open(id);
            assert_eq!(session.owner(), Some(owner.into()), "{order:?}");
            let foreign = if owner == "ada" { "note" } else { "visits" };
            assert!(!session.names().iter().any(|name| name == foreign), "{order:?}");
            keys.push(session.key());
        }
        assert!(!keys.is_empty(), "{order:?}: one of them signs in");
        assert_eq!(site.counts().0, keys.len(), "{order:?}");
    });
}

/// On a user's session, only one of two concurrent logins counts, and the other receives no ID.
#[test]
fn two_logins_on_a_users_session_keep_one_in_every_order() {
    for at_limit in [None, Some(AtLimit::Reject), Some(AtLimit::EvictOldest)] {
        let make = || {
            let limit = at_limit.map(|at_limit| SessionLimit::new(1, at_limit).unwrap());
            let site = Site::new(limit);
            let id = site.user();
            let requests =
                [request(&site.one, Some(&id), login), request(&site.other, Some(&id), login)];
            (site, requests)
        };
        interleavings(11, make, |site, answers, order| {
            assert_eq!(site.counts(), (1, 1), "{order:?}: {answers:?}");
            let told = answers.iter().filter(|answer| match answer {
                Ok(CookieChange::Set { id, .. }) => site.opens(id),
                Ok(_) | Err(SessionError::Ended) => false,
                Err(error) => panic!("{order:?}: {error}"),
            });
            assert_eq!(told.count(), 1, "{order:?}: {answers:?}");
        });
    }
}

/// In every order, a move and a login elsewhere keep the limit, and one of the two sessions stays
/// signed in.
#[test]
fn login_beside_a_move_keeps_the_limit_in_every_order() {
    for at_limit in [AtLimit::Reject, AtLimit::EvictOldest] {
        for (max, deed) in [(1, login as Deed), (1, renew), (1, rotate), (2, login), (2, renew)] {
            let make = || {
                let site = Site::new(Some(SessionLimit::new(max, at_limit).unwrap()));
                let id = site.user();
                let requests =
                    [request(&site.one, Some(&id), deed), request(&site.other, None, login)];
                (site, requests)
            };
            interleavings(11, make, |site, answers, order| {
                let order = format!("{order:?} {at_limit:?} {max}: {answers:?}");
                let (live, entered) = site.counts();
                assert_eq!((live, site.list().len()), (max, max), "{order}");
                assert!(entered >= live, "{order}");
                let told = answers.iter().filter(|answer| match answer {
                    Ok(CookieChange::Set { id, .. }) => site.opens(id),
                    Err(SessionError::TooManySessions { .. }) => {
                        assert!((max, at_limit) == (1, AtLimit::Reject), "{order}");
                        false
                    }
                    Ok(_) | Err(SessionError::Ended | SessionError::Contended) => {
                        assert!((max, at_limit) == (1, AtLimit::EvictOldest), "{order}");
                        false
                    }
                    Err(error) => panic!("{order}: {error}"),
                });
                let told = told.count();
                assert!(told <= max, "{order}");
                assert!(told == max || at_limit == AtLimit::Reject, "{order}");
            });
        }
    }
}
