//! The extractor that refuses pages of other sites.

use axum::{
    Router,
    body::Body,
    http::{Request, StatusCode, header},
    middleware::from_extractor,
    routing::any,
};
use session_axum::{SameOrigin, SignedIn};

use crate::support::{Answer, Site, answer};

const OWN: &str = "https://shop.example";

/// Sends a request with these lines of `Host` and `Origin`.
async fn send(uri: &str, hosts: &[&str], origins: &[&str]) -> Answer {
    let nested = Router::new().route("/socket", any(async |_: SameOrigin| "welcome"));
    let layered = Router::new()
        .route("/layered", any(async || "welcome"))
        .route_layer(from_extractor::<SameOrigin>());
    let routes = Router::new()
        .route("/socket", any(async |_: SameOrigin| "welcome"))
        .nest("/nested", nested)
        .merge(layered);
    let mut request = Request::get(uri);
    for host in hosts {
        request = request.header(header::HOST, *host);
    }
    for origin in origins {
        request = request.header(header::ORIGIN, *origin);
    }
    answer(routes, request.body(Body::empty()).unwrap()).await
}

async fn passes(uri: &str, hosts: &[&str], origins: &[&str]) -> bool {
    let answer = send(uri, hosts, origins).await;
    assert!(matches!(answer.status, StatusCode::OK | StatusCode::FORBIDDEN), "{answer:?}");
    answer.status == StatusCode::OK
}

#[tokio::test]
async fn page_of_another_site_is_refused() {
    let refused = send("/socket", &["shop.example"], &["https://evil.example"]).await;
    insta::assert_snapshot!(refused.text(), @"
    403 Forbidden
    a page of another site sent this request
    ");
    for path in ["/socket", "/nested/socket", "/layered"] {
        for uri in [path, &format!("https://shop.example{path}")] {
            assert!(passes(uri, &["shop.example"], &[OWN]).await, "{uri}");
            for origin in [
                "https://evil.example",
                "https://shop.example.evil.example",
                "https://evil.shop.example",
                "https://evil-shop.example",
                "https://shop.example:8443",
                "https://shop.example@evil.example",
                "https://shop.example/",
                "chrome-extension://shop.example",
                "shop.example",
                "//shop.example",
                "https://",
                "null",
                "",
                "\u{e4}",
            ] {
                assert!(!passes(uri, &["shop.example"], &[origin]).await, "{uri} {origin}");
            }
        }
    }
}

/// Only browsers send `Origin` by themselves. Another program could send any.
#[tokio::test]
async fn request_without_an_origin_passes() {
    assert!(passes("/socket", &["shop.example"], &[]).await);
    assert!(passes("https://shop.example/socket", &[], &[]).await);
    assert!(passes("/socket", &[], &[]).await);
}

#[tokio::test]
async fn host_of_the_uri_counts_before_the_header() {
    // HTTP/2 has the host in the URI alone. A client of HTTP/1.1 may send both.
    for hosts in [&[][..], &["evil.example"], &["shop.example"]] {
        assert!(passes("https://shop.example/socket", hosts, &[OWN]).await, "{hosts:?}");
        let evil = ["https://evil.example"];
        assert!(!passes("https://shop.example/socket", hosts, &evil).await, "{hosts:?}");
    }
}

#[tokio::test]
async fn request_without_one_host_has_no_origin_of_its_own() {
    for hosts in [&[][..], &[""], &[":443"], &["shop.example", "shop.example"], &["\u{e4}"]] {
        for origin in [OWN, "https://", "https://:443", "null", ""] {
            assert!(!passes("/socket", hosts, &[origin]).await, "{hosts:?} {origin}");
        }
    }
}

#[tokio::test]
async fn several_origins_are_refused() {
    for origins in [[OWN, OWN], [OWN, "https://evil.example"], ["https://evil.example", OWN]] {
        assert!(!passes("/socket", &["shop.example"], &origins).await, "{origins:?}");
    }
}

/// A browser leaves the default port out. A proxy may add it to `Host`.
#[tokio::test]
async fn default_port_counts_as_no_port() {
    for (origin, host, is_own) in [
        ("https://shop.example", "shop.example:443", true),
        ("https://shop.example:443", "shop.example", true),
        ("http://shop.example", "shop.example:80", true),
        ("https://shop.example:8443", "shop.example:8443", true),
        ("https://[::1]", "[::1]:443", true),
        ("https://[::1]:3000", "[::1]:3000", true),
        ("https://shop.example", "shop.example:80", false),
        ("http://shop.example", "shop.example:443", false),
        ("https://shop.example:8443", "shop.example", false),
        ("https://shop.example:8443", "shop.example:443", false),
        ("https://shop.example", "shop.example:8443", false),
    ] {
        assert_eq!(passes("/socket", &[host], &[origin]).await, is_own, "{origin} {host}");
    }
}

#[tokio::test]
async fn case_of_the_host_does_not_count() {
    assert!(passes("/socket", &["Shop.Example"], &[OWN]).await);
    assert!(passes("/socket", &["shop.example"], &["https://SHOP.example"]).await);
}

#[tokio::test]
async fn refused_page_loads_no_session() {
    let handler = async |_: SameOrigin, SignedIn(user): SignedIn<String>| user;
    let site = Site::with_routes(Router::new().route("/socket", any(handler)));
    let cookie = site.send("POST /login", "").await.cookie();
    site.store.take_calls();
    let send = async |origin: &'static str| {
        let cookie = (header::COOKIE, cookie.as_bytes());
        let others = [(header::HOST, "shop.example"), (header::ORIGIN, origin)];
        let others = others.map(|(name, value)| (name, value.as_bytes()));
        site.send_headers("GET /socket", [cookie].into_iter().chain(others)).await
    };
    assert_eq!(send("https://evil.example").await.status, StatusCode::FORBIDDEN);
    assert_eq!(site.store.take_calls(), []);
    assert_eq!(send(OWN).await.body, "ada");
}
