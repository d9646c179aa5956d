//! The server and the load on cores of their own, so that neither takes time from the other.

use std::fmt;

use crate::{BoxError, environment};

/// Some of the machine's cores, by their numbers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Cores(Vec<usize>);

impl Cores {
    /// Those that this process may use.
    pub(crate) fn allowed() -> Result<Self, BoxError> {
        Ok(Self(system::allowed()?))
    }

    /// These in two halves, for the load and for the server. What shares a core of the processor stays together.
    pub(crate) fn halves(self) -> Result<(Self, Self), BoxError> {
        if environment::cores() < self.count() {
            return Err("a quota is shared out whatever cores it is used on".into());
        }
        let mut load: Vec<_> = self.0.into_iter().map(|core| (system::home(core), core)).collect();
        load.sort_unstable();
        let mut middle = load.len() / 2;
        while middle > 0 && load[middle - 1].0 == load[middle].0 {
            middle -= 1;
        }
        let server = load.split_off(middle);
        if load.is_empty() {
            return Err("one core cannot be shared out".into());
        }
        let numbers =
            |half: Vec<(usize, usize)>| Self(half.into_iter().map(|(_, core)| core).collect());
        Ok((numbers(load), numbers(server)))
    }

    pub(crate) fn parse(text: &str) -> Result<Self, BoxError> {
        Ok(Self(text.split(',').map(str::parse).collect::<Result<_, _>>()?))
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// Keeps this thread to these cores, and all that it starts, threads and processes.
    pub(crate) fn keep_to(&self) -> Result<(), BoxError> {
        system::keep_to(&self.0)
    }
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

    /// The first of those that share a core of the processor with this one.
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
    #[cfg(target_os = "linux")]
    fn halves_are_apart_and_are_kept_to() {
        let Ok((load, server)) = Cores::allowed().and_then(Cores::halves) else {
            assert_eq!(environment::cores(), 1, "more can be shared out");
            return;
        };
        assert!(load.0.iter().all(|core| !server.0.contains(core)));
        // In a thread of its own, which ends with it.
        let kept = std::thread::spawn(move || {
            server.keep_to().unwrap();
            (Cores::allowed().unwrap(), server)
        });
        let (allowed, server) = kept.join().unwrap();
        assert_eq!(allowed, server);
    }
}
