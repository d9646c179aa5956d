use std::fmt;

use async_trait::async_trait;

use super::{Answer, Operation};
use crate::{
    Backend, Committed, Created, Ended, Entry, Expected, IndexEntry, IndexKey, LocalReads,
    SessionIndex, SessionKey, SessionStore, StoreError, Timestamp, Tombstone, Touched, Watch,
    Watched, store::load_each,
};

/// A store that passes every call through one function.
///
/// ```
/// # mod map_store {
/// #     include!(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/map_store/store.rs"));
/// # }
/// # use map_store::MapStore;
/// use session_core::{
///     Backend, StoreError, StoreErrorKind, Timestamp,
///     testing::{Answer, Intercept, Intercepted, Operation},
/// };
///
/// /// Refuses to create sessions, like a full store.
/// struct Full;
///
/// #[session_core::async_trait]
/// impl<S: Backend> Intercept<S> for Full {
///     async fn call(
///         &self,
///         store: &S,
///         operation: Operation,
///         now: Timestamp,
///     ) -> Result<Answer, StoreError> {
///         match operation {
///             Operation::Create { .. } => Err(StoreError::new(StoreErrorKind::Full)),
///             _ => operation.perform(store, now).await,
///         }
///     }
///
///     fn splits(&self) -> bool {
///         true // `CreateEntered` becomes a `Create` too
///     }
/// }
///
/// let store = Intercepted::new(MapStore::default(), Full);
/// ```
pub struct Intercepted<S, I> {
    store: S,
    intercept: I,
}

/// The function of an [`Intercepted`] store.
#[async_trait]
pub trait Intercept<S>: Send + Sync + 'static {
    /// Answers an operation. Usually [performs](Operation::perform) the operation on the store,
    /// with code before or after.
    ///
    /// # Errors
    ///
    /// Returns the errors of the store, or others.
    async fn call(
        &self,
        store: &S,
        operation: Operation,
        now: Timestamp,
    ) -> Result<Answer, StoreError>;

    /// Returns the store's local reads, by default those of the wrapped store. Local reads bypass
    /// [`call`](Self::call); with `None`, every load is a call.
    fn local_reads<'s>(&'s self, store: &'s S) -> Option<&'s dyn LocalReads>
    where
        S: SessionStore,
    {
        store.local_reads()
    }

    /// Begins a watch of a key, by default with the wrapped store. Returns `None` if the store
    /// reports no changes. The [`call`](Self::call) that loads the entry follows.
    ///
    /// # Errors
    ///
    /// Returns the errors of the store, or others.
    async fn watch(
        &self,
        store: &S,
        key: &SessionKey,
        now: Timestamp,
    ) -> Result<Option<Watch>, StoreError>
    where
        S: SessionStore,
    {
        Ok(store.watch(key, now).await?.watch)
    }

    /// Returns `true` if a verb on many keys or indexes is one call for each of them: `LoadMany`
    /// becomes `Load`s, `CreateEntered` becomes `Enter`s and a `Create`, and `DeleteOrBlock`
    /// receives one key. A double that changes one of these verbs then sees every use. By default
    /// `false`.
    fn splits(&self) -> bool {
        false
    }
}

impl<S: Backend, I: Intercept<S>> Intercepted<S, I> {
    /// Creates a store around another store.
    pub const fn new(store: S, intercept: I) -> Self {
        Self { store, intercept }
    }

    /// Returns the wrapped store.
    pub const fn store(&self) -> &S {
        &self.store
    }

    /// Returns the function.
    pub const fn intercept(&self) -> &I {
        &self.intercept
    }

    async fn call(&self, operation: Operation, now: Timestamp) -> Result<Answer, StoreError> {
        self.intercept.call(&self.store, operation, now).await
    }
}

