use axum::{Router, extract::Path, routing::get};
use axum_session::{SessionConfig, SessionLayer, SessionStore};
use axum_session_redispool::{SessionRedisPool, SessionRedisSession as Session};
use redis::Client;
use redis_pool::RedisPool;

use super::{CART, COUNT, IDLE, NAME, THEME, USER};
use crate::{
    BoxError,
    route::{Route, paths},
};

/// Creates the server on Redis. The pool is the one of the library's example: it keeps 16 connections
/// and opens up to 512.
pub(crate) async fn on_redis(url: String) -> Result<Router, BoxError> {
    let pool = SessionRedisPool::from(RedisPool::from(Client::open(url)?));
    let config = SessionConfig::default().with_lifetime(IDLE).with_table_name("bench-a");
    let store = SessionStore::new(Some(pool), config).await?;
    let router = Router::new()
        .route(Route::Untouched.path(), get(async || "untouched"))
        .route(Route::Read.path(), get(read))
        .route(Route::Write.path(), get(write))
        .route(paths::LOGIN, get(login))
        .route(paths::CREATE, get(create))
        .route(paths::COUNT, get(count))
        .route(paths::SET, get(set))
        .route(paths::FOUND, get(found))
        .layer(SessionLayer::new(store));
    Ok(router)
}

async fn read(session: Session) -> String {
    session.get(NAME).unwrap_or_default()
}

async fn write(session: Session) -> String {
    let count = session.get::<u64>(COUNT).unwrap_or_default() + 1;
    session.set(COUNT, count);
    count.to_string()
}

async fn login(session: Session, Path(user): Path<String>) {
    session.renew();
    session.set(USER, user);
}

async fn create(session: Session) {
    session.set(NAME, "Ada Lovelace");
    session.set(COUNT, 0);
    session.set(THEME, "dark");
    session.set(CART, [17, 4_711, 123_456]);
}

async fn count(session: Session) -> String {
    session.get::<u64>(COUNT).unwrap_or_default().to_string()
}

async fn set(session: Session, Path(key): Path<String>) {
    session.set(&key, true);
}

async fn found(session: Session) -> String {
    let found = |key: &usize| session.get::<bool>(&key.to_string()).is_some();
    (0..paths::KEYS).filter(found).count().to_string()
}
