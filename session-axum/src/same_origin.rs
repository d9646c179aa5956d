use axum_core::extract::FromRequestParts;
use http::{HeaderMap, StatusCode, header, header::HeaderName, request::Parts};

/// A proof that no page of another site opened the web socket of the request.
///
/// A browser opens a web socket to any site, sends its cookies along, and applies no CORS (RFC 6455,
/// 10.2): a page of another site could read and write in the visitor's name. The browser reports the
/// page's origin in `Origin`, and the extractor compares it with the host of the request.
///
/// | the request | |
/// | --- | --- |
/// | has the `Origin` of a page of its own host, and port | passes |
/// | has no `Origin`: a handshake of a client that is no browser | passes |
/// | has another `Origin`, `null`, more than one, or no host | 403 |
///
/// The host is that of the URI, as in HTTP/2, or else that of `Host`. The default port counts as no
/// port. Put the extractor first, so that a refused request loads no session. For all
/// other requests, use `CsrfLayer` of tower-http: browsers send no `Origin` with the GET of a link, a
/// form or an image, so that this extractor lets it pass.
///
/// # Security
///
/// The scheme is not compared, because a proxy may end TLS: a page of the same host at `http://` passes,
/// unless HSTS (RFC 6797) prevents such pages. A proxy must forward `Host` and `Origin` unchanged.
///
/// # Examples
///
/// ```
/// use axum::{Router, extract::ws::WebSocketUpgrade, response::Response, routing::any};
/// use session_axum::{SameOrigin, SignedIn};
///
/// async fn connect(
///     _: SameOrigin,
///     SignedIn(_user): SignedIn<u64>,
///     upgrade: WebSocketUpgrade,
/// ) -> Response {
///     upgrade.on_upgrade(async |_socket| {})
/// }
///
/// let routes: Router = Router::new().route("/socket", any(connect));
/// # drop(routes);
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct SameOrigin;

impl<S: Send + Sync> FromRequestParts<S> for SameOrigin {
    type Rejection = (StatusCode, &'static str);

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        let is_own = !parts.headers.contains_key(header::ORIGIN)
            || only(&parts.headers, header::ORIGIN)
                .zip(host(parts))
                .is_some_and(|(origin, host)| is_origin_of(origin, host));
        let refusal = (StatusCode::FORBIDDEN, "a page of another site sent this request");
        is_own.then_some(Self).ok_or(refusal)
    }
}

/// Returns the host to which a request was sent. In HTTP/1.1 a host in the URI counts before `Host`
/// (RFC 9112, 3.2.2).
fn host(parts: &Parts) -> Option<&str> {
    let authority = parts.uri.authority().map(|authority| authority.as_str());
    authority.or_else(|| only(&parts.headers, header::HOST))
}

/// Returns the value of a header. Returns `None` if the header is repeated or is no visible ASCII.
fn only(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    let mut lines = headers.get_all(name).iter();
    lines.next().filter(|_| lines.next().is_none())?.to_str().ok()
}

/// Returns `true` if a page of this origin is of this host.
fn is_origin_of(origin: &str, host: &str) -> bool {
    let (default_port, origin) = match origin.split_once("://") {
        Some(("http", origin)) => (":80", origin),
        Some(("https", origin)) => (":443", origin),
        _ => return false,
    };
    let [origin, host] = [origin, host].map(|host| host.strip_suffix(default_port).unwrap_or(host));
    !host.is_empty() && origin.eq_ignore_ascii_case(host)
}
