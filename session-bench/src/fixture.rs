use session_core::{
    Clock as _, CookieChange, Entry, Key, Raw, Session, SessionError, SessionId, SessionStore as _,
    Sessions, SystemClock,
};
use session_memory::MemoryStore;

/// A value that is read.
pub const NAME: Key<String> = Key::new("name");
/// A value that is written.
pub const COUNT: Key<u64> = Key::new("count");
/// A value that is only there.
pub const THEME: Key<String> = Key::new("theme");
/// Another value that is only there.
pub const CART: Key<Vec<u64>> = Key::new("cart");

/// Gives a session the four small values that every measured session has.
///
/// # Errors
///
/// Those of [`Session::set`]; none for a session that is still open.
pub fn fill(session: &Session) -> Result<(), SessionError> {
    session.set(NAME, "Ada Lovelace".to_owned())?;
    session.set(COUNT, 0)?;
    session.set(THEME, "dark".to_owned())?;
    session.set(CART, vec![17, 4_711, 123_456])
}

/// Stores a session with the four small values and returns its ID.
///
/// # Errors
///
/// Those of [`Session::finish`].
///
/// # Panics
///
/// If the session that was stored has no ID, which the protocol excludes.
pub async fn create_session(sessions: &Sessions) -> Result<SessionId, SessionError> {
    let session = sessions.open([]).await?;
    fill(&session)?;
    let CookieChange::Set { id, .. } = session.finish().await? else {
        panic!("a new session tells its ID");
    };
    Ok(id)
}

/// Makes the record of a session, as a store holds it: with the four small values, and with as many
/// others of 32 bytes as it takes to have `values`.
///
/// # Panics
///
/// If a memory store does not hold what was stored in it.
pub async fn record(values: usize) -> Entry {
    let store = MemoryStore::default();
    let sessions = Sessions::new(store.clone());
    let session = sessions.open([]).await.expect("nothing is loaded");
    fill(&session).expect("the session is open");
    for number in 4..values {
        let name = format!("value-{number:04}");
        let key: Key<Vec<u8>, Raw> = Key::new(&name);
        session.set(key, vec![b'x'; 32]).expect("the session is open");
    }
    session.commit().await.expect("memory stores it");
    let key = session.key().expect("it was stored just now");
    let loaded = store.load(&key, SystemClock.now()).await;
    loaded.expect("memory does not fail").expect("it was stored just now")
}
