//! Reports cost a bounded number of loads, also if they announce no change.

use std::time::Instant;

use integration_tests::{PATIENCE, RedisServer, redis_config};

use super::{INTERVAL, Processes, end_all, tracked_keys};

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
