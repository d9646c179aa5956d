//! A page that counts its visits, with the metrics of its sessions for Prometheus, and with routes
//! for a load balancer.
//!
//! ```sh
//! cargo run -p session-axum --example prometheus --features metrics
//! REDIS_URL=redis://127.0.0.1 cargo run -p session-axum --example prometheus --features metrics,redis
//! curl http://127.0.0.1:3000/
//! curl http://127.0.0.1:3000/metrics
//! curl -i http://127.0.0.1:3000/ready
//! curl -i http://127.0.0.1:3000/live
//! ```
//!
//! A real application serves these three at a port that only the operator can reach.

mod prometheus {
    #[cfg(test)]
    mod tests;
}

use std::{env, error::Error, sync::Arc, time::Duration};

use axum::{Router, extract::State, http::StatusCode, routing::get};
use metrics_exporter_prometheus::{BuildError, PrometheusBuilder, PrometheusHandle};
use session_axum::{
    Backend, Key, MemoryStore, Session, SessionCookie, SessionError, SessionLayer, Sessions,
};
use tokio::{net::TcpListener, time::sleep};

/// The number of times that the visitor opened the page.
const VISITS: Key<u64> = Key::new("visits");

/// The upper bounds of the buckets of durations in seconds, as OpenTelemetry advises for databases.
const SECONDS: [f64; 9] = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0];

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // Before the store and the sessions, which register their metrics with the recorder.
    let metrics = install_recorder()?;
    let upkeep = metrics.clone();
    tokio::spawn(async move {
        // Without upkeep, values pile up while the metrics are not scraped.
        loop {
            sleep(Duration::from_secs(5)).await;
            upkeep.run_upkeep();
        }
    });
    let app = app(Sessions::new(store().await?), metrics);
    let listener = TcpListener::bind("127.0.0.1:3000").await?;
    println!("listening on http://{}", listener.local_addr()?);
    Ok(axum::serve(listener, app).await?)
}

fn install_recorder() -> Result<PrometheusHandle, BuildError> {
    PrometheusBuilder::new().set_buckets(&SECONDS)?.install_recorder()
}

fn app(sessions: Sessions, metrics: PrometheusHandle) -> Router {
    // For plain HTTP on localhost. In production keep the default, which works over HTTPS only.
    let cookie = SessionCookie::insecure_for_development();
    Router::new()
        .route("/", get(visit))
        .layer(SessionLayer::new(sessions.clone()).with_cookie(cookie))
        .route("/metrics", get(async move || metrics.render()))
        .route("/ready", get(ready))
        // Without the store: a restart of this program does not repair the store.
        .route("/live", get(async || "live\n"))
        .with_state(sessions)
}

async fn visit(session: Session) -> Result<String, SessionError> {
    let visits = session.update(VISITS, |visits| *visits += 1)?;
    Ok(format!("visit {visits}\n"))
}

/// Asks the load balancer to send requests elsewhere while the store does not answer.
async fn ready(State(sessions): State<Sessions>) -> (StatusCode, &'static str) {
    match sessions.ping().await {
        Ok(()) => (StatusCode::OK, "ready\n"),
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "sessions are unavailable\n"),
    }
}

/// Returns the Redis store at `REDIS_URL`, or a memory store if the variable is not set.
async fn store() -> Result<Arc<dyn Backend>, Box<dyn Error>> {
    match env::var("REDIS_URL") {
        Ok(url) => redis(url).await,
        Err(_) => Ok(Arc::new(MemoryStore::default())),
    }
}

#[cfg(feature = "redis")]
async fn redis(url: String) -> Result<Arc<dyn Backend>, Box<dyn Error>> {
    Ok(Arc::new(session_axum::RedisStore::connect(url).await?))
}

#[cfg(not(feature = "redis"))]
async fn redis(_: String) -> Result<Arc<dyn Backend>, Box<dyn Error>> {
    Err("REDIS_URL is set, but this program was built without the feature `redis`".into())
}
