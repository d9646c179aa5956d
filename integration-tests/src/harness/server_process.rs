use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

/// A program under test as a separate process, killed on drop.
///
/// The program prints a line with `listening on http://ADDRESS` to its standard output once it accepts
/// connections; [`start`](Self::start) waits for it.
#[derive(Debug)]
pub struct ServerProcess {
    child: Child,
    addr: SocketAddr,
    output: Output,
    readers: Vec<JoinHandle<()>>,
}

impl ServerProcess {
    /// Runs `program`, such as `env!("CARGO_BIN_EXE_server")`, with `env` added to the environment.
    ///
    /// # Panics
    ///
    /// If the program cannot be run, ends, or is not listening within 30 seconds. The message shows its
    /// output.
    pub async fn start<K, V>(
        program: impl AsRef<Path>,
        env: impl IntoIterator<Item = (K, V)>,
    ) -> Self
    where
        K: AsRef<OsStr>,
        V: AsRef<OsStr>,
    {
        let program = program.as_ref();
        let mut child = Command::new(program)
            .envs(env)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{} cannot be run: {error}", program.display()));
        let stdout = child.stdout.take().expect("piped above");
        let stderr = child.stderr.take().expect("piped above");
        let output = Output::default();
        let (sender, listening) = oneshot::channel();
        let readers = vec![collect(stdout, &output, Some(sender)), collect(stderr, &output, None)];
        // Complete before the wait, so that a panic below also kills the program.
        let mut server = Self { child, addr: SocketAddr::from(([0; 4], 0)), output, readers };
        let failure = match timeout(Duration::from_secs(30), listening).await {
            Ok(Ok(addr)) => {
                server.addr = addr;
                return server;
            }
            Ok(Err(_)) => "ended",
            Err(_) => "is not listening",
        };
        // `kill` joins the readers, so that the output is complete and explains the failure.
        server.kill();
        panic!("{} {failure}:\n{}", program.display(), server.output());
    }

    /// Returns the address on which the program listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Returns the process ID.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns all lines that the program has printed to standard output and standard error, in
    /// approximately their order. After [`kill`](Self::kill), the output is complete.
    pub fn output(&self) -> String {
        self.output.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Kills the program immediately and waits until it is gone. Does nothing if it has already ended.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Collects lines until the end of the stream, and sends the address from the first line that contains
/// one.
fn collect(
    source: impl Read + Send + 'static,
    output: &Output,
    mut listening: Option<oneshot::Sender<SocketAddr>>,
) -> JoinHandle<()> {
    let output = Arc::clone(output);
    thread::spawn(move || {
        let mut source = BufReader::new(source);
        let mut line = Vec::new();
        while source.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
            let text = String::from_utf8_lossy(&line);
            output.lock().unwrap_or_else(PoisonError::into_inner).push_str(&text);
            if let Some(addr) = address_in(&text)
                && let Some(listening) = listening.take()
            {
                let _ = listening.send(addr);
            }
            line.clear();
        }
    })
}

fn address_in(line: &str) -> Option<SocketAddr> {
    let (_, address) = line.split_once("listening on http://")?;
    let address = address.split(|c: char| c == '/' || c.is_whitespace()).next()?;
    address.to_socket_addrs().ok()?.next()
}

type Output = Arc<Mutex<String>>;
