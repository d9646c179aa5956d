#![doc = include_str!("../README.md")]

mod cookie;
mod error;
mod extract;
mod future;
mod headers;
mod layer;
mod service;
mod slot;

#[cfg(feature = "json")]
pub use session_core::Json;
pub use session_core::{
    BoxError, Clock, Codec, ConfigError, CookieLifetime, Format, IdGenerator, Key, Lifetime,
    Limits, ManualClock, MessagePack, OsRandom, Owner, Raw, SessionId, SessionKey, SessionStore,
    Sessions, StoreError, StoreErrorKind, Timestamp, UuidV4,
};
#[cfg(feature = "memory")]
pub use session_memory::MemoryStore;
#[cfg(feature = "redis")]
pub use session_redis::{RedisConfig, RedisStore};

pub use {
    cookie::{SameSite, SessionCookie},
    error::{SessionError, SessionRejection},
    extract::Session,
    future::ResponseFuture,
    layer::SessionLayer,
    service::SessionService,
};
