#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod bearer;
mod cookie;
mod error_page;
mod future;
#[cfg(feature = "guard")]
mod guard;
pub mod guide;
mod headers;
mod layer;
mod named;
#[cfg(feature = "guard")]
mod next_path;
mod request_session;
mod same_origin;
mod service;
mod session_or_outage;
mod settings;
mod signed_in;
#[cfg(feature = "testing")]
mod test_session;
mod transport;

#[cfg(feature = "json")]
pub use session_core::Json;
#[cfg(feature = "uuid")]
pub use session_core::UuidV4;
#[cfg(feature = "testing")]
pub use session_core::testing;
pub use session_core::{
    AtLimit, Backend, BoxError, Clock, Codec, ConfigError, CookieChange, CookieLifetime, EndReason,
    Event, EventKind, Events, Flash, FlashLevel, Format, IdGenerator, IntoValue, Key, Lifetime,
    Limits, Live, ManualClock, MessagePack, OnReuse, OsRandom, Owner, Raw, Session, SessionError,
    SessionExtension, SessionId, SessionInfo, SessionKey, SessionKeyError, SessionLimit,
    SessionRejection, SessionSource, Sessions, SessionsBuilder, Sleep, StoreError, StoreErrorKind,
    SystemClock, Timestamp, View,
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
    bearer::BearerToken,
    cookie::{SameSite, SessionCookie},
    error_page::ErrorFormat,
    future::ResponseFuture,
    layer::SessionLayer,
    named::{SessionName, SessionOf, SessionSlot, Unnamed},
    same_origin::SameOrigin,
    service::SessionService,
    session_or_outage::SessionOrOutage,
    signed_in::SignedIn,
    transport::Transport,
};
#[cfg(feature = "guard")]
pub use {
    guard::{RequireSignIn, RequireSignInService},
    next_path::NextPath,
};
