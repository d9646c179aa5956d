//! The lookup of a request's session by its cookies.

use std::{sync::Arc, time::Duration};

use tracing::{Instrument as _, debug_span};

use super::{
    Located, MAX_MOVES, Protocol, ROTATION_WINDOW,
    locate::{Loaded, unseal},
};
use crate::{
    Entry, Event, EventKind, LocalReads, OnReuse, SessionId, SessionKey, StoreError, Tombstone,
    metrics::OpenResult,
    record::{Cause, Realm},
};

/// The number of cookies of the session's name that the protocol looks up for one request. A
/// browser may hold several, set for different paths or by a sibling domain (RFC 6265bis, 5.8.3).
pub(crate) const MAX_COOKIES: usize = 4;

/// The outcome of looking up a request's cookies.
#[derive(Debug, Default)]
pub(crate) struct CookieLookup {
    pub(crate) located: Option<Located>,
    /// The session was read from a copy that may be out of date.
    pub(crate) is_copy: bool,
    pub(crate) unopened: Vec<Unopened>,
    /// The session of a cookie has received another ID recently. The browser may have sent the
    /// request before the new ID arrived.
    pub(crate) is_late: bool,
    /// The ID of a cookie that a login or a rotation has closed.
    pub(crate) closed: Option<Arc<ClosedId>>,
    /// The request came with a cookie of the session's name.
    pub(crate) has_cookie: bool,
    /// The changes belong to a connection that outlives its request. The connection decides itself
    /// whether to follow a login or a rotation, so none of its commits does.
    pub(crate) is_connection: bool,
}

/// A cookie that opened no session.
#[derive(Debug)]
pub(crate) struct Unopened {
    pub(crate) key: SessionKey,
    /// There is a record, but this version cannot read it.
    pub(crate) is_unreadable: bool,
}

/// An ID that a login or a rotation has closed, with the tombstone of that move.
#[derive(Debug)]
pub(crate) struct ClosedId {
    pub(crate) id: SessionId,
    pub(crate) tombstone: Arc<Tombstone>,
}

/// The outcome of looking up one ID.
enum Found {
    Session(Located),
    /// The session has another ID, and the presented ID does not open it any more.
    Moved {
        is_late: bool,
        closed: Option<ClosedId>,
    },
    Unreadable(SessionKey),
    Missing(SessionKey),
}

/// The next step after one entry was read.
enum Step {
    Follow(SessionId),
    Found(Found),
    /// The presented ID is past its grace. The entry is the session, or the next tombstone.
    Reused(Entry),
}

