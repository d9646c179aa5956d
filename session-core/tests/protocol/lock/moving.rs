//! The lock of a session that moves, ends, or is not stored.

use super::*;

#[tokio::test]
async fn session_that_is_not_stored_is_not_locked() {
    let world = World::new();
    let session = world.anonymous().await;
    let work = async || {
        session.set(VISITS, 1)?;
        world.wait(2 * LEASE);
        session.commit().await?;
        session.set(VISITS, 2)
    };
    session.locked(NO_WAIT, work).await.unwrap();
    let id = told(session.finish().await.unwrap());
    assert_eq!(world.store.calls(), [Verb::Create, Verb::Commit]);
    assert!(is_free(&world, &id).await);
    assert_eq!(visits(&world, &id).await, Some(2));

    let session = world.anonymous().await;
    world.store.calls();
    session.locked(NO_WAIT, async || Ok::<_, SessionError>(())).await.unwrap();
    assert!(session.try_finish().is_some());
    assert_eq!(world.store.calls(), []);
}

#[tokio::test]
async fn login_within_the_work_takes_the_lock_along() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    let work = async || {
        session.authenticate("ada")?;
        session.commit().await?;
        let CookieChange::Set { id: new, .. } = session.pending_cookie() else { panic!("moved") };
        assert!(!is_free(&world, &new).await);
        session.set(VISITS, 2)
    };
    session.locked(NO_WAIT, work).await.unwrap();
    let new = told(session.finish().await.unwrap());
    assert!(!world.opens(&id).await);
    assert!(is_free(&world, &new).await);
    assert_eq!(visits(&world, &new).await, Some(2));
}

#[tokio::test]
async fn login_at_the_end_of_the_work_releases_in_one_step() {
    let world = World::new();
    let id = world.user("ada").await;
    let session = world.open(&id).await;
    let work = async || {
        world.store.calls();
        session.authenticate("ada")
    };
    session.locked(NO_WAIT, work).await.unwrap();
    assert_eq!(world.store.calls(), [Verb::CreateEntered, Verb::Commit, Verb::Leave]);
    let new = told(session.finish().await.unwrap());
    assert!(is_free(&world, &new).await);
}

#[tokio::test]
async fn renewal_by_another_request_carries_the_lease() {
    let world = World::new();
    let id = world.visitor().await;
    let (holder, waiting) = (world.open(&id).await, world.open(&id).await);
    let work = async || {
        add(&holder, 1)?;
        let renewing = world.open(&id).await;
        renewing.renew()?;
        let new = told(renewing.finish().await?);
        assert!(!is_free(&world, &new).await, "the lease went with the session");
        assert!(!is_free(&world, &id).await);
        Ok::<_, SessionError>(new)
    };
    let new = holder.locked(NO_WAIT, work).await.unwrap();
    assert_eq!(told(holder.finish().await.unwrap()).key(), new.key());

    let work = async || {
        assert_eq!(waiting.key(), Some(new.key()));
        assert_eq!(waiting.get(VISITS), Some(2));
        Ok::<_, SessionError>(())
    };
    waiting.locked(NO_WAIT, work).await.unwrap();
    assert_eq!(told(waiting.finish().await.unwrap()).key(), new.key());
}

#[tokio::test]
async fn lease_is_prolonged_where_the_session_was_renewed_to() {
    let world = World::new();
    let id = world.visitor().await;
    let holder = world.open(&id).await;
    let work = async || {
        add(&holder, 1)?;
        let renewing = world.open(&id).await;
        renewing.renew()?;
        let new = told(renewing.finish().await?);
        world.clock.sleep(3 * LEASE).await;
        assert!(!is_free(&world, &new).await);
        Ok::<_, SessionError>(new)
    };
    let (new, _) = with_time(&world, holder.locked(NO_WAIT, work)).await;
    let new = new.unwrap();
    assert_eq!(visits(&world, &new).await, Some(2));
    assert!(is_free(&world, &new).await);
}

#[tokio::test]
async fn login_or_rotation_by_another_request_ends_the_wait() {
    for rotates in [false, true] {
        let world = World::new();
        let id = world.visitor().await;
        let (holder, waiting) = (world.open(&id).await, world.other_process().open(&id).await);
        let work = async || {
            add(&holder, 1)?;
            let moving = world.open(&id).await;
            if rotates {
                moving.rotate()?
            } else {
                moving.authenticate("ada")?
            };
            let new = told(moving.finish().await?);
            let waited = waiting.locked(SECOND, async || -> Result { panic!("ended") }).await;
            assert!(matches!(waited, Err(SessionError::Ended)), "{waited:?}");
            assert!(matches!(waiting.pending_cookie(), CookieChange::Keep));
            assert!(!is_free(&world, &new).await, "the lease went with the session");
            Ok::<_, SessionError>(new)
        };
        // The holder's values are carried over, still under its lease.
        let new = holder.locked(NO_WAIT, work).await.unwrap();
        assert!(is_free(&world, &new).await);
        assert_eq!(visits(&world, &new).await, Some(2));
        assert!(matches!(holder.finish().await.unwrap(), CookieChange::Keep), "it learns no ID");
    }
}

#[tokio::test]
async fn session_that_was_ended_is_not_locked() {
    let world = World::new();
    let id = world.visitor().await;
    let (session, holder) = (world.other_process().open(&id).await, world.open(&id).await);
    let work = async || {
        let ending = world.open(&id).await;
        ending.destroy()?;
        let _ = ending.finish().await?;
        let asked = session.locked(NO_WAIT, async || -> Result { panic!("ended") }).await;
        assert!(matches!(asked, Err(SessionError::Ended)));
        holder.set(VISITS, 7)
    };
    assert!(matches!(holder.locked(NO_WAIT, work).await, Err(SessionError::Ended)));
    assert_eq!(world.count().await, (0, 0));
}

#[tokio::test]
async fn lock_keeps_a_session_alive_only_while_the_work_runs() {
    let lifetime = Lifetime::new(4 * SECOND, 60 * SECOND).unwrap();
    for pauses in [false, true] {
        let world = World::with_lifetime(lifetime);
        let id = world.visitor().await;
        let session = world.open(&id).await;
        let work = async || {
            session.set(VISITS, 2)?;
            if pauses {
                world.wait(4 * SECOND);
            } else {
                world.clock.sleep(20 * SECOND).await;
            }
            Ok::<_, SessionError>(())
        };
        let (result, _) = with_time(&world, session.locked(NO_WAIT, work)).await;
        if pauses {
            assert!(matches!(result, Err(SessionError::Ended)), "{result:?}");
            assert_eq!(world.count().await, (0, 0));
        } else {
            result.unwrap();
            assert_eq!(visits(&world, &id).await, Some(2));
        }
    }
}
