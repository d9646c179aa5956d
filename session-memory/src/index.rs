use std::{
    collections::BTreeMap,
    ops::Bound,
    sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use session_core::{Family, IndexEntry, IndexKey, SessionKey, Timestamp};

use crate::pace::yield_now;

/// The sessions of each index.
///
/// An entry is removed when its session leaves the table. An entry whose session was never created
/// is removed some time after its deadline: each new entry checks the deadlines of a few others.
///
/// The time under a lock does not depend on the number of sessions in an index: reads and sweeps
/// take a few entries at a time, and a B-tree grows without moving all entries, unlike a hash
/// table. A waiting writer goes before the next piece of a read; a `Mutex` would not ensure that.
#[derive(Debug)]
pub(crate) struct Indexes {
    shards: Box<[RwLock<Shard>]>,
}

#[derive(Debug)]
struct Shard {
    /// The latest end of each session.
    entries: BTreeMap<Place, Timestamp>,
    /// The number of indexes with entries.
    indexes: usize,
    /// The start of the next sweep.
    unswept: Bound<Place>,
}

/// The place of an entry in the order of its shard.
///
/// The keys of a session are neighbours, and one piece of a list has all of them. A session enters
/// the new key before it leaves the former one, so that each list finds the session (I8).
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Place {
    index: IndexKey,
    family: Family,
    key: SessionKey,
}

impl Indexes {
    pub(crate) fn new() -> Self {
        Self { shards: (0..SHARDS).map(|_| RwLock::default()).collect() }
    }

    /// Enters a key, or extends its entry.
    pub(crate) fn enter(&self, index: &IndexKey, entry: IndexEntry, now: Timestamp) {
        let place = Place { index: *index, family: entry.family, key: entry.key };
        self.write(index).enter(place, entry.until, now);
    }

    /// Removes the entry of a key and a family.
    pub(crate) fn leave(&self, index: &IndexKey, family: Family, key: SessionKey) {
        self.write(index).leave(&Place { index: *index, family, key });
    }

    /// Returns the entries of an index that end after `now`. Other tasks run between two pieces.
    pub(crate) async fn entries(&self, index: &IndexKey, now: Timestamp) -> Vec<IndexEntry> {
        let mut entries = Vec::new();
        let mut next = self.read_piece(index, Family::from_u64(0), now, &mut entries);
        // Ends, as each piece begins after the one before.
        while let Some(family) = next {
            yield_now().await;
            next = self.read_piece(index, family, now, &mut entries);
        }
        entries
    }

    /// Reads a piece of the entries of an index, from a family on. Returns the first family of the next
    /// piece.
    fn read_piece(
        &self,
        index: &IndexKey,
        from: Family,
        now: Timestamp,
        entries: &mut Vec<IndexEntry>,
    ) -> Option<Family> {
        let shard = read(self.shard(index));
        let mut last = from;
        for (read, (place, &until)) in shard.from(index, from).enumerate() {
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

    /// The number of indexes with entries.
    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| read(shard).indexes).sum()
    }

    fn write(&self, index: &IndexKey) -> RwLockWriteGuard<'_, Shard> {
        // Every change under the lock is complete before anything can panic.
        self.shard(index).write().unwrap_or_else(PoisonError::into_inner)
    }

    fn shard(&self, index: &IndexKey) -> &RwLock<Shard> {
        &self.shards[usize::from(index.as_bytes()[0]) % SHARDS]
    }
}

impl Shard {
    fn enter(&mut self, place: Place, until: Timestamp, now: Timestamp) {
        self.sweep(now);
        let is_new_index = !self.has(&place.index);
        let latest = self.entries.entry(place).or_insert(until);
        *latest = until.max(*latest);
        self.indexes += usize::from(is_new_index);
    }

    fn leave(&mut self, place: &Place) {
        if self.entries.remove(place).is_some() && !self.has(&place.index) {
            self.indexes -= 1;
        }
    }

    fn has(&self, index: &IndexKey) -> bool {
        self.from(index, Family::from_u64(0)).next().is_some()
    }

