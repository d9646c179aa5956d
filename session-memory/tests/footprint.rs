//! The bytes counted by the store are at least the bytes allocated.

#![expect(clippy::unwrap_used, reason = "the helpers of tests are tests")]

use session_core::{CookieChange, Key, Sessions};
use session_memory::MemoryStore;
use tokio::runtime::Builder;

const TEXT: Key<String> = Key::new("text");

/// Creates sessions with a text of so many bytes, and returns the bytes allocated and the bytes
/// counted for each.
fn bytes_per_session(sessions: u64, text: usize, owners: Option<u64>) -> (u64, u64) {
    let runtime = Builder::new_current_thread().build().unwrap();
    let mut store = None;
    let allocated = allocation_counter::measure(|| {
        let store = store.insert(MemoryStore::with_capacity(1 << 32).unwrap());
        let protocol = Sessions::new(store.clone());
        runtime.block_on(async {
            for number in 0..sessions {
                let session = protocol.open([]).await.unwrap();
                if text > 0 {
                    session.set(TEXT, "x".repeat(text)).unwrap();
                }
                if let Some(owners) = owners {
                    session.authenticate(number % owners).unwrap();
                }
                let change = session.finish().await.unwrap();
                assert!(matches!(change, CookieChange::Set { .. }));
            }
        });
    });
    let allocated = u64::try_from(allocated.bytes_current).unwrap();
    (allocated / sessions, store.unwrap().bytes() / sessions)
}

#[test]
fn counted_bytes_cover_the_allocated_ones() {
    for (sessions, text, owners) in [
        (10_000, 10, None),
        (10_000, 0, Some(10_000)),
        (20_000, 0, Some(20_000)),
        (30_000, 0, Some(30_000)),
        (10_000, 10, Some(10)),
        (10_000, 1_000, Some(3_000)),
        (1_000, 50_000, None),
    ] {
        let (allocated, counted) = bytes_per_session(sessions, text, owners);
        assert!(
            (allocated..=allocated + allocated / 2).contains(&counted),
            "{sessions} of {text}, {owners:?}: {allocated} allocated, {counted} counted"
        );
    }
}
