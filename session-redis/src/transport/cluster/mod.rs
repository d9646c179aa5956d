mod slot;
mod topology;

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::future::join_all;
use redis::{
    Cmd, ConnectionAddr, IntoConnectionInfo as _, Pipeline, PushInfo, RedisConnectionInfo,
    RedisError, ServerErrorKind, Value, cmd,
};
use session_core::StoreErrorKind;
use tokio::{sync::watch, task::JoinSet, time::Instant};

use crate::{
    RedisConfig, RedisState,
    error::ConnectError,
    metrics,
    near_cache::ReadOrigin,
    tracking::Tracking,
    transport::cluster::{
        slot::{SLOTS, slot_of},
        topology::{Address, Range, no_slots, slots},
    },
    transport::{
        Script,
        access::{Access, parse},
        failure::{Failure, is},
        handshake::Wanted,
        limits::Limits,
        managed_connection::Source,
        node::Node,
        socket::Socket,
    },
};

/// The nodes of a cluster, and the owner of each slot.
///
/// redis-rs has a cluster client as well. After a lost reply, the redis-rs client repeats a command
/// by itself, and could thus apply a commit twice. The client sends `ASKING` separately from its
/// command, over a connection that other requests share. A silent node can stop all commands. Here
/// each node has its own circuit breaker, like a single server.
#[derive(Clone)]
pub(crate) struct Cluster(Arc<Shared>);

struct Shared {
    access: Access,
    limits: Limits,
    tracking: Tracking,
    tls: bool,
    settings: RedisConnectionInfo,
    map: Mutex<Map>,
}

struct Member {
    address: Address,
    node: Node,
}

#[derive(Default)]
struct Map {
    /// The owner of each slot, with the slot as the index.
    owners: Vec<Option<Arc<Member>>>,
    members: HashMap<Address, Arc<Member>>,
    /// The nodes in the configuration, with or without slots.
    seeds: Vec<Arc<Member>>,
    /// The error of the last refresh, if every asked node failed.
    failure: Option<ConnectError>,
    /// When the last refresh began.
    asked_at: Option<Instant>,
    /// Present during a refresh. The channel closes at the end of the refresh.
    asking: Option<watch::Receiver<()>>,
    /// The number of refreshes so far.
    count: usize,
}

impl Cluster {
    /// Creates a client. The first command looks for the cluster, unless [`connect`](Self::connect)
    /// was called before.
    pub(crate) fn new(
        config: &RedisConfig,
        urls: &[String],
        tracking: Tracking,
    ) -> Result<Self, ConnectError> {
        let access = Access::new(config)?;
        let limits = Limits::of(config);
        let mut seeds = Vec::new();
        let mut of_all = None;
        for url in urls {
            let info = parse(url)?;
            let (seed, is_tls) = match info.addr() {
                ConnectionAddr::Tcp(host, port) => ((host.clone(), *port), false),
                ConnectionAddr::TcpTls { host, port, .. } => ((host.clone(), *port), true),
                _ => {
                    return Err(ConnectError::misconfigured(
                        "the URL of a node of a cluster is that of a Unix socket, and nodes tell the \
                         others by host and port",
                    ));
                }
            };
            let settings = access.settings(info.redis_settings().clone());
            let (tls, settings) = &*of_all.get_or_insert((is_tls, settings));
            if *tls != is_tls {
                return Err(ConnectError::misconfigured(
                    "the URLs of the nodes have different schemes: TLS is for all or none",
                ));
            }
            access.store_endpoint(info.set_redis_settings(settings.clone()))?;
            seeds.push(seed);
        }
        let Some((tls, settings)) = of_all else {
            return Err(ConnectError::misconfigured(
                "`RedisConfig::cluster` was given no URL: it takes those of one node or more",
            ));
        };
        let map = Mutex::new(Map::default());
        let cluster = Self(Arc::new(Shared { access, limits, tracking, tls, settings, map }));
        let seeds = seeds.into_iter().map(|seed| cluster.new_member(seed).map(Arc::new));
        let seeds = seeds.collect::<Result<_, _>>()?;
        cluster.map().seeds = seeds;
        Ok(cluster)
    }

