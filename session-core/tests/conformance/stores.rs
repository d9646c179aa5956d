//! Stores that break one rule each.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use session_core::{
    Committed, Created, Entry, Expected, IndexEntry, IndexKey, LocalReads, Revision, SessionIndex,
    SessionKey, SessionStore, StoreError, Timestamp, Touched, Watched, Watchers, envelope,
};

use crate::map_store::MapStore;

/// The broken rule of a store.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fault {
    None,
    CreateDoesNothing,
    CreateOverwrites,
    CreateOverwritesTombstones,
    CreateChecksThenActs,
    CommitIgnoresTheRevision,
    CommitIgnoresTheNonce,
    CommitComparesLowBitsOfTheRevision,
    CommitTakesOlderRevisions,
    CommitDoesNothing,
    CommitInserts,
    CommitSeesExpired,
    CommitReplacesTombstones,
    CommitReplacesTombstonesAtTheirRevision,
    CommitReturnsItsOwnRecord,
    CommitKeepsTheOldDeadline,
    CommitChecksThenActs,
    CommitRefusesWhatHasExpired,
    CommitDeletesThenCreates,
    TouchInserts,
    TouchDoesNothing,
    TouchBumpsTheRevision,
    TouchDropsTheValues,
    TouchMovesBack,
    TouchSeesExpired,
    TouchMovesTombstones,
    TouchForgetsTheAbsoluteDeadline,
    TouchChecksThenActs,
    DeleteReturnsNothing,
    DeleteReturnsOnlySessions,
    DeleteLeavesIt,
    DeleteRemovesTombstones,
    DeleteReturnsExpired,
    DeleteChecksThenActs,
    DeleteEmptiesTheStore,
    LoadInvents,
    LoadCutsValues,
    LoadSeesExpired,
    LoadExpiresLate,
    LoadMovesTheDeadline,
    LoadHidesTombstones,
    DeadlinesInSeconds,
    KeysByHalf,
    RecordsUpTo8KiB,
    RecordsUpTo64KiB,
    PingFails,
    CopiesOfNothing,
    CopiesOutliveChanges,
    CopiesOutliveTheirDeadline,
    WatchLoadsNothing,
    WatchReportsNothing,
}

/// A store that breaks one rule.
pub(crate) struct Broken {
    fault: Fault,
    entries: Mutex<Entries>,
    /// The loaded entries, for a store with copies.
    copies: Mutex<Entries>,
    index: MapStore,
    /// Makes each verb atomic.
    verb: tokio::sync::Mutex<()>,
}

type Entries = HashMap<SessionKey, Entry>;

impl Broken {
    pub(crate) fn new(fault: Fault) -> Self {
        Self {
            fault,
            entries: Mutex::default(),
            copies: Mutex::default(),
            index: MapStore::default(),
            verb: tokio::sync::Mutex::new(()),
        }
    }

    fn is(&self, fault: Fault) -> bool {
        self.fault == fault
    }

    fn key(&self, key: &SessionKey) -> SessionKey {
        let mut bytes = *key.as_bytes();
        if self.is(Fault::KeysByHalf) {
            bytes[8..].fill(0);
        }
        SessionKey::from_bytes(bytes)
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the entry under a key. An expired entry is returned only if the fault is to see it.
    fn found(&self, key: &SessionKey, now: Timestamp, sees_expired: Fault) -> Option<Entry> {
        let entry = self.entries().get(key).cloned()?;
        let deadline = if self.is(Fault::DeadlinesInSeconds) {
            Timestamp::from_millis(entry.expires_at().as_millis() / 1_000 * 1_000)
        } else {
            entry.expires_at()
        };
        (now < deadline || self.is(sees_expired)).then_some(entry)
    }

    /// Locks the store for one verb, unless the fault is to leave it unlocked.
    async fn alone(&self, fault: Fault) -> Option<tokio::sync::MutexGuard<'_, ()>> {
        if self.is(fault) { None } else { Some(self.verb.lock().await) }
    }

    /// If this is the fault, lets other verbs run between the read and the change.
    async fn hesitate(&self, fault: Fault) {
        if self.is(fault) {
            tokio::task::yield_now().await;
        }
    }
}

