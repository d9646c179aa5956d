//! Connections that outlive their request learn of the end of their session: in any process, without
//! polling where Redis reports changes, and never later than the bound.

mod loads;

use std::time::{Duration, Instant};

use integration_tests::{
    ClusterRedis, Fault, FaultProxy, PATIENCE, RedisServer, SentinelRedis, redis_config, until,
};
use redis::AsyncCommands as _;
use session_axum::{EndReason, RedisConfig, RedisStore, Sessions, SessionsBuilder};
use session_core::{CookieChange, SessionKey};
use session_redis::NearCache;
use tokio::{task::JoinHandle, time::timeout};

use crate::{
    acl::acl,
    stopcock::Stopcock,
    support::{Deployment, Log},
};

/// The default interval, which bounds the delay of an end.
const INTERVAL: Duration = Duration::from_secs(5);

/// The time for one load, on a busy machine.
const LOAD: Duration = Duration::from_secs(10);

/// The longest interval: an end that comes sooner was not found by polling.
const NO_POLLING: Duration = SessionsBuilder::MAX_LIVE_INTERVAL;

/// A process with sessions, and another one on the same Redis.
struct Processes {
    this: Sessions,
    other: Sessions,
}

impl Processes {
    async fn start(config: impl Into<RedisConfig>, interval: Duration) -> Self {
        let config = config.into();
        let other = sessions(&config, INTERVAL).await;
        Self { this: sessions(&config, interval).await, other }
    }

    /// Opens connections in this process, each of another user.
    async fn connect(&self, count: usize) -> Vec<Connection> {
        let mut connections = Vec::with_capacity(count);
        for number in 0..count {
            connections.push(Connection::open(&self.this, format!("user-{number}")).await);
        }
        connections
    }

    /// Ends the session of a connection in the other process.
    async fn end(&self, connection: Connection) -> Delay {
        let begin = Instant::now();
        until("the other process ends a session", async || {
            self.other.revoke_all(connection.owner.as_str()).await.is_ok()
        })
        .await;
        let revoked = Instant::now();
        let (reason, ended) = timeout(NO_POLLING + LOAD, connection.ended).await.unwrap().unwrap();
        assert_eq!(reason, EndReason::Deleted);
        Delay { since_begin: ended - begin, since_end: ended.saturating_duration_since(revoked) }
    }
}

async fn sessions(config: &RedisConfig, interval: Duration) -> Sessions {
    let store = RedisStore::connect(config.clone()).await.unwrap();
    Sessions::builder(store).with_live_interval(interval).build().unwrap()
}

/// The connection of a signed-in user, and the task that waits for its end.
struct Connection {
    owner: String,
    key: SessionKey,
    ended: JoinHandle<(EndReason, Instant)>,
}

/// The time from an end to its arrival at the connection.
struct Delay {
    /// From the start of the command that ends the session.
    since_begin: Duration,
    /// From the reply to the command.
    since_end: Duration,
}

impl Connection {
    async fn open(sessions: &Sessions, owner: String) -> Self {
        let session = sessions.open([]).await.unwrap();
        session.authenticate(owner.as_str()).unwrap();
        let mut live = session.live().await.unwrap();
        let CookieChange::Set { .. } = session.finish().await.unwrap() else { panic!() };
        let key = live.key();
        let ended = tokio::spawn(async move { (live.ended().await, Instant::now()) });
        Self { owner, key, ended }
    }
}

/// Waits until the server remembers the readers of so many keys.
async fn tracked(redis: &RedisServer, keys: usize) {
    until("the server watches the sessions", async || tracked_keys(redis).await >= keys).await;
}

/// Returns the number of keys in the server's tracking table.
async fn tracked_keys(redis: &RedisServer) -> usize {
    let mut admin = redis.connection().await;
    let mut info = redis::cmd("INFO");
    let info: redis::InfoDict = info.arg("stats").query_async(&mut admin).await.unwrap();
    info.get("tracking_total_keys").unwrap()
}

/// Returns the IDs of the connections with a flag in the list of clients: `t` for tracking.
async fn clients(redis: &RedisServer, flag: Option<char>) -> Vec<u64> {
    let mut admin = redis.connection().await;
    let list: String = redis::cmd("CLIENT").arg("LIST").query_async(&mut admin).await.unwrap();
    let field = |line: &str, name: &str| {
        line.split(' ').find_map(|field| Some(field.strip_prefix(name)?.to_owned())).unwrap()
    };
    list.lines()
        .filter(|line| line.contains(" name=session-redis "))
        .filter(|line| flag.is_none_or(|flag| field(line, "flags=").contains(flag)))
        .map(|line| field(line, "id=").parse().unwrap())
        .collect()
}

