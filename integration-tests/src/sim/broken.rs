use std::fmt;

use session_core::{Entry, Sessions, Timestamp, envelope};

use super::plan::LEASE_SPAN;

/// Variants of the protocol, each with one broken rule. The variants prove that the simulation detects
/// such errors.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Broken {
    /// A commit overwrites a record of any revision.
    NoRevisionCheck,
    /// A commit to a deleted session stores the session again.
    UpsertOnGone,
    /// A move deletes the record under the old key before the record under the new key exists.
    DeleteBeforeCreate,
    /// A record is created before its key is in its indexes.
    IndexAfterCreate,
    /// A login enters its owner's index, and the index of no link.
    LinkNotEntered,
    /// An impersonation enters the index of the user, and not that of the actor.
    ActorNotEntered,
    /// The index drops a session at its old deadline, although the session was extended.
    IndexNotKept,
    /// "Sign out everywhere" stops at a tombstone.
    RevocationStopsAtTombstone,
    /// A commit without a reply is repeated, and the repetition does not recognize the first commit.
    NoNonce,
    /// A touch rewrites the session as its request had read it.
    TouchThatRewrites,
    /// A touch is acknowledged and not stored.
    TouchThatForgets,
    /// A made-up ID becomes the ID of the client's session.
    AdoptsUnknownId,
    /// A load returns a session after its deadline.
    LoadIgnoresDeadline,
    /// A commit to an expired session succeeds.
    CommitIgnoresDeadline,
    /// A login leaves the session open under its old ID.
    LoginLeavesOldId,
    /// The former ID of a renewed session opens it for as long as its tombstone exists.
    GraceWithoutEnd,
    /// A commit that met a conflict is acknowledged without a retry.
    ConflictNotReplayed,
    /// A deletion stops at a tombstone.
    EndStopsAtTombstone,
    /// A commit without a reply is acknowledged.
    TimeoutTakenForSuccess,
    /// A commit without a reply counts as refused.
    TimeoutTakenForRefusal,
    /// A load reads from a stale copy.
    ReadsAnOldCopy,
    /// The store contains readable IDs.
    KeepsIdsReadable,
    /// A creation without a reply arrives after the session's end. Otherwise the simulation delivers
    /// commands in order if one deletes the record of another.
    CreationAfterTheEnd,
    /// The holder of a lock ignores the end of its lease and the next holder.
    LeaseNotChecked,
    /// A login ignores the owner's other sessions, regardless of the limit.
    LimitDoesNotCount,
    /// A login from a session of the same owner counts that session against the limit, instead of
    /// replacing it.
    OwnSessionTakesAPlace,
    /// A login at the limit evicts the wrong session.
    EvictsAnotherSession,
    /// A request that a login overtook continues as after a renewal.
    OvertakenGoesOn,
    /// The tombstone of an impersonation is like that of a rotation.
    ActingLooksLikeARotation,
    /// The tombstone of a renewal expires as early as the tombstone of a login.
    RenewalForgottenEarly,
    /// A renewal closes the former ID before any request has presented the new one.
    RenewalWithoutGrace,
    /// A response removes the cookie although the request opened no session.
    RemovesUnknownCookie,
    /// The second of two logouts also removes the cookie.
    SecondLogoutRemoves,
    /// A second login from one ID begins a separate session.
    SecondLoginBeginsAnew,
    /// A response sends an ID that a login has closed since the request read it.
    TellsAnOutdatedId,
    /// A request whose ID a login has just closed begins a new session.
    LateRequestBeginsAnew,
}

impl Broken {
    /// All variants.
    pub const ALL: [Self; 36] = [
        Self::NoRevisionCheck,
        Self::UpsertOnGone,
        Self::DeleteBeforeCreate,
        Self::IndexAfterCreate,
        Self::LinkNotEntered,
        Self::ActorNotEntered,
        Self::IndexNotKept,
        Self::RevocationStopsAtTombstone,
        Self::NoNonce,
        Self::TouchThatRewrites,
        Self::TouchThatForgets,
        Self::AdoptsUnknownId,
        Self::LoadIgnoresDeadline,
        Self::CommitIgnoresDeadline,
        Self::LoginLeavesOldId,
        Self::GraceWithoutEnd,
        Self::ConflictNotReplayed,
        Self::EndStopsAtTombstone,
        Self::TimeoutTakenForSuccess,
        Self::TimeoutTakenForRefusal,
        Self::ReadsAnOldCopy,
        Self::KeepsIdsReadable,
        Self::CreationAfterTheEnd,
        Self::LeaseNotChecked,
        Self::LimitDoesNotCount,
        Self::OwnSessionTakesAPlace,
        Self::EvictsAnotherSession,
        Self::OvertakenGoesOn,
        Self::ActingLooksLikeARotation,
        Self::RenewalForgottenEarly,
        Self::RenewalWithoutGrace,
        Self::RemovesUnknownCookie,
        Self::SecondLogoutRemoves,
        Self::SecondLoginBeginsAnew,
        Self::TellsAnOutdatedId,
        Self::LateRequestBeginsAnew,
    ];

