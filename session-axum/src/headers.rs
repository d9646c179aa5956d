use http::{
    HeaderMap, HeaderValue,
    header::{self, Entry, HeaderName},
};

/// Forbids caches to keep the response, in place of the handler's own rules. A cache obeys a rule
/// that is addressed to it before `Cache-Control` (RFC 9213, 2.2).
pub(crate) fn forbid_caching(headers: &mut HeaderMap) {
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    for name in TARGETED_CACHE_RULES {
        headers.remove(name);
    }
}

/// Removes the headers that describe the response to which they belong, for another response in its
/// place: its content (RFC 9110, 8 and 14.3; RFC 9530), its target, its protocol, and orders to a
/// proxy, a browser or a script.
pub(crate) fn remove_content(headers: &mut HeaderMap) {
    for name in CONTENT {
        headers.remove(name);
    }
    for name in UNNAMED_CONTENT {
        headers.remove(name);
    }
}

/// Of RFC 9213, and those that content delivery networks and proxies document.
const TARGETED_CACHE_RULES: [&str; 6] = [
    "cdn-cache-control",
    "cloudflare-cdn-cache-control",
    "netlify-cdn-cache-control",
    "vercel-cdn-cache-control",
    "surrogate-control",
    "x-accel-expires",
];

const CONTENT: [HeaderName; 19] = [
    header::ACCEPT_RANGES,
    header::AGE,
    header::CONNECTION,
    header::CONTENT_DISPOSITION,
    header::CONTENT_ENCODING,
    header::CONTENT_LANGUAGE,
    header::CONTENT_LENGTH,
    header::CONTENT_LOCATION,
    header::CONTENT_RANGE,
    header::CONTENT_TYPE,
    header::ETAG,
    header::EXPIRES,
    header::LAST_MODIFIED,
    header::LOCATION,
    header::REFRESH,
    header::SEC_WEBSOCKET_ACCEPT,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// The names for which the crate `http` has no constant. A proxy serves the file of `x-accel-redirect`
/// or `x-sendfile` in place of the response; htmx follows its own headers.
const UNNAMED_CONTENT: [&str; 17] = [
    "clear-site-data",
    "content-digest",
    "content-md5",
    "digest",
    "hx-location",
    "hx-push-url",
    "hx-redirect",
    "hx-refresh",
    "hx-replace-url",
    "hx-reswap",
    "hx-retarget",
    "hx-trigger",
    "repr-digest",
    "x-accel-redirect",
    "x-lighttpd-send-file",
    "x-reproxy-url",
    "x-sendfile",
];

/// Adds the name of a request's header to `Vary`, so that caches return the response to this client
/// only (Flask CVE-2023-30861).
pub(crate) fn vary_by(headers: &mut HeaderMap, own: &HeaderValue) {
    let has_own = match headers.entry(header::VARY) {
        Entry::Vacant(vacant) => {
            vacant.insert(own.clone());
            return;
        }
        Entry::Occupied(present) => present.iter().any(|line| {
            line.as_bytes().split(|byte| *byte == b',').any(|name| {
                let name = name.trim_ascii();
                name == b"*" || name.eq_ignore_ascii_case(own.as_bytes())
            })
        }),
    };
    if !has_own {
        headers.append(header::VARY, own.clone());
    }
}

/// RFC 9110, 5.6.2.
pub(crate) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
