//! Faults around one server: passwords, certificates, host names, the network, memory and latency.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;
use tokio::time::sleep;

use super::{
    FAILOVER,
    loss::Loss,
    stage::{Description, Plan, Struck},
};
use crate::{
    chaos::load::Load,
    harness::{
        fault_proxy::FaultProxy,
        redis::{Authority, RedisServer, TlsFiles},
    },
};

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Fault {
    PasswordRotated,
    CertificateRotated,
    NameMoved,
    PeerVanished,
    MemoryFull,
    Slow,
}

impl Fault {
    const ALL: [Self; 6] = [
        Self::PasswordRotated,
        Self::CertificateRotated,
        Self::NameMoved,
        Self::PeerVanished,
        Self::MemoryFull,
        Self::Slow,
    ];

    const fn describe(self) -> Description {
        let (name, in_quick) = match self {
            Self::PasswordRotated => ("password rotated five times", true),
            Self::CertificateRotated => ("certificate rotated, and connections cut", false),
            Self::NameMoved => ("host name moved to the replica, as in managed failovers", false),
            Self::PeerVanished => ("connections forgotten by a firewall", true),
            Self::MemoryFull => ("memory full for 10 s", false),
            Self::Slow => ("every answer 600 ms late for a minute", false),
        };
        Description { name, in_quick, cuts: false }
    }
}

pub(super) async fn run(plan: &mut Plan) {
    for fault in plan.wanted(PLACE, Fault::ALL, Fault::describe) {
        match fault {
            Fault::PasswordRotated => rotate_password(plan).await,
            Fault::CertificateRotated => rotate_certificate(plan).await,
            Fault::NameMoved => move_name(plan).await,
            Fault::PeerVanished => {
                let vanish = async |_: &RedisServer, proxy: &FaultProxy, load: &Load| {
                    proxy.vanish();
                    load.settled().await;
                };
                behind_a_proxy(plan, fault, vanish).await;
            }
            Fault::MemoryFull => {
                let fill = async |redis: &RedisServer, _: &FaultProxy, _: &Load| {
                    tell(redis, &["CONFIG", "SET", "maxmemory", "1"]).await;
                    sleep(FULL_FOR).await;
                    tell(redis, &["CONFIG", "SET", "maxmemory", "0"]).await;
                };
                behind_a_proxy(plan, fault, fill).await;
            }
            Fault::Slow => {
                let slow = async |_: &RedisServer, proxy: &FaultProxy, _: &Load| {
                    proxy.lag(LAG);
                    sleep(SLOW_FOR).await;
                    proxy.lag(Duration::ZERO);
                };
                behind_a_proxy(plan, fault, slow).await;
            }
        }
    }
}

async fn rotate_password(plan: &mut Plan) {
    let redis = plan.settings().start().await;
    tell(&redis, &["ACL", "SETUSER", "app", "on", ">password-0", "~*", "&*", "+@all"]).await;
    let folder = TempDir::with_prefix("passwords-").expect("a folder");
    let file = folder.path().join("password");
    let write = |number: u32| {
        // The rename is atomic, so that a reader never sees half a password.
        let new = folder.path().join("new");
        fs::write(&new, format!("password-{number}"))
            .and_then(|()| fs::rename(new, &file))
            .expect("a file");
    };
    write(0);
    let env = [
        ("REDIS_URL", redis.url().to_owned()),
        ("REDIS_USER", "app".to_owned()),
        ("REDIS_PASSWORD_FILE", file.display().to_string()),
    ];
    let mut stage = plan.stage(PLACE, env, OPERATION, false).await;
    let strike = async |_: &Load| {
        for number in 1..=5 {
            tell(&redis, &["ACL", "SETUSER", "app", &format!(">password-{number}")]).await;
            write(number);
            // The servers poll the file ten times a second.
            sleep(Duration::from_secs(1)).await;
            tell(&redis, &["ACL", "SETUSER", "app", &format!("<password-{}", number - 1)]).await;
        }
        Struck::default()
    };
    stage.observe(Fault::PasswordRotated.describe().name, Loss::None, strike).await;
    stage.close();
}

