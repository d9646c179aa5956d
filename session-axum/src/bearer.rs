use axum_core::response::Response;
use http::{
    HeaderMap, HeaderValue,
    header::{self, HeaderName},
};
use session_core::{ConfigError, CookieChange};

use crate::headers;

/// The bearer token that holds the session ID: for mobile applications, other programs, and pages
/// of another host.
///
/// Requests send the ID in the header `Authorization`, by the scheme `Bearer` (RFC 6750). Responses
/// report a new ID in a header of their own, `session-token` by default, instead of a cookie.
///
/// | the response | the client |
/// | --- | --- |
/// | lacks `session-token` | keeps its token |
/// | has `session-token: <ID>`, after a first write, a login, a rotation or a renewal | replaces its token |
/// | has an empty `session-token`, because the request ended its session | forgets its token |
/// | is a 401 with `WWW-Authenticate: Bearer error="invalid_token"` | signs in again: the session has expired, or was ended elsewhere |
///
/// A client without a token sends `Authorization: Bearer`. A response with an ID has
/// `Cache-Control: no-store`, and every response whose handler asked for the session has
/// `Vary: authorization`.
///
/// The [guide](crate::guide::bearer) shows a client, and a front end on another host with CORS.
///
/// # Security
///
/// The ID of a cookie is unknown as a bearer token, and the reverse: each transport has its own
/// [realm](session_core::Sessions::in_realm). The user's [list](session_core::Sessions::list) holds
/// the sessions of both.
///
/// Browsers never send the header on their own. A request that another site forges is therefore
/// without a session: only cookies need a defence against forged requests (CSRF).
///
/// Scripts of a page can read its token, and so can an injected script. Pages of the same site
/// should use the cookie, which scripts cannot read.
///
/// A request has a session only with exactly one header `Authorization`. Credentials of another
/// scheme, such as those that a proxy adds, are ignored. If two APIs share one store, give each a realm of
/// its own, because both read the same header.
///
/// # Examples
///
/// ```
/// use axum::{Router, routing::{get, post}};
/// use session_axum::{BearerToken, MemoryStore, Session, SessionError, SessionLayer, SignedIn};
///
/// async fn log_in(session: Session) -> Result<(), SessionError> {
///     // The password has been checked. The response reports the ID.
///     session.authenticate(7)
/// }
///
/// async fn invoices(SignedIn(user): SignedIn<u64>) -> String {
///     format!("the invoices of user {user}")
/// }
///
/// let layer = SessionLayer::new(MemoryStore::default()).with_transport(BearerToken::default());
/// let api: Router =
///     Router::new().route("/login", post(log_in)).route("/invoices", get(invoices)).layer(layer);
/// # drop(api);
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BearerToken {
    response_header: HeaderName,
}

impl BearerToken {
    /// Sets the header in which responses report an ID. The default is `session-token`. A
    /// [named](crate::SessionLayer::named) layer puts its name in front: `admin-session-token`.
    ///
    /// # Errors
    ///
    /// Returns a [`ConfigError`] if the text is not the name of a header, or names a header with a
    /// meaning of its own for the session: `authorization`, `cache-control`, `set-cookie`, `vary` or
    /// `www-authenticate`. The last word of such a name, as `cookie`, is refused too, because the name
    /// of a layer could complete it.
    pub fn with_response_header(mut self, name: &str) -> Result<Self, ConfigError> {
        self.response_header = match HeaderName::try_from(name) {
            Ok(header) if !TAKEN.iter().any(|taken| ends_with(taken, &header)) => header,
            _ => {
                let text = format!("the header {name:?} cannot report session IDs");
                return Err(ConfigError::new(text));
            }
        };
        Ok(self)
    }

    /// The header in which responses report an ID: for the list of a CORS layer. If the layer has a
    /// name, ask for the [layer's token](crate::SessionLayer::bearer_token).
    #[must_use]
    pub fn response_header(&self) -> &HeaderName {
        &self.response_header
    }

    /// Adds the name of a layer, so that layers with the same token have a header each.
    pub(crate) fn set_layer_name(&mut self, layer: &str) {
        let name = format!("{layer}-{}", self.response_header);
        self.response_header = HeaderName::try_from(name).expect("both parts are tokens");
    }

    /// Returns `true` if the request chooses the scheme `Bearer`, with whatever token.
    pub(crate) fn is_chosen(headers: &HeaderMap) -> bool {
        headers.get_all(header::AUTHORIZATION).iter().any(|line| after_scheme(line).is_some())
    }

    /// Returns the token of a request. A malformed one is the empty text, which is never an ID. A
    /// request with the scheme alone is without a token.
    pub(crate) fn token(headers: &HeaderMap) -> Option<&[u8]> {
        let mut lines = headers.get_all(header::AUTHORIZATION).iter();
        let line = lines.next()?;
        if lines.next().is_some() {
            // RFC 9110, 5.3: the header is not a list.
            return Self::is_chosen(headers).then_some(MALFORMED);
        }
        match after_scheme(line)? {
            [] => None,
            token @ [b' ', ..] => Some(token.trim_ascii_start()),
            _ => Some(MALFORMED),
        }
    }

    /// Returns the `Authorization` of a client that holds this ID.
    #[cfg(feature = "testing")]
    pub(crate) fn sent(id: &session_core::SessionId) -> HeaderValue {
        secret(&format!("Bearer {}", id.expose()))
    }

    /// Reports the change of the session's ID.
    pub(crate) fn report(&self, headers: &mut HeaderMap, change: &CookieChange) {
        let token = match change {
            CookieChange::Keep => return,
            CookieChange::Set { id, .. } => secret(id.expose()),
            CookieChange::Remove => HeaderValue::from_static(""),
        };
        headers.insert(self.response_header.clone(), token);
        headers::forbid_caching(headers);
    }

