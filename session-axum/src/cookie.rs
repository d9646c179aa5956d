use std::time::Duration;

use cookie::{Cookie, time};
use http::{HeaderMap, HeaderValue, header};
use session_core::{ConfigError, CookieChange, SessionId};

use crate::headers;

/// The cookie that holds the session ID: its name and attributes.
///
/// | attribute | default | why |
/// | --- | --- | --- |
/// | name | `__Host-session` | the prefix makes browsers refuse it from another host (RFC 6265bis, 4.1.3.2) |
/// | `Secure` | yes | never sent over plain HTTP |
/// | `HttpOnly` | always | scripts of the page cannot read it |
/// | `SameSite` | `Lax` | not sent along with other sites' requests, but with links to this one; `Strict` breaks the return from an identity provider |
/// | `Path` | `/` | |
/// | `Domain` | none | only this host gets it |
/// | `Partitioned` | no | for a site that others embed, see [`with_partitioned`](Self::with_partitioned) |
/// | `Max-Age` | by the session's [`Lifetime`](session_core::Lifetime) | |
///
/// The removing cookie has the attributes of the setting one.
///
/// If the store's [local reads](session_core::LocalReads) can be stale, a response whose request
/// changed the session sets a second cookie for a few seconds. The second cookie has the same
/// attributes but for `Max-Age`, the suffix `-changed` in its name, and a constant value. While the
/// client sends the second cookie, servers read the session from the store itself. So the client
/// reads its own writes through any server.
///
/// # Examples
///
/// ```
/// use session_axum::{SameSite, SessionCookie};
///
/// # fn main() -> Result<(), session_axum::ConfigError> {
/// let cookie = SessionCookie::default()
///     .with_name("__Host-shop")?
///     .with_same_site(SameSite::Strict)?;
/// # drop(cookie);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SessionCookie {
    name: String,
    secure: bool,
    same_site: SameSite,
    path: String,
    domain: Option<String>,
    partitioned: bool,
}

impl SessionCookie {
    /// The default name: `__Host-session`.
    pub(crate) const NAME: &str = "__Host-session";

    /// Creates a cookie named `session` without `Secure`, for development with a client that does
    /// not take secure cookies over plain HTTP.
    ///
    /// # Security
    ///
    /// Everyone on the network path can read the cookie and use the session. Never use it in
    /// production.
    #[must_use]
    pub fn insecure_for_development() -> Self {
        Self { name: INSECURE_NAME.to_owned(), secure: false, ..Self::default() }
    }

    /// Sets the name. The default is `__Host-session`.
    ///
    /// # Errors
    ///
    /// Returns a [`ConfigError`] if the name is empty, longer than 128 bytes or holds characters
    /// outside of a token (RFC 9110, 5.6.2), or if the other attributes break the promise of its
    /// prefix.
    pub fn with_name(mut self, name: impl Into<String>) -> Result<Self, ConfigError> {
        self.name = name.into();
        self.checked()
    }

    /// Sets which requests from other sites carry the cookie. The default is [`SameSite::Lax`].
    ///
    /// # Errors
    ///
    /// Returns a [`ConfigError`] for [`SameSite::None`] without `Secure`, which browsers refuse.
    pub fn with_same_site(mut self, same_site: SameSite) -> Result<Self, ConfigError> {
        self.same_site = same_site;
        self.checked()
    }

    /// Sets the path below which the cookie is sent. The default is `/`.
    ///
    /// # Errors
    ///
    /// Returns a [`ConfigError`] if the path does not begin with `/`, or holds `;` or characters
    /// outside of printable ASCII. With a name that begins with `__Host-`, only the path `/` is
    /// valid.
    pub fn with_path(mut self, path: impl Into<String>) -> Result<Self, ConfigError> {
        self.path = path.into();
        self.checked()
    }

    /// Sends the cookie to all hosts of a domain. By default, only the host that set the cookie
    /// receives it.
    ///
    /// # Security
    ///
    /// Each of these hosts can then read and replace the cookie.
    ///
    /// # Errors
    ///
    /// Returns a [`ConfigError`] if the domain is empty or holds other characters than letters,
    /// digits, dots and hyphens, or if the name begins with `__Host-`, which excludes a domain. Set
    /// another name first.
    pub fn with_domain(mut self, domain: impl Into<String>) -> Result<Self, ConfigError> {
        self.domain = Some(domain.into());
        self.checked()
    }

