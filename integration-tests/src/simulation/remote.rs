use std::{sync::Arc, task::Poll};

use session_core::{
    Admission, Admitted, Committed, Created, Ended, Entry, Expected, OwnerIndex, OwnerKey,
    SessionKey, SessionStore, StoreError, StoreErrorKind, Timestamp, Touched,
};

use super::{
    broken::Broken,
    command::{Answer, Room, Verb},
    wire::World,
};

/// The store as a server sees it: far away.
#[derive(Clone, Debug)]
pub(super) struct Remote(pub(super) Arc<World>);

impl Remote {
    async fn ask(
        &self,
        keys: &[SessionKey],
        verb: Verb,
        now: Timestamp,
    ) -> Result<Answer, StoreError> {
        let call = self.0.send(keys.to_vec(), verb, now);
        std::future::poll_fn(|_| match self.0.take_answer(call) {
            Some(answer) => Poll::Ready(answer.map_err(StoreError::new)),
            None => Poll::Pending,
        })
        .await
    }

    async fn ask_to_do(
        &self,
        keys: &[SessionKey],
        verb: Verb,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        match self.ask(keys, verb, now).await? {
            Answer::Done => Ok(()),
            other => Err(other.astray()),
        }
    }

    /// Commits, as a client that is broken would if this one is.
    async fn ask_to_commit(
        &self,
        key: &SessionKey,
        verb: Verb,
        now: Timestamp,
    ) -> Result<Answer, StoreError> {
        let answer = self.ask(&[*key], verb.clone(), now).await;
        match (&answer, self.0.broken) {
            (Err(error), Some(broken)) if error.is_outcome_unknown() => match broken {
                Broken::NoNonce => match self.ask(&[*key], verb, now).await {
                    Ok(Answer::Commit(Committed::Conflict(entry))) => {
                        Ok(Answer::Commit(Committed::Conflict(Broken::without_nonce(&entry))))
                    }
                    answer => answer,
                },
                Broken::TimeoutTakenForSuccess => Ok(Answer::Commit(Committed::Committed)),
                Broken::TimeoutTakenForRefusal => Err(StoreError::new(StoreErrorKind::Unavailable)),
                _ => answer,
            },
            _ => answer,
        }
    }
}

#[async_trait::async_trait]
impl SessionStore for Remote {
    async fn create(
        &self,
        key: &SessionKey,
        entry: Entry,
        now: Timestamp,
    ) -> Result<Created, StoreError> {
        match self.ask(&[*key], Verb::Create(entry), now).await? {
            Answer::Create(created) => Ok(created),
            other => Err(other.astray()),
        }
    }

    async fn load(&self, key: &SessionKey, now: Timestamp) -> Result<Option<Entry>, StoreError> {
        match self.ask(&[*key], Verb::Load, now).await? {
            Answer::Load(entry) => Ok(entry),
            other => Err(other.astray()),
        }
    }

    async fn commit(
        &self,
        key: &SessionKey,
        expected: Expected,
        entry: Entry,
        now: Timestamp,
    ) -> Result<Committed, StoreError> {
        match self.ask_to_commit(key, Verb::Commit { expected, entry }, now).await? {
            Answer::Commit(committed) => Ok(committed),
            other => Err(other.astray()),
        }
    }

    async fn touch(&self, key: &SessionKey, now: Timestamp) -> Result<Touched, StoreError> {
        match self.ask(&[*key], Verb::Touch, now).await? {
            Answer::Touch(touched) => Ok(touched),
            other => Err(other.astray()),
        }
    }

    async fn delete(&self, key: &SessionKey, now: Timestamp) -> Result<Option<Entry>, StoreError> {
        match self.ask(&[*key], Verb::Delete, now).await? {
            Answer::Delete(entry) => Ok(entry),
            other => Err(other.astray()),
        }
    }
}

#[async_trait::async_trait]
impl OwnerIndex for Remote {
    async fn enter(
        &self,
        owner: &OwnerKey,
        key: &SessionKey,
        until: Timestamp,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.ask_to_do(&[*key], Verb::Enter { owner: *owner, until }, now).await
    }

