//! Fills a Redis with sessions, and measures their cost: memory, disk, processor time, network traffic.
//!
//! `cargo run --release -p integration-tests --bin sizing -- [sessions]`

use std::{error::Error, time::SystemTime};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use integration_tests::{PATIENCE, RedisServer, redis_config, until};
use redis::{InfoDict, aio::MultiplexedConnection};
use session_axum::{Key, RedisStore, Sessions};
use session_core::{
    BoxError, CookieChange, Session, SessionError, SessionId, SessionStore as _, Timestamp,
};
use session_redis::NearCache;

const LOCALE: Key<String> = Key::new("locale");
const THEME: Key<String> = Key::new("theme");
const CART: Key<Vec<u64>> = Key::new("cart");
const TOKEN: Key<String> = Key::new("form_token");

/// The number of concurrent requests.
const AT_ONCE: usize = 64;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let count = std::env::args().nth(1).map_or(Ok(200_000), |count| count.parse())?;
    println!("{count} sessions each, four small values");
    for kind in [Kind::Anonymous, Kind::SignedIn, Kind::TenDevices] {
        measure(kind, count).await.map_err(|error| -> Box<dyn Error> { error })?;
    }
    measure_tracking(count / 2).await.map_err(|error| -> Box<dyn Error> { error })?;
    Ok(())
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    /// Sessions without an owner.
    Anonymous,
    /// Signed-in sessions, one for each owner.
    SignedIn,
    /// Signed-in sessions, ten for each owner.
    TenDevices,
}

async fn measure(kind: Kind, count: u64) -> Result<(), BoxError> {
    let redis = RedisServer::start().await;
    let mut admin = redis.connection().await;
    let store = RedisStore::connect(redis_config(redis.url(), PATIENCE)).await?;
    let sessions = Sessions::new(store);
    println!("\n{kind:?}");

    let before = number(&mut admin, "used_memory").await?;
    let ids: Vec<SessionId> = in_turn(&mut admin, "created", 0..count, async |number| {
        let session = sessions.open([]).await?;
        match kind {
            Kind::Anonymous => {}
            Kind::SignedIn => session.authenticate(number)?,
            Kind::TenDevices => session.authenticate(number / 10)?,
        }
        fill(&session)?;
        match session.finish().await? {
            CookieChange::Set { id, .. } => Ok(id),
            change => Err(format!("a new session, and the cookie: {change:?}").into()),
        }
    })
    .await?;
    let used = number(&mut admin, "used_memory").await? - before;
    println!("  memory: {} bytes per session", used / count);
    let keys: u64 = redis::cmd("DBSIZE").query_async(&mut admin).await?;
    println!("  keys: {keys}");
    let key = format!("session:s:{}", ids[0].key());
    let length: u64 = redis::cmd("STRLEN").arg(&key).query_async(&mut admin).await?;
    println!("  record: {length} bytes");

    let open = async |id: SessionId| sessions.open([id.expose().as_bytes()]).await;
    in_turn(&mut admin, "read", ids.iter().cloned(), async |id| {
        open(id).await?;
        Ok(())
    })
    .await?;
    in_turn(&mut admin, "written", ids.iter().cloned(), async |id| {
        let session = open(id).await?;
        session.update(CART, |cart| cart[0] += 1)?;
        session.commit().await?;
        Ok(())
    })
    .await?;
    if kind == Kind::Anonymous {
        let numbered = ids.iter().cloned().zip(0..).take(ids.len() / 10);
        in_turn(&mut admin, "signed in", numbered, async |(id, number): (SessionId, u64)| {
            let session = open(id).await?;
            session.authenticate(number)?;
            session.commit().await?;
            Ok(())
        })
        .await?;
    }
    let _: String = redis::cmd("BGSAVE").query_async(&mut admin).await?;
    until("a snapshot is there", async || {
        number(&mut admin, "rdb_bgsave_in_progress").await.is_ok_and(|running| running == 0)
    })
    .await;
    println!(
        "  snapshot: fork {} us, {} bytes copied while it was written",
        number(&mut admin, "latest_fork_usec").await?,
        number(&mut admin, "rdb_last_cow_size").await?
    );
    let ended = ids.iter().skip(ids.len() / 10).take(ids.len() / 10).cloned();
    in_turn(&mut admin, "signed out", ended, async |id| {
        let session = open(id).await?;
        session.destroy()?;
        session.commit().await?;
        Ok(())
    })
    .await?;
    Ok(())
}

