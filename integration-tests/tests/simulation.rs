//! The promises hold for every interleaving, and the simulation detects a broken rule.

use integration_tests::{
    RedisServer,
    sim::{Broken, Counters, NearBroken, NearSimulation, Report, Simulation},
};

/// Prints the violations, so that a failure can be analysed without another run.
fn assert_no_violation(report: &Report) {
    for found in &report.found {
        eprintln!(
            "seed {}: {}: {}\n{}",
            found.seed,
            found.rule,
            found.text,
            found.trace.join("\n")
        );
    }
    assert_eq!(report.violations, 0);
}

#[test]
fn no_history_breaks_a_promise() {
    let report = Simulation::new(20_000).run(|_| {});
    assert_no_violation(&report);
    assert_eq!(report.histories, 20_000);
    assert!(report.counters.faults() > 20_000, "{}", report.counters);
    assert_nothing_is_vacuous(&report.counters, 40);
}

/// Asserts that every event of the checks occurs, and more than by accident.
fn assert_nothing_is_vacuous(counters: &Counters, least: u64) {
    for (name, count) in counters.all() {
        assert!(count >= least, "{name}: {count}, of at least {least}");
    }
}

/// Each variant is found in at most as many histories as the real protocol passes, and mostly in far
/// fewer.
#[test]
fn every_broken_variant_is_found() {
    for broken in Broken::ALL {
        let simulation = Simulation::new(20_000).with_broken(broken).stopping_at_the_first();
        let report = simulation.run(|_| {});
        assert!(report.violations > 0, "{broken} was not found in {} histories", report.histories);
        println!("{broken}: found in {} histories", report.histories);
    }
}

#[test]
fn a_history_is_the_same_each_time() {
    let play = |seed| Simulation::new(1).with_seed(seed).run(|_| {}).counters;
    for seed in 0..100 {
        assert_eq!(play(seed), play(seed), "{seed}");
    }
    assert_ne!(play(1), play(2));
}

/// The report of a violation suffices to reproduce it, and hides all IDs.
#[test]
fn a_violation_is_played_again_by_its_seed() {
    let broken = Simulation::new(200).with_broken(Broken::TouchThatRewrites);
    let found = broken.clone().run(|_| {}).found.remove(0);
    let again = broken.with_seed(found.seed).run(|_| {}).found.remove(0);
    assert_eq!((found.seed, found.text), (again.seed, again.text));
    assert_eq!(found.trace, again.trace);
    assert!(found.trace.iter().any(|line| line.contains("VIOLATION of I1")), "{:#?}", found.trace);
    let longest = found.trace.iter().flat_map(|line| line.split(' ')).map(str::len).max();
    assert!(longest < Some(40), "an ID has 43 characters: {:#?}", found.trace);
}

#[tokio::test]
async fn no_history_on_redis_breaks_a_promise() {
    let redis = RedisServer::start().await;
    let report = Simulation::new(300).run_on_redis(redis.url(), |_| {}).await.unwrap();
    assert_no_violation(&report);
    assert!(report.counters.faults() > 0, "{}", report.counters);
    assert!(report.counters.conflicts > 0 && report.counters.logins > 0, "{}", report.counters);
    let mut connection = redis.connection().await;
    let left: u64 = redis::cmd("DBSIZE").query_async(&mut connection).await.unwrap();
    assert_eq!(left, 0, "the keys of a history are removed after it");
}

#[tokio::test]
async fn broken_variants_are_found_on_redis() {
    let redis = RedisServer::start().await;
    for broken in [Broken::NoRevisionCheck, Broken::UpsertOnGone, Broken::LoginLeavesOldId] {
        let simulation = Simulation::new(300).with_broken(broken).stopping_at_the_first();
        let report = simulation.run_on_redis(redis.url(), |_| {}).await.unwrap();
        assert!(report.violations > 0, "{broken}");
    }
}

#[test]
fn no_history_with_a_near_cache_reads_what_is_too_old() {
    let report = NearSimulation::new(6_000).run();
    for found in &report.found {
        eprintln!("seed {}: {}\n{}", found.seed, found.text, found.trace.join("\n"));
    }
    assert_eq!((report.histories, report.violations), (6_000, 0));
    let met = report.counters;
    let counts =
        [met.hits, met.stale, met.marked, met.not_kept, met.losses, met.hangs, met.ends_heard];
    println!("{met:?}");
    assert!(counts.iter().all(|count| *count > 200), "{met:?}");
}

#[test]
fn every_broken_near_cache_is_found() {
    for broken in NearBroken::ALL {
        let report = NearSimulation::new(20_000).with_broken(broken).run();
        assert!(report.violations > 0, "{broken} was not found");
        println!("{broken}: found in {} histories: {}", report.histories, report.found[0].text);
    }
}
