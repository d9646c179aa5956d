//! The stored bytes of an [`Entry`]: a fixed header, which a store may read and change on its own
//! side, then MessagePack.
//!
//! | bytes | what | a session | a tombstone |
//! | --- | --- | --- | --- |
//! | 0 | format version | 1 | 1 |
//! | 1 | kind | 0 | 1 |
//! | 2..8 | revision | | |
//! | 8..16 | nonce | | |
//! | 16..22 | [`LAST_SEEN_AT`] | instant | 0 |
//! | 22..28 | [`IDLE`] | span | 0 |
//! | 28..34 | [`ENDS_AT`] | absolute deadline | end |
//! | 34..40 | created at | instant | 0 |
//! | 40.. | MessagePack map | | |
//!
//! Numbers are big-endian; instants are milliseconds since the Unix epoch, spans milliseconds. A
//! session expires at the earlier of `LAST_SEEN_AT + IDLE` and `ENDS_AT`; a tombstone at `ENDS_AT`.

mod body;

use std::{ops::Range, sync::Arc, time::Duration};

use body::SessionBody;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Cause, IdUse, Links, SealedId, UnknownFields, Values, codec::read_message_pack};
use crate::{
    CookieLifetime, Entry, Family, Lifetime, Nonce, Record, Revision, SessionKey, StoreError,
    StoreErrorKind, Timestamp, Tombstone,
};

/// The format written by this version.
pub const VERSION: u8 = 1;
/// The place of the kind: [`LIVE`] or [`MOVED`].
pub const KIND: usize = 1;
/// The kind of a session.
pub const LIVE: u8 = 0;
/// The kind of a tombstone.
pub const MOVED: u8 = 1;
/// The place of the revision.
pub const REVISION: Range<usize> = 2..8;
/// The place of the instant of the last request.
pub const LAST_SEEN_AT: Range<usize> = 16..22;
/// The place of the idle time.
pub const IDLE: Range<usize> = 22..28;
/// The place of the absolute deadline.
pub const ENDS_AT: Range<usize> = 28..34;
/// The length of the header.
pub const HEADER_LEN: usize = 40;

const NONCE: Range<usize> = 8..16;
const CREATED_AT: Range<usize> = 34..40;

/// Encodes a number for a header field of six bytes: big-endian, at most 48 bits.
#[must_use]
pub fn u48(number: u64) -> [u8; 6] {
    let [_, _, low @ ..] = number.min(Timestamp::MAX.as_millis()).to_be_bytes();
    low
}

/// Returns the first bytes of a session at a revision and nonce, for a store that compares them on
/// its own side.
#[must_use]
pub fn live_start(revision: Revision, nonce: Nonce) -> [u8; 16] {
    let mut start = [0; 16];
    (start[0], start[KIND]) = (VERSION, LIVE);
    start[REVISION].copy_from_slice(&u48(revision.0));
    start[NONCE].copy_from_slice(&nonce.0.to_be_bytes());
    start
}

impl Entry {
    /// Returns the entry as bytes, for a store of bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Session(record) => {
                let owner = record.owner.as_ref().map_or(0, |owner| owner.as_bytes().len());
                let mut out =
                    Vec::with_capacity(HEADER_LEN + 64 + owner + record.values.packed_size());
                let mut header = [0; HEADER_LEN];
                header[..LAST_SEEN_AT.start]
                    .copy_from_slice(&live_start(record.revision, record.nonce));
                header[LAST_SEEN_AT].copy_from_slice(&u48(record.last_seen_at.as_millis()));
                header[IDLE].copy_from_slice(&u48(record.lifetime.idle_ms()));
                header[ENDS_AT].copy_from_slice(&u48(record.absolute_deadline().as_millis()));
                header[CREATED_AT].copy_from_slice(&u48(record.created_at.as_millis()));
                out.extend_from_slice(&header);
                body::write(&mut out, record);
                out
            }
            Self::Tombstone(tombstone) => {
                let mut out = Vec::with_capacity(HEADER_LEN + 96);
                out.extend_from_slice(&[VERSION, MOVED]);
                out.extend_from_slice(&u48(tombstone.revision.0));
                out.extend_from_slice(&tombstone.nonce.0.to_be_bytes());
                out.extend_from_slice(&[0; 12]);
                out.extend_from_slice(&u48(tombstone.expires_at.as_millis()));
                out.extend_from_slice(&[0; 6]);
                write_body(&mut out, &TombstoneBody::of(tombstone));
                out
            }
        }
    }

    /// Decodes the bytes of [`encode`](Self::encode).
    ///
    /// # Errors
    ///
    /// Returns [`StoreErrorKind::Corrupt`] if the bytes are of another format, or not an entry at
    /// all.
    pub fn decode(bytes: impl Into<Bytes>) -> Result<Self, StoreError> {
        let bytes = bytes.into();
        read(&bytes)
            .map_err(|unreadable| StoreError::new(StoreErrorKind::Corrupt).with_source(unreadable))
    }
}