    /// Connects to all configured nodes concurrently, and takes the slot map of the first reply.
    pub(crate) async fn connect(&self) -> Result<(), ConnectError> {
        let mut answers = JoinSet::new();
        for seed in self.map().seeds.iter().cloned() {
            answers.spawn(seed.slots(self.0.limits));
        }
        let mut failure = None;
        while let Some(answer) = answers.join_next().await {
            match answer {
                Ok(Ok(ranges)) => {
                    self.learn(ranges);
                    return Ok(());
                }
                Ok(Err(error)) => failure = Some(error),
                // The task was aborted with its runtime.
                Err(_) => {}
            }
        }
        Err(failure.unwrap_or_else(search_ended))
    }

    /// Returns the state of the worst node, with the sum of the waiting commands.
    pub(crate) fn state(&self) -> RedisState {
        let states: Vec<_> =
            self.map().members.values().map(|member| member.node.state()).collect();
        RedisState::worst(states)
    }

    /// Sends a command to the node that owns the slot of its key, and follows redirections.
    async fn send(&self, command: &Cmd, deadline: Instant) -> Result<Value, Failure> {
        self.send_seen(command, deadline, &mut ReadOrigin::default()).await
    }

    /// Sends a command as [`send`](Self::send) does, and records the connection of a read in
    /// `seen`.
    pub(crate) async fn send_seen(
        &self,
        command: &Cmd,
        deadline: Instant,
        seen: &mut ReadOrigin,
    ) -> Result<Value, Failure> {
        let slot = slot_of(command);
        let mut member = self.find_owner(slot, deadline).await?;
        let mut asking = false;
        let mut may_wait = true;
        for _ in 0..MAX_REDIRECTIONS {
            let answer = if asking {
                // The record must not be cached: the key may leave this node again before the node
                // owns the slot.
                *seen = ReadOrigin::default();
                ask(&member, command, deadline).await
            } else {
                member.node.send_seen(command, deadline, seen).await
            };
            let failure = match answer {
                Ok(value) => return Ok(value),
                Err(failure) => failure,
            };
            match redirection(&failure, &member) {
                Some((false, to)) => {
                    metrics::retried(failure.error_type());
                    member = self.moved(slot, &member, to)?;
                    asking = false;
                }
                Some((true, to)) => {
                    metrics::retried(failure.error_type());
                    member = self.member(to)?;
                    asking = true;
                }
                None => {
                    let news = self.doubt(&member, &failure);
                    // The command was not sent. By now another node may own the slot.
                    if let Some(mut news) = news.filter(|_| failure.was_not_sent() && may_wait) {
                        may_wait = false;
                        // The sender closes the channel, without a value.
                        let _ = tokio::time::timeout_at(deadline, news.changed()).await;
                        let owner = self.find_owner(slot, deadline).await?;
                        if owner.address != member.address {
                            metrics::retried(failure.error_type());
                            member = owner;
                            continue;
                        }
                    }
                    return Err(failure);
                }
            }
        }
        Err(Failure::Lost(ConnectError::new(
            StoreErrorKind::Unavailable,
            "the nodes of the cluster refer to each other in circles",
        )))
    }

