#![doc = include_str!("../README.md")]

mod cookie;
mod error;
mod extract;
mod future;
mod headers;
mod layer;
mod session_or_outage;
mod service;
mod request_session;

#[cfg(feature = "json")]
pub use session_core::Json;
pub use session_core::{
    AtLimit, Backend, BackgroundTask, BoxError, Clock, Codec, ConfigError, CookieLifetime, Event,
    Events, Format, IdGenerator, Key, Lifetime, Limits, Lock, ManualClock, MessagePack, OsRandom,
    Owner, Raw, SessionId, SessionInfo, SessionKey, SessionLimit, Sessions, Sleep, StoreError,
    StoreErrorKind, Timestamp, UuidV4,
};
#[cfg(feature = "memory")]
pub use session_memory::MemoryStore;
#[cfg(feature = "redis")]
pub use session_redis::{
    Circuit, EvictionPolicy, Health, RedisConfig, RedisState, RedisStore, Role,
};
#[cfg(feature = "redis-near-cache")]
pub use session_redis::{NearCache, NearCacheStats};

pub use {
    cookie::{SameSite, SessionCookie},
    error::{SessionError, SessionRejection},
    extract::Session,
    future::ResponseFuture,
    layer::SessionLayer,
    session_or_outage::PublicSession,
    service::SessionService,
};