async fn rotate_certificate(plan: &mut Plan) {
    let authority = Authority::new();
    let (redis, files, url) = TlsFiles::server(&authority, "127.0.0.1").await;
    let env = [("REDIS_URL", url), ("REDIS_TLS_FOLDER", files.folder().display().to_string())];
    let mut stage = plan.stage(PLACE, env, OPERATION, false).await;
    let strike = async |load: &Load| {
        for _ in 0..3 {
            files.renew(&authority, "127.0.0.1");
            files.reload(&redis).await;
            tell(&redis, &["CLIENT", "KILL", "TYPE", "normal"]).await;
            load.settled().await;
        }
        Struck::default()
    };
    stage.observe(Fault::CertificateRotated.describe().name, Loss::None, strike).await;
    stage.close();
}

/// Promotes the replica, makes the former primary follow it, and moves the host name a second later.
async fn move_name(plan: &mut Plan) {
    let hosts = match Hosts::new(&plan.program()) {
        Ok(hosts) => hosts,
        Err(error) => {
            plan.say(&format!("a process has no hosts of its own here, no name moves: {error}"));
            return;
        }
    };
    let [primary, replica] = [plan.settings().start().await, plan.settings().start().await];
    replica.follow(&primary).await;
    replica.follows_within(FAILOVER).await;
    let before = FaultProxy::before_at(&primary, "127.0.0.1:0").await;
    let _after = FaultProxy::before_at(&replica, &format!("127.0.0.2:{}", before.port())).await;
    hosts.lead_to("127.0.0.1");
    let env = [("REDIS_URL", format!("redis://{HOST}:{}", before.port()))];
    let mut stage = plan.stage_of(&hosts.program, PLACE, env, OPERATION, false).await;
    let strike = async |load: &Load| {
        tell(&replica, &["REPLICAOF", "NO", "ONE"]).await;
        primary.follow(&replica).await;
        sleep(Duration::from_secs(1)).await;
        hosts.lead_to("127.0.0.2");
        load.settled().await;
        Struck::default()
    };
    stage.observe(Fault::NameMoved.describe().name, Loss::DuringFault, strike).await;
    stage.close();
}

async fn behind_a_proxy(
    plan: &mut Plan,
    fault: Fault,
    strike: impl AsyncFn(&RedisServer, &FaultProxy, &Load),
) {
    let redis = plan.settings().start().await;
    let proxy = FaultProxy::before(&redis).await;
    let mut stage = plan.stage(PLACE, [("REDIS_URL", proxy.url())], OPERATION, false).await;
    let strike = async |load: &Load| {
        strike(&redis, &proxy, load).await;
        Struck::default()
    };
    stage.observe(fault.describe().name, Loss::None, strike).await;
    stage.close();
}

async fn tell(redis: &RedisServer, words: &[&str]) {
    let mut connection = redis.connection().await;
    let mut command = redis::cmd(words[0]);
    command.arg(&words[1..]);
    command.query_async::<redis::Value>(&mut connection).await.expect("Redis does it");
}

/// A replacement for `/etc/hosts` that only one program sees.
struct Hosts {
    folder: TempDir,
    /// The script that starts the program.
    program: PathBuf,
}

impl Hosts {
    /// # Errors
    ///
    /// Returns an error if this process may not create a separate mount namespace for another one.
    fn new(program: &Path) -> io::Result<Self> {
        let folder = TempDir::with_prefix("hosts-")?;
        let script = folder.path().join("program");
        let hosts = folder.path().join("hosts");
        let (program, file) = (program.display(), hosts.display());
        fs::write(
            &script,
            format!(
                "#!/bin/sh\nexec unshare --map-root-user --mount sh -c \
                 'mount --bind {file} /etc/hosts && exec \"${{1:-{program}}}\"' sh \"$@\"\n"
            ),
        )?;
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
        let hosts = Self { folder, program: script };
        hosts.lead_to("127.0.0.1");
        let tried = Command::new(&hosts.program).arg("true").stdin(Stdio::null()).output()?;
        if !tried.status.success() {
            return Err(io::Error::other(String::from_utf8_lossy(&tried.stderr).into_owned()));
        }
        Ok(hosts)
    }

    /// Rewrites the file in place, because the mount refers to this very file.
    fn lead_to(&self, address: &str) {
        let hosts = format!("127.0.0.1 localhost\n{address} {HOST}\n");
        fs::write(self.folder.path().join("hosts"), hosts).expect("a file");
    }
}

const PLACE: &str = "one server";
const HOST: &str = "sessions.test";
const OPERATION: Duration = Duration::from_secs(1);
const FULL_FOR: Duration = Duration::from_secs(10);
const LAG: Duration = Duration::from_millis(600);
const SLOW_FOR: Duration = Duration::from_secs(60);
