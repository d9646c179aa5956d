//! Acting as a user: the actor stays known, and goes back to the own login.

mod ends;
mod races;

use session_core::{
    AtLimit, CookieChange, Entry, Event, EventKind, Events, Key, Lifetime, Limits, Raw, Session,
    SessionError, SessionId, SessionStore as _, Timestamp, envelope,
};

use crate::support::{
    DAY, HOUR, MINUTE, NOTE, Peek as _, SECOND, VISITS, Verb, World, finish, keys, told,
};

/// Returns the ID of `ada`, who acts as `grace`, and the ID of her login before.
async fn acting(world: &World) -> (SessionId, SessionId) {
    let login = world.user("ada").await;
    let id = world.moved(&login, act).await;
    world.store.calls();
    (id, login)
}

fn act(session: &Session) -> Result<(), SessionError> {
    session.act_as("grace", HOUR / 2)
}

type Move = fn(&Session) -> Result<(), SessionError>;

fn names(session: &Session) -> [Option<String>; 2] {
    [session.owner(), session.actor()]
        .map(|owner| owner.and_then(|owner| owner.as_str().map(str::to_owned)))
}

fn some(names: [&str; 2]) -> [Option<String>; 2] {
    names.map(|name| (!name.is_empty()).then(|| name.to_owned()))
}

#[tokio::test]
async fn impersonation_has_a_fresh_id_no_values_and_both_users() {
    let world = World::new();
    let (id, login) = acting(&world).await;
    assert!(!world.opens(&login).await, "the former ID is closed");
    let session = world.open(&id).await;
    assert_eq!(names(&session), some(["grace", "ada"]));
    assert_eq!((session.get(VISITS), session.authenticated_at()), (None, None));
}

#[tokio::test]
async fn stop_acting_restores_the_login_under_a_fresh_id() {
    let world = World::new();
    let login = world
        .begin(|session| {
            session.authenticate("ada")?;
            session.set(NOTE, "of ada".to_owned())?;
            session.set_lifetime(Lifetime::strict())?;
            session.end_by(world.sessions_now() + 5 * HOUR)?;
            session.link("sid", "1")
        })
        .await;
    let before = world.open(&login).await;
    let acting = world.moved(&login, act).await;
    world
        .change(&acting, |session| {
            session.set(NOTE, "of grace".to_owned())?;
            session.set(VISITS, 7)?;
            session.set_lifetime(Lifetime::aal1())?;
            session.end_by(world.sessions_now() + HOUR / 3)
        })
        .await;
    world.wait(MINUTE);
    let back = world.moved(&acting, Session::stop_acting).await;
    assert!(!world.opens(&acting).await && !world.opens(&login).await);
    let session = world.open(&back).await;
    assert_eq!(names(&session), some(["ada", ""]));
    assert_eq!((session.get(NOTE).as_deref(), session.get(VISITS)), (Some("of ada"), None));
    assert_eq!(session.lifetime(), Lifetime::strict());
    assert_eq!(session.authenticated_at(), before.authenticated_at());
    assert_eq!(session.created_at(), before.created_at());
    world.wait(HOUR / 6);
    world.change(&back, |session| session.set(VISITS, 1)).await;
    assert_eq!(world.linked().await, keys(&[&back]));
    assert_eq!(world.listed("grace").await, []);
    assert_eq!(world.count_entered().await, 2, "the owner and the link");
}

/// The login and the impersonation of one browser may have the same link.
#[tokio::test]
async fn link_of_both_is_entered_once() {
    let world = World::new();
    let login = world.linked_user("ada").await;
    let id = world
        .moved(&login, |session| {
            act(session)?;
            session.link("sid", "1")
        })
        .await;
    let session = world.open(&id).await;
    session.rotate().unwrap();
    world.store.calls();
    let id = told(session.finish().await.unwrap());
    let left = [Verb::Leave, Verb::Leave, Verb::Leave];
    assert_eq!(world.store.calls(), [&[Verb::CreateEntered, Verb::Commit][..], &left].concat());
    assert_eq!(world.linked().await, keys(&[&id]));
    let back = world.moved(&id, Session::stop_acting).await;
    assert_eq!(world.linked().await, keys(&[&back]));
}

