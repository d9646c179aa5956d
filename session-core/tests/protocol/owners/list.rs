//! I8: the list of an owner's sessions holds each live session once.

use std::{future::poll_fn, pin::pin};

use session_core::SessionError;

use crate::support::{Fault, HOUR, MINUTE, NOTE, VISITS, Verb, World, finish, keys};

#[tokio::test]
async fn list_holds_the_sessions_of_one_owner_last_used_first() {
    let world = World::new();
    world.visitor().await;
    world.user("grace").await;
    let first = world.user("ada").await;
    world.wait(MINUTE);
    let second = world.user("ada").await;
    world.wait(MINUTE);
    assert_eq!(world.listed("ada").await, keys(&[&second, &first]));
    world.wait(10 * MINUTE);
    let _ = world.read(&first).await;
    assert_eq!(world.listed("ada").await, keys(&[&first, &second]));
    assert_eq!(world.listed("nobody").await, []);
}

#[tokio::test]
async fn list_shows_the_content_of_the_sessions() {
    let world = World::new();
    let id = world.user("ada").await;
    let signed_in_at = world.sessions_now();
    world.wait(10 * MINUTE);
    let session = world.open(&id).await;
    session.set(NOTE, "Firefox on Linux").unwrap();
    session.commit().await.unwrap();
    let other = world.open(&world.user("ada").await).await;
    let list = session.sessions().list("ada").await.unwrap();
    let info = list.iter().find(|info| info.is(&session)).unwrap();
    assert_eq!(info.key(), id.key());
    assert_eq!(info.created_at(), signed_in_at);
    assert_eq!(info.authenticated_at(), Some(signed_in_at));
    assert_eq!(info.last_seen_at(), world.sessions_now());
    assert_eq!(info.expires_at(), world.sessions_now() + HOUR);
    assert_eq!(info.get(NOTE).as_deref(), Some("Firefox on Linux"));
    assert_eq!(info.get(VISITS), Some(1));
    assert!(!info.is(&other) && !info.is(&world.anonymous().await));
    let text = format!("{list:?}");
    assert!(!text.contains("Firefox") && !text.contains("ada"), "{text}");
}

#[tokio::test]
async fn session_that_expired_or_was_ended_is_not_listed() {
    let world = World::new();
    let (ended, stays) = (world.user("ada").await, world.user("ada").await);
    world.log_out(&ended).await;
    assert_eq!(world.entered("ada").await, keys(&[&stays]));
    world.wait(HOUR);
    assert_eq!(world.listed("ada").await, []);
    world.user("ada").await;
    assert_eq!(world.entered("ada").await.len(), 2, "a clock may be behind");
}

#[tokio::test]
async fn session_that_got_another_id_is_listed_once() {
    let world = World::new();
    let id = world.user("ada").await;
    let session = world.open(&id).await;
    session.renew().unwrap();
    let renewed = finish(session).await;
    assert_eq!(world.entered("ada").await, keys(&[&renewed]));
    let session = world.open(&renewed).await;
    session.authenticate("ada").unwrap();
    let again = finish(session).await;
    assert_eq!(world.entered("ada").await, keys(&[&again]));
    assert_eq!(world.listed("ada").await, keys(&[&again]));
}

#[tokio::test]
async fn session_taken_over_by_another_user_leaves_the_first_list() {
    let world = World::new();
    let id = world.user("ada").await;
    let session = world.open(&id).await;
    session.authenticate("grace").unwrap();
    let id = finish(session).await;
    assert_eq!(world.entered("ada").await, []);
    assert_eq!(world.listed("grace").await, keys(&[&id]));
}

#[tokio::test]
async fn list_shows_no_session_that_another_user_took_over_meanwhile() {
    let world = World::new();
    let id = world.user("ada").await;
    let other = world.other_process();
    world.store.before(Verb::LoadMany, move || async move {
        let session = other.open(&id).await;
        session.authenticate("grace").unwrap();
        finish(session).await;
    });
    assert_eq!(world.listed("ada").await, []);
    assert_eq!(world.listed("grace").await.len(), 1);
}

#[tokio::test]
async fn outage_is_an_error_and_no_empty_list() {
    for verb in [Verb::Entries, Verb::LoadMany, Verb::DeleteOrBlock] {
        let world = World::new();
        let id = world.user("ada").await;
        world.store.fail(verb, Fault::DOWN);
        let list = world.sessions.list("ada").await;
        assert_eq!(list.is_err(), verb != Verb::DeleteOrBlock);
        world.store.fail(Verb::Entries, Fault::DOWN);
        assert!(world.sessions.revoke_all("ada").await.is_err());
        assert!(world.opens(&id).await);
    }
}

/// I13: a long list yields to other tasks.
#[tokio::test]
async fn long_list_yields_to_other_tasks() {
    let world = World::new();
    for _ in 0..1_000 {
        world.user("ada").await;
    }
    let (list_pauses, listed) = pauses(world.sessions.list("ada")).await;
    assert!(list_pauses >= 10, "{list_pauses} pauses");
    assert_eq!(listed, 1_000);
    let session = world.open(&world.user("ada").await).await;
    let (revocation_pauses, revoked) = pauses(world.sessions.revoke_others(&session)).await;
    assert!(revocation_pauses >= 10, "{revocation_pauses} pauses");
    assert_eq!(revoked, 1_000);
    assert_eq!(pauses(world.sessions.revoke_all("ada")).await, (1, 1));
}

/// Returns the number of times that a future yields to other tasks, on a store without waits, and
/// the size of its result.
async fn pauses<T: Size>(future: impl Future<Output = Result<T, SessionError>>) -> (usize, usize) {
    let (mut future, mut pauses) = (pin!(future), 0);
    let result = poll_fn(|context| {
        let poll = future.as_mut().poll(context);
        pauses += usize::from(poll.is_pending());
        poll
    });
    let size = result.await.unwrap().size();
    (pauses, size)
}

trait Size {
    fn size(&self) -> usize;
}

impl Size for usize {
    fn size(&self) -> usize {
        *self
    }
}

impl<T> Size for Vec<T> {
    fn size(&self) -> usize {
        self.len()
    }
}
