use axum::{Router, extract::Path, http::StatusCode, routing::get};
use tower_sessions::{Expiry, Session, SessionManagerLayer, SessionStore, session::Error};
use tower_sessions_moka_store::MokaStore;
use tower_sessions_redis_store::{
    RedisStore,
    fred::{clients::Pool, interfaces::ClientLike as _, types::config::Config},
};

use super::{CART, COUNT, IDLE, NAME, THEME, USER};
use crate::{
    BoxError,
    route::{Route, paths},
};

/// Creates the server on moka, without a bound, because the comparison has more sessions than the 2,000
/// of the library's documentation.
pub(crate) fn on_moka() -> Router {
    router(MokaStore::new(None))
}

/// Creates the server on Redis, with a pool of 6 connections as in the library's documentation.
pub(crate) async fn on_redis(url: String) -> Result<Router, BoxError> {
    let pool = Pool::new(Config::from_url(&url)?, None, None, None, 6)?;
    pool.connect();
    pool.wait_for_connect().await?;
    Ok(router(RedisStore::new(pool)))
}

fn router(store: impl SessionStore + Clone) -> Router {
    Router::new()
        .route(Route::Untouched.path(), get(async || "untouched"))
        .route(Route::Read.path(), get(read))
        .route(Route::Write.path(), get(write))
        .route(paths::LOGIN, get(login))
        .route(paths::CREATE, get(create))
        .route(paths::COUNT, get(count))
        .route(paths::SET, get(set))
        .route(paths::FOUND, get(found))
        .layer(SessionManagerLayer::new(store).with_expiry(Expiry::OnInactivity(IDLE)))
}

async fn read(session: Session) -> Result<String, Failure> {
    Ok(session.get(NAME).await?.unwrap_or_default())
}

async fn write(session: Session) -> Result<String, Failure> {
    let count = session.get::<u64>(COUNT).await?.unwrap_or_default() + 1;
    session.insert(COUNT, count).await?;
    Ok(count.to_string())
}

/// Signs a user in as axum-login does.
async fn login(session: Session, Path(user): Path<String>) -> Result<(), Failure> {
    session.cycle_id().await?;
    Ok(session.insert(USER, user).await?)
}

async fn create(session: Session) -> Result<(), Failure> {
    session.insert(NAME, "Ada Lovelace").await?;
    session.insert(COUNT, 0).await?;
    session.insert(THEME, "dark").await?;
    Ok(session.insert(CART, [17, 4_711, 123_456]).await?)
}

async fn count(session: Session) -> Result<String, Failure> {
    let count: Option<u64> = session.get(COUNT).await?;
    Ok(count.unwrap_or_default().to_string())
}

async fn set(session: Session, Path(key): Path<String>) -> Result<(), Failure> {
    Ok(session.insert(&key, true).await?)
}

async fn found(session: Session) -> Result<String, Failure> {
    let mut found = 0;
    for key in 0..paths::KEYS {
        found += usize::from(session.get_value(&key.to_string()).await?.is_some());
    }
    Ok(found.to_string())
}

struct Failure(Error);

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

impl axum::response::IntoResponse for Failure {
    fn into_response(self) -> axum::response::Response {
        (StatusCode::INTERNAL_SERVER_ERROR, self.0.to_string()).into_response()
    }
}
