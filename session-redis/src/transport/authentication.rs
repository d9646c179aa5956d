//! The authentication of connections, and its renewal before the credentials expire.
//!
//! ```text
//! connection made ─> ask the provider ─> AUTH ─> in use ──(due, or changed)──> ask the provider
//!                                                  ^                                │ the same, or none:
//!                                                  └────── AUTH, over the same <────┘ again after a pause
//! ```
//!
//! `AUTH` is the first command of a connection, separate from the commands with which redis-rs sets
//! a connection up. A server may quote an unknown command in its error, and so the password is in
//! no command whose error is kept.
//!
//! redis-rs has providers too (`token-based-authentication`). The renewal of a connection ends
//! there for ever if the stream of credentials ends or if the server refuses an `AUTH`. The `HELLO`
//! of the set-up contains the password.

use std::{
    io,
    sync::Arc,
    time::{Duration, SystemTime},
};

use redis::{
    Cmd, ErrorKind, RedisError, RedisResult, ServerErrorKind, Value, aio::MultiplexedConnection,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    time::{Instant, sleep, timeout, timeout_at},
};

use crate::{
    credentials::{Credentials, CredentialsProvider, NoCredentials},
    server_error,
};

/// Asks the provider for credentials, until the deadline.
pub(crate) async fn ask(
    provider: &dyn CredentialsProvider,
    deadline: Instant,
) -> Result<Credentials, NoCredentials> {
    match timeout_at(deadline, provider.credentials()).await {
        Ok(answer) => answer.map_err(NoCredentials::Failed),
        Err(_) => Err(NoCredentials::Silent),
    }
}

/// Authenticates a connection, with `AUTH` as the first command.
pub(crate) async fn authenticate(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    credentials: &Credentials,
) -> RedisResult<()> {
    stream.write_all(&auth(credentials).get_packed_command()).await?;
    stream.flush().await?;
    let mut line = [0; LONGEST_ANSWER];
    let mut len = 0;
    while !line[..len].ends_with(b"\r\n") {
        match stream.read(&mut line[len..]).await? {
            _ if len == line.len() => return Err(no_redis()),
            0 => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            read => len += read,
        }
        if !matches!(line[0], b'+' | b'-') {
            return Err(no_redis());
        }
    }
    judge(redis::parse_redis_value(&line[..len]).map_err(server_error::redact)?)
}

/// Renews the authentication of a connection, until the connection is lost or the future is
/// dropped.
pub(crate) async fn keep_authenticated(
    mut connection: MultiplexedConnection,
    provider: Arc<dyn CredentialsProvider>,
    mut current: Credentials,
    server: String,
    limit: Duration,
) {
    loop {
        tokio::select! {
            () = expiry(&current) => {}
            () = provider.changed(&current) => {}
        }
        let mut failures = 0;
        loop {
            match renew(&mut connection, &*provider, &current, limit).await {
                Ok(renewed) => {
                    let is_due = renewed == current && renewed.expires_at().is_some();
                    current = renewed;
                    if !is_due {
                        break;
                    }
                }
                Err(error) if error.is_connection_dropped() => return,
                Err(error) => tracing::warn!(
                    target: "session",
                    %server,
                    error = &error as &dyn std::error::Error,
                    "the connection to Redis was not authenticated again"
                ),
            }
            sleep(pause(&current, failures)).await;
            failures += 1;
        }
        // A faulty provider may announce changes without a pause.
        sleep(MIN_PAUSE).await;
    }
}

/// Asks the provider, authenticates the connection again if the credentials are new, and returns
/// the credentials.
async fn renew(
    connection: &mut MultiplexedConnection,
    provider: &dyn CredentialsProvider,
    current: &Credentials,
    limit: Duration,
) -> RedisResult<Credentials> {
    let credentials = ask(provider, Instant::now() + limit).await.map_err(io::Error::other)?;
    if !credentials.are_same(current) {
        let auth = auth(&credentials);
        let sent = timeout(limit, connection.send_packed_command(&auth)).await;
        judge(sent.map_err(io::Error::from)?.map_err(server_error::redact)?)?;
    }
    Ok(credentials)
}

fn auth(credentials: &Credentials) -> Cmd {
    let mut auth = redis::cmd("AUTH");
    auth.arg(credentials.user()).arg(credentials.password());
    auth
}

/// Returns an error unless the server accepted the credentials.
fn judge(answer: Value) -> RedisResult<()> {
    let refusal = match server_error::extract(answer) {
        Ok(Value::Okay) => return Ok(()),
        Ok(_) => return Err(no_redis()),
        Err(refusal) => refusal,
    };
    let is_of_the_moment = matches!(
        refusal.kind(),
        ErrorKind::Server(
            ServerErrorKind::BusyLoading
                | ServerErrorKind::ClusterDown
                | ServerErrorKind::MasterDown
                | ServerErrorKind::TryAgain
        )
    );
    let is_of_the_client = refusal.code() == Some("DENIED")
        || refusal.detail() == Some(server_error::TOO_MANY_CLIENTS);
    if is_of_the_moment || is_of_the_client {
        return Err(refusal);
    }
    Err((ErrorKind::AuthenticationFailed, "the server refuses the password").into())
}

