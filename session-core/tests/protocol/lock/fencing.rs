//! A request that lost the lock stores nothing.

use super::*;

#[tokio::test]
async fn work_is_refused_after_the_lease_lapsed() {
    for other_enters in [false, true] {
        let world = World::new();
        let id = world.visitor().await;
        let (session, other) = (world.open(&id).await, world.other_process().open(&id).await);
        let work = async || {
            session.update(VISITS, |visits| *visits += 1)?;
            // The process pauses: nothing prolongs the lease meanwhile.
            world.wait(LEASE);
            if other_enters {
                other
                    .locked(Duration::ZERO, async || other.update(VISITS, |visits| *visits += 10))
                    .await?;
            }
            Ok::<_, SessionError>(())
        };
        let result = session.locked(SECOND, work).await;
        assert!(matches!(result, Err(SessionError::LeaseLost)), "{result:?}");
        // The request goes on without the changes of the work.
        session.set(NOTE, "too slow").unwrap();
        let _ = session.finish().await.unwrap();
        let after = world.open(&id).await;
        assert_eq!(after.get(VISITS), Some(if other_enters { 11 } else { 1 }));
        assert!(after.contains(NOTE));
    }
}

#[tokio::test]
async fn holder_whose_clock_is_behind_is_fenced_by_the_next() {
    let world = World::new();
    let id = world.visitor().await;
    let (session, other) = (world.open(&id).await, world.other_process().open(&id).await);
    let work = async || {
        session.update(VISITS, |visits| *visits += 1)?;
        let now = world.sessions_now();
        world.wait(LEASE);
        cancel_under_lock(&other).await;
        world.clock.set(now);
        Ok::<_, SessionError>(())
    };
    let result = session.locked(SECOND, work).await;
    assert!(matches!(result, Err(SessionError::LeaseLost)), "{result:?}");
    assert_eq!(visits(&world, &id).await, Some(1));
}

#[tokio::test]
async fn login_under_a_lost_lease_changes_nothing() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    let work = async || {
        session.authenticate("ada")?;
        world.wait(LEASE);
        Ok::<_, SessionError>(())
    };
    let result = session.locked(SECOND, work).await;
    assert!(matches!(result, Err(SessionError::LeaseLost)), "{result:?}");
    assert_eq!(world.open(&id).await.owner(), None);
    assert_eq!(world.count().await, (1, 0));
}

#[tokio::test]
async fn lease_is_prolonged_while_the_work_runs() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    let work = async || {
        for _ in 0..10 {
            world.wait(LEASE / 2);
            tokio::task::yield_now().await;
            tokio::task::yield_now().await;
            assert!(!is_free(&world, &id).await);
        }
        session.set(VISITS, 2)
    };
    session.locked(SECOND, work).await.unwrap();
    assert_eq!(visits(&world, &id).await, Some(2));
}

#[tokio::test]
async fn lease_is_not_prolonged_beyond_its_maximum() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    let work = async || {
        let begin = world.sessions_now();
        while world.sessions_now().since(begin) < Sessions::MAX_LEASE + LEASE {
            world.wait(LEASE / 2);
            tokio::task::yield_now().await;
            tokio::task::yield_now().await;
        }
        assert!(is_free(&world, &id).await);
        session.set(VISITS, 2)
    };
    let result = session.locked(SECOND, work).await;
    assert!(matches!(result, Err(SessionError::LeaseLost)), "{result:?}");
    assert_eq!(visits(&world, &id).await, Some(1));
}
