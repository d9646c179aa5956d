use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::State,
    http::{
        HeaderMap, StatusCode,
        header::{COOKIE, SET_COOKIE},
    },
    response::{AppendHeaders, IntoResponse},
    routing::get,
};
use redis::{
    AsyncTypedCommands as _, Client, IntoConnectionInfo as _, RedisError, Script,
    aio::{ConnectionManager, ConnectionManagerConfig},
    io::tcp::TcpSettings,
};
use session_bench::record;
use session_core::{
    IdGenerator as _, OsRandom,
    envelope::{REVISION, u48},
};

use crate::{
    BoxError,
    route::{Route, paths},
};

/// Creates the server with the least work that sessions in Redis need: a `GET` per read, a `GET` and a
/// script per write, a `GET` and one further round trip per login.
///
/// The record has the same size as ours. The client is redis-rs as it comes, with the same timeouts and
/// pipeline buffer as ours. The server treats the cookie and the record as bytes: the key has a fixed
/// place in the cookie, and a write increments a number in the record.
pub(crate) async fn router(url: String) -> Result<Router, BoxError> {
    let settings = ConnectionManagerConfig::new()
        .set_connection_timeout(Some(Duration::from_secs(1)))
        .set_response_timeout(Some(Duration::from_millis(500)))
        .set_number_of_retries(0)
        .set_pipeline_buffer_size(1024);
    let info = url.into_connection_info()?;
    let info = info.set_tcp_settings(TcpSettings::default().set_nodelay(true));
    let manager = ConnectionManager::new_with_config(Client::open(info)?, settings).await?;
    let mut record = record(4).await.encode();
    record[REVISION].fill(0);
    let floor = Floor { manager, commit: Arc::new(Script::new(COMMIT)), record: record.into() };
    let router = Router::new()
        .route(Route::Read.path(), get(read))
        .route(Route::Write.path(), get(write))
        .route(paths::LOGIN, get(login))
        .route(paths::CREATE, get(create))
        .route(paths::COUNT, get(count))
        // Each request for `SET` counts as a write, so the number of writes is the number of values.
        .route(paths::SET, get(write))
        .route(paths::FOUND, get(count))
        .with_state(floor);
    Ok(router)
}

#[derive(Clone)]
struct Floor {
    manager: ConnectionManager,
    commit: Arc<Script>,
    /// The record of a new session.
    record: Arc<[u8]>,
}

async fn create(State(mut floor): State<Floor>) -> Result<impl IntoResponse, Failure> {
    let (key, cookie) = new_key();
    floor.manager.pset_ex(key, &*floor.record, TIME_TO_LIVE_MS).await?;
    Ok(AppendHeaders([(SET_COOKIE, cookie)]))
}

async fn read(State(mut floor): State<Floor>, headers: HeaderMap) -> Result<String, Failure> {
    let record = floor.load(&key(&headers)?).await?;
    // The response is as long as ours.
    let found = record.len() > REVISION.end;
    Ok(if found { "Ada Lovelace" } else { "" }.to_owned())
}

async fn write(State(mut floor): State<Floor>, headers: HeaderMap) -> Result<String, Failure> {
    let key = key(&headers)?;
    let mut record = floor.load(&key).await?;
    let revision = record[REVISION].to_vec();
    let count = count_of(&record) + 1;
    record[REVISION].copy_from_slice(&u48(count));
    let committed: bool = floor
        .commit
        .key(key)
        .arg(revision)
        .arg(record)
        .arg(TIME_TO_LIVE_MS)
        .invoke_async(&mut floor.manager)
        .await?;
    if committed { Ok(count.to_string()) } else { Err(Failure("somebody else was faster".into())) }
}

/// Reads the record, and moves it to a new key in one further round trip.
async fn login(
    State(mut floor): State<Floor>,
    headers: HeaderMap,
) -> Result<impl IntoResponse, Failure> {
    let old_key = key(&headers)?;
    let record = floor.load(&old_key).await?;
    let (key, cookie) = new_key();
    let mut commands = redis::pipe();
    commands.pset_ex(key, record, TIME_TO_LIVE_MS).ignore().del(old_key).ignore();
    let () = commands.query_async(&mut floor.manager).await?;
    Ok(AppendHeaders([(SET_COOKIE, cookie)]))
}

async fn count(State(mut floor): State<Floor>, headers: HeaderMap) -> Result<String, Failure> {
    let record = floor.load(&key(&headers)?).await?;
    Ok(count_of(&record).to_string())
}

/// Returns the number of writes to a record, kept in the place of the revision.
fn count_of(record: &[u8]) -> u64 {
    record[REVISION].iter().fold(0, |number, &byte| number << 8 | u64::from(byte))
}

/// Creates a key, and the cookie with the key.
fn new_key() -> (String, String) {
    let id = OsRandom.generate();
    let cookie = format!("{COOKIE_START}{}; Path=/", id.expose());
    (format!("{KEY_START}{}", &id.expose()[..KEY_LEN]), cookie)
}

impl Floor {
    async fn load(&mut self, key: &str) -> Result<Vec<u8>, Failure> {
        let record: Option<Vec<u8>> =
            redis::cmd("GET").arg(key).query_async(&mut self.manager).await?;
        record.ok_or(Failure("there is no such record".into()))
    }
}

/// Returns the key in Redis, which is as long as ours.
fn key(headers: &HeaderMap) -> Result<String, Failure> {
    let cookie = headers.get(COOKIE).and_then(|value| value.to_str().ok());
    let id = cookie
        .and_then(|cookie| cookie.strip_prefix(COOKIE_START))
        .and_then(|id| id.get(..KEY_LEN))
        .ok_or(Failure("there is no cookie".into()))?;
    Ok([KEY_START, id].concat())
}

struct Failure(BoxError);

impl From<RedisError> for Failure {
    fn from(error: RedisError) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> axum::response::Response {
        (StatusCode::SERVICE_UNAVAILABLE, self.0.to_string()).into_response()
    }
}

/// The smallest script that prevents lost updates.
const COMMIT: &str = "
if redis.call('GETRANGE', KEYS[1], 2, 7) ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
";

const COOKIE_START: &str = "__Host-session=";
const KEY_START: &str = "bench-f:s:";
const KEY_LEN: usize = session_core::SessionKey::TEXT_LEN;
const TIME_TO_LIVE_MS: u64 = 3_600_000;
