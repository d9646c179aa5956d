use std::{fmt, mem, sync::Arc};

use axum_core::response::Response;
use http::{HeaderMap, header};
use session_core::{DefaultBody, SessionError};

/// The format in which a client expects the body of an error, by its header `Accept`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum ErrorFormat {
    /// The client accepts `text/html`: a browser that loads a page.
    Html,
    /// The client accepts `application/json`, and not `text/html`.
    Json,
    /// Any other client.
    Text,
}

impl ErrorFormat {
    /// Returns the format for a request with these headers.
    ///
    /// Only media types that `Accept` names count, and not `*/*`. A type with the weight `q=0` is not
    /// accepted (RFC 9110, 12.4.2). The order and the other weights do not matter.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        let accepts = |media_type: &str| {
            headers.get_all(header::ACCEPT).iter().any(|line| {
                let mut ranges = line.as_bytes().split(|byte| *byte == b',');
                ranges.any(|range| accepts(range, media_type.as_bytes()))
            })
        };
        match () {
            () if accepts("text/html") => Self::Html,
            () if accepts("application/json") => Self::Json,
            () => Self::Text,
        }
    }
}

/// Returns `true` if a media range of `Accept` names the media type, with a weight above zero.
fn accepts(range: &[u8], media_type: &[u8]) -> bool {
    let mut parts = range.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
    let is_named = parts.next().is_some_and(|name| name.eq_ignore_ascii_case(media_type));
    let is_refusal = |parameter: &[u8]| {
        let weight = parameter.strip_prefix(b"q=").or_else(|| parameter.strip_prefix(b"Q="));
        weight.is_some_and(|weight| weight.iter().all(|byte| matches!(byte, b'0' | b'.')))
    };
    is_named && !parts.any(is_refusal)
}

/// The function of the application that draws the page of an error.
#[derive(Clone)]
pub(crate) struct ErrorPage(Arc<Page>);

type Page = dyn Fn(&SessionError, ErrorFormat) -> Response + Send + Sync;

impl ErrorPage {
    pub(crate) fn new(
        page: impl Fn(&SessionError, ErrorFormat) -> Response + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(page))
    }

    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Replaces the text of a session's error by the page. The status and the headers stay.
    pub(crate) fn draw(&self, response: &mut Response, format: ErrorFormat) {
        if response.extensions_mut().remove::<DefaultBody>().is_none() {
            return;
        }
        let Some(error) = response.extensions().get::<Arc<SessionError>>() else { return };
        let (page, body) = (self.0)(error, format).into_parts();
        *response.body_mut() = body;
        let headers = response.headers_mut();
        headers.remove(header::CONTENT_TYPE);
        headers.remove(header::CONTENT_LENGTH);
        let of_error = mem::replace(headers, page.headers);
        for name in of_error.keys() {
            headers.remove(name);
        }
        headers.extend(of_error);
    }
}

impl fmt::Debug for ErrorPage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ErrorPage(..)")
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn format_is_that_of_the_header_accept() {
        let cases: [(&[&str], ErrorFormat); 11] = [
            (&["text/html"], ErrorFormat::Html),
            (&["application/xhtml+xml, Text/HTML ; q=0.9, */*;q=0.1"], ErrorFormat::Html),
            (&["application/json, text/plain, */*"], ErrorFormat::Json),
            (&["application/json", "text/html"], ErrorFormat::Html),
            (&["text/html;q=0, application/json"], ErrorFormat::Json),
            (&["text/html; Q=0.000,application/json"], ErrorFormat::Json),
            (&["text/html;q=0.001"], ErrorFormat::Html),
            (&["text/html;level=1;q=0"], ErrorFormat::Text),
            (&["*/*"], ErrorFormat::Text),
            (&["text/html-sandboxed"], ErrorFormat::Text),
            (&[], ErrorFormat::Text),
        ];
        for (lines, format) in cases {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(header::ACCEPT, HeaderValue::from_static(line));
            }
            assert_eq!(ErrorFormat::of(&headers), format, "{lines:?}");
        }
    }
}
