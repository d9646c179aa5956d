use std::fmt;

use session_core::{Entry, envelope};

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
}

impl Broken {
    /// All of them.
    pub const ALL: [Self; 21] = [
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
        }
    }

    /// The one of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|broken| broken.name() == name)
    }

    /// An entry whose commit nobody recognizes.
    pub(super) fn without_nonce(entry: &Entry) -> Entry {
        let mut bytes = entry.encode();
        let nonce = envelope::REVISION.end..envelope::LAST_SEEN_AT.start;
        bytes[nonce].fill(0);
        Entry::decode(bytes).expect("a nonce may be anything")
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