    /// The entries of an index, from a family on.
    fn from(&self, index: &IndexKey, family: Family) -> impl Iterator<Item = (&Place, &Timestamp)> {
        let first =
            Place { index: *index, family, key: SessionKey::from_bytes([0; SessionKey::LEN]) };
        let from = self.entries.range(first..);
        from.take_while(move |(place, _)| place.index == first.index)
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
        Self { entries: BTreeMap::new(), indexes: 0, unswept: Bound::Unbounded }
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

    fn index(number: u64) -> IndexKey {
        let mut bytes = [0; IndexKey::LEN];
        bytes[..8].copy_from_slice(&number.to_le_bytes());
        IndexKey::from_bytes(bytes)
    }

    fn entry(number: u64, until: Timestamp) -> IndexEntry {
        let mut bytes = [0; SessionKey::LEN];
        bytes[..8].copy_from_slice(&number.to_le_bytes());
        IndexEntry::new(SessionKey::from_bytes(bytes), Family::from_u64(number), until)
    }

    /// A session's end removes its entry. After an interrupted creation there is only the entry.
    #[test]
    fn indexes_that_are_never_read_again_are_swept() {
        let indexes = Indexes::new();
        let mut now = Timestamp::from_millis(0);
        let mut most = 0;
        for number in 0..10_000 {
            indexes.enter(&index(number), entry(1, now + Duration::from_millis(1_000)), now);
            now = now + Duration::from_millis(1);
            most = most.max(indexes.len());
        }
        assert!((1_000..=1_500).contains(&most), "{most}");
    }

    /// An index that grows again and again is swept as well.
    #[test]
    fn entries_that_passed_are_swept_from_a_live_index() {
        let indexes = Indexes::new();
        let mut now = Timestamp::from_millis(0);
        for number in 0..10_000_u64 {
            let until = now + Duration::from_millis(100);
            let number = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            indexes.enter(&index(1), entry(number, until), now);
            now = now + Duration::from_millis(1);
            let held = read(indexes.shard(&index(1))).entries.len();
            assert!(held <= 150, "{held}");
            let mut live = Vec::new();
            indexes.read_piece(&index(1), Family::from_u64(0), now, &mut live);
            assert!(live.len() <= 100);
        }
    }

    #[test]
    fn entry_is_kept_for_longer_and_never_for_shorter() {
        let indexes = Indexes::new();
        for until in [2, 9, 5] {
            let until = Timestamp::from_millis(until);
            indexes.enter(&index(1), entry(1, until), Timestamp::from_millis(0));
        }
        let latest = entry(1, Timestamp::from_millis(9));
        assert_eq!(piece(&indexes, 0, Timestamp::from_millis(8)), (vec![latest], None));
        assert_eq!(piece(&indexes, 0, Timestamp::from_millis(9)), (vec![], None));
    }

    /// A list finds a session that moves meanwhile, under the former key or the new one (I8).
    #[test]
    fn piece_has_a_few_sessions_and_all_keys_of_each() {
        let indexes = Indexes::new();
        let now = Timestamp::from_millis(0);
        let until = now + Duration::from_secs(1);
        let pieces = 10;
        for family in 0..pieces * PIECE as u64 / 2 {
            for number in [2 * family, 2 * family + 1, 1_000_000 + family] {
                let key = entry(number, until).key;
                let entry = IndexEntry::new(key, Family::from_u64(family), until);
                indexes.enter(&index(1), entry, now);
            }
            // Of other indexes, in the same shard.
            indexes.enter(&index(65), entry(family, until), now);
            indexes.enter(&index(0x0100_0001), entry(family, until), now);
        }
        let (mut from, mut found) = (Some(0), Vec::new());
        while let Some(family) = from {
            let (entries, next) = piece(&indexes, family, now);
            assert!(entries.len() <= PIECE + 2, "{} entries", entries.len());
            assert!(entries.iter().all(|entry| next.is_none_or(|n| entry.family.as_u64() < n)));
            found.extend(entries);
            from = next;
        }
        assert_eq!(found.len() as u64, pieces * PIECE as u64 / 2 * 3);
        assert!(found.is_sorted_by_key(|entry| entry.family));
    }

    #[test]
    fn index_without_entries_is_not_counted() {
        let indexes = Indexes::new();
        let now = Timestamp::from_millis(0);
        let until = now + Duration::from_secs(1);
        let (first, second) = (entry(1, until), entry(2, until));
        for entry in [first, second, first] {
            indexes.enter(&index(1), entry, now);
        }
        indexes.leave(&index(1), first.family, first.key);
        indexes.leave(&index(1), first.family, first.key);
        assert_eq!(indexes.len(), 1);
        indexes.leave(&index(1), second.family, second.key);
        indexes.leave(&index(3), first.family, first.key);
        assert_eq!(indexes.len(), 0);
    }

    fn piece(indexes: &Indexes, from: u64, now: Timestamp) -> (Vec<IndexEntry>, Option<u64>) {
        let mut entries = Vec::new();
        let next = indexes.read_piece(&index(1), Family::from_u64(from), now, &mut entries);
        (entries, next.map(Family::as_u64))
    }
}
