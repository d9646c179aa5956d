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
    Codec, ConfigError, CookieLifetime, IdGenerator, Key, Lifetime, Limits, MessagePack, OsRandom,
    Owner, Raw, SessionKey, SessionStore, Sessions, StoreError, StoreErrorKind, Timestamp, UuidV4,
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