/// Unwraps the answer of one kind of operation.
macro_rules! expect_answer {
    ($answer:expr, $variant:ident) => {
        match $answer {
            Answer::$variant(answer) => Ok(answer),
            other => panic!("the interceptor answered another operation: {other:?}"),
        }
    };
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl<S: Backend, I: Intercept<S>> SessionStore for Intercepted<S, I> {
    async fn create(
        &self,
        key: &SessionKey,
        entry: Entry,
        now: Timestamp,
    ) -> Result<Created, StoreError> {
        expect_answer!(self.call(Operation::Create { key: *key, entry }, now).await?, Created)
    }

    async fn load(&self, key: &SessionKey, now: Timestamp) -> Result<Option<Entry>, StoreError> {
        expect_answer!(self.call(Operation::Load { key: *key }, now).await?, Loaded)
    }

    async fn commit(
        &self,
        key: &SessionKey,
        expected: Expected,
        entry: Entry,
        now: Timestamp,
    ) -> Result<Committed, StoreError> {
        let operation = Operation::Commit { key: *key, expected, entry };
        expect_answer!(self.call(operation, now).await?, Committed)
    }

    async fn touch(&self, key: &SessionKey, now: Timestamp) -> Result<Touched, StoreError> {
        expect_answer!(self.call(Operation::Touch { key: *key }, now).await?, Touched)
    }

    async fn delete(&self, key: &SessionKey, now: Timestamp) -> Result<Option<Entry>, StoreError> {
        expect_answer!(self.call(Operation::Delete { key: *key }, now).await?, Deleted)
    }

    async fn load_many(
        &self,
        keys: &[SessionKey],
        now: Timestamp,
    ) -> Result<Vec<Result<Option<Entry>, StoreError>>, StoreError> {
        if self.intercept.splits() {
            return load_each(self, keys, now).await;
        }
        let operation = Operation::LoadMany { keys: keys.to_vec() };
        expect_answer!(self.call(operation, now).await?, LoadedMany)
    }

    async fn delete_or_block(
        &self,
        keys: &[SessionKey],
        marker: Tombstone,
        now: Timestamp,
    ) -> Result<Vec<Ended>, StoreError> {
        if self.intercept.splits() && keys.len() != 1 {
            let mut answers = Vec::with_capacity(keys.len());
            for key in keys {
                answers.extend(self.delete_or_block(&[*key], marker.clone(), now).await?);
            }
            return Ok(answers);
        }
        let operation = Operation::DeleteOrBlock { keys: keys.to_vec(), marker };
        expect_answer!(self.call(operation, now).await?, DeletedOrBlocked)
    }

    async fn ping(&self, now: Timestamp) -> Result<(), StoreError> {
        self.call(Operation::Ping, now).await?;
        Ok(())
    }

    fn local_reads(&self) -> Option<&dyn LocalReads> {
        self.intercept.local_reads(&self.store)
    }

    /// The load is a call. The watch begins before the call.
    async fn watch(&self, key: &SessionKey, now: Timestamp) -> Result<Watched, StoreError> {
        let watch = self.intercept.watch(&self.store, key, now).await?;
        Ok(Watched { entry: self.load(key, now).await?, watch })
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl<S: Backend, I: Intercept<S>> SessionIndex for Intercepted<S, I> {
    async fn enter(
        &self,
        index: &IndexKey,
        entry: IndexEntry,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.call(Operation::Enter { index: *index, entry }, now).await?;
        Ok(())
    }

    async fn leave(
        &self,
        index: &IndexKey,
        entries: &[IndexEntry],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.call(Operation::Leave { index: *index, entries: entries.to_vec() }, now).await?;
        Ok(())
    }

    async fn entries(
        &self,
        index: &IndexKey,
        now: Timestamp,
    ) -> Result<Vec<IndexEntry>, StoreError> {
        expect_answer!(self.call(Operation::Entries { index: *index }, now).await?, Entries)
    }

    async fn create_entered(
        &self,
        indexes: &[IndexKey],
        entry: IndexEntry,
        session: Entry,
        now: Timestamp,
    ) -> Result<Created, StoreError> {
        if self.intercept.splits() {
            for index in indexes {
                self.enter(index, entry, now).await?;
            }
            return self.create(&entry.key, session, now).await;
        }
        let operation = Operation::CreateEntered { indexes: indexes.to_vec(), entry, session };
        expect_answer!(self.call(operation, now).await?, Created)
    }
}

impl<S: fmt::Debug, I> fmt::Debug for Intercepted<S, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Intercepted").field("store", &self.store).finish_non_exhaustive()
    }
}
