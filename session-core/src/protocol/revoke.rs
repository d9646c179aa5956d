//! The list of an index's sessions, and their revocation.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    CHUNK, MAX_MOVES, Protocol,
    locate::{Loaded, Pace, yield_now},
    verbs::Deleted,
};
use crate::{
    Ended, Entry, EventKind, Family, IndexEntry, IndexKey, Owner, Record, SessionError, SessionKey,
    StoreError,
};

impl Protocol {
    /// Lists the sessions of an index, the last used first, each as `show` presents it.
    pub(crate) async fn list<T>(
        &self,
        index: &IndexKey,
        show: impl Fn(SessionKey, Arc<Record>) -> T,
    ) -> Result<Vec<T>, StoreError> {
        let mut pace = Pace::default();
        let mut sessions: BTreeMap<Family, (SessionKey, Arc<Record>)> = BTreeMap::new();
        for (entry, loaded) in self.entries_of(index, |_| true).await? {
            pace.step().await;
            let Ok(Some(record)) = loaded else { continue };
            // During a move to another ID, the session is stored under two keys.
            let age = |record: &Record| (record.last_seen_at, record.revision);
            let shown = sessions.entry(entry.family).or_insert((entry.key, Arc::clone(&record)));
            if age(&shown.1) < age(&record) {
                *shown = (entry.key, record);
            }
        }
        let mut sorted = BTreeMap::new();
        for (key, record) in sessions.into_values() {
            pace.step().await;
            sorted.insert(Reverse((record.last_seen_at, record.created_at, key)), (key, record));
        }
        let mut list = Vec::with_capacity(sorted.len());
        for (key, record) in sorted.into_values() {
            pace.step().await;
            list.push(show(key, record));
        }
        Ok(list)
    }

    /// Returns the selected entries of an index, each with its session if the session is
    /// live. An inner error stands for a record that cannot be read.
    ///
    /// A session may move to another ID between the read of the index and the load. If a tombstone
    /// names a key without a loaded entry, the index is read again.
    pub(super) async fn entries_of(
        &self,
        index: &IndexKey,
        is_selected: impl Fn(&IndexEntry) -> bool,
    ) -> Result<Vec<Found>, StoreError> {
        let mut pace = Pace::default();
        let mut reads = 0;
        let mut followed = BTreeSet::new();
        loop {
            reads += 1;
            let mut entries = (*self.store).entries(index, self.now()).await?;
            entries.retain(&is_selected);
            let keys: Vec<_> = entries.iter().map(|entry| entry.key).collect();
            let loaded = self.load_many(&keys).await?;
            let mut found = Vec::with_capacity(entries.len());
            let (mut present, mut successors) = (BTreeSet::new(), Vec::new());
            for (entry, loaded) in entries.into_iter().zip(loaded) {
                pace.step().await;
                if !matches!(loaded, Ok(None)) {
                    present.insert(entry.key);
                }
                let live = loaded.map(|loaded| match loaded? {
                    Entry::Session(record) => Some(record),
                    Entry::Tombstone(tombstone) => {
                        successors.extend(tombstone.successor());
                        None
                    }
                });
                found.push((entry, live));
            }
            let mut has_moved = false;
            for successor in successors {
                pace.step().await;
                has_moved |= !present.contains(&successor) && followed.insert(successor);
            }
            if !has_moved || reads == MAX_READS {
                return Ok(found);
            }
        }
    }

    /// Returns the family of a session in an index that has or had this key.
    pub(crate) async fn family_of(
        &self,
        index: &IndexKey,
        key: SessionKey,
    ) -> Result<Option<Family>, StoreError> {
        let entries = (*self.store).entries(index, self.now()).await?;
        if let Some(entry) = entries.iter().find(|entry| entry.key == key) {
            return Ok(Some(entry.family));
        }
        // The session may have received another ID since the user saw the list. Another owner's
        // session is safe: its family has no entry in this index.
        Ok(self.load_entry(&key).await?.map(|entry| entry.family()))
    }

    /// Returns [`SessionError::Ended`] if a session was ended, or moved by a login or rotation.
    pub(crate) async fn check_alive(&self, mut key: SessionKey) -> Result<(), SessionError> {
        for _ in 0..MAX_MOVES {
            match self.load_entry(&key).await? {
                Some(Entry::Session(_)) => return Ok(()),
                Some(Entry::Tombstone(tombstone)) if tombstone.is_renewal() => {
                    key = tombstone.successor().ok_or(SessionError::Ended)?;
                }
                Some(Entry::Tombstone(_)) | None => break,
            }
        }
        Err(SessionError::Ended)
    }

