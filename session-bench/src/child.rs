use std::{
    env,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
};

use crate::{BoxError, candidate::Candidate, cores::Cores};

/// The server of a candidate: a child process, killed on drop.
#[derive(Debug)]
pub(crate) struct ServerProcess {
    process: Child,
    addr: SocketAddr,
}

impl ServerProcess {
    /// Starts this program again as the server, and waits until the server listens.
    pub(crate) fn start(
        candidate: &Candidate,
        redis_url: &str,
        cores: Option<&Cores>,
    ) -> Result<Self, BoxError> {
        let mut process = Command::new(env::current_exe()?)
            .args([SERVE, candidate.name])
            .args(cores.map(Cores::to_string))
            .env("REDIS_URL", redis_url)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = process.stdout.take().ok_or("the output is not there")?;
        // Created before any step below can fail: a failure drops the value and kills the process.
        let mut server = Self { process, addr: SocketAddr::from(([0; 4], 0)) };
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        server.addr = line
            .trim_end()
            .strip_prefix(LISTENING)
            .and_then(|addr| addr.parse().ok())
            .ok_or_else(|| format!("the server {} did not start", candidate.name))?;
        Ok(server)
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The argument with which the program runs as a server.
pub(crate) const SERVE: &str = "serve";
/// The text that a server prints before its address.
pub(crate) const LISTENING: &str = "listening on ";