    /// Sets the attribute `Partitioned`: the browser keeps a separate cookie for each embedding
    /// site (CHIPS, draft-cutler-httpbis-partitioned-cookies). By default, the attribute is absent.
    ///
    /// An application inside of another site's frame needs the attribute together with
    /// [`SameSite::None`], because browsers block third-party cookies without it. A user of such an
    /// application signs in once per embedding site. A session that the user began on the site
    /// itself does not open inside of a frame.
    ///
    /// # Security
    ///
    /// `SameSite=None` sends the cookie along with requests that the embedding site forges. Refuse
    /// these requests, by their header `Origin` for example.
    ///
    /// # Errors
    ///
    /// Returns a [`ConfigError`] without `Secure`: browsers refuse the cookie then.
    ///
    /// # Examples
    ///
    /// ```
    /// use session_axum::{ConfigError, SameSite, SessionCookie};
    ///
    /// fn embedded() -> Result<SessionCookie, ConfigError> {
    ///     SessionCookie::default().with_same_site(SameSite::None)?.with_partitioned()
    /// }
    /// # embedded().unwrap();
    /// ```
    pub fn with_partitioned(mut self) -> Result<Self, ConfigError> {
        self.partitioned = true;
        self.checked()
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The requests from other sites that carry the cookie.
    #[must_use]
    pub const fn same_site(&self) -> SameSite {
        self.same_site
    }

    /// The path below which the cookie is sent.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The domain whose hosts receive the cookie. Returns `None` if only the host that set the
    /// cookie receives it.
    #[must_use]
    pub fn domain(&self) -> Option<&str> {
        self.domain.as_deref()
    }

    /// Returns `true` if the cookie is sent over HTTPS only.
    #[must_use]
    pub const fn is_secure(&self) -> bool {
        self.secure
    }

    /// Returns `true` if the browser keeps a separate cookie for each embedding site.
    #[must_use]
    pub const fn is_partitioned(&self) -> bool {
        self.partitioned
    }

    /// Returns the values of the cookies of this name in a request, in their order.
    ///
    /// Works on bytes, because a cookie of another application may hold any. Names are compared
    /// byte by byte and never percent-decoded (PHP CVE-2020-7070).
    pub(crate) fn values<'h>(&self, headers: &'h HeaderMap) -> impl Iterator<Item = &'h [u8]> {
        self.ends_of_pairs(headers).filter_map(value)
    }

    /// Returns `true` if the client has changed its session a moment ago.
    pub(crate) fn is_marked(&self, headers: &HeaderMap) -> bool {
        let marker = |end: &[u8]| end.strip_prefix(MARKER.as_bytes()).and_then(value).is_some();
        self.ends_of_pairs(headers).any(marker)
    }

    /// Returns the pairs of name and value that begin with the name, without that beginning.
    fn ends_of_pairs<'h>(&self, headers: &'h HeaderMap) -> impl Iterator<Item = &'h [u8]> {
        headers
            .get_all(header::COOKIE)
            .iter()
            .flat_map(|line| {
                let mut rest = Some(line.as_bytes());
                std::iter::from_fn(move || {
                    let line = rest?;
                    let end = memchr::memchr(b';', line);
                    rest = end.map(|end| &line[end + 1..]);
                    Some(&line[..end.unwrap_or(line.len())])
                })
            })
            .filter_map(|pair| pair.trim_ascii_start().strip_prefix(self.name.as_bytes()))
    }

    /// Adds the name of a layer, so that layers with the same cookie have a name each.
    pub(crate) fn set_layer_name(&mut self, layer: &str) {
        let prefix = ["__Host-", "__Secure-"].into_iter().find(|it| self.name.starts_with(it));
        self.name.insert_str(prefix.map_or(0, str::len), &format!("{layer}-"));
    }

    /// Writes the change of the cookie, and the cookie for read-your-writes.
    pub(crate) fn write(
        &self,
        headers: &mut HeaderMap,
        change: &CookieChange,
        read_your_writes: Option<Duration>,
    ) {
        let mut set = |cookie| {
            headers.append(header::SET_COOKIE, cookie);
            // Caches must not keep an ID (OWASP ASVS 5.0, 14.3.2).
            headers::forbid_caching(headers);
        };
        match change {
            CookieChange::Keep => {}
            CookieChange::Set { id, max_age, .. } => set(self.setting(id, *max_age)),
            CookieChange::Remove => set(self.removing()),
        }
        if let Some(max_age) = read_your_writes {
            set(self.marking(max_age));
        }
    }

    /// Returns the `Set-Cookie` with the session ID.
    pub(crate) fn setting(&self, id: &SessionId, max_age: Option<Duration>) -> HeaderValue {
        let mut cookie = self.cookie(id.expose());
        cookie.set_max_age(max_age.map(whole_seconds));
        header_value(&cookie)
    }

    /// Returns the `Cookie` of a client that holds this ID.
    #[cfg(feature = "testing")]
    pub(crate) fn sent(&self, id: &SessionId) -> HeaderValue {
        header_value(&Cookie::new(self.name.as_str(), id.expose()))
    }

    /// Returns the `Set-Cookie` that marks, for a time, a change of the session by the client. The
    /// value is a constant instead of the revision, because responses to concurrent requests arrive
    /// in any order.
    pub(crate) fn marking(&self, max_age: Duration) -> HeaderValue {
        let mut cookie = self.cookie("1");
        cookie.set_name(format!("{}{MARKER}", self.name));
        cookie.set_max_age(whole_seconds(max_age));
        header_value(&cookie)
    }

    /// Returns the `Set-Cookie` that removes the session ID.
    pub(crate) fn removing(&self) -> HeaderValue {
        let mut cookie = self.cookie("");
        cookie.set_max_age(time::Duration::ZERO);
        cookie.set_expires(time::OffsetDateTime::UNIX_EPOCH);
        header_value(&cookie)
    }

    /// Returns a cookie with the attributes that the setting, marking and removing ones share.
    fn cookie<'c>(&'c self, value: &'c str) -> Cookie<'c> {
        let mut cookie = Cookie::new(self.name.as_str(), value);
        cookie.set_http_only(true);
        cookie.set_secure(self.secure);
        cookie.set_same_site(match self.same_site {
            SameSite::Strict => cookie::SameSite::Strict,
            SameSite::Lax => cookie::SameSite::Lax,
            SameSite::None => cookie::SameSite::None,
        });
        cookie.set_path(self.path.as_str());
        if let Some(domain) = &self.domain {
            cookie.set_domain(domain.as_str());
        }
        cookie.set_partitioned(self.partitioned);
        cookie
    }

    fn checked(self) -> Result<Self, ConfigError> {
        let Self { name, secure, same_site, path, domain, partitioned } = &self;
        let refuse = |text: String| Err(ConfigError::new(text));
        if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(headers::is_token) {
            return refuse(format!("the cookie name {name:?} is not valid"));
        }
        if !path.starts_with('/') || path.bytes().any(|byte| byte == b';' || !is_visible(byte)) {
            return refuse(format!("the cookie path {path:?} is not valid"));
        }
        if let Some(domain) = domain
            && (domain.is_empty() || !domain.bytes().all(is_domain))
        {
            return refuse(format!("the cookie domain {domain:?} is not valid"));
        }
        // Browsers compare prefixes without regard to case (RFC 6265bis, 4.1.3).
        let has_prefix = |prefix: &str| {
            name.get(..prefix.len()).is_some_and(|head| head.eq_ignore_ascii_case(prefix))
        };
        if has_prefix("__Host-") && (!secure || path != "/" || domain.is_some()) {
            return refuse(format!(
                "the cookie name {name:?} promises Secure, the path \"/\" and no domain"
            ));
        }
        if has_prefix("__Secure-") && !secure {
            return refuse(format!("the cookie name {name:?} promises Secure"));
        }
        if *same_site == SameSite::None && !secure {
            return refuse("a cookie with SameSite=None must be Secure".to_owned());
        }
        if *partitioned && !secure {
            return refuse("a cookie with Partitioned must be Secure".to_owned());
        }
        Ok(self)
    }
}

