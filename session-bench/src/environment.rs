use std::{env, fs, thread, time::Duration};

use redis::{Client, InfoDict};

use crate::BoxError;

/// How many threads the load generator gets, which does less per request than a server.
pub(crate) fn half_of_the_cores() -> usize {
    (cores() / 2).max(1)
}

/// Says in one line what the numbers are measured on, and how busy it is. To be asked before the load.
pub(crate) async fn describe(redis_url: &str) -> Result<String, BoxError> {
    let mut connection = Client::open(redis_url)?.get_multiplexed_async_connection().await?;
    let info: InfoDict = redis::cmd("INFO").arg("server").query_async(&mut connection).await?;
    let redis: String = info.get("redis_version").unwrap_or_default();
    Ok(format!(
        "Measured on {}, {} cores, {}; Redis {redis}; load before: {}.\n",
        field("/proc/cpuinfo", "model name\t: ").unwrap_or_else(|| env::consts::ARCH.to_owned()),
        cores(),
        field("/etc/os-release", "PRETTY_NAME=").unwrap_or_else(|| env::consts::OS.to_owned()),
        load_average().unwrap_or_else(|| "unknown".to_owned()),
    ))
}

/// The CPU time that a process used so far, where the system tells it as Linux does.
pub(crate) fn cpu_time(process: u32) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The second field is the name in parentheses, which may hold anything.
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut times = fields.split(' ').skip(11).map(str::parse::<u64>);
    let ticks = times.next()?.ok()? + times.next()?.ok()?;
    // Linux shows these in hundredths of a second, whatever it reckons in.
    Some(Duration::from_millis(ticks * 10))
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
