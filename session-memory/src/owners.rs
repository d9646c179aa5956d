use std::{
    collections::{HashMap, hash_map},
    sync::{Mutex, MutexGuard, PoisonError},
};

use session_core::{Admission, Admitted, OwnerKey, SessionKey, Timestamp};

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
type Entries = HashMap<SessionKey, Timestamp, KeyHasher>;

impl Owners {
    pub(crate) fn new() -> Self {
        Self { shards: (0..SHARDS).map(|_| Mutex::default()).collect() }
    }

    /// Enters a key, or keeps it for longer.
    pub(crate) fn enter(
        &self,
        owner: &OwnerKey,
        key: &SessionKey,
        until: Timestamp,
        now: Timestamp,
    ) {
        self.shard(owner).enter(owner, key, until, now);
    }

    pub(crate) fn admit(
        &self,
        owner: &OwnerKey,
        key: &SessionKey,
        until: Timestamp,
        admission: &Admission<'_>,
        now: Timestamp,
    ) -> Admitted {
        let mut shard = self.shard(owner);
        shard.leave(owner, admission.ended);
        let mut others = shard.entries(owner, now);
        others.retain(|other| other != key && !admission.replaces.contains(other));
        if admission.count(&others) >= admission.max.get() {
            return Admitted::Full(others);
        }
        shard.enter(owner, key, until, now);
        Admitted::Admitted
    }

    pub(crate) fn leave(&self, owner: &OwnerKey, keys: &[SessionKey]) {
        self.shard(owner).leave(owner, keys);
    }

    pub(crate) fn entries(&self, owner: &OwnerKey, now: Timestamp) -> Vec<SessionKey> {
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
    fn enter(&mut self, owner: &OwnerKey, key: &SessionKey, until: Timestamp, now: Timestamp) {
        if self.len >= 2 * self.swept.max(SWEEP_FROM) {
            self.sweep(now);
        }
        match self.owners.entry(*owner).or_default().entry(*key) {
            hash_map::Entry::Occupied(mut present) => {
                let later = until.max(*present.get());
                present.insert(later);
            }
            hash_map::Entry::Vacant(place) => {
                place.insert(until);
                self.len += 1;
            }
        }
    }

    fn leave(&mut self, owner: &OwnerKey, keys: &[SessionKey]) {
        let Some(entries) = self.owners.get_mut(owner) else { return };
        let before = entries.len();
        for key in keys {
            entries.remove(key);
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

    fn entries(&self, owner: &OwnerKey, now: Timestamp) -> Vec<SessionKey> {
        let Some(entries) = self.owners.get(owner) else { return Vec::new() };
        let mut keys = Vec::with_capacity(entries.len());
        keys.extend(entries.iter().filter(|(_, until)| now < **until).map(|(key, _)| *key));
        keys
    }

    /// Removes the entries that have passed their deadlines.
    fn sweep(&mut self, now: Timestamp) {
        self.len = 0;
        self.owners.retain(|_, entries| {
            entries.retain(|_, until| now < *until);
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

    /// Entries whose creation was interrupted have no session whose end would remove them.
    #[test]
    fn owners_who_never_come_back_are_swept() {
        let owners = Owners::new();
        let key = SessionKey::from_bytes([1; SessionKey::LEN]);
        let mut now = Timestamp::from_millis(0);
        let mut most = 0;
        for number in 0..10_000 {
            owners.enter(&owner(number), &key, now + Duration::from_millis(100), now);
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
            let mut bytes = [0; SessionKey::LEN];
            bytes[..8].copy_from_slice(&number.to_le_bytes());
            let until = now + Duration::from_millis(100);
            owners.enter(&owner(1), &SessionKey::from_bytes(bytes), until, now);
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
        let key = SessionKey::from_bytes([1; SessionKey::LEN]);
        for until in [2, 9, 5] {
            let until = Timestamp::from_millis(until);
            owners.enter(&owner(1), &key, until, Timestamp::from_millis(0));
        }
        assert_eq!(owners.entries(&owner(1), Timestamp::from_millis(8)), [key]);
        assert!(owners.entries(&owner(1), Timestamp::from_millis(9)).is_empty());
    }

    #[test]
    fn an_owner_whose_last_entry_goes_is_forgotten() {
        let owners = Owners::new();
        let key = SessionKey::from_bytes([1; SessionKey::LEN]);
        let now = Timestamp::from_millis(0);
        owners.enter(&owner(1), &key, now + Duration::from_secs(1), now);
        owners.leave(&owner(1), &[key]);
        owners.enter(&owner(2), &key, now, now);
        owners.leave(&owner(2), &[key]);
        owners.leave(&owner(3), &[key]);
        assert_eq!(owners.len(), 0);
        assert_eq!(owners.shards.iter().map(|shard| lock(shard).len).sum::<usize>(), 0);
    }
}