impl Default for SessionCookie {
    fn default() -> Self {
        Self {
            name: Self::NAME.to_owned(),
            secure: true,
            same_site: SameSite::Lax,
            path: "/".to_owned(),
            domain: None,
            partitioned: false,
        }
    }
}

/// The requests from other sites that carry the cookie (RFC 6265bis, 5.2).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SameSite {
    /// Requests from other sites never carry the cookie. A link on another site, and the return
    /// from an identity provider, arrive without the session.
    Strict,
    /// Requests from other sites carry the cookie if they navigate to this site by a safe method.
    Lax,
    /// All requests from other sites carry the cookie, for a site that others embed. Protect the
    /// site against forged requests.
    None,
}

/// Returns the value of a pair without its name. A pair without `=` has an empty value.
fn value(end: &[u8]) -> Option<&[u8]> {
    match end.trim_ascii_start() {
        [] => Some(&[]),
        [b'=', value @ ..] => Some(value.trim_ascii()),
        _ => None,
    }
}

fn header_value(cookie: &Cookie<'_>) -> HeaderValue {
    let mut value = HeaderValue::try_from(cookie.to_string())
        .expect("name, value and attributes hold only visible characters");
    // A layer that logs headers then does not show the ID.
    value.set_sensitive(true);
    value
}

