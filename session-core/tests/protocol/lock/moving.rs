//! Locks of sessions that move, end, or are not stored.

use super::*;

#[tokio::test]
async fn session_that_is_not_stored_is_not_locked() {
    let world = World::new();
    let session = world.anonymous().await;
    session.locked(SECOND, async || session.set(VISITS, 2)).await.unwrap();
    assert_eq!(world.store.calls(), [Verb::Create], "only the changes are stored");
    let id = told(session.finish().await.unwrap());
    assert!(is_free(&world, &id).await);
    assert_eq!(visits(&world, &id).await, Some(2));
}

#[tokio::test]
async fn login_under_the_lock_releases_it() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    session.locked(SECOND, async || session.authenticate("ada")).await.unwrap();
    let new = told(session.finish().await.unwrap());
    assert!(!world.opens(&id).await);
    assert!(is_free(&world, &new).await);
}

#[tokio::test]
async fn renewal_by_another_keeps_the_lock() {
    let world = World::new();
    let id = world.visitor().await;
    let (holder, renewing) = (world.open(&id).await, world.open(&id).await);
    let work = async || {
        renewing.renew()?;
        let new = told(renewing.finish().await?);
        assert!(!is_free(&world, &new).await);
        holder.set(VISITS, 2)?;
        Ok::<_, SessionError>(new)
    };
    let new = holder.locked(SECOND, work).await.unwrap();
    assert!(is_free(&world, &new).await);
    assert_eq!(visits(&world, &new).await, Some(2));
}

#[tokio::test]
async fn session_that_ended_is_not_locked() {
    for logs_in in [false, true] {
        let world = World::new();
        let id = world.visitor().await;
        let (session, ending) = (world.open(&id).await, world.open(&id).await);
        if logs_in {
            ending.authenticate("ada").unwrap();
        } else {
            ending.destroy().unwrap();
        }
        let _ = ending.finish().await.unwrap();
        let work = async || -> Result<(), SessionError> { panic!("the session ended") };
        let result = session.locked(SECOND, work).await;
        assert!(matches!(result, Err(SessionError::Ended)), "{result:?}");
    }
}

#[tokio::test]
async fn logout_by_another_ends_the_work_of_the_holder() {
    let world = World::new();
    let id = world.visitor().await;
    let (holder, ending) = (world.open(&id).await, world.open(&id).await);
    let work = async || {
        ending.destroy()?;
        let _ = ending.finish().await?;
        holder.set(VISITS, 2)
    };
    let result = holder.locked(SECOND, work).await;
    assert!(matches!(result, Err(SessionError::Ended)), "{result:?}");
    assert_eq!(world.count().await, (0, 0));
}
