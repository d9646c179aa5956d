use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::harness::{browser::assert_silent, server_process::ServerProcess};

/// Servers of the application that share their sessions. A test can kill and restart each of them.
#[derive(Debug)]
pub struct Fleet {
    program: PathBuf,
    env: Vec<(String, String)>,
    servers: Vec<ServerProcess>,
    doors: Arc<Doors>,
}

impl Fleet {
    /// Starts this many processes of `program`, with `env` added to their environment.
    ///
    /// # Panics
    ///
    /// If a server does not start.
    pub async fn start<K, V>(
        program: impl AsRef<Path>,
        env: impl IntoIterator<Item = (K, V)>,
        servers: usize,
    ) -> Self
    where
        K: Into<String>,
        V: Into<String>,
    {
        let env = env.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        let program = program.as_ref().to_owned();
        let mut fleet = Self { program, env, servers: Vec::new(), doors: Arc::default() };
        for _ in 0..servers {
            let server = fleet.server().await;
            fleet.doors.lock().push(Door { addr: server.addr(), is_open: true, closings: 0 });
            fleet.servers.push(server);
        }
        fleet
    }

    /// Returns the number of servers.
    #[must_use]
    pub fn size(&self) -> usize {
        self.servers.len()
    }

    /// Kills a server immediately (`SIGKILL`). Until it restarts, visitors use the others.
    pub fn kill(&mut self, number: usize) {
        self.doors.change(number, |door| {
            door.is_open = false;
            door.closings += 1;
        });
        self.servers[number].kill();
        assert_silent("a server's log", &self.servers[number].output());
    }

    /// Starts a server in place of a killed one.
    ///
    /// # Panics
    ///
    /// If the server does not start.
    pub async fn start_again(&mut self, number: usize) {
        let server = self.server().await;
        self.doors.change(number, |door| {
            door.addr = server.addr();
            door.is_open = true;
        });
        self.servers[number] = server;
    }

    /// Returns the process IDs.
    #[must_use]
    pub fn process_ids(&self) -> Vec<u32> {
        self.servers.iter().map(ServerProcess::id).collect()
    }

    /// Stops all servers, and asserts that their logs contain no session ID.
    ///
    /// # Panics
    ///
    /// If a log contains one.
    pub fn stop(mut self) {
        for server in &mut self.servers {
            server.kill();
            assert_silent("a server's log", &server.output());
        }
    }

    pub(super) fn doors(&self) -> Arc<Doors> {
        Arc::clone(&self.doors)
    }

    async fn server(&self) -> ServerProcess {
        let env = self.env.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        ServerProcess::start(&self.program, env).await
    }
}

/// The addresses of the servers.
#[derive(Debug, Default)]
pub(super) struct Doors(Mutex<Vec<Door>>);

#[derive(Clone, Copy, Debug)]
pub(super) struct Door {
    pub(super) addr: SocketAddr,
    is_open: bool,
    /// The number of times the server at this door was killed.
    closings: u64,
}

impl Doors {
    /// Chooses one of the running servers, like a load balancer.
    pub(super) fn choose(&self, pick: impl FnOnce(usize) -> usize) -> (usize, Door) {
        let doors = self.lock();
        let open: Vec<_> = doors.iter().copied().enumerate().filter(|(_, d)| d.is_open).collect();
        open[pick(open.len())]
    }

    /// Returns `true` if the server was killed since it was chosen.
    pub(super) fn was_closed(&self, number: usize, since: Door) -> bool {
        self.lock()[number].closings != since.closings
    }

    fn change(&self, number: usize, change: impl FnOnce(&mut Door)) {
        change(&mut self.lock()[number]);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Door>> {
        // Every change is complete before a panic can occur.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