impl Protocol {
    /// Looks up cookies in their order, until one opens a session.
    pub(crate) async fn open<'c>(
        &self,
        realm: Realm,
        cookies: impl IntoIterator<Item = &'c [u8]>,
    ) -> Result<CookieLookup, StoreError> {
        let mut lookup = CookieLookup::default();
        for text in cookies.into_iter().take(MAX_COOKIES) {
            lookup.has_cookie = true;
            if let Some(id) = SessionId::parse(text).map(|id| id.in_realm(realm)) {
                let span = debug_span!(target: "session", "session open", session.id = %id.key());
                let found = self.find(id).instrument(span).await?;
                if lookup.add(found) {
                    break;
                }
            }
        }
        Ok(lookup)
    }

    /// Looks up cookies by local reads, and adds the outcome to an empty lookup, because a lookup is
    /// too large to be moved often. Returns `None` if the lookup needs I/O.
    pub(crate) fn open_local<'c>(
        &self,
        lookup: &mut CookieLookup,
        realm: Realm,
        cookies: impl IntoIterator<Item = &'c [u8]>,
        is_behind: impl FnOnce() -> bool,
    ) -> Option<()> {
        let mut reads = (*self.store).local_reads();
        lookup.is_copy = reads.is_some_and(|reads| !reads.staleness().is_zero());
        if lookup.is_copy && is_behind() {
            (reads, lookup.is_copy) = (None, false);
        }
        for text in cookies.into_iter().take(MAX_COOKIES) {
            lookup.has_cookie = true;
            let reads = reads?;
            if let Some(id) = SessionId::parse(text)
                && lookup.add(self.find_local(reads, id.in_realm(realm))?)
            {
                break;
            }
        }
        Some(())
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
                    let is_late = entry.id_use().former_opens(self.now(), LATENESS)
                        || self.has_just_closed(&entry);
                    return Ok(Found::Moved { is_late, closed: None });
                }
            }
        }
        Ok(Found::Moved { is_late: true, closed: None })
    }

    fn find_local(&self, reads: &dyn LocalReads, mut id: SessionId) -> Option<Found> {
        for moves in 0..MAX_MOVES {
            let key = id.key();
            let now = self.now();
            // The session of an expired copy may be alive: another process may have touched it
            // (I5).
            let entry = reads.find(&key, now).filter(|entry| entry.is_live(now))?;
            match self.step(entry, key, id, moves > 0) {
                Step::Follow(successor) => id = successor,
                Step::Found(found) => return Some(found),
                // A reuse may end the session, so that the stored entry decides.
                Step::Reused(_) => return None,
            }
        }
        Some(Found::Moved { is_late: true, closed: None })
    }

    /// Returns the next step for an ID, by the entry under its key. If `has_moved`, the ID is a
    /// successor of the presented ID.
    #[inline]
    fn step(&self, entry: Entry, key: SessionKey, id: SessionId, has_moved: bool) -> Step {
        if let Entry::Tombstone(tombstone) = &entry
            && tombstone.successor().is_none()
        {
            return Step::Found(Found::Missing(key));
        }
        if has_moved && !entry.id_use().former_opens(self.now(), self.settings.renewal_grace) {
            return Step::Reused(entry);
        }
        let is_late = self.has_just_closed(&entry);
        let tombstone = match entry {
            Entry::Session(record) => {
                let is_presented = !has_moved;
                let located = Located { key, id: Some(id), record, is_presented };
                return Step::Found(Found::Session(located));
            }
            Entry::Tombstone(tombstone) => tombstone,
        };
        match &tombstone.cause {
            Cause::Ended => Step::Found(Found::Missing(key)),
            Cause::Rotated { .. } => {
                let closed = Some(ClosedId { id, tombstone });
                Step::Found(Found::Moved { is_late, closed })
            }
            Cause::Renewed { .. } => match unseal(Some(&id), &tombstone) {
                Some(successor) => Step::Follow(successor),
                None => Step::Found(Found::Missing(key)),
            },
        }
    }

    /// Returns `true` if a login or a rotation closed the ID less than [`LATENESS`] ago.
    fn has_just_closed(&self, entry: &Entry) -> bool {
        match entry {
            Entry::Tombstone(tombstone) if matches!(tombstone.cause, Cause::Rotated { .. }) => {
                self.now() + ROTATION_WINDOW < tombstone.expires_at + LATENESS
            }
            _ => false,
        }
    }

    /// Reports the reuse of an old ID, and revokes the session if the application has chosen this.
    async fn handle_reuse(&self, presented: SessionKey, key: SessionKey, entry: &Entry) {
        let record = match entry {
            Entry::Session(record) => Some(&**record),
            Entry::Tombstone(_) => None,
        };
        tracing::warn!(
            target: "session",
            { session.id = %key, session.previous_id = %presented },
            "an old session ID was used"
        );
        let event = Event::new(EventKind::Reused, key, record).with_former(Some(presented));
        self.events.send(event);
        if self.settings.reuse == OnReuse::EndSession
            && let Err(error) = self.revoke_any(key).await
        {
            tracing::warn!(
                target: "session", %error, session.id = %key, "session not ended after the reuse"
            );
        }
    }
}

impl CookieLookup {
    pub(crate) fn result(&self) -> OpenResult {
        if self.located.is_some() {
            OpenResult::Found
        } else if self.unopened.iter().any(|cookie| cookie.is_unreadable) {
            OpenResult::Unreadable
        } else if self.has_cookie {
            OpenResult::Unknown
        } else {
            OpenResult::None
        }
    }

    /// Returns `true` if a session was found.
    fn add(&mut self, found: Found) -> bool {
        match found {
            Found::Session(located) => {
                self.located = Some(located);
                return true;
            }
            Found::Moved { is_late, closed } => {
                self.is_late |= is_late;
                self.closed = self.closed.take().or(closed.map(Arc::new));
            }
            Found::Unreadable(key) => self.unopened.push(Unopened { key, is_unreadable: true }),
            Found::Missing(key) => self.unopened.push(Unopened { key, is_unreadable: false }),
        }
        false
    }
}

/// The longest time that a request is assumed to be under way. If a request with an old ID began a
/// new session, the browser would lose the ID that it received meanwhile.
const LATENESS: Duration = Duration::from_secs(30);
