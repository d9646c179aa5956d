//! I6: `get_or_insert` returns a value that the store has, the same to concurrent requests.

use std::{pin::Pin, sync::Arc};

use session_core::{Key, SessionError, SessionId, Sessions};

use crate::support::{
    CLOSING, Fault, NOTE, Steps, TOKEN, VISITS, Verb, World, interleavings, run, steps, told,
};

/// The same value, as read by another version of the application.
const NUMBER: Key<u64> = Key::new(TOKEN.name());

fn text(text: &str) -> impl FnOnce() -> String {
    move || text.to_owned()
}

#[tokio::test]
async fn value_is_committed_before_it_is_returned() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    session.set(NOTE, "before").unwrap();
    assert_eq!(session.get_or_insert(TOKEN, text("made")).await.unwrap(), "made");
    let other = world.open(&id).await;
    assert_eq!(other.get(TOKEN).as_deref(), Some("made"));
    assert_eq!(other.get(NOTE).as_deref(), Some("before"));
}

#[tokio::test]
async fn stored_value_costs_no_command() {
    let world = World::new();
    let id = world.begin(|session| session.set(TOKEN, "stored")).await;
    let session = world.open(&id).await;
    session.set(NOTE, "committed at the end").unwrap();
    world.store.calls();
    let made = session.get_or_insert(TOKEN, || panic!("the value is there"));
    assert_eq!(made.await.unwrap(), "stored");
    assert_eq!(world.store.calls(), []);
}

#[tokio::test]
async fn value_of_the_same_request_is_committed_and_returned() {
    let world = World::new();
    let session = world.anonymous().await;
    session.set(TOKEN, "set").unwrap();
    assert_eq!(session.get_or_insert(TOKEN, text("made")).await.unwrap(), "set");
    let id = told(session.finish().await.unwrap());
    assert_eq!(world.open(&id).await.get(TOKEN).as_deref(), Some("set"));
}

#[tokio::test]
async fn removed_value_is_made_anew() {
    let world = World::new();
    let id = world.begin(|session| session.set(TOKEN, "old")).await;
    let session = world.open(&id).await;
    session.remove(TOKEN).unwrap();
    assert_eq!(session.get_or_insert(TOKEN, text("new")).await.unwrap(), "new");
    assert_eq!(world.open(&id).await.get(TOKEN).as_deref(), Some("new"));
}

#[tokio::test]
async fn value_of_another_type_is_never_overwritten() {
    let world = World::new();
    let id = world.begin(|session| session.set(TOKEN, "text")).await;
    let session = world.open(&id).await;
    let answer = session.get_or_insert(NUMBER, || 7).await;
    assert!(matches!(answer, Err(SessionError::Decode { .. })), "{answer:?}");
    let _ = session.finish().await.unwrap();
    assert_eq!(world.open(&id).await.get(TOKEN).as_deref(), Some("text"));
}

/// I6: a value that may be lost is not shown.
#[tokio::test]
async fn value_is_not_returned_if_the_commit_fails() {
    for fault in [Fault::ANSWER_LOST, Fault::UNSENT] {
        let world = World::new();
        let id = world.visitor().await;
        let session = world.open(&id).await;
        world.fail_twice(Verb::Commit, fault);
        let answer = session.get_or_insert(TOKEN, text("made")).await;
        assert!(matches!(answer, Err(SessionError::Store(_))), "{answer:?}");
    }
}

/// I4: the request neither shows a value of its own nor sees the one of the new session.
#[tokio::test]
async fn overtaken_request_receives_no_value() {
    for closing in CLOSING {
        let world = World::new();
        let id = world.visitor().await;
        let late = world.open(&id).await;
        let session = world.open(&id).await;
        closing(&session).unwrap();
        session.set(TOKEN, "private").unwrap();
        let new = told(session.finish().await.unwrap());
        for _ in 0..2 {
            let answer = late.get_or_insert(TOKEN, text("late")).await;
            assert!(matches!(answer, Err(SessionError::Ended)), "{answer:?}");
        }
        assert_eq!(world.open(&new).await.get(TOKEN).as_deref(), Some("private"));
    }
}

type Page = Pin<Box<dyn Future<Output = Result<String, SessionError>>>>;

fn page(sessions: &Sessions, id: &SessionId, made: &'static str) -> Page {
    let (sessions, id) = (sessions.clone(), id.clone());
    Box::pin(async move {
        let session = sessions.open([id.expose().as_bytes()]).await?;
        let shown = session.get_or_insert(TOKEN, text(made)).await?;
        let _ = session.finish().await?;
        Ok(shown)
    })
}

fn writer(sessions: &Sessions, id: &SessionId) -> Page {
    let (sessions, id) = (sessions.clone(), id.clone());
    Box::pin(async move {
        let session = sessions.open([id.expose().as_bytes()]).await?;
        session.set(NOTE, "beside")?;
        let _ = session.finish().await?;
        Ok(String::new())
    })
}

/// F6: two pages of one session, opened concurrently in two processes.
#[test]
fn concurrent_pages_agree_on_the_value() {
    let make = || {
        let store: Arc<Steps> = Arc::new(steps());
        let [one, other] = [(); 2].map(|()| Sessions::new(Arc::clone(&store)));
        let id = run(async {
            let session = one.open([]).await.unwrap();
            session.set(VISITS, 1).unwrap();
            told(session.finish().await.unwrap())
        });
        let requests = [page(&one, &id, "one"), page(&other, &id, "other"), writer(&one, &id)];
        ((one, id), requests)
    };
    interleavings(7, make, |(sessions, id), answers, order| {
        let [one, other, _] = answers.map(|answer| answer.unwrap());
        assert_eq!(one, other, "{order:?}");
        let session = run(sessions.open([id.expose().as_bytes()])).unwrap();
        assert_eq!(session.get(TOKEN), Some(one), "{order:?}");
        assert_eq!(session.get(NOTE).as_deref(), Some("beside"), "{order:?}");
    });
}

#[tokio::test]
async fn clones_agree_on_the_value() {
    let world = World::new();
    let session = world.anonymous().await;
    let clone = session.clone();
    let (one, other) = tokio::join!(
        session.get_or_insert(TOKEN, text("one")),
        clone.get_or_insert(TOKEN, text("other")),
    );
    assert_eq!(one.unwrap(), other.unwrap());
}
