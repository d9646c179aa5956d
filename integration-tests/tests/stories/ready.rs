//! `Sessions::ping` as the readiness of a server, seen by a load balancer over real HTTP.

use std::time::{Duration, Instant};

use axum::{Router, extract::State, http::StatusCode, routing::get};
use integration_tests::{Browser, RedisServer, until};
use session_axum::{RedisStore, Sessions};
use tokio::net::TcpListener;

/// The time limit of an operation, and the time for an answer on a busy machine.
const BOUND: Duration = Duration::from_secs(1 + 2);

/// A server with one route, so that nothing else finds out that Redis is up again.
async fn serve(redis: &RedisServer) -> Browser {
    let sessions = Sessions::new(RedisStore::connect(redis.url()).await.unwrap());
    let ready = async |State(sessions): State<Sessions>| match sessions.ping().await {
        Ok(()) => StatusCode::OK,
        Err(_) => StatusCode::SERVICE_UNAVAILABLE,
    };
    let app = Router::new().route("/ready", get(ready)).with_state(sessions);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(axum::serve(listener, app).into_future());
    Browser::new(addr)
}

async fn becomes(balancer: &Browser, status: StatusCode) {
    until(&format!("/ready is {status}"), async || {
        let begin = Instant::now();
        let answer = balancer.get("/ready").await;
        assert!(begin.elapsed() < BOUND, "{:?}", begin.elapsed());
        assert!([StatusCode::OK, StatusCode::SERVICE_UNAVAILABLE].contains(&answer.status));
        answer.status == status
    })
    .await;
}

#[tokio::test]
async fn server_is_ready_while_redis_answers() {
    let redis = RedisServer::start().await;
    let balancer = serve(&redis).await;
    assert_eq!(balancer.get("/ready").await.status, StatusCode::OK);

    redis.kill().await;
    becomes(&balancer, StatusCode::SERVICE_UNAVAILABLE).await;
    for _ in 0..20 {
        assert_eq!(balancer.get("/ready").await.status, StatusCode::SERVICE_UNAVAILABLE);
    }
    redis.start_again().await;
    becomes(&balancer, StatusCode::OK).await;

    redis.pause().await;
    becomes(&balancer, StatusCode::SERVICE_UNAVAILABLE).await;
    redis.unpause().await;
    becomes(&balancer, StatusCode::OK).await;
    assert_eq!(balancer.get("/ready").await.status, StatusCode::OK);
}
