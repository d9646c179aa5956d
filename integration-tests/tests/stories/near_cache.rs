//! Sessions in the near caches of two servers are never wrong: a client reads its own writes, and no
//! client reads a session older than the bound.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use integration_tests::{
    Browser, ClusterRedis, Fault, FaultProxy, PATIENCE, RedisServer, SentinelRedis, redis_config,
    until,
};
use reqwest::{Method, StatusCode};
use session_axum::{RedisConfig, RedisStore, Sessions};
use session_core::conformance;
use session_redis::NearCache;

use crate::{
    acl::{acl, acl_command},
    stopcock::Stopcock,
    support::{Log, outage, ping, send_raw, serve},
};

/// Longer than a machine stands still.
const LONG: Duration = NearCache::MAX_STALENESS;

/// A server with a near cache, and its store.
struct Server {
    addr: SocketAddr,
    store: RedisStore,
}

impl Server {
    async fn start(config: impl Into<RedisConfig>, staleness: Duration) -> Self {
        let store = store(redis_config(config, PATIENCE), staleness).await;
        Self { addr: serve(Sessions::new(store.clone())).await, store }
    }

    async fn two_on(redis: &RedisServer) -> [Self; 2] {
        [Self::start(redis.url(), LONG).await, Self::start(redis.url(), LONG).await]
    }

    /// Returns the session's values for a client with the ID and without the marker cookie, such as one
    /// that has not written recently.
    async fn read(&self, browser: &Browser) -> serde_json::Value {
        let cookie = format!("session={}", browser.session_id().unwrap());
        let answer = send_raw(self.addr, Method::GET, "/session", &[cookie.as_bytes()]).await;
        answer.ok().json()["values"].take()
    }

    async fn count(&self, browser: &Browser) -> Option<u64> {
        self.read(browser).await["count"].as_u64()
    }

    fn flushes(&self) -> u64 {
        self.store.near_cache().unwrap().flushes
    }

    fn hits(&self) -> u64 {
        self.store.near_cache().unwrap().hits
    }
}

