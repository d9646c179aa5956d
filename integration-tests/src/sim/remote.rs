use std::{sync::Arc, task::Poll};

use session_axum::MemoryStore;
use session_core::{
    Committed, Entry, IndexEntry, IndexKey, StoreError, StoreErrorKind, Timestamp,
    testing::{Answer, Intercept, Operation},
};

use super::{broken::Broken, wire::World};

/// The store as a server sees it, across a network. The wrapped store is not used.
#[derive(Clone, Debug)]
pub(super) struct Remote(pub(super) Arc<World>);

impl Remote {
    async fn ask(&self, operation: Operation, now: Timestamp) -> Result<Answer, StoreError> {
        let call = self.0.send(operation, now);
        std::future::poll_fn(|_| match self.0.take_answer(call) {
            Some(answer) => Poll::Ready(answer.map_err(StoreError::new)),
            None => Poll::Pending,
        })
        .await
    }

    async fn enter(
        &self,
        indexes: &[IndexKey],
        entry: IndexEntry,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        for &index in indexes {
            self.ask(Operation::Enter { index, entry }, now).await?;
        }
        Ok(())
    }

    /// Commits in the manner of a broken client.
    async fn commit(&self, operation: Operation, now: Timestamp) -> Result<Answer, StoreError> {
        let answer = self.ask(operation.clone(), now).await;
        match (&answer, self.0.broken) {
            (Err(error), Some(broken)) if error.is_outcome_unknown() => match broken {
                Broken::NoNonce => match self.ask(operation, now).await {
                    Ok(Answer::Committed(Committed::Conflict(entry))) => {
                        let entry = Broken::without_nonce(&entry);
                        Ok(Answer::Committed(Committed::Conflict(entry)))
                    }
                    answer => answer,
                },
                Broken::TimeoutTakenForSuccess => Ok(Answer::Committed(Committed::Committed)),
                Broken::TimeoutTakenForRefusal => Err(StoreError::new(StoreErrorKind::Unavailable)),
                _ => answer,
            },
            _ => answer,
        }
    }
}

#[session_core::async_trait]
impl Intercept<MemoryStore> for Remote {
    async fn call(
        &self,
        _: &MemoryStore,
        operation: Operation,
        now: Timestamp,
    ) -> Result<Answer, StoreError> {
        match operation {
            Operation::Commit { .. } => self.commit(operation, now).await,
            Operation::CreateEntered { mut indexes, entry, session } => {
                let create = Operation::Create { key: entry.key, entry: session.clone() };
                match self.0.broken {
                    Some(Broken::IndexAfterCreate) => {
                        let created = self.ask(create, now).await?;
                        self.enter(&indexes, entry, now).await?;
                        return Ok(created);
                    }
                    Some(Broken::LinkNotEntered) => indexes.truncate(1),
                    Some(Broken::ActorNotEntered) => {
                        if let Entry::Session(record) = &session
                            && let Some(actor) = record.actor()
                        {
                            indexes.retain(|index| *index != actor.key());
                        }
                    }
                    _ => {}
                }
                if self.0.splits_creations {
                    self.enter(&indexes, entry, now).await?;
                    return self.ask(create, now).await;
                }
                self.ask(Operation::CreateEntered { indexes, entry, session }, now).await
            }
            Operation::Entries { .. } => {
                let answer = self.ask(operation, now).await?;
                match (self.0.broken, answer) {
                    (Some(Broken::LimitDoesNotCount), Answer::Entries(_))
                        if self.0.is_signing_in() =>
                    {
                        Ok(Answer::Entries(Vec::new()))
                    }
                    (Some(Broken::OwnSessionTakesAPlace), Answer::Entries(mut entries))
                        if self.0.is_signing_in() =>
                    {
                        // Each entry looks like a separate session.
                        for entry in &mut entries {
                            let key = entry.key.as_bytes();
                            let (head, _) = key.split_first_chunk().expect("a key has 16 bytes");
                            entry.family =
                                session_core::Family::from_u64(u64::from_be_bytes(*head));
                        }
                        Ok(Answer::Entries(entries))
                    }
                    (_, answer) => Ok(answer),
                }
            }
            Operation::LoadMany { .. } => {
                let answer = self.ask(operation, now).await?;
                match (self.0.broken, answer) {
                    (Some(Broken::EvictsAnotherSession), Answer::LoadedMany(mut loaded))
                        if self.0.is_signing_in() =>
                    {
                        if let [
                            Ok(Some(Entry::Session(one))),
                            Ok(Some(Entry::Session(other))),
                            ..,
                        ] = &mut loaded[..]
                        {
                            std::mem::swap(one, other);
                        }
                        Ok(Answer::LoadedMany(loaded))
                    }
                    (_, answer) => Ok(answer),
                }
            }
            _ => self.ask(operation, now).await,
        }
    }
}
