//! A minute of load and faults. The test loads the machine, so it is a separate test program: Cargo runs
//! one program after another.

use std::time::Duration;

use integration_tests::chaos::soak::Soak;

#[tokio::test(flavor = "multi_thread")]
async fn a_minute_of_faults_loses_nothing_and_leaves_nothing() {
    let soak = Soak {
        program: env!("CARGO_BIN_EXE_server").into(),
        lasts: Duration::from_secs(60),
        // A machine that runs tests may stand still for seconds.
        margin: Duration::from_secs(15),
        say: |line| println!("{line}"),
    };
    let report = soak.run().await;
    println!("{report}");
    assert_eq!(report.broken(), [""; 0]);
}
