use std::time::Duration;

use crate::SessionId;

/// The change that a response makes to the client's cookie.
///
/// The enum is exhaustive: an integration carries out every change.
#[derive(Clone, Debug)]
#[must_use]
pub enum CookieChange {
    /// The cookie stays.
    Keep,
    /// The cookie is set to this ID.
    #[non_exhaustive]
    Set {
        /// The ID to send to the client.
        id: SessionId,
        /// The time for which the client keeps the cookie. `None` means until the browser is
        /// closed.
        max_age: Option<Duration>,
    },
    /// The cookie is removed, because the request ended its session.
    Remove,
}
