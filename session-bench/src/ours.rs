use axum::{Router, extract::Path, routing::get};
use session_axum::{
    Backend, Key, MemoryStore, NearCache, RedisConfig, RedisStore, Session, SessionError,
    SessionLayer,
};
use session_bench::{COUNT, NAME, fill};

use crate::{
    BoxError,
    route::{Route, paths},
};

/// Creates the server with our layer on the memory store.
pub(crate) fn on_memory() -> Router {
    router(MemoryStore::default())
}

/// Creates the server with our layer on the Redis store.
pub(crate) async fn on_redis(url: String) -> Result<Router, BoxError> {
    let config = RedisConfig::new(url).with_prefix("bench-s:")?;
    Ok(router(RedisStore::connect(config).await?))
}

/// Creates the server with our layer on the Redis store, connected by TLS.
pub(crate) async fn on_redis_by_tls(url: String) -> Result<Router, BoxError> {
    let config = RedisConfig::new(url).with_prefix("bench-t:")?;
    Ok(router(RedisStore::connect(config).await?))
}

/// Creates the server with our layer on the Redis store with the near cache.
pub(crate) async fn on_redis_with_near_cache(url: String) -> Result<Router, BoxError> {
    let config =
        RedisConfig::new(url).with_prefix("bench-n:")?.with_near_cache(NearCache::default());
    Ok(router(RedisStore::connect(config).await?))
}

fn router(store: impl Backend) -> Router {
    Router::new()
        .route(Route::Untouched.path(), get(async || "untouched"))
        .route(Route::Read.path(), get(read))
        .route(Route::Write.path(), get(write))
        .route(paths::LOGIN, get(login))
        .route(paths::CREATE, get(create))
        .route(paths::COUNT, get(count))
        .route(paths::SET, get(set))
        .route(paths::FOUND, get(found))
        .layer(SessionLayer::new(store))
}

async fn read(session: Session) -> String {
    session.get(NAME).unwrap_or_default()
}

async fn write(session: Session) -> Result<String, SessionError> {
    let count = session.update(COUNT, |count| *count += 1)?;
    Ok(count.to_string())
}

async fn login(session: Session, Path(user): Path<String>) -> Result<(), SessionError> {
    session.authenticate(user)
}

async fn create(session: Session) -> Result<(), SessionError> {
    fill(&session)
}

async fn count(session: Session) -> String {
    session.get(COUNT).unwrap_or_default().to_string()
}

async fn set(session: Session, Path(key): Path<String>) -> Result<(), SessionError> {
    session.set(Key::<bool>::new(&key), true)
}

async fn found(session: Session) -> String {
    let found = |key: &usize| session.get(Key::<bool>::new(&key.to_string())).is_some();
    (0..paths::KEYS).filter(found).count().to_string()
}
