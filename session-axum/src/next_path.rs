use std::fmt;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde::{Deserialize, Deserializer, Serialize};

/// The page to which a login returns: a path of this site, with its query.
///
/// [`RequireSignIn`](crate::RequireSignIn) sends visitors to the login page with the path of their
/// request in `?next=`. The login page passes the value on in its form, and the handler of the form
/// redirects to it. Anyone can make a link with another `next`, so the value is untrusted.
///
/// A `NextPath` leads to this site in every browser. [`new`](Self::new) and deserialization turn all
/// other text into `/`, the default, without an error.
///
/// # Security
///
/// A login that redirects to any `next` is an open redirect (CWE-601): a link to the real login page
/// ends on the attacker's copy of it. A path of this site
///
/// - begins with `/`, and is free of `//` before the query, because `//host` names a host,
/// - is free of `\`, which browsers read as `/`,
/// - has only visible ASCII characters other than `"`, `<` and `>`, because browsers drop tabs and
///   line breaks,
/// - keeps the first two rules, and is free of control characters, after the part before the query
///   is percent-decoded once more, because a server in between may decode the path,
/// - has at most 2,000 bytes.
///
/// The path may be any page of this site, as with every link: keep actions out of GET requests.
///
/// # Examples
///
/// ```
/// use axum::{Form, response::Redirect};
/// use serde::Deserialize;
/// use session_axum::{NextPath, Session, SessionError};
///
/// #[derive(Deserialize)]
/// struct SignIn {
///     user: u64,
///     #[serde(default)] // `/`, for a form without it
///     next: NextPath,
/// }
///
/// async fn sign_in(session: Session, Form(form): Form<SignIn>) -> Result<Redirect, SessionError> {
///     // The password has been checked.
///     session.authenticate(form.user)?;
///     Ok(Redirect::to(form.next.as_str()))
/// }
///
/// assert_eq!(NextPath::new("/invoices?page=2").as_str(), "/invoices?page=2");
/// assert_eq!(NextPath::new("//evil.example").as_str(), "/");
/// # let _: axum::Router = axum::Router::new().route("/login", axum::routing::post(sign_in));
/// ```
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(transparent)]
pub struct NextPath(String);

impl NextPath {
    /// Creates the path from the decoded value of `next`. Returns `/` if the value may lead anywhere
    /// else than to this site.
    #[must_use]
    pub fn new(next: &str) -> Self {
        if is_of_this_site(next) { Self(next.to_owned()) } else { Self::default() }
    }

    /// The path with its query, for a redirect, or for a hidden field of the login form.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for NextPath {
    fn default() -> Self {
        Self("/".to_owned())
    }
}

impl fmt::Display for NextPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for NextPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|next| Self::new(&next))
    }
}

/// Returns `true` if every client resolves the reference to a page of this site.
pub(crate) fn is_of_this_site(reference: &str) -> bool {
    let path = reference.split(['?', '#']).next().unwrap_or_default();
    let decoded: Vec<u8> = percent_decode_str(path).collect();
    path.starts_with('/')
        && reference.len() <= MAX_BYTES
        && reference.bytes().all(|byte| byte.is_ascii_graphic() && !b"\\\"<>".contains(&byte))
        && !decoded.windows(2).any(|pair| pair == b"//")
        && !decoded.iter().any(|byte| *byte == b'\\' || byte.is_ascii_control())
}

/// Returns the value of `next` for a query: percent-encoded. Returns `None` if a login page would
/// not accept it.
pub(crate) fn encoded(path_and_query: &str) -> Option<impl fmt::Display> {
    is_of_this_site(path_and_query).then(|| utf8_percent_encode(path_and_query, &ESCAPED))
}

/// All characters but the unreserved ones (RFC 3986, 2.3) and `/`, which a query may hold.
const ESCAPED: AsciiSet =
    NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// Encoded in the query of a login page, a path can be three times as long. Servers and proxies take
/// 8,000 bytes at least (RFC 9110, 4.1).
const MAX_BYTES: usize = 2_000;
