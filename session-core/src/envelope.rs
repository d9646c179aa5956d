//! The bytes of an [`Entry`] at rest: a fixed header, which a store may read and change on its own
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

use std::{fmt, ops::Range, sync::Arc, time::Duration};

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser::SerializeMap as _};

use crate::{
    CookieLifetime, Entry, Lifetime, Nonce, Owner, Record, Revision, SessionKey, StoreError,
    StoreErrorKind, Timestamp, Tombstone, codec::read_message_pack, record::Grace, seal::SealedId,
    values::Values,
};

/// The format that this version writes.
pub const VERSION: u8 = 1;
/// Where the kind stands: [`LIVE`] or [`MOVED`].
pub const KIND: usize = 1;
/// The kind of a session.
pub const LIVE: u8 = 0;
/// The kind of a tombstone.
pub const MOVED: u8 = 1;
/// Where the revision stands.
pub const REVISION: Range<usize> = 2..8;
/// Where the instant of the last request stands.
pub const LAST_SEEN_AT: Range<usize> = 16..22;
/// Where the idle time stands.
pub const IDLE: Range<usize> = 22..28;
/// Where the absolute deadline stands.
pub const ENDS_AT: Range<usize> = 28..34;
/// The length of the header.
pub const HEADER_LEN: usize = 40;

const NONCE: Range<usize> = 8..16;
const CREATED_AT: Range<usize> = 34..40;

/// Writes a number as the header's fields of six bytes hold it: big-endian, at most 48 bits.
#[must_use]
pub fn u48(number: u64) -> [u8; 6] {
    let [_, _, low @ ..] = number.min(Timestamp::MAX.as_millis()).to_be_bytes();
    low
}

impl Entry {
    /// The bytes to keep in a store that keeps bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Live(record) => {
                let mut out = Vec::with_capacity(HEADER_LEN + 64 + record.values.size() * 5 / 4);
                out.extend_from_slice(&[VERSION, LIVE]);
                out.extend_from_slice(&u48(record.revision.0));
                out.extend_from_slice(&record.nonce.0.to_be_bytes());
                out.extend_from_slice(&u48(record.last_seen_at.as_millis()));
                out.extend_from_slice(&u48(millis(record.lifetime.idle())));
                out.extend_from_slice(&u48(record.absolute_deadline().as_millis()));
                out.extend_from_slice(&u48(record.created_at.as_millis()));
                write_body(&mut out, &LiveBody::of(record));
                out
            }
            Self::Moved(tombstone) => {
                let mut out = Vec::with_capacity(HEADER_LEN + 96);
                out.extend_from_slice(&[VERSION, MOVED]);
                out.extend_from_slice(&u48(tombstone.revision.0));
                out.extend_from_slice(&tombstone.nonce.0.to_be_bytes());
                out.extend_from_slice(&[0; 12]);
                out.extend_from_slice(&u48(tombstone.expires_at.as_millis()));
                out.extend_from_slice(&[0; 6]);
                write_body(&mut out, &MovedBody::of(tombstone));
                out
            }
        }
    }

    /// Reads what [`encode`](Self::encode) wrote.
    ///
    /// # Errors
    ///
    /// Returns [`StoreErrorKind::Corrupt`] if the bytes are of another format, or of none.
    pub fn decode(bytes: impl Into<Bytes>) -> Result<Self, StoreError> {
        let bytes = bytes.into();
        read(&bytes)
            .map_err(|unreadable| StoreError::new(StoreErrorKind::Corrupt).with_source(unreadable))
    }
}

fn read(bytes: &Bytes) -> Result<Entry, Unreadable> {
    let version = *bytes.first().ok_or(Unreadable::Short)?;
    if version != VERSION {
        return Err(Unreadable::Version(version));
    }
    if bytes.len() < HEADER_LEN {
        return Err(Unreadable::Short);
    }
    let body = &bytes[HEADER_LEN..];
    let revision = Revision(number(bytes, REVISION));
    let nonce = Nonce(number(bytes, NONCE));
    match bytes[KIND] {
        LIVE => {
            let body: LiveBody<'_> = read_body(body)?;
            let created_at = instant(bytes, CREATED_AT);
            let lifetime = lifetime(bytes, created_at, &body)?;
            let mut values = Values::default();
            for (name, value) in body.values.0 {
                values.push_stored(bytes.slice_ref(name.as_bytes()), bytes.slice_ref(value));
            }
            values.sort();
            Ok(Entry::Live(Arc::new(Record {
                revision,
                nonce,
                created_at,
                last_seen_at: instant(bytes, LAST_SEEN_AT),
                issued_at: created_at + Duration::from_millis(body.issued_after_ms),
                lifetime,
                owner: body.owner.map(|owner| Owner::from_stored(bytes.slice_ref(owner))),
                authenticated_at: body
                    .authenticated_after_ms
                    .map(|after| created_at + Duration::from_millis(after)),
                values,
            })))
        }
        MOVED => {
            let body: MovedBody<'_> = read_body(body)?;
            let successor = body.successor[..].try_into().map_err(|_| Unreadable::Body)?;
            let grace = body.grace.map(|(until_ms, sealed_id)| Grace {
                until: Timestamp::from_millis(until_ms),
                sealed_id: SealedId::from_stored(bytes.slice_ref(sealed_id)),
            });
            Ok(Entry::Moved(Arc::new(Tombstone {
                revision,
                nonce,
                successor: SessionKey::from_bytes(successor),
                expires_at: instant(bytes, ENDS_AT),
                grace,
            })))
        }
        kind => Err(Unreadable::Kind(kind)),
    }
}