    /// Sends many commands, in one pipeline per node and in their order, and returns one reply per
    /// command. A command is sent again if a node redirected the command, or if `again` returns
    /// `true` for the failure.
    pub(crate) async fn send_all(
        &self,
        commands: Vec<Cmd>,
        deadline: Instant,
        again: impl Fn(&Failure) -> bool,
    ) -> Vec<Result<Value, Failure>> {
        let mut answers: Vec<Option<Result<Value, Failure>>> = vec![None; commands.len()];
        let mut groups: HashMap<Address, (Arc<Member>, Vec<usize>)> = HashMap::new();
        for (number, command) in commands.iter().enumerate() {
            match self.find_owner(slot_of(command), deadline).await {
                Ok(member) => groups
                    .entry(member.address.clone())
                    .or_insert_with(|| (member, Vec::new()))
                    .1
                    .push(number),
                Err(failure) => answers[number] = Some(Err(failure)),
            }
        }
        let sent = groups.into_values().map(async |(member, numbers)| {
            let mut together = Pipeline::with_capacity(numbers.len());
            for number in &numbers {
                together.add_command(commands[*number].clone());
            }
            let answers = member.node.send_all(&together, deadline).await;
            (member, numbers, answers)
        });
        let mut repeated = Vec::new();
        for (member, numbers, sent) in join_all(sent).await {
            let sent: Vec<Result<Value, Failure>> = match sent {
                Ok(sent) => sent.into_iter().map(|answer| answer.map_err(Failure::Redis)).collect(),
                Err(failure) => vec![Err(failure); numbers.len()],
            };
            for (number, answer) in numbers.into_iter().zip(sent) {
                if let Err(failure) = &answer {
                    if redirection(failure, &member).is_some() || again(failure) {
                        metrics::retried(failure.error_type());
                        repeated.push(number);
                        continue;
                    }
                    self.doubt(&member, failure);
                }
                answers[number] = Some(answer);
            }
        }
        let sent = repeated.iter().map(|number| self.send(&commands[*number], deadline));
        for (number, answer) in repeated.iter().zip(join_all(sent).await) {
            answers[*number] = Some(answer);
        }
        answers.into_iter().map(|answer| answer.unwrap_or(Err(Failure::Silence))).collect()
    }

    /// Calls a script on many keys. If a call fails because the node does not know the script, the
    /// call is repeated with the code.
    pub(crate) async fn run_all(
        &self,
        script: &Script,
        calls: Vec<Cmd>,
        deadline: Instant,
    ) -> Vec<Result<Value, Failure>> {
        let mut answers = self.send_all(calls.clone(), deadline, |_| false).await;
        let unknown = |answer: &Result<Value, Failure>| matches!(answer, Err(failure) if failure.is(ServerErrorKind::NoScript));
        let again: Vec<usize> = (0..answers.len()).filter(|at| unknown(&answers[*at])).collect();
        again.iter().for_each(|_| metrics::retried("NOSCRIPT"));
        let with_code = again.iter().map(|at| script.with_code(&calls[*at])).collect();
        let told = self.send_all(with_code, deadline, |_| false).await;
        for (at, answer) in again.into_iter().zip(told) {
            answers[at] = answer;
        }
        answers
    }

    /// Sends a command to every node with slots, and returns each reply with the name of the node.
    pub(crate) async fn ask_each(
        &self,
        command: &Cmd,
        deadline: Instant,
    ) -> Vec<(String, Result<Value, Failure>)> {
        // Nobody has asked for the slots yet.
        if self.map().members.is_empty()
            && let Err(error) = self.connect().await
        {
            let failed = |seed: &Arc<Member>| (seed.node.name(), Err(Failure::Lost(error.clone())));
            return self.map().seeds.iter().map(failed).collect();
        }
        let members: Vec<_> = self.map().members.values().cloned().collect();
        let answers = members
            .iter()
            .map(async |member| (member.node.name(), member.node.ask(command, deadline).await));
        let mut answers = join_all(answers).await;
        answers.sort_by(|(one, _), (other, _)| one.cmp(other));
        answers
    }

    /// Returns the names of all nodes with slots.
    pub(crate) async fn names(&self) -> Result<Vec<String>, ConnectError> {
        if self.map().members.is_empty() {
            self.connect().await?;
        }
        Ok(self.map().members.values().map(|member| member.node.name()).collect())
    }

    /// Opens a connection to each node with slots, for the messages that the commands subscribe to.
    pub(crate) async fn listen<L>(
        &self,
        listener: impl Fn() -> L,
        commands: &Pipeline,
    ) -> Result<Vec<Socket>, ConnectError>
    where
        L: Fn(PushInfo) -> Result<(), Infallible> + Send + Sync + 'static,
    {
        if self.map().members.is_empty() {
            self.connect().await?;
        }
        let members: Vec<_> = self.map().members.values().cloned().collect();
        let mut connections = Vec::with_capacity(members.len());
        for member in members {
            connections.push(member.node.listen(listener(), commands).await?);
        }
        Ok(connections)
    }

