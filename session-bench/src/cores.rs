//! The server and the load on cores of their own, so that neither takes time from the other.

use std::fmt;

use crate::BoxError;

/// Some of the machine's cores, by their numbers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Cores(Vec<usize>);

impl Cores {
    /// The cores that this process may use, in halves: for the load, and for the server, which has one more if
    /// their number is odd.
    pub(crate) fn halves() -> Result<(Self, Self), BoxError> {
        let mut load = system::allowed()?;
        let server = load.split_off(load.len() / 2);
        if load.is_empty() {
            return Err("one core cannot be shared out".into());
        }
        Ok((Self(load), Self(server)))
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
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

    use crate::BoxError;

    pub(super) fn allowed() -> Result<Vec<usize>, BoxError> {
        let allowed = sched_getaffinity(None)?;
        Ok((0..CpuSet::MAX_CPU).filter(|&core| allowed.is_set(core)).collect())
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
        let Ok((load, server)) = Cores::halves() else { return };
        assert!(server.count() - load.count() <= 1);
        assert!(load.0.iter().all(|core| !server.0.contains(core)));
        server.keep_to().unwrap();
        assert_eq!(system::allowed().unwrap(), server.0);
    }
}
