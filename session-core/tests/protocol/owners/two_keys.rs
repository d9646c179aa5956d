//! I8: a session in the middle of a move has two keys, and counts as one session.

use std::sync::mpsc;

use session_core::{EventKind, SessionId};

use crate::support::{MINUTE, MOVES, Move, VISITS, Verb, World, keys, kinds, told};

/// Stops a move between its two records, like a crash of the process.
async fn crash_in(world: &World, id: &SessionId, deed: Move) {
    let session = world.open(id).await;
    deed(&session).unwrap();
    world.drop_in_commit(&session).await;
}

#[tokio::test]
async fn record_of_a_crashed_move_is_no_second_device() {
    for deed in MOVES {
        let world = World::new();
        let id = world.user("ada").await;
        crash_in(&world, &id, deed).await;
        assert_eq!(world.count().await.0, 2);
        assert_eq!(world.listed("ada").await.len(), 1);

        world.wait(10 * MINUTE);
        let session = world.open(&id).await;
        let _ = session.finish().await.unwrap();
        let list = world.sessions.list("ada").await.unwrap();
        assert_eq!(list.len(), 1);
        assert!(list[0].is(&session) && list[0].key() == id.key(), "the client uses this one");

        let left = world.entered("ada").await.into_iter().find(|key| *key != id.key());
        assert!(world.sessions.revoke("ada", left.unwrap()).await.unwrap());
        assert!(!world.opens(&id).await);
        assert_eq!(world.count().await.0, 0, "revoked as one");
    }
}

#[tokio::test]
async fn operators_revocation_ends_a_session_under_both_keys() {
    for deed in MOVES {
        for of_the_client in [true, false] {
            let world = World::new();
            let id = world.user("ada").await;
            crash_in(&world, &id, deed).await;
            let entered = world.entered("ada").await.into_iter();
            let keys: Vec<_> = entered.filter(|key| (*key == id.key()) == of_the_client).collect();
            assert!(world.sessions.revoke_any(keys[0]).await.unwrap());
            assert!(!world.opens(&id).await);
            assert_eq!(world.count().await.0, 0);
        }
    }
}

#[tokio::test]
async fn record_of_a_crashed_move_is_hidden_by_the_next_one() {
    for deed in MOVES {
        let world = World::new();
        let id = world.user("ada").await;
        crash_in(&world, &id, deed).await;
        world.wait(MINUTE);
        let new = world.moved(&id, deed).await;
        assert_eq!(world.listed("ada").await, keys(&[&new]));
        assert_eq!(world.sessions.revoke_all("ada").await.unwrap(), 1);
        assert_eq!(world.count().await.0, 0);
    }
}

#[tokio::test]
async fn revocation_ends_both_keys_and_counts_one_session() {
    for deed in MOVES {
        for by_key in [true, false] {
            let world = World::new();
            let id = world.user("ada").await;
            world.break_off(&id, deed).await;
            assert_eq!(world.count().await.0, 2);
            let mut events = world.sessions.events();
            if by_key {
                assert!(world.sessions.revoke("ada", id.key()).await.unwrap());
            } else {
                assert_eq!(world.sessions.revoke_all("ada").await.unwrap(), 1);
            }
            let kinds = kinds(&mut events);
            assert_eq!(kinds, [EventKind::Revoked]);
            assert_eq!(world.count().await.0, 0);
            assert_eq!(world.count_entered().await, 0);
        }
    }
}

/// A page may still show the key from before the move.
#[tokio::test]
async fn revocation_by_a_former_key_ends_the_session() {
    for deed in MOVES {
        let world = World::new();
        let former = world.user("ada").await;
        let session = world.open(&former).await;
        deed(&session).unwrap();
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
        deed(&session).unwrap();
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

/// The record is not listed or counted, and its deletion sends no event.
#[tokio::test]
async fn overtaken_renewal_is_no_session_to_a_list_or_revocation() {
    for call in ["list", "revoke_all", "revoke_others"] {
        let world = World::new();
        let id = world.user("ada").await;
        let (left, right) = (world.open(&id).await, world.open(&id).await);
        left.renew().unwrap();
        right.renew().unwrap();
        let (send, counts) = mpsc::channel();
        world.store.before(Verb::Commit, move || async move {
            let _ = left.finish().await.unwrap();
            let sessions = left.sessions();
            let mut events = sessions.events();
            let count = match call {
                "list" => sessions.list("ada").await.unwrap().len(),
                "revoke_all" => sessions.revoke_all("ada").await.unwrap(),
                _ => sessions.revoke_others(&left).await.unwrap(),
            };
            let events = std::iter::from_fn(|| events.try_next());
            let revoked = events.filter(|event| event.kind == EventKind::Revoked).count();
            send.send((count, revoked)).unwrap();
        });
        let _ = right.finish().await;
        let expected = match call {
            "list" => (1, 0),
            "revoke_all" => (1, 1),
            _ => (0, 0),
        };
        assert_eq!(counts.try_recv().unwrap(), expected, "{call}");
        assert_eq!(world.count().await.0, usize::from(call != "revoke_all"), "{call}");
    }
}
