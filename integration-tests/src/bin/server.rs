//! The application of the stories as a process of its own, on a free port of 127.0.0.1. Logs
//! everything, so that the stories can see what a log would show.

use std::io::Write as _;

use integration_tests::app;
use session_core::BoxError;
use tracing_subscriber::EnvFilter;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new("trace"))
        .with_writer(std::io::stderr)
        .init();
    tracing::trace!("logging at trace level");
    let sessions = app::sessions_from_env().await?;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("listening on http://{}", listener.local_addr()?);
    std::io::stdout().flush()?;
    axum::serve(listener, app::app(sessions)).await?;
    Ok(())
}
