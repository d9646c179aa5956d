use axum::{Router, routing::get};
use session_axum::{
    Backend, MemoryStore, RedisConfig, RedisStore, Session, SessionError, SessionLayer,
};
use session_bench::{COUNT, NAME, fill};

use crate::{
    BoxError,
    candidate::{CREATE, Route},
};

/// Our layer on the memory store.
pub(crate) fn on_memory() -> Router {
    router(MemoryStore::default())
}

/// Our layer on the Redis store.
pub(crate) async fn on_redis(url: String) -> Result<Router, BoxError> {
    let config = RedisConfig::new(url).with_prefix("bench-s:")?;
    Ok(router(RedisStore::connect(config).await?))
}

fn router(store: impl Backend) -> Router {
    Router::new()
        .route(CREATE, get(create))
        .route(Route::Untouched.path(), get(async || "untouched"))
        .route(Route::Read.path(), get(read))
        .route(Route::Write.path(), get(write))
        .layer(SessionLayer::new(store))
}

async fn create(session: Session) -> Result<(), SessionError> {
    Ok(fill(&session)?)
}

async fn read(session: Session) -> String {
    session.get(NAME).unwrap_or_default()
}

async fn write(session: Session) -> Result<String, SessionError> {
    let count = session.update(COUNT, |count| *count += 1)?;
    Ok(count.to_string())
}