    /// Sends a command to the node of this name.
    pub(crate) async fn send_to(
        &self,
        name: &str,
        command: &Cmd,
        deadline: Instant,
    ) -> Result<Value, Failure> {
        let named = |member: &&Arc<Member>| member.node.name() == name;
        let member = self.map().members.values().find(named).cloned();
        let member = member.ok_or_else(|| {
            let text = format!("the node {name} has left the cluster, or a replica took its place");
            Failure::Lost(ConnectError::new(StoreErrorKind::Unavailable, text))
        })?;
        let answer = member.node.send(command, deadline).await;
        answer.inspect_err(|failure| drop(self.doubt(&member, failure)))
    }

    /// Returns the owner of a slot. If the owner is unknown, waits for a refresh of the slot map.
    async fn find_owner(&self, slot: u16, deadline: Instant) -> Result<Arc<Member>, Failure> {
        if let Some(owner) = self.map().owner(slot) {
            return Ok(owner);
        }
        if let Some(mut news) = self.ask_around(None) {
            // The sender closes the channel, without a value.
            let _ = tokio::time::timeout_at(deadline, news.changed()).await;
        }
        let map = self.map();
        map.owner(slot).ok_or_else(|| {
            Failure::Lost(map.failure.clone().unwrap_or_else(|| {
                ConnectError::new(
                    StoreErrorKind::Unavailable,
                    format!("no node of the cluster has slot {slot}"),
                )
            }))
        })
    }

    /// Records the new owner of a slot, and starts a refresh for the other slots.
    fn moved(&self, slot: u16, from: &Member, address: Address) -> Result<Arc<Member>, Failure> {
        // The former owner may have lost other slots as well, and may be a replica by now. So the
        // near cache discards the copies read from this node.
        from.node.flush_copies();
        let member = self.member(address)?;
        if let Some(owner) = self.map().owners.get_mut(usize::from(slot)) {
            *owner = Some(Arc::clone(&member));
        }
        self.ask_around(None);
        Ok(member)
    }

    /// Returns the node at an address, and adds a node if the address is new.
    fn member(&self, address: Address) -> Result<Arc<Member>, Failure> {
        self.member_in(&mut self.map(), address).map_err(Failure::Lost)
    }

    fn member_in(&self, map: &mut Map, address: Address) -> Result<Arc<Member>, ConnectError> {
        if let Some(member) = map.members.get(&address) {
            return Ok(Arc::clone(member));
        }
        let seed = map.seeds.iter().find(|seed| seed.address == address).cloned();
        let member = match seed {
            Some(seed) => seed,
            None => Arc::new(self.new_member(address.clone())?),
        };
        map.members.insert(address, Arc::clone(&member));
        Ok(member)
    }

