use std::sync::atomic::{AtomicU32, Ordering};

/// The address of a server.
#[derive(Debug)]
pub(super) struct Address {
    pub(super) host: String,
    pub(super) port: u16,
}

/// Returns a free port below the range of outgoing connections (32768 and up on Linux). The port thus
/// stays free while a server is stopped.
///
/// # Panics
///
/// If all ports are in use.
pub fn free_port() -> u16 {
    const FIRST: u32 = 20_000;
    const COUNT: u32 = 12_000;
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    // Concurrent test programs begin at different places.
    let begin = std::process::id().wrapping_mul(97);
    for _ in 0..COUNT {
        let step = begin.wrapping_add(TAKEN.fetch_add(1, Ordering::Relaxed)) % COUNT;
        let port = u16::try_from(FIRST + step).expect("32,000 fits 16 bits");
        if std::net::TcpListener::bind(("0.0.0.0", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port between {FIRST} and {}", FIRST + COUNT);
}

/// Returns a port for a node of a cluster, which talks to other nodes on a port that is 10,000 higher.
pub(super) fn free_port_with_bus() -> u16 {
    loop {
        let port = free_port() - 10_000;
        if std::net::TcpListener::bind(("0.0.0.0", port)).is_ok() {
            return port;
        }
    }
}
