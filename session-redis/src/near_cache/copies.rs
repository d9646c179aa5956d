use std::sync::Arc;

use session_core::{Entry, SessionKey};
use tokio::time::Instant;

use crate::near_cache::{
    cache::{self, ConnectionFreshness, NearCopies, ReadMark},
    settings::NearCache,
};

/// The near cache, if one is configured.
#[derive(Default)]
pub(crate) struct Copies(Option<NearCopies>);

/// The changes of a store's sessions by this process.
pub(crate) type Changing<'c> = Option<cache::Changing<'c>>;

impl Copies {
    pub(crate) fn new(cache: NearCache) -> Self {
        Self(Some(NearCopies::new(cache.capacity, cache.staleness)))
    }

    pub(crate) fn get(&self) -> Option<&NearCopies> {
        self.0.as_ref()
    }

    /// Begins the freshness of a new connection.
    pub(crate) fn freshness(&self) -> Freshness {
        let begin = |_| ConnectionFreshness::new(Instant::now().into_std());
        Freshness(self.get().map(begin))
    }

    pub(crate) fn fetch(&self, key: &SessionKey) -> Fetch<'_> {
        Fetch(self.get().map(|copies| copies.fetch(key)))
    }

    pub(crate) fn changing<'c>(&'c self, keys: &'c [SessionKey]) -> Changing<'c> {
        self.get().map(|copies| copies.changing(keys))
    }

    pub(crate) fn ending<'c>(&'c self, keys: &'c [SessionKey]) -> Changing<'c> {
        self.get().map(|copies| copies.ending(keys))
    }

    pub(crate) fn forget(&self, key: &SessionKey) {
        if let Some(copies) = self.get() {
            copies.forget(key);
        }
    }

    pub(crate) fn invalidate(&self, key: &SessionKey) {
        if let Some(copies) = self.get() {
            copies.invalidate(key);
        }
    }

    /// Invalidates the copies that were read over a connection.
    pub(crate) fn flush(&self, freshness: &Freshness) {
        if let (Some(copies), Freshness(Some(freshness))) = (self.get(), freshness) {
            copies.flush(freshness);
        }
    }

    /// Invalidates the copies that were read over a connection, and all later ones.
    pub(crate) fn disconnect(&self, freshness: &Freshness) {
        if let (Some(copies), Freshness(Some(freshness))) = (self.get(), freshness) {
            copies.disconnect(freshness);
        }
    }
}

/// The freshness of a connection, if there is a near cache.
#[derive(Clone, Default)]
pub(crate) struct Freshness(Option<Arc<ConnectionFreshness>>);

impl Freshness {
    /// Returns the mark of a read that is about to be sent.
    pub(crate) fn mark(&self) -> ReadOrigin {
        ReadOrigin(self.0.as_ref().map(|freshness| freshness.mark(Instant::now().into_std())))
    }

    /// Records the reply to a command that was sent at this instant.
    pub(crate) fn prove(&self, sent_at: Instant) {
        if let Some(freshness) = &self.0 {
            freshness.prove(sent_at.into_std());
        }
    }
}

/// The connection over which an entry was read, if copies may be kept from it.
#[derive(Default)]
pub(crate) struct ReadOrigin(Option<ReadMark>);

/// A read whose reply may be kept.
pub(crate) struct Fetch<'c>(Option<cache::Fetch<'c>>);

impl Fetch<'_> {
    pub(crate) fn keep(self, entry: &Entry, seen: ReadOrigin) {
        if let (Self(Some(fetch)), ReadOrigin(Some(mark))) = (self, seen) {
            fetch.keep(entry, &mark);
        }
    }
}
