//! A page that counts its visits, and the metrics of its store for Prometheus under `/metrics`.
//!
//! ```sh
//! REDIS_URL=redis://127.0.0.1 cargo run -p session-axum --example prometheus --features redis-metrics
//! curl http://127.0.0.1:3000/
//! curl http://127.0.0.1:3000/metrics
//! ```
//!
//! A real application serves `/metrics` at a port that only the operator can reach.

use std::{env, error::Error, time::Duration};

use axum::{Router, routing::get};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
use session_axum::{Key, RedisStore, Session, SessionError, SessionLayer};
use tokio::{net::TcpListener, time::sleep};

/// The number of times that the visitor opened the page.
const VISITS: Key<u64> = Key::new("visits");

/// The upper bounds of the buckets in seconds, as OpenTelemetry advises for databases.
const SECONDS: [f64; 9] = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0];

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // Installed before the store, which registers its metrics with the recorder of the process.
    let metrics = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Prefix("db.client.".to_owned()), &SECONDS)?
        .install_recorder()?;
    let upkeep = metrics.clone();
    tokio::spawn(async move {
        // Without upkeep, values pile up while the metrics are not scraped.
        loop {
            sleep(Duration::from_secs(5)).await;
            upkeep.run_upkeep();
        }
    });

    let url = env::var("REDIS_URL").unwrap_or_else(|_| "redis://127.0.0.1".to_owned());
    let sessions = SessionLayer::new(RedisStore::connect(url).await?);
    let app = Router::new()
        .route("/", get(visit))
        .layer(sessions)
        .route("/metrics", get(async move || metrics.render()));
    axum::serve(TcpListener::bind("127.0.0.1:3000").await?, app).await?;
    Ok(())
}

async fn visit(session: Session) -> Result<String, SessionError> {
    let visits = session.update(VISITS, |visits| *visits += 1)?;
    Ok(format!("visit {visits}\n"))
}
