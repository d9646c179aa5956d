//! The devices on which a user is signed in.

use std::time::{Duration, SystemTime};

use axum::http::{HeaderMap, header};
use session_axum::{SessionInfo, SessionKey, Timestamp};

use super::super::DEVICE;

/// A device, as the page shows it.
pub(crate) struct Device {
    pub(crate) key: SessionKey,
    pub(crate) name: String,
    pub(crate) is_this: bool,
    pub(crate) seen: String,
    pub(crate) signed_in: String,
}

/// Returns the devices, the current one first.
pub(crate) fn list(sessions: &[SessionInfo], this: Option<SessionKey>) -> Vec<Device> {
    let mut devices: Vec<_> = sessions
        .iter()
        .map(|info| Device {
            key: info.key(),
            name: info.get(DEVICE).unwrap_or_else(|| "Unknown device".to_owned()),
            is_this: Some(info.key()) == this,
            seen: format!("active {}", ago(info.last_seen_at())),
            signed_in: ago(info.authenticated_at().unwrap_or(info.created_at())),
        })
        .collect();
    devices.sort_by_key(|device| !device.is_this);
    devices
}

/// Returns a name that the user recognizes, from the browser's `User-Agent`.
pub(crate) fn name(headers: &HeaderMap) -> String {
    let agent = headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok());
    let agent = agent.unwrap_or_default();
    let find = |names: &[(&str, &'static str)]| {
        names.iter().find(|(mark, _)| agent.contains(mark)).map(|(_, name)| *name)
    };
    match (find(&BROWSERS), find(&SYSTEMS)) {
        (Some(browser), Some(system)) => format!("{browser} on {system}"),
        (Some(name), None) | (None, Some(name)) => name.to_owned(),
        (None, None) => "Unknown device".to_owned(),
    }
}

/// Returns the time since an instant, in words. The last use is recorded every few minutes at most.
fn ago(at: Timestamp) -> String {
    let span = SystemTime::now().duration_since(at.into()).unwrap_or(Duration::ZERO);
    let minutes = span.as_secs() / 60;
    match minutes {
        0..10 => "just now".to_owned(),
        10..60 => format!("{minutes} minutes ago"),
        60..120 => "an hour ago".to_owned(),
        120..1_440 => format!("{} hours ago", minutes / 60),
        1_440..2_880 => "a day ago".to_owned(),
        _ => format!("{} days ago", minutes / 1_440),
    }
}

/// Marks of browsers. The first match counts, because a browser may also name browsers below.
const BROWSERS: [(&str, &str); 6] = [
    ("Edg/", "Edge"),
    ("Firefox/", "Firefox"),
    ("Chrome/", "Chrome"),
    ("CriOS/", "Chrome"),
    ("Safari/", "Safari"),
    ("curl/", "curl"),
];

/// Marks of systems, in the same order.
const SYSTEMS: [(&str, &str); 6] = [
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Android", "Android"),
    ("Windows", "Windows"),
    ("Mac OS X", "Mac"),
    ("Linux", "Linux"),
];
