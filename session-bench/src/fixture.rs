use session_core::{
    Clock as _, CookieChange, Entry, Key, Raw, Session, SessionError, SessionId, SessionStore as _,
    Sessions, SystemClock,
};
use session_memory::MemoryStore;

/// The value that requests read.
pub const NAME: Key<String> = Key::new("name");
/// The value that requests increment.
pub const COUNT: Key<u64> = Key::new("count");
/// A value that requests leave alone.
pub const THEME: Key<String> = Key::new("theme");
/// Another value that requests leave alone.
pub const CART: Key<Vec<u64>> = Key::new("cart");

/// Sets the four small values of every measured session.
///
/// # Errors
///
/// Returns the error of [`Session::set`] if the session is finished.
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
/// Returns the error of [`Session::finish`] if the store fails.
///
/// # Panics
///
/// Panics if the stored session lacks an ID, which the protocol excludes.
pub async fn create_session(sessions: &Sessions) -> Result<SessionId, SessionError> {
    let session = sessions.open([]).await?;
    fill(&session)?;
    let CookieChange::Set { id, .. } = session.finish().await? else {
        panic!("a new session tells its ID");
    };
    Ok(id)
}

/// Creates the record of a session as a store holds it, with `values` values: the four small ones, and
/// others of 32 bytes each.
///
/// # Panics
///
/// Panics if the memory store fails or has lost the record.
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