async fn store(config: RedisConfig, staleness: Duration) -> RedisStore {
    let cache = NearCache::default().with_staleness(staleness).unwrap();
    RedisStore::connect(config.with_near_cache(cache)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_with_a_near_cache_passes_the_suite() {
    let redis = RedisServer::start().await;
    let store = store(redis_config(redis.url(), PATIENCE), LONG).await;
    let report = conformance::check(store.clone()).await;
    println!("{report}");
    assert!(report.is_ok(), "{report}");
    assert!(store.near_cache().unwrap().hits > 0, "the cases about copies found some");
}

/// A write through one server is immediately visible through the other. `NEAR_CACHE_ROUNDS` sets the
/// number of rounds.
#[tokio::test(flavor = "multi_thread")]
async fn two_servers_one_writes_and_the_other_reads_at_once() {
    let rounds = std::env::var("NEAR_CACHE_ROUNDS");
    let rounds: u64 = rounds.map_or(2_000, |rounds| rounds.parse().unwrap());
    let redis = RedisServer::start().await;
    let servers = Server::two_on(&redis).await;
    let browser = Browser::new(servers[0].addr);
    let mut admin = redis.connection().await;
    let mut stale = 0;
    for round in 1..=rounds {
        let [even, odd] = &servers;
        let (writer, reader) = if round % 2 == 0 { (even, odd) } else { (odd, even) };
        // The reader now has a copy, which it might still return.
        if round > 1 {
            reader.count(&browser).await;
        }
        let written = browser.at(writer.addr).post("/count").await.ok().body;
        assert_eq!(written, round.to_string());
        stale += u64::from(reader.count(&browser).await != Some(round));
        let read = browser.at(reader.addr).session().await;
        assert_eq!(read["values"]["count"], round, "a client reads what it wrote");
        if round % 500 == 100 {
            let mut kill = redis::cmd("CLIENT");
            kill.arg("KILL").arg("TYPE").arg("NORMAL").arg("SKIPME").arg("YES");
            let _: i64 = kill.query_async(&mut admin).await.unwrap();
        }
        if round % 500 == 300 {
            let mut pause = redis::cmd("CLIENT");
            pause.arg("PAUSE").arg(50).arg("WRITE");
            let _: () = pause.query_async(&mut admin).await.unwrap();
        }
    }
    let stats = servers.map(|server| server.store.near_cache().unwrap());
    println!("{rounds} rounds, {stale} stale reads by a client without the mark, {stats:?}");
    assert!(stats.iter().all(|stats| stats.invalidations > 0 && stats.flushes > 0), "{stats:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn reading_a_session_again_costs_no_command() {
    let redis = RedisServer::start().await;
    let [server, _] = Server::two_on(&redis).await;
    let browser = Browser::new(server.addr);
    for _ in 0..2 {
        browser.post("/count").await.ok();
    }
    let reads = async |count| {
        let mark = redis.mark_commands().await;
        for _ in 0..count {
            assert_eq!(server.count(&browser).await, Some(2));
        }
        redis.commands_since(&mark).await
    };
    let first = reads(1).await;
    assert_eq!((first.total(), first.of("get")), (1, 1), "{first}");
    let others = reads(100).await;
    assert_eq!(others.total(), 0, "{others}");
    assert_eq!(server.hits(), 100);
    // A client that has just written receives the marker cookie, so that its reads go to Redis.
    let answer = browser.post("/set/note/x").await.ok();
    assert_eq!(
        answer.set_cookie(),
        Some("session-changed=1; HttpOnly; SameSite=Lax; Path=/; Max-Age=10")
    );
    assert_eq!(answer.headers["cache-control"], "no-store");
    let mark = redis.mark_commands().await;
    let answer = browser.get("/session").await.ok();
    assert_eq!(answer.set_cookie(), None, "a read is no change");
    let marked = redis.commands_since(&mark).await;
    assert_eq!((marked.total(), marked.of("get")), (1, 1), "{marked}");
}

/// Without the marker, a server learns of an end within the time of one message.
#[tokio::test(flavor = "multi_thread")]
async fn an_end_is_seen_by_the_other_server() {
    let redis = RedisServer::start().await;
    let [one, two] = Server::two_on(&redis).await;
    for end in ["/logout", "/end-all", "/renew", "/login/eve"] {
        let browser = Browser::new(one.addr);
        browser.post("/login/ada").await.ok();
        browser.post("/count").await.ok();
        let old = browser.fork();
        assert_eq!(two.count(&old).await, Some(1));
        let hits = two.hits();
        assert_eq!(two.count(&old).await, Some(1));
        assert_eq!(two.hits(), hits + 1);
        browser.post(end).await.ok();
        let begin = Instant::now();
        let cookie = format!("session={}", old.session_id().unwrap());
        until("the end is seen", async || {
            let answer = send_raw(two.addr, Method::GET, "/session", &[cookie.as_bytes()]).await;
            match end {
                // The former ID opens the session for a while, and the response sends the new one.
                "/renew" => answer.set_cookie().is_some_and(|set| !set.contains("Max-Age=0")),
                _ => answer.json()["owner"].is_null(),
            }
        })
        .await;
        println!("{end} seen after {:.1?}", begin.elapsed());
        assert!(begin.elapsed() < LONG / 2, "{end} was told, not waited for");
    }
}

/// Redis evicts tracked keys from a full table. The command that needs a place is often one of the
/// connection that has read the evicted key.
#[tokio::test(flavor = "multi_thread")]
async fn full_tracking_table_shows_no_ended_session() {
    let redis = RedisServer::builder().arg("--tracking-table-max-keys", "5").start().await;
    let [one, two] = Server::two_on(&redis).await;
    let browsers: Vec<_> = (0..50).map(|_| Browser::new(one.addr)).collect();
    for browser in &browsers {
        browser.post("/login/ada").await.ok();
        browser.post("/count").await.ok();
    }
    for browser in &browsers {
        assert_eq!(two.count(browser).await, Some(1));
    }
    browsers[0].post("/end-all").await.ok();
    let begin = Instant::now();
    for browser in &browsers {
        until("the end is seen", async || two.count(browser).await.is_none()).await;
    }
    println!("50 ends seen after {:.1?}", begin.elapsed());
    assert!(begin.elapsed() < LONG / 2, "the copies were dropped, not outlived");
}

/// A half-open connection stays silent, without data and without an error, until the store gives it up.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_hangs_half_open_shows_nothing_beyond_the_bound() {
    let redis = RedisServer::start().await;
    let stopcock = Stopcock::before(&redis).await;
    let one = Server::start(redis.url(), LONG).await;
    // Shorter than the response timeout, so that the store does not give up the connection earlier.
    let bound = Duration::from_millis(500);
    let hasty = redis_config(stopcock.url().as_str(), 4 * bound);
    let hasty = store(hasty, bound).await;
    let two = Server { addr: serve(Sessions::new(hasty.clone())).await, store: hasty };
    let browser = Browser::new(one.addr);
    browser.post("/count").await.ok();
    let cookie = format!("session={}", browser.session_id().unwrap());
    let look = async |addr| send_raw(addr, Method::GET, "/session", &[cookie.as_bytes()]).await;
    until("it is read and kept", async || look(two.addr).await.status == StatusCode::OK).await;

    stopcock.close();
    browser.post("/count").await.ok();
    let written_at = Instant::now();
    let (mut old, mut refused) = (0, 0);
    while written_at.elapsed() < 3 * bound {
        let begun_at = Instant::now();
        let answer = look(two.addr).await;
        if answer.status == StatusCode::OK {
            assert_eq!(answer.json()["values"]["count"], 1, "nothing else can have arrived");
            let age = begun_at - written_at;
            assert!(age <= bound, "read {age:?} after it was changed");
            old += 1;
        } else {
            assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
            refused += 1;
        }
    }
    println!("{old} reads of the old session within {bound:?}, then {refused} refused");
    assert!(refused > 0);

    // The client that wrote never reads the old session.
    let marked = browser.at(two.addr).get("/session").await;
    assert_eq!(marked.status, StatusCode::SERVICE_UNAVAILABLE);
    stopcock.open();
    until("it goes on", async || look(two.addr).await.status == StatusCode::OK).await;
    assert_eq!(two.count(&browser).await, Some(2));
}

/// The marker is essential: a client without it reads the last copy of its server.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_with_the_mark_waits_for_what_it_wrote() {
    let redis = RedisServer::start().await;
    let stopcock = Stopcock::before(&redis).await;
    // The situation of a deployment that changes the staleness.
    let short = Duration::from_millis(100);
    let one = Server::start(redis.url(), short).await;
    let two = Server::start(stopcock.url().as_str(), LONG).await;
    let browser = Browser::new(one.addr);
    browser.post("/count").await.ok();
    assert_eq!(two.count(&browser).await, Some(1));
    stopcock.close();
    browser.post("/count").await.ok();
    // A marker for the first server's staleness would have expired: `Max-Age` counts whole seconds.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    assert_eq!(two.count(&browser).await, Some(1), "the message is under way");
    let reading = tokio::spawn({
        let browser = browser.at(two.addr);
        async move { browser.session().await["values"]["count"].as_u64() }
    });
    assert_eq!(two.count(&browser).await, Some(1), "it still is");
    assert!(!reading.is_finished());
    stopcock.open();
    assert_eq!(reading.await.unwrap(), Some(2));
    assert_eq!(two.count(&browser).await, Some(2), "an answer comes behind the message");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_outlives_its_connection() {
    let redis = RedisServer::start().await;
    let [one, two] = Server::two_on(&redis).await;
    let browser = Browser::new(one.addr);
    browser.post("/count").await.ok();
    let mut admin = redis.connection().await;
    for round in 1..=20 {
        assert_eq!(two.count(&browser).await, Some(round));
        let flushes = two.flushes();
        let mut kill = redis::cmd("CLIENT");
        kill.arg("KILL").arg("TYPE").arg("NORMAL").arg("SKIPME").arg("YES");
        let _: i64 = kill.query_async(&mut admin).await.unwrap();
        until("the loss is noticed", async || two.flushes() > flushes).await;
        // The lost connection receives no invalidation of this write.
        until("it is written", async || browser.post("/count").await.status == StatusCode::OK)
            .await;
        assert_eq!(two.count(&browser).await, Some(round + 1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_is_emptied_empties_the_cache() {
    let redis = RedisServer::start().await;
    let [one, two] = Server::two_on(&redis).await;
    let mut admin = redis.connection().await;
    for flush in ["FLUSHALL", "FLUSHDB"] {
        let browser = Browser::new(one.addr);
        browser.post("/count").await.ok();
        assert_eq!(two.count(&browser).await, Some(1));
        let flushes = two.flushes();
        let _: () = redis::cmd(flush).query_async(&mut admin).await.unwrap();
        until("all is gone", async || two.count(&browser).await.is_none()).await;
        assert_eq!(two.flushes(), flushes + 1);
    }
}

/// A session may vanish without a message, for example with its database. A server that finds it missing
/// drops its copy.
#[tokio::test(flavor = "multi_thread")]
async fn what_redis_has_no_more_is_given_up_when_it_is_asked_for() {
    let redis = RedisServer::start().await;
    let mut admin = redis.connection().await;
    let mut swap = async || {
        let _: () = redis::cmd("SWAPDB").arg(0).arg(1).query_async(&mut admin).await.unwrap();
    };

    // First case: a client with the marker, on a server whose copies stay proven for a long time.
    let [one, two] = Server::two_on(&redis).await;
    let browser = Browser::new(one.addr);
    browser.post("/count").await.ok();
    let other = browser.fork();
    assert_eq!(two.count(&other).await, Some(1));
    swap().await;
    assert_eq!(two.count(&other).await, Some(1), "nobody was told");
    assert!(browser.at(two.addr).session().await["values"]["count"].is_null());
    assert_eq!(two.count(&other).await, None, "the answer was no session");

    // Second case: the proof that a copy needs from time to time. The proof confirms the connection, and
    // must not keep the copy of a missing session.
    let bound = Duration::from_secs(1);
    let hasty = Server::start(redis.url(), bound).await;
    let browser = Browser::new(hasty.addr);
    browser.post("/count").await.ok();
    let flushes = hasty.flushes();
    until("it is kept", async || {
        let hits = hasty.hits();
        assert_eq!(hasty.count(&browser).await, Some(1));
        hasty.hits() > hits
    })
    .await;
    swap().await;
    let swapped_at = Instant::now();
    until("it is given up", async || hasty.count(&browser).await.is_none()).await;
    println!("given up after {:.1?}, of {bound:?}", swapped_at.elapsed());
    assert_eq!(hasty.flushes(), flushes, "nothing else has emptied the cache");
}

#[tokio::test]
async fn a_user_who_may_not_track_is_told_once_and_works_without() {
    let redis = RedisServer::start().await;
    let mut admin = redis.connection().await;
    let _: () = redis::cmd("ACL").arg(acl()).query_async(&mut admin).await.unwrap();
    let url = format!("redis://sessions:secret@{}:{}", redis.host(), redis.port());
    let config = || redis_config(url.as_str(), PATIENCE).with_prefix("shop:").unwrap();
    let complaint = "Redis does not report changes";
    let log = Log::default();
    let guard = log.listen();
    let without = store(config(), LONG).await;
    let browser = Browser::new(serve(Sessions::new(without.clone())).await);
    for count in 1..=3 {
        assert_eq!(browser.post("/count").await.ok().body, count.to_string());
        assert_eq!(browser.session().await["values"]["count"], count);
        let mut kill = redis::cmd("CLIENT");
        kill.arg("KILL").arg("USER").arg("sessions");
        let _: i64 = kill.query_async(&mut admin).await.unwrap();
        until("it is back", async || browser.get("/session").await.status == StatusCode::OK).await;
    }
    assert_eq!(log.count(complaint), 1, "{}", log.text());
    assert!(log.text().contains("NoPerm"), "{}", log.text());
    assert!(!log.text().contains("'client"), "the words of the server: {}", log.text());
    assert_eq!(without.near_cache().unwrap().hits, 0);
    drop(guard);

    // With the right of the operator's page.
    let _: () = redis::cmd("ACL").arg(acl_command(3)).query_async(&mut admin).await.unwrap();
    let log = Log::default();
    let _guard = log.listen();
    let store = store(config(), LONG).await;
    let server = Server { addr: serve(Sessions::new(store.clone())).await, store };
    for _ in 0..2 {
        assert_eq!(server.count(&browser).await, Some(3));
    }
    assert_eq!((log.count(complaint), server.hits()), (0, 1), "{}", log.text());
}

/// All commands wait for one set-up, so a set-up that never ended would block the store for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_set_up_that_is_not_answered_is_given_up() {
    let redis = RedisServer::start().await;
    let proxy = FaultProxy::before(&redis).await;
    let store = store(redis_config(proxy.url(), Duration::from_secs(2)), LONG).await;
    // The last of these commands is `CLIENT SETINFO`.
    let told = proxy.take_arrivals("client").len();
    for _ in 1..told {
        proxy.next("client", Fault::Delay(Duration::ZERO));
    }
    proxy.next("client", Fault::Stall);
    proxy.cut();
    until("a set-up stalls", async || ping(&store).await.is_err() && proxy.pending() == 0).await;
    until("another one is tried", async || ping(&store).await.is_ok()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failover_empties_the_cache() {
    let redis = SentinelRedis::start(Duration::from_secs(2)).await;
    let config = || RedisConfig::sentinel(redis.urls(), SentinelRedis::NAME);
    let [one, two] = [Server::start(config(), LONG).await, Server::start(config(), LONG).await];
    let browser = Browser::new(one.addr);
    browser.post("/login/ada").await.ok();
    browser.post("/set/note/before").await.ok();
    assert_eq!(two.read(&browser).await["note"], "before");
    for replica in &redis.servers()[1..] {
        let mut replica = replica.connection().await;
        until("the session is at the replicas", async || {
            let key = format!("session:s:{}", browser.session().await["key"].as_str().unwrap());
            let record: Option<Vec<u8>> =
                redis::cmd("GET").arg(key).query_async(&mut replica).await.unwrap();
            record.is_some_and(|record| record.windows(6).any(|part| part == b"before"))
        })
        .await;
    }
    let flushes = two.flushes();
    redis.servers()[0].kill().await;
    outage("Sentinel, with a near cache", &browser).await;
    assert!(two.flushes() > flushes, "the connection was lost");
    until("the new primary is found", async || {
        let cookie = format!("session={}", browser.session_id().unwrap());
        let answer = send_raw(two.addr, Method::GET, "/session", &[cookie.as_bytes()]).await;
        if answer.status != StatusCode::OK {
            return false;
        }
        assert_eq!(answer.json()["values"]["note"], "after", "nothing of the old primary");
        true
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_cluster_a_slot_that_moves_takes_its_sessions_out_of_the_cache() {
    let redis = ClusterRedis::start(Duration::from_secs(600)).await;
    let config = || RedisConfig::cluster(redis.urls());
    let [one, two] = [Server::start(config(), LONG).await, Server::start(config(), LONG).await];
    let browser = Browser::new(one.addr);
    browser.post("/count").await.ok();
    let key = browser.session().await["key"].as_str().unwrap().to_owned();
    let slot = redis.slot(&format!("session:s:{key}")).await;
    for round in 1..=4 {
        assert_eq!(two.count(&browser).await, Some(round));
        let hits = two.hits();
        assert_eq!(two.count(&browser).await, Some(round));
        assert_eq!(two.hits(), hits + 1, "it is kept on a cluster too");
        let from = redis.owner(slot).await;
        redis.move_slot(slot, from, (from + 1) % 3, async || {}).await;
        browser.post("/count").await.ok();
        // The invalidation comes from the node that had the slot.
        until("the change is seen", async || two.count(&browser).await == Some(round + 1)).await;
    }
}

/// The client sends no command to a slot that has moved, and learns of the move by a refresh alone.
#[tokio::test(flavor = "multi_thread")]
async fn refresh_of_the_slot_map_discards_copies_of_a_former_owner() {
    let redis = ClusterRedis::start(Duration::from_secs(600)).await;
    let server = Server::start(RedisConfig::cluster(redis.urls()), LONG).await;
    let browser = Browser::new(server.addr);
    browser.post("/count").await.ok();
    let key = browser.session().await["key"].as_str().unwrap().to_owned();
    let slot = redis.slot(&format!("session:s:{key}")).await;
    let from = redis.owner(slot).await;
    let next = (slot + 1) % 16_384;
    let other = if redis.owner(next).await == from { next } else { slot - 1 };
    let is_a_copy = async || {
        let hits = server.hits();
        assert_eq!(server.count(&browser).await, Some(1));
        server.hits() > hits
    };
    until("the session is copied", is_a_copy).await;
    let flushes = server.flushes();
    // Without a key in the slot, no invalidation is due.
    redis.move_slot(other, from, (from + 1) % 3, async || {}).await;
    assert!(is_a_copy().await);
    assert_eq!(server.flushes(), flushes);
    until("a refresh finds the new owner", async || {
        server.store.scan().next().await.unwrap();
        server.flushes() > flushes
    })
    .await;
    assert!(!is_a_copy().await, "the copy is discarded");
}