#[session_core::async_trait]
impl SessionStore for Broken {
    async fn create(
        &self,
        key: &SessionKey,
        entry: Entry,
        now: Timestamp,
    ) -> Result<Created, StoreError> {
        let key = self.key(key);
        let _alone = self.alone(Fault::CreateChecksThenActs).await;
        if self.is(Fault::CreateChecksThenActs) {
            let there = self.found(&key, now, Fault::None).is_some();
            self.hesitate(Fault::CreateChecksThenActs).await;
            if there {
                return Ok(Created::Exists);
            }
            self.entries().insert(key, entry);
            return Ok(Created::Created);
        }
        let most = match self.fault {
            Fault::RecordsUpTo8KiB => 8 * 1024,
            Fault::RecordsUpTo64KiB => 64 * 1024,
            _ => usize::MAX,
        };
        if entry.encode().len() > most {
            return Err(StoreError::new(session_core::StoreErrorKind::TooLarge));
        }
        let free = match self.found(&key, now, Fault::None) {
            None => true,
            Some(Entry::Session(_)) => self.is(Fault::CreateOverwrites),
            Some(Entry::Tombstone(_)) => self.is(Fault::CreateOverwritesTombstones),
        };
        if !free {
            return Ok(Created::Exists);
        }
        if !self.is(Fault::CreateDoesNothing) {
            self.entries().insert(key, entry);
        }
        Ok(Created::Created)
    }

    async fn load(&self, key: &SessionKey, now: Timestamp) -> Result<Option<Entry>, StoreError> {
        let key = self.key(key);
        let at = if self.is(Fault::LoadExpiresLate) {
            Timestamp::from_millis(now.as_millis() - 1)
        } else {
            now
        };
        let mut found = self.found(&key, at, Fault::LoadSeesExpired);
        if let Some(Entry::Session(record)) = &found
            && self.is(Fault::LoadMovesTheDeadline)
        {
            let seen = Entry::Session(Arc::new(record.seen(now)));
            self.entries().insert(key, seen);
        }
        if self.is(Fault::LoadInvents) && found.is_none() {
            found = Some(session_at(now));
        }
        if let Some(entry) = &found
            && self.is(Fault::LoadCutsValues)
        {
            // Damages the last byte of the last value.
            found = Some(patched(entry, |bytes| {
                if let Some(last) = bytes.last_mut().filter(|last| **last >= 0x80) {
                    *last &= 0x7f;
                }
            }));
        }
        if self.is(Fault::LoadHidesTombstones) {
            found = found.filter(|entry| matches!(entry, Entry::Session(_)));
        }
        if let Some(entry) = &found {
            self.copies.lock().unwrap_or_else(PoisonError::into_inner).insert(key, entry.clone());
        }
        Ok(found)
    }

