//! I9: closures and dropped requests release their memory, locks and places in queues.

use std::{
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use session_core::{Session, SessionError, SessionId};

use crate::support::{Fault, NOTE, VISITS, Verb, World, run, turn};

/// A token whose count shows whether the closures of a test are still in memory.
type Token = Arc<()>;

/// Records an update whose closure holds the session itself, contrary to the advice of the
/// documentation.
fn record(session: &Session, token: &Token, adds: u64) {
    let held = (session.clone(), Arc::clone(token));
    session
        .update(VISITS, move |visits| {
            let _ = &held;
            *visits += adds;
        })
        .unwrap();
}

/// Polls a future once. The future must wait.
fn begin<T>(future: Pin<&mut impl Future<Output = T>>) {
    let mut context = Context::from_waker(Waker::noop());
    assert!(matches!(future.poll(&mut context), Poll::Pending), "it has something to wait for");
}

/// Checks that a request frees its update. The request records an update that holds the session,
/// ends in some way, and is dropped.
///
/// With `adds` zero, the update leaves the session unchanged, so the commit has nothing to store.
fn check_freed(name: &str, adds: u64, end: impl FnOnce(&World, &SessionId, &Session, &Token)) {
    let world = World::new();
    let id = run(world.visitor());
    let session = run(world.open(&id));
    let token = Token::default();
    record(&session, &token, adds);
    assert_eq!(Arc::strong_count(&token), 2, "{name}: the update is recorded");
    end(&world, &id, &session, &token);
    drop(session);
    assert_eq!(Arc::strong_count(&token), 1, "{name}: the closure is still there");
    assert!(run(world.opens(&id)) || name == "destroy", "{name}: the session goes on");
}

#[test]
fn finish_frees_an_update_that_changed_nothing() {
    check_freed("try_finish", 0, |_, _, session, _| assert!(session.try_finish().is_some()));
    check_freed("finish", 0, |_, _, session, _| drop(run(session.finish()).unwrap()));
    check_freed("commit", 0, |_, _, session, _| run(session.commit()).unwrap());
}

#[test]
fn commit_frees_the_updates_that_it_stored() {
    check_freed("commit", 1, |_, _, session, _| run(session.commit()).unwrap());
    check_freed("finish", 1, |_, _, session, _| drop(run(session.finish()).unwrap()));
}

#[test]
fn finish_that_fails_frees_the_updates() {
    for fault in [Fault::DOWN, Fault::UNSENT, Fault::ANSWER_LOST] {
        check_freed("finish", 1, |world, _, session, _| {
            world.fail_twice(Verb::Commit, fault);
            assert!(run(session.finish()).is_err());
        });
    }
    check_freed("finish after a commit", 1, |world, _, session, _| {
        world.fail_twice(Verb::Commit, Fault::UNSENT);
        assert!(run(session.commit()).is_err());
        assert!(matches!(run(session.finish()), Err(SessionError::Unconfirmed)));
    });
}

#[test]
fn finish_of_an_ended_session_frees_the_updates() {
    let world = World::new();
    let id = run(world.user("ada"));
    let session = run(world.open(&id));
    let token = Token::default();
    record(&session, &token, 1);
    run(world.sessions.revoke_all("ada")).unwrap();
    assert!(matches!(run(session.finish()), Err(SessionError::Ended)));
    drop(session);
    assert_eq!(Arc::strong_count(&token), 1);
}

/// The integration closes the session if the request is dropped before its response.
#[test]
fn close_frees_the_updates_of_a_dropped_request() {
    check_freed("close", 0, |_, _, session, _| session.close());
    check_freed("close", 1, |_, _, session, _| session.close());
    check_freed("close after a failed commit", 1, |world, _, session, _| {
        world.store.fail(Verb::Commit, Fault::DOWN);
        assert!(run(session.commit()).is_err());
        session.close();
    });
    for finishes in [true, false] {
        check_freed("close of a cancelled request", 1, |world, _, session, _| {
            world.store.before(Verb::Commit, std::future::pending);
            if finishes {
                begin(pin!(session.finish()));
            } else {
                begin(pin!(session.commit()));
            }
            session.close();
        });
    }
}

#[test]
fn close_frees_the_updates_that_wait_for_another_commit() {
    check_freed("close", 1, |world, _, session, token| {
        world.store.before(Verb::Commit, std::future::pending);
        let clone = session.clone();
        let mut committing = Box::pin(clone.commit());
        begin(committing.as_mut());
        record(session, token, 1);
        begin(pin!(session.finish()));
        drop(committing);
        session.close();
    });
}

#[test]
fn discard_and_destroy_free_the_updates() {
    check_freed("discard", 1, |_, _, session, _| session.discard());
    check_freed("destroy", 1, |_, _, session, _| {
        session.destroy().unwrap();
        drop(run(session.finish()).unwrap());
    });
}

#[test]
fn discard_during_a_commit_frees_the_updates() {
    for fault in [None, Some(Fault::DOWN), Some(Fault::UNSENT)] {
        check_freed("discard", 1, |world, _, session, _| {
            let clone = session.clone();
            world.store.before(Verb::Commit, move || async move { clone.discard() });
            if let Some(fault) = fault {
                world.fail_twice(Verb::Commit, fault);
            }
            assert_eq!(run(session.commit()).is_ok(), fault.is_none());
        });
    }
}

#[test]
fn set_frees_the_updates_that_it_replaces() {
    check_freed("set", 1, |_, _, session, token| {
        session.set(VISITS, 7).unwrap();
        assert_eq!(Arc::strong_count(token), 1, "before any commit");
    });
    check_freed("remove", 1, |_, _, session, token| {
        session.remove(VISITS).unwrap();
        assert_eq!(Arc::strong_count(token), 1, "before any commit");
    });
}

#[test]
fn refused_update_is_freed() {
    let world = World::new();
    let session = run(world.anonymous());
    let token = Token::default();
    session.close();
    let held = (session.clone(), Arc::clone(&token));
    let refused = session.update(VISITS, move |visits| {
        let _ = &held;
        *visits += 1;
    });
    assert!(matches!(refused, Err(SessionError::Closed)));
    assert_eq!(Arc::strong_count(&token), 1);
}

/// A cancelled request frees its updates, and the lock lapses.
#[test]
fn request_cancelled_under_the_lock_frees_everything() {
    let world = World::new();
    let id = run(world.visitor());
    let session = run(world.open(&id));
    let token = Token::default();
    {
        let mut locked = Box::pin(session.locked(Duration::ZERO, async || {
            record(&session, &token, 1);
            std::future::pending::<Result<(), SessionError>>().await
        }));
        begin(locked.as_mut());
    }
    session.close();
    drop(session);
    assert_eq!(Arc::strong_count(&token), 1);

    let next = run(world.open(&id));
    let enter = || run(next.locked(Duration::ZERO, async || Ok::<_, SessionError>(())));
    assert!(matches!(enter(), Err(SessionError::Locked)));
    world.wait(world.sessions.lease());
    enter().unwrap();
    assert_eq!(run(world.open(&id)).get(VISITS), Some(1), "the update was not stored");
}

/// If a request is dropped while it waits for the lock, it leaves the queue.
#[test]
fn request_dropped_in_the_queue_holds_up_nobody() {
    let world = World::new();
    let id = run(world.visitor());
    let (holder, waiting, next) =
        (run(world.open(&id)), run(world.open(&id)), run(world.open(&id)));
    let is_done = AtomicBool::new(false);
    let mut held = Box::pin(holder.locked(Duration::ZERO, async || {
        while !is_done.load(Ordering::Relaxed) {
            turn().await;
        }
        Ok::<_, SessionError>(())
    }));
    begin(held.as_mut());
    {
        let work = async || Ok::<_, SessionError>(());
        let mut waiting = Box::pin(waiting.locked(Duration::from_secs(60), work));
        begin(waiting.as_mut());
    }
    is_done.store(true, Ordering::Relaxed);
    run(held).unwrap();
    run(next.locked(Duration::ZERO, async || Ok::<_, SessionError>(()))).unwrap();
}

/// After a lost race, a request retries alone. If the request is dropped meanwhile, the next one
/// retries.
#[test]
fn request_dropped_while_it_retries_holds_up_nobody() {
    let world = World::new();
    let id = run(world.visitor());
    let lose_a_race = || {
        let (other, id) = (world.other_process(), id.clone());
        world.store.before(Verb::Commit, move || async move {
            let session = other.open(&id).await;
            session.update(VISITS, |visits| *visits += 1).unwrap();
            session.commit().await.unwrap();
        });
    };
    let (dropped, next) = (run(world.open(&id)), run(world.open(&id)));
    dropped.set(NOTE, "never stored").unwrap();
    lose_a_race();
    {
        let mut commit = Box::pin(dropped.commit());
        // The other request's commit is the second call.
        world.store.before_nth(3, Verb::Commit, std::future::pending);
        begin(commit.as_mut());
    }
    next.set(NOTE, "stored").unwrap();
    lose_a_race();
    run(next.commit()).unwrap();
    let after = run(world.open(&id));
    assert_eq!((after.get(VISITS), after.get(NOTE).as_deref()), (Some(3), Some("stored")));
}

/// After a dropped commit, the commit of a clone fails, and does not hang.
#[test]
fn dropped_commit_frees_the_turn_to_commit() {
    let world = World::new();
    let id = run(world.visitor());
    let session = run(world.open(&id));
    session.set(VISITS, 2).unwrap();
    world.store.before(Verb::Commit, std::future::pending);
    begin(pin!(session.commit()));
    session.set(NOTE, "later").unwrap();
    assert!(matches!(run(session.commit()), Err(SessionError::Unconfirmed)));
    session.discard();
    session.set(NOTE, "later").unwrap();
    drop(run(session.finish()).unwrap());
    let after = run(world.open(&id));
    assert_eq!((after.get(VISITS), after.get(NOTE).as_deref()), (Some(1), Some("later")));
}

// Destructors.

/// Uses the session when its closure is dropped.
struct UsesSession(Session, mpsc::Sender<()>);

impl Drop for UsesSession {
    fn drop(&mut self) {
        let _ = (self.0.get(VISITS), self.0.set(NOTE, "dropped"));
        // An error means that the test is over, and the receiver dropped.
        let _ = self.1.send(());
    }
}

/// Runs a request with an update whose closure uses the session when it is dropped. The closure
/// must be dropped after the session releases its mutex.
fn check_destructor(name: &str, adds: u64, end: impl FnOnce(&World, &Session) + Send + 'static) {
    let (send, dropped) = mpsc::channel();
    std::thread::spawn(move || {
        let world = World::new();
        let session = run(world.open(&run(world.visitor())));
        record_destructor(&session, send, adds);
        end(&world, &session);
        session.close();
    });
    let waited = dropped.recv_timeout(Duration::from_secs(10));
    assert!(waited.is_ok(), "{name}: the closure was dropped under a lock of the session");
}

fn record_destructor(session: &Session, send: mpsc::Sender<()>, adds: u64) {
    let held = UsesSession(session.clone(), send);
    session
        .update(VISITS, move |visits| {
            let _ = &held;
            *visits += adds;
        })
        .unwrap();
}

#[test]
fn closure_is_dropped_without_a_lock() {
    check_destructor("set", 1, |_, session| session.set(VISITS, 7).unwrap());
    check_destructor("discard", 1, |_, session| session.discard());
    check_destructor("destroy", 1, |_, session| session.destroy().unwrap());
    check_destructor("close", 1, |_, session| session.close());
    check_destructor("commit", 1, |_, session| run(session.commit()).unwrap());
    check_destructor("weak commit", 0, |_, session| run(session.commit()).unwrap());
    check_destructor("try_finish", 0, |_, session| drop(session.try_finish().unwrap()));
    check_destructor("failed finish", 1, |world, session| {
        world.store.fail(Verb::Commit, Fault::DOWN);
        assert!(run(session.finish()).is_err());
    });
}

/// A clone gives the changes up during their commit, and then the store refuses the commit.
#[test]
fn closure_of_a_failed_commit_is_dropped_without_a_lock() {
    for destroys in [true, false] {
        check_destructor("failed commit", 1, move |world, session| {
            let clone = session.clone();
            world.store.before(Verb::Commit, move || async move {
                if destroys {
                    clone.destroy().unwrap();
                } else {
                    clone.discard();
                }
            });
            world.store.fail(Verb::Commit, Fault::DOWN);
            assert!(run(session.commit()).is_err());
        });
    }
}

/// During a commit, a clone records an update without an effect.
#[test]
fn closure_that_a_commit_confirms_is_dropped_without_a_lock() {
    let (send, dropped) = mpsc::channel();
    std::thread::spawn(move || {
        let world = World::new();
        let session = run(world.open(&run(world.visitor())));
        session.set(NOTE, "a change").unwrap();
        let clone = session.clone();
        world.store.before(Verb::Commit, move || async move {
            record_destructor(&clone, send, 0);
        });
        run(session.commit()).unwrap();
        session.close();
    });
    assert!(dropped.recv_timeout(Duration::from_secs(10)).is_ok(), "it was dropped under a lock");
}
