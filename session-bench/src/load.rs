use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::try_join_all;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::BoxError;

/// What the load generator sends: one request per session, each with the session's own cookie.
pub(crate) type Requests = Arc<[Box<[u8]>]>;

/// Makes the bytes of a request.
pub(crate) fn request(path: &str, cookie: Option<&str>) -> Box<[u8]> {
    let cookie = cookie.map_or_else(String::new, |cookie| format!("Cookie: {cookie}\r\n"));
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{cookie}\r\n").into_bytes().into()
}

/// What came of a span of load.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// The requests that began and ended within the span, in nanoseconds.
    pub(crate) latencies: Vec<u32>,
    /// All requests that were answered with success, those of the warm-up too.
    pub(crate) answered: u64,
}

/// Keeps so many connections busy, one request at a time on each, first for the warm-up and then for
/// the span that counts.
///
/// Each connection takes turns over sessions of its own, so that no two requests meet on one.
pub(crate) async fn drive(
    addr: SocketAddr,
    requests: &Requests,
    connections: usize,
    warm_up: Duration,
    span: Duration,
) -> Result<Outcome, BoxError> {
    let connecting = (0..connections).map(|_| Connection::open(addr));
    let opened = try_join_all(connecting).await?;
    let begin = Instant::now() + warm_up;
    let end = begin + span;
    let tasks = opened.into_iter().enumerate().map(|(first, connection)| {
        let requests = Arc::clone(requests);
        tokio::spawn(async move {
            let own = requests.iter().skip(first).step_by(connections).cycle();
            keep_busy(connection, own, begin, end).await
        })
    });
    let mut sum = Outcome::default();
    for outcome in try_join_all(tasks).await? {
        let Outcome { latencies, answered } = outcome?;
        sum.latencies.extend(latencies);
        sum.answered += answered;
    }
    Ok(sum)
}

async fn keep_busy(
    mut connection: Connection,
    requests: impl Iterator<Item = &Box<[u8]>>,
    begin: Instant,
    end: Instant,
) -> Result<Outcome, BoxError> {
    let mut outcome = Outcome::default();
    let mut sent_at = Instant::now();
    for request in requests {
        connection.send(request).await?;
        let answered_at = Instant::now();
        outcome.answered += 1;
        if sent_at >= begin && answered_at <= end {
            let latency = answered_at.duration_since(sent_at).as_nanos();
            outcome.latencies.push(u32::try_from(latency).unwrap_or(u32::MAX));
        }
        if answered_at >= end {
            break;
        }
        sent_at = answered_at;
    }
    Ok(outcome)
}

/// A connection that speaks as much HTTP/1.1 as our own servers answer, so that the generator takes
/// little time from them.
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

    /// Sends a request and waits for the whole answer, which must be a success.
    pub(crate) async fn send(&mut self, request: &[u8]) -> Result<Response<'_>, BoxError> {
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
                    return Response::of(&self.buffer[..filled], head);
                }
            }
        }
    }
}

/// An answer that says success.
#[derive(Debug)]
pub(crate) struct Response<'b> {
    head: &'b [u8],
    body: &'b [u8],
}

impl<'b> Response<'b> {
    fn of(bytes: &'b [u8], head: usize) -> Result<Self, BoxError> {
        let (head, body) = bytes.split_at(head);
        if head.starts_with(b"HTTP/1.1 200 ") {
            Ok(Self { head, body })
        } else {
            Err(format!("the server answers {}", String::from_utf8_lossy(bytes)).into())
        }
    }

    /// Name and value of the cookie that the answer sets.
    pub(crate) fn cookie(&self) -> Option<&'b str> {
        let head = str::from_utf8(self.head).ok()?;
        let mut lines = head.lines().rev();
        let line = lines.find_map(|line| line.strip_prefix("set-cookie: "))?;
        line.split(';').next()
    }

    pub(crate) fn body(&self) -> &'b [u8] {
        self.body
    }
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
        let response = Response::of(bytes, bytes.len()).unwrap();
        assert_eq!(response.cookie(), Some("b=2"));
    }

    #[test]
    fn a_failure_is_no_answer() {
        let bytes = b"HTTP/1.1 503 Service Unavailable\r\n\r\n";
        assert!(Response::of(bytes, bytes.len()).is_err());
    }
}
