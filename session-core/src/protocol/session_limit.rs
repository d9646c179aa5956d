//! The limit of an owner's sessions, at a login.
//!
//! ```text
//! 1. the login enters its key and creates its record      // so that each login sees those before it
//! 2. it reads the owner's index, and counts the other families that live
//! 3. too many: Reject       -> it deletes its own record, and fails
//!              Evict*       -> it revokes the others that come first by the policy
//!                              one of them has moved meanwhile -> step 2
//! 4. only then the client receives the ID
//! ```
//!
//! A login from a session of the same owner keeps the place of that session, and skips these steps.
//! If another login evicts the session meanwhile, the eviction deletes it under both keys.
//!
//! Of two concurrent logins, at least one sees the other, because both enter their keys before they
//! read the index. A login evicts only sessions with an earlier login, so that two logins never
//! evict each other.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    Located, MAX_MOVES, PATIENCE, Protocol,
    locate::{Loaded, Pace, yield_now},
    revoke::End,
};
use crate::{
    AtLimit, Created, Entry, EventKind, Family, IndexEntry, Owner, Record, SessionError,
    SessionKey, Timestamp, Tombstone, clock::MAX_SKEW,
};

/// The sessions of an owner, except the new one.
#[derive(Default)]
struct Others {
    /// The sessions whose login came before the new one, with their order of eviction.
    earlier: BTreeMap<Family, Place>,
    /// The number of sessions whose login came later.
    later: usize,
    /// The index entries without a session.
    dead: Vec<IndexEntry>,
}

/// A session that may be evicted.
struct Place {
    rank: (Timestamp, Timestamp),
    entries: Vec<IndexEntry>,
    key: SessionKey,
}

impl Protocol {
    /// Makes room for a new session, which is already in the index and stored.
    ///
    /// If the former session has moved, returns its tombstone, and evicts no session: the login
    /// came too late.
    pub(super) async fn make_room(
        &self,
        new: &Located,
        former: Option<&Located>,
    ) -> Result<Option<Arc<Tombstone>>, SessionError> {
        let (Some(limit), Some(owner)) = (self.settings.session_limit, new.record.signed_in())
        else {
            return Ok(None);
        };
        let index = owner.key();
        let mut end = End::new(EventKind::Evicted, &index, Some(owner));
        for _ in 0..=MAX_MOVES {
            let mut others = self.others(owner, new, limit.at_limit).await?;
            if others.dead.len() >= MANY_DEAD {
                others.dead.truncate(CLEARED);
                self.drop_dead(owner, std::mem::take(&mut others.dead)).await;
            }
            let excess = (others.earlier.len() + others.later + 1).saturating_sub(limit.max());
            if excess == 0 {
                return Ok(None);
            }
            if let Some(former) = former {
                match self.load(&former.key).await? {
                    Loaded::Entry(Entry::Session(_)) => {}
                    Loaded::Entry(Entry::Tombstone(tombstone)) => return Ok(Some(tombstone)),
                    Loaded::Missing | Loaded::Unreadable => return Err(SessionError::Ended),
                }
            }
            if limit.at_limit == AtLimit::Reject {
                return Err(SessionError::TooManySessions { limit: limit.max() });
            }
            if excess > others.earlier.len() {
                // The later logins alone reach the limit.
                return Err(SessionError::Contended);
            }
            let mut pace = Pace::default();
            let mut sorted = BTreeMap::new();
            for place in others.earlier.into_values() {
                pace.step().await;
                sorted.insert((place.rank, place.key), place.entries);
            }
            let mut has_moved = false;
            for victim in sorted.into_values().take(excess) {
                has_moved |= self.end_entries(&mut end, &victim).await?;
                yield_now().await;
            }
            if !has_moved {
                return Ok(None);
            }
        }
        Err(SessionError::Contended)
    }

    async fn others(
        &self,
        owner: &Owner,
        new: &Located,
        policy: AtLimit,
    ) -> Result<Others, SessionError> {
        let family = new.record.family;
        let entries = self.entries_of(&owner.key(), |entry| entry.family != family).await?;
        let mut others = Others::default();
        let mut later = BTreeSet::new();
        let mut pace = Pace::default();
        for (entry, loaded) in entries {
            pace.step().await;
            let record = match loaded {
                // Another user acts as the owner: the session has its place among those of the other.
                Ok(Some(record)) if record.signed_in() != Some(owner) => continue,
                Ok(Some(record)) => Some(record),
                Ok(None) => {
                    others.dead.push(entry);
                    continue;
                }
                // The record is of another version: the age of the session is unknown.
                Err(_) => None,
            };
            if record.as_ref().is_some_and(|record| is_later(record, entry.key, new, self.now())) {
                later.insert(entry.family);
                continue;
            }
            let rank = record.map(|record| rank(&record, policy)).unwrap_or_default();
            let place = others.earlier.entry(entry.family).or_insert_with(|| Place {
                rank,
                entries: Vec::new(),
                key: entry.key,
            });
            place.rank = place.rank.max(rank);
            place.entries.push(entry);
        }
        // While a login gives a session another ID, the session has two keys. The later login
        // counts.
        others.later = later.len();
        for family in later {
            pace.step().await;
            others.earlier.remove(&family);
        }
        Ok(others)
    }

    /// Removes index entries without a session, and blocks their keys. A login that is about to
    /// create a record under a blocked key takes another key. A record that a login has just
    /// created stays.
    async fn drop_dead(&self, owner: &Owner, dead: Vec<IndexEntry>) {
        let mut blocked = Vec::new();
        for entry in dead {
            yield_now().await;
            match self.block(&entry.key).await {
                Ok(Created::Created) => blocked.push(entry),
                Ok(Created::Exists) => {
                    if let Ok(Some(Entry::Tombstone(_))) = self.load_entry(&entry.key).await {
                        blocked.push(entry);
                    }
                }
                Err(error) => {
                    tracing::debug!(target: "session", %error, "dead entries left in the index");
                    break;
                }
            }
        }
        self.leave(&owner.key(), &blocked).await;
    }
}

/// Returns `true` if the login of a record came after the login of a new session that is under way.
/// A record that lies in the future of `now` comes from a server whose clock is ahead, and counts as
/// earlier.
fn is_later(record: &Record, key: SessionKey, new: &Located, now: Timestamp) -> bool {
    (record.created_at, key) > (new.record.created_at, new.key)
        && record.created_at <= now.max(new.record.created_at) + PATIENCE + MAX_SKEW
}

/// Returns the order of eviction: the lowest rank is evicted first.
fn rank(record: &Record, policy: AtLimit) -> (Timestamp, Timestamp) {
    match policy {
        AtLimit::EvictLeastRecent => (record.last_seen_at, record.created_at),
        AtLimit::Reject | AtLimit::EvictOldest => (record.created_at, record.last_seen_at),
    }
}

/// The number of dead entries from which on a login removes some before their deadline.
const MANY_DEAD: usize = 16;

/// The largest number of dead entries that one login removes.
const CLEARED: usize = 32;
