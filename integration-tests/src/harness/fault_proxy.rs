use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

#[cfg(target_os = "linux")]
use redis::io::tcp::socket2::{SockFilter, SockRef};
use tokio::{
    io::{AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    task::{JoinHandle, JoinSet},
};

use crate::harness::redis::RedisServer;

/// A proxy between a server and its Redis that imitates faults of networks and busy machines for chosen
/// commands.
///
/// The protocol is TCP without TLS. All connections close on drop.
#[derive(Debug)]
pub struct FaultProxy {
    addr: SocketAddr,
    plan: Arc<Plan>,
    acceptor: JoinHandle<()>,
}

/// The fault of one command.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    /// The command never reaches Redis: the proxy closes the connection instead.
    CutBefore,
    /// Redis executes the command, and the proxy closes the connection before the reply reaches the
    /// client.
    CutAfter,
    /// The proxy stops reading from the connection, and leaves it open.
    Stall,
    /// The command reaches Redis after this delay.
    Delay(Duration),
    /// The command never reaches Redis, and the proxy sends this reply in its place.
    Answer(&'static str),
}

impl FaultProxy {
    /// Listens on a free port of 127.0.0.1 in front of a Redis.
    ///
    /// # Panics
    ///
    /// If no port is free.
    pub async fn before(redis: &RedisServer) -> Self {
        Self::before_at(redis, "127.0.0.1:0").await
    }

    /// Listens at an address of this machine in front of a Redis.
    ///
    /// # Panics
    ///
    /// If the address is not free.
    pub async fn before_at(redis: &RedisServer, addr: &str) -> Self {
        let listener = TcpListener::bind(addr).await.expect("a free address");
        let addr = listener.local_addr().expect("a listener has an address");
        let plan = Arc::new(Plan::new(address(redis)));
        let connections = Arc::clone(&plan);
        let acceptor = tokio::spawn(async move {
            // All connections close when this task drops the set.
            let mut open = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                connections.connections.fetch_add(1, Ordering::Relaxed);
                let (plan, mut cuts) = (Arc::clone(&connections), connections.cuts.subscribe());
                open.spawn(async move {
                    tokio::select! {
                        // An error means that one side closed the connection; dropping both streams
                        // closes the other side.
                        _ = pass(client, &plan) => {}
                        _ = cuts.changed() => {}
                    }
                });
                while open.try_join_next().is_some() {}
            }
        });
        Self { addr, plan, acceptor }
    }

    /// Returns the port on which the proxy listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.addr.port()
    }

    /// Returns the URL of Redis through the proxy.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://{}", self.addr)
    }

    /// Adds a fault for the next command of this name, on any connection. Earlier faults come first.
    pub fn next(&self, command: &str, fault: Fault) {
        self.plan.rules().next.push_back((command.to_owned(), fault));
    }

    /// Sets the fault of every command of this name from now on; `None` clears it.
    pub fn each(&self, command: &str, fault: impl Into<Option<Fault>>) {
        let mut rules = self.plan.rules();
        rules.each.retain(|(of, _)| of != command);
        rules.each.extend(fault.into().map(|fault| (command.to_owned(), fault)));
    }

    /// Forwards all data in pieces of at most this many bytes from now on.
    pub fn slice(&self, bytes: usize) {
        self.plan.rules().piece = bytes.max(1);
    }

    /// Delays every reply by this time from now on. The delays of successive replies overlap.
    pub fn lag(&self, span: Duration) {
        self.plan.rules().lag = span;
    }

    /// Connects new clients to another Redis from now on.
    pub fn lead_to(&self, redis: &RedisServer) {
        self.plan.rules().target = address(redis);
    }

    /// Closes all open connections, at the same instant.
    pub fn cut(&self) {
        self.plan.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Makes the open connections unreachable, like a firewall that forgets them: the system drops their
    /// packets silently.
    pub fn vanish(&self) {
        self.plan.vanishes.send_modify(|count| *count += 1);
    }

    /// Returns the number of accepted connections.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.plan.connections.load(Ordering::Relaxed)
    }

    /// Returns the number of faults from [`next`](Self::next) that are still pending.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.plan.rules().next.len()
    }

    /// Returns the arrival times of the commands of this name. Clears the arrivals of all names.
    #[must_use]
    pub fn take_arrivals(&self, command: &str) -> Vec<Instant> {
        let seen = std::mem::take(&mut self.plan.rules().seen);
        seen.into_iter().filter(|(name, _)| name == command).map(|(_, at)| at).collect()
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.acceptor.abort();
    }
}

/// The configured faults, and the recorded arrivals.
#[derive(Debug)]
struct Plan {
    rules: Mutex<Rules>,
    cuts: watch::Sender<u32>,
    vanishes: watch::Sender<u32>,
    connections: AtomicU64,
}

#[derive(Debug)]
struct Rules {
    target: String,
    next: VecDeque<(String, Fault)>,
    each: Vec<(String, Fault)>,
    piece: usize,
    lag: Duration,
    seen: Vec<(String, Instant)>,
}

impl Plan {
    fn new(target: String) -> Self {
        let (next, each, seen) = (VecDeque::new(), Vec::new(), Vec::new());
        let rules =
            Mutex::new(Rules { target, next, each, piece: usize::MAX, lag: Duration::ZERO, seen });
        Self {
            rules,
            cuts: watch::channel(0).0,
            vanishes: watch::channel(0).0,
            connections: AtomicU64::new(0),
        }
    }

    /// Records the arrival of a command, and returns its fault.
    fn meet(&self, command: &str) -> Option<Fault> {
        let mut rules = self.rules();
        rules.seen.push((command.to_owned(), Instant::now()));
        if rules.next.front().is_some_and(|(of, _)| of == command) {
            return rules.next.pop_front().map(|(_, fault)| fault);
        }
        rules.each.iter().find(|(of, _)| of == command).map(|(_, fault)| *fault)
    }