/// Measures the memory of Redis's tracking table: for near caches, Redis records the readers of each
/// key.
async fn measure_tracking(count: u64) -> Result<(), BoxError> {
    let redis = RedisServer::start().await;
    let mut admin = redis.connection().await;
    let sessions = Sessions::new(RedisStore::connect(redis_config(redis.url(), PATIENCE)).await?);
    println!("\nTracking, {count} sessions");
    let ids: Vec<SessionId> = in_turn(&mut admin, "created", 0..count, async |_| {
        let session = sessions.open([]).await?;
        fill(&session)?;
        match session.finish().await? {
            CookieChange::Set { id, .. } => Ok(id),
            change => Err(format!("a new session, and the cookie: {change:?}").into()),
        }
    })
    .await?;
    let before = number(&mut admin, "used_memory").await?;
    let mut readers = Vec::new();
    for many in [1, 2, 4, 10] {
        while readers.len() < many {
            readers.push(tracking_reader(&redis, &ids).await?);
        }
        let used = number(&mut admin, "used_memory").await?.saturating_sub(before);
        println!("  {many} processes: {} bytes per session", used / count);
    }
    readers.clear();
    until("the processes are gone", async || {
        number(&mut admin, "connected_clients").await.is_ok_and(|clients| clients <= 2)
    })
    .await;
    let used = number(&mut admin, "used_memory").await?.saturating_sub(before);
    println!("  all 10 gone: {} bytes per session", used / count);
    for _ in 0..10 {
        readers.push(tracking_reader(&redis, &ids).await?);
    }
    let used = number(&mut admin, "used_memory").await?.saturating_sub(before);
    let (keys, reads) = (
        number(&mut admin, "tracking_total_keys").await?,
        number(&mut admin, "tracking_total_items").await?,
    );
    println!("  10 others: {} bytes per session, {keys} keys, {reads} reads", used / count);
    Ok(())
}

/// Returns a store with a near cache that has read all sessions, in place of a process.
async fn tracking_reader(redis: &RedisServer, ids: &[SessionId]) -> Result<RedisStore, BoxError> {
    let cache = NearCache::default().with_capacity(1 << 30)?;
    let store =
        RedisStore::connect(redis_config(redis.url(), PATIENCE).with_near_cache(cache)).await?;
    let reads = stream::iter(ids).map(|id| {
        let key = id.key();
        let store = &store;
        async move { store.load(&key, Timestamp::from(SystemTime::now())).await }
    });
    reads.buffer_unordered(AT_ONCE).try_for_each(|_| async { Ok(()) }).await?;
    Ok(store)
}

fn fill(session: &Session) -> Result<(), SessionError> {
    session.set(LOCALE, "de-CH".to_owned())?;
    session.set(THEME, "dark".to_owned())?;
    session.set(CART, vec![1_000_001, 1_000_002, 1_000_003])?;
    session.set(TOKEN, "0123456789abcdef0123456789abcdef".to_owned())?;
    Ok(())
}

/// Runs `act` for each item, and prints the cost for Redis.
async fn in_turn<T, U>(
    admin: &mut MultiplexedConnection,
    what: &str,
    each: impl IntoIterator<Item = T>,
    act: impl AsyncFn(T) -> Result<U, BoxError>,
) -> Result<Vec<U>, BoxError> {
    let names =
        ["used_cpu_user", "used_cpu_sys", "total_net_input_bytes", "total_net_output_bytes"];
    let before = numbers(admin, names).await?;
    let done: Vec<U> =
        stream::iter(each).map(|one| act(one)).buffer_unordered(AT_ONCE).try_collect().await?;
    let after = numbers(admin, names).await?;
    let count = done.len() as f64;
    let [user, system, received, sent] = std::array::from_fn(|at| (after[at] - before[at]) / count);
    println!(
        "  {what}: {:.1} us of the processor each, {received:.0} bytes received, {sent:.0} sent",
        (user + system) * 1e6
    );
    Ok(done)
}

async fn numbers<const N: usize>(
    admin: &mut MultiplexedConnection,
    names: [&str; N],
) -> Result<[f64; N], BoxError> {
    let info: InfoDict = redis::cmd("INFO").query_async(admin).await?;
    let number = |name| info.get::<f64>(name).ok_or_else(|| format!("no {name} in INFO"));
    let numbers: Vec<f64> = names.into_iter().map(number).collect::<Result<_, _>>()?;
    Ok(numbers.try_into().expect("as many as names"))
}

async fn number(admin: &mut MultiplexedConnection, name: &str) -> Result<u64, BoxError> {
    let info: InfoDict = redis::cmd("INFO").query_async(admin).await?;
    info.get(name).ok_or_else(|| format!("no {name} in INFO").into())
}
