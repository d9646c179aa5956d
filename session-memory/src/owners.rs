use std::{
    collections::BTreeMap,
    ops::Bound,
    sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use session_core::{Family, IndexEntry, OwnerKey, SessionKey, Timestamp};

use crate::pace::yield_now;

/// The sessions of each owner.
///
/// An entry is removed when its session leaves the table. An entry whose session was never created
/// is removed some time after its deadline: each new entry checks the deadlines of a few others.
///
/// The time under a lock does not depend on the number of an owner's sessions: reads and sweeps
/// take a few entries at a time, and a B-tree grows without moving all entries, unlike a hash
/// table. A waiting writer goes before the next piece of a read; a `Mutex` would not ensure that.
#[derive(Debug)]
pub(crate) struct Owners {
    shards: Box<[RwLock<Shard>]>,
}

#[derive(Debug)]
struct Shard {
    /// The latest end of each session.
    entries: BTreeMap<Place, Timestamp>,
    /// The number of owners who have entries.
    owners: usize,
    /// The start of the next sweep.
    unswept: Bound<Place>,
}

/// The place of an entry in the order of its shard.
///
/// The keys of a session are neighbours, and one piece of a list has all of them. A session enters
/// the new key before it leaves the former one, so that each list finds the session (I8).
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Place {
    owner: OwnerKey,
    family: Family,
    key: SessionKey,
}

impl Owners {
    pub(crate) fn new() -> Self {
        Self { shards: (0..SHARDS).map(|_| RwLock::default()).collect() }
    }

    /// Enters a key, or extends its entry.
    pub(crate) fn enter(&self, owner: &OwnerKey, entry: IndexEntry, now: Timestamp) {
        let place = Place { owner: *owner, family: entry.family, key: entry.key };
        self.write(owner).enter(place, entry.until, now);
    }

    /// Removes the entry of a key and a family.
    pub(crate) fn leave(&self, owner: &OwnerKey, family: Family, key: SessionKey) {
        self.write(owner).leave(&Place { owner: *owner, family, key });
    }

    /// Returns the entries of an owner that end after `now`. Other tasks run between two pieces.
    pub(crate) async fn entries(&self, owner: &OwnerKey, now: Timestamp) -> Vec<IndexEntry> {
        let mut entries = Vec::new();
        let mut next = self.read_piece(owner, Family::from_u64(0), now, &mut entries);
        // Ends, as each piece begins after the one before.
        while let Some(family) = next {
            yield_now().await;
            next = self.read_piece(owner, family, now, &mut entries);
        }
        entries
    }

    /// Reads a piece of an owner's entries, from a family on. Returns the first family of the next
    /// piece.
    fn read_piece(
        &self,
        owner: &OwnerKey,
        from: Family,
        now: Timestamp,
        entries: &mut Vec<IndexEntry>,
    ) -> Option<Family> {
        let shard = read(self.shard(owner));
        let mut last = from;
        for (read, (place, &until)) in shard.from(owner, from).enumerate() {
            if read >= PIECE && place.family != last {
                return Some(place.family);
            }
            last = place.family;
            if now < until {
                entries.push(IndexEntry::new(place.key, place.family, until));
            }
        }
        None
    }

    /// The number of owners who have entries.
    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| read(shard).owners).sum()
    }

    fn write(&self, owner: &OwnerKey) -> RwLockWriteGuard<'_, Shard> {
        // Every change under the lock is complete before anything can panic.
        self.shard(owner).write().unwrap_or_else(PoisonError::into_inner)
    }

    fn shard(&self, owner: &OwnerKey) -> &RwLock<Shard> {
        &self.shards[usize::from(owner.as_bytes()[0]) % SHARDS]
    }
}

impl Shard {
    fn enter(&mut self, place: Place, until: Timestamp, now: Timestamp) {
        self.sweep(now);
        let is_new_owner = !self.has(&place.owner);
        let latest = self.entries.entry(place).or_insert(until);
        *latest = until.max(*latest);
        self.owners += usize::from(is_new_owner);
    }

    fn leave(&mut self, place: &Place) {
        if self.entries.remove(place).is_some() && !self.has(&place.owner) {
            self.owners -= 1;
        }
    }

    fn has(&self, owner: &OwnerKey) -> bool {
        self.from(owner, Family::from_u64(0)).next().is_some()
    }

    /// The entries of an owner, from a family on.
    fn from(&self, owner: &OwnerKey, family: Family) -> impl Iterator<Item = (&Place, &Timestamp)> {
        let first =
            Place { owner: *owner, family, key: SessionKey::from_bytes([0; SessionKey::LEN]) };
        let from = self.entries.range(first..);
        from.take_while(move |(place, _)| place.owner == first.owner)
    }

    /// Removes the passed ones among the next few entries.
    fn sweep(&mut self, now: Timestamp) {
        let next = self.entries.range((self.unswept, Bound::Unbounded)).take(SWEPT_AT_A_TIME);
        let next: Vec<_> = next.map(|(place, until)| (*place, *until)).collect();
        self.unswept = match next.last() {
            Some((last, _)) => Bound::Excluded(*last),
            None => Bound::Unbounded,
        };
        for (place, _) in next.iter().filter(|(_, until)| *until <= now) {
            self.leave(place);
        }
    }
}

