use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args, Parser, Subcommand};
use session_core::{Owner, SessionKey};
use session_redis::RedisConfig;

use crate::failure::Failure;

/// Counts, shows, revokes and watches the sessions of an application in Redis
///
/// A session is named by its key, a hash of the session ID. Logs, events and lists of devices show
/// the key. This program neither reads nor prints a session ID, and prints control characters in
/// its data as escapes.
#[derive(Debug, Parser)]
#[command(name = "sessions", version, max_term_width = 100, after_help = EXIT_CODES, after_long_help = DETAILS)]
pub(crate) struct Options {
    #[command(flatten)]
    pub(crate) server: ServerOptions,

    /// Print JSON: one value per line, and one pretty value for `show`
    #[arg(long, global = true)]
    pub(crate) json: bool,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Redis")]
pub(crate) struct ServerOptions {
    /// The URL of the server: redis://, rediss:// (TLS) or unix://
    ///
    /// Several URLs, separated by white space, are those of the sentinels or of nodes of the cluster.
    /// The variable keeps a password out of the list of processes. Another variable,
    /// REDIS_PASSWORD, has precedence over the password in the URL. White space belongs to a
    /// password, a line break at its end too.
    #[arg(
        long,
        global = true,
        env = "REDIS_URL",
        hide_env_values = true,
        default_value = "redis://127.0.0.1"
    )]
    url: Vec<String>,

    /// Ask the sentinels at the URLs for the primary of this name
    #[arg(long, global = true, value_name = "PRIMARY", conflicts_with = "cluster")]
    sentinel: Option<String>,

    /// Use the cluster of the nodes at the URLs
    #[arg(long, global = true)]
    cluster: bool,

    /// The user at the server, in place of the user in the URL
    #[arg(long, global = true)]
    user: Option<String>,

    /// The number of the database, in place of the number in the URL
    #[arg(long, global = true)]
    database: Option<u32>,

    /// The file of the certificate authorities to trust, in PEM format [default: the system's]
    #[arg(long, global = true, value_name = "FILE")]
    ca: Option<PathBuf>,

    /// The file of the certificate to present to the server, in PEM format
    #[arg(long, global = true, value_name = "FILE", requires = "cert_key")]
    cert: Option<PathBuf>,

    /// The file of the private key of this certificate, in PEM format
    #[arg(long, global = true, value_name = "FILE", requires = "cert")]
    cert_key: Option<PathBuf>,

    /// The name in the certificate of each server [default: the host of the server]
    #[arg(long, global = true, value_name = "NAME")]
    server_name: Option<String>,

    /// The prefix of the application's keys
    #[arg(long, global = true, default_value = "session:")]
    pub(crate) prefix: String,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Count the sessions
    ///
    /// Counts live sessions, signed in or not. A session that has just received another ID leaves a
    /// tombstone for some minutes; tombstones are counted apart, as are records that this version
    /// cannot read. The program walks over all keys of the database with SCAN and loads each
    /// session, so that Redis answers other clients in between. A session that begins or ends
    /// meanwhile is counted or not. While Redis resizes its table of keys, a session may be counted
    /// twice. If Redis is lost, the count begins again, at most ten times.
    Count,

    /// List the sessions of an owner, the last used first
    List {
        /// The owner, as the application named the user at the login
        #[arg(allow_hyphen_values = true)]
        owner: OsString,
    },

    /// Show a session as JSON
    Show {
        /// The key of the session: 22 characters
        #[arg(allow_hyphen_values = true)]
        key: String,

        /// Show the values too, which may be secret
        #[arg(long)]
        values: bool,
    },

    /// Revoke sessions: their users are signed out
    #[command(subcommand)]
    Revoke(Revoke),

    /// Print each change of a session until interrupted
    ///
    /// Redis reports the changes by all servers of the application (CLIENT TRACKING). The events
    /// are:
    ///
    /// created     a session was stored for the first time
    /// changed     its values changed, or its use was recorded
    /// moved       it has another key: by a login, a rotation or a renewal
    /// ended       it was destroyed, revoked or evicted, or it expired
    /// unreadable  this version cannot read it
    ///
    /// Of several changes in a short time, the last is printed. Warnings go to the standard error:
    /// while the connection is lost, changes are missed.
    #[command(verbatim_doc_comment)]
    Watch,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Revoke {
    /// Revoke one session
    Session {
        /// The key of the session: 22 characters
        #[arg(allow_hyphen_values = true)]
        key: String,
    },

    /// Revoke all sessions of an owner, after a question
    Owner {
        /// The owner, as the application named the user at the login
        #[arg(allow_hyphen_values = true)]
        owner: OsString,

        #[command(flatten)]
        consent: Consent,
    },

    /// Revoke all sessions with the prefix, after a question
    ///
    /// A session that begins meanwhile may stay.
    Everybody {
        #[command(flatten)]
        consent: Consent,
    },
}

#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Consent {
    /// Revoke without a question
    #[arg(long)]
    pub(crate) yes: bool,
}

