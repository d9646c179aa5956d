//! The effects of the broken variants on the store.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use session_core::{
    Backend, Committed, Created, Ended, Entry, IndexKey, SessionKey, Sessions, StoreError,
    Timestamp, Touched,
    testing::{Answer, Operation},
};

use super::{broken::Broken, ledger::Call};

/// A store behind the protocol or a broken variant of it.
pub(super) struct Shop {
    store: Arc<dyn Backend>,
    broken: Option<Broken>,
    /// The last entry that each request loaded under each key.
    loaded: BTreeMap<(usize, SessionKey), Entry>,
    /// The last two entries of each key.
    stored: BTreeMap<SessionKey, [Option<Entry>; 2]>,
    held: BTreeMap<SessionKey, Call>,
    created: BTreeSet<SessionKey>,
    /// The entry that each request stored when it took a lock.
    leased: BTreeMap<usize, Entry>,
}

/// The result of a call: its answer, and another call that was held back until now.
pub(super) type Done = (Answer, Option<Call>);

impl Shop {
    pub(super) fn new(store: Arc<dyn Backend>, broken: Option<Broken>) -> Self {
        Self {
            store,
            broken,
            loaded: BTreeMap::new(),
            stored: BTreeMap::new(),
            held: BTreeMap::new(),
            created: BTreeSet::new(),
            leased: BTreeMap::new(),
        }
    }

    /// Returns the stored entry, expired or not.
    pub(super) async fn look(&self, key: &SessionKey) -> Result<Option<Entry>, StoreError> {
        self.store.load(key, LONG_AGO).await
    }

    /// Returns `true` if an index holds a key beyond an instant.
    pub(super) async fn holds(
        &self,
        index: &IndexKey,
        key: &SessionKey,
        beyond: Timestamp,
    ) -> Result<bool, StoreError> {
        let entries = self.store.entries(index, beyond).await?;
        Ok(entries.iter().any(|entry| entry.key == *key))
    }

    /// Performs a call. `moves` is `true` if the call belongs to the move of a session.
    pub(super) async fn carry_out(&mut self, call: &Call, moves: bool) -> Result<Done, StoreError> {
        let Some(broken) = self.broken else { return self.honest(call).await };
        let now = call.now;
        match (broken, &call.operation) {
            (
                Broken::DeleteBeforeCreate,
                Operation::Create { entry: Entry::Session(_), .. }
                | Operation::CreateEntered { .. },
            ) if moves => {
                self.held.insert(call.key(), call.clone());
                return Ok((Answer::Created(Created::Created), None));
            }
            (
                Broken::DeleteBeforeCreate,
                Operation::Commit { entry: Entry::Tombstone(tombstone), .. },
            ) => {
                let held = tombstone.successor().and_then(|key| self.held.remove(&key));
                let (answer, _) = self.honest(call).await?;
                return Ok((answer, held));
            }
            (Broken::NoRevisionCheck, Operation::Commit { key, entry, .. }) => {
                let replaced = self.overwrite(key, entry, now).await?;
                if replaced {
                    return Ok((Answer::Committed(Committed::Committed), None));
                }
            }
            (
                Broken::LoginLeavesOldId,
                Operation::Commit { entry: Entry::Tombstone(tombstone), .. },
            ) if !tombstone.is_renewal() => {
                return Ok((Answer::Committed(Committed::Committed), None));
            }
            (Broken::CommitIgnoresDeadline, Operation::Commit { key, expected, entry }) => {
                let store = &self.store;
                let answer = store.commit(key, *expected, entry.clone(), LONG_AGO).await?;
                return Ok((Answer::Committed(answer), None));
            }
            (
                Broken::LeaseNotChecked,
                Operation::Commit { key, expected, entry: entry @ Entry::Session(_) },
            ) => {
                let short = Broken::with_short_lease(entry);
                let answer = self.store.commit(key, *expected, short, now).await?;
                let answer = self.spoiled(broken, call, Answer::Committed(answer)).await?;
                return Ok((answer, None));
            }
            (
                Broken::RenewalForgottenEarly,
                Operation::Commit { key, expected, entry: entry @ Entry::Tombstone(tombstone) },
            ) if tombstone.is_renewal() => {
                let entry = Broken::that_ends_at(entry, now + Sessions::ROTATION_WINDOW);
                let answer = self.store.commit(key, *expected, entry, now).await?;
                return Ok((Answer::Committed(answer), None));
            }
            (Broken::IndexNotKept, Operation::Enter { .. }) => return Ok((Answer::Entered, None)),
            (Broken::TouchThatForgets, Operation::Touch { .. }) => {
                return Ok((Answer::Touched(Touched::Touched), None));
            }
            (Broken::TouchThatRewrites, Operation::Touch { key }) => {
                if let Some(Entry::Session(record)) =
                    self.loaded.get(&(call.request, *key)).cloned()
                    && self.overwrite(key, &Entry::Session(Arc::new(record.seen(now))), now).await?
                {
                    return Ok((Answer::Touched(Touched::Touched), None));
                }
            }
            (Broken::LoadIgnoresDeadline, Operation::Load { key }) => {
                if let Some(Entry::Session(record)) = self.look(key).await?
                    && now >= record.expires_at()
                {
                    let record = Arc::new(record.seen(now));
                    return Ok((Answer::Loaded(Some(Entry::Session(record))), None));
                }
            }
            _ => {}
        }
        let (answer, _) = self.honest(call).await?;
        Ok((self.spoiled(broken, call, answer).await?, None))
    }