fn print(what: &str, delays: &[Delay]) -> (Duration, Duration) {
    let mut sorted: Vec<_> = delays.iter().map(|delay| delay.since_begin).collect();
    sorted.sort();
    let (median, last) = (sorted[sorted.len() / 2], sorted[sorted.len() - 1]);
    println!("{what}: {} ends, median {median:.1?}, longest {last:.1?}", sorted.len());
    (median, last)
}

fn cached(config: impl Into<RedisConfig>) -> RedisConfig {
    config.into().with_near_cache(NearCache::default())
}

/// The target is a median of 50 ms. The rest is for a busy machine, and far below the interval.
#[tokio::test(flavor = "multi_thread")]
async fn ends_in_another_process_arrive_within_milliseconds() {
    let redis = RedisServer::start().await;
    let config = redis_config(redis.url(), PATIENCE);
    let mut admin = redis.connection().await;
    for (what, config) in [("own connection", config.clone()), ("near cache", cached(config))] {
        let _: () = redis::cmd("FLUSHALL").query_async(&mut admin).await.unwrap();
        let processes = Processes::start(config, NO_POLLING).await;
        let connections = processes.connect(200).await;
        tracked(&redis, 200).await;
        let mut delays = Vec::new();
        for connection in connections {
            delays.push(processes.end(connection).await);
        }
        let (median, longest) = print(what, &delays);
        assert!(median < Duration::from_millis(500), "{median:?}");
        assert!(longest < LOAD, "{longest:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn end_in_the_same_process_arrives_without_polling() {
    let redis = RedisServer::start().await;
    let config = redis_config(redis.url(), PATIENCE);
    for config in [config.clone(), cached(config)] {
        let this = sessions(&config, NO_POLLING).await;
        let processes = Processes { other: this.clone(), this };
        let connections = processes.connect(5).await;
        tracked(&redis, 5).await;
        for connection in connections {
            let delay = processes.end(connection).await;
            assert!(delay.since_begin < LOAD, "{:?}", delay.since_begin);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_connections_share_one_connection_opened_at_the_first() {
    let redis = RedisServer::start().await;
    let this = sessions(&redis_config(redis.url(), PATIENCE), NO_POLLING).await;
    assert_eq!(clients(&redis, None).await.len(), 1);
    let mut connections = Vec::new();
    for number in 0..50 {
        connections.push(Connection::open(&this, format!("user-{number}")).await);
    }
    tracked(&redis, 50).await;
    assert_eq!(clients(&redis, None).await.len(), 2);
    let mark = redis.mark_commands().await;
    this.revoke_all("user-7").await.unwrap();
    connections.swap_remove(7).ended.await.unwrap();
    let counts = redis.commands_since(&mark).await;
    assert_eq!(counts.of("get"), 1, "one load, by the connection that ended: {counts}");
}

/// After a failover, the former primary may lack the session.
#[tokio::test(flavor = "multi_thread")]
async fn former_primary_without_the_session_ends_no_connection() {
    let redis = RedisServer::start().await;
    let this = sessions(&redis_config(redis.url(), PATIENCE), Duration::from_secs(1)).await;
    let mut connection = Connection::open(&this, "ada".to_owned()).await;
    tracked(&redis, 1).await;
    let mut admin = redis.connection().await;
    let mut tell = async |words: &[&str]| {
        let mut command = redis::cmd(words[0]);
        let _: redis::Value = command.arg(&words[1..]).query_async(&mut admin).await.unwrap();
    };
    tell(&["REPLICAOF", "127.0.0.1", "1"]).await;
    // The refused write of another request shows that the server is a replica.
    let other = this.open([]).await.unwrap();
    other.authenticate("bob").unwrap();
    assert!(other.finish().await.is_err());
    tell(&["CONFIG", "SET", "replica-read-only", "no"]).await;
    tell(&["DEL", &format!("session:s:{}", connection.key)]).await;
    let ended = timeout(Duration::from_secs(3), &mut connection.ended).await;
    assert!(ended.is_err(), "the former primary does not decide");
    tell(&["REPLICAOF", "NO", "ONE"]).await;
    let (reason, _) = timeout(LOAD, connection.ended).await.unwrap().unwrap();
    assert_eq!(reason, EndReason::Deleted);
}

#[tokio::test(flavor = "multi_thread")]
async fn near_cache_needs_no_further_connection() {
    let redis = RedisServer::start().await;
    let this = sessions(&cached(redis_config(redis.url(), PATIENCE)), NO_POLLING).await;
    let _connection = Connection::open(&this, "ada".to_owned()).await;
    tracked(&redis, 1).await;
    assert_eq!(clients(&redis, None).await.len(), 1);
}

/// The server forgets the connection and changes the session in one step, so no message is sent.
#[tokio::test(flavor = "multi_thread")]
async fn end_during_the_loss_of_the_connection_is_not_missed() {
    let redis = RedisServer::start().await;
    let config = redis_config(redis.url(), PATIENCE);
    for config in [config.clone(), cached(config)] {
        let mut admin = redis.connection().await;
        let _: () = redis::cmd("FLUSHALL").query_async(&mut admin).await.unwrap();
        let this = sessions(&config, NO_POLLING).await;
        let connection = Connection::open(&this, "ada".to_owned()).await;
        let others = [Connection::open(&this, "bob".to_owned()).await];
        tracked(&redis, 2).await;
        let begin = Instant::now();
        let mut both = redis::pipe();
        both.atomic();
        for id in clients(&redis, Some('t')).await {
            both.cmd("CLIENT").arg("KILL").arg("ID").arg(id).ignore();
        }
        both.del(format!("session:s:{}", connection.key)).ignore();
        let _: () = both.query_async(&mut admin).await.unwrap();
        let (reason, ended) = connection.ended.await.unwrap();
        assert_eq!(reason, EndReason::Deleted);
        assert!(ended - begin < LOAD, "{:?}", ended - begin);
        // Every other connection has loaded again over the new connection.
        tracked(&redis, 1).await;
        for other in others {
            assert!(!other.ended.is_finished());
            let begin = Instant::now();
            this.revoke_all(other.owner.as_str()).await.unwrap();
            other.ended.await.unwrap();
            assert!(begin.elapsed() < LOAD, "{:?}", begin.elapsed());
        }
    }
}

#[tokio::test]
async fn user_who_may_not_track_polls_with_one_warning() {
    let redis = RedisServer::start().await;
    let mut admin = redis.connection().await;
    let _: () = redis::cmd("ACL").arg(acl()).query_async(&mut admin).await.unwrap();
    let url = format!("redis://sessions:secret@{}:{}", redis.host(), redis.port());
    let config = redis_config(url, PATIENCE).with_prefix("shop:").unwrap();
    let log = Log::default();
    let _guard = log.listen();
    let this = sessions(&config, Duration::from_millis(300)).await;
    for owner in ["ada", "bob"] {
        let mut live = {
            let session = this.open([]).await.unwrap();
            session.authenticate(owner).unwrap();
            let live = session.live().await.unwrap();
            let _ = session.finish().await.unwrap();
            live
        };
        assert!(timeout(Duration::from_millis(600), live.ended()).await.is_err());
        this.revoke_all(owner).await.unwrap();
        assert_eq!(timeout(LOAD, live.ended()).await.unwrap(), EndReason::Deleted);
    }
    let warning = "learn of the end of a session by polling";
    assert_eq!(log.count(warning), 1, "{}", log.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn end_arrives_over_the_main_connection_if_the_tracked_one_fails() {
    let redis = RedisServer::start().await;
    let proxy = FaultProxy::before(&redis).await;
    let interval = Duration::from_millis(300);
    let processes = Processes {
        this: sessions(&redis_config(proxy.url(), PATIENCE), interval).await,
        other: sessions(&redis_config(redis.url(), PATIENCE), interval).await,
    };
    // The main connection is set up already.
    proxy.each("client", Fault::CutBefore);
    for connection in processes.connect(3).await {
        let before = proxy.connections();
        until("another attempt has failed", async || proxy.connections() > before).await;
        assert!(!connection.ended.is_finished());
        let delay = processes.end(connection).await;
        assert!(delay.since_end < interval + LOAD, "{:?}", delay.since_end);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hanging_connection_delays_an_end_by_the_bound_only() {
    let redis = RedisServer::start().await;
    let stopcock = Stopcock::before(&redis).await;
    let this = sessions(&RedisConfig::new(stopcock.url()), INTERVAL).await;
    let other = sessions(&redis_config(redis.url(), PATIENCE), INTERVAL).await;
    let processes = Processes { this, other };
    let connections = processes.connect(5).await;
    tracked(&redis, 5).await;
    stopcock.close();
    for connection in &connections {
        processes.other.revoke_all(connection.owner.as_str()).await.unwrap();
    }
    let ends = connections.into_iter().map(|connection| connection.ended);
    let mut ends = std::pin::pin!(futures_util::future::join_all(ends));
    // I7: silence ends no session.
    assert!(timeout(INTERVAL * 2, &mut ends).await.is_err());
    stopcock.open();
    let begin = Instant::now();
    for end in timeout(INTERVAL + LOAD, ends).await.expect("within the bound") {
        assert_eq!(end.unwrap().0, EndReason::Deleted);
    }
    println!("all ends arrived {:.1?} after the silence", begin.elapsed());
}

/// I7: while Redis is down, no connection ends.
#[tokio::test(flavor = "multi_thread")]
async fn connections_outlive_a_killed_redis() {
    let durable = ["--appendonly", "yes", "--appendfsync", "always"];
    let redis = RedisServer::builder().args(durable).start().await;
    let processes = Processes::start(redis.url(), INTERVAL).await;
    let connections = processes.connect(20).await;
    tracked(&redis, 20).await;
    redis.kill().await;
    let ended = |connections: &[Connection]| {
        connections.iter().filter(|connection| connection.ended.is_finished()).count()
    };
    let down_until = Instant::now() + INTERVAL * 2;
    until("the outage is over", async || {
        assert_eq!(ended(&connections), 0, "an outage is no logout");
        Instant::now() > down_until
    })
    .await;
    redis.start_again().await;
    end_all("Redis was killed", &processes, connections).await;
}

/// Ends all sessions one after the other. The first end is bounded by the interval. Later ends are
/// reported by the server again.
async fn end_all(after: &str, processes: &Processes, connections: Vec<Connection>) {
    let mut delays = Vec::new();
    for connection in connections {
        assert!(!connection.ended.is_finished(), "{after}: an outage is no logout");
        let delay = processes.end(connection).await;
        assert!(delay.since_end < INTERVAL + LOAD, "{after}: {:?}", delay.since_end);
        delays.push(delay);
    }
    print(after, &delays);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_follow_a_failover_by_sentinel() {
    let redis = SentinelRedis::start(Duration::from_secs(2)).await;
    let config = RedisConfig::sentinel(redis.urls(), SentinelRedis::NAME);
    let processes = Processes::start(redis_config(config, PATIENCE), INTERVAL).await;
    let connections = processes.connect(20).await;
    for replica in &redis.servers()[1..] {
        let mut replica = replica.connection().await;
        until("the logins are at the replicas", async || {
            replica.keys::<_, Vec<String>>("session:s:*").await.unwrap().len() == 20
        })
        .await;
    }
    redis.servers()[0].kill().await;
    end_all("the primary was killed", &processes, connections).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_on_a_cluster_follow_slots_and_a_failover() {
    let redis = ClusterRedis::start(Duration::from_secs(2)).await;
    let config = redis_config(RedisConfig::cluster(redis.urls()), PATIENCE);
    let processes = Processes::start(config, INTERVAL).await;
    let mut connections = processes.connect(20).await;

    // A slot moves below an open connection.
    let moved = connections.remove(0);
    let slot = redis.slot(&format!("session:s:{}", moved.key)).await;
    let owner = redis.owner(slot).await;
    redis.move_slot(slot, owner, (owner + 1) % 3, async || ()).await;
    end_all("a slot moved", &processes, vec![moved]).await;

    let killed = &redis.nodes()[0];
    let keys = async |node: &RedisServer| {
        let mut node = node.connection().await;
        node.keys::<_, Vec<String>>("session:s:*").await.unwrap().len()
    };
    until("the sessions are at the replica", async || {
        keys(&redis.nodes()[3]).await == keys(killed).await
    })
    .await;
    killed.kill().await;
    end_all("a node was killed", &processes, connections).await;
}

/// Real HTTP: an event stream at one server, and the end at another, in memory and in Redis.
#[tokio::test(flavor = "multi_thread")]
async fn event_stream_ends_when_another_server_ends_the_session() {
    for deployment in [Deployment::on_memory(1).await, Deployment::on_redis(2).await] {
        let browser = deployment.at_server(&deployment.browser(), 0);
        for (path, reason) in
            [("/logout", "Deleted"), ("/end-all", "Deleted"), ("/login/bob", "Replaced")]
        {
            browser.post("/login/ada").await.ok();
            let mut stream = browser.stream("/live").await;
            let open = stream.chunk().await.unwrap().unwrap();
            let key = browser.session().await["key"].as_str().unwrap().to_owned();
            assert_eq!(open, format!("event: open\ndata: {key}\n\n"));
            deployment.at_server(&browser, 1).post(path).await.ok();
            let begin = Instant::now();
            let ended = timeout(INTERVAL + LOAD, stream.chunk()).await.unwrap().unwrap().unwrap();
            assert_eq!(ended, format!("event: ended\ndata: {reason}\n\n"));
            assert_eq!(stream.chunk().await.unwrap(), None);
            println!("{path}: {:.1?} after the response", begin.elapsed());
        }
        deployment.at_server(&browser, 1).post("/renew").await.ok();
    }
}

/// A visitor without a session has nothing to follow.
#[tokio::test]
async fn visitor_gets_no_event_stream() {
    let deployment = Deployment::on_memory(1).await;
    let answer = deployment.browser().get("/live").await;
    assert_ne!(answer.status, 200);
}
