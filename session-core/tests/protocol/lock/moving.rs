//! Locks on sessions that move, end, or are not stored.

use super::*;

#[tokio::test]
async fn a_session_that_is_not_stored_is_locked_without_a_command() {
    let world = World::new();
    let session = world.anonymous().await;
    let lock = locked(&session).await;
    assert_eq!(lock.expires_at(), None);
    assert!(matches!(session.lock(AT_ONCE).await, Err(SessionError::AlreadyLocked)));
    session.set(VISITS, &1).unwrap();
    world.wait(2 * LEASE);
    session.commit().await.unwrap();
    session.set(VISITS, &2).unwrap();
    lock.release().await.unwrap();
    let id = told(session.finish().await.unwrap());
    assert_eq!(world.store.calls(), [Verb::Create, Verb::Commit]);
    assert!(is_free(&world, &id).await);
    assert_eq!(visits(&world, &id).await, Some(2));

    let session = world.anonymous().await;
    drop(locked(&session).await);
    world.store.calls();
    assert!(session.finish_without_io().is_some());
    assert_eq!(world.store.calls(), []);
}

#[tokio::test]
async fn a_login_under_a_lock_works_and_takes_the_lock_along() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    let lock = locked(&session).await;
    session.authenticate("ada").unwrap();
    session.commit().await.unwrap();
    assert!(lock.expires_at().is_some());
    session.set(VISITS, &2).unwrap();
    lock.release().await.unwrap();
    let new = told(session.finish().await.unwrap());
    assert!(!world.opens(&id).await);
    assert!(is_free(&world, &new).await);

    // In one step, with the finish.
    let session = world.open(&new).await;
    let lock = locked(&session).await;
    session.authenticate("ada").unwrap();
    drop(lock);
    world.store.calls();
    let newer = told(session.finish().await.unwrap());
    assert_eq!(world.store.calls(), [Verb::CreateEntered, Verb::Commit, Verb::Leave]);
    assert!(is_free(&world, &newer).await);
    assert_eq!(visits(&world, &newer).await, Some(2));
}

#[tokio::test]
async fn a_renewal_by_another_carries_the_lease_and_is_followed() {
    let world = World::new();
    let id = world.visitor().await;
    let (holder, waiting) = (world.open(&id).await, world.open(&id).await);
    let lock = locked(&holder).await;
    holder.update(VISITS, |visits| *visits += 1).unwrap();
    let renewing = world.open(&id).await;
    renewing.renew().unwrap();
    let new = told(renewing.finish().await.unwrap());
    assert!(!is_free(&world, &new).await, "the lease went with the session");
    assert!(is_locked(&waiting.lock(AT_ONCE).await));
    lock.release().await.unwrap();

    let lock = locked(&waiting).await;
    assert_eq!(waiting.key(), Some(new.key()));
    assert_eq!(waiting.get(VISITS), Some(2));
    lock.release().await.unwrap();
    assert_eq!(told(waiting.finish().await.unwrap()).key(), new.key());
}

#[tokio::test]
async fn a_login_by_another_ends_the_wait() {
    let world = World::new();
    let id = world.visitor().await;
    let (holder, waiting) = (world.open(&id).await, world.open(&id).await);
    let lock = locked(&holder).await;
    holder.update(VISITS, |visits| *visits += 1).unwrap();
    let login = world.open(&id).await;
    login.authenticate("ada").unwrap();
    let new = told(login.finish().await.unwrap());
    assert!(matches!(waiting.lock(AT_ONCE).await, Err(SessionError::Ended)));
    // Who held the lock before is merged as ever, still under its lease.
    assert!(!is_free(&world, &new).await);
    lock.release().await.unwrap();
    assert!(is_free(&world, &new).await);
    assert_eq!(visits(&world, &new).await, Some(2));
}

#[tokio::test]
async fn a_session_that_was_ended_is_not_locked() {
    let world = World::new();
    let id = world.visitor().await;
    let (session, holder) = (world.open(&id).await, world.open(&id).await);
    let ending = world.open(&id).await;
    let lock = locked(&holder).await;
    ending.destroy().unwrap();
    let _ = ending.finish().await.unwrap();
    assert!(matches!(session.lock(AT_ONCE).await, Err(SessionError::Ended)));
    holder.set(VISITS, &7).unwrap();
    assert!(matches!(lock.release().await, Err(SessionError::Ended)));
    assert_eq!(world.count().await, (0, 0));
}

#[tokio::test]
async fn a_lock_outlives_no_session() {
    let lifetime = Lifetime::new(SECOND, 5 * SECOND).unwrap();
    let world = World::with_lifetime(lifetime);
    let id = world.visitor().await;
    let session = world.open(&id).await;
    let lock = locked(&session).await;
    session.set(VISITS, &2).unwrap();
    world.wait(SECOND);
    assert!(matches!(lock.release().await, Err(SessionError::Ended)));
    assert_eq!(world.count().await, (0, 0));
}
