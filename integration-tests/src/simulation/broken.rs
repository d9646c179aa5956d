use std::fmt;

use session_core::{Entry, Sessions, Timestamp, envelope};

use super::plan::LEASE_SPAN;

/// The protocol with one of its rules broken, to prove that the simulation would find it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Broken {
    /// A commit replaces whatever revision is there.
    NoRevisionCheck,
    /// A commit of a session that is gone stores it again.
    UpsertOnGone,
    /// A session that moves leaves its old key before it is stored under the new one.
    DeleteBeforeCreate,
    /// A session is stored before its key is in its owner's index.
    IndexAfterCreate,
    /// The index forgets a session whose life was prolonged at its old deadline.
    IndexNotKept,
    /// "Sign out everywhere" stops at a session's former key.
    RevocationStopsAtTombstone,
    /// A commit whose answer was lost is sent again, and not recognized.
    NoNonce,
    /// A touch writes the session back as its request had read it.
    TouchThatRewrites,
    /// A touch is acknowledged and forgotten.
    TouchThatForgets,
    /// A made-up ID becomes that of the client's session.
    AdoptsUnknownId,
    /// What is loaded is as good as new, whatever its deadline was.
    LoadIgnoresDeadline,
    /// A commit of a session that has expired is accepted.
    CommitIgnoresDeadline,
    /// A login leaves the session under its old ID as well.
    LoginLeavesOldId,
    /// The former ID of a renewed session opens it for as long as it is remembered.
    GraceWithoutEnd,
    /// A commit that met another one is acknowledged as it is.
    ConflictNotReplayed,
    /// An end stops at a session's former key.
    EndStopsAtTombstone,
    /// A commit without an answer is acknowledged.
    TimeoutTakenForSuccess,
    /// A commit without an answer counts as one that was refused.
    TimeoutTakenForRefusal,
    /// A load is answered from a copy that is behind.
    ReadsAnOldCopy,
    /// The store keeps IDs readable.
    KeepsIdsReadable,
    /// A creation whose answer was lost arrives after the session's end. The store's commands are taken
    /// to arrive in order where one of them ends what another one made.
    CreationAfterTheEnd,
    /// A holder of a lock minds neither its lease's end nor who has it since.
    LeaseNotChecked,
    /// A login finds no other sessions, whatever the limit is.
    LimitDoesNotCount,
    /// A login from a session of the same owner does not take that one's place.
    OwnSessionTakesAPlace,
    /// A login that needs room ends another session than the one whose turn it is.
    EvictsAnotherSession,
    /// A request that a login overtook goes on as after a renewal.
    OvertakenGoesOn,
    /// A renewal is remembered for no longer than a login.
    RenewalForgottenEarly,
    /// A renewed ID closes the former one before any request has presented it.
    RenewalWithoutGrace,
    /// A response to a request that opened nothing removes the cookie.
    RemovesUnknownCookie,
    /// Of two logouts, the second removes the cookie too.
    SecondLogoutRemoves,
    /// A second login from one ID begins a session of its own.
    SecondLoginBeginsAnew,
    /// A response tells an ID that a login has closed since the request read it.
    TellsAnOutdatedId,
    /// A request whose ID a login has just closed begins a session.
    LateRequestBeginsAnew,
}

impl Broken {
    /// All of them.
    pub const ALL: [Self; 33] = [
        Self::NoRevisionCheck,
        Self::UpsertOnGone,
        Self::DeleteBeforeCreate,
        Self::IndexAfterCreate,
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
        Self::RenewalForgottenEarly,
        Self::RenewalWithoutGrace,
        Self::RemovesUnknownCookie,
        Self::SecondLogoutRemoves,
        Self::SecondLoginBeginsAnew,
        Self::TellsAnOutdatedId,
        Self::LateRequestBeginsAnew,
    ];