fn read(bytes: &Bytes) -> Result<Entry, Unreadable> {
    check_version(bytes)?;
    match bytes[KIND] {
        LIVE => read_session(bytes, true).map(Entry::Session),
        MOVED => {
            let body = &bytes[HEADER_LEN..];
            let body: TombstoneBody<'_> = read_body(body)?;
            if number(bytes, IDLE) != 0 {
                return Err(Unreadable::Body);
            }
            let successor = body
                .successor
                .map(|successor| <[u8; SessionKey::LEN]>::try_from(&successor[..]))
                .transpose()
                .map_err(|_| Unreadable::Body)?;
            let successor = successor.map(SessionKey::from_bytes);
            let sealed_id =
                body.sealed_id.map(|sealed| SealedId::from_stored(bytes.slice_ref(sealed)));
            let cause = match (successor, body.is_renewal, sealed_id) {
                (None, false, None) => Cause::Ended,
                (Some(successor), false, sealed_id) => {
                    let changes_user = body.changes_user;
                    Cause::Rotated { successor, sealed_id, changes_user }
                }
                (Some(successor), true, Some(sealed_id)) => Cause::Renewed { successor, sealed_id },
                _ => return Err(Unreadable::Body),
            };
            Ok(Entry::Tombstone(Arc::new(Tombstone {
                revision: Revision(number(bytes, REVISION)),
                nonce: Nonce(number(bytes, NONCE)),
                family: Family(body.family),
                cause,
                id_use: id_use_of(body.presented_ms),
                expires_at: instant(bytes, ENDS_AT),
            })))
        }
        kind => Err(Unreadable::Kind(kind)),
    }
}

fn check_version(bytes: &[u8]) -> Result<(), Unreadable> {
    match bytes.first() {
        Some(&VERSION) if HEADER_LEN <= bytes.len() => Ok(()),
        Some(&VERSION) | None => Err(Unreadable::Short),
        Some(&version) => Err(Unreadable::Version(version)),
    }
}

/// Reads a session, with that of its actor if it may have one. An actor's session has none, so that
/// the depth is bounded.
fn read_session(bytes: &Bytes, may_have_actor: bool) -> Result<Arc<Record>, Unreadable> {
    let created_at = instant(bytes, CREATED_AT);
    // Filled in its place, because a record is large to move.
    let mut shared = Arc::new(Record {
        revision: Revision(number(bytes, REVISION)),
        nonce: Nonce(number(bytes, NONCE)),
        created_at,
        last_seen_at: instant(bytes, LAST_SEEN_AT),
        issued_at: created_at,
        lifetime: Lifetime::standard(),
        ends_by: None,
        owner: None,
        actor: None,
        links: Links::default(),
        authenticated_at: None,
        lease: None,
        family: Family(0),
        id_use: IdUse::Original,
        unknown: UnknownFields::default(),
        values: Values::default(),
    });
    let record = Arc::get_mut(&mut shared).expect("nobody else has it yet");
    let body = SessionBody::read(bytes, HEADER_LEN, record).ok_or(Unreadable::Body)?;
    record.lifetime = lifetime(bytes, record, &body)?;
    if let Some(login) = body.actor {
        check_version(&login)?;
        if !may_have_actor || login[KIND] != LIVE || record.owner.is_none() {
            return Err(Unreadable::Body);
        }
        let login = read_session(&login, false)?;
        if login.owner.is_none() {
            return Err(Unreadable::Body);
        }
        record.actor = Some(login);
    }
    Ok(shared)
}

