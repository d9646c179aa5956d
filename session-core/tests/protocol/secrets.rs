//! I10: texts, events and the store are free of IDs, owners and values.

use std::{
    error::Error as _,
    fmt::Debug,
    sync::{Arc, Mutex},
    time::Duration,
};

use session_core::{
    AtLimit, Entry, Key, Limits, OnReuse, Owner, Session, SessionError, SessionId, SessionLimit,
    Sessions, StoreErrorKind, testing::subscribe,
};

use crate::support::{Fault, NOTE, Peek as _, VISITS, Verb, World, all_bytes_of, told};

const OWNER: &str = "lovelace@example.org";

const VALUE: &str = "a private note";

/// All IDs of a session, through a login, a renewal and a rotation.
struct Ids(Vec<SessionId>);

impl Ids {
    async fn new(world: &World) -> Self {
        let session = world.anonymous().await;
        session.set(NOTE, VALUE).unwrap();
        let mut ids = vec![told(session.finish().await.unwrap())];
        let moves: [fn(&Session); 3] = [
            |session| session.authenticate(OWNER).unwrap(),
            |session| session.renew().unwrap(),
            |session| session.rotate().unwrap(),
        ];
        for moving in moves {
            let session = world.open(ids.last().unwrap()).await;
            moving(&session);
            ids.push(told(session.finish().await.unwrap()));
        }
        Self(ids)
    }

    fn last(&self) -> &SessionId {
        self.0.last().unwrap()
    }

    fn check(&self, text: &str) {
        check(&self.0, text);
    }
}

/// Fails if a text shows an ID, an owner or a value.
fn check(ids: &[SessionId], text: &str) {
    assert!(!ids.is_empty());
    for id in ids {
        for part in id.expose().as_bytes().windows(8) {
            let part = std::str::from_utf8(part).unwrap();
            assert!(!text.contains(part), "{text}");
        }
        let bytes = format!("{:?}", id.expose().as_bytes());
        assert!(!text.contains(bytes.trim_matches(['[', ']'])), "{text}");
    }
    assert!(!text.contains("lovelace") && !text.contains("private"), "{text}");
}

#[tokio::test]
async fn no_debug_shows_an_id_an_owner_or_a_value() {
    let limit = SessionLimit::new(3, AtLimit::EvictOldest).unwrap();
    let world = World::with(|sessions| sessions.with_session_limit(limit));
    let mut events = world.sessions.events();
    let mut ids = Ids::new(&world).await;
    let session = world.open(ids.last()).await;
    session.set(NOTE, "a private note, changed").unwrap();
    session.update(VISITS, |visits| *visits += 1).unwrap();
    session.renew().unwrap();
    let recorded = format!("{session:?}");
    let change = session.finish().await.unwrap();
    let shown = format!("{change:?}");
    ids.0.push(told(change));
    let owner = Owner::from(OWNER);
    let view = Arc::new(Mutex::new(String::new()));
    let session = world.open(ids.last()).await;
    let written = Arc::clone(&view);
    session
        .try_update(VISITS, move |_, view| {
            written.lock().unwrap().push_str(&format!("{view:?}"));
            Ok::<_, SessionError>(())
        })
        .unwrap();
    let view = view.lock().unwrap().clone();
    assert!(!view.is_empty());
    let listed = world.sessions.list(OWNER).await.unwrap();
    assert_eq!(listed.len(), 1);
    let entries = world.store.peek_all(world.sessions_now()).await;
    assert!(entries.iter().any(|(_, entry)| matches!(entry, Entry::Tombstone(_))));
    let events_so_far: Vec<_> = std::iter::from_fn(|| events.try_next()).collect();
    assert!(!events_so_far.is_empty());
    // An event carries the owner, whose `Debug` hides the name.
    let all: Vec<Box<dyn Debug>> = vec![
        Box::new(recorded),
        Box::new(shown),
        Box::new(view),
        Box::new(session.clone()),
        Box::new(session.sessions()),
        Box::new(Sessions::builder(Arc::clone(&world.store)).with_reuse(OnReuse::EndSession)),
        Box::new(Arc::clone(&world.store)),
        Box::new(world.store.operations()),
        Box::new(listed),
        Box::new(entries),
        Box::new(events_so_far),
        Box::new(events),
        Box::new(ids.last().clone()),
        Box::new((ids.last().key(), owner.key(), owner)),
        Box::new(Key::<u64>::new("name")),
    ];
    for shown in &all {
        ids.check(&format!("{shown:?} {shown:#?}"));
    }
    session.close();
}

