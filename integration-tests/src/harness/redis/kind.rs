use std::env;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// A kind of server: a row of the table `servers.txt`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind {
    pub(super) name: &'static str,
    pub(super) image: Image,
    /// The package from which `unpack.sh` makes the server.
    pub(super) origin: &'static str,
}

impl Kind {
    /// Returns the kind that the environment names.
    pub(super) fn chosen() -> Result<Self, String> {
        let name = env::var(CHOICE).unwrap_or_else(|_| DEFAULT.to_owned());
        let rows = TABLE.lines().filter(|line| !line.starts_with('#'));
        let mut kinds = rows.map(Self::parse);
        kinds.find(|kind| kind.name == name).ok_or_else(|| {
            format!("{CHOICE} is `{name}`, which is not a server of integration-tests/servers.txt")
        })
    }

    fn parse(row: &'static str) -> Self {
        let (name, rest) = row.split_once(' ').expect("a name");
        let (image, origin) = rest.trim_start().split_once(' ').expect("an image");
        let (image, tag) = image.split_once(':').expect("a tag");
        Self { name, image: Image { name: image, tag }, origin: origin.trim() }
    }

    pub(super) fn is_default(self) -> bool {
        self.name == DEFAULT
    }

    /// Returns the folder of the unpacked server, and creates the folder if necessary.
    ///
    /// Only one program at a time may call this function.
    pub(super) fn unpack(self) -> Result<PathBuf, String> {
        let servers = build_folder().join("servers");
        let folder = servers.join(self.name);
        if folder.is_dir() {
            return Ok(folder);
        }
        // Not with `eprintln`, because the test runner captures its output.
        let _ = writeln!(io::stderr(), "unpacking {} into {}", self.origin, folder.display());
        let explain = |error: io::Error| format!("{} is not unpacked: {error}", self.origin);
        fs::create_dir_all(&servers).map_err(explain)?;
        let work = TempDir::with_prefix_in("unpacking-", &servers).map_err(explain)?;
        let script = work.path().join("unpack.sh");
        fs::write(&script, UNPACK).map_err(explain)?;
        let made = work.path().join(self.name);
        let run = Command::new("sh")
            .arg(script)
            .arg(&made)
            .args(self.origin.split(' '))
            .stdin(Stdio::null())
            .output()
            .map_err(explain)?;
        if !run.status.success() {
            let reason = String::from_utf8_lossy(&run.stderr);
            return Err(format!("{} is not unpacked: {}", self.origin, reason.trim_end()));
        }
        fs::rename(made, &folder).map_err(explain)?;
        Ok(folder)
    }
}

/// A Docker image that runs `redis-server` with the given arguments.
#[derive(Clone, Copy, Debug)]
pub(super) struct Image {
    pub(super) name: &'static str,
    pub(super) tag: &'static str,
}

/// Returns Cargo's target folder of the running program, or the temporary folder if the program is
/// elsewhere.
fn build_folder() -> PathBuf {
    let program = env::current_exe().unwrap_or_default();
    let folder = program.ancestors().find(|folder| folder.join("CACHEDIR.TAG").is_file());
    folder.map_or_else(env::temp_dir, Path::to_owned)
}

const CHOICE: &str = "INTEGRATION_TESTS_SERVER";
const DEFAULT: &str = "default";
const TABLE: &str = include_str!("../../../servers.txt");
const UNPACK: &str = include_str!("unpack.sh");
