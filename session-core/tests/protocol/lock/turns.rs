//! One request after another.

use super::*;

const PAID: Key<bool> = Key::new("paid");

#[tokio::test]
async fn double_click_on_a_slow_payment_charges_once() {
    for same_process in [true, false] {
        let world = World::new();
        let id = world.visitor().await;
        let other = world.other_process();
        let second_process = if same_process { &world } else { &other };
        let (first, second) = (world.open(&id).await, second_process.open(&id).await);
        let charges = AtomicUsize::new(0);
        let pay = async |session: &Session| {
            let work = async || -> Result<(), SessionError> {
                if session.get(PAID) == Some(true) {
                    return Ok(());
                }
                charges.fetch_add(1, Ordering::Relaxed);
                // Much longer than the lease.
                let begin = world.sessions_now();
                while world.sessions_now().since(begin) < 3 * LEASE {
                    tokio::task::yield_now().await;
                }
                session.set(PAID, true)
            };
            session.locked(6 * LEASE, work).await
        };
        let both = async { tokio::join!(pay(&first), pay(&second)) };
        let ((left, right), _) = with_time(&world, both).await;
        left.unwrap();
        right.unwrap();
        assert_eq!(charges.load(Ordering::Relaxed), 1, "same process: {same_process}");
        assert!(is_free(&world, &id).await);
    }
}

#[tokio::test]
async fn next_holder_sees_the_changes_of_the_former() {
    let world = World::new();
    let id = world.visitor().await;
    let (first, second) = (world.open(&id).await, world.open(&id).await);
    second.update(VISITS, |visits| *visits += 10).unwrap();
    first.locked(SECOND, async || first.set(VISITS, 5)).await.unwrap();
    let seen = second.locked(SECOND, async || Ok::<_, SessionError>(second.get(VISITS))).await;
    assert_eq!(seen.unwrap(), Some(15), "the earlier change was committed before the lock");
}

#[tokio::test]
async fn lock_costs_a_load_and_a_commit_and_one_to_release() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    world.store.calls();
    try_lock(&session, SECOND).await.unwrap();
    assert_eq!(world.store.calls(), [Verb::Load, Verb::Commit, Verb::Commit]);
    session.locked(SECOND, async || session.set(VISITS, 2)).await.unwrap();
    let calls = world.store.calls();
    assert_eq!(calls, [Verb::Load, Verb::Commit, Verb::Commit], "the changes release");
    assert!(is_free(&world, &id).await);
}

#[tokio::test]
async fn lock_within_the_lock_is_refused() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    let work = async || -> Result<(), SessionError> {
        for same in [&session, &session.clone()] {
            let nested = try_lock(same, SECOND).await;
            assert!(matches!(nested, Err(SessionError::AlreadyLocked)), "{nested:?}");
        }
        Ok(())
    };
    session.locked(SECOND, work).await.unwrap();
    try_lock(&session, SECOND).await.unwrap();
}

#[tokio::test]
async fn wait_ends_in_time_and_asks_at_most_5_times_a_second() {
    let world = World::with(|sessions| sessions.with_lease(60 * SECOND));
    let id = world.visitor().await;
    cancel_under_lock(&world.open(&id).await).await;
    for wait in [Duration::ZERO, MILLISECOND, 500 * MILLISECOND, 5 * SECOND] {
        let waiting = [world.open(&id).await, world.open(&id).await, world.open(&id).await];
        world.store.calls();
        let [first, second, third] = &waiting;
        let all = async {
            tokio::join!(try_lock(first, wait), try_lock(second, wait), try_lock(third, wait))
        };
        let ((first, second, third), waited) = with_time(&world, all).await;
        for result in [first, second, third] {
            assert!(matches!(result, Err(SessionError::Locked)), "{result:?}");
        }
        assert_eq!(waited, wait);
        let questions = world.store.calls().len();
        // The first of a second is asked when the wait begins, and one more when each wait ends.
        let most = 5 * usize::try_from(wait.as_millis()).unwrap() / 1000 + 4;
        assert!((1..=most).contains(&questions), "{questions} questions in {wait:?}");
    }
}

#[tokio::test]
async fn requests_that_do_not_lock_ignore_the_lock() {
    let world = World::new();
    let id = world.visitor().await;
    let (holder, other) = (world.open(&id).await, world.open(&id).await);
    let work = async || {
        holder.update(VISITS, |visits| *visits += 1)?;
        other.update(VISITS, |visits| *visits += 10)?;
        other.commit().await?;
        assert!(!is_free(&world, &id).await);
        Ok::<_, SessionError>(())
    };
    holder.locked(SECOND, work).await.unwrap();
    assert_eq!(visits(&world, &id).await, Some(12));
}

#[tokio::test]
async fn commit_within_the_work_keeps_the_lock() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    let work = async || {
        session.set(VISITS, 2)?;
        session.commit().await?;
        assert_eq!(visits(&world, &id).await, Some(2));
        assert!(!is_free(&world, &id).await);
        let Some(Entry::Live(record)) = world.stored(&id).await else { panic!("it is there") };
        assert_eq!(record.locked_until(), Some(world.sessions_now() + LEASE));
        Ok::<_, SessionError>(())
    };
    session.locked(SECOND, work).await.unwrap();
    assert!(is_free(&world, &id).await);
}

#[test]
fn lease_out_of_bounds_is_refused() {
    for lease in [Duration::ZERO, Sessions::MAX_LEASE + SECOND] {
        let sessions = Sessions::builder(crate::support::probe()).with_lease(lease);
        assert!(sessions.build().is_err(), "{lease:?}");
    }
}
