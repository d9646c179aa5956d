use std::time::Duration;

use http::{
    HeaderMap, HeaderValue,
    header::{self, Entry, HeaderName},
};
use session_core::CookieChange;

use crate::SessionCookie;

/// Writes the change of the session cookie, the cookie for read-your-writes, and the rules for
/// caches.
pub(crate) fn write(
    headers: &mut HeaderMap,
    cookie: &SessionCookie,
    change: &CookieChange,
    read_your_writes: Option<Duration>,
) {
    let set_cookie = match change {
        CookieChange::Keep => None,
        CookieChange::Set { id, max_age, .. } => Some(cookie.setting(id, *max_age)),
        CookieChange::Remove => Some(cookie.removing()),
    };
    let marker = read_your_writes.map(|age| cookie.marking(age));
    for set_cookie in [set_cookie, marker].into_iter().flatten() {
        headers.append(header::SET_COOKIE, set_cookie);
        // Caches must not keep an ID (OWASP ASVS 5.0, 14.3.2).
        forbid_caching(headers);
    }
    vary_by_cookie(headers);
}

/// Forbids caches to keep the response, in place of the handler's own rule.
pub(crate) fn forbid_caching(headers: &mut HeaderMap) {
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
}

/// Removes the headers that describe the response to which they belong, for another response in its
/// place: its content (RFC 9110, 8 and 14.3; RFC 9530), its target, and its protocol.
pub(crate) fn remove_content(headers: &mut HeaderMap) {
    for name in CONTENT {
        headers.remove(name);
    }
    for name in UNNAMED_CONTENT {
        headers.remove(name);
    }
}

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

/// The names for which the crate `http` has no constant.
const UNNAMED_CONTENT: [&str; 4] = ["content-digest", "content-md5", "digest", "repr-digest"];

/// Adds `Vary: cookie`, so that caches return the response to this client only (Flask
/// CVE-2023-30861).
pub(crate) fn vary_by_cookie(headers: &mut HeaderMap) {
    let cookie = HeaderValue::from_static("cookie");
    let has_cookie = match headers.entry(header::VARY) {
        Entry::Vacant(vacant) => {
            vacant.insert(cookie);
            return;
        }
        Entry::Occupied(present) => present.iter().any(|line| {
            line.as_bytes().split(|byte| *byte == b',').any(|name| {
                let name = name.trim_ascii();
                name == b"*" || name.eq_ignore_ascii_case(b"cookie")
            })
        }),
    };
    if !has_cookie {
        headers.append(header::VARY, cookie);
    }
}
