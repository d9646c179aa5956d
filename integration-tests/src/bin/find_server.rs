//! Starts the server that `INTEGRATION_TESTS_SERVER` names, and prints its version and its origin. If
//! the server is unavailable, the exit status is 3.
//!
//! `INTEGRATION_TESTS_SERVER=valkey-9 cargo run -p integration-tests --bin find-server`

use std::{collections::HashMap, process::ExitCode};

use integration_tests::RedisServer;
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
    // A build without TLS does not have the setting.
    let tls: HashMap<String, String> =
        redis::cmd("CONFIG").arg(&["GET", "tls-port"]).query_async(&mut connection).await?;
    Ok(version + if tls.is_empty() { " without TLS" } else { "" })
}
