//! What the broken variants do at the store.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use session_core::{
    Backend, Committed, Created, Ended, Entry, OwnerKey, SessionKey, StoreError, Timestamp, Touched,
};

use super::{
    broken::Broken,
    command::{Answer, Command, Verb},
    wire::Call,
};

/// A store behind a variant that may be broken.
pub(super) struct Shop {
    store: Arc<dyn Backend>,
    broken: Option<Broken>,
    /// What each request loaded.
    loaded: BTreeMap<(usize, SessionKey), Entry>,
    /// The last two of each key.
    stored: BTreeMap<SessionKey, [Option<Entry>; 2]>,
    held: BTreeMap<SessionKey, Call>,
    created: BTreeSet<SessionKey>,
    /// What each request stored when it took a lock.
    leased: BTreeMap<usize, Entry>,
}

/// What came of a call: its answer, and a call that was held back until now.
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

    /// What is stored, expired or not.
    pub(super) async fn look(&self, key: &SessionKey) -> Result<Option<Entry>, StoreError> {
        self.store.load(key, LONG_AGO).await
    }

    /// Tells whether an owner's index holds a key beyond an instant.
    pub(super) async fn holds(
        &self,
        owner: &OwnerKey,
        key: &SessionKey,
        beyond: Timestamp,
    ) -> Result<bool, StoreError> {
        Ok(self.store.entries(owner, beyond).await?.contains(key))
    }

    /// Carries out a call; `moves` tells whether it is of a session that moves.
    pub(super) async fn carry_out(&mut self, call: &Call, moves: bool) -> Result<Done, StoreError> {
        let Some(broken) = self.broken else { return self.honest(call).await };
        let Command { keys, verb, now } = &call.command;
        let key = keys.first().unwrap_or(&NO_KEY);
        match (broken, verb) {
            (
                Broken::DeleteBeforeCreate,
                Verb::Create(Entry::Live(_)) | Verb::CreateEntered { .. },
            ) if moves => {
                self.held.insert(*key, call.clone());
                return Ok((Answer::Create(Created::Created), None));
            }
            (Broken::DeleteBeforeCreate, Verb::Commit { entry: Entry::Moved(tombstone), .. }) => {
                let held = tombstone.successor().and_then(|key| self.held.remove(&key));
                let (answer, _) = self.honest(call).await?;
                return Ok((answer, held));
            }
            (Broken::NoRevisionCheck, Verb::Commit { entry, .. }) => {
                let replaced = self.overwrite(key, entry, *now).await?;
                if replaced {
                    return Ok((Answer::Commit(Committed::Committed), None));
                }
            }
            (Broken::LoginLeavesOldId, Verb::Commit { entry: Entry::Moved(tombstone), .. })
                if tombstone.opens_until().is_none() =>
            {
                return Ok((Answer::Commit(Committed::Committed), None));
            }
            (Broken::CommitIgnoresDeadline, Verb::Commit { expected, entry }) => {
                let store = &self.store;
                let answer = store.commit(key, *expected, entry.clone(), LONG_AGO).await?;
                return Ok((Answer::Commit(answer), None));
            }
            (Broken::LeaseNotChecked, Verb::Commit { expected, entry: entry @ Entry::Live(_) }) => {
                let short = Broken::with_short_lease(entry);
                let answer = self.store.commit(key, *expected, short, *now).await?;
                let answer = self.spoiled(broken, call, Answer::Commit(answer)).await?;
                return Ok((answer, None));
            }
            (Broken::IndexNotKept, Verb::Enter { .. }) => return Ok((Answer::Done, None)),
            (Broken::TouchThatForgets, Verb::Touch) => {
                return Ok((Answer::Touch(Touched::Touched), None));
            }
            (Broken::TouchThatRewrites, Verb::Touch) => {
                if let Some(Entry::Live(record)) = self.loaded.get(&(call.request, *key)).cloned()
                    && self.overwrite(key, &Entry::Live(Arc::new(record.seen(*now))), *now).await?
                {
                    return Ok((Answer::Touch(Touched::Touched), None));
                }
            }
            (Broken::LoadIgnoresDeadline, Verb::Load) => {
                if let Some(Entry::Live(record)) = self.look(key).await?
                    && *now >= record.expires_at()
                {
                    let record = Arc::new(record.seen(*now));
                    return Ok((Answer::Load(Some(Entry::Live(record))), None));
                }
            }
            _ => {}
        }
        let (answer, _) = self.honest(call).await?;
        Ok((self.spoiled(broken, call, answer).await?, None))
    }

    async fn honest(&mut self, call: &Call) -> Result<Done, StoreError> {
        let again = match &call.command.verb {
            Verb::Create(Entry::Live(_)) | Verb::CreateEntered { .. } => {
                !self.created.insert(call.command.key())
            }
            _ => false,
        };
        if again && self.broken != Some(Broken::CreationAfterTheEnd) {
            // The protocol sends a creation once: the network has repeated it, which TCP does not.
            return Ok((Answer::Create(Created::Exists), None));
        }
        let answer = call.command.carry_out(&*self.store).await?;
        Ok((answer, None))
    }

    /// What a broken variant makes of the store's answer.
    async fn spoiled(
        &mut self,
        broken: Broken,
        call: &Call,
        answer: Answer,
    ) -> Result<Answer, StoreError> {
        let Command { keys, verb, now } = &call.command;
        let key = keys.first().unwrap_or(&NO_KEY);
        Ok(match (broken, verb, answer) {
            (Broken::UpsertOnGone, Verb::Commit { entry, .. }, Answer::Commit(Committed::Gone)) => {
                self.store.create(key, entry.clone(), *now).await?;
                Answer::Commit(Committed::Committed)
            }
            (
                Broken::ConflictNotReplayed,
                Verb::Commit { entry: Entry::Live(_), .. },
                Answer::Commit(Committed::Conflict(Entry::Live(_))),
            ) => Answer::Commit(Committed::Committed),
            (
                Broken::LeaseNotChecked,
                Verb::Commit { entry, .. },
                Answer::Commit(Committed::Committed),
            ) if call.attempt.locks => {
                self.leased.insert(call.request, entry.clone());
                Answer::Commit(Committed::Committed)
            }
            (
                Broken::LeaseNotChecked,
                Verb::Commit { .. },
                Answer::Commit(Committed::Conflict(newer @ Entry::Live(_))),
            ) if !call.attempt.locks && self.leased.contains_key(&call.request) => {
                let newer = Broken::with_lease_of(&newer, &self.leased[&call.request]);
                Answer::Commit(Committed::Conflict(newer))
            }
            (Broken::EndStopsAtTombstone, _, Answer::Delete(Some(Entry::Moved(_)))) => {
                Answer::Delete(None)
            }
            (Broken::GraceWithoutEnd, _, Answer::Load(Some(Entry::Moved(tombstone))))
                if tombstone.opens_until().is_some_and(|until| until <= *now) =>
            {
                let successor = tombstone.successor().unwrap_or(NO_KEY);
                Answer::Load(self.store.load(&successor, *now).await?)
            }
            (Broken::TouchThatRewrites, _, Answer::Load(Some(entry))) => {
                self.loaded.insert((call.request, *key), entry.clone());
                Answer::Load(Some(entry))
            }
            (Broken::ReadsAnOldCopy, Verb::Load, Answer::Load(Some(entry))) => {
                let copy = self.stored.get(key).and_then(|[_, old]| old.clone());
                Answer::Load(Some(copy.unwrap_or(entry)))
            }
            (
                Broken::ReadsAnOldCopy,
                Verb::Create(_) | Verb::CreateEntered { .. } | Verb::Commit { .. },
                answer,
            ) => {
                let now = self.look(key).await?;
                let copies = self.stored.entry(*key).or_default();
                *copies = [now, copies[0].take()];
                answer
            }
            (Broken::RevocationStopsAtTombstone, _, Answer::EndMany(answers)) => {
                let stopped = |answer| match answer {
                    Ended::Moved(_) => Ended::Barred,
                    answer => answer,
                };
                Answer::EndMany(answers.into_iter().map(stopped).collect())
            }
            (_, _, answer) => answer,
        })
    }

    /// Replaces a session, whatever its revision is, if there is one.
    async fn overwrite(
        &self,
        key: &SessionKey,
        entry: &Entry,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let Some(Entry::Live(present)) = self.look(key).await? else { return Ok(false) };
        let answer = self.store.commit(key, (&*present).into(), entry.clone(), now).await?;
        Ok(answer == Committed::Committed)
    }
}

/// An instant at which nothing has expired.
const LONG_AGO: Timestamp = Timestamp::from_millis(0);

/// A key of nothing, for commands that are about none.
const NO_KEY: SessionKey = SessionKey::from_bytes([0; SessionKey::LEN]);