    async fn admit(
        &self,
        owner: &OwnerKey,
        key: &SessionKey,
        until: Timestamp,
        admission: &Admission<'_>,
        now: Timestamp,
    ) -> Result<Admitted, StoreError> {
        self.0.asks_for_room(*owner);
        match self.0.broken {
            Some(Broken::AdmitDoesNotCount) => {
                self.enter(owner, key, until, now).await?;
                return Ok(Admitted::Admitted);
            }
            Some(Broken::AdmitInTwoSteps) => {
                let mut others = self.entries(owner, now).await?;
                let is_other = |other: &SessionKey| {
                    other != key
                        && !admission.replaces.contains(other)
                        && !admission.ended.contains(other)
                };
                others.retain(is_other);
                if admission.count(&others) >= admission.max.get() {
                    return Ok(Admitted::Full(others));
                }
                self.leave(owner, admission.ended, now).await?;
                self.enter(owner, key, until, now).await?;
                return Ok(Admitted::Admitted);
            }
            _ => {}
        }
        let admission = match self.0.broken {
            Some(Broken::OwnSessionTakesAPlace) => Admission { replaces: &[], ..*admission },
            _ => *admission,
        };
        let verb = Verb::Admit { owner: *owner, until, room: Room::of(&admission) };
        match self.ask(&[*key], verb, now).await? {
            Answer::Admit(admitted) => Ok(admitted),
            other => Err(other.astray()),
        }
    }

    async fn create_entered(
        &self,
        owner: &OwnerKey,
        until: Timestamp,
        key: &SessionKey,
        entry: Entry,
        now: Timestamp,
    ) -> Result<Created, StoreError> {
        if self.0.broken == Some(Broken::IndexAfterCreate) {
            let created = self.create(key, entry, now).await?;
            self.enter(owner, key, until, now).await?;
            return Ok(created);
        }
        if self.0.splits_creations {
            self.enter(owner, key, until, now).await?;
            return self.create(key, entry, now).await;
        }
        match self.ask(&[*key], Verb::CreateEntered { owner: *owner, until, entry }, now).await? {
            Answer::Create(created) => Ok(created),
            other => Err(other.astray()),
        }
    }

    async fn leave(
        &self,
        owner: &OwnerKey,
        keys: &[SessionKey],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.ask_to_do(keys, Verb::Leave { owner: *owner }, now).await
    }

    async fn entries(
        &self,
        owner: &OwnerKey,
        now: Timestamp,
    ) -> Result<Vec<SessionKey>, StoreError> {
        match self.ask(&[], Verb::Entries { owner: *owner }, now).await? {
            Answer::Entries(keys) => Ok(keys),
            other => Err(other.astray()),
        }
    }

    async fn load_many(
        &self,
        keys: &[SessionKey],
        now: Timestamp,
    ) -> Result<Vec<Result<Option<Entry>, StoreError>>, StoreError> {
        match self.ask(keys, Verb::LoadMany, now).await? {
            Answer::LoadMany(mut entries) => {
                if self.0.broken == Some(Broken::EvictsAnotherSession)
                    && self.0.is_asking_for_room()
                    // The last may be that of the session that signs in.
                    && let [Some(Entry::Live(one)), Some(Entry::Live(other)), _, ..] = &mut entries[..]
                    && one.owner() == other.owner()
                {
                    std::mem::swap(one, other);
                }
                Ok(entries.into_iter().map(Ok).collect())
            }
            other => Err(other.astray()),
        }
    }

    async fn end_many(
        &self,
        keys: &[SessionKey],
        marker: Entry,
        now: Timestamp,
    ) -> Result<Vec<Ended>, StoreError> {
        match self.ask(keys, Verb::EndMany { marker }, now).await? {
            Answer::EndMany(ended) => Ok(ended),
            other => Err(other.astray()),
        }
    }
}
