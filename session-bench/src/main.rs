//! Compares servers with and without sessions, ours and others, in one run.
//!
//! See the README of this folder for what is measured and how to read it.

mod candidate;
mod child;
mod commands;
mod comparison;
mod environment;
mod failures;
mod floor;
mod footprint;
mod in_process;
mod load;
mod options;
mod ours;
#[cfg(feature = "peers")]
mod peers;
#[cfg(not(feature = "peers"))]
#[path = "no_peers.rs"]
mod peers;
mod picture;
mod plain;
mod report;
mod sample;
mod server;
mod summary;

use std::{env, process::ExitCode};

use comparison::Comparison;
use options::Options;
use session_bench::{BoxError, RedisInfo, RedisServer};

fn main() -> ExitCode {
    let mut args = env::args().skip(1).peekable();
    let result = if args.next_if(|arg| arg == child::SERVE).is_some() {
        server::run(&args.next().unwrap_or_default())
    } else {
        Options::parse(args).and_then(|options| match options {
            Some(options) => compare(&options),
            None => {
                println!("{}", options::HELP);
                Ok(())
            }
        })
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("session-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn compare(options: &Options) -> Result<(), BoxError> {
    let candidates = candidate::chosen(options.only.as_deref())?;
    let in_process = in_process::measure(options.rounds)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(environment::half_of_the_cores())
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let redis = RedisServer::find().await?;
        let environment = environment::describe(&mut RedisInfo::open(redis.url()).await?).await?;
        let mut comparison = Comparison::start(options, &candidates, redis.url()).await?;
        comparison.run_rounds().await?;
        comparison.count_commands().await?;
        comparison.look_for_lost_writes().await?;
        let failures = failures::look_for(options, &candidates, redis.url()).await?;
        let footprints = footprint::measure(options, &candidates).await?;
        if let Some(path) = &options.picture {
            let panels = summary::panels(&comparison, &failures);
            let spread = "Bars are medians of the rounds; half of the rounds lie on the line.";
            std::fs::write(path, picture::svg(&panels, &[spread, environment.trim_end()]))?;
        }
        println!("{environment}");
        println!("{}", report::speed(&comparison));
        println!("{}", report::shares(&comparison));
        println!("{}", report::footprints(&footprints));
        println!("{}", report::failures(&failures));
        println!("{}", report::lost_writes(&comparison));
        println!("{}", report::in_process(&in_process));
        Ok(())
    })
}