    async fn honest(&mut self, call: &Call) -> Result<Done, StoreError> {
        let again = match &call.operation {
            Operation::Create { entry: Entry::Session(_), .. }
            | Operation::CreateEntered { .. } => !self.created.insert(call.key()),
            _ => false,
        };
        if again && self.broken != Some(Broken::CreationAfterTheEnd) {
            // The protocol sends a creation once, so the network has repeated it. TCP does not do so.
            return Ok((Answer::Created(Created::Exists), None));
        }
        let answer = call.operation.clone().perform(&*self.store, call.now).await?;
        Ok((answer, None))
    }

    /// Returns the answer that a broken variant derives from the store's answer.
    async fn spoiled(
        &mut self,
        broken: Broken,
        call: &Call,
        answer: Answer,
    ) -> Result<Answer, StoreError> {
        Ok(match (broken, &call.operation, answer) {
            (
                Broken::UpsertOnGone,
                Operation::Commit { key, entry, .. },
                Answer::Committed(Committed::Gone),
            ) => {
                self.store.create(key, entry.clone(), call.now).await?;
                Answer::Committed(Committed::Committed)
            }
            (
                Broken::ConflictNotReplayed,
                Operation::Commit { entry: Entry::Session(_), .. },
                Answer::Committed(Committed::Conflict(Entry::Session(_))),
            ) => Answer::Committed(Committed::Committed),
            (
                Broken::LeaseNotChecked,
                Operation::Commit { entry, .. },
                Answer::Committed(Committed::Committed),
            ) if call.attempt.locks => {
                self.leased.insert(call.request, entry.clone());
                Answer::Committed(Committed::Committed)
            }
            (
                Broken::LeaseNotChecked,
                Operation::Commit { .. },
                Answer::Committed(Committed::Conflict(newer @ Entry::Session(_))),
            ) if !call.attempt.locks && self.leased.contains_key(&call.request) => {
                let newer = Broken::with_lease_of(&newer, &self.leased[&call.request]);
                Answer::Committed(Committed::Conflict(newer))
            }
            (Broken::EndStopsAtTombstone, _, Answer::Deleted(Some(Entry::Tombstone(_)))) => {
                Answer::Deleted(None)
            }
            (Broken::GraceWithoutEnd, _, Answer::Loaded(Some(entry))) => {
                Answer::Loaded(Some(Broken::without_presentation(&entry)))
            }
            (Broken::SecondLogoutRemoves, Operation::Load { key }, Answer::Loaded(Some(entry))) => {
                self.loaded.insert((call.request, *key), entry.clone());
                Answer::Loaded(Some(entry))
            }
            (Broken::SecondLogoutRemoves, Operation::Delete { key }, Answer::Deleted(None)) => {
                Answer::Deleted(self.loaded.get(&(call.request, *key)).cloned())
            }
            (Broken::SecondLoginBeginsAnew, Operation::Load { .. }, Answer::Loaded(_))
                if call.attempt.carries && call.attempt.life.is_none() =>
            {
                Answer::Loaded(None)
            }
            (Broken::TellsAnOutdatedId, Operation::Load { key }, Answer::Loaded(Some(entry))) => {
                let first = self.loaded.get(&(call.request, *key)).cloned();
                if let Entry::Session(_) = &entry {
                    self.loaded.insert((call.request, *key), entry.clone());
                }
                Answer::Loaded(Some(first.unwrap_or(entry)))
            }
            (Broken::LateRequestBeginsAnew, _, Answer::Loaded(Some(entry))) => {
                Answer::Loaded(Some(Broken::aged(&entry)))
            }
            (Broken::RenewalWithoutGrace, _, Answer::Loaded(Some(entry))) => {
                Answer::Loaded(Some(Broken::with_presentation(&entry)))
            }
            (Broken::OvertakenGoesOn, _, Answer::Committed(Committed::Conflict(entry))) => {
                Answer::Committed(Committed::Conflict(Broken::as_renewal(&entry)))
            }
            (
                Broken::ActingLooksLikeARotation,
                _,
                Answer::Committed(Committed::Conflict(entry)),
            ) => Answer::Committed(Committed::Conflict(Broken::as_rotation(&entry))),
            (Broken::TouchThatRewrites, Operation::Load { key }, Answer::Loaded(Some(entry))) => {
                self.loaded.insert((call.request, *key), entry.clone());
                Answer::Loaded(Some(entry))
            }
            (Broken::ReadsAnOldCopy, Operation::Load { key }, Answer::Loaded(Some(entry))) => {
                let copy = self.stored.get(key).and_then(|[_, old]| old.clone());
                Answer::Loaded(Some(copy.unwrap_or(entry)))
            }
            (
                Broken::ReadsAnOldCopy,
                Operation::Create { .. }
                | Operation::CreateEntered { .. }
                | Operation::Commit { .. },
                answer,
            ) => {
                let key = call.key();
                let now = self.look(&key).await?;
                let copies = self.stored.entry(key).or_default();
                *copies = [now, copies[0].take()];
                answer
            }
            (Broken::RevocationStopsAtTombstone, _, Answer::DeletedOrBlocked(answers)) => {
                let stopped = |answer| match answer {
                    Ended::Tombstone(_) => Ended::Blocked,
                    answer => answer,
                };
                Answer::DeletedOrBlocked(answers.into_iter().map(stopped).collect())
            }
            (_, _, answer) => answer,
        })
    }

    /// Replaces the session under the key, whatever its revision. Returns `false` if there is none.
    async fn overwrite(
        &self,
        key: &SessionKey,
        entry: &Entry,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let Some(Entry::Session(present)) = self.look(key).await? else { return Ok(false) };
        let answer = self.store.commit(key, (&*present).into(), entry.clone(), now).await?;
        Ok(answer == Committed::Committed)
    }
}

/// An instant before any expiry.
const LONG_AGO: Timestamp = Timestamp::from_millis(0);