    fn new_member(&self, address: Address) -> Result<Member, ConnectError> {
        let (host, port) = address.clone();
        let addr = if self.0.tls {
            ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }
        } else {
            ConnectionAddr::Tcp(host, port)
        };
        let text = addr.to_string();
        let explain = |error: RedisError| ConnectError::explain(error, &text);
        let info = addr.into_connection_info().map_err(explain)?;
        let info = info.set_redis_settings(self.0.settings.clone());
        let endpoint = self.0.access.store_endpoint(info)?;
        let source = Source::server(endpoint, self.0.tracking.clone(), Wanted::ClusterNode);
        Ok(Member { address, node: Node::new(source, self.0.limits) })
    }

    /// Starts a refresh from the other nodes, if the failure may mean that another node owns the
    /// slots now.
    fn doubt(&self, member: &Member, failure: &Failure) -> Option<watch::Receiver<()>> {
        let doubtful = match failure {
            Failure::Silence | Failure::Lost(_) | Failure::Refused(_) => true,
            Failure::Redis(error) => {
                error.is_io_error()
                    || [
                        ServerErrorKind::BusyLoading,
                        ServerErrorKind::ClusterDown,
                        ServerErrorKind::MasterDown,
                        ServerErrorKind::ReadOnly,
                    ]
                    .into_iter()
                    .any(|kind| is(error, kind))
            }
        };
        if doubtful { self.ask_around(Some(&member.address)) } else { None }
    }

    /// Starts a refresh of the slot map in the background, and returns a receiver whose channel
    /// closes at the end. The refresh asks the node `except` only if all other nodes are unknown.
    ///
    /// If a refresh is under way, returns its receiver. Returns `None` if the last refresh began
    /// less than `PAUSE` ago, as the nodes could hardly report any change yet.
    fn ask_around(&self, except: Option<&Address>) -> Option<watch::Receiver<()>> {
        let (heard, news) = watch::channel(());
        let nodes = {
            let mut map = self.map();
            // Without a sender, the refresh ended early with its runtime.
            if let Some(asking) = map.asking.as_ref().filter(|asking| asking.has_changed().is_ok())
            {
                return Some(asking.clone());
            }
            if map.asked_at.is_some_and(|at| at.elapsed() < PAUSE) {
                return None;
            }
            map.asking = Some(news.clone());
            map.asked_at = Some(Instant::now());
            map.count += 1;
            let mut nodes: Vec<_> = map.members.values().cloned().collect();
            if nodes.iter().any(|node| Some(&node.address) != except) {
                nodes.retain(|node| Some(&node.address) != except);
            }
            // In a large cluster, the choice of nodes changes with each refresh.
            let begin = map.count % nodes.len().max(1);
            nodes.rotate_left(begin);
            nodes.truncate(ASKED_AT_ONCE);
            nodes
        };
        let cluster = self.clone();
        tokio::spawn(async move {
            let mut found = view_of(nodes, cluster.0.limits).await;
            if found.is_err() {
                // A configured node may still know the cluster, even if the cluster no longer lists
                // the node.
                let seeds = cluster.map().seeds.clone();
                found = view_of(seeds, cluster.0.limits).await;
            }
            match found {
                Ok(ranges) => cluster.learn(ranges),
                Err(error) => {
                    tracing::debug!(target: "session", %error, "no node tells of the cluster");
                    cluster.map().failure = Some(error);
                }
            }
            cluster.map().asking = None;
            drop(heard);
        });
        Some(news)
    }

    fn learn(&self, ranges: Vec<Range>) {
        let mut map = self.map();
        let mut owners = vec![None; usize::from(SLOTS)];
        let mut members = HashMap::new();
        for Range { first, last, primary } in ranges {
            let Ok(member) = self.member_in(&mut map, primary.clone()) else { continue };
            if let Some(owners) = owners.get_mut(usize::from(first)..=usize::from(last)) {
                owners.fill(Some(Arc::clone(&member)));
            }
            members.insert(primary, member);
        }
        map.owners = owners;
        map.failure = None;
        // The connection to a node without slots closes after its pending commands.
        map.members = members;
    }

    fn map(&self) -> MutexGuard<'_, Map> {
        // Every change leaves the map usable, also if the thread panics afterwards.
        self.0.map.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Map {
    fn owner(&self, slot: u16) -> Option<Arc<Member>> {
        self.owners.get(usize::from(slot)).cloned().flatten()
    }
}

impl Member {
    /// Asks the node for the slot ranges of the cluster.
    async fn slots(self: Arc<Self>, limits: Limits) -> Result<Vec<Range>, ConnectError> {
        self.node.connect().await?;
        match slots(&self.node, &self.address, limits.deadline()).await {
            Ok(ranges) if ranges.is_empty() => Err(ConnectError::new(
                StoreErrorKind::Unavailable,
                "the cluster serves no slots yet: `redis-cli --cluster create` assigns them",
            )),
            Ok(ranges) => Ok(ranges),
            Err(failure) => Err(no_slots(failure, &self.address, limits)),
        }
    }
}

