//! The store as a server with a near cache sees it, composed in the same way as `RedisStore`.

use std::{sync::Arc, task::Poll, time::Duration};

use session_axum::MemoryStore;
use session_core::{
    Entry, LocalReads, SessionKey, StoreError, Timestamp,
    testing::{Answer, Intercept, Operation},
};
use session_redis::cache::{Changing, NearCopies, ReadMark};

use super::{NearBroken, network::World};

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
        operation: Operation,
        now: Timestamp,
    ) -> Result<(Answer, Option<ReadMark>), StoreError> {
        let ends = matches!(
            operation,
            Operation::Delete { .. }
                | Operation::DeleteOrBlock { .. }
                | Operation::Commit { entry: Entry::Tombstone(_), .. }
        );
        let keys = operation.keys();
        let (call, mark) = self.world.state().send(self.server, ends, (operation, now));
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
        if matches!(answer, Answer::Deleted(_) | Answer::DeletedOrBlocked(_)) {
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

impl LocalReads for NearStore {
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

#[session_core::async_trait]
impl Intercept<MemoryStore> for NearStore {
    async fn call(
        &self,
        _: &MemoryStore,
        operation: Operation,
        now: Timestamp,
    ) -> Result<Answer, StoreError> {
        let keys = operation.keys();
        match operation {
            Operation::Load { key } => {
                let mut fetch = self.copies.fetch(&key);
                match self.ask(operation, now).await? {
                    (Answer::Loaded(Some(entry)), Some(mark)) => {
                        if self.broken == Some(NearBroken::NoToken) {
                            fetch = self.copies.fetch(&key);
                        }
                        if !fetch.keep(&entry, &mark) {
                            self.world.state().counters.not_kept += 1;
                        }
                        Ok(Answer::Loaded(Some(entry)))
                    }
                    (answer, _) => Ok(answer),
                }
            }
            Operation::LoadMany { .. }
            | Operation::Enter { .. }
            | Operation::Leave { .. }
            | Operation::Entries { .. } => Ok(self.ask(operation, now).await?.0),
            _ => {
                let _changing = self.changing(&keys);
                Ok(self.ask(operation, now).await?.0)
            }
        }
    }

    fn local_reads<'s>(&'s self, _: &'s MemoryStore) -> Option<&'s dyn LocalReads> {
        Some(self)
    }
}
