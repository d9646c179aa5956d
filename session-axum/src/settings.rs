use std::sync::Arc;

use axum_core::response::Response;
use http::{HeaderMap, StatusCode};
use session_core::{Session, SessionError, Sessions};

use crate::{BearerToken, Transport, error_page::ErrorPage, named::Slot, transport::Channel};

/// The settings of a layer, as the application has made them.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) sessions: Sessions,
    pub(crate) transport: Transport,
    pub(crate) slot: Slot,
    pub(crate) commits_server_errors: bool,
    pub(crate) error_page: Option<ErrorPage>,
}

/// The settings of a layer, shared by all of its requests.
// The counts of handles change with every request and on every processor. They must not share a
// cache line with the fields that every request reads.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Settings {
    pub(crate) config: Config,
    /// The transport, with the name of the layer.
    pub(crate) transport: Transport,
    /// The transport of a request, unless it chooses the other one.
    first: Channel,
    bearer_beside_cookie: Option<Channel>,
}

impl Settings {
    pub(crate) fn new(config: Config) -> Arc<Self> {
        let (mut sessions, mut transport) = (config.sessions.clone(), config.transport.clone());
        if let Some(name) = config.slot.name() {
            sessions = sessions.in_realm(name);
            transport.set_layer_name(name);
        }
        let (first, bearer_beside_cookie) = match &transport {
            Transport::Cookie(cookie) => (Channel::cookie(&sessions, cookie), None),
            Transport::Bearer(token) => (Channel::bearer(&sessions, token), None),
            Transport::CookieOrBearer(cookie, token) => {
                let bearer = Channel::bearer(&sessions, token).beside_another();
                (Channel::cookie(&sessions, cookie).beside_another(), Some(bearer))
            }
        };
        Arc::new(Self { config, transport, first, bearer_beside_cookie })
    }

    /// Returns `true` if layers with these settings are the same.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let (mine, theirs) = (&self.config, &other.config);
        let have_same_page = match (&mine.error_page, &theirs.error_page) {
            (Some(mine), Some(theirs)) => mine.is_same(theirs),
            (mine, theirs) => mine.is_none() && theirs.is_none(),
        };
        mine.sessions.is_same(&theirs.sessions)
            && mine.transport == theirs.transport
            && mine.slot.name() == theirs.slot.name()
            && mine.commits_server_errors == theirs.commits_server_errors
            && have_same_page
    }

    /// Returns `true` if a request chooses the bearer token beside the cookie.
    pub(crate) fn is_bearer_chosen(&self, headers: &HeaderMap) -> bool {
        self.bearer_beside_cookie.is_some() && BearerToken::is_chosen(headers)
    }

    /// Returns the transport of a request.
    pub(crate) fn channel(&self, is_bearer_chosen: bool) -> &Channel {
        match &self.bearer_beside_cookie {
            Some(bearer) if is_bearer_chosen => bearer,
            _ => &self.first,
        }
    }

    /// Returns `true` if a response gives the uncommitted changes up.
    pub(crate) fn aborts(&self, response: &Response, session: &Session) -> bool {
        // A handler that returns the error of its session has not run to its end.
        if response.extensions().get::<Arc<SessionError>>().is_some() {
            return true;
        }
        let status = response.status();
        let is_failure = status.is_server_error() || status == StatusCode::REQUEST_TIMEOUT;
        is_failure && !self.config.commits_server_errors
            || (is_failure || status.is_client_error()) && session.has_failed_commit()
    }
}