    /// The name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoRevisionCheck => "no-revision-check",
            Self::UpsertOnGone => "upsert-on-gone",
            Self::DeleteBeforeCreate => "delete-before-create",
            Self::IndexAfterCreate => "index-after-create",
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
            Self::RenewalForgottenEarly => "renewal-forgotten-early",
            Self::RenewalWithoutGrace => "renewal-without-grace",
            Self::RemovesUnknownCookie => "removes-unknown-cookie",
            Self::SecondLogoutRemoves => "second-logout-removes",
            Self::SecondLoginBeginsAnew => "second-login-begins-anew",
            Self::TellsAnOutdatedId => "tells-an-outdated-id",
            Self::LateRequestBeginsAnew => "late-request-begins-anew",
        }
    }

    /// The one of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|broken| broken.name() == name)
    }

    /// An entry whose ID looks as if no request had presented it yet.
    pub(super) fn without_presentation(entry: &Entry) -> Entry {
        let mut bytes = entry.encode();
        if let Some(at) = bytes.windows(PRESENTED.len()).position(|name| name == PRESENTED) {
            // The instant takes nine bytes; zero takes one.
            let at = at + PRESENTED.len() - 1;
            bytes.splice(at..at + 9, [0]);
        }
        Entry::decode(bytes).expect("an ID may be unused")
    }

    /// An entry whose ID looks as if a request had presented it long ago.
    pub(super) fn with_presentation(entry: &Entry) -> Entry {
        let mut bytes = entry.encode();
        if let Some(at) = bytes.windows(RENEWED.len()).position(|name| name == RENEWED) {
            let at = at + RENEWED.len() - 1;
            bytes[at] = 1;
        }
        Entry::decode(bytes).expect("an ID may be in use")
    }

    /// The tombstone of a visitor's login as one of a renewal. Any other entry stays the same.
    pub(super) fn as_renewal(entry: &Entry) -> Entry {
        let mut bytes = entry.encode();
        let is_login = bytes[envelope::KIND] == envelope::MOVED
            && bytes.windows(SEALED_ID.len()).any(|name| name == SEALED_ID)
            && bytes.windows(RENEWAL.len()).all(|name| name != RENEWAL);
        if is_login {
            // One field more in a map of a few.
            bytes[envelope::HEADER_LEN] += 1;
            let at = envelope::HEADER_LEN + 1;
            bytes.splice(at..at, RENEWAL.iter().copied());
        }
        Entry::decode(bytes).expect("the tombstone of a renewal holds the same fields")
    }

    /// A tombstone that looks older than it is. A renewal's stays the same.
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

    /// A tombstone that ends at an instant.
    pub(super) fn that_ends_at(entry: &Entry, end: Timestamp) -> Entry {
        let mut bytes = entry.encode();
        bytes[envelope::ENDS_AT].copy_from_slice(&envelope::u48(end.as_millis()));
        Entry::decode(bytes).expect("a tombstone may end at any time")
    }

    /// An entry whose commit nobody recognizes.
    pub(super) fn without_nonce(entry: &Entry) -> Entry {
        let mut bytes = entry.encode();
        let nonce = envelope::REVISION.end..envelope::LAST_SEEN_AT.start;
        bytes[nonce].fill(0);
        Entry::decode(bytes).expect("a nonce may be anything")
    }

    /// An entry whose lease is as long as one is, where its holder takes it for the longest.
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

    /// An entry with the lease of another one, as that one's holder sees it.
    pub(super) fn with_lease_of(entry: &Entry, holder: &Entry) -> Entry {
        let (mut bytes, theirs) = (entry.encode(), holder.encode());
        let Some(theirs) = lease(&theirs).map(|at| theirs[at].to_vec()) else {
            return entry.clone();
        };
        match lease(&bytes) {
            Some(at) => drop(bytes.drain(at)),
            // One field more in a map of a few.
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

/// Where the longest lease stands in a record: its end and its mark of nine bytes each, and its length of
/// five.
fn lease(bytes: &[u8]) -> Option<std::ops::Range<usize>> {
    let at = bytes.windows(LEASE.len()).position(|name| name == LEASE)?;
    Some(at..at + LEASE.len() + 9 + 5 + 9)
}

/// The name of the first use of the ID in a record, and the beginning of its instant.
const PRESENTED: &[u8] = b"\xa1n\xcf";

/// In milliseconds.
const A_MINUTE: u64 = 60_000;

/// The use of an ID that no request has presented yet.
const RENEWED: &[u8] = b"\xa1n\x00";

/// The name of the new ID in a tombstone, and the beginning of its bytes.
const SEALED_ID: &[u8] = b"\xa1i\xc4";

/// The field of a tombstone that is a renewal's.
const RENEWAL: &[u8] = b"\xa1r\xc3";

/// The name of the lease in a record, and the beginning of its three numbers.
const LEASE: &[u8] = b"\xa1l\x93";