    async fn commit(
        &self,
        key: &SessionKey,
        expected: Expected,
        entry: Entry,
        now: Timestamp,
    ) -> Result<Committed, StoreError> {
        let key = self.key(key);
        let _alone = self.alone(Fault::CommitChecksThenActs).await;
        if self.is(Fault::CommitChecksThenActs) {
            let there = self.found(&key, now, Fault::None);
            self.hesitate(Fault::CommitChecksThenActs).await;
            return Ok(match there {
                Some(Entry::Session(record)) if expected.is(&record) => {
                    self.entries().insert(key, entry);
                    Committed::Committed
                }
                Some(there) => Committed::Conflict(there),
                None => Committed::Gone,
            });
        }
        if self.is(Fault::CommitDeletesThenCreates)
            && let Some(Entry::Session(record)) = self.found(&key, now, Fault::None)
            && expected.is(&record)
        {
            self.entries().remove(&key);
            tokio::task::yield_now().await;
            self.entries().insert(key, entry);
            return Ok(Committed::Committed);
        }
        let mut entries = self.entries();
        let there = entries
            .get(&key)
            .filter(|there| there.is_live(now) || self.is(Fault::CommitSeesExpired))
            .cloned();
        let matches = |revision: Revision| {
            let (stored, expected) = (revision.as_u64(), expected.revision().as_u64());
            match self.fault {
                Fault::CommitIgnoresTheRevision => true,
                Fault::CommitTakesOlderRevisions => expected <= stored,
                Fault::CommitComparesLowBitsOfTheRevision => {
                    expected & 0xffff_ffff == stored & 0xffff_ffff
                }
                _ => stored == expected,
            }
        };
        let replaces = match &there {
            None if self.is(Fault::CommitInserts) => true,
            None => return Ok(Committed::Gone),
            Some(Entry::Session(record)) if self.is(Fault::CommitIgnoresTheNonce) => {
                record.revision() == expected.revision()
            }
            Some(Entry::Session(record)) => match self.fault {
                Fault::CommitIgnoresTheRevision
                | Fault::CommitTakesOlderRevisions
                | Fault::CommitComparesLowBitsOfTheRevision => matches(record.revision()),
                _ => expected.is(record),
            },
            Some(tombstone) => {
                self.is(Fault::CommitReplacesTombstones)
                    || self.is(Fault::CommitReplacesTombstonesAtTheirRevision)
                        && tombstone.revision() == expected.revision()
            }
        };
        if let Some(there) = there.filter(|_| !replaces) {
            let returned = if self.is(Fault::CommitReturnsItsOwnRecord) { entry } else { there };
            return Ok(Committed::Conflict(returned));
        }
        if self.is(Fault::CommitRefusesWhatHasExpired) && !entry.is_live(now) {
            return Err(StoreError::new(session_core::StoreErrorKind::Unavailable));
        }
        let entry = match (self.fault, entries.get(&key), entry) {
            (
                Fault::CommitKeepsTheOldDeadline,
                Some(old @ Entry::Session(_)),
                new @ Entry::Session(_),
            ) => {
                let old = old.encode();
                patched(&new, |bytes| {
                    for field in [envelope::IDLE, envelope::ENDS_AT] {
                        bytes[field.clone()].copy_from_slice(&old[field]);
                    }
                })
            }
            (_, _, entry) => entry,
        };
        if !self.is(Fault::CommitDoesNothing) {
            entries.insert(key, entry);
        }
        Ok(Committed::Committed)
    }

    async fn touch(&self, key: &SessionKey, now: Timestamp) -> Result<Touched, StoreError> {
        let key = self.key(key);
        let _alone = self.alone(Fault::TouchChecksThenActs).await;
        let Some(found) = self.found(&key, now, Fault::TouchSeesExpired) else {
            if self.is(Fault::TouchInserts) {
                let entry = session_at(now);
                self.entries().insert(key, entry);
                return Ok(Touched::Touched);
            }
            return Ok(Touched::Gone);
        };
        self.hesitate(Fault::TouchChecksThenActs).await;
        let Entry::Session(record) = &found else {
            if self.is(Fault::TouchMovesTombstones) {
                let end = envelope::u48((found.expires_at() + Duration::from_secs(60)).as_millis());
                let longer = patched(&found, |bytes| {
                    bytes[envelope::ENDS_AT].copy_from_slice(&end);
                });
                self.entries().insert(key, longer);
            }
            return Ok(Touched::Gone);
        };
        let seen = Entry::Session(Arc::new(record.seen(now)));
        let at = envelope::u48(now.as_millis());
        let touched = match self.fault {
            Fault::TouchDoesNothing => found,
            Fault::TouchBumpsTheRevision => {
                let next = envelope::u48(found.revision().as_u64() + 1);
                patched(&seen, |bytes| bytes[envelope::REVISION].copy_from_slice(&next))
            }
            Fault::TouchDropsTheValues => patched(&seen, |bytes| {
                bytes.truncate(envelope::HEADER_LEN);
                bytes.push(0x80);
            }),
            Fault::TouchMovesBack => patched(&seen, |bytes| {
                bytes[envelope::LAST_SEEN_AT].copy_from_slice(&at);
            }),
            Fault::TouchForgetsTheAbsoluteDeadline => patched(&seen, |bytes| {
                let end = envelope::u48((now + record.lifetime().idle()).as_millis());
                bytes[envelope::ENDS_AT].copy_from_slice(&end);
            }),
            _ => seen,
        };
        self.entries().insert(key, touched);
        Ok(Touched::Touched)
    }

