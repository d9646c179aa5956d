//! The program `sessions`: see its `--help`.

mod command;
mod confirm;
mod failure;
mod options;
mod output;
mod revoke;
mod show;
mod walk;
mod watch;

use std::process::ExitCode;

use clap::Parser as _;
use session_core::Sessions;
use session_redis::RedisStore;

use crate::{failure::Failure, options::Options};

#[tokio::main]
async fn main() -> ExitCode {
    let result = match Options::try_parse() {
        Ok(options) => run(options).await,
        Err(error) if error.use_stderr() => Err(Failure::Arguments(error.to_string())),
        // The help, or the version.
        Err(asked) => asked.print().map_err(Failure::from),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

async fn run(options: Options) -> Result<(), Failure> {
    let store = RedisStore::connect(options.server.config()?).await?;
    let program = command::Program {
        sessions: Sessions::new(store.clone()),
        store,
        output: output::Output { json: options.json },
        prefix: options.server.prefix,
    };
    program.run(options.command).await
}
