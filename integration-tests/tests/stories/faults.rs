//! Short runs of the program `faults`: load on three servers while nodes fail and slots move.

use std::time::Duration;

use integration_tests::chaos::faults::{Faults, Table};

async fn faults(only: &str) -> Table {
    let faults = Faults {
        program: env!("CARGO_BIN_EXE_server").into(),
        only: only.to_owned(),
        quick: true,
        // A machine that runs tests may stand still for seconds.
        margin: Duration::from_secs(15),
        say: |line| println!("{line}"),
    };
    let table = faults.run().await;
    assert_eq!(table.rows().len(), 1, "{table}");
    assert_eq!(table.broken().collect::<Vec<_>>(), [""; 0], "{table}");
    table
}

#[tokio::test(flavor = "multi_thread")]
async fn no_end_that_replicas_confirmed_is_lost_with_the_primary() {
    faults("replicas(2, …)` primary killed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_added_to_a_cluster_costs_nobody_anything() {
    let table = faults("cluster node added").await;
    assert!(!table.to_string().contains(" 0 keys"), "{table}");
}
