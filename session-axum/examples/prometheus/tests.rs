//! The program, seen by a load balancer and by Prometheus.

use std::{net::SocketAddr, sync::Arc};

use session_axum::{MemoryStore, Sessions, StoreErrorKind};
use session_core::testing::FaultStore;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

/// Sends a request over a connection of its own, and returns the status and the complete response.
async fn get(server: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(server).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).await.unwrap();
    let status = response.split(' ').nth(1).unwrap().parse().unwrap();
    (status, response)
}

#[tokio::test]
async fn outage_is_seen_by_ready_and_metrics_and_not_by_live() {
    let metrics = crate::install_recorder().unwrap();
    let store = Arc::new(FaultStore::new_working(MemoryStore::default()));
    let app = crate::app(Sessions::new(Arc::clone(&store)), metrics);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = listener.local_addr().unwrap();
    tokio::spawn(axum::serve(listener, app).into_future());

    let statuses = async || {
        let [page, ready, live] =
            ["/", "/ready", "/live"].map(async |path| get(server, path).await.0);
        (page.await, ready.await, live.await)
    };
    assert_eq!(statuses().await, (200, 200, 200));
    store.set_outage(Some(StoreErrorKind::Unavailable));
    assert_eq!(statuses().await, (503, 503, 200));
    store.set_outage(None);
    assert_eq!(statuses().await, (200, 200, 200));

    let (status, metrics) = get(server, "/metrics").await;
    assert_eq!(status, 200);
    for line in [
        r#"session_core_events{session_core_event_kind="created"} 2"#,
        r#"session_core_opens{session_core_open_result="none"} 3"#,
        r#"session_core_error_responses{http_response_status_code="503",error_type="unavailable"} 1"#,
        r#"session_core_operation_duration_count{session_core_operation_name="commit"} 2"#,
        r#"session_core_operation_duration_bucket{session_core_operation_name="commit",le="10"} 2"#,
    ] {
        assert!(metrics.lines().any(|found| found == line), "no {line} in {metrics}");
    }
}
