//! The store as a server with a near cache sees it: put together as `RedisStore` is.

use std::{slice, sync::Arc, task::Poll, time::Duration};

use session_core::{
    Admission, Admitted, Committed, Copies, Created, Ended, Entry, Expected, OwnerIndex, OwnerKey,
    SessionKey, SessionStore, StoreError, Timestamp, Touched,
};
use session_redis::copies::{Changing, Mark, NearCopies};

use super::{NearBroken, network::World};
use crate::simulation::command::{Answer, Command, Room, Verb};

#[derive(Clone, Debug)]
pub(super) struct NearStore {
    world: World,
    server: usize,
    copies: Arc<NearCopies>,
    broken: Option<NearBroken>,
}

impl NearStore {
    pub(super) fn new(world: &World, server: usize) -> Self {
        let state = world.state();
        let (copies, broken) = (Arc::clone(&state.servers[server].copies), state.broken);
        Self { world: world.clone(), server, copies, broken }
    }

    async fn ask(
        &self,
        keys: &[SessionKey],
        verb: Verb,
        now: Timestamp,
    ) -> Result<(Answer, Option<Mark>), StoreError> {
        let ends = matches!(
            verb,
            Verb::Delete | Verb::EndMany { .. } | Verb::Commit { entry: Entry::Moved(_), .. }
        );
        let command = Command { keys: keys.to_vec(), verb, now };
        let (call, mark) = self.world.state().send(self.server, ends, command);
        let answer = std::future::poll_fn(|_| {
            let mut state = self.world.state();
            match state.take_answer(call) {
                Some(answer) => {
                    state.done(call);
                    Poll::Ready(answer.map_err(StoreError::new))
                }
                None => Poll::Pending,
            }
        })
        .await?;
        let mut state = self.world.state();
        let time = state.time;
        if matches!(answer, Answer::Delete(_) | Answer::EndMany(_)) {
            keys.iter().for_each(|key| state.hear_end(self.server, *key, time));
        }
        drop(state);
        Ok((answer, mark))
    }

    fn changing<'c>(&'c self, keys: &'c [SessionKey]) -> Option<Changing<'c>> {
        (self.broken != Some(NearBroken::OwnChangesNotForgotten))
            .then(|| self.copies.changing(keys))
    }
}

impl Copies for NearStore {
    fn staleness(&self) -> Duration {
        self.copies.staleness()
    }

    fn find(&self, key: &SessionKey, now: Timestamp) -> Option<Entry> {
        let mut state = self.world.state();
        if self.broken == Some(NearBroken::NoBound) {
            state.prove_anything(self.server);
        }
        let found = self.copies.find(key, state.at(state.time), now)?;
        if found.wants_proof {
            state.doubts.push((self.server, *key));
        }
        state.counters.hits += 1;
        Some(found.entry)
    }
}

#[async_trait::async_trait]
impl SessionStore for NearStore {
    async fn create(
        &self,
        key: &SessionKey,
        entry: Entry,
        now: Timestamp,
    ) -> Result<Created, StoreError> {
        let _changing = self.changing(slice::from_ref(key));
        match self.ask(&[*key], Verb::Create(entry), now).await?.0 {
            Answer::Create(created) => Ok(created),
            other => Err(other.astray()),
        }
    }

    async fn load(&self, key: &SessionKey, now: Timestamp) -> Result<Option<Entry>, StoreError> {
        let mut fetch = self.copies.fetch(key);
        match self.ask(&[*key], Verb::Load, now).await? {
            (Answer::Load(Some(entry)), Some(mark)) => {
                if self.broken == Some(NearBroken::NoToken) {
                    fetch = self.copies.fetch(key);
                }
                if !fetch.keep(&entry, &mark) {
                    self.world.state().counters.not_kept += 1;
                }
                Ok(Some(entry))
            }
            (Answer::Load(entry), _) => Ok(entry),
            (other, _) => Err(other.astray()),
        }
    }

    async fn commit(
        &self,
        key: &SessionKey,
        expected: Expected,
        entry: Entry,
        now: Timestamp,
    ) -> Result<Committed, StoreError> {
        let _changing = self.changing(slice::from_ref(key));
        match self.ask(&[*key], Verb::Commit { expected, entry }, now).await?.0 {
            Answer::Commit(committed) => Ok(committed),
            other => Err(other.astray()),
        }
    }

    async fn touch(&self, key: &SessionKey, now: Timestamp) -> Result<Touched, StoreError> {
        let _changing = self.changing(slice::from_ref(key));
        match self.ask(&[*key], Verb::Touch, now).await?.0 {
            Answer::Touch(touched) => Ok(touched),
            other => Err(other.astray()),
        }
    }

    async fn delete(&self, key: &SessionKey, now: Timestamp) -> Result<Option<Entry>, StoreError> {
        let _changing = self.changing(slice::from_ref(key));
        match self.ask(&[*key], Verb::Delete, now).await?.0 {
            Answer::Delete(entry) => Ok(entry),
            other => Err(other.astray()),
        }
    }

    fn copies(&self) -> Option<&dyn Copies> {
        Some(self)
    }
}

#[async_trait::async_trait]
impl OwnerIndex for NearStore {
    async fn enter(
        &self,
        owner: &OwnerKey,
        key: &SessionKey,
        until: Timestamp,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.ask(&[*key], Verb::Enter { owner: *owner, until }, now).await.map(drop)
    }

    async fn admit(
        &self,
        owner: &OwnerKey,
        key: &SessionKey,
        until: Timestamp,
        admission: &Admission<'_>,
        now: Timestamp,
    ) -> Result<Admitted, StoreError> {
        let verb = Verb::Admit { owner: *owner, until, room: Room::of(admission) };
        match self.ask(&[*key], verb, now).await?.0 {
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
        let _changing = self.changing(slice::from_ref(key));
        let verb = Verb::CreateEntered { owner: *owner, until, entry };
        match self.ask(&[*key], verb, now).await?.0 {
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
        self.ask(keys, Verb::Leave { owner: *owner }, now).await.map(drop)
    }

    async fn entries(
        &self,
        owner: &OwnerKey,
        now: Timestamp,
    ) -> Result<Vec<SessionKey>, StoreError> {
        match self.ask(&[], Verb::Entries { owner: *owner }, now).await?.0 {
            Answer::Entries(keys) => Ok(keys),
            other => Err(other.astray()),
        }
    }

    async fn load_many(
        &self,
        keys: &[SessionKey],
        now: Timestamp,
    ) -> Result<Vec<Result<Option<Entry>, StoreError>>, StoreError> {
        match self.ask(keys, Verb::LoadMany, now).await?.0 {
            Answer::LoadMany(entries) => Ok(entries.into_iter().map(Ok).collect()),
            other => Err(other.astray()),
        }
    }

    async fn end_many(
        &self,
        keys: &[SessionKey],
        marker: Entry,
        now: Timestamp,
    ) -> Result<Vec<Ended>, StoreError> {
        let _changing = self.changing(keys);
        match self.ask(keys, Verb::EndMany { marker }, now).await?.0 {
            Answer::EndMany(ended) => Ok(ended),
            other => Err(other.astray()),
        }
    }
}
