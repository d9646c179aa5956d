use std::{collections::HashMap, mem, sync::Arc, time::Duration};

use redis::ServerErrorKind;
use session_core::StoreErrorKind;
use tokio::{sync::watch, task::JoinSet, time::Instant};

use super::{
    Cluster, Member,
    slot::SLOTS,
    topology::{Address, Range, no_slots, slots},
};
use crate::{
    error::ConnectError,
    transport::{
        failure::{Failure, is},
        limits::Limits,
    },
};

impl Cluster {
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
                    self.set_map(ranges);
                    return Ok(());
                }
                Ok(Err(error)) => failure = Some(error),
                // The task was aborted with its runtime.
                Err(_) => {}
            }
        }
        Err(failure.unwrap_or_else(search_ended))
    }

    /// Returns the owner of a slot. If the owner is unknown, waits for a refresh of the slot map.
    pub(super) async fn find_owner(
        &self,
        slot: u16,
        deadline: Instant,
    ) -> Result<Arc<Member>, Failure> {
        if let Some(owner) = self.map().owner(slot) {
            return Ok(owner);
        }
        if let Some(mut news) = self.begin_refresh(None) {
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
    pub(super) fn moved(
        &self,
        slot: u16,
        from: &Member,
        address: Address,
    ) -> Result<Arc<Member>, Failure> {
        // The former owner may have lost other slots as well, and may be a replica by now. So the
        // near cache discards the copies read from this node.
        from.node.flush_copies();
        let member = self.member(address)?;
        if let Some(owner) = self.map().owners.get_mut(usize::from(slot)) {
            *owner = Some(Arc::clone(&member));
        }
        self.begin_refresh(None);
        Ok(member)
    }

    /// Starts a refresh from the other nodes, if the failure may mean that another node owns the
    /// slots now.
    pub(super) fn refresh_after(
        &self,
        failure: &Failure,
        member: &Member,
    ) -> Option<watch::Receiver<()>> {
        let may_have_moved = match failure {
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
        if may_have_moved { self.begin_refresh(Some(&member.address)) } else { None }
    }

    /// Starts a refresh of the slot map in the background, and returns a receiver whose channel
    /// closes at the end. The refresh asks the node `except` only if all other nodes are unknown.
    ///
    /// If a refresh is under way, returns its receiver. Returns `None` if the last refresh began
    /// less than `PAUSE` ago, as the nodes could hardly report any change yet.
    pub(super) fn begin_refresh(&self, except: Option<&Address>) -> Option<watch::Receiver<()>> {
        let (under_way, news) = watch::channel(());
        let nodes = {
            let mut map = self.map();
            // Without a sender, the refresh ended early with its runtime.
            if let Some(refresh) =
                map.refresh.as_ref().filter(|refresh| refresh.has_changed().is_ok())
            {
                return Some(refresh.clone());
            }
            if map.refreshed_at.is_some_and(|at| at.elapsed() < PAUSE) {
                return None;
            }
            map.refresh = Some(news.clone());
            map.refreshed_at = Some(Instant::now());
            map.count += 1;
            let mut nodes: Vec<_> = map.members.values().cloned().collect();
            if nodes.iter().any(|node| Some(&node.address) != except) {
                nodes.retain(|node| Some(&node.address) != except);
            }
            // In a large cluster, the choice of nodes changes with each refresh.
            let begin = map.count % nodes.len().max(1);
            nodes.rotate_left(begin);
            nodes.truncate(MAX_ASKED);
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
                Ok(ranges) => cluster.set_map(ranges),
                Err(error) => {
                    tracing::debug!(target: "session", %error, "no node reports the cluster");
                    cluster.map().failure = Some(error);
                }
            }
            cluster.map().refresh = None;
            drop(under_way);
        });
        Some(news)
    }

    /// Sets the slot map. The near cache discards the copies read from each node that has lost a
    /// slot, as in [`moved`](Self::moved).
    fn set_map(&self, ranges: Vec<Range>) {
        let mut owners = vec![None; usize::from(SLOTS)];
        let mut members = HashMap::new();
        let mut owned = Vec::with_capacity(ranges.len());
        let mut map = self.map();
        for Range { first, last, primary } in ranges {
            let Ok(member) = self.member_in(&mut map, primary.clone()) else { continue };
            let slots = usize::from(first)..=usize::from(last);
            if let Some(owners) = owners.get_mut(slots.clone()) {
                owners.fill(Some(Arc::clone(&member)));
            }
            owned.push((slots, Arc::clone(&member)));
            members.insert(primary, member);
        }
        let mut former = mem::replace(&mut map.owners, owners);
        map.failure = None;
        // The connection to a node without slots closes after its pending commands.
        map.members = members;
        drop(map);
        for (slots, member) in owned {
            for former in former.get_mut(slots).into_iter().flatten() {
                former.take_if(|former| Arc::ptr_eq(former, &member));
            }
        }
        // The others have lost their slot.
        let mut former: Vec<_> = former.into_iter().flatten().collect();
        former.sort_unstable_by_key(Arc::as_ptr);
        former.dedup_by(|one, other| Arc::ptr_eq(one, other));
        former.iter().for_each(|former| former.node.flush_copies());
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

/// The most nodes that a refresh asks, apart from the configured nodes in the second round.
const MAX_ASKED: usize = 8;

/// The shortest time from the start of one refresh to the start of the next.
const PAUSE: Duration = Duration::from_millis(100);

/// How long a refresh waits for other nodes after the first reply.
const MOMENT: Duration = Duration::from_millis(100);
