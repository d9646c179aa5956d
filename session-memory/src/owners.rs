use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use session_core::{IndexEntry, OwnerKey, SessionKey, Timestamp};

/// Which sessions each owner has.
///
/// An entry goes when its session leaves the cache, for whatever reason, and at its deadline otherwise: when
/// its owner's index is written, or when its shard has twice as many owners as after the last sweep. So
/// what is here is at most in proportion to the sessions that are there.
#[derive(Debug)]
pub(crate) struct Owners {
    shards: Box<[Mutex<Shard>]>,
}

#[derive(Debug, Default)]
struct Shard {
    owners: HashMap<OwnerKey, Vec<IndexEntry>>,
    /// How many owners there were after the last sweep.
    swept: usize,
}

impl Owners {
    pub(crate) fn new() -> Self {
        Self { shards: (0..SHARDS).map(|_| Mutex::default()).collect() }
    }

    pub(crate) fn enter(&self, owner: &OwnerKey, entry: IndexEntry, now: Timestamp) {
        self.shard(owner).change(owner, now, |entries| {
            match entries.iter_mut().find(|present| present.key == entry.key) {
                Some(present) => present.until = entry.until.max(present.until),
                None => entries.push(entry),
            }
        });
    }

    pub(crate) fn leave(&self, owner: &OwnerKey, entries: &[IndexEntry], now: Timestamp) {
        let is_leaving = |present: &IndexEntry| {
            entries.iter().any(|entry| (entry.key, entry.family) == (present.key, present.family))
        };
        self.retain(owner, |present| now < present.until && !is_leaving(present));
    }

    /// Removes the entry of a session that has left the store.
    pub(crate) fn leave_key(&self, owner: &OwnerKey, key: &SessionKey) {
        self.retain(owner, |present| present.key != *key);
    }

    fn retain(&self, owner: &OwnerKey, stays: impl Fn(&IndexEntry) -> bool) {
        let mut shard = self.shard(owner);
        if let Some(entries) = shard.owners.get_mut(owner) {
            entries.retain(stays);
            shard.tidy(owner);
        }
    }

    pub(crate) fn entries(&self, owner: &OwnerKey, now: Timestamp) -> Vec<IndexEntry> {
        let shard = self.shard(owner);
        let entries = shard.owners.get(owner).into_iter().flatten();
        entries.filter(|entry| now < entry.until).copied().collect()
    }

    /// The number of owners that have entries.
    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).owners.len()).sum()
    }

    fn shard(&self, owner: &OwnerKey) -> MutexGuard<'_, Shard> {
        // The table's own hash is of the first bytes.
        lock(&self.shards[usize::from(owner.as_bytes()[OwnerKey::LEN - 1]) % SHARDS])
    }
}

impl Shard {
    /// Changes an owner's entries, without those that have passed their deadline.
    fn change<R>(
        &mut self,
        owner: &OwnerKey,
        now: Timestamp,
        act: impl FnOnce(&mut Vec<IndexEntry>) -> R,
    ) -> R {
        if self.owners.len() >= 2 * self.swept.max(SWEEP_FROM) {
            self.owners.retain(|_, entries| {
                entries.retain(|entry| now < entry.until);
                !entries.is_empty()
            });
            self.owners.shrink_to(2 * self.owners.len());
            self.swept = self.owners.len();
        }
        let entries = self.owners.entry(*owner).or_default();
        entries.retain(|entry| now < entry.until);
        let answer = act(entries);
        self.tidy(owner);
        answer
    }

    /// Gives back what an owner's entries no longer need.
    fn tidy(&mut self, owner: &OwnerKey) {
        let Some(entries) = self.owners.get_mut(owner) else { return };
        if entries.is_empty() {
            self.owners.remove(owner);
            self.swept = self.swept.min(self.owners.len());
        } else if entries.len() < entries.capacity() / 4 {
            entries.shrink_to(2 * entries.len());
        }
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    // Nothing under the lock panics half-way.
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

const SHARDS: usize = 64;

/// How many owners a shard may have without a sweep, halved.
const SWEEP_FROM: usize = 32;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use session_core::Family;

    use super::*;

    fn owner(number: u64) -> OwnerKey {
        let mut bytes = [0; OwnerKey::LEN];
        bytes[..8].copy_from_slice(&number.to_le_bytes());
        OwnerKey::from_bytes(bytes)
    }

    fn entry(until: Timestamp) -> IndexEntry {
        let key = SessionKey::from_bytes([1; SessionKey::LEN]);
        IndexEntry { key, family: Family::from_u64(1), until }
    }

    /// Entries whose creation was interrupted have no session whose end would remove them.
    #[test]
    fn owners_who_never_come_back_are_swept() {
        let owners = Owners::new();
        let mut now = Timestamp::from_millis(0);
        let mut most = 0;
        for number in 0..10_000 {
            owners.enter(&owner(number), entry(now + Duration::from_millis(100)), now);
            now = now + Duration::from_millis(1);
            most = most.max(owners.len());
        }
        assert!((100..=300).contains(&most), "{most}");
    }

    #[test]
    fn an_owner_whose_last_entry_goes_is_forgotten() {
        let owners = Owners::new();
        let now = Timestamp::from_millis(0);
        owners.enter(&owner(1), entry(now + Duration::from_secs(1)), now);
        owners.leave(&owner(1), &[entry(now)], now);
        owners.enter(&owner(2), entry(now), now);
        owners.leave(&owner(2), &[entry(now)], now);
        owners.leave(&owner(3), &[entry(now)], now);
        assert_eq!(owners.len(), 0);
    }
}
