//! A session opened from local reads equals one opened from the store.

#![expect(clippy::unwrap_used, reason = "the helpers of tests are tests")]

use std::{sync::Arc, time::Duration};

use session_core::{CookieChange, Key, ManualClock, Session, SessionId, Sessions, Timestamp};
use session_memory::MemoryStore;

const TEXT: Key<String> = Key::new("text");

/// Returns the observable state of an opened session, and the change of its cookie.
async fn seen(session: Session) -> String {
    let (key, opened_nothing) = (session.key(), session.had_unknown_id());
    let change = match session.finish().await.unwrap() {
        CookieChange::Keep => "keep".to_owned(),
        CookieChange::Set { id, .. } => format!("set {}", id.key()),
        CookieChange::Remove => "remove".to_owned(),
    };
    format!("{key:?} {opened_nothing} {change}")
}

async fn begin(sessions: &Sessions) -> SessionId {
    let session = sessions.try_open_local([], || panic!("no copy is behind")).unwrap();
    session.set(TEXT, "text".to_owned()).unwrap();
    id(session.finish().await.unwrap())
}

fn id(change: CookieChange) -> SessionId {
    let CookieChange::Set { id, .. } = change else { panic!("{change:?}") };
    id
}

#[tokio::test]
async fn local_open_equals_open() {
    let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_000_000)));
    let store = MemoryStore::default();
    let sessions = Sessions::builder(store.clone()).with_clock(Arc::clone(&clock)).build().unwrap();
    let live = begin(&sessions).await;

    let former = begin(&sessions).await;
    let session = sessions.open([former.expose().as_bytes()]).await.unwrap();
    session.renew().unwrap();
    let renewed = id(session.finish().await.unwrap());

    let anonymous = begin(&sessions).await;
    let session = sessions.open([anonymous.expose().as_bytes()]).await.unwrap();
    session.authenticate("ada").unwrap();
    let _ = session.finish().await.unwrap();

    let dead = SessionId::from_random_bits([7; 32]);
    let [live_text, former_text, anonymous_text, dead_text] =
        [&live, &former, &anonymous, &dead].map(|id| id.expose().as_bytes());
    let malformed = &b"malformed"[..];
    let cases: [(&str, Vec<&[u8]>, bool); 9] = [
        ("no cookie", vec![], true),
        ("malformed", vec![malformed], true),
        ("live", vec![live_text], true),
        ("malformed, live", vec![malformed, live_text], true),
        ("one too many malformed", vec![malformed; Sessions::MAX_COOKIES + 1], true),
        ("a former ID in its grace", vec![former_text], true),
        ("an ID from before a login", vec![anonymous_text], true),
        ("dead", vec![dead_text], false),
        ("dead, live", vec![dead_text, live_text], false),
    ];
    for (name, cookies, is_local) in cases {
        let opened = seen(sessions.open(cookies.clone()).await.unwrap()).await;
        let local = sessions.try_open_local(cookies, || panic!("no copy is behind"));
        assert_eq!(local.is_some(), is_local, "{name}");
        if let Some(session) = local {
            assert_eq!(seen(session).await, opened, "{name}");
        }
    }
    // A browser that lost the response receives the ID again.
    let session = sessions.try_open_local([former_text], || false).unwrap();
    assert_eq!(id(session.finish().await.unwrap()).key(), renewed.key());

    clock.advance(Duration::from_secs(3600));
    assert!(sessions.try_open_local([live_text], || false).is_none(), "it has expired");
}