impl ServerOptions {
    pub(crate) fn config(&self) -> Result<RedisConfig, Failure> {
        // A variable from a file often ends with a line break.
        let urls: Vec<_> = self.url.iter().flat_map(|urls| urls.split_whitespace()).collect();
        let mut config = match (&self.sentinel, self.cluster, &urls[..]) {
            (_, _, []) => return Err(usage("--url and REDIS_URL are empty")),
            (Some(primary), ..) => RedisConfig::sentinel(urls, primary),
            (None, true, _) => RedisConfig::cluster(urls),
            (None, false, [url]) => RedisConfig::new(*url),
            (None, false, _) => return Err(usage("several URLs need --sentinel or --cluster")),
        };
        if let Some(user) = &self.user {
            config = config.with_user(user);
        }
        if let Ok(password) = env::var("REDIS_PASSWORD") {
            config = config.with_password(password);
        }
        if let Some(database) = self.database {
            config = config.with_database(database);
        }
        if let Some(file) = &self.ca {
            config = config.with_root_certificate(read(file)?);
        }
        if let (Some(cert), Some(key)) = (&self.cert, &self.cert_key) {
            config = config.with_client_certificate(read(cert)?, read(key)?);
        }
        if let Some(name) = &self.server_name {
            config = config.with_tls_server_name(name);
        }
        let config = config
            .with_prefix(&self.prefix)?
            .with_client_name("sessions")?
            .with_connect_timeout(PATIENCE)?
            .with_response_timeout(PATIENCE)?
            .with_operation_timeout(2 * PATIENCE)?;
        Ok(config)
    }
}

fn usage(text: &str) -> Failure {
    Failure::Usage(text.to_owned())
}

fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    fs::read(file)
        .map_err(|error| Failure::Usage(format!("{} cannot be read: {error}", file.display())))
}

/// Parses the text of a key. The error omits the text, which may be a session ID.
pub(crate) fn key(text: &str) -> Result<SessionKey, Failure> {
    text.parse().map_err(|error| {
        let advice = match text.len() {
            ID_LEN => ": this may be a session ID, a secret. Revoke the session, and use its key",
            _ => "",
        };
        Failure::Usage(format!("{error}{advice}"))
    })
}

pub(crate) fn owner(text: OsString) -> Owner {
    text.into_encoded_bytes().into()
}

/// The length of the text of a session ID.
pub(crate) const ID_LEN: usize = 43;

/// The time limit of a command. An operator can wait longer than a request.
const PATIENCE: Duration = Duration::from_secs(5);

const EXIT_CODES: &str = "\
Exit codes:
  0  success
  1  Redis is unreachable, refuses the client, or failed
  2  the command line cannot be used
  3  no session has the key
  4  the revocation was not confirmed";

const DETAILS: &str = "\
Exit codes:
  0  success, also if an owner has no sessions
  1  Redis is unreachable, refuses the client, or failed. Some sessions may be revoked: a repetition
     revokes the others
  2  the command line cannot be used
  3  no session has the key
  4  the revocation was not confirmed. Without a terminal, `--yes` confirms

The user at the server needs the rights of the store (see `session_redis::operating`). `count` and
`revoke everybody` need SCAN too, and `watch` needs CLIENT TRACKING.

Examples:
  sessions count
  sessions --url redis://10.0.0.7 --prefix shop: list ada
  sessions show X0UXu4nSVZ0XlcYNrmDJxA
  sessions revoke session X0UXu4nSVZ0XlcYNrmDJxA
  sessions revoke owner ada
  sessions revoke everybody --yes --json
  REDIS_URL='redis://s1:26379 redis://s2:26379' sessions --sentinel mymaster count
  REDIS_URL=rediss://n1 REDIS_PASSWORD=secret sessions --cluster count
  REDIS_URL=rediss://r1 sessions --ca ca.pem --cert ops.pem --cert-key ops.key count";

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    /// The help is the page of the program.
    #[test]
    fn help_is_the_page() {
        let mut command = Options::command().term_width(100);
        command.build();
        let mut help = command.render_long_help().to_string();
        for path in [
            &["count"][..],
            &["list"],
            &["show"],
            &["revoke"],
            &["revoke", "session"],
            &["revoke", "owner"],
            &["revoke", "everybody"],
            &["watch"],
        ] {
            let find = |command: &mut clap::Command, name| {
                command.find_subcommand_mut(name).unwrap().clone()
            };
            let mut named = path.iter().fold(command.clone(), |mut of, name| find(&mut of, name));
            let page = named.render_long_help().to_string();
            // The options of all commands are on the first page.
            let (own, _) = page.split_once("\nRedis:\n").unwrap();
            help += &format!("\n──────── sessions {}\n{own}", path.join(" "));
        }
        insta::assert_snapshot!(help);
    }

    #[test]
    fn refused_key_is_not_repeated() {
        let id = "A".repeat(ID_LEN);
        for text in [&*id, "", "short", "X0UXu4nSVZ0XlcYNrmDJx!"] {
            let Err(Failure::Usage(error)) = key(text) else { panic!("{text} is a key") };
            assert!(text.is_empty() || !error.contains(text), "{error}");
            assert_eq!(error.contains("a secret"), text == id, "{error}");
        }
        assert!(key("X0UXu4nSVZ0XlcYNrmDJxA").is_ok());
    }
}
