use std::time::Duration;

use futures_util::StreamExt as _;
use redis::{Client, aio::MultiplexedConnection};
use tokio::{sync::mpsc, task::JoinHandle, time::timeout};

use crate::BoxError;

/// Counts the commands from clients of Redis, without the commands from scripts.
///
/// The source is the `MONITOR` stream, because the statistics of Redis count both together. Commands of
/// other clients distort the count. Monitoring slows Redis down, so it must not run while requests per
/// second are measured.
#[derive(Debug)]
pub(crate) struct Monitor {
    connection: MultiplexedConnection,
    counts: mpsc::UnboundedReceiver<u64>,
    reader: JoinHandle<()>,
}

impl Monitor {
    pub(crate) async fn open(url: &str) -> Result<Self, BoxError> {
        let client = Client::open(url)?;
        let connection = client.get_multiplexed_async_connection().await?;
        let mut lines = client.get_async_monitor().await?.into_on_message::<String>();
        let (sender, counts) = mpsc::unbounded_channel();
        let reader = tokio::spawn(async move {
            let mut count = 0;
            while let Some(line) = lines.next().await {
                if line.contains(MARK) {
                    if sender.send(count).is_err() {
                        return;
                    }
                    count = 0;
                } else if !line.contains(" lua] ") {
                    count += 1;
                }
            }
        });
        let mut monitor = Self { connection, counts, reader };
        // Discards the commands before the first mark.
        monitor.since_last().await?;
        Ok(monitor)
    }

    /// Returns the number of commands since the last call.
    pub(crate) async fn since_last(&mut self) -> Result<u64, BoxError> {
        let mark: String = redis::cmd("ECHO").arg(MARK).query_async(&mut self.connection).await?;
        debug_assert_eq!(mark, MARK);
        timeout(Duration::from_secs(5), self.counts.recv())
            .await?
            .ok_or_else(|| "the monitor's connection ended".into())
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

const MARK: &str = "session-bench:mark";
