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

use crate::redis::RedisServer;

/// Stands between a server and its Redis, and does to chosen commands what networks and busy machines do.
///
/// Speaks TCP without TLS. All connections end on drop.
#[derive(Debug)]
pub struct FaultProxy {
    addr: SocketAddr,
    plan: Arc<Plan>,
    acceptor: JoinHandle<()>,
}

/// What becomes of a command.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    /// It does not get to Redis: the connection is closed instead.
    CutBefore,
    /// Redis carries it out, and the connection is closed before the answer gets back.
    CutAfter,
    /// Nothing more is read from the connection, which stays open.
    Stall,
    /// It gets to Redis so much later.
    Delay(Duration),
    /// It does not get to Redis, which seems to answer this.
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
            // Dropped with this task, and with it every connection.
            let mut open = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                connections.connections.fetch_add(1, Ordering::Relaxed);
                let (plan, mut cuts) = (Arc::clone(&connections), connections.cuts.subscribe());
                open.spawn(async move {
                    tokio::select! {
                        // An error is one side's end of the connection; dropping both tells the other side.
                        _ = pass(client, &plan) => {}
                        _ = cuts.changed() => {}
                    }
                });
                while open.try_join_next().is_some() {}
            }
        });
        Self { addr, plan, acceptor }
    }

    /// Returns the port at which this listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.addr.port()
    }

    /// Returns the URL by which Redis is reached through this.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://{}", self.addr)
    }

    /// Lets the next command of this name, on any connection, meet a fault; those said before come first.
    pub fn next(&self, command: &str, fault: Fault) {
        self.plan.rules().next.push_back((command.to_owned(), fault));
    }

    /// Lets each command of this name meet a fault from now on; or none any more.
    pub fn each(&self, command: &str, fault: impl Into<Option<Fault>>) {
        let mut rules = self.plan.rules();
        rules.each.retain(|(of, _)| of != command);
        rules.each.extend(fault.into().map(|fault| (command.to_owned(), fault)));
    }

    /// Passes all that is said on in pieces of at most so many bytes, from now on.
    pub fn slice(&self, bytes: usize) {
        self.plan.rules().piece = bytes.max(1);
    }

    /// Lets every answer come so much later from now on, and lets the next ones follow meanwhile.
    pub fn lag(&self, span: Duration) {
        self.plan.rules().lag = span;
    }

    /// Leads connections that are opened from now on to another Redis.
    pub fn lead_to(&self, redis: &RedisServer) {
        self.plan.rules().target = address(redis);
    }

    /// Closes all connections that are open now, at the same instant.
    pub fn cut(&self) {
        self.plan.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Makes the connections that are open now unreachable, as a firewall does that forgets them:
    /// packets are dropped, and nobody is told.
    pub fn vanish(&self) {
        self.plan.vanishes.send_modify(|count| *count += 1);
    }

    /// Returns the number of connections that were accepted.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.plan.connections.load(Ordering::Relaxed)
    }

    /// Tells how many faults said by [`next`](Self::next) were not met yet.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.plan.rules().next.len()
    }

    /// Takes note of when commands of this name came, since the last time.
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

/// What is to happen, and what came.
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

    /// What a command that came just now meets.
    fn meet(&self, command: &str) -> Option<Fault> {
        let mut rules = self.rules();
        rules.seen.push((command.to_owned(), Instant::now()));
        if rules.next.front().is_some_and(|(of, _)| of == command) {
            return rules.next.pop_front().map(|(_, fault)| fault);
        }
        rules.each.iter().find(|(of, _)| of == command).map(|(_, fault)| *fault)
    }

    fn rules(&self) -> MutexGuard<'_, Rules> {
        // Every change is one assignment.
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn address(redis: &RedisServer) -> String {
    format!("{}:{}", redis.host(), redis.port())
}

/// Passes on what both sides of one connection say, until one of them ends or a fault does it.
async fn pass(client: TcpStream, plan: &Plan) -> io::Result<()> {
    let target = plan.rules().target.clone();
    let server = TcpStream::connect(target).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let mut vanishes = plan.vanishes.subscribe();
    let (mut from_client, to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    // Answers of Redis, and those made up here: never in the middle of one another, as those are made up only
    // for commands that are alone on their way.
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
                    // Redis carries out what it reads, and hangs up when it has read to the end.
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

/// Lets no packet reach a stream any more: not even the system confirms one.
#[cfg(target_os = "linux")]
fn drop_packets(stream: &TcpStream) -> io::Result<()> {
    // A filter that returns zero: no byte of a packet is kept.
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
            // The other side is to see pieces.
            tokio::task::yield_now().await;
        }
    }
    Ok(())
}

/// The name of the command that comes first, in lower case, and where it ends: an array of strings, as all
/// clients send it.
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

/// The number in a line such as `*3` or `$12`, and where the next line begins.
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