#[tokio::test]
async fn revocation_of_either_user_ends_the_impersonation() {
    for revoked in ["ada", "grace"] {
        for one in [true, false] {
            let world = World::new();
            let (id, _) = acting(&world).await;
            let under_way = world.open(&id).await;
            under_way.set(VISITS, 2).unwrap();
            for user in ["ada", "grace"] {
                assert_eq!(world.listed(user).await, keys(&[&id]));
            }
            let other = world.other_process();
            let count = match one {
                true => usize::from(other.sessions.revoke(revoked, id.key()).await.unwrap()),
                false => other.sessions.revoke_all(revoked).await.unwrap(),
            };
            assert_eq!(count, 1);
            assert!(!world.opens(&id).await);
            assert!(matches!(under_way.finish().await, Err(SessionError::Ended)));
            assert_eq!(world.count_entered().await, 0, "the session leaves both indexes");
        }
    }
}

/// An identity provider ends the session of the actor.
#[tokio::test]
async fn link_of_the_actor_ends_the_impersonation() {
    let world = World::new();
    let login = world.linked_user("ada").await;
    let id = world.moved(&login, act).await;
    assert_eq!(world.sessions.revoke_linked("sid", "1").await.unwrap(), 1);
    assert!(!world.opens(&id).await);
    assert_eq!(world.count_entered().await, 0);
}

#[tokio::test]
async fn revocation_of_the_user_spares_the_actor_who_went_back() {
    let world = World::new();
    let (id, _) = acting(&world).await;
    let stale = id.key();
    let back = world.moved(&id, Session::stop_acting).await;
    assert!(!world.sessions.revoke("grace", stale).await.unwrap());
    assert_eq!(world.sessions.revoke_all("grace").await.unwrap(), 0);
    assert!(world.opens(&back).await);
    assert_eq!(world.sessions.revoke_all("ada").await.unwrap(), 1);
}

#[tokio::test]
async fn impersonation_is_never_fresh() {
    let world = World::new();
    let (id, _) = acting(&world).await;
    let session = world.open(&id).await;
    for user in ["ada", "grace"] {
        assert!(matches!(session.reauthenticate(user), Err(SessionError::Acting)));
    }
    assert!(matches!(session.require_fresh(DAY), Err(SessionError::Acting)));
    session.stop_acting().unwrap();
    session.require_fresh(DAY).unwrap();
    session.act_as("grace", HOUR).unwrap();
    assert!(matches!(session.require_fresh(DAY), Err(SessionError::Acting)));
}

#[tokio::test]
async fn only_a_signed_in_user_acts_and_as_one_at_a_time() {
    let world = World::new();
    let (acting, _) = acting(&world).await;
    let cases = [
        (world.anonymous().await, "grace"),
        (world.open(&world.visitor().await).await, "grace"),
        (world.open(&world.user("ada").await).await, "ada"),
        (world.open(&acting).await, "linus"),
        (world.open(&acting).await, "ada"),
    ];
    for (session, user) in cases {
        let before = names(&session);
        let error = session.act_as(user, HOUR).unwrap_err();
        match session.actor() {
            Some(_) => assert!(matches!(error, SessionError::Acting)),
            None => assert!(matches!(error, SessionError::CannotAct)),
        }
        assert_eq!(names(&session), before);
        assert!(matches!(session.finish().await.unwrap(), CookieChange::Keep));
    }
    let session = world.open(&world.user("ada").await).await;
    assert!(matches!(session.act_as("", HOUR), Err(SessionError::EmptyOwner)));
    session.stop_acting().unwrap();
    assert!(matches!(session.finish().await.unwrap(), CookieChange::Keep), "nobody acts");
}

#[tokio::test]
async fn login_within_an_impersonation_ends_it() {
    for user in ["linus", "grace", "ada"] {
        let world = World::new();
        let (id, _) = acting(&world).await;
        world.change(&id, |session| session.set(VISITS, 7)).await;
        let new = world.login(&id, user).await;
        let session = world.open(&new).await;
        assert_eq!(names(&session), some([user, ""]));
        assert_eq!(session.get(VISITS), None, "neither the values of ada nor those of grace");
        session.require_fresh(MINUTE).unwrap();
        assert_eq!(session.lifetime(), Lifetime::default());
        assert!(session.expires_at() > Some(world.sessions_now() + HOUR / 2));
        for other in ["ada", "grace", "linus"] {
            let expected = if other == user { keys(&[&new]) } else { Vec::new() };
            assert_eq!(world.entered(other).await, expected);
        }
    }
}

