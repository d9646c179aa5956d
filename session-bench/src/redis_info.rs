use std::time::Duration;

use redis::{Client, InfoDict, aio::MultiplexedConnection};

use crate::BoxError;

/// The statistics of a Redis server.
#[derive(Debug)]
pub struct RedisInfo {
    connection: MultiplexedConnection,
}

impl RedisInfo {
    /// Connects to the server.
    ///
    /// # Errors
    ///
    /// Returns the error of the connection.
    pub async fn open(url: &str) -> Result<Self, BoxError> {
        let connection = Client::open(url)?.get_multiplexed_async_connection().await?;
        Ok(Self { connection })
    }

    /// Returns the version of the server, or an empty string if the server does not report it.
    ///
    /// # Errors
    ///
    /// Returns the error of the connection.
    pub async fn version(&mut self) -> Result<String, BoxError> {
        let info = self.section("server").await?;
        Ok(info.get("redis_version").unwrap_or_default())
    }

    /// Returns the CPU time of the server so far, on all of its threads.
    ///
    /// # Errors
    ///
    /// Returns the error of the connection. A time that the server does not report counts as zero.
    pub async fn cpu_time(&mut self) -> Result<Duration, BoxError> {
        let info = self.section("cpu").await?;
        let seconds = |name| info.get(name).unwrap_or(0.0);
        Ok(Duration::try_from_secs_f64(seconds("used_cpu_sys") + seconds("used_cpu_user"))?)
    }

    /// Returns the memory of the data, after Redis has moved its keys into tables of the right size.
    ///
    /// # Errors
    ///
    /// Returns the error of the connection, or an error if the server does not report its memory or the
    /// memory keeps changing.
    pub async fn settled_memory(&mut self) -> Result<Memory, BoxError> {
        let mut before = self.memory().await?;
        for _ in 0..LOOKS {
            tokio::time::sleep(BETWEEN_LOOKS).await;
            let now = self.memory().await?;
            if now.used.abs_diff(before.used) < 1024 {
                return Ok(now);
            }
            before = now;
        }
        Err("the memory of Redis does not settle: is anybody else using it?".into())
    }

    async fn memory(&mut self) -> Result<Memory, BoxError> {
        let info = self.section("memory").await?;
        let bytes = |name| info.get::<u64>(name).ok_or("Redis does not tell its memory");
        // The buffers of connections are subtracted.
        let used = bytes("used_memory")?.saturating_sub(bytes("mem_clients_normal")?);
        let keys = redis::cmd("DBSIZE").query_async(&mut self.connection).await?;
        Ok(Memory { used, keys })
    }

    /// Returns the mean `MEMORY USAGE` of random keys, in bytes.
    ///
    /// # Errors
    ///
    /// Returns the error of the connection, or of a command that the server refuses.
    pub async fn memory_of_keys(&mut self) -> Result<f64, BoxError> {
        let mut sum = 0;
        for _ in 0..SOME {
            let key: Vec<u8> = redis::cmd("RANDOMKEY").query_async(&mut self.connection).await?;
            let mut usage = redis::cmd("MEMORY");
            usage.arg("USAGE").arg(key);
            sum += usage.query_async::<Option<u64>>(&mut self.connection).await?.unwrap_or(0);
        }
        Ok(sum as f64 / f64::from(SOME))
    }

    async fn section(&mut self, name: &str) -> Result<InfoDict, BoxError> {
        Ok(redis::cmd("INFO").arg(name).query_async(&mut self.connection).await?)
    }
}

/// The memory of the data in Redis.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// The memory in use, in bytes.
    pub used: u64,
    /// The number of keys.
    pub keys: u64,
}

const SOME: u32 = 200;
const LOOKS: u32 = 20;
/// Redis moves a table in steps, a tenth of a second apart, and frees the old table after the last
/// step.
const BETWEEN_LOOKS: Duration = Duration::from_secs(1);
