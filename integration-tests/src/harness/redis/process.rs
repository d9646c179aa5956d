use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::time::sleep;

use super::address::Address;

/// A `redis-server` process of this machine, in a separate folder.
#[derive(Debug)]
pub(super) struct Process {
    program: PathBuf,
    args: Vec<String>,
    address: Address,
    child: Mutex<Child>,
    folder: TempDir,
}

impl Process {
    pub(super) fn start(
        program: &Path,
        port: u16,
        args: &[String],
        config: Option<&str>,
    ) -> Result<Self, String> {
        let folder =
            TempDir::with_prefix("redis-").map_err(|e| format!("no temporary folder: {e}"))?;
        let mut args = args.to_vec();
        if let Some(config) = config {
            // Sentinels rewrite their configuration, and expect its file as the first argument.
            fs::write(folder.path().join(CONFIG), config)
                .map_err(|e| format!("no file for the configuration: {e}"))?;
            args.insert(0, CONFIG.to_owned());
        }
        let child = spawn(program, port, &args, folder.path())?;
        Ok(Self {
            program: program.to_owned(),
            args,
            address: Address { host: "127.0.0.1".to_owned(), port },
            child: Mutex::new(child),
            folder,
        })
    }

    pub(super) fn address(&self) -> &Address {
        &self.address
    }

    pub(super) fn id(&self) -> u32 {
        self.child().id()
    }

    pub(super) fn is_running(&self) -> bool {
        matches!(self.child().try_wait(), Ok(None))
    }

    pub(super) fn start_again(&self) {
        assert!(!self.is_running(), "the Redis at port {} still runs", self.address.port);
        let child = spawn(&self.program, self.address.port, &self.args, self.folder.path());
        *self.child() = child.unwrap_or_else(|failure| panic!("{failure}"));
    }

    pub(super) fn signal(&self, name: &str) {
        assert!(self.is_running(), "the Redis at port {} does not run", self.address.port);
        // The shell supports `kill` on every machine, whereas the standard library sends only SIGKILL.
        let sent = Command::new("sh")
            .args(["-c", "kill -s \"$0\" \"$1\"", name, &self.id().to_string()])
            .status();
        assert!(sent.is_ok_and(|status| status.success()), "SIG{name} was not sent to Redis");
    }

    pub(super) async fn end(&self, signal: &str) {
        self.signal(signal);
        let deadline = Instant::now() + Duration::from_secs(30);
        while self.is_running() {
            assert!(Instant::now() < deadline, "Redis still runs 30 s after SIG{signal}");
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Returns the log, and the errors of the time before the log.
    pub(super) fn log(&self) -> String {
        let read = |file| fs::read_to_string(self.folder.path().join(file)).unwrap_or_default();
        read(ERRORS) + &read(LOG)
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().expect("no one panics while holding the child")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let child = self.child.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner);
        // SIGKILL also ends a paused process. The folder is removed afterwards.
        let _ = child.kill();
        let _ = child.wait();
    }
}

pub(super) fn find_program() -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?)
        .map(|folder| folder.join("redis-server"))
        .find(|program| program.is_file())
}

fn spawn(program: &Path, port: u16, args: &[String], folder: &Path) -> Result<Child, String> {
    let errors = File::create(folder.join(ERRORS))
        .map_err(|error| format!("no file for the errors of Redis: {error}"))?;
    // The configuration file must come first.
    let (file, args) = args.split_at(usize::from(args.first().is_some_and(|arg| arg == CONFIG)));
    Command::new(program)
        .args(file)
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--logfile", LOG, "--dir"])
        .arg(folder)
        .args(args)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(errors)
        .spawn()
        .map_err(|error| format!("{} was not started: {error}", program.display()))
}

const CONFIG: &str = "server.conf";
const LOG: &str = "redis.log";
const ERRORS: &str = "errors.log";
