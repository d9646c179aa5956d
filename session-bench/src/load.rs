use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use futures_util::future::try_join_all;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{BoxError, route::paths};

/// A browser with the cookie of its session.
#[derive(Debug)]
pub(crate) struct Visitor {
    path: String,
    request: Box<[u8]>,
}

impl Visitor {
    pub(crate) fn new(path: String, cookie: &str) -> Self {
        let request = request(&path, Some(cookie));
        Self { path, request }
    }

    /// The next request of the visitor, as bytes.
    pub(crate) fn request(&self) -> &[u8] {
        &self.request
    }

    /// Takes over the cookie that a response sets.
    pub(crate) fn keep_cookie(&mut self, answer: &Response<'_>) {
        if let Some(cookie) = answer.cookie() {
            self.request = request(&self.path, Some(cookie));
        }
    }
}

/// Returns the bytes of a request.
pub(crate) fn request(path: &str, cookie: Option<&str>) -> Box<[u8]> {
    let cookie = cookie.map_or_else(String::new, |cookie| format!("Cookie: {cookie}\r\n"));
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{cookie}\r\n").into_bytes().into()
}

/// The load on a server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) connections: usize,
    /// The time under load before the measurement.
    pub(crate) warm_up: Duration,
    /// The time of the measurement.
    pub(crate) span: Duration,
    /// Visitors take over the cookies of responses, which costs the generator time.
    pub(crate) keep_cookies: bool,
}

/// The result of a load.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// The latencies, in nanoseconds, of the requests that began and ended within the span.
    pub(crate) latencies: Vec<u32>,
    /// The number of requests answered with success, the warm-up included.
    pub(crate) answered: u64,
}

/// Keeps the connections busy, with one request at a time on each.
///
/// Each connection has its own visitors, so that concurrent requests use different sessions.
pub(crate) async fn drive(
    addr: SocketAddr,
    visitors: &mut Vec<Visitor>,
    load: Load,
) -> Result<Outcome, BoxError> {
    let connecting = (0..load.connections).map(|_| Connection::open(addr));
    let opened = try_join_all(connecting).await?;
    let mut shares: Vec<Vec<Visitor>> = opened.iter().map(|_| Vec::new()).collect();
    for (number, visitor) in visitors.drain(..).enumerate() {
        shares[number % load.connections].push(visitor);
    }
    let begin = Instant::now() + load.warm_up;
    let tasks = opened.into_iter().zip(shares).map(|(connection, mut own)| {
        tokio::spawn(async move {
            let outcome = keep_busy(connection, &mut own, begin, load).await;
            outcome.map(|outcome| (outcome, own))
        })
    });
    let mut sum = Outcome::default();
    for result in try_join_all(tasks).await? {
        let (outcome, own) = result?;
        sum.latencies.extend(outcome.latencies);
        sum.answered += outcome.answered;
        visitors.extend(own);
    }
    Ok(sum)
}

async fn keep_busy(
    mut connection: Connection,
    visitors: &mut [Visitor],
    begin: Instant,
    load: Load,
) -> Result<Outcome, BoxError> {
    let end = begin + load.span;
    let mut outcome = Outcome::default();
    let mut sent_at = Instant::now();
    'busy: loop {
        for visitor in &mut *visitors {
            let answer = connection.send(visitor.request()).await?;
            let answered_at = Instant::now();
            outcome.answered += 1;
            if load.keep_cookies {
                visitor.keep_cookie(&answer);
            }
            if sent_at >= begin && answered_at <= end {
                let latency = answered_at.duration_since(sent_at).as_nanos();
                outcome.latencies.push(u32::try_from(latency).unwrap_or(u32::MAX));
            }
            if answered_at >= end {
                break 'busy;
            }
            sent_at = answered_at;
        }
    }
    Ok(outcome)
}

/// A connection with just the part of HTTP/1.1 that the measured servers use, so that the generator
/// takes little CPU time from them.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Box<[u8; 4096]>,
}

impl Connection {
    pub(crate) async fn open(addr: SocketAddr) -> Result<Self, BoxError> {
        let stream = TcpStream::connect(addr).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Box::new([0; 4096]) })
    }

    /// Sends a request, and returns the whole response. Returns an error unless the status is 200.
    pub(crate) async fn send(&mut self, request: &[u8]) -> Result<Response<'_>, BoxError> {
        let answer = self.exchange(request).await?;
        if answer.is_success() {
            Ok(answer)
        } else {
            let (head, body) = (answer.head, answer.body);
            let text = [head, body].map(String::from_utf8_lossy).concat();
            Err(format!("the server answers {text}").into())
        }
    }

    /// Lets the server create a session, and returns the cookie.
    pub(crate) async fn create_session(&mut self) -> Result<String, BoxError> {
        let answer = self.send(&request(paths::CREATE, None)).await?;
        Ok(answer.cookie().ok_or("the server sets no cookie")?.to_owned())
    }

    /// Sends a request, and returns the whole response with any status.
    pub(crate) async fn exchange(&mut self, request: &[u8]) -> Result<Response<'_>, BoxError> {
        self.stream.write_all(request).await?;
        let mut filled = 0;
        loop {
            let read = self.stream.read(&mut self.buffer[filled..]).await?;
            if read == 0 {
                return Err("the server closed the connection, or answers at length".into());
            }
            filled += read;
            if let Some(head) = head_len(&self.buffer[..filled]) {
                let body = content_length(&self.buffer[..head])?;
                if filled == head + body {
                    return Ok(Response::of(&self.buffer[..filled], head));
                }
            }
        }
    }
}

