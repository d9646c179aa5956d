//! Compares servers with and without sessions, ours and others, in one run.
//!
//! The README of this folder explains the measurements and the tables.

mod candidate;
mod child;
mod commands;
mod comparison;
mod cores;
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
mod route;
mod sample;
mod server;
mod summary;

use std::{env, process::ExitCode};

use comparison::Comparison;
use cores::Cores;
use options::Options;
use session_bench::{BoxError, RedisInfo, RedisServer};

fn main() -> ExitCode {
    let mut args = env::args().skip(1).peekable();
    let result = if args.next_if(|arg| arg == child::SERVE).is_some() {
        server::run(&args.next().unwrap_or_default(), args.next().as_deref())
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
    let load_before = environment::load_average();
    let all = options.apart.then(Cores::allowed).transpose()?;
    let apart = all.clone().map(Cores::halves).transpose()?;
    // Before this thread is restricted to some of the cores.
    let in_process = in_process::measure(options.rounds)?;
    let cores = cores::available();
    let threads = match &apart {
        Some((load, _)) => {
            load.keep_to()?;
            load.count()
        }
        // The load takes less CPU time per request than a server.
        None => (cores / 2).max(1),
    };
    let of_the_server = apart.map(|(_, server)| server);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()?;
    runtime.block_on(async {
        let redis = RedisServer::find().await?;
        let mut info = RedisInfo::open(redis.url()).await?;
        let environment =
            environment::describe(&mut info, cores, &load_before, of_the_server.as_ref()).await?;
        let mut comparison =
            Comparison::start(options, &candidates, redis.url(), of_the_server.as_ref()).await?;
        comparison.run_rounds().await?;
        comparison.count_commands().await?;
        comparison.look_for_lost_writes().await?;
        let failures = failures::look_for(options, &candidates, redis.url(), all.as_ref()).await?;
        let footprints = footprint::measure(options, &candidates, all.as_ref()).await?;
        if let Some(path) = &options.picture {
            let panels = summary::panels(&comparison, &failures);
            let spread = "Bars are medians of the rounds; half of the rounds lie on the line.";
            std::fs::write(path, picture::svg(&panels, &[spread, environment.trim_end()]))?;
        }
        println!("{environment}");
        println!("{}", report::speed(&comparison));
        println!("{}", report::shares(&comparison));
        if let Some(cores) = &of_the_server {
            println!("{}", report::least_busy(&comparison, cores));
        }
        println!("{}", report::footprints(&footprints));
        println!("{}", report::failures(&failures));
        println!("{}", report::lost_writes(&comparison));
        println!("{}", report::in_process(&in_process));
        Ok(())
    })
}
