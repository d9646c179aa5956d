use axum_core::response::Response;
use http::{HeaderMap, HeaderValue, StatusCode};
use session_core::{CookieChange, Session, SessionError, Sessions};

use crate::{BearerToken, SessionCookie, headers};

/// How clients hold their session ID.
///
/// The ID of one transport is unknown in the other.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Transport {
    /// In a cookie: for browsers. The default.
    Cookie(SessionCookie),
    /// In a bearer token: for mobile applications, other programs, and pages of another host.
    Bearer(BearerToken),
    /// In either: for routes that browsers and other clients share.
    ///
    /// The request decides. If one of its headers `Authorization` has the scheme `Bearer`, with
    /// whatever token, then the request uses the bearer token, and its cookies neither count nor
    /// change. All other requests use the cookie. A dead token never leads to the session of the
    /// cookie. Credentials of another scheme are ignored.
    CookieOrBearer(SessionCookie, BearerToken),
}

impl Transport {
    /// The cookie, if clients may hold their ID in one.
    #[must_use]
    pub fn cookie(&self) -> Option<&SessionCookie> {
        match self {
            Self::Cookie(cookie) | Self::CookieOrBearer(cookie, _) => Some(cookie),
            Self::Bearer(_) => None,
        }
    }

    /// The bearer token, if clients may hold their ID in one.
    #[must_use]
    pub fn bearer_token(&self) -> Option<&BearerToken> {
        match self {
            Self::Bearer(token) | Self::CookieOrBearer(_, token) => Some(token),
            Self::Cookie(_) => None,
        }
    }

    pub(crate) fn set_layer_name(&mut self, name: &str) {
        if let Self::Cookie(cookie) | Self::CookieOrBearer(cookie, _) = self {
            cookie.set_layer_name(name);
        }
        if let Self::Bearer(token) | Self::CookieOrBearer(_, token) = self {
            token.set_layer_name(name);
        }
    }
}

impl Default for Transport {
    fn default() -> Self {
        Self::Cookie(SessionCookie::default())
    }
}

impl From<SessionCookie> for Transport {
    fn from(cookie: SessionCookie) -> Self {
        Self::Cookie(cookie)
    }
}

impl From<BearerToken> for Transport {
    fn from(token: BearerToken) -> Self {
        Self::Bearer(token)
    }
}

/// One transport of a layer, with the realm of its IDs.
#[derive(Debug)]
pub(crate) struct Channel {
    sessions: Sessions,
    holder: Holder,
    varies_by: &'static [HeaderValue],
}

#[derive(Debug)]
enum Holder {
    Cookie(SessionCookie),
    Bearer(BearerToken),
}

impl Channel {
    pub(crate) fn cookie(sessions: &Sessions, cookie: &SessionCookie) -> Self {
        // The ID of a visitor must be unknown under the name of an administrator's cookie.
        let sessions = match cookie.name() {
            SessionCookie::NAME => sessions.clone(),
            name => sessions.in_realm(&format!("cookie {name}")),
        };
        Self { sessions, holder: Holder::Cookie(cookie.clone()), varies_by: &BY_COOKIE }
    }

    pub(crate) fn bearer(sessions: &Sessions, token: &BearerToken) -> Self {
        let (sessions, holder) = (sessions.in_realm("bearer"), Holder::Bearer(token.clone()));
        Self { sessions, holder, varies_by: &BY_TOKEN }
    }

    /// Marks one of two transports between which the request decides.
    pub(crate) fn beside_another(self) -> Self {
        Self { varies_by: &BY_EITHER, ..self }
    }

    /// The sessions of the transport's realm.
    pub(crate) fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    pub(crate) async fn open(&self, headers: &HeaderMap) -> Result<Session, SessionError> {
        match &self.holder {
            Holder::Cookie(cookie) => self.sessions.open(cookie.values(headers)).await,
            Holder::Bearer(_) => self.sessions.open(BearerToken::token(headers)).await,
        }
    }

    pub(crate) fn try_open_local(&self, headers: &HeaderMap) -> Option<Session> {
        match &self.holder {
            Holder::Cookie(cookie) => {
                let is_behind = || cookie.is_marked(headers);
                self.sessions.try_open_local(cookie.values(headers), is_behind)
            }
            // The client cannot report its changes, so that each of its reads may be behind.
            Holder::Bearer(_) => self.sessions.try_open_local(BearerToken::token(headers), || true),
        }
    }

    /// Writes the change of the client's ID, and the rules for caches.
    pub(crate) fn write(&self, response: &mut Response, session: &Session, change: &CookieChange) {
        match &self.holder {
            Holder::Cookie(cookie) => {
                cookie.write(response.headers_mut(), change, session.read_your_writes());
            }
            Holder::Bearer(token) => token.report(response.headers_mut(), change),
        }
        self.challenge(response, session.had_unknown_id());
        self.vary(response.headers_mut());
    }

    /// Writes the rules for caches into the response of a request whose session could not be loaded.
    pub(crate) fn write_failure(&self, response: &mut Response) {
        headers::forbid_caching(response.headers_mut());
        self.challenge(response, false);
    }

    fn challenge(&self, response: &mut Response, had_unknown_id: bool) {
        if let Holder::Bearer(_) = self.holder
            && response.status() == StatusCode::UNAUTHORIZED
        {
            BearerToken::challenge(response, had_unknown_id);
        }
    }

    /// Adds the headers of the request on which a response depends to its `Vary`.
    pub(crate) fn vary(&self, headers: &mut HeaderMap) {
        for name in self.varies_by {
            headers::vary_by(headers, name);
        }
    }
}

// The headers of the request by which clients present their ID.
static BY_COOKIE: [HeaderValue; 1] = [HeaderValue::from_static("cookie")];
static BY_TOKEN: [HeaderValue; 1] = [HeaderValue::from_static("authorization")];
static BY_EITHER: [HeaderValue; 2] =
    [HeaderValue::from_static("authorization"), HeaderValue::from_static("cookie")];
