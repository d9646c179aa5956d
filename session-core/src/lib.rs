// The links of the README are relative, for code hosts. The first definition of a link counts.
//! [session-axum]: https://docs.rs/session-axum
//! [guarantees]: crate::guarantees
//! [monitoring]: crate::monitoring
//!
#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "axum")]
mod axum;
mod clock;
#[cfg(feature = "conformance")]
pub mod conformance;
mod error;
mod events;
#[doc = include_str!("guarantees.md")]
pub mod guarantees {}
mod metrics;
#[doc = include_str!("monitoring.md")]
pub mod monitoring {}
mod protocol;
mod record;
mod session;
mod sessions;
mod store;
#[cfg(feature = "testing")]
pub mod testing;

// A store implements async traits, and decodes an entry from `Bytes`.
#[doc(no_inline)]
pub use {async_trait::async_trait, bytes::Bytes};

#[cfg(feature = "axum")]
pub use axum::{DefaultBody, SessionExtension, SessionRejection, SessionSource};
#[cfg(feature = "json")]
pub use record::Json;
#[cfg(feature = "uuid")]
pub use record::UuidV4;
pub use {
    clock::{Clock, ManualClock, Sleep, SystemClock, Timestamp},
    error::{BoxError, ConfigError, SessionError, StoreError, StoreErrorKind},
    events::{Event, EventKind, Events},
    protocol::{AtLimit, EndReason, OnReuse, SessionLimit},
    record::{
        Codec, CookieLifetime, Entry, Family, Format, IdGenerator, IndexKey, Key, Lifetime, Limits,
        MessagePack, Nonce, OsRandom, Owner, Raw, Record, Revision, SessionId, SessionKey,
        SessionKeyError, Tombstone, View, envelope,
    },
    session::{CookieChange, Flash, FlashLevel, IntoValue, Live, Session},
    sessions::{SessionInfo, Sessions, SessionsBuilder},
    store::{
        Backend, Committed, Created, Ended, Expected, IndexEntry, LocalReads, SessionIndex,
        SessionStore, Touched, Watch, WatchOutcome, Watched, Watchers,
    },
};