#[derive(Debug)]
pub(crate) struct Response<'b> {
    head: &'b [u8],
    body: &'b [u8],
}

impl<'b> Response<'b> {
    fn of(bytes: &'b [u8], head: usize) -> Self {
        let (head, body) = bytes.split_at(head);
        Self { head, body }
    }

    pub(crate) fn is_success(&self) -> bool {
        self.head.starts_with(b"HTTP/1.1 200 ")
    }

    /// Returns the name and value of the last cookie that the response sets for a minute or longer. A
    /// cookie without a value is skipped, because the response removes it.
    pub(crate) fn cookie(&self) -> Option<&'b str> {
        self.set_cookies().filter(|line| !is_brief(line)).filter_map(name_and_value).last()
    }

    /// Returns the cookies of a browser's next request, if the last one had `cookie`. All cookies of
    /// the response are included, brief ones too.
    pub(crate) fn cookies_after(&self, cookie: &str) -> String {
        let mut cookies = vec![cookie];
        for set in self.set_cookies().filter_map(name_and_value) {
            cookies.retain(|cookie| cookie.split('=').next() != set.split('=').next());
            cookies.push(set);
        }
        cookies.join("; ")
    }

    fn set_cookies(&self) -> impl Iterator<Item = &'b str> {
        let head = str::from_utf8(self.head).unwrap_or_default();
        head.lines().filter_map(|line| line.strip_prefix("set-cookie: "))
    }

    pub(crate) fn body(&self) -> &'b [u8] {
        self.body
    }

    /// Returns the body as a number.
    pub(crate) fn number(&self) -> Result<u64, BoxError> {
        Ok(str::from_utf8(self.body)?.parse()?)
    }
}

fn name_and_value(set_cookie: &str) -> Option<&str> {
    set_cookie.split(';').next().filter(|cookie| !cookie.ends_with('='))
}

/// Returns `true` if the cookie lives for less than a minute, like the cookie that marks a recent
/// change.
fn is_brief(set_cookie: &str) -> bool {
    let age = set_cookie.split("; Max-Age=").nth(1).and_then(|age| age.split(';').next());
    age.and_then(|age| age.parse::<u64>().ok()).is_some_and(|seconds| seconds < 60)
}

fn head_len(bytes: &[u8]) -> Option<usize> {
    let end = bytes.windows(4).position(|bytes| bytes == b"\r\n\r\n")?;
    Some(end + 4)
}

fn content_length(head: &[u8]) -> Result<usize, BoxError> {
    let start = head
        .windows(LENGTH.len())
        .position(|bytes| bytes == LENGTH)
        .ok_or("the server does not say how long its answer is")?;
    let digits = head[start + LENGTH.len()..].iter();
    Ok(digits
        .take_while(|byte| byte.is_ascii_digit())
        .fold(0, |length, byte| length * 10 + usize::from(byte - b'0')))
}

/// hyper writes header names in lower case.
const LENGTH: &[u8] = b"\ncontent-length: ";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_ends_where_its_length_says() {
        let bytes = b"HTTP/1.1 200 OK\r\nvary: cookie\r\ncontent-length: 12\r\n\r\nAda";
        let head = head_len(bytes).unwrap();
        assert_eq!(&bytes[head..], b"Ada");
        assert_eq!(content_length(&bytes[..head]).unwrap(), 12);
    }

    #[test]
    fn the_last_cookie_is_the_one_that_counts() {
        let bytes =
            b"HTTP/1.1 200 OK\r\nset-cookie: a=1; Path=/\r\nset-cookie: b=2; Path=/\r\n\r\n";
        let response = Response::of(bytes, bytes.len());
        assert_eq!(response.cookie(), Some("b=2"));
    }

    #[test]
    fn a_cookie_of_a_moment_is_sent_and_does_not_count() {
        let bytes =
            b"HTTP/1.1 200 OK\r\nset-cookie: a=2\r\nset-cookie: b=1; Path=/; Max-Age=2\r\n\r\n";
        let response = Response::of(bytes, bytes.len());
        assert_eq!(response.cookie(), Some("a=2"));
        assert_eq!(response.cookies_after("a=1"), "a=2; b=1");
    }

    #[test]
    fn a_cookie_that_is_removed_does_not_count() {
        let bytes = b"HTTP/1.1 200 OK\r\nset-cookie: a=1\r\nset-cookie: b=; Max-Age=0\r\n\r\n";
        let response = Response::of(bytes, bytes.len());
        assert_eq!(response.cookie(), Some("a=1"));
    }

    #[test]
    fn a_failure_is_no_success() {
        let bytes = b"HTTP/1.1 503 Service Unavailable\r\n\r\n";
        assert!(!Response::of(bytes, bytes.len()).is_success());
    }
}
