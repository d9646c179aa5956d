//! Flash messages: no message is lost, and one request receives each.

use std::{pin::Pin, sync::Arc};

use session_core::{Flash, FlashLevel, Key, Session, SessionError, SessionId, Sessions};

use crate::support::{Fault, NOTE, Steps, VISITS, Verb, World, interleavings, run, steps, told};

/// The messages, as read by another version of the library.
const NUMBER: Key<u64> = Key::new(Flash::NAME);

fn texts(flashes: &[Flash]) -> Vec<&str> {
    flashes.iter().map(Flash::text).collect()
}

async fn take(world: &World, id: &SessionId) -> Vec<Flash> {
    let session = world.open(id).await;
    let flashes = session.take_flashes().await.unwrap();
    let _ = session.finish().await.unwrap();
    flashes
}

#[tokio::test]
async fn flashes_are_shown_by_one_page_in_their_order() {
    let world = World::new();
    let id = world.visitor().await;
    world
        .change(&id, |session| {
            session.flash(FlashLevel::Success, "Saved.")?;
            session.flash(FlashLevel::Error, "The mail was not sent.".to_owned())
        })
        .await;
    let shown = take(&world, &id).await;
    let shown: Vec<_> = shown.iter().map(|flash| (flash.level(), flash.text())).collect();
    assert_eq!(
        shown,
        [(FlashLevel::Success, "Saved."), (FlashLevel::Error, "The mail was not sent.")]
    );
    assert_eq!(take(&world, &id).await, []);
    assert_eq!(world.open(&id).await.names(), [VISITS.name()]);
}

#[tokio::test]
async fn flash_survives_the_login_of_a_visitor() {
    let world = World::new();
    let id = world.visitor().await;
    world.change(&id, |session| session.flash(FlashLevel::Info, "before")).await;
    let id = world.login(&id, "ada").await;
    assert_eq!(texts(&take(&world, &id).await), ["before"]);

    world.change(&id, |session| session.flash(FlashLevel::Info, "ada's")).await;
    let id = world.login(&id, "bob").await;
    assert_eq!(take(&world, &id).await, [], "the messages of another user are gone");
}

/// "You are signed out." is shown to the visitor after the logout.
#[tokio::test]
async fn flash_after_a_logout_begins_a_session_without_owner() {
    let world = World::new();
    let id = world.user("ada").await;
    let id = world
        .moved(&id, |session| {
            session.flash(FlashLevel::Info, "for ada")?;
            session.destroy()?;
            session.flash(FlashLevel::Success, "You are signed out.")
        })
        .await;
    assert_eq!(world.open(&id).await.owner(), None);
    assert_eq!(texts(&take(&world, &id).await), ["You are signed out."]);
}

#[tokio::test]
async fn page_without_flashes_commits_nothing() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    session.set(NOTE, "not committed yet").unwrap();
    let _ = world.store.calls();
    assert_eq!(session.take_flashes().await.unwrap(), []);
    assert_eq!(world.store.calls(), []);
}

#[tokio::test]
async fn page_shows_the_flash_of_its_own_request() {
    let world = World::new();
    let session = world.anonymous().await;
    session.flash(FlashLevel::Info, "now").unwrap();
    assert_eq!(texts(&session.take_flashes().await.unwrap()), ["now"]);
    let id = told(session.finish().await.unwrap());
    assert_eq!(take(&world, &id).await, []);
}

#[tokio::test]
async fn session_keeps_the_last_flashes() {
    let world = World::new();
    let id = world.visitor().await;
    let count = Flash::MAX_COUNT + 2;
    for number in 0..count {
        world.change(&id, move |session| session.flash(FlashLevel::Info, number.to_string())).await;
    }
    let expected: Vec<_> = (2..count).map(|number| number.to_string()).collect();
    assert_eq!(texts(&take(&world, &id).await), expected);
}

#[tokio::test]
async fn flash_longer_than_its_bound_is_refused() {
    let world = World::new();
    let session = world.anonymous().await;
    session.flash(FlashLevel::Info, "x".repeat(Flash::MAX_BYTES)).unwrap();
    let refused = session.flash(FlashLevel::Info, "x".repeat(Flash::MAX_BYTES + 1));
    assert!(matches!(refused, Err(SessionError::TooLarge { limit: Flash::MAX_BYTES, .. })));
    assert_eq!(session.take_flashes().await.unwrap().len(), 1);
}