/// Rounds up, so that a cookie never ends too early.
fn whole_seconds(span: Duration) -> time::Duration {
    let seconds = span.as_secs() + u64::from(span.subsec_nanos() > 0);
    time::Duration::seconds(i64::try_from(seconds).unwrap_or(i64::MAX))
}

fn is_visible(byte: u8) -> bool {
    (b' '..=b'~').contains(&byte)
}

fn is_domain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'-'
}

const MAX_NAME: usize = 128;

/// The default name of a cookie that is not `Secure`.
const INSECURE_NAME: &str = "session";

/// The suffix in the name of the cookie that marks a change of the session.
const MARKER: &str = "-changed";

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;

    fn text(value: &HeaderValue) -> &str {
        value.to_str().unwrap()
    }

    fn id() -> SessionId {
        SessionId::from_random_bits([0; 32])
    }

    #[test]
    fn attributes_are_safe_by_default() {
        let cookie = SessionCookie::default();
        assert_snapshot!(text(&cookie.setting(&id(), None)), @"__Host-session=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA; HttpOnly; SameSite=Lax; Secure; Path=/");
        assert_snapshot!(text(&cookie.setting(&id(), Some(Duration::from_millis(1500)))), @"__Host-session=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA; HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age=2");
        assert_snapshot!(text(&cookie.removing()), @"__Host-session=; HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT");
        assert_snapshot!(text(&cookie.marking(Duration::from_millis(1500))), @"__Host-session-changed=1; HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age=2");
    }

    #[test]
    fn marker_is_found_with_any_value() {
        let is_marked = |line: &'static str| {
            let mut headers = HeaderMap::new();
            headers.append(header::COOKIE, HeaderValue::from_static(line));
            let values = SessionCookie::default().values(&headers).count();
            (SessionCookie::default().is_marked(&headers), values)
        };
        assert_eq!(is_marked("__Host-session-changed=1; __Host-session=id"), (true, 1));
        assert_eq!(is_marked("__Host-session-changed=; __Host-session-changed=\"x"), (true, 0));
        assert_eq!(is_marked("__Host-session-change=1; __Host-session-changed2=1"), (false, 0));
        assert_eq!(is_marked("__Host-session=-changed=1; session-changed=1"), (false, 1));
    }

    #[test]
    fn removal_has_the_attributes_of_the_setting() {
        let cookie = SessionCookie::default()
            .with_name("id")
            .and_then(|cookie| cookie.with_domain("example.com"))
            .and_then(|cookie| cookie.with_path("/shop"))
            .and_then(|cookie| cookie.with_same_site(SameSite::Strict))
            .unwrap();
        assert_snapshot!(text(&cookie.setting(&id(), None)), @"id=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA; HttpOnly; SameSite=Strict; Secure; Path=/shop; Domain=example.com");
        assert_snapshot!(text(&cookie.removing()), @"id=; HttpOnly; SameSite=Strict; Secure; Path=/shop; Domain=example.com; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT");
    }

    #[test]
    fn every_cookie_is_partitioned_if_one_is() {
        let cookie = SessionCookie::default()
            .with_same_site(SameSite::None)
            .and_then(SessionCookie::with_partitioned)
            .unwrap();
        assert_snapshot!(text(&cookie.setting(&id(), None)), @"__Host-session=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA; HttpOnly; SameSite=None; Partitioned; Secure; Path=/");
        assert_snapshot!(text(&cookie.removing()), @"__Host-session=; HttpOnly; SameSite=None; Partitioned; Secure; Path=/; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT");
        assert_snapshot!(text(&cookie.marking(Duration::from_secs(1))), @"__Host-session-changed=1; HttpOnly; SameSite=None; Partitioned; Secure; Path=/; Max-Age=1");
    }

    #[test]
    fn development_cookie_is_neither_secure_nor_prefixed() {
        let cookie = SessionCookie::insecure_for_development();
        assert_snapshot!(text(&cookie.setting(&id(), None)), @"session=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA; HttpOnly; SameSite=Lax; Path=/");
        assert_eq!(cookie.clone().checked(), Ok(cookie));
        SessionCookie::default().checked().unwrap();
    }

    #[test]
    fn contradictions_are_refused() {
        let cookie = SessionCookie::default;
        let error = |result: Result<SessionCookie, ConfigError>| result.unwrap_err().to_string();
        assert_snapshot!(error(cookie().with_name("a b")), @r#"the cookie name "a b" is not valid"#);
        assert_snapshot!(error(cookie().with_name("")), @r#"the cookie name "" is not valid"#);
        assert_snapshot!(error(cookie().with_domain("example.com")), @r#"the cookie name "__Host-session" promises Secure, the path "/" and no domain"#);
        assert_snapshot!(error(cookie().with_path("/x")), @r#"the cookie name "__Host-session" promises Secure, the path "/" and no domain"#);
        assert_snapshot!(error(cookie().with_path("x")), @r#"the cookie path "x" is not valid"#);
        assert_snapshot!(error(cookie().with_name("a").and_then(|c| c.with_path("/;x"))), @r#"the cookie path "/;x" is not valid"#);
        assert_snapshot!(error(cookie().with_name("a").and_then(|c| c.with_domain("a;b"))), @r#"the cookie domain "a;b" is not valid"#);
        let insecure = SessionCookie::insecure_for_development;
        assert_snapshot!(error(insecure().with_name("__hOST-x")), @r#"the cookie name "__hOST-x" promises Secure, the path "/" and no domain"#);
        assert_snapshot!(error(insecure().with_name("__Secure-x")), @r#"the cookie name "__Secure-x" promises Secure"#);
        assert_snapshot!(error(insecure().with_same_site(SameSite::None)), @"a cookie with SameSite=None must be Secure");
        assert_snapshot!(error(insecure().with_partitioned()), @"a cookie with Partitioned must be Secure");
    }

    #[test]
    fn values_are_found_among_other_cookies() {
        let mut headers = HeaderMap::new();
        let values = |headers: &HeaderMap| {
            SessionCookie::default().values(headers).map(<[u8]>::to_vec).collect::<Vec<_>>()
        };
        assert!(values(&headers).is_empty());
        let mut add = |line: &[u8]| {
            headers.append(header::COOKIE, HeaderValue::from_bytes(line).unwrap());
        };
        add(b"a=1; __Host-session=one; b=2");
        add("d=\u{e4}\u{f6}; __Host-session=two".as_bytes());
        add(b"__Host-session");
        add(b"__Host-session=;__Host-session = a=b ");
        add(b"__host-session=no; __Host-sessions=no; x__Host-session=no; %5F_Host-session=no");
        add(b"=__Host-session=no; ;;=");
        assert_eq!(values(&headers), [&b"one"[..], b"two", b"", b"", b"a=b"]);
    }
}
