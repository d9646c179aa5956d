//! Runs load on three servers while nodes of a Sentinel and of a cluster fail, and reports the losses.

use std::{env, process::ExitCode, time::Duration};

use integration_tests::{chaos::faults::Faults, server};
use session_core::BoxError;

#[tokio::main]
async fn main() -> Result<ExitCode, BoxError> {
    if server::is_wanted() {
        server::serve().await?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut faults = Faults {
        program: env::current_exe()?,
        only: String::new(),
        quick: false,
        margin: Duration::from_secs(1),
        say: |line| eprintln!("{line}"),
    };
    let mut args = env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--help" | "-h" => {
                print!("{HELP}");
                return Ok(ExitCode::SUCCESS);
            }
            "--quick" => faults.quick = true,
            "--only" => match args.next() {
                Some(text) => faults.only = text,
                None => return Ok(misused("--only needs a text")),
            },
            _ => return Ok(misused(&format!("there is no option {arg:?}"))),
        }
    }
    let table = faults.run().await;
    if table.rows().is_empty() {
        return Ok(misused(&format!("no fault on this machine has {:?} in it", faults.only)));
    }
    print!("{table}");
    let broken: Vec<_> = table.broken().collect();
    broken.iter().for_each(|what| println!("BROKEN: {what}"));
    Ok(ExitCode::from(u8::from(!broken.is_empty())))
}

fn misused(message: &str) -> ExitCode {
    eprintln!("faults: {message}\nfaults --help says more");
    ExitCode::from(2)
}

const HELP: &str = "\
Runs visitors on three servers of the application while the servers that hold their sessions fail: a primary
with two replicas and three sentinels, and a cluster of three primaries and three replicas.

faults [OPTIONS]

  --only TEXT   only the faults that have this text in the first two columns of the table
  --quick       fewer faults, with less time before and after
  --help        this

Says on stderr how far it is, and at the end in a table what was asked, acknowledged and lost. Exits with 1 if
something is lost outside of the stated window, a session is back whose end was acknowledged by replicas, a
visitor was signed out by an outage, an answer is neither a success nor a 503, or a request took more than a
second longer than its limits allow; with 2 for options that cannot be used.
";
