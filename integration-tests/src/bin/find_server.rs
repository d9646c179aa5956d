//! Starts the server that `INTEGRATION_TESTS_SERVER` names, and prints its version and its origin. If
//! the server is unavailable, the exit status is 3.
//!
//! `INTEGRATION_TESTS_SERVER=valkey-9 cargo run -p integration-tests --bin find-server`

use std::{any::Any, panic::resume_unwind, process::ExitCode};

use integration_tests::{Authority, RedisServer, TlsFiles};
use redis::{InfoDict, RedisError};
use tokio::task::JoinError;

#[tokio::main]
async fn main() -> ExitCode {
    match RedisServer::find().await {
        Ok(origin) => println!("{}, {origin}", what_it_is().await.expect("it answers")),
        Err(reason) => {
            eprintln!("{reason}");
            return ExitCode::from(3);
        }
    }
    ExitCode::SUCCESS
}

async fn what_it_is() -> Result<String, RedisError> {
    let server = RedisServer::start().await;
    let mut connection = server.connection().await;
    let info: InfoDict = redis::cmd("INFO").arg("server").query_async(&mut connection).await?;
    let version = match (info.get::<String>("valkey_version"), info.get("redis_version")) {
        (Some(valkey), _) => format!("Valkey {valkey}"),
        (None, redis) => format!("Redis {}", redis.unwrap_or_else(String::new)),
    };
    // Only the start is a proof: some builds without TLS know its settings.
    let start = async { TlsFiles::server(&Authority::new(), "redis.elsewhere").await };
    match tokio::spawn(start).await.map_err(JoinError::into_panic) {
        Ok(_) => Ok(version),
        Err(panic) if is_without_tls(&*panic) => Ok(version + " without TLS"),
        // A taken port, for example: the stories with TLS must not be left out.
        Err(panic) => resume_unwind(panic),
    }
}

/// Returns `true` if a server has not started because it was built without TLS.
fn is_without_tls(panic: &(dyn Any + Send)) -> bool {
    let reasons = ["'tls-port", "Failed finding TLS support"];
    panic
        .downcast_ref::<String>()
        .is_some_and(|text| reasons.iter().any(|reason| text.contains(reason)))
}
