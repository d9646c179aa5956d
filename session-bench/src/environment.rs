use std::{env, fs};

use session_bench::RedisInfo;

use crate::{BoxError, cores::Cores};

/// Describes the environment of the measurement in one line: processor, cores, system, Redis, and the
/// load before the run.
pub(crate) async fn describe(
    redis: &mut RedisInfo,
    cores: usize,
    load_before: &str,
    of_the_server: Option<&Cores>,
) -> Result<String, BoxError> {
    let redis = redis.version().await?;
    let apart = of_the_server.map_or_else(String::new, |own| {
        format!(
            " Under load, the servers ran on {} of the cores, and the load on others.",
            own.count()
        )
    });
    Ok(format!(
        "Measured on {}, {cores} cores, {}; Redis {redis}; load before: {load_before}.{apart}\n",
        field("/proc/cpuinfo", "model name\t: ").unwrap_or_else(|| env::consts::ARCH.to_owned()),
        field("/etc/os-release", "PRETTY_NAME=").unwrap_or_else(|| env::consts::OS.to_owned()),
    ))
}

/// Returns the load average of the last minute: the tasks that were ready to run. Without
/// `/proc/loadavg`, the result is `unknown`.
pub(crate) fn load_average() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().filter(|load| !load.is_empty()).unwrap_or("unknown").to_owned()
}

fn field(file: &str, start: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix(start))?;
    Some(value.trim_matches('"').to_owned())
}