    fn rules(&self) -> MutexGuard<'_, Rules> {
        // Every change is one assignment, so a panic leaves the rules consistent.
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn address(redis: &RedisServer) -> String {
    format!("{}:{}", redis.host(), redis.port())
}

/// Forwards both directions of a connection until a side or a fault closes it.
async fn pass(client: TcpStream, plan: &Plan) -> io::Result<()> {
    let target = plan.rules().target.clone();
    let server = TcpStream::connect(target).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let mut vanishes = plan.vanishes.subscribe();
    let (mut from_client, to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    // Replies of Redis and of the proxy share this writer, and never interleave: the proxy replies only
    // to commands that are alone in flight.
    let to_client = tokio::sync::Mutex::new(to_client);
    let is_cut = AtomicBool::new(false);
    let (late, mut due) = mpsc::unbounded_channel();
    let read_answers = async move {
        loop {
            let mut bytes = Vec::with_capacity(BUFFER);
            if from_server.read_buf(&mut bytes).await? == 0 {
                return io::Result::Ok(());
            }
            let lag = plan.rules().lag;
            let _ = late.send((tokio::time::Instant::now() + lag, bytes));
        }
    };
    let pass_answers = async {
        while let Some((at, bytes)) = due.recv().await {
            tokio::time::sleep_until(at).await;
            if !is_cut.load(Ordering::Relaxed) {
                send(&mut *to_client.lock().await, &bytes, plan).await?;
            }
        }
        io::Result::Ok(())
    };
    let answers = async { tokio::try_join!(read_answers, pass_answers).map(drop) };
    let mut answers = std::pin::pin!(answers);
    let mut heard = Vec::new();
    loop {
        while let Some((name, end)) = first_command(&heard) {
            let command: Vec<u8> = heard.drain(..end).collect();
            match plan.meet(&name) {
                None => send(&mut to_server, &command, plan).await?,
                Some(Fault::CutBefore) => return Ok(()),
                Some(Fault::CutAfter) => {
                    is_cut.store(true, Ordering::Relaxed);
                    to_server.write_all(&command).await?;
                    to_server.shutdown().await?;
                    // Redis executes the commands that it has read, and closes the connection at the end
                    // of the stream.
                    return answers.await;
                }
                Some(Fault::Stall) => std::future::pending().await,
                Some(Fault::Delay(span)) => {
                    let late = async {
                        tokio::time::sleep(span).await;
                        send(&mut to_server, &command, plan).await
                    };
                    tokio::select! {
                        sent = late => sent?,
                        ended = &mut answers => return ended,
                    }
                }
                Some(Fault::Answer(text)) => {
                    let answer = format!("{text}\r\n");
                    to_client.lock().await.write_all(answer.as_bytes()).await?;
                }
            }
        }
        tokio::select! {
            count = from_client.read_buf(&mut heard) => if count? == 0 { return Ok(()) },
            ended = &mut answers => return ended,
            _ = vanishes.changed() => {
                drop_packets(from_client.as_ref())?;
                std::future::pending().await
            }
        }
    }
}

/// Drops all later packets of a stream. Even the kernel then stops acknowledging them.
#[cfg(target_os = "linux")]
fn drop_packets(stream: &TcpStream) -> io::Result<()> {
    // A filter that returns zero discards the whole packet.
    const RETURN: u16 = 0x06;
    SockRef::from(stream).attach_filter(&[SockFilter::new(RETURN, 0, 0, 0)])
}

#[cfg(not(target_os = "linux"))]
fn drop_packets(_: &TcpStream) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

async fn send(to: &mut (impl AsyncWrite + Unpin), bytes: &[u8], plan: &Plan) -> io::Result<()> {
    let piece = plan.rules().piece;
    for part in bytes.chunks(piece) {
        to.write_all(part).await?;
        if part.len() < bytes.len() {
            // Yields, so that the other side receives separate pieces.
            tokio::task::yield_now().await;
        }
    }
    Ok(())
}

/// Returns the name of the first command, in lower case, and its end. All clients send a command as an
/// array of strings.
fn first_command(heard: &[u8]) -> Option<(String, usize)> {
    let (count, mut at) = header(heard, 0)?;
    let mut name = None;
    for _ in 0..count {
        let (length, begin) = header(heard, at)?;
        let word = heard.get(begin..begin + length)?;
        name.get_or_insert_with(|| String::from_utf8_lossy(word).to_ascii_lowercase());
        at = begin + length + 2;
    }
    (at <= heard.len()).then_some((name?, at))
}

/// Returns the number in a line such as `*3` or `$12`, and the start of the next line.
fn header(heard: &[u8], at: usize) -> Option<(usize, usize)> {
    let line = heard.get(at..)?;
    let end = line.windows(2).position(|pair| pair == b"\r\n")?;
    let number = std::str::from_utf8(line.get(1..end)?).ok()?;
    Some((number.parse().expect("a command in the form in which clients send it"), at + end + 2))
}

const BUFFER: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_read_when_it_is_whole() {
        let two = b"*2\r\n$3\r\nGeT\r\n$5\r\na\r\nbc\r\n*1\r\n$4\r\nPING\r\n";
        let end = two.len() - 14;
        for cut in 0..end {
            assert_eq!(first_command(&two[..cut]), None, "{cut}");
        }
        assert_eq!(first_command(two), Some(("get".to_owned(), end)));
        assert_eq!(first_command(&two[end..]), Some(("ping".to_owned(), 14)));
    }
}
