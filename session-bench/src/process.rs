//! What the system tells of a process.

use std::{fs, time::Duration};

/// The CPU time that a process used so far, where the system tells it as Linux does.
#[must_use]
pub fn cpu_time(process: u32) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The second field is the name in parentheses, which may hold anything.
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut times = fields.split(' ').skip(11).map(str::parse::<u64>);
    let ticks = times.next()?.ok()? + times.next()?.ok()?;
    // Linux shows these in hundredths of a second, whatever it reckons in.
    Some(Duration::from_millis(ticks * 10))
}

/// The bytes of memory that a process has, where the system tells it as Linux does.
#[must_use]
pub fn resident_memory(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = resident.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kilobytes * 1024)
}