/// The largest list fits into a value by the default limits.
#[tokio::test]
async fn full_list_of_flashes_fits_into_a_session() {
    let world = World::new();
    let session = world.anonymous().await;
    for _ in 0..Flash::MAX_COUNT {
        session.flash(FlashLevel::Success, "x".repeat(Flash::MAX_BYTES)).unwrap();
    }
    let id = told(session.finish().await.unwrap());
    assert_eq!(take(&world, &id).await.len(), Flash::MAX_COUNT);
}

/// I11: a message never fails a page for its format.
#[tokio::test]
async fn unreadable_flashes_count_as_missing_and_are_replaced() {
    let world = World::new();
    let id = world.visitor().await;
    world.change(&id, |session| session.set(NUMBER, 7)).await;
    assert_eq!(take(&world, &id).await, []);
    world.change(&id, |session| session.flash(FlashLevel::Info, "new")).await;
    assert_eq!(texts(&take(&world, &id).await), ["new"]);
}

/// A page that fails did not show the message.
#[tokio::test]
async fn flashes_stay_if_the_store_refuses_the_commit() {
    let world = World::new();
    let id = world.visitor().await;
    world.change(&id, |session| session.flash(FlashLevel::Info, "kept")).await;
    let session = world.open(&id).await;
    world.fail_twice(Verb::Commit, Fault::UNSENT);
    assert!(matches!(session.take_flashes().await, Err(SessionError::Store(_))));
    drop(session);
    assert_eq!(texts(&take(&world, &id).await), ["kept"]);
}

type Request = Pin<Box<dyn Future<Output = Vec<Flash>>>>;

fn request<F>(
    sessions: &Sessions,
    id: &SessionId,
    handler: impl FnOnce(Session) -> F + 'static,
) -> Request
where
    F: Future<Output = Vec<Flash>>,
{
    let (sessions, id) = (sessions.clone(), id.clone());
    Box::pin(async move {
        let session = sessions.open([id.expose().as_bytes()]).await.unwrap();
        let flashes = handler(session.clone()).await;
        let _ = session.finish().await.unwrap();
        flashes
    })
}

fn writer(sessions: &Sessions, id: &SessionId, text: &'static str) -> Request {
    request(sessions, id, async move |session| {
        session.flash(FlashLevel::Info, text).unwrap();
        Vec::new()
    })
}

fn page(sessions: &Sessions, id: &SessionId) -> Request {
    request(sessions, id, async |session| session.take_flashes().await.unwrap())
}

/// Returns two processes and a session with one message.
fn site() -> (Arc<Steps>, [Sessions; 2], SessionId) {
    let store = Arc::new(steps());
    let processes = [(); 2].map(|()| Sessions::new(Arc::clone(&store)));
    let id = run(async {
        let session = processes[0].open([]).await.unwrap();
        session.flash(FlashLevel::Info, "first").unwrap();
        told(session.finish().await.unwrap())
    });
    (store, processes, id)
}

/// Two pages and a request that adds a message, in every order: each message is shown once, by one
/// of these pages or by the next one.
#[test]
fn each_flash_is_shown_once_in_every_order() {
    let make = || {
        let (store, [one, other], id) = site();
        let requests = [page(&one, &id), page(&other, &id), writer(&other, &id, "second")];
        ((store, one, id), requests)
    };
    interleavings(7, make, |(_store, sessions, id), shown, order| {
        let next = run(page(&sessions, &id));
        let mut shown: Vec<_> = shown.iter().chain([&next]).flat_map(|page| texts(page)).collect();
        shown.sort_unstable();
        assert_eq!(shown, ["first", "second"], "{order:?}");
    });
}

#[test]
fn concurrent_requests_lose_no_flash() {
    let make = || {
        let (store, [one, other], id) = site();
        let requests = [writer(&one, &id, "second"), writer(&other, &id, "third")];
        ((store, one, id), requests)
    };
    interleavings(8, make, |(_store, sessions, id), _, order| {
        let flashes = run(page(&sessions, &id));
        let mut shown = texts(&flashes);
        shown.sort_unstable();
        assert_eq!(shown, ["first", "second", "third"], "{order:?}");
    });
}