#[tokio::test]
async fn logout_within_an_impersonation_ends_both_logins() {
    let world = World::new();
    let (id, _) = acting(&world).await;
    world.log_out(&id).await;
    assert_eq!(world.count().await.0, 0);
    assert_eq!(world.count_entered().await, 0);
}

#[tokio::test]
async fn impersonation_takes_no_place_of_the_user() {
    for at_limit in [AtLimit::Reject, AtLimit::EvictOldest, AtLimit::EvictLeastRecent] {
        let world = World::limited(1, at_limit);
        let grace = world.user("grace").await;
        let (id, _) = acting(&world).await;
        assert!(world.opens(&grace).await, "nobody is evicted");
        world.log_out(&grace).await;
        world.wait(SECOND);
        let grace = world.user("grace").await;
        assert!(world.opens(&grace).await && world.opens(&id).await);
    }
}

/// The actor keeps one place, and a later login of the actor elsewhere evicts the impersonation.
#[tokio::test]
async fn impersonation_has_the_place_of_the_actor() {
    let world = World::limited(1, AtLimit::EvictOldest);
    let (id, _) = acting(&world).await;
    let back = world.moved(&id, Session::stop_acting).await;
    let id = world.moved(&back, act).await;
    world.wait(SECOND);
    let elsewhere = world.user("ada").await;
    assert!(!world.opens(&id).await && world.opens(&elsewhere).await);
    assert_eq!(world.count_entered().await, 1);

    let world = World::limited(1, AtLimit::Reject);
    acting(&world).await;
    let session = world.anonymous().await;
    session.authenticate("ada").unwrap();
    assert!(matches!(session.finish().await, Err(SessionError::TooManySessions { .. })));
}

#[tokio::test]
async fn events_name_both_users() {
    let world = World::new();
    let mut events = world.sessions.events();
    let (id, _) = acting(&world).await;
    let id = world.rotate(&id).await;
    let back = world.moved(&id, Session::stop_acting).await;
    let id = world.moved(&back, act).await;
    assert_eq!(world.sessions.revoke_all("grace").await.unwrap(), 1);
    let (other, _) = acting(&world).await;
    world.log_out(&other).await;
    let expected = [
        (EventKind::Authenticated, ["ada", ""]),
        (EventKind::ActingStarted, ["grace", "ada"]),
        (EventKind::Rotated, ["grace", "ada"]),
        (EventKind::ActingStopped, ["grace", "ada"]),
        (EventKind::ActingStarted, ["grace", "ada"]),
        (EventKind::Revoked, ["grace", "ada"]),
        (EventKind::Authenticated, ["ada", ""]),
        (EventKind::ActingStarted, ["grace", "ada"]),
        (EventKind::Destroyed, ["grace", "ada"]),
    ];
    assert_eq!(seen(&mut events), expected.map(|(kind, names)| (kind, some(names))));
    let list = world.sessions.list("ada").await.unwrap();
    assert!(list.is_empty() && !world.opens(&id).await);
}

fn seen(events: &mut Events) -> Vec<(EventKind, [Option<String>; 2])> {
    let names = |event: &Event| {
        [&event.owner, &event.actor]
            .map(|user| user.as_ref().and_then(|user| user.as_str().map(str::to_owned)))
    };
    std::iter::from_fn(|| events.try_next()).map(|event| (event.kind, names(&event))).collect()
}

