use std::{fmt, num::NonZeroUsize, sync::Arc};

use async_trait::async_trait;

use crate::{Created, Entry, OwnerKey, SessionKey, SessionStore, StoreError, Timestamp, Tombstone};

/// Knows the sessions of each owner.
///
/// An index holds, per owner, the keys of sessions, each until the latest instant at which the session
/// can end. It may hold keys whose session has ended: what counts is that no live session of an owner is
/// missing (I8). So a session's key is entered before its record is created, and leaves when nothing can
/// live under it any more.
///
/// Each verb is one operation on one key, or the same operation on many keys, each on its own: nothing
/// here needs two keys to change together, so that the keys may be on different servers.
///
/// # Errors
///
/// A [`StoreError`] is a fault of the system, and means what it means for a [`SessionStore`]. Every verb
/// can be asked again after a [`Timeout`](crate::StoreErrorKind::Timeout).
///
/// # Cancel safety
///
/// A future that is dropped leaves its operation carried out or not; of one on many keys, any part.
#[async_trait]
pub trait OwnerIndex: fmt::Debug + Send + Sync + 'static {
    /// Enters a session's key, or keeps it for longer: never for shorter than before.
    ///
    /// Forgets what the owner's index holds until `now` or earlier.
    ///
    /// # Errors
    ///
    /// See the [trait](Self#errors).
    async fn enter(
        &self,
        owner: &OwnerKey,
        key: &SessionKey,
        until: Timestamp,
        now: Timestamp,
    ) -> Result<(), StoreError>;

    /// Enters a session's key if the owner has room for it, decided and done as one step.
    ///
    /// Forgets first what the owner's index holds until `now` or earlier, and what has
    /// [ended](Admission::ended).
    ///
    /// # Errors
    ///
    /// See the [trait](Self#errors).
    async fn admit(
        &self,
        owner: &OwnerKey,
        key: &SessionKey,
        until: Timestamp,
        admission: &Admission<'_>,
        now: Timestamp,
    ) -> Result<Admitted, StoreError>;

    /// [Enters](Self::enter) a session's key and then [creates](SessionStore::create) the session, in
    /// this order and in one round trip.
    ///
    /// An interruption leaves a key in the index without a session, never a session without its key in
    /// the index. If the key cannot be entered a session that was created is removed again, as far as the store
    /// can.
    ///
    /// # Errors
    ///
    /// See the [trait](Self#errors).
    async fn create_entered(
        &self,
        owner: &OwnerKey,
        until: Timestamp,
        key: &SessionKey,
        entry: Entry,
        now: Timestamp,
    ) -> Result<Created, StoreError>;

    /// Forgets keys under which nothing can live any more, and what the owner's index holds until `now` or
    /// earlier.
    ///
    /// Housekeeping: a store may do it after it has answered, or fail to. The keys are forgotten at
    /// their deadlines in any case.
    ///
    /// # Errors
    ///
    /// See the [trait](Self#errors).
    async fn leave(
        &self,
        owner: &OwnerKey,
        keys: &[SessionKey],
        now: Timestamp,
    ) -> Result<(), StoreError>;

    /// The keys that the owner's index holds until after `now`, in no particular order.
    ///
    /// # Errors
    ///
    /// See the [trait](Self#errors).
    async fn entries(
        &self,
        owner: &OwnerKey,
        now: Timestamp,
    ) -> Result<Vec<SessionKey>, StoreError>;

    /// [Loads](SessionStore::load) what is stored under each key, in the order of the keys.
    ///
    /// One that cannot be read is an error of its own, and costs no other.
    ///
    /// # Errors
    ///
    /// See the [trait](Self#errors).
    async fn load_many(
        &self,
        keys: &[SessionKey],
        now: Timestamp,
    ) -> Result<Vec<Result<Option<Entry>, StoreError>>, StoreError>;

    /// Ends what is stored under each key, and bars the keys that hold nothing: in the order of the keys,
    /// each of them as one step.
    ///
    /// | there is | becomes | answer |
    /// | --- | --- | --- |
    /// | a session | nothing | [`Ended::Session`] |
    /// | a tombstone | itself | [`Ended::Moved`] |
    /// | nothing, or what has expired or is no record | `marker` | [`Ended::Barred`] |
    ///
    /// A key in the index without a session may be one whose creation is under way: `marker`, a tombstone,
    /// makes that fail.
    ///
    /// # Errors
    ///
    /// See the [trait](Self#errors). What fails for one key, as leaving a marker does on a server that is
    /// full, keeps no other session from being ended.
    async fn end_many(
        &self,
        keys: &[SessionKey],
        marker: Entry,
        now: Timestamp,
    ) -> Result<Vec<Ended>, StoreError>;
}