#[tokio::test]
async fn debug_of_a_session_shows_its_key_and_its_changes() {
    let world = World::new();
    let session = world.anonymous().await;
    session.set(NOTE, "private").unwrap();
    session.update(VISITS, |visits| *visits += 1).unwrap();
    session.authenticate("ada").unwrap();
    session.renew().unwrap();
    insta::assert_debug_snapshot!(session, @r#"
    Session {
        key: None,
        changes: [
            Set("note"),
            Update("visits"),
            Authenticate,
        ],
        ..
    }
    "#);
    let id = told(session.finish().await.unwrap());
    let session = world.open(&id).await;
    session.take(NOTE).unwrap();
    session.rotate().unwrap();
    session.renew().unwrap();
    let text = format!("{session:?}");
    assert!(text.contains(&format!("{:?}", id.key())), "{text}");
    assert!(text.contains(r#"[Remove("note"), Rotate, Renew]"#), "{text}");
}

#[tokio::test]
async fn no_error_shows_an_id_an_owner_or_a_value() {
    let limit = SessionLimit::new(1, AtLimit::Reject).unwrap();
    let world = World::with(|sessions| {
        sessions.with_session_limit(limit).with_limits(Limits::default().with_values(2))
    });
    let ids = Ids::new(&world).await;
    let session = world.open(ids.last()).await;
    let number: Key<u64> = Key::new(NOTE.name());
    let second = world.anonymous().await;
    second.authenticate(OWNER).unwrap();
    let late = world.open(ids.last()).await;
    late.rotate().unwrap();
    let errors = [
        session.try_get(number).unwrap_err(),
        session.update(number, |number| *number += 1).unwrap_err(),
        session.take_once(number).await.unwrap_err(),
        session.try_update(NOTE, |_, _| Err("it is full")).unwrap_err(),
        session.require_fresh(Duration::ZERO).map_or_else(|error| error, |()| SessionError::Closed),
        session
            .set(Key::<u64>::new("one"), 1)
            .map_or_else(|error| error, |()| SessionError::Closed),
        session.set(Key::<u64>::new("two"), 1).unwrap_err(),
        session.authenticate(OWNER.repeat(1_000)).unwrap_err(),
        second.commit().await.unwrap_err(),
        world.sessions.list("").await.unwrap_err(),
        {
            session.rotate().unwrap();
            session.commit().await.unwrap();
            late.commit().await.unwrap_err()
        },
        {
            world.store.set_outage(Some(StoreErrorKind::Unavailable));
            world.try_open(ids.last()).await.unwrap_err()
        },
    ];
    for error in errors {
        let source = error.source().map(ToString::to_string).unwrap_or_default();
        ids.check(&format!("{error} {error:?} {source}"));
    }
}

#[tokio::test]
async fn no_id_is_stored() {
    let world = World::new();
    let ids = Ids::new(&world).await;
    let stored = all_bytes_of(&world).await;
    for id in &ids.0 {
        let text = id.expose().as_bytes();
        assert!(!stored.windows(8).any(|part| text.starts_with(part)));
    }
}

/// Every call of every verb is free of IDs, also in a lock, a reuse, a list or a revocation.
#[tokio::test]
async fn no_store_call_carries_an_id() {
    let world = World::with(|sessions| sessions.with_reuse(OnReuse::EndSession));
    let ids = use_everything(&world).await;
    let operations = world.store.operations();
    assert!(operations.len() > 20);
    let mut bytes = Vec::new();
    for operation in &operations {
        check(&ids, &format!("{operation:?}"));
        bytes.extend(operation.keys().iter().flat_map(|key| key.as_bytes().to_vec()));
    }
    for id in &ids {
        let text = id.expose().as_bytes();
        assert!(!bytes.windows(8).any(|part| text.starts_with(part)));
    }
}

/// Runs the whole life of a session. Returns all IDs.
async fn use_everything(world: &World) -> Vec<SessionId> {
    let Ids(mut ids) = Ids::new(world).await;
    let session = world.open(ids.last().unwrap()).await;
    let work = async || session.set(VISITS, 3);
    session.locked(Duration::ZERO, work).await.unwrap();
    session.take_once(VISITS).await.unwrap();
    session.renew().unwrap();
    let _ = session.commit().await;
    ids.push(told(session.finish().await.unwrap()));
    let _ = world.open(ids.last().unwrap()).await.finish().await.unwrap();
    world.wait(Duration::from_secs(60));
    // The reuse ends the session.
    assert!(!world.opens(&ids[ids.len() - 2]).await);
    assert!(!world.opens(ids.last().unwrap()).await);
    let user = world.begin(|session| session.authenticate(OWNER)).await;
    let session = world.open(&user).await;
    world.sessions.revoke_others(&session).await.unwrap();
    world.store.fail(Verb::Load, Fault::Before(StoreErrorKind::Corrupt));
    world.open(&user).await;
    session.destroy().unwrap();
    let _ = session.finish().await.unwrap();
    world.sessions.revoke_all(OWNER).await.unwrap();
    ids.push(user);
    ids
}

#[tokio::test]
async fn no_log_line_holds_an_id_an_owner_or_a_value() {
    let lines = Lines::default();
    let guard = subscribe(lines.clone());
    let world = World::with(|sessions| sessions.with_reuse(OnReuse::EndSession));
    let ids = use_everything(&world).await;
    drop(guard);
    let text = lines.0.lock().unwrap().clone();
    for line in [
        "session open",
        "session commit",
        "session created",
        "session authenticated",
        "session renewed",
        "session rotated",
        "session reused",
        "session revoked",
        "session destroyed",
        "an old session ID was used",
        "unreadable",
    ] {
        assert!(text.contains(line), "no {line:?} in {text}");
    }
    check(&ids, &text);
    for id in &ids {
        assert!(text.contains(&id.key().to_string()), "{text}");
    }
}

/// Collects the fields of all events and spans as text.
#[derive(Clone, Debug, Default)]
struct Lines(Arc<Mutex<String>>);

impl tracing::Subscriber for Lines {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        let text = format!("{} {:?}\n", span.metadata().name(), span.values());
        self.0.lock().unwrap().push_str(&text);
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut text = self.0.lock().unwrap();
        event.record(&mut |field: &tracing::field::Field, value: &dyn Debug| {
            text.push_str(&format!("{field}={value:?} "));
        });
        text.push('\n');
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

#[tokio::test]
async fn no_part_of_an_id_is_readable_in_the_store() {
    let world = World::new();
    let id = world.visitor().await;
    let renewed = world.renew(&id).await;
    let signed_in = world.login(&renewed, "ada").await;
    let again = world.renew(&signed_in).await;
    let rotated = world.rotate(&again).await;
    let stored = all_bytes_of(&world).await;
    assert_eq!(world.count().await, (1, 4));
    for id in [id, renewed, signed_in, again, rotated] {
        let text = id.expose().as_bytes();
        for part in text.windows(6) {
            assert!(!stored.windows(6).any(|bytes| bytes == part), "a part of an ID is stored");
        }
    }
}
