use std::fmt;

use crate::{chaos::load::Fleet, harness::redis::RedisServer};

/// The resources of the servers.
#[derive(Clone, Debug)]
pub(super) struct Resources {
    /// The resident memory in KiB of each server that lives for the whole test, or `None` if the system
    /// does not report it.
    memory_kib: Option<Vec<u64>>,
    /// The number of connections from all servers to Redis.
    connections: usize,
}

impl Resources {
    pub(super) async fn of(fleet: &Fleet, redis: &RedisServer) -> Self {
        let ids = fleet.process_ids();
        let memory_kib = ids[..ids.len() - 1].iter().map(|id| resident_kib(*id)).collect();
        let mut connection = redis.connection().await;
        let list: String = redis::cmd("CLIENT")
            .arg(&["LIST", "TYPE", "normal"])
            .query_async(&mut connection)
            .await
            .expect("Redis lists its clients");
        // Without the connection of this very command.
        let connections = list.lines().filter(|line| !line.contains(" cmd=client|list ")).count();
        Self { memory_kib, connections }
    }

    /// Returns the resources that have grown by more than the margin.
    pub(super) fn grown_since(&self, then: &Self) -> Vec<String> {
        let mut grown = Vec::new();
        if self.connections > then.connections + CONNECTIONS_MARGIN {
            grown.push(format!("connections: {} after {}", self.connections, then.connections));
        }
        let pairs = self.memory_kib.iter().flatten().zip(then.memory_kib.iter().flatten());
        for (now, before) in pairs {
            if *now > before + before / 4 + MEMORY_MARGIN_KIB {
                grown.push(format!("memory of a server: {now} KiB after {before} KiB"));
            }
        }
        grown
    }
}

impl fmt::Display for Resources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.memory_kib {
            Some(memory) => {
                let mib: Vec<_> =
                    memory.iter().map(|kib| format!("{:.1}", *kib as f64 / 1024.0)).collect();
                write!(f, "{} MiB in servers, ", mib.join(" and "))?;
            }
            None => f.write_str("memory unknown on this system, ")?,
        }
        write!(f, "{} connections", self.connections)
    }
}

fn resident_kib(process: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    resident.trim().strip_suffix(" kB")?.parse().ok()
}

/// Allows for connections that were lost silently: Redis keeps them until it notices.
const CONNECTIONS_MARGIN: usize = 3;

/// The memory that an allocator may retain, in addition to a quarter.
const MEMORY_MARGIN_KIB: u64 = 8 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn resources(memory: u64, connections: usize) -> Resources {
        Resources { memory_kib: Some(vec![10_000, memory]), connections }
    }

    #[test]
    fn growth_beyond_the_margin_is_told() {
        let then = resources(10_000, 3);
        assert_eq!(resources(20_692, 6).grown_since(&then), Vec::<String>::new());
        assert_eq!(resources(20_693, 3).grown_since(&then).len(), 1);
        assert_eq!(resources(10_000, 7).grown_since(&then), ["connections: 7 after 3"]);
    }

    #[test]
    fn memory_is_read() {
        if cfg!(target_os = "linux") {
            assert!(resident_kib(std::process::id()).is_some_and(|kib| kib > 1_000));
        }
    }
}