#[tokio::test]
async fn list_and_view_show_the_actor() {
    let world = World::new();
    let (id, _) = acting(&world).await;
    let session = world.open(&id).await;
    session
        .try_update(NOTE, |note, view| {
            let names = [view.owner(), view.actor()];
            *note = format!("{:?}", names.map(|user| user.and_then(|user| user.as_str())));
            Ok::<_, SessionError>(())
        })
        .unwrap();
    assert_eq!(session.get(NOTE).as_deref(), Some(r#"[Some("grace"), Some("ada")]"#));
    let list = world.sessions.list("grace").await.unwrap();
    let [info] = &list[..] else { panic!("{list:?}") };
    let names = [info.owner(), info.actor()].map(|user| user.and_then(|user| user.as_str()));
    assert_eq!(names, [Some("grace"), Some("ada")]);
}

/// I12: each transition costs the commands of a login again, and one entry more.
#[tokio::test]
async fn impersonation_costs_as_much_as_a_login() {
    let world = World::new();
    let (id, _) = acting(&world).await;
    let session = world.open(&id).await;
    session.stop_acting().unwrap();
    world.store.calls();
    told(session.finish().await.unwrap());
    let calls = world.store.calls();
    assert_eq!(calls, [Verb::CreateEntered, Verb::Commit, Verb::Leave, Verb::Leave]);
}

/// A login that acts in the same request is stored as one session.
#[tokio::test]
async fn login_and_impersonation_in_one_request() {
    let world = World::new();
    let id = world
        .begin(|session| {
            session.authenticate("ada")?;
            world.wait(SECOND);
            act(session)
        })
        .await;
    assert_eq!(names(&world.open(&id).await), some(["grace", "ada"]));
    let back = world.moved(&id, Session::stop_acting).await;
    let session = world.open(&back).await;
    assert_eq!(names(&session), some(["ada", ""]));
    let begin = session.created_at().map(Timestamp::as_millis);
    assert_eq!(begin, Some(world.sessions_now().as_millis()));
    assert_eq!(world.store.peek_all(world.sessions_now()).await.len(), 2, "and one tombstone");
}

/// I9: the values of the login and those of the user each have the limits of a session.
#[tokio::test]
async fn replay_checks_the_limits_of_the_login_before_act_as() {
    let world = World::with(|sessions| sessions.with_limits(small()));
    let login = world.user("ada").await;
    let session = world.open(&login).await;
    session.set(LARGE, vec![0; 600]).unwrap();
    act(&session).unwrap();
    world.change(&login, |session| session.set(OTHER, vec![0; 600])).await;
    assert!(matches!(session.finish().await, Err(SessionError::TooLarge { .. })));
    assert_eq!(names(&world.open(&login).await), some(["ada", ""]));
}

/// The limits were lowered after the login.
#[tokio::test]
async fn replay_goes_back_to_a_login_above_the_limits() {
    let world = World::new();
    let login = world.user("ada").await;
    world.change(&login, |session| session.set(LARGE, vec![0; 1_200])).await;
    let world = world.other_process_with(|sessions| sessions.with_limits(small()));
    let id = world.moved(&login, act).await;
    let session = world.open(&id).await;
    session.stop_acting().unwrap();
    world.change(&id, |session| session.set(NOTE, "concurrent".to_owned())).await;
    let back = finish(session).await;
    assert_eq!(world.open(&back).await.get(LARGE).map(|value| value.len()), Some(1_200));
}

const LARGE: Key<Vec<u8>, Raw> = Key::new("large");
const OTHER: Key<Vec<u8>, Raw> = Key::new("other");

fn small() -> Limits {
    Limits::default().with_session_bytes(1_000)
}

/// I11: the fields of the login are not mixed with those of the user.
#[tokio::test]
async fn stop_acting_restores_the_fields_of_a_later_version() {
    let world = World::new();
    let login = world.user("ada").await;
    add_field(&world, &login, *b"\xa1y\x01").await;
    let id = world.moved(&login, act).await;
    add_field(&world, &id, *b"\xa1z\x02").await;
    let back = world.moved(&id, Session::stop_acting).await;
    let bytes = world.stored(&back).await.unwrap().encode();
    assert!(bytes.ends_with(b"\xa1y\x01"), "{bytes:x?}");
}

/// Adds a field of one letter and one digit to a stored record.
async fn add_field(world: &World, id: &SessionId, field: [u8; 3]) {
    let Some(Entry::Session(record)) = world.stored(id).await else { panic!("it is stored") };
    let mut bytes = Entry::Session(record.clone()).encode();
    // The map is small, so that one more field changes this byte only.
    bytes[envelope::HEADER_LEN] += 1;
    bytes.extend(field);
    let entry = Entry::decode(bytes).unwrap();
    let store = world.store.recorded().store();
    store.commit(&id.key(), (&*record).into(), entry, world.sessions_now()).await.unwrap();
}
