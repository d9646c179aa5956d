use crate::{
    Backend, Committed, Created, Ended, Entry, Expected, IndexEntry, IndexKey, SessionKey,
    StoreError, Timestamp, Tombstone, Touched,
};

/// One call of a store's verb, as a value.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the fields are the arguments of the verbs")]
pub enum Operation {
    Create { key: SessionKey, entry: Entry },
    Load { key: SessionKey },
    Commit { key: SessionKey, expected: Expected, entry: Entry },
    Touch { key: SessionKey },
    Delete { key: SessionKey },
    LoadMany { keys: Vec<SessionKey> },
    DeleteOrBlock { keys: Vec<SessionKey>, marker: Tombstone },
    Ping,
    Enter { index: IndexKey, entry: IndexEntry },
    Leave { index: IndexKey, entries: Vec<IndexEntry> },
    Entries { index: IndexKey },
    CreateEntered { indexes: Vec<IndexKey>, entry: IndexEntry, session: Entry },
}

/// The name of a store's verb.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[expect(missing_docs, reason = "the names are those of the verbs")]
pub enum Verb {
    Create,
    Load,
    Commit,
    Touch,
    Delete,
    LoadMany,
    DeleteOrBlock,
    Ping,
    Enter,
    Leave,
    Entries,
    CreateEntered,
}

/// The answer of a store to an [`Operation`].
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the variants are the answers of the verbs")]
pub enum Answer {
    Created(Created),
    Loaded(Option<Entry>),
    Committed(Committed),
    Touched(Touched),
    Deleted(Option<Entry>),
    LoadedMany(Vec<Result<Option<Entry>, StoreError>>),
    DeletedOrBlocked(Vec<Ended>),
    Pinged,
    Entered,
    Left,
    Entries(Vec<IndexEntry>),
}

impl Operation {
    /// Returns the verb.
    #[must_use]
    pub fn verb(&self) -> Verb {
        match self {
            Self::Create { .. } => Verb::Create,
            Self::Load { .. } => Verb::Load,
            Self::Commit { .. } => Verb::Commit,
            Self::Touch { .. } => Verb::Touch,
            Self::Delete { .. } => Verb::Delete,
            Self::LoadMany { .. } => Verb::LoadMany,
            Self::DeleteOrBlock { .. } => Verb::DeleteOrBlock,
            Self::Ping => Verb::Ping,
            Self::Enter { .. } => Verb::Enter,
            Self::Leave { .. } => Verb::Leave,
            Self::Entries { .. } => Verb::Entries,
            Self::CreateEntered { .. } => Verb::CreateEntered,
        }
    }

    /// Returns the session keys in the operation.
    #[must_use]
    pub fn keys(&self) -> Vec<SessionKey> {
        match self {
            Self::Create { key, .. }
            | Self::Load { key }
            | Self::Commit { key, .. }
            | Self::Touch { key }
            | Self::Delete { key } => vec![*key],
            Self::LoadMany { keys } | Self::DeleteOrBlock { keys, .. } => keys.clone(),
            Self::Enter { entry, .. } | Self::CreateEntered { entry, .. } => vec![entry.key],
            Self::Leave { entries, .. } => entries.iter().map(|entry| entry.key).collect(),
            Self::Ping | Self::Entries { .. } => Vec::new(),
        }
    }

    /// Returns the indexes in the operation.
    #[must_use]
    pub fn indexes(&self) -> Vec<IndexKey> {
        match self {
            Self::Enter { index, .. } | Self::Leave { index, .. } | Self::Entries { index } => {
                vec![*index]
            }
            Self::CreateEntered { indexes, .. } => indexes.clone(),
            _ => Vec::new(),
        }
    }

    /// Carries the operation out on a store.
    ///
    /// # Errors
    ///
    /// Returns the errors of the store.
    pub async fn perform(
        self,
        store: &(impl Backend + ?Sized),
        now: Timestamp,
    ) -> Result<Answer, StoreError> {
        Ok(match self {
            Self::Create { key, entry } => Answer::Created(store.create(&key, entry, now).await?),
            Self::Load { key } => Answer::Loaded(store.load(&key, now).await?),
            Self::Commit { key, expected, entry } => {
                Answer::Committed(store.commit(&key, expected, entry, now).await?)
            }
            Self::Touch { key } => Answer::Touched(store.touch(&key, now).await?),
            Self::Delete { key } => Answer::Deleted(store.delete(&key, now).await?),
            Self::LoadMany { keys } => Answer::LoadedMany(store.load_many(&keys, now).await?),
            Self::DeleteOrBlock { keys, marker } => {
                Answer::DeletedOrBlocked(store.delete_or_block(&keys, marker, now).await?)
            }
            Self::Ping => {
                store.ping(now).await?;
                Answer::Pinged
            }
            Self::Enter { index, entry } => {
                store.enter(&index, entry, now).await?;
                Answer::Entered
            }
            Self::Leave { index, entries } => {
                store.leave(&index, &entries, now).await?;
                Answer::Left
            }
            Self::Entries { index } => Answer::Entries(store.entries(&index, now).await?),
            Self::CreateEntered { indexes, entry, session } => {
                Answer::Created(store.create_entered(&indexes, entry, session, now).await?)
            }
        })
    }
}
