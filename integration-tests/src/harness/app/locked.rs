//! Routes that change data outside the session, under its lock: one request of a session after another.

use std::{fs, io, path::PathBuf, time::Duration};

use axum::{
    Router,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse as _, Response},
    routing::post,
};
use session_axum::{Key, Session, SessionError};

use super::{gates::Gates, keys::COUNT};

pub(super) fn routes() -> Router<Gates> {
    Router::new()
        .route("/add", post(add))
        .route("/set/{name}/{value}", post(set))
        .route("/slow/{gate}/{name}/{value}", post(slow))
}

async fn add(session: Session) -> Result<Response, SessionError> {
    let added = session
        .locked(WAIT, async || {
            session.update(COUNT, |count| *count += 1)?;
            add_in_file().await.map_err(AddError::File)
        })
        .await;
    match added {
        Ok(number) => Ok(number.to_string().into_response()),
        Err(AddError::Session(error)) => Err(error),
        Err(AddError::File(error)) => {
            Ok((StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response())
        }
    }
}

/// The reason why the work under the lock fails.
enum AddError {
    Session(SessionError),
    File(io::Error),
}

impl From<SessionError> for AddError {
    fn from(error: SessionError) -> Self {
        Self::Session(error)
    }
}

async fn set(
    session: Session,
    Path((name, value)): Path<(String, String)>,
) -> Result<(), SessionError> {
    session.locked(WAIT, async || session.set(Key::<String>::new(&name), &value)).await
}

async fn slow(
    session: Session,
    State(gates): State<Gates>,
    Path((gate, name, value)): Path<(String, String, String)>,
) -> Result<(), SessionError> {
    session
        .locked(WAIT, async || {
            gates.pass(&gate).await;
            session.set(Key::<String>::new(&name), &value)
        })
        .await
}

/// Reads the number, and writes it plus one a while later: two concurrent calls would lose one
/// increment. Meanwhile a marker file exists, so that a concurrent call fails even if no increment is
/// lost.
async fn add_in_file() -> io::Result<u64> {
    let file = PathBuf::from(std::env::var_os("COUNTER_FILE").ok_or(io::ErrorKind::NotFound)?);
    let marker = file.with_extension("at-work");
    fs::File::create_new(&marker)?;
    let number = fs::read_to_string(&file)?.parse::<u64>().map_err(io::Error::other)? + 1;
    tokio::time::sleep(Duration::from_millis(1)).await;
    fs::write(&file, number.to_string())?;
    fs::remove_file(marker)?;
    Ok(number)
}

const WAIT: Duration = Duration::from_secs(90);
