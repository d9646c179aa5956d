//! From a request's cookies to its session.

use std::{sync::Arc, time::Duration};

use tracing::{Instrument as _, debug_span};

use super::{
    Located, MAX_MOVES, Protocol,
    locate::{Loaded, unseal},
};
use crate::{
    Entry, Event, EventKind, LocalReads, OnReuse, SessionId, SessionKey, StoreError, Tombstone,
    record::Cause,
};

/// The number of cookies of the session's name that one request can have tried. A browser may hold
/// several, set for different paths or by a sibling domain (RFC 6265bis, 5.8.3).
pub(crate) const MAX_COOKIES: usize = 4;

/// The outcome of looking up a request's cookies.
#[derive(Debug, Default)]
pub(crate) struct CookieLookup {
    pub(crate) located: Option<Located>,
    /// The keys of the cookies that open nothing.
    pub(crate) missing: Vec<SessionKey>,
    /// The keys of the records that this version cannot read.
    pub(crate) unreadable: Vec<SessionKey>,
    /// A login gave the session of a cookie another ID a moment ago.
    pub(crate) is_superseded: bool,
    /// That cookie's ID, if the tombstone leads to the new one.
    pub(crate) superseded: Option<Arc<Superseded>>,
    /// The request came with a cookie of the session's name.
    pub(crate) has_cookie: bool,
}

/// An ID that a login has closed a moment ago.
#[derive(Debug)]
pub(crate) struct Superseded {
    pub(crate) id: SessionId,
    pub(crate) tombstone: Arc<Tombstone>,
}

/// The outcome of looking up one ID.
enum Found {
    Session(Located),
    Superseded(Option<Superseded>),
    Unreadable(SessionKey),
    Missing(SessionKey),
}

/// The next step after one entry was read.
enum Step {
    Follow(SessionId),
    Found(Found),
    /// The ID was presented after its grace. `entry` holds the session, or the next tombstone.
    Reused(Entry),
}

impl Protocol {
    /// Looks up cookies in their order, until one opens a session.
    pub(crate) async fn open<'c>(
        &self,
        cookies: impl IntoIterator<Item = &'c [u8]>,
    ) -> Result<CookieLookup, StoreError> {
        let mut lookup = CookieLookup::default();
        for text in cookies.into_iter().take(MAX_COOKIES) {
            lookup.has_cookie = true;
            if let Some(id) = SessionId::parse(text) {
                let span = debug_span!(target: "session", "session open");
                let found = self.find(id).instrument(span).await?;
                if lookup.add(found) {
                    break;
                }
            }
        }
        Ok(lookup)
    }

    /// Does the same from local reads. Returns `None` if the store has to be asked.
    pub(crate) fn open_local<'c>(
        &self,
        cookies: impl IntoIterator<Item = &'c [u8]>,
        is_behind: impl FnOnce() -> bool,
    ) -> Option<CookieLookup> {
        let reads = (*self.store)
            .local_reads()
            .filter(|reads| reads.staleness() == Duration::ZERO || !is_behind());
        let mut lookup = CookieLookup::default();
        for text in cookies.into_iter().take(MAX_COOKIES) {
            lookup.has_cookie = true;
            let reads = reads?;
            if let Some(id) = SessionId::parse(text)
                && lookup.add(self.find_local(reads, id)?)
            {
                break;
            }
        }
        Some(lookup)
    }

    async fn find(&self, mut id: SessionId) -> Result<Found, StoreError> {
        let presented = id.key();
        for moves in 0..MAX_MOVES {
            let key = id.key();
            let entry = match self.load(&key).await? {
                Loaded::Entry(entry) => entry,
                Loaded::Missing => return Ok(Found::Missing(key)),
                Loaded::Unreadable => return Ok(Found::Unreadable(key)),
            };
            match self.step(entry, key, id, moves > 0) {
                Step::Follow(successor) => id = successor,
                Step::Found(found) => return Ok(found),
                Step::Reused(entry) => {
                    self.handle_reuse(presented, key, &entry).await;
                    break;
                }
            }
        }
        // A session of its own would replace the one that the browser holds by now.
        Ok(Found::Superseded(None))
    }

    fn find_local(&self, reads: &dyn LocalReads, mut id: SessionId) -> Option<Found> {
        for moves in 0..MAX_MOVES {
            let key = id.key();
            let now = self.now();
            // An expired copy proves nothing: another process may have touched the session (I5).
            let entry = reads.find(&key, now).filter(|entry| entry.is_live(now))?;
            match self.step(entry, key, id, moves > 0) {
                Step::Follow(successor) => id = successor,
                Step::Found(found) => return Some(found),
                // A decision of this weight is made on the stored entry.
                Step::Reused(_) => return None,
            }
        }
        Some(Found::Superseded(None))
    }

    /// Decides what an entry means for the ID under whose key it is. `has_moved`: the ID is the
    /// successor of the one that the request presented.
    fn step(&self, entry: Entry, key: SessionKey, id: SessionId, has_moved: bool) -> Step {
        if has_moved && !entry.id_use().former_opens(self.now(), self.settings.renewal_grace) {
            return Step::Reused(entry);
        }
        let tombstone = match entry {
            Entry::Live(record) => {
                let is_presented = !has_moved;
                let located = Located { key, id: Some(id), record, is_presented };
                return Step::Found(Found::Session(located));
            }
            Entry::Moved(tombstone) => tombstone,
        };
        match &tombstone.cause {
            Cause::Ended => Step::Found(Found::Missing(key)),
            Cause::Rotated { .. } => {
                Step::Found(Found::Superseded(Some(Superseded { id, tombstone })))
            }
            Cause::Renewed { .. } => match unseal(Some(&id), &tombstone) {
                Some(successor) => Step::Follow(successor),
                None => Step::Found(Found::Missing(key)),
            },
        }
    }

    /// Reports that an old ID was presented, and ends its session if the application wants that.
    async fn handle_reuse(&self, presented: SessionKey, key: SessionKey, entry: &Entry) {
        let owner = match entry {
            Entry::Live(record) => record.owner.as_ref(),
            Entry::Moved(_) => None,
        };
        tracing::warn!(target: "session", %key, former = %presented, "an old session ID was used");
        let event = Event::new(EventKind::Reused, key, owner).with_former(Some(presented));
        self.events.send(event);
        if self.settings.reuse == OnReuse::EndSession
            && let Err(error) = self.revoke_at(key).await
        {
            tracing::warn!(target: "session", %key, %error, "session not ended after the reuse");
        }
    }
}

impl CookieLookup {
    /// Returns `true` if a session was found.
    fn add(&mut self, found: Found) -> bool {
        match found {
            Found::Session(located) => {
                self.located = Some(located);
                return true;
            }
            Found::Superseded(superseded) => {
                self.is_superseded = true;
                self.superseded = self.superseded.take().or(superseded.map(Arc::new));
            }
            Found::Unreadable(key) => self.unreadable.push(key),
            Found::Missing(key) => self.missing.push(key),
        }
        false
    }
}
