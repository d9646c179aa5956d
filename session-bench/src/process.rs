//! The CPU time and memory of a process, as Linux reports them.

use std::{fs, time::Duration};

/// Returns the CPU time of a process so far. Returns `None` without Linux's `/proc`.
#[must_use]
pub fn cpu_time(process: u32) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The second field is the name in parentheses, and a name may hold any characters.
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut times = fields.split(' ').skip(11).map(str::parse::<u64>);
    let ticks = times.next()?.ok()? + times.next()?.ok()?;
    // Linux reports both times in hundredths of a second, independent of the kernel's tick.
    Some(Duration::from_millis(ticks * 10))
}

/// Returns the resident memory of a process in bytes. Returns `None` without Linux's `/proc`.
#[must_use]
pub fn resident_memory(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = resident.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kilobytes * 1024)
}
