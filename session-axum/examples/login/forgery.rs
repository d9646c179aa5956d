//! Refuses forms that another site's page sends.
//!
//! `SameSite` keeps another site from using the visitor's session. A form without the cookie still
//! arrives, and the response sets a cookie: the victim is then signed in to the attacker's account.

use axum::{
    extract::Request,
    http::{HeaderMap, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};

use super::pages;

/// Responds with 403 to an unsafe request from another site.
pub(crate) async fn refuse(request: Request, next: Next) -> Response {
    // In HTTP/2 the host is in the URI.
    let authority = request.uri().authority().map(|authority| authority.as_str());
    if is_forged(request.method(), request.headers(), authority) {
        return (StatusCode::FORBIDDEN, pages::foreign()).into_response();
    }
    next.run(request).await
}

/// Returns `true` if a page of another site made the browser send the request.
///
/// Browsers report the site in a header that scripts cannot change (W3C Fetch Metadata). Old
/// browsers, and all browsers over plain HTTP to other hosts than localhost, send the origin at
/// least. A client without both headers is not a browser.
fn is_forged(method: &Method, headers: &HeaderMap, authority: Option<&str>) -> bool {
    if method == Method::GET || method == Method::HEAD {
        return false;
    }
    if let Some(site) = headers.get("sec-fetch-site") {
        return site != "same-origin" && site != "none";
    }
    let Some(origin) = headers.get(header::ORIGIN) else { return false };
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).or(authority);
    // `null`, the origin of a page that hides its address, has no host.
    let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
    match (origin, host) {
        (Some((_, origin)), Some(host)) => !origin.eq_ignore_ascii_case(host),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_refused(method: &Method, headers: &[(&'static str, &'static str)]) -> bool {
        let headers = headers
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), header::HeaderValue::from_static(value)));
        is_forged(method, &headers.collect(), None)
    }

    #[test]
    fn site_header_of_the_browser_counts() {
        for (site, refused) in
            [("same-origin", false), ("none", false), ("same-site", true), ("cross-site", true)]
        {
            assert_eq!(is_refused(&Method::POST, &[("sec-fetch-site", site)]), refused, "{site}");
            assert!(!is_refused(&Method::GET, &[("sec-fetch-site", site)]), "{site}");
        }
        // The other headers do not count then.
        let own = [("sec-fetch-site", "cross-site"), ("origin", "http://a"), ("host", "a")];
        assert!(is_refused(&Method::POST, &own));
    }

    #[test]
    fn origin_without_a_site_header_has_to_be_this_host() {
        for (origin, refused) in [
            ("http://localhost:3000", false),
            ("https://LOCALHOST:3000", false),
            ("http://localhost", true),
            ("http://localhost:3000.evil.example", true),
            ("https://evil.example", true),
            ("null", true),
        ] {
            let headers = [("origin", origin), ("host", "localhost:3000")];
            assert_eq!(is_refused(&Method::POST, &headers), refused, "{origin}");
        }
        assert!(is_refused(&Method::POST, &[("origin", "http://localhost:3000")]), "no host");
    }

    #[test]
    fn client_without_both_headers_is_let_in() {
        assert!(!is_refused(&Method::POST, &[("host", "localhost:3000")]));
    }
}
