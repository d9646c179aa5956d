//! Users sign in through an OpenID Connect provider, which runs in the same program.
//!
//! ```sh
//! cargo run -p session-axum --example openid
//! curl -sL -c jar -b jar http://localhost:3000/login     # to the provider, back, and signed in
//! curl -b jar http://localhost:3000/
//! curl -d user=ada http://127.0.0.1:3001/logout          # the provider ends the session
//! curl -b jar http://localhost:3000/
//! curl -d '' http://127.0.0.1:3001/rotate                # the provider replaces its key
//! ```
//!
//! `/login?form_post` returns by a form, as some providers do. The guide `openid` of the crate explains
//! each step.

mod app;
mod discovery;
mod logout;
mod provider;

use std::{error::Error, sync::Arc};

use session_axum::{MemoryStore, Sessions};
use tokio::net::TcpListener;

use provider::{Client, Provider};

/// The application. Browsers treat `localhost` and `127.0.0.1` as two sites.
const ORIGIN: &str = "http://localhost:3000";

const ISSUER: &str = "http://127.0.0.1:3001";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind("localhost:3000").await?;
    let provider_listener = TcpListener::bind("127.0.0.1:3001").await?;
    let provider = provider::router(Arc::new(Provider::new(ISSUER, Client::of(ORIGIN))));
    tokio::spawn(axum::serve(provider_listener, provider).into_future());

    let sessions = Sessions::new(MemoryStore::default());
    let app = app::app(sessions, ORIGIN, ISSUER).await?;
    println!("listening on {ORIGIN}, the provider on {ISSUER}");
    Ok(axum::serve(listener, app).await?)
}
