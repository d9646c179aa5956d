//! Starts the server that `INTEGRATION_TESTS_SERVER` names, and prints its version and its origin. If
//! the server is unavailable, the exit status is 3.
//!
//! `INTEGRATION_TESTS_SERVER=valkey-9 cargo run -p integration-tests --bin find-server`

use std::process::ExitCode;

use integration_tests::{Authority, RedisServer, TlsFiles};
use redis::{InfoDict, RedisError};

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
    let has_tls = tokio::spawn(start).await.is_ok();
    Ok(version + if has_tls { "" } else { " without TLS" })
}
