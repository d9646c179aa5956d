//! I10: nothing leaks.

use std::{error::Error as _, sync::Arc};

use session_core::{Entry, IdGenerator as _, Key, OsRandom, Owner};

use crate::support::{NOTE, Verb, World, all_bytes_of, told};

#[tokio::test]
async fn no_debug_shows_an_id_or_an_owner() {
    let world = World::new();
    let session = world.anonymous().await;
    session.set(NOTE, &"hello".to_owned()).unwrap();
    session.authenticate("ada@example.org").unwrap();
    let recorded = format!("{session:?}");
    let change = session.finish().await.unwrap();
    let told_text = format!("{change:?}");
    let id = told(change);
    let former = id.clone();
    let session = world.open(&id).await;
    session.renew().unwrap();
    let id = told(session.finish().await.unwrap());
    let entries = [world.stored(&id).await, world.stored(&former).await];
    let all = [
        recorded,
        told_text,
        format!("{session:?}"),
        format!("{:?}", world.sessions),
        format!("{:?}", world.store),
        format!("{entries:?}"),
        format!("{:?}", entries.iter().flatten().map(Entry::revision).collect::<Vec<_>>()),
        format!("{id:?} {:?} {}", id.key(), id.key()),
        format!("{:?}", Owner::from("ada@example.org")),
        format!("{:?}", Key::<u64>::new("name")),
    ];
    for text in &all {
        for id in [&id, &former] {
            assert!(!text.contains(&id.expose()[..8]), "{text}");
        }
        assert!(!text.contains("ada@example"), "{text}");
    }
}

#[tokio::test]
async fn debug_of_a_session_tells_its_key_and_what_is_recorded() {
    let world = World::new();
    let session = world.anonymous().await;
    session.set(NOTE, &"private".to_owned()).unwrap();
    session.update(crate::support::VISITS, |visits| *visits += 1).unwrap();
    session.authenticate("ada").unwrap();
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
}

#[tokio::test]
async fn no_error_shows_an_id_or_a_value() {
    let world = World::new();
    let id = OsRandom.generate();
    let session = world.open(&id).await;
    session.set(NOTE, &"private".to_owned()).unwrap();
    let number: Key<u64> = Key::new(NOTE.name());
    let error = session.try_get(number).unwrap_err();
    let source = error.source().map(ToString::to_string).unwrap_or_default();
    let text = format!("{error} {error:?} {source}");
    assert!(!text.contains("private"), "{text}");
    assert!(!text.contains(id.expose()), "{text}");
}

#[tokio::test]
async fn no_id_is_stored() {
    let world = World::new();
    let id = world.user("ada").await;
    let stored = all_bytes_of(&world).await;
    let text = id.expose().as_bytes();
    assert!(!stored.windows(8).any(|part| text.starts_with(part)));
}

#[tokio::test]
async fn events_hold_no_id() {
    let events = Events::default();
    // With one dispatcher only, an event that another thread meets first is asked for there, where
    // nobody listens, and stays off.
    let _second = tracing::Dispatch::new(Events::default());
    let guard = tracing::subscriber::set_default(events.clone());
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    session.authenticate("Lovelace").unwrap();
    let new = told(session.finish().await.unwrap());
    let session = world.open(&new).await;
    session.destroy().unwrap();
    let _ = session.finish().await.unwrap();
    world
        .store
        .fail(Verb::Load, crate::support::Fault::Before(session_core::StoreErrorKind::Corrupt));
    world.open(&id).await;
    drop(guard);
    let text = events.0.lock().unwrap().clone();
    for event in [
        "session open",
        "session commit",
        "session created",
        "session authenticated",
        "session destroyed",
        "unreadable",
    ] {
        assert!(text.contains(event), "no {event:?} in {text}");
    }
    for id in [id, new] {
        assert!(!text.contains(id.expose()), "{text}");
        assert!(text.contains(&id.key().to_string()), "{text}");
    }
    assert!(!text.contains("Lovelace"), "{text}");
}

/// Collects the fields of all events as text.
#[derive(Clone, Debug, Default)]
struct Events(Arc<std::sync::Mutex<String>>);

impl tracing::Subscriber for Events {
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
        event.record(&mut |field: &tracing::field::Field, value: &dyn std::fmt::Debug| {
            text.push_str(&format!("{field}={value:?} "));
        });
        text.push('\n');
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}
