#![doc = include_str!("../README.md")]

mod admission;
mod change;
mod clock;
mod codec;
mod commit;
mod confirm;
#[cfg(feature = "conformance")]
pub mod conformance;
mod copies;
mod creation;
pub mod envelope;
mod error;
mod event;
mod freshness;
mod id;
mod key;
mod lease;
mod lifetime;
mod limits;
mod lock;
mod merge;
mod owner;
mod owner_index;
mod owner_key;
mod owners;
mod record;
mod rotation;
mod seal;
mod session;
mod session_info;
mod session_key;
mod session_limit;
mod sessions;
mod state;
mod store;
mod values;
mod work;

#[cfg(feature = "json")]
pub use codec::Json;
pub use {
    clock::{Clock, ManualClock, Sleep, SystemClock, Timestamp},
    codec::{Codec, Format, MessagePack, Raw},
    copies::Copies,
    error::{BoxError, ConfigError, SessionError, StoreError, StoreErrorKind},
    event::{Event, Events},
    id::{IdGenerator, OsRandom, SessionId, UuidV4},
    key::Key,
    lease::BackgroundTask,
    lifetime::{CookieLifetime, Lifetime},
    limits::Limits,
    lock::Lock,
    owner::Owner,
    owner_index::{Admission, Admitted, Backend, Ended, OwnerIndex},
    owner_key::OwnerKey,
    record::{Entry, Nonce, Record, Revision, Tombstone},
    session::{CookieChange, Session},
    session_info::SessionInfo,
    session_key::SessionKey,
    session_limit::{AtLimit, SessionLimit},
    sessions::Sessions,
    store::{Committed, Created, Expected, SessionStore, Touched},
};
