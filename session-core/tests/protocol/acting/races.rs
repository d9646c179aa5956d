//! I4: requests that are under way while a user begins to act as another, or goes back.

use session_core::{EndReason, Session, SessionError};

use super::{Move, act, acting, names, some};
use crate::{
    live::{connect, end},
    owners::site::{Answer, Deed, Site, told_id},
    support::{Look as _, NOTE, VISITS, World, finish, interleavings},
};

/// A request that loaded the session before a transition neither writes into the other user's
/// session nor learns its ID.
#[tokio::test]
async fn late_request_is_refused_at_both_transitions() {
    let world = World::new();
    let login = world.user("ada").await;
    let late = world.open(&login).await;
    late.set(VISITS, 2).unwrap();
    let acting = world.moved(&login, act).await;
    assert!(matches!(late.finish().await, Err(SessionError::Ended)));
    let late = world.open(&acting).await;
    late.set(VISITS, 3).unwrap();
    let back = world.moved(&acting, Session::stop_acting).await;
    assert!(matches!(late.finish().await, Err(SessionError::Ended)));
    assert_eq!(world.open(&back).await.get(VISITS), Some(1));
}

/// The request may have been an attacker's, who planted the visitor's ID.
#[tokio::test]
async fn late_request_of_a_visitor_is_refused_by_an_impersonation() {
    let world = World::new();
    let visitor = world.visitor().await;
    let late = world.open(&visitor).await;
    late.set(NOTE, "planted".to_owned()).unwrap();
    let id = world
        .moved(&visitor, |session| {
            session.authenticate("ada")?;
            act(session)
        })
        .await;
    assert!(matches!(late.finish().await, Err(SessionError::Ended)));
    assert_eq!(world.open(&id).await.get(NOTE), None);
}

/// I1: the changes before the impersonation are of other values than those after.
#[tokio::test]
async fn replay_keeps_the_changes_before_an_impersonation() {
    let changes: [Move; 2] = [|session| session.set(VISITS, 7), |session| session.remove(VISITS)];
    for in_acting in changes {
        let world = World::new();
        let login = world.user("ada").await;
        let session = world.open(&login).await;
        session.update(VISITS, |visits| *visits += 1).unwrap();
        act(&session).unwrap();
        in_acting(&session).unwrap();
        world.change(&login, |session| session.set(NOTE, "concurrent".to_owned())).await;
        let id = finish(session).await;
        let back = world.moved(&id, Session::stop_acting).await;
        let session = world.open(&back).await;
        let values = (session.get(VISITS), session.get(NOTE));
        assert_eq!(values, (Some(2), Some("concurrent".to_owned())));
    }
}

/// A transition that another request's rotation overtook would be lost without a sign.
#[tokio::test]
async fn late_transition_is_refused() {
    let world = World::new();
    for (before, transition) in [("ada", act as Move), ("grace", Session::stop_acting)] {
        let id = match before {
            "ada" => world.user("ada").await,
            _ => acting(&world).await.0,
        };
        let late = world.open(&id).await;
        transition(&late).unwrap();
        let rotated = world.rotate(&id).await;
        assert!(matches!(late.finish().await, Err(SessionError::Ended)));
        assert_eq!(names(&world.open(&rotated).await)[0].as_deref(), Some(before));
    }
}

/// The user signs in, in the browser of the support staff.
#[tokio::test]
async fn late_request_is_refused_by_the_login_of_the_user() {
    let world = World::new();
    let (id, _) = acting(&world).await;
    let late = world.open(&id).await;
    late.set(VISITS, 3).unwrap();
    let own = world.login(&id, "grace").await;
    assert!(matches!(late.finish().await, Err(SessionError::Ended)));
    assert_eq!(world.open(&own).await.get(VISITS), None);
}

/// The click of a second visitor's tab joins no session in which somebody acts.
#[tokio::test]
async fn login_joins_no_impersonation() {
    let both: Move = |session| {
        session.authenticate("ada")?;
        act(session)
    };
    for second in [both, |session| session.authenticate("grace")] {
        let world = World::new();
        let visitor = world.visitor().await;
        let clicks = [world.open(&visitor).await, world.open(&visitor).await];
        both(&clicks[0]).unwrap();
        second(&clicks[1]).unwrap();
        let [first, second] = clicks;
        let id = finish(first).await;
        assert!(matches!(second.finish().await, Err(SessionError::Ended)));
        assert_eq!(names(&world.open(&id).await), some(["grace", "ada"]));
    }
}

#[test]
fn revocation_of_the_actor_misses_no_session_at_a_transition() {
    for (before, deed) in [(&[][..], Deed::Act), (&[Deed::Act], Deed::StopActing)] {
        let make = || {
            let site = Site::new();
            let id = site.user_who(before);
            let requests = [site.request(Some(&id), deed), site.revoke_all()];
            (site, requests)
        };
        interleavings(11, make, |site, answers, order| {
            let context = format!("{deed:?} {order:?}: {answers:?}");
            assert!(matches!(answers[1], Answer::Revoked(Ok(1))), "{context}");
            assert_eq!((site.owned(), site.store.count_entered(site.now())), (0, 0), "{context}");
        });
    }
}

/// The impersonation starts before the revocation and ends by it, or starts after it. A session that went
/// back is the actor's alone.
#[test]
fn revocation_of_the_user_at_a_transition_spares_the_actor() {
    for (before, deed) in [(&[][..], Deed::Act), (&[Deed::Act], Deed::StopActing)] {
        let make = || {
            let site = Site::new();
            let id = site.user_who(before);
            let requests = [site.request(Some(&id), deed), site.revoke_all_of("grace")];
            ((site, id), requests)
        };
        interleavings(11, make, |(site, id), answers, order| {
            let context = format!("{deed:?} {order:?}: {answers:?}");
            let Answer::Revoked(Ok(revoked)) = answers[1] else { panic!("{context}") };
            let id = told_id(&answers[0]).unwrap_or(&id);
            let lives = usize::from(site.opens(id));
            let is_back = names(&site.open(id)) == some(["ada", ""]);
            assert!(lives + revoked == 1 || is_back, "{context}");
            let indexes = if is_back { 1 } else { 2 };
            let entered = site.store.count_entered(site.now());
            assert_eq!((site.owned(), entered), (lives, indexes * lives), "{context}");
        });
    }
}

/// The owner and the actor of the session are the same before and after.
#[tokio::test]
async fn late_request_is_refused_by_a_return_to_the_same_user() {
    let again: [(bool, Move); 3] = [
        (true, |session| {
            session.stop_acting()?;
            act(session)
        }),
        (false, |session| {
            act(session)?;
            session.stop_acting()
        }),
        (false, |session| {
            session.authenticate("linus")?;
            session.authenticate("ada")
        }),
    ];
    for (acts, change) in again {
        let world = World::new();
        let id = if acts { acting(&world).await.0 } else { world.user("ada").await };
        let late = world.open(&id).await;
        late.set(NOTE, "late".to_owned()).unwrap();
        let mut live = connect(&world, &id).await;
        let new = world.moved(&id, change).await;
        assert!(matches!(late.finish().await, Err(SessionError::Ended)));
        assert_eq!(world.open(&new).await.get(NOTE), None);
        world.wait(world.sessions.live_interval());
        assert_eq!(end(&mut live), Some(EndReason::Replaced));
    }
}
