//! Routes that work outside of the session, one request of a session after another.

use std::{fs, io, path::PathBuf, time::Duration};

use axum::{
    Router,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse as _, Response},
    routing::post,
};
use session_axum::{Key, Session, SessionError};

use crate::app::{COUNT, Gates};

pub(crate) fn routes() -> Router<Gates> {
    Router::new()
        .route("/add", post(add))
        .route("/set/{name}/{value}", post(set))
        .route("/slow/{gate}/{name}/{value}", post(slow))
}

async fn add(session: Session) -> Result<Response, SessionError> {
    let _lock = session.lock(WAIT).await?;
    session.update(COUNT, |count| *count += 1)?;
    match add_in_file().await {
        Ok(number) => Ok(number.to_string().into_response()),
        Err(error) => {
            session.discard();
            Ok((StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response())
        }
    }
}

async fn set(
    session: Session,
    Path((name, value)): Path<(String, String)>,
) -> Result<(), SessionError> {
    let lock = session.lock(WAIT).await?;
    session.set(Key::<String>::new(&name), &value)?;
    Ok(lock.release().await?)
}

async fn slow(
    session: Session,
    State(gates): State<Gates>,
    Path((gate, name, value)): Path<(String, String, String)>,
) -> Result<(), SessionError> {
    let _lock = session.lock(WAIT).await?;
    gates.pass(&gate).await;
    Ok(session.set(Key::<String>::new(&name), &value)?)
}

/// Reads the number, and writes it plus one a while later: two at the same time lose one. A second file
/// stands there meanwhile, so that they are noticed even if they do not.
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
