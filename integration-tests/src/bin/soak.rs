//! Runs load and faults on three servers and one Redis, and checks for lost data and for growing
//! resources.

use std::{env, process::ExitCode, time::Duration};

use integration_tests::{chaos::soak::Soak, server};
use session_core::BoxError;

#[tokio::main]
async fn main() -> Result<ExitCode, BoxError> {
    if server::is_wanted() {
        server::serve().await?;
        return Ok(ExitCode::SUCCESS);
    }
    let minutes = match minutes(env::args().skip(1)) {
        Ok(Some(minutes)) => minutes,
        Ok(None) => {
            print!("{HELP}");
            return Ok(ExitCode::SUCCESS);
        }
        Err(message) => {
            eprintln!("soak: {message}\nsoak --help says more");
            return Ok(ExitCode::from(2));
        }
    };
    let soak = Soak {
        program: env::current_exe()?,
        lasts: Duration::from_secs(60 * minutes),
        margin: Duration::from_secs(1),
        say: |line| eprintln!("{line}"),
    };
    let report = soak.run().await;
    print!("{report}");
    let broken = report.broken();
    broken.iter().for_each(|what| println!("BROKEN: {what}"));
    Ok(ExitCode::from(u8::from(!broken.is_empty())))
}

/// Returns the duration in minutes, or `None` if the user asks for help.
fn minutes(mut args: impl Iterator<Item = String>) -> Result<Option<u64>, String> {
    let mut minutes = 10;
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--help" | "-h" => return Ok(None),
            "--minutes" => {
                let value = args.next().and_then(|value| value.parse().ok());
                let value = value.filter(|minutes| (1..=10_000).contains(minutes));
                minutes = value.ok_or("--minutes needs a number from 1 to 10000")?;
            }
            _ => return Err(format!("there is no option {arg:?}")),
        }
    }
    Ok(Some(minutes))
}

const HELP: &str = "\
Runs visitors on three servers of the application and one Redis that keeps a file, with a fault every few
seconds: Redis stopped, killed, busy, its connections closed, its clients held, its scripts forgotten, a
server killed.

soak [OPTIONS]

  --minutes N   how long (10)
  --help        this

Says on stderr every few seconds how far it is, and at the end in a table what was asked, acknowledged and
found. Exits with 1 if something that was acknowledged is lost, a session that was ended is back, a visitor
was signed out, an answer is neither a success nor a 503, a request took more than a second longer than its
limits allow, or the servers' memory or connections grew; with 2 for options that cannot be used.
";