/// Under which conditions [`OwnerIndex::admit`] lets a session in.
#[derive(Clone, Copy, Debug)]
pub struct Admission<'a> {
    /// How many sessions the owner's index may hold, the one to enter included.
    pub max: NonZeroUsize,
    /// Keys whose place the new one is to take. They stay, and are not counted.
    pub replaces: &'a [SessionKey],
    /// Keys that are one session each, which is just moving from the first to the second. A pair is counted
    /// once, as long as both keys are in the index and neither is replaced. No key is the second of two.
    pub pairs: &'a [(SessionKey, SessionKey)],
    /// Keys under which nothing can live any more.
    pub ended: &'a [SessionKey],
}

impl Admission<'_> {
    /// How many sessions these keys are, which an index holds besides the one to enter and those to be
    /// replaced.
    #[must_use]
    pub fn count(&self, others: &[SessionKey]) -> usize {
        let counts_twice = |(former, key): &&(SessionKey, SessionKey)| {
            others.contains(former) && others.contains(key)
        };
        others.len().saturating_sub(self.pairs.iter().filter(counts_twice).count())
    }
}

/// What [`OwnerIndex::admit`] answers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Admitted {
    /// The key is in the index.
    Admitted,
    /// It is not: these are the keys that have the places, both of each pair, and none that is to be
    /// replaced.
    Full(Vec<SessionKey>),
}

/// What [`OwnerIndex::end_many`] answers for a key.
#[derive(Clone, Debug, PartialEq)]
pub enum Ended {
    /// A session was there, and is gone.
    Session,
    /// The session has another key, and is to be ended there.
    Moved(Arc<Tombstone>),
    /// No session was there, and none can be created.
    Barred,
}

/// All that [`Sessions`](crate::Sessions) need of a store.
///
/// Whatever is a [`SessionStore`] and an [`OwnerIndex`] is this.
pub trait Backend: SessionStore + OwnerIndex {}

impl<S: SessionStore + OwnerIndex + ?Sized> Backend for S {}

/// Forwards every verb through a pointer.
macro_rules! forward {
    ($($pointer:ty),+) => {$(
        #[deny(clippy::missing_trait_methods)]
        #[async_trait]
        impl<S: OwnerIndex + ?Sized> OwnerIndex for $pointer {
            async fn enter(
                &self,
                owner: &OwnerKey,
                key: &SessionKey,
                until: Timestamp,
                now: Timestamp,
            ) -> Result<(), StoreError> {
                (**self).enter(owner, key, until, now).await
            }

            async fn admit(
                &self,
                owner: &OwnerKey,
                key: &SessionKey,
                until: Timestamp,
                admission: &Admission<'_>,
                now: Timestamp,
            ) -> Result<Admitted, StoreError> {
                (**self).admit(owner, key, until, admission, now).await
            }

            async fn create_entered(
                &self,
                owner: &OwnerKey,
                until: Timestamp,
                key: &SessionKey,
                entry: Entry,
                now: Timestamp,
            ) -> Result<Created, StoreError> {
                (**self).create_entered(owner, until, key, entry, now).await
            }

            async fn leave(
                &self,
                owner: &OwnerKey,
                keys: &[SessionKey], now: Timestamp,
            ) -> Result<(), StoreError> {
                (**self).leave(owner, keys, now).await
            }

            async fn entries(
                &self,
                owner: &OwnerKey,
                now: Timestamp,
            ) -> Result<Vec<SessionKey>, StoreError> {
                (**self).entries(owner, now).await
            }

            async fn load_many(
                &self,
                keys: &[SessionKey],
                now: Timestamp,
            ) -> Result<Vec<Result<Option<Entry>, StoreError>>, StoreError> {
                (**self).load_many(keys, now).await
            }

            async fn end_many(
                &self,
                keys: &[SessionKey],
                marker: Entry,
                now: Timestamp,
            ) -> Result<Vec<Ended>, StoreError> {
                (**self).end_many(keys, marker, now).await
            }
        }
    )+};
}

forward!(&'static S, Arc<S>, Box<S>);

#[cfg(test)]
mod tests {
    use crate::*;

    #[test]
    fn what_is_public_is_send_and_sync() {
        fn check<T: Send + Sync + 'static>() {}
        check::<Admission<'static>>();
        check::<Admitted>();
        check::<Ended>();
        check::<OwnerKey>();
        check::<SessionInfo>();
        check::<SessionLimit>();
        check::<Box<dyn Backend>>();
    }
}
