#![doc = include_str!("../README.md")]

mod change;
mod clock;
mod codec;
mod commit;
mod confirm;
#[cfg(feature = "conformance")]
pub mod conformance;
pub mod envelope;
mod error;
mod id;
mod key;
mod lifetime;
mod limits;
mod merge;
mod owner;
mod record;
mod rotation;
mod seal;
mod session;
mod session_key;
mod sessions;
mod state;
mod store;
mod values;
mod work;

#[cfg(feature = "json")]
pub use codec::Json;
pub use {
    clock::{Clock, ManualClock, SystemClock, Timestamp},
    codec::{Codec, Format, MessagePack, Raw},
    error::{BoxError, ConfigError, SessionError, StoreError, StoreErrorKind},
    id::{IdGenerator, OsRandom, SessionId, UuidV4},
    key::Key,
    lifetime::{CookieLifetime, Lifetime},
    limits::Limits,
    owner::Owner,
    record::{Entry, Nonce, Record, Revision, Tombstone},
    session::{CookieChange, Session},
    session_key::SessionKey,
    sessions::Sessions,
    store::{Committed, Created, SessionStore, Touched},
};