fn lifetime(
    bytes: &[u8],
    created_at: Timestamp,
    body: &LiveBody<'_>,
) -> Result<Lifetime, Unreadable> {
    let idle = Duration::from_millis(number(bytes, IDLE));
    let absolute = instant(bytes, ENDS_AT).since(created_at);
    let mut lifetime = Lifetime::new(idle, absolute).map_err(|_| Unreadable::Lifetime)?;
    if let Some(age) = body.renew_after_ms {
        lifetime = lifetime
            .with_renew_after(Duration::from_millis(age))
            .map_err(|_| Unreadable::Lifetime)?;
    }
    if body.persistent {
        lifetime = lifetime.with_cookie(CookieLifetime::Persistent);
    }
    Ok(lifetime)
}

/// The part of a session behind the header. Names are short, as every session pays for them; a field
/// that has its usual value is left out.
#[derive(Deserialize, Serialize)]
struct LiveBody<'a> {
    #[serde(rename = "i", default, skip_serializing_if = "is_zero")]
    issued_after_ms: u64,
    #[serde(rename = "r", default, skip_serializing_if = "Option::is_none")]
    renew_after_ms: Option<u64>,
    #[serde(rename = "p", default, skip_serializing_if = "is_false")]
    persistent: bool,
    #[serde(rename = "o", default, borrow, skip_serializing_if = "Option::is_none")]
    owner: Option<&'a serde_bytes::Bytes>,
    #[serde(rename = "u", default, skip_serializing_if = "Option::is_none")]
    authenticated_after_ms: Option<u64>,
    #[serde(rename = "v", default, borrow, skip_serializing_if = "ValueList::is_empty")]
    values: ValueList<'a>,
}

impl<'a> LiveBody<'a> {
    fn of(record: &'a Record) -> Self {
        let after_begin = |at: Timestamp| millis(at.since(record.created_at));
        Self {
            issued_after_ms: after_begin(record.issued_at),
            renew_after_ms: record.lifetime.renew_after().map(millis),
            persistent: record.lifetime.cookie() == CookieLifetime::Persistent,
            owner: record.owner.as_ref().map(|owner| serde_bytes::Bytes::new(owner.as_bytes())),
            authenticated_after_ms: record.authenticated_at.map(after_begin),
            values: ValueList(record.values.iter().map(|(name, value)| (name, &**value)).collect()),
        }
    }
}

/// The part of a tombstone behind the header.
#[derive(Deserialize, Serialize)]
struct MovedBody<'a> {
    #[serde(rename = "s", borrow)]
    successor: &'a serde_bytes::Bytes,
    /// Until when the former ID opens the session, and the sealed new one.
    #[serde(rename = "g", default, borrow, skip_serializing_if = "Option::is_none")]
    grace: Option<(u64, &'a serde_bytes::Bytes)>,
}

impl<'a> MovedBody<'a> {
    fn of(tombstone: &'a Tombstone) -> Self {
        Self {
            successor: serde_bytes::Bytes::new(tombstone.successor.as_bytes()),
            grace: tombstone.grace.as_ref().map(|grace| {
                let sealed_id = serde_bytes::Bytes::new(grace.sealed_id.as_bytes());
                (grace.until.as_millis(), sealed_id)
            }),
        }
    }
}

/// A map from names to opaque bytes, none of them copied.
#[derive(Default)]
struct ValueList<'a>(Vec<(&'a str, &'a [u8])>);

impl ValueList<'_> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for ValueList<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, serde_bytes::Bytes::new(value))?;
        }
        map.end()
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for ValueList<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl<'de> de::Visitor<'de> for Visitor {
            type Value = ValueList<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of values")
            }

            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                // What the bytes claim to hold is not believed before it is read.
                let mut values = Vec::with_capacity(map.size_hint().unwrap_or(0).min(64));
                while let Some((name, value)) = map.next_entry::<&str, &serde_bytes::Bytes>()? {
                    values.push((name, &**value));
                }
                Ok(ValueList(values))
            }
        }

        deserializer.deserialize_map(Visitor)
    }
}

/// Why bytes are no record. Holds none of them.
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

/// Reads all of a body.
fn read_body<'a, B: Deserialize<'a>>(bytes: &'a [u8]) -> Result<B, Unreadable> {
    read_message_pack(bytes, MAX_DEPTH).map_err(|_| Unreadable::Body)
}

fn number(bytes: &[u8], range: Range<usize>) -> u64 {
    bytes[range].iter().fold(0, |number, &byte| number << 8 | u64::from(byte))
}

fn instant(bytes: &[u8], range: Range<usize>) -> Timestamp {
    Timestamp::from_millis(number(bytes, range))
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

fn is_false(flag: &bool) -> bool {
    !flag
}

const MAX_DEPTH: usize = 32;

#[cfg(test)]
mod tests;
