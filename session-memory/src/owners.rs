use std::{
    collections::{HashMap, hash_map},
    sync::{Mutex, MutexGuard, PoisonError},
};

use session_core::{Family, IndexEntry, OwnerKey, SessionKey, Timestamp};

use crate::table::KeyHasher;

/// The sessions of each owner.
///
/// An entry is removed when its session leaves the table. An entry whose session was never created
/// is removed some time after its deadline: when its shard has twice as many entries as after the
/// last sweep. So the entries are in proportion to the sessions. The time to enter or remove a
/// session does not depend on the number of sessions of the owner.
#[derive(Debug)]
pub(crate) struct Owners {
    shards: Box<[Mutex<Shard>]>,
}

#[derive(Debug, Default)]
struct Shard {
    owners: HashMap<OwnerKey, Entries, KeyHasher>,
    /// The number of entries of all owners.
    len: usize,
    /// The least number of entries since the last sweep.
    swept: usize,
}

/// The sessions of an owner, and the latest end of each.
type Entries = HashMap<SessionKey, (Family, Timestamp), KeyHasher>;

impl Owners {
    pub(crate) fn new() -> Self {
        Self { shards: (0..SHARDS).map(|_| Mutex::default()).collect() }
    }

    /// Enters a key, or extends its entry.
    pub(crate) fn enter(&self, owner: &OwnerKey, entry: IndexEntry, now: Timestamp) {
        self.shard(owner).enter(owner, entry, now);
    }

    pub(crate) fn leave(&self, owner: &OwnerKey, entries: &[IndexEntry]) {
        let named = entries.iter().map(|entry| (entry.key, Some(entry.family)));
        self.shard(owner).leave(owner, named);
    }

    /// Removes the entry of a session that has left the table.
    pub(crate) fn leave_key(&self, owner: &OwnerKey, key: &SessionKey) {
        self.shard(owner).leave(owner, [(*key, None)]);
    }

    pub(crate) fn entries(&self, owner: &OwnerKey, now: Timestamp) -> Vec<IndexEntry> {
        self.shard(owner).entries(owner, now)
    }

    /// The number of owners that have entries.
    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).owners.len()).sum()
    }

    fn shard(&self, owner: &OwnerKey) -> MutexGuard<'_, Shard> {
        // The hash of the table is of the first bytes.
        lock(&self.shards[usize::from(owner.as_bytes()[OwnerKey::LEN - 1]) % SHARDS])
    }
}

impl Shard {
    fn enter(&mut self, owner: &OwnerKey, entry: IndexEntry, now: Timestamp) {
        if self.len >= 2 * self.swept.max(SWEEP_FROM) {
            self.sweep(now);
        }
        match self.owners.entry(*owner).or_default().entry(entry.key) {
            hash_map::Entry::Occupied(mut present) => {
                let (_, until) = *present.get();
                present.insert((entry.family, entry.until.max(until)));
            }
            hash_map::Entry::Vacant(place) => {
                place.insert((entry.family, entry.until));
                self.len += 1;
            }
        }
    }

    fn leave(
        &mut self,
        owner: &OwnerKey,
        named: impl IntoIterator<Item = (SessionKey, Option<Family>)>,
    ) {
        let Some(entries) = self.owners.get_mut(owner) else { return };
        let before = entries.len();
        for (key, family) in named {
            let is_named =
                |(present, _): &(Family, Timestamp)| family.is_none_or(|f| f == *present);
            if entries.get(&key).is_some_and(is_named) {
                entries.remove(&key);
            }
        }
        self.len -= before - entries.len();
        self.swept = self.swept.min(self.len);
        if entries.is_empty() {
            self.owners.remove(owner);
            shrink(&mut self.owners);
        } else {
            shrink(entries);
        }
    }

    fn entries(&self, owner: &OwnerKey, now: Timestamp) -> Vec<IndexEntry> {
        let Some(entries) = self.owners.get(owner) else { return Vec::new() };
        let mut live = Vec::with_capacity(entries.len());
        let all =
            entries.iter().map(|(&key, &(family, until))| IndexEntry::new(key, family, until));
        live.extend(all.filter(|entry| now < entry.until));
        live
    }

    /// Removes the entries that have passed their deadlines.
    fn sweep(&mut self, now: Timestamp) {
        self.len = 0;
        self.owners.retain(|_, entries| {
            entries.retain(|_, (_, until)| now < *until);
            shrink(entries);
            self.len += entries.len();
            !entries.is_empty()
        });
        shrink(&mut self.owners);
        self.swept = self.len;
    }
}

/// Gives back the memory that a map no longer needs.
fn shrink<K: Eq + std::hash::Hash, V>(map: &mut HashMap<K, V, KeyHasher>) {
    if map.len() < map.capacity() / 4 {
        map.shrink_to(2 * map.len());
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    // No panic under the lock leaves a change half done.
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

const SHARDS: usize = 64;

/// Half the number of entries that a shard may have without a sweep.
const SWEEP_FROM: usize = 32;

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

    /// Entries whose creation was interrupted have no session whose end would remove them.
    #[test]
    fn owners_who_never_come_back_are_swept() {
        let owners = Owners::new();
        let mut now = Timestamp::from_millis(0);
        let mut most = 0;
        for number in 0..10_000 {
            owners.enter(&owner(number), entry(1, now + Duration::from_millis(100)), now);
            now = now + Duration::from_millis(1);
            most = most.max(owners.len());
        }
        assert!((100..=300).contains(&most), "{most}");
    }

    /// An owner who signs in again and again is swept as well.
    #[test]
    fn entries_that_passed_are_swept_from_a_live_owner() {
        let owners = Owners::new();
        let mut now = Timestamp::from_millis(0);
        for number in 0..10_000_u64 {
            let until = now + Duration::from_millis(100);
            owners.enter(&owner(1), entry(number, until), now);
            now = now + Duration::from_millis(1);
            let shard = owners.shard(&owner(1));
            let held = shard.owners[&owner(1)].len();
            assert_eq!(shard.len, held);
            assert!(held <= 200.max(2 * SWEEP_FROM), "{held}");
            drop(shard);
            assert!(owners.entries(&owner(1), now).len() <= 100);
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
        assert_eq!(owners.entries(&owner(1), Timestamp::from_millis(8)), [latest]);
        assert!(owners.entries(&owner(1), Timestamp::from_millis(9)).is_empty());
    }

    #[test]
    fn an_owner_whose_last_entry_goes_is_forgotten() {
        let owners = Owners::new();
        let now = Timestamp::from_millis(0);
        let until = now + Duration::from_secs(1);
        owners.enter(&owner(1), entry(1, until), now);
        owners.leave(&owner(1), &[entry(1, until)]);
        owners.enter(&owner(2), entry(1, now), now);
        owners.leave_key(&owner(2), &entry(1, now).key);
        owners.leave(&owner(3), &[entry(1, now)]);
        assert_eq!(owners.len(), 0);
        assert_eq!(owners.shards.iter().map(|shard| lock(shard).len).sum::<usize>(), 0);
    }
}