/// Asks nodes for the slot map, and returns the map that most nodes report, because a node that was
/// cut off from the others reports an old map. After the first reply, slower nodes have [`MOMENT`]
/// to reply.
async fn view_of(nodes: Vec<Arc<Member>>, limits: Limits) -> Result<Vec<Range>, ConnectError> {
    let asked = nodes.len();
    let mut answers: JoinSet<_> = nodes.into_iter().map(|node| node.slots(limits)).collect();
    let mut views: Vec<(Vec<Range>, usize)> = Vec::new();
    let (mut failure, mut end) = (None, Instant::now() + limits.connect + limits.operation);
    while let Ok(Some(answer)) = tokio::time::timeout_at(end, answers.join_next()).await {
        match answer {
            Ok(Ok(mut ranges)) => {
                end = end.min(Instant::now() + MOMENT);
                ranges.sort();
                let known = views.iter_mut().find(|(view, _)| *view == ranges);
                match known {
                    Some((_, count)) => *count += 1,
                    None => views.push((ranges, 1)),
                }
                if views.iter().any(|(_, count)| 2 * count > asked) {
                    break;
                }
            }
            Ok(Err(error)) => failure = Some(error),
            // The task was aborted with its runtime.
            Err(_) => {}
        }
    }
    // If two maps have equally many nodes, the map received first wins.
    let view = views.into_iter().rev().max_by_key(|(_, count)| *count);
    view.map(|(view, _)| view).ok_or_else(|| failure.unwrap_or_else(search_ended))
}

fn search_ended() -> ConnectError {
    ConnectError::new(StoreErrorKind::Unavailable, "the search for the cluster was ended")
}

/// Sends a command to a node that is importing the slot. `ASKING` and the command form one
/// pipeline, because other requests share the connection.
async fn ask(member: &Member, command: &Cmd, deadline: Instant) -> Result<Value, Failure> {
    let mut both = Pipeline::with_capacity(2);
    both.add_command(cmd("ASKING")).add_command(command.clone());
    let answers = member.node.send_all(&both, deadline).await?;
    let answer = answers.into_iter().nth(1);
    answer.unwrap_or(Ok(Value::Nil)).map_err(Failure::Redis)
}

/// Returns whether a redirection is for this command only (`ASK`), and the node to send the command
/// to.
fn redirection(failure: &Failure, from: &Member) -> Option<(bool, Address)> {
    let Failure::Redis(error) = failure else { return None };
    let once = is(error, ServerErrorKind::Ask);
    if !once && !is(error, ServerErrorKind::Moved) {
        return None;
    }
    let (place, _) = error.redirect_node()?;
    let (host, port) = place.rsplit_once(':')?;
    // The host is empty if the node does not know the address that clients use, and `?` if the node
    // should announce a host name but has none. The host of the redirecting node then applies.
    let host = if matches!(host, "" | "?") { &from.address.0 } else { host };
    Some((once, (host.to_owned(), port.parse().ok()?)))
}

/// The most attempts to send one command: to the wrong node, to the owner, to the node that imports
/// the slot, and again if the slot moves meanwhile.
const MAX_REDIRECTIONS: usize = 5;

/// The most nodes that a refresh asks, apart from the configured nodes in the second round.
const ASKED_AT_ONCE: usize = 8;

/// The shortest time from the start of one refresh to the start of the next.
const PAUSE: Duration = Duration::from_millis(100);

/// How long a refresh waits for other nodes after the first reply.
const MOMENT: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_node_without_a_name_is_where_the_one_is_that_sends_there() {
        let config = RedisConfig::new("redis://host");
        let urls = ["redis://asked:1".to_owned()];
        let cluster = Cluster::new(&config, &urls, Tracking::default()).unwrap();
        let member = cluster.member_in(&mut cluster.map(), ("asked".to_owned(), 1)).unwrap();
        for (answer, to) in [
            ("-MOVED 5 ?:7\r\n", (false, ("asked".to_owned(), 7))),
            ("-ASK 5 :7\r\n", (true, ("asked".to_owned(), 7))),
            ("-MOVED 5 other:7\r\n", (false, ("other".to_owned(), 7))),
        ] {
            let error = redis::parse_redis_value(answer.as_bytes()).unwrap().extract_error();
            let redirection = redirection(&Failure::Redis(error.unwrap_err()), &member);
            assert_eq!(redirection, Some(to), "{answer}");
        }
    }
}
