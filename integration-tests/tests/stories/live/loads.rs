//! Reports cost a bounded number of loads, also if they announce no change.

use std::time::{Duration, Instant};

use integration_tests::{PATIENCE, RedisServer, redis_config};
use session_axum::{CookieChange, Key};

use super::{INTERVAL, NO_POLLING, Processes, cached, end_all, sessions, tracked_keys};

const CONNECTIONS: u128 = 50;

/// The number of loads by one connection before the gap between them is the interval: the first, and
/// after 100, 200, 400, 800, 1600 and 3200 ms.
const FIRST: u128 = 7;

/// Redis evicts tracked keys from a full table, and reports each as changed. So each load makes
/// another connection load.
#[tokio::test(flavor = "multi_thread")]
async fn full_tracking_table_costs_a_bounded_number_of_loads() {
    let redis = RedisServer::builder().arg("--tracking-table-max-keys", "5").start().await;
    let processes = Processes::start(redis_config(redis.url(), PATIENCE), INTERVAL).await;
    let connections = processes.connect(CONNECTIONS.try_into().unwrap()).await;
    let (mark, begin) = (redis.mark_commands().await, Instant::now());
    tokio::time::sleep(2 * INTERVAL).await;
    assert!(tracked_keys(&redis).await <= 6, "five, and the last one before its eviction");
    let (loads, span) = (redis.commands_since(&mark).await.of("get"), begin.elapsed());
    println!("{loads} loads by {CONNECTIONS} connections in {span:.1?}");
    // The jitter shortens the interval by a quarter at most.
    let polls = 1 + span.as_millis() / (INTERVAL * 3 / 4).as_millis();
    let polls_alone = CONNECTIONS * polls;
    assert!(u128::from(loads) > polls_alone, "{loads}: the evictions are reported");
    assert!(u128::from(loads) <= polls_alone + CONNECTIONS * FIRST, "{loads}");
    // Each end waits for the next load.
    end_all("the table was full", &processes, connections.into_iter().take(3).collect()).await;
}

/// The server reports the changes by the process of the connection too.
#[tokio::test(flavor = "multi_thread")]
async fn change_by_the_same_process_costs_one_load() {
    const CHANGES: u64 = 50;
    const COUNT: Key<u64> = Key::new("count");
    let redis = RedisServer::start().await;
    let sessions = sessions(&cached(redis_config(redis.url(), PATIENCE)), NO_POLLING).await;
    let session = sessions.open([]).await.unwrap();
    session.authenticate("ada").unwrap();
    let mut live = session.live().await.unwrap();
    let CookieChange::Set { id, .. } = session.finish().await.unwrap() else { panic!() };
    let connection = tokio::spawn(async move { live.ended().await });
    let mark = redis.mark_commands().await;
    for count in 0..CHANGES {
        let session = sessions.open([id.expose().as_bytes()]).await.unwrap();
        session.set(COUNT, count).unwrap();
        let _ = session.finish().await.unwrap();
        // Longer than the wait after a load.
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    let loads = redis.commands_since(&mark).await.of("get");
    println!("{loads} loads by {CHANGES} requests and the connection");
    assert!(loads > CHANGES * 3 / 2, "{loads}: the changes are reported");
    assert!(loads <= 2 * CHANGES + 5, "{loads}");
    connection.abort();
}