    /// Returns the name for the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoRevisionCheck => "no-revision-check",
            Self::UpsertOnGone => "upsert-on-gone",
            Self::DeleteBeforeCreate => "delete-before-create",
            Self::IndexAfterCreate => "index-after-create",
            Self::LinkNotEntered => "link-not-entered",
            Self::ActorNotEntered => "actor-not-entered",
            Self::IndexNotKept => "index-not-kept",
            Self::RevocationStopsAtTombstone => "revocation-stops-at-tombstone",
            Self::NoNonce => "no-nonce",
            Self::TouchThatRewrites => "touch-that-rewrites",
            Self::TouchThatForgets => "touch-that-forgets",
            Self::AdoptsUnknownId => "adopts-unknown-id",
            Self::LoadIgnoresDeadline => "load-ignores-deadline",
            Self::CommitIgnoresDeadline => "commit-ignores-deadline",
            Self::LoginLeavesOldId => "login-leaves-old-id",
            Self::GraceWithoutEnd => "grace-without-end",
            Self::ConflictNotReplayed => "conflict-not-replayed",
            Self::EndStopsAtTombstone => "end-stops-at-tombstone",
            Self::TimeoutTakenForSuccess => "timeout-taken-for-success",
            Self::TimeoutTakenForRefusal => "timeout-taken-for-refusal",
            Self::ReadsAnOldCopy => "reads-an-old-copy",
            Self::KeepsIdsReadable => "keeps-ids-readable",
            Self::CreationAfterTheEnd => "creation-after-the-end",
            Self::LeaseNotChecked => "lease-not-checked",
            Self::LimitDoesNotCount => "limit-does-not-count",
            Self::OwnSessionTakesAPlace => "own-session-takes-a-place",
            Self::EvictsAnotherSession => "evicts-another-session",
            Self::OvertakenGoesOn => "overtaken-goes-on",
            Self::ActingLooksLikeARotation => "acting-looks-like-a-rotation",
            Self::RenewalForgottenEarly => "renewal-forgotten-early",
            Self::RenewalWithoutGrace => "renewal-without-grace",
            Self::RemovesUnknownCookie => "removes-unknown-cookie",
            Self::SecondLogoutRemoves => "second-logout-removes",
            Self::SecondLoginBeginsAnew => "second-login-begins-anew",
            Self::TellsAnOutdatedId => "tells-an-outdated-id",
            Self::LateRequestBeginsAnew => "late-request-begins-anew",
        }
    }

    /// Returns the variant of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|broken| broken.name() == name)
    }

    /// Returns the entry as if no request had presented its ID yet.
    pub(super) fn without_presentation(entry: &Entry) -> Entry {
        let mut bytes = entry.encode();
        if let Some(at) = bytes.windows(PRESENTED.len()).position(|name| name == PRESENTED) {
            // The instant takes nine bytes; zero takes one.
            let at = at + PRESENTED.len() - 1;
            bytes.splice(at..at + 9, [0]);
        }
        Entry::decode(bytes).expect("an ID may be unused")
    }

    /// Returns the entry as if a request had presented its ID long ago.
    pub(super) fn with_presentation(entry: &Entry) -> Entry {
        let mut bytes = entry.encode();
        if let Some(at) = bytes.windows(RENEWED.len()).position(|name| name == RENEWED) {
            let at = at + RENEWED.len() - 1;
            bytes[at] = 1;
        }
        Entry::decode(bytes).expect("an ID may be in use")
    }

    /// Returns the tombstone of a visitor's login as the tombstone of a renewal, and any other entry
    /// unchanged.
    pub(super) fn as_renewal(entry: &Entry) -> Entry {
        let mut bytes = entry.encode();
        let is_login = bytes[envelope::KIND] == envelope::MOVED
            && bytes.windows(SEALED_ID.len()).any(|name| name == SEALED_ID)
            && bytes.windows(RENEWAL.len()).all(|name| name != RENEWAL);
        if is_login {
            // The map is small, so one more field changes only this byte.
            bytes[envelope::HEADER_LEN] += 1;
            let at = envelope::HEADER_LEN + 1;
            bytes.splice(at..at, RENEWAL.iter().copied());
        }
        Entry::decode(bytes).expect("the tombstone of a renewal holds the same fields")
    }

    /// Returns the tombstone of a login or an impersonation as that of a rotation, and any other entry
    /// unchanged.
    pub(super) fn as_rotation(entry: &Entry) -> Entry {
        let mut bytes = entry.encode();
        let at = bytes.windows(CHANGES_OWNER.len()).position(|name| name == CHANGES_OWNER);
        if let Some(at) = at.filter(|_| bytes[envelope::KIND] == envelope::MOVED) {
            bytes[at + CHANGES_OWNER.len() - 1] = FALSE;
        }
        Entry::decode(bytes).expect("a tombstone may keep the owner")
    }

    /// Returns a tombstone as if it were a minute older. Tombstones of renewals and other entries stay
    /// the same.
    pub(super) fn aged(entry: &Entry) -> Entry {
        match entry {
            Entry::Tombstone(tombstone) if !tombstone.is_renewal() => {
                let mut bytes = entry.encode();
                let end = bytes[envelope::ENDS_AT]
                    .iter()
                    .fold(0, |end, byte| end << 8 | u64::from(*byte));
                bytes[envelope::ENDS_AT].copy_from_slice(&envelope::u48(end - A_MINUTE));
                Entry::decode(bytes).expect("a tombstone may end at any time")
            }
            _ => entry.clone(),
        }
    }

    /// Returns the tombstone with this end.
    pub(super) fn that_ends_at(entry: &Entry, end: Timestamp) -> Entry {
        let mut bytes = entry.encode();
        bytes[envelope::ENDS_AT].copy_from_slice(&envelope::u48(end.as_millis()));
        Entry::decode(bytes).expect("a tombstone may end at any time")
    }

    /// Returns the entry with an empty nonce, so that a request fails to recognize its own commit.
    pub(super) fn without_nonce(entry: &Entry) -> Entry {
        let mut bytes = entry.encode();
        let nonce = envelope::REVISION.end..envelope::LAST_SEEN_AT.start;
        bytes[nonce].fill(0);
        Entry::decode(bytes).expect("a nonce may be anything")
    }

    /// Returns the entry with a lease of the normal length, whereas its holder assumes the longest
    /// lease.
    pub(super) fn with_short_lease(entry: &Entry) -> Entry {
        let mut bytes = entry.encode();
        if let Some(at) = lease(&bytes) {
            let until = at.start + LEASE.len() + 1;
            let until = &mut bytes[until..until + 8];
            let end = until.iter().fold(0, |end, byte| end << 8 | u64::from(*byte));
            let excess = Sessions::MAX_LEASE - LEASE_SPAN;
            let end = end - u64::try_from(excess.as_millis()).expect("leases are short");
            until.copy_from_slice(&end.to_be_bytes());
        }
        Entry::decode(bytes).expect("a lease may end at any time")
    }

    /// Returns the entry with the lease that the record of another holder contains.
    pub(super) fn with_lease_of(entry: &Entry, holder: &Entry) -> Entry {
        let (mut bytes, theirs) = (entry.encode(), holder.encode());
        let Some(theirs) = lease(&theirs).map(|at| theirs[at].to_vec()) else {
            return entry.clone();
        };
        match lease(&bytes) {
            Some(at) => drop(bytes.drain(at)),
            // The map is small, so one more field changes only this byte.
            None => bytes[envelope::HEADER_LEN] += 1,
        }
        let at = envelope::HEADER_LEN + 1;
        bytes.splice(at..at, theirs);
        Entry::decode(bytes).expect("the fields of a record have no order")
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Returns the place of the longest lease in a record: end and mark have nine bytes each, and the length
/// has five.
fn lease(bytes: &[u8]) -> Option<std::ops::Range<usize>> {
    let at = bytes.windows(LEASE.len()).position(|name| name == LEASE)?;
    Some(at..at + LEASE.len() + 9 + 5 + 9)
}

/// The name of the first use of the ID in a record, and the first byte of its instant.
const PRESENTED: &[u8] = b"\xa1n\xcf";

/// In milliseconds.
const A_MINUTE: u64 = 60_000;

/// The use of an ID that no request has presented yet.
const RENEWED: &[u8] = b"\xa1n\x00";

/// The name of the new ID in a tombstone, and the first byte of its value.
const SEALED_ID: &[u8] = b"\xa1i\xc4";

/// The field that marks the tombstone of a renewal.
const RENEWAL: &[u8] = b"\xa1r\xc3";

/// The field that marks the tombstone of a change of the user.
const CHANGES_OWNER: &[u8] = b"\xa1o\xc3";

const FALSE: u8 = 0xc2;

/// The name of the lease in a record, and the first byte of its three numbers.
const LEASE: &[u8] = b"\xa1l\x93";
