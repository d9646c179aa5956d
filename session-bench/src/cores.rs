//! Separate cores for the servers and for the load, so that they do not compete for CPU time.

use std::{fmt, thread};

use crate::BoxError;

/// Logical cores of the machine, by number.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Cores(Vec<usize>);

impl Cores {
    /// Returns the cores on which the current thread may run.
    pub(crate) fn allowed() -> Result<Self, BoxError> {
        Ok(Self(system::allowed()?))
    }

    /// Splits the cores into two parts, for the load and for the servers. Logical cores of one physical
    /// core stay together.
    pub(crate) fn halves(self) -> Result<(Self, Self), BoxError> {
        if available() < self.count() {
            return Err("a quota is shared out whatever cores it is used on".into());
        }
        let cores = self.0.into_iter().map(|core| (system::home(core), core)).collect();
        in_halves(cores).ok_or_else(|| "there is but one core, and it cannot be shared out".into())
    }

    pub(crate) fn parse(text: &str) -> Result<Self, BoxError> {
        Ok(Self(text.split(',').map(str::parse).collect::<Result<_, _>>()?))
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// Restricts the current thread to the cores, and with it the threads and processes that it starts
    /// later.
    pub(crate) fn keep_to(&self) -> Result<(), BoxError> {
        system::keep_to(&self.0)
    }
}

/// Returns the number of available cores. Call it before the thread is restricted to some of them.
pub(crate) fn available() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// Splits pairs of a physical and a logical core into the part of the load and the part of the servers.
/// The part of the servers is at least as large. Returns `None` if the part of the load would be empty.
fn in_halves(mut cores: Vec<(usize, usize)>) -> Option<(Cores, Cores)> {
    cores.sort_unstable();
    let mut middle = cores.len() / 2;
    while middle > 0 && cores[middle - 1].0 == cores[middle].0 {
        middle -= 1;
    }
    let server = cores.split_off(middle);
    let numbers =
        |part: Vec<(usize, usize)>| Cores(part.into_iter().map(|(_, core)| core).collect());
    (middle > 0).then(|| (numbers(cores), numbers(server)))
}

impl fmt::Display for Cores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers: Vec<String> = self.0.iter().map(usize::to_string).collect();
        f.write_str(&numbers.join(","))
    }
}

#[cfg(target_os = "linux")]
mod system {
    use std::fs;

    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

    use crate::BoxError;

    pub(super) fn allowed() -> Result<Vec<usize>, BoxError> {
        let allowed = sched_getaffinity(None)?;
        Ok((0..CpuSet::MAX_CPU).filter(|&core| allowed.is_set(core)).collect())
    }

    /// Returns the first logical core of the physical core to which `core` belongs.
    pub(super) fn home(core: usize) -> usize {
        let file = format!("/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list");
        let siblings = fs::read_to_string(file).unwrap_or_default();
        let first = siblings.split(|c: char| !c.is_ascii_digit()).next();
        first.and_then(|first| first.parse().ok()).unwrap_or(core)
    }

    pub(super) fn keep_to(cores: &[usize]) -> Result<(), BoxError> {
        let mut set = CpuSet::new();
        for &core in cores {
            set.set(core);
        }
        Ok(sched_setaffinity(None, &set)?)
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use crate::BoxError;

    pub(super) fn allowed() -> Result<Vec<usize>, BoxError> {
        Err("--apart is for Linux".into())
    }

    pub(super) fn home(core: usize) -> usize {
        core
    }

    pub(super) fn keep_to(_: &[usize]) -> Result<(), BoxError> {
        allowed().map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_to_a_server_is_what_it_reads() {
        let cores = Cores(vec![1, 3, 10]);
        assert_eq!(cores.to_string(), "1,3,10");
        assert_eq!(Cores::parse("1,3,10").unwrap(), cores);
        assert!(Cores::parse("all").is_err());
    }

    #[test]
    fn what_shares_a_core_stays_together() {
        let halves = |homes: &[usize]| {
            let cores = homes.iter().enumerate().map(|(core, home)| (*home, core)).collect();
            in_halves(cores).map(|(load, server)| (load.0, server.0))
        };
        assert_eq!(halves(&[0, 1]), Some((vec![0], vec![1])));
        assert_eq!(halves(&[0, 1, 2]), Some((vec![0], vec![1, 2])));
        assert_eq!(halves(&[0, 1, 0, 1]), Some((vec![0, 2], vec![1, 3])));
        assert_eq!(halves(&[0, 0, 2, 2, 4, 4]), Some((vec![0, 1], vec![2, 3, 4, 5])));
        assert_eq!(halves(&[0, 0]), None);
        assert_eq!(halves(&[0]), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_thread_keeps_to_its_cores() {
        let first = Cores(vec![Cores::allowed().unwrap().0[0]]);
        // A separate thread, because the restriction lasts as long as the thread.
        let kept = std::thread::spawn(move || {
            first.keep_to().unwrap();
            (Cores::allowed().unwrap(), first)
        });
        let (allowed, first) = kept.join().unwrap();
        assert_eq!(allowed, first);
    }
}
