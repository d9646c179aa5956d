use std::{env, fs, thread};

use session_bench::RedisInfo;

use crate::BoxError;

/// How many threads the load generator gets, which does less per request than a server.
pub(crate) fn half_of_the_cores() -> usize {
    (cores() / 2).max(1)
}

/// Says in one line what the numbers are measured on, and how busy it is. To be asked before the load.
pub(crate) async fn describe(redis: &mut RedisInfo) -> Result<String, BoxError> {
    let redis = redis.version().await?;
    Ok(format!(
        "Measured on {}, {} cores, {}; Redis {redis}; load before: {}.\n",
        field("/proc/cpuinfo", "model name\t: ").unwrap_or_else(|| env::consts::ARCH.to_owned()),
        cores(),
        field("/etc/os-release", "PRETTY_NAME=").unwrap_or_else(|| env::consts::OS.to_owned()),
        load_average().unwrap_or_else(|| "unknown".to_owned()),
    ))
}

/// How many tasks were ready to run, on average over the last minute.
fn load_average() -> Option<String> {
    let text = fs::read_to_string("/proc/loadavg").ok()?;
    text.split(' ').next().map(str::to_owned)
}

fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

fn field(file: &str, start: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix(start))?;
    Some(value.trim_matches('"').to_owned())
}