fn no_redis() -> RedisError {
    (ErrorKind::Parse, "no answer of Redis").into()
}

/// Waits until the credentials are due for renewal. The clock may be set meanwhile, so the
/// remaining time is computed anew once a minute.
async fn expiry(credentials: &Credentials) {
    let Some(expires_at) = credentials.expires_at() else { return std::future::pending().await };
    let left = || expires_at.duration_since(SystemTime::now()).unwrap_or_default();
    // Jitter: up to a tenth of the margin earlier, so that processes do not ask at the same
    // instant.
    let margin = (left() / 3).min(MAX_MARGIN).mul_f64(1.0 + 0.1 * fastrand::f64());
    while let Some(time) = left().checked_sub(margin).filter(|time| !time.is_zero()) {
        sleep(time.min(LOOK_EVERY)).await;
    }
}

/// Returns the back-off after this number of failures, or of answers of the provider with unchanged
/// credentials.
fn pause(credentials: &Credentials, failures: u32) -> Duration {
    let doubled = MIN_PAUSE.saturating_mul(2_u32.saturating_pow(failures));
    let left = credentials
        .expires_at()
        .map_or(MAX_PAUSE, |at| at.duration_since(SystemTime::now()).unwrap_or_default() / 10);
    doubled.min(left).clamp(MIN_PAUSE, MAX_PAUSE).mul_f64(1.0 + 0.5 * fastrand::f64())
}

/// The longest accepted reply to `AUTH`, in bytes.
const LONGEST_ANSWER: usize = 1024;

/// The longest time from the renewal of credentials to their expiry, without jitter. Entra ID asks
/// for 3 minutes.
const MAX_MARGIN: Duration = Duration::from_secs(5 * 60);

const LOOK_EVERY: Duration = Duration::from_secs(60);

const MIN_PAUSE: Duration = Duration::from_millis(100);
const MAX_PAUSE: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    /// Authenticates at a server that sends this reply, and returns the outcome as text.
    async fn outcome(answer: &'static str) -> String {
        let (mut here, mut there) = tokio::io::duplex(4096);
        let server = async {
            assert!(there.read(&mut [0; 1024]).await.unwrap() > 0);
            there.write_all(answer.as_bytes()).await.unwrap();
            drop(there);
        };
        let credentials = Credentials::new("ada", "hunter2");
        let (result, ()) = tokio::join!(authenticate(&mut here, &credentials), server);
        result.map_or_else(|error| format!("{error:?} {error}"), |()| "fine".to_owned())
    }

    #[tokio::test]
    async fn a_server_that_quotes_the_password_is_not_quoted() {
        assert_eq!(outcome("+OK\r\n").await, "fine");
        for answer in [
            "-ERR unknown command `AUTH`, with args beginning with: `ada` `hunter2`\r\n",
            "-WRONGPASS not hunter2\r\n",
            "-LOADING hunter2\r\n",
            "-DENIED hunter2\r\n",
            "-hunter2 hunter2\r\n",
            "-ERR max number of clients reached hunter2\r\n",
            "$7\r\nhunter2\r\n",
            "+hunter2\r\n",
            "HTTP/1.1 400 hunter2\r\n",
            "hunter2",
        ] {
            let outcome = outcome(answer).await;
            assert!(outcome != "fine" && !outcome.contains("hunter2"), "{answer:?}: {outcome}");
        }
    }

    #[tokio::test]
    async fn an_answer_to_auth_is_bounded() {
        let endless: &'static str = "-".repeat(3 * LONGEST_ANSWER).leak();
        assert!(outcome(endless).await.contains("no answer of Redis"));
    }

    #[tokio::test(start_paused = true)]
    async fn credentials_are_renewed_in_the_last_third_of_their_time() {
        for (lasts, margin) in [(30, 10), (900, 300), (3_600, 300), (86_400, 300)] {
            let lasts = Duration::from_secs(lasts);
            let credentials = Credentials::new("ada", "x").with_expiry(SystemTime::now() + lasts);
            assert!(timeout(Duration::from_millis(1), expiry(&credentials)).await.is_err());
            let margin = Duration::from_secs(margin);
            assert!(pause(&credentials, 0) >= MIN_PAUSE);
            assert!(pause(&credentials, 60) <= MAX_PAUSE.mul_f64(1.5));
            assert!(margin <= lasts / 3);
        }
        let past = Credentials::new("ada", "x").with_expiry(SystemTime::UNIX_EPOCH);
        timeout(Duration::from_millis(1), expiry(&past)).await.unwrap();
    }
}
