use std::time::Duration;

use http::{HeaderMap, HeaderValue, header, header::Entry};
use session_core::CookieChange;

use crate::SessionCookie;

/// Tells the client, and the caches on the way, what came of the session.
pub(crate) fn write(
    headers: &mut HeaderMap,
    cookie: &SessionCookie,
    change: &CookieChange,
    marker: Option<Duration>,
) {
    let set_cookie = match change {
        CookieChange::Keep => None,
        CookieChange::Set { id, max_age } => Some(cookie.setting(id, *max_age)),
        CookieChange::Remove => Some(cookie.removing()),
    };
    for set_cookie in [set_cookie, marker.map(|age| cookie.marking(age))].into_iter().flatten() {
        headers.append(header::SET_COOKIE, set_cookie);
        // No cache may keep an ID (OWASP ASVS 5.0, 14.3.2).
        keep_out_of_caches(headers);
    }
    vary_by_cookie(headers);
}

/// Says that no cache may keep the response, whatever the handler said.
pub(crate) fn keep_out_of_caches(headers: &mut HeaderMap) {
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
}

/// Says that the response is for this client alone (Flask CVE-2023-30861).
pub(crate) fn vary_by_cookie(headers: &mut HeaderMap) {
    let cookie = HeaderValue::from_static("cookie");
    let said = match headers.entry(header::VARY) {
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
    if !said {
        headers.append(header::VARY, cookie);
    }
}