    /// Adds the challenge that a 401 must have (RFC 9110, 15.5.2), unless the handler has sent its
    /// own. `invalid_token` reports a token that each layer has looked up and does not know (RFC 6750,
    /// 3.1).
    pub(crate) fn challenge(response: &mut Response, had_unknown_id: bool) {
        let present = response.headers().get_all(header::WWW_AUTHENTICATE);
        let is_of_layer = response.extensions().get::<Challenged>().is_some();
        let is_refuted = is_of_layer && !had_unknown_id && present.iter().eq([INVALID_TOKEN]);
        if present.iter().next().is_some() && !is_refuted {
            return;
        }
        let challenge = if had_unknown_id { INVALID_TOKEN } else { "Bearer" };
        let challenge = HeaderValue::from_static(challenge);
        response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        response.extensions_mut().insert(Challenged);
    }
}

const INVALID_TOKEN: &str = r#"Bearer error="invalid_token""#;

/// The extension of a response whose challenge a layer has added.
#[derive(Clone, Copy)]
struct Challenged;

impl Default for BearerToken {
    fn default() -> Self {
        Self { response_header: HeaderName::from_static("session-token") }
    }
}

/// Returns `true` if the words of a header's name end with those of another: the name of a layer could
/// add the words before.
fn ends_with(name: &HeaderName, end: &HeaderName) -> bool {
    let rest = name.as_str().strip_suffix(end.as_str());
    rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('-'))
}

/// Returns the rest of credentials with the scheme `Bearer`, in any case (RFC 9110, 11.1).
fn after_scheme(credentials: &HeaderValue) -> Option<&[u8]> {
    let credentials = credentials.as_bytes().trim_ascii();
    let (scheme, rest) = credentials.split_at_checked(SCHEME.len())?;
    let ends = rest.first().is_none_or(|byte| !headers::is_token(*byte));
    (ends && scheme.eq_ignore_ascii_case(SCHEME)).then_some(rest)
}

fn secret(text: &str) -> HeaderValue {
    let mut value = HeaderValue::try_from(text).expect("an ID has only visible characters");
    // A layer that logs headers then does not show the ID.
    value.set_sensitive(true);
    value
}

const SCHEME: &[u8] = b"bearer";

const MALFORMED: &[u8] = b"";

const TAKEN: [HeaderName; 5] = [
    header::AUTHORIZATION,
    header::CACHE_CONTROL,
    header::SET_COOKIE,
    header::VARY,
    header::WWW_AUTHENTICATE,
];

#[cfg(test)]
mod tests {
    use super::*;

    fn request(lines: &[&[u8]]) -> HeaderMap {
        let lines = lines.iter().map(|line| HeaderValue::from_bytes(line).unwrap());
        lines.map(|line| (header::AUTHORIZATION, line)).collect()
    }

    fn read(lines: &[&[u8]]) -> (bool, Option<Vec<u8>>) {
        let headers = request(lines);
        (BearerToken::is_chosen(&headers), BearerToken::token(&headers).map(<[u8]>::to_vec))
    }

    #[test]
    fn token_follows_the_scheme_in_any_case() {
        for line in ["Bearer id", "bearer id", "BEARER   id", " bEaReR id \t"] {
            assert_eq!(read(&[line.as_bytes()]), (true, Some(b"id".to_vec())), "{line}");
        }
        for line in ["Bearer", "bearer ", " Bearer \t"] {
            assert_eq!(read(&[line.as_bytes()]), (true, None), "{line}");
        }
    }

    #[test]
    fn malformed_token_is_a_token_that_opens_nothing() {
        for line in ["Bearer\tid", "Bearer,id", "Bearer=id", "Bearer\u{e4}"] {
            assert_eq!(read(&[line.as_bytes()]), (true, Some(Vec::new())), "{line}");
        }
        assert_eq!(read(&[b"Bearer id, Basic x"]), (true, Some(b"id, Basic x".to_vec())));
    }

    #[test]
    fn other_scheme_is_no_token() {
        let none: &[&[&[u8]]] = &[
            &[],
            &[b""],
            &[b"Basic aWQ6aWQ="],
            &[b"Bearers id"],
            &[b"Bearer-id"],
            &[b"xBearer id"],
            &[b"id"],
            &[b"Basic x", b"Digest y"],
        ];
        for lines in none {
            assert_eq!(read(lines), (false, None), "{lines:?}");
        }
    }

    #[test]
    fn two_headers_hold_no_token() {
        let pairs: [[&[u8]; 2]; 4] = [
            [b"Bearer id", b"Bearer id"],
            [b"Bearer id", b"Basic x"],
            [b"Basic x", b"Bearer id"],
            [b"Bearer", b"Bearer id"],
        ];
        for lines in pairs {
            assert_eq!(read(&lines), (true, Some(Vec::new())), "{lines:?}");
        }
    }

    #[test]
    fn header_with_another_meaning_is_refused() {
        let header = |name| BearerToken::default().with_response_header(name);
        assert_eq!(header("X-Auth-Token").unwrap().response_header(), "x-auth-token");
        let of_a_named_layer = ["cookie", "control", "Authenticate"];
        let others = ["", "a b", "Set-Cookie", "authorization", "vary", "\u{e4}"];
        for name in others.into_iter().chain(of_a_named_layer) {
            header(name).unwrap_err();
        }
        insta::assert_snapshot!(
            header("Vary").unwrap_err(),
            @r#"the header "Vary" cannot report session IDs"#
        );
    }
}