    /// Revokes the sessions whose entries in an index are selected, and returns their number. `owner`
    /// is their owner, if the index is of an owner.
    ///
    /// The passes end when no session has moved meanwhile, as [`end_entries`](Self::end_entries)
    /// returns.
    pub(crate) async fn revoke_where(
        &self,
        index: &IndexKey,
        owner: Option<&Owner>,
        is_selected: impl Fn(&IndexEntry) -> bool,
    ) -> Result<usize, SessionError> {
        let mut end = End::new(EventKind::Revoked, index, owner);
        let mut pace = Pace::default();
        let mut done = BTreeSet::new();
        for _ in 0..=MAX_MOVES {
            let mut selected = Vec::new();
            for entry in (*self.store).entries(index, self.now()).await? {
                pace.step().await;
                if is_selected(&entry) && done.insert(entry.key) {
                    selected.push(entry);
                }
            }
            let mut has_moved = false;
            for entries in selected.chunks(CHUNK) {
                has_moved |= self.end_entries(&mut end, entries).await?;
                yield_now().await;
            }
            if !has_moved {
                return Ok(end.families.len());
            }
        }
        Err(SessionError::Contended)
    }

    /// Ends the sessions under entries of an index, and reports each family once. Returns `true` if a
    /// session has moved.
    ///
    /// A moving session enters its new key before the old key leaves the index, so that another read
    /// of the index finds the new key.
    pub(super) async fn end_entries(
        &self,
        end: &mut End<'_>,
        entries: &[IndexEntry],
    ) -> Result<bool, StoreError> {
        let keys: Vec<_> = entries.iter().map(|entry| entry.key).collect();
        let answers = self.delete_or_block(&keys).await?;
        self.leave(end.index, entries).await;
        let mut has_moved = false;
        for (entry, answer) in entries.iter().zip(answers) {
            match answer {
                Ended::Session(record) => {
                    if let Some(record) = &record {
                        self.leave_indexes_except(Some(end.index), entry.key, record).await;
                    }
                    if end.families.insert(entry.family) {
                        self.report_end(end.kind, entry.key, record.as_deref(), end.owner);
                    }
                }
                Ended::Tombstone(tombstone) => has_moved |= tombstone.successor().is_some(),
                Ended::Blocked => {}
            }
        }
        Ok(has_moved)
    }

    /// Deletes the session of a key, under the key to which the session has moved. Returns the key
    /// and the record of the deleted session, if known.
    pub(crate) async fn delete_session(
        &self,
        mut key: SessionKey,
    ) -> Result<Option<(SessionKey, Option<Arc<Record>>)>, SessionError> {
        for _ in 0..=MAX_MOVES {
            match self.delete_key(&key).await? {
                Deleted::Tombstone(tombstone) => match tombstone.successor() {
                    Some(successor) => key = successor,
                    None => return Ok(None),
                },
                Deleted::Session(record) => {
                    if let Some(record) = &record {
                        self.leave_indexes(key, record).await;
                    }
                    return Ok(Some((key, record)));
                }
                Deleted::Nothing => return Ok(None),
            }
        }
        Err(SessionError::Contended)
    }

    /// Revokes the session of a key, whatever its owner. Returns `true` if the session existed, also if
    /// this version cannot read it.
    pub(crate) async fn revoke_any(&self, mut key: SessionKey) -> Result<bool, SessionError> {
        for _ in 0..=MAX_TRAIL {
            let known = match self.load(&key).await? {
                Loaded::Entry(Entry::Session(record)) => Some(record),
                Loaded::Entry(Entry::Tombstone(tombstone)) => match tombstone.successor() {
                    Some(successor) => {
                        key = successor;
                        continue;
                    }
                    None => return Ok(false),
                },
                Loaded::Unreadable => None,
                Loaded::Missing => return Ok(false),
            };
            // While a session moves, it has two keys. The index has both.
            if let Some(record) = &known
                && let Some(index) = record.index_keys().first()
            {
                let is_same = |entry: &IndexEntry| entry.family == record.family;
                if self.revoke_where(index, record.owner(), is_same).await? > 0 {
                    return Ok(true);
                }
            }
            let (key, record) = match self.delete_session(key).await? {
                Some((key, record)) => (key, record.or(known)),
                None if known.is_none() => (key, None),
                None => return Ok(false),
            };
            self.report(EventKind::Revoked, key, record.as_deref());
            return Ok(true);
        }
        Err(SessionError::Contended)
    }
}

/// The end of sessions in an index.
pub(super) struct End<'e> {
    kind: EventKind,
    index: &'e IndexKey,
    /// The owner, if the index is of an owner.
    owner: Option<&'e Owner>,
    /// The ended sessions, each reported once.
    families: BTreeSet<Family>,
}

impl<'e> End<'e> {
    pub(super) fn new(kind: EventKind, index: &'e IndexKey, owner: Option<&'e Owner>) -> Self {
        Self { kind, index, owner, families: BTreeSet::new() }
    }
}

/// An index entry with its session.
pub(super) type Found = (IndexEntry, Result<Option<Arc<Record>>, StoreError>);

/// The most tombstones between a former key of a session and its present key: a renewal leaves one
/// until the absolute deadline.
const MAX_TRAIL: usize = 4_096;

/// The limit of reads of an index while its sessions move. A session that moved to another owner is
/// never found in this index.
const MAX_READS: usize = 3;
