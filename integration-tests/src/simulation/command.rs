use std::num::NonZeroUsize;

use session_core::{
    Admission, Admitted, Backend, Committed, Created, Ended, Entry, Expected, OwnerKey, SessionKey,
    StoreError, StoreErrorKind, Timestamp, Touched,
};

/// One of the store's verbs with what it is about.
#[derive(Clone, Debug)]
pub(super) struct Command {
    pub(super) keys: Vec<SessionKey>,
    pub(super) verb: Verb,
    pub(super) now: Timestamp,
}

#[derive(Clone, Debug)]
pub(super) enum Verb {
    Create(Entry),
    Load,
    Commit { expected: Expected, entry: Entry },
    Touch,
    Delete,
    Enter { owner: OwnerKey, until: Timestamp },
    Admit { owner: OwnerKey, until: Timestamp, room: Room },
    CreateEntered { owner: OwnerKey, until: Timestamp, entry: Entry },
    Leave { owner: OwnerKey },
    Entries { owner: OwnerKey },
    LoadMany,
    EndMany { marker: Entry },
}

/// An [`Admission`] on its way.
#[derive(Clone, Debug)]
pub(super) struct Room {
    max: NonZeroUsize,
    replaces: Vec<SessionKey>,
    pairs: Vec<(SessionKey, SessionKey)>,
    ended: Vec<SessionKey>,
}

/// What the store says to a command.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    Create(Created),
    Load(Option<Entry>),
    Commit(Committed),
    Touch(Touched),
    Delete(Option<Entry>),
    Done,
    Admit(Admitted),
    Entries(Vec<SessionKey>),
    LoadMany(Vec<Option<Entry>>),
    EndMany(Vec<Ended>),
}

impl Command {
    /// The key of a command that is about one.
    pub(super) fn key(&self) -> SessionKey {
        self.keys[0]
    }

    pub(super) async fn carry_out(&self, store: &dyn Backend) -> Result<Answer, StoreError> {
        let Self { keys, verb, now } = self;
        let now = *now;
        Ok(match verb {
            Verb::Create(entry) => {
                Answer::Create(store.create(&keys[0], entry.clone(), now).await?)
            }
            Verb::Load => Answer::Load(store.load(&keys[0], now).await?),
            Verb::Commit { expected, entry } => {
                Answer::Commit(store.commit(&keys[0], *expected, entry.clone(), now).await?)
            }
            Verb::Touch => Answer::Touch(store.touch(&keys[0], now).await?),
            Verb::Delete => Answer::Delete(store.delete(&keys[0], now).await?),
            Verb::Enter { owner, until } => {
                store.enter(owner, &keys[0], *until, now).await?;
                Answer::Done
            }
            Verb::Admit { owner, until, room } => {
                let admission = room.admission();
                Answer::Admit(store.admit(owner, &keys[0], *until, &admission, now).await?)
            }
            Verb::CreateEntered { owner, until, entry } => {
                let entry = entry.clone();
                Answer::Create(store.create_entered(owner, *until, &keys[0], entry, now).await?)
            }
            Verb::Leave { owner } => {
                store.leave(owner, keys, now).await?;
                Answer::Done
            }
            Verb::Entries { owner } => Answer::Entries(store.entries(owner, now).await?),
            Verb::LoadMany => {
                let entries = store.load_many(keys, now).await?;
                Answer::LoadMany(entries.into_iter().collect::<Result<_, _>>()?)
            }
            Verb::EndMany { marker } => {
                Answer::EndMany(store.end_many(keys, marker.clone(), now).await?)
            }
        })
    }

    /// What the command wants to be stored.
    pub(super) fn entry(&self) -> Option<&Entry> {
        match &self.verb {
            Verb::Create(entry)
            | Verb::Commit { entry, .. }
            | Verb::CreateEntered { entry, .. } => Some(entry),
            _ => None,
        }
    }

    /// The owner whose index the command may change.
    pub(super) fn owner(&self) -> Option<&OwnerKey> {
        match &self.verb {
            Verb::Enter { owner, .. }
            | Verb::Admit { owner, .. }
            | Verb::CreateEntered { owner, .. }
            | Verb::Leave { owner } => Some(owner),
            _ => None,
        }
    }
}

impl Verb {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Create(_) => "create",
            Self::Load => "load",
            Self::Commit { .. } => "commit",
            Self::Touch => "touch",
            Self::Delete => "delete",
            Self::Enter { .. } => "enter",
            Self::Admit { .. } => "admit",
            Self::CreateEntered { .. } => "enter and create",
            Self::Leave { .. } => "leave",
            Self::Entries { .. } => "entries",
            Self::LoadMany => "load many",
            Self::EndMany { .. } => "end many",
        }
    }

    /// Tells whether the command changes nothing.
    pub(super) fn only_reads(&self) -> bool {
        matches!(self, Self::Load | Self::Entries { .. } | Self::LoadMany)
    }
}

impl Room {
    pub(super) fn of(admission: &Admission<'_>) -> Self {
        Self {
            max: admission.max,
            replaces: admission.replaces.to_vec(),
            pairs: admission.pairs.to_vec(),
            ended: admission.ended.to_vec(),
        }
    }

    fn admission(&self) -> Admission<'_> {
        let Self { max, replaces, pairs, ended } = self;
        Admission { max: *max, replaces, pairs, ended }
    }
}

impl Answer {
    /// An answer that is not one to the question.
    pub(super) fn astray(self) -> StoreError {
        StoreError::new(StoreErrorKind::Misconfigured).with_source(format!("answered by {self:?}"))
    }
}