impl Default for Shard {
    fn default() -> Self {
        Self { entries: BTreeMap::new(), owners: 0, unswept: Bound::Unbounded }
    }
}

fn read(shard: &RwLock<Shard>) -> RwLockReadGuard<'_, Shard> {
    shard.read().unwrap_or_else(PoisonError::into_inner)
}

const SHARDS: usize = 64;

/// The number of entries read under one lock, to which the rest of the last session is added.
const PIECE: usize = 64;

/// The number of entries that a new entry checks. Where entries are made at an even pace, at most
/// one in so many has passed.
const SWEPT_AT_A_TIME: usize = 4;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn owner(number: u64) -> OwnerKey {
        let mut bytes = [0; OwnerKey::LEN];
        bytes[..8].copy_from_slice(&number.to_le_bytes());
        OwnerKey::from_bytes(bytes)
    }

    fn entry(number: u64, until: Timestamp) -> IndexEntry {
        let mut bytes = [0; SessionKey::LEN];
        bytes[..8].copy_from_slice(&number.to_le_bytes());
        IndexEntry::new(SessionKey::from_bytes(bytes), Family::from_u64(number), until)
    }

    /// A session's end removes its entry. After an interrupted creation there is only the entry.
    #[test]
    fn owners_who_never_come_back_are_swept() {
        let owners = Owners::new();
        let mut now = Timestamp::from_millis(0);
        let mut most = 0;
        for number in 0..10_000 {
            owners.enter(&owner(number), entry(1, now + Duration::from_millis(1_000)), now);
            now = now + Duration::from_millis(1);
            most = most.max(owners.len());
        }
        assert!((1_000..=1_500).contains(&most), "{most}");
    }

    /// An owner who signs in again and again is swept as well.
    #[test]
    fn entries_that_passed_are_swept_from_a_live_owner() {
        let owners = Owners::new();
        let mut now = Timestamp::from_millis(0);
        for number in 0..10_000_u64 {
            let until = now + Duration::from_millis(100);
            let number = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            owners.enter(&owner(1), entry(number, until), now);
            now = now + Duration::from_millis(1);
            let held = read(owners.shard(&owner(1))).entries.len();
            assert!(held <= 150, "{held}");
            let mut live = Vec::new();
            owners.read_piece(&owner(1), Family::from_u64(0), now, &mut live);
            assert!(live.len() <= 100);
        }
    }

    #[test]
    fn entry_is_kept_for_longer_and_never_for_shorter() {
        let owners = Owners::new();
        for until in [2, 9, 5] {
            let until = Timestamp::from_millis(until);
            owners.enter(&owner(1), entry(1, until), Timestamp::from_millis(0));
        }
        let latest = entry(1, Timestamp::from_millis(9));
        assert_eq!(piece(&owners, 0, Timestamp::from_millis(8)), (vec![latest], None));
        assert_eq!(piece(&owners, 0, Timestamp::from_millis(9)), (vec![], None));
    }

    /// A list finds a session that moves meanwhile, under the former key or the new one (I8).
    #[test]
    fn piece_has_a_few_sessions_and_all_keys_of_each() {
        let owners = Owners::new();
        let now = Timestamp::from_millis(0);
        let until = now + Duration::from_secs(1);
        let pieces = 10;
        for family in 0..pieces * PIECE as u64 / 2 {
            for number in [2 * family, 2 * family + 1, 1_000_000 + family] {
                let key = entry(number, until).key;
                let entry = IndexEntry::new(key, Family::from_u64(family), until);
                owners.enter(&owner(1), entry, now);
            }
            // Of other owners, in the same shard.
            owners.enter(&owner(65), entry(family, until), now);
            owners.enter(&owner(0x0100_0001), entry(family, until), now);
        }
        let (mut from, mut found) = (Some(0), Vec::new());
        while let Some(family) = from {
            let (entries, next) = piece(&owners, family, now);
            assert!(entries.len() <= PIECE + 2, "{} entries", entries.len());
            assert!(entries.iter().all(|entry| next.is_none_or(|n| entry.family.as_u64() < n)));
            found.extend(entries);
            from = next;
        }
        assert_eq!(found.len() as u64, pieces * PIECE as u64 / 2 * 3);
        assert!(found.is_sorted_by_key(|entry| entry.family));
    }

    #[test]
    fn owner_without_entries_is_not_counted() {
        let owners = Owners::new();
        let now = Timestamp::from_millis(0);
        let until = now + Duration::from_secs(1);
        let (first, second) = (entry(1, until), entry(2, until));
        for entry in [first, second, first] {
            owners.enter(&owner(1), entry, now);
        }
        owners.leave(&owner(1), first.family, first.key);
        owners.leave(&owner(1), first.family, first.key);
        assert_eq!(owners.len(), 1);
        owners.leave(&owner(1), second.family, second.key);
        owners.leave(&owner(3), first.family, first.key);
        assert_eq!(owners.len(), 0);
    }

    fn piece(owners: &Owners, from: u64, now: Timestamp) -> (Vec<IndexEntry>, Option<u64>) {
        let mut entries = Vec::new();
        let next = owners.read_piece(&owner(1), Family::from_u64(from), now, &mut entries);
        (entries, next.map(Family::as_u64))
    }
}