fn lifetime(bytes: &[u8], record: &Record, body: &SessionBody) -> Result<Lifetime, Unreadable> {
    let idle = Duration::from_millis(number(bytes, IDLE));
    let ends_at = instant(bytes, ENDS_AT);
    let absolute = match body.absolute_ms {
        Some(millis) => Duration::from_millis(millis),
        None => ends_at.since(record.created_at),
    };
    let mut lifetime = Lifetime::new(idle, absolute).map_err(|_| Unreadable::Lifetime)?;
    let set_end = record.ends_by.unwrap_or(Timestamp::MAX);
    if ends_at != set_end.min(record.created_at + absolute) {
        // A store uses the deadline in the header, and it contradicts the body.
        return Err(Unreadable::Lifetime);
    }
    if let Some(age) = body.renew_after_ms {
        lifetime = lifetime
            .with_renew_after(Duration::from_millis(age))
            .map_err(|_| Unreadable::Lifetime)?;
    }
    if body.is_persistent {
        lifetime = lifetime.with_cookie(CookieLifetime::Persistent);
    }
    Ok(lifetime)
}

/// The part of a tombstone behind the header.
#[derive(Deserialize, Serialize)]
struct TombstoneBody<'a> {
    #[serde(rename = "f", default, skip_serializing_if = "is_zero")]
    family: u64,
    #[serde(rename = "s", default, borrow, skip_serializing_if = "Option::is_none")]
    successor: Option<&'a serde_bytes::Bytes>,
    #[serde(rename = "r", default, skip_serializing_if = "is_false")]
    is_renewal: bool,
    #[serde(rename = "o", default, skip_serializing_if = "is_false")]
    changes_user: bool,
    /// The new ID, sealed under the former one.
    #[serde(rename = "i", default, borrow, skip_serializing_if = "Option::is_none")]
    sealed_id: Option<&'a serde_bytes::Bytes>,
    /// The use of the ID, as [`presented_ms`] writes it.
    #[serde(rename = "n", default, skip_serializing_if = "Option::is_none")]
    presented_ms: Option<u64>,
}

impl<'a> TombstoneBody<'a> {
    fn of(tombstone: &'a Tombstone) -> Self {
        let (successor, is_renewal, sealed_id) = match &tombstone.cause {
            Cause::Ended => (None, false, None),
            Cause::Rotated { successor, sealed_id, .. } => {
                (Some(successor), false, sealed_id.as_ref())
            }
            Cause::Renewed { successor, sealed_id } => (Some(successor), true, Some(sealed_id)),
        };
        Self {
            family: tombstone.family.0,
            successor: successor.map(|key| serde_bytes::Bytes::new(key.as_bytes())),
            is_renewal,
            changes_user: matches!(tombstone.cause, Cause::Rotated { changes_user: true, .. }),
            sealed_id: sealed_id.map(|sealed| serde_bytes::Bytes::new(sealed.as_bytes())),
            presented_ms: presented_ms(tombstone.id_use),
        }
    }
}

/// Returns the number that stands for the use of an ID. `None` is an original ID, and zero is a
/// renewed ID before its first presentation. Any other number is the instant of the first
/// presentation.
fn presented_ms(id_use: IdUse) -> Option<u64> {
    match id_use {
        IdUse::Original => None,
        IdUse::Renewed => Some(0),
        IdUse::Presented(at) => Some(at.as_millis().max(1)),
    }
}

fn id_use_of(presented_ms: Option<u64>) -> IdUse {
    match presented_ms {
        None => IdUse::Original,
        Some(0) => IdUse::Renewed,
        Some(millis) => IdUse::Presented(Timestamp::from_millis(millis)),
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(flag: &bool) -> bool {
    !flag
}

/// The reason why bytes are unreadable, without the bytes themselves.
#[derive(Debug, thiserror::Error)]
enum Unreadable {
    #[error("the record is too short")]
    Short,
    #[error("the record is of format {0}, which this version does not know")]
    Version(u8),
    #[error("the record is of kind {0}, which this version does not know")]
    Kind(u8),
    #[error("the record has an impossible lifetime")]
    Lifetime,
    #[error("the record's body is damaged")]
    Body,
}

fn write_body(out: &mut Vec<u8>, body: &impl Serialize) {
    body.serialize(&mut rmp_serde::Serializer::new(out).with_struct_map())
        .expect("a body holds only maps, text, bytes and integers, and a vector takes all");
}

/// Reads a whole body.
fn read_body<'a, B: Deserialize<'a>>(bytes: &'a [u8]) -> Result<B, Unreadable> {
    read_message_pack(bytes).map_err(|_| Unreadable::Body)
}

fn number(bytes: &[u8], range: Range<usize>) -> u64 {
    let mut number = [0; 8];
    number[8 - range.len()..].copy_from_slice(&bytes[range]);
    u64::from_be_bytes(number)
}

fn instant(bytes: &[u8], range: Range<usize>) -> Timestamp {
    Timestamp::from_millis(number(bytes, range))
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
