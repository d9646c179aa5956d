use std::time::Duration;

use redis::{
    Client, Cmd, RedisError, RetryMethod, ScriptInvocation, Value,
    aio::{ConnectionManager, ConnectionManagerConfig},
};
use session_core::{StoreError, StoreErrorKind};

use crate::{
    RedisConfig,
    error::{store_error, timeout},
};

/// One multiplexed connection that comes back by itself, with a time limit on everything.
#[derive(Clone)]
pub(crate) struct Connection {
    manager: ConnectionManager,
    operation_timeout: Duration,
}

impl Connection {
    pub(crate) async fn open(config: &RedisConfig) -> Result<Self, StoreError> {
        let client = Client::open(config.url.as_str()).map_err(|error| {
            // The error's own text may quote the URL, and with it the password.
            StoreError::new(StoreErrorKind::Misconfigured)
                .with_source(format!("the URL of Redis cannot be used: {}", error.category()))
        })?;
        #[cfg(feature = "tls")]
        choose_crypto_provider();
        let settings = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(config.connect_timeout))
            .set_response_timeout(Some(config.response_timeout))
            // While Redis is away each command tries to connect, and fails at once if it cannot, instead
            // of waiting in line behind a growing pause: back is back.
            .set_number_of_retries(0)
            .set_pipeline_buffer_size(PIPELINE_BUFFER);
        let connecting = ConnectionManager::new_with_config(client, settings);
        let manager = tokio::time::timeout(config.connect_timeout, connecting)
            .await
            .map_err(|_| timeout())?
            .map_err(store_error)?;
        Ok(Self { manager, operation_timeout: config.operation_timeout })
    }

    /// Runs a command that changes nothing. If the connection turns out to be dead it is run once more,
    /// on a new one.
    pub(crate) async fn read(&self, command: &Cmd) -> Result<Value, StoreError> {
        self.in_time(async || match self.send(command).await {
            Err(error) if is_dead_connection(&error) => self.send(command).await,
            answer => answer,
        })
        .await
    }

    /// Runs a command that may change something, once.
    pub(crate) async fn write(&self, command: &Cmd) -> Result<Value, StoreError> {
        self.in_time(async || self.send(command).await).await
    }

    /// Runs a script, and tells the server what it is if it does not know.
    pub(crate) async fn run(&self, script: &ScriptInvocation<'_>) -> Result<Value, StoreError> {
        self.in_time(async || script.invoke_async(&mut self.manager.clone()).await).await
    }

    async fn send(&self, command: &Cmd) -> Result<Value, RedisError> {
        // What the server refuses comes back as a value of its own kind.
        self.manager.clone().send_packed_command(command).await?.extract_error()
    }

    async fn in_time(
        &self,
        operation: impl AsyncFnOnce() -> Result<Value, RedisError>,
    ) -> Result<Value, StoreError> {
        match tokio::time::timeout(self.operation_timeout, operation()).await {
            Ok(answer) => answer.map_err(store_error),
            Err(_) => Err(timeout()),
        }
    }
}

fn is_dead_connection(error: &RedisError) -> bool {
    error.is_connection_dropped() && matches!(error.retry_method(), RetryMethod::Reconnect)
}

/// Without a provider rustls panics, and with two it cannot choose: unless the application has chosen,
/// this is ring.
#[cfg(feature = "tls")]
fn choose_crypto_provider() {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // Lost only to somebody who chose at the same moment.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
}

/// How many commands may wait to be written to the connection. redis-rs' default of 50 makes many
/// requests at once wait for each other.
const PIPELINE_BUFFER: usize = 1024;