    async fn delete(&self, key: &SessionKey, now: Timestamp) -> Result<Option<Entry>, StoreError> {
        let key = self.key(key);
        let _alone = self.alone(Fault::DeleteChecksThenActs).await;
        if self.is(Fault::DeleteChecksThenActs) {
            let found = self.found(&key, now, Fault::None);
            self.hesitate(Fault::DeleteChecksThenActs).await;
            self.entries().remove(&key);
            return Ok(found);
        }
        let mut entries = self.entries();
        let there = entries.get(&key).cloned();
        let stays = match &there {
            Some(Entry::Tombstone(_)) => !self.is(Fault::DeleteRemovesTombstones),
            _ => self.is(Fault::DeleteLeavesIt),
        };
        if !stays {
            entries.remove(&key);
        }
        if self.is(Fault::DeleteEmptiesTheStore) {
            entries.clear();
        }
        Ok(there.filter(|there| there.is_live(now) || self.is(Fault::DeleteReturnsExpired)).filter(
            |there| match there {
                Entry::Session(_) => !self.is(Fault::DeleteReturnsNothing),
                Entry::Tombstone(_) => {
                    !self.is(Fault::DeleteReturnsNothing)
                        && !self.is(Fault::DeleteReturnsOnlySessions)
                }
            },
        ))
    }

    async fn ping(&self, _: Timestamp) -> Result<(), StoreError> {
        if self.is(Fault::PingFails) {
            return Err(StoreError::new(session_core::StoreErrorKind::Unavailable));
        }
        Ok(())
    }

    fn local_reads(&self) -> Option<&dyn LocalReads> {
        let keeps_some = [
            Fault::CopiesOfNothing,
            Fault::CopiesOutliveChanges,
            Fault::CopiesOutliveTheirDeadline,
        ]
        .contains(&self.fault);
        keeps_some.then_some(self)
    }

    async fn watch(&self, key: &SessionKey, now: Timestamp) -> Result<Watched, StoreError> {
        let watch = self.is(Fault::WatchReportsNothing).then(|| Watchers::default().watch(key));
        let entry = self.load(key, now).await?;
        Ok(Watched { entry: entry.filter(|_| !self.is(Fault::WatchLoadsNothing)), watch })
    }
}

impl LocalReads for Broken {
    fn staleness(&self) -> Duration {
        Duration::from_secs(1)
    }

    fn find(&self, key: &SessionKey, now: Timestamp) -> Option<Entry> {
        let copy = self.copies.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned();
        match self.fault {
            Fault::CopiesOfNothing => copy.or_else(|| Some(session_at(now))),
            Fault::CopiesOutliveChanges => copy.filter(|entry| entry.is_live(now)),
            _ => copy,
        }
    }
}

/// The index is correct here: the stores in the module `owners` have a broken index.
#[session_core::async_trait]
impl SessionIndex for Broken {
    async fn enter(
        &self,
        index: &IndexKey,
        entry: IndexEntry,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.index.enter(index, entry, now).await
    }

    async fn leave(
        &self,
        index: &IndexKey,
        entries: &[IndexEntry],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.index.leave(index, entries, now).await
    }

    async fn entries(
        &self,
        index: &IndexKey,
        now: Timestamp,
    ) -> Result<Vec<IndexEntry>, StoreError> {
        self.index.entries(index, now).await
    }
}

impl fmt::Debug for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broken").field("fault", &self.fault).finish_non_exhaustive()
    }
}

/// Returns the entry after a change of its bytes.
fn patched(entry: &Entry, patch: impl FnOnce(&mut Vec<u8>)) -> Entry {
    let mut bytes = entry.encode();
    patch(&mut bytes);
    Entry::decode(bytes).expect("the fault leaves a record")
}

/// Returns a session of one hour, without values.
fn session_at(now: Timestamp) -> Entry {
    let hour = Duration::from_secs(3600);
    let mut bytes = vec![envelope::VERSION, envelope::LIVE];
    bytes.extend([0; 14]);
    bytes.extend(envelope::u48(now.as_millis()));
    bytes.extend(envelope::u48(3_600_000));
    bytes.extend(envelope::u48((now + hour).as_millis()));
    bytes.extend(envelope::u48(now.as_millis()));
    bytes.push(0x80);
    Entry::decode(bytes).expect("the fault leaves a record")
}
