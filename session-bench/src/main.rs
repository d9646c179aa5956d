//! Compares the requests per second of servers with and without sessions, in one run.
//!
//! See the README of this folder for what is measured and how to read it.

mod candidate;
mod child;
mod commands;
mod comparison;
mod environment;
mod floor;
mod load;
mod options;
mod ours;
mod plain;
mod progress;
mod sample;
mod server;
mod table;

use std::{env, process::ExitCode};

use comparison::Comparison;
use options::Options;
use session_bench::RedisServer;

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
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(environment::half_of_the_cores())
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let redis = RedisServer::find().await?;
        let environment = environment::describe(redis.url()).await?;
        let mut comparison = Comparison::start(options, redis.url()).await?;
        comparison.run_rounds().await?;
        comparison.count_commands().await?;
        comparison.look_for_lost_writes().await?;
        println!("{environment}");
        println!("{}", comparison.table());
        println!("{}", comparison.lost_writes());
        Ok(())
    })
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;
