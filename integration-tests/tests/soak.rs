//! A minute of load and faults: what takes a machine of its own, and so a test program of its own, as Cargo runs
//! one after another.

use std::time::Duration;

use integration_tests::soak::Soak;

#[tokio::test(flavor = "multi_thread")]
async fn a_minute_of_faults_loses_nothing_and_leaves_nothing() {
    let soak = Soak {
        program: env!("CARGO_BIN_EXE_server").into(),
        lasts: Duration::from_secs(60),
        // A machine that runs tests stands still for seconds.
        margin: Duration::from_secs(15),
        say: |line| println!("{line}"),
    };
    let report = soak.run().await;
    println!("{report}");
    assert_eq!(report.broken(), [""; 0]);
}
