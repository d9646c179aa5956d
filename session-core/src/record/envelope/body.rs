use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use rmp::{decode, encode};
use serde::{Deserialize as _, de::IgnoredAny};

use super::{super::values::read_bytes, id_use_of, millis, presented_ms};
use crate::{
    CookieLifetime, Entry, Family, Nonce, Owner, Record, Timestamp,
    record::{IdUse, Lease, Links, Values},
};

/// The part of a session behind the header: a MessagePack map whose keys are letters. A field with
/// its default value is left out.
///
/// Hand-written code reads and writes the body, because every request needs it. These are the
/// fields that stand in a record in another form.
#[derive(Default)]
pub(super) struct SessionBody {
    pub(super) renew_after_ms: Option<u64>,
    pub(super) is_persistent: bool,
    /// The absolute lifetime, if `ends_by` comes before its end.
    pub(super) absolute_ms: Option<u64>,
    /// The session of the actor, as [`Entry::encode`](crate::Entry::encode) wrote it.
    pub(super) actor: Option<Bytes>,
}

impl SessionBody {
    /// Reads the body of `bytes` from `start` to their end into a record that has the fields of the
    /// header. Keeps fields of a later version as they are.
    pub(super) fn read(bytes: &Bytes, start: usize, record: &mut Record) -> Option<Self> {
        let mut body = Self::default();
        let created_at = record.created_at;
        // Instants are stored as the time from the beginning of the session, and negative if they
        // are earlier.
        let read_instant = |rest: &mut &[u8]| {
            let millis: i64 = decode::read_int(rest).ok()?;
            created_at.as_millis().checked_add_signed(millis).map(Timestamp::from_millis)
        };
        let mut unknown = Vec::new();
        let mut rest = bytes.get(start..)?;
        for _ in 0..decode::read_map_len(&mut rest).ok()? {
            let field = rest;
            match read_name(&mut rest)? {
                ISSUED => record.issued_at = read_instant(&mut rest)?,
                RENEW => body.renew_after_ms = Some(decode::read_int(&mut rest).ok()?),
                PERSISTENT => body.is_persistent = decode::read_bool(&mut rest).ok()?,
                END => {
                    let millis = decode::read_int(&mut rest).ok()?;
                    record.ends_by = Some(Timestamp::from_millis(millis));
                }
                ABSOLUTE => body.absolute_ms = Some(decode::read_int(&mut rest).ok()?),
                OWNER => {
                    let len = decode::read_bin_len(&mut rest).ok()?;
                    let owner = bytes.slice_ref(read_bytes(&mut rest, len)?);
                    record.owner = Some(Owner::from_stored(owner));
                }
                ACTOR => {
                    let len = decode::read_bin_len(&mut rest).ok()?;
                    body.actor = Some(bytes.slice_ref(read_bytes(&mut rest, len)?));
                }
                LINKS => {
                    let len = decode::read_bin_len(&mut rest).ok()?;
                    record.links = Links::from_stored(read_bytes(&mut rest, len)?)?;
                }
                AUTHENTICATED => record.authenticated_at = Some(read_instant(&mut rest)?),
                LEASE => record.lease = Some(read_lease(&mut rest)?),
                FAMILY => record.family = Family(decode::read_int(&mut rest).ok()?),
                PRESENTED => record.id_use = id_use_of(Some(decode::read_int(&mut rest).ok()?)),
                VALUES => record.values = Values::read_stored(&mut rest, bytes)?,
                _ => {
                    pass_over(&mut rest)?;
                    unknown.extend_from_slice(&field[..field.len() - rest.len()]);
                    record.unknown.count += 1;
                }
            }
        }
        if !rest.is_empty() {
            return None;
        }
        // The spare capacity of the vector would stay allocated as long as the session.
        record.unknown.bytes = unknown.into_boxed_slice().into();
        if record.values.heap_size() == 0
            && let Some(owner) = &mut record.owner
        {
            // Copies the owner, because only the owner would keep the bytes of the whole record in
            // memory.
            *owner = Owner::from_stored(Bytes::copy_from_slice(owner.as_bytes()));
        }
        Some(body)
    }
}

/// Writes the body in the form of [`SessionBody::read`].
pub(super) fn write(out: &mut Vec<u8>, record: &Record) {
    let begin = record.created_at.as_millis();
    let after_begin = |at: Timestamp| at.as_millis().cast_signed() - begin.cast_signed();
    let issued_after_ms = after_begin(record.issued_at);
    let is_persistent = record.lifetime.cookie() == CookieLifetime::Persistent;
    let uncut = record.lifetime.absolute_deadline(record.created_at);
    let is_cut = record.ends_by.is_some_and(|end| end < uncut);
    let fields = [
        issued_after_ms != 0,
        record.lifetime.renew_after().is_some(),
        is_persistent,
        record.ends_by.is_some(),
        is_cut,
        record.owner.is_some(),
        record.actor.is_some(),
        !record.links.keys().is_empty(),
        record.authenticated_at.is_some(),
        record.lease.is_some(),
        record.id_use != IdUse::Original,
        !record.values.is_empty(),
    ];
    let known: u32 = fields.into_iter().map(u32::from).sum();
    encode::write_map_len(out, 1 + known + record.unknown.count).expect(INFALLIBLE);
    write_name(out, FAMILY);
    encode::write_u64(out, record.family.0).expect(INFALLIBLE);
    if issued_after_ms != 0 {
        write_signed(out, ISSUED, issued_after_ms);
    }
    if let Some(age) = record.lifetime.renew_after() {
        write_int(out, RENEW, millis(age));
    }
    if is_persistent {
        write_name(out, PERSISTENT);
        encode::write_bool(out, true).expect(INFALLIBLE);
    }
    if let Some(end) = record.ends_by {
        write_int(out, END, end.as_millis());
    }
    if is_cut {
        write_int(out, ABSOLUTE, record.lifetime.absolute_ms());
    }
    if let Some(owner) = &record.owner {
        write_name(out, OWNER);
        encode::write_bin(out, owner.as_bytes()).expect(INFALLIBLE);
    }
    if let Some(login) = &record.actor {
        write_name(out, ACTOR);
        encode::write_bin(out, &Entry::Session(Arc::clone(login)).encode()).expect(INFALLIBLE);
    }
    let links = record.links.keys();
    if !links.is_empty() {
        write_name(out, LINKS);
        let len = u32::try_from(size_of_val(links)).expect("a session has few links");
        encode::write_bin_len(out, len).expect(INFALLIBLE);
        links.iter().for_each(|link| out.extend_from_slice(link.as_bytes()));
    }
    if let Some(at) = record.authenticated_at {
        write_signed(out, AUTHENTICATED, after_begin(at));
    }
    if let Some(lease) = &record.lease {
        write_name(out, LEASE);
        encode::write_array_len(out, LEASE_NUMBERS).expect(INFALLIBLE);
        for number in [lease.until.as_millis(), millis(lease.span), lease.token.0] {
            encode::write_uint(out, number).expect(INFALLIBLE);
        }
    }
    if let Some(millis) = presented_ms(record.id_use) {
        write_int(out, PRESENTED, millis);
    }
    if !record.values.is_empty() {
        write_name(out, VALUES);
        record.values.write_stored(out);
    }
    out.extend_from_slice(&record.unknown.bytes);
}

fn read_lease(rest: &mut &[u8]) -> Option<Lease> {
    if decode::read_array_len(rest).ok()? != LEASE_NUMBERS {
        return None;
    }
    let until_ms = decode::read_int(rest).ok()?;
    let span_ms = decode::read_int(rest).ok()?;
    let token = decode::read_int(rest).ok()?;
    Some(Lease {
        token: Nonce(token),
        until: Timestamp::from_millis(until_ms),
        span: Duration::from_millis(span_ms),
    })
}

/// Reads the name of a field: its letter, or [`UNKNOWN`] for a name of another length.
fn read_name(rest: &mut &[u8]) -> Option<u8> {
    if let [LETTER, name, after @ ..] = *rest {
        *rest = after;
        return Some(*name);
    }
    let len = decode::read_str_len(rest).ok()?;
    Some(match read_bytes(rest, len)? {
        [name] => *name,
        _ => UNKNOWN,
    })
}

fn write_int(out: &mut Vec<u8>, name: u8, number: u64) {
    write_name(out, name);
    encode::write_uint(out, number).expect(INFALLIBLE);
}

fn write_signed(out: &mut Vec<u8>, name: u8, number: i64) {
    write_name(out, name);
    encode::write_sint(out, number).expect(INFALLIBLE);
}

fn write_name(out: &mut Vec<u8>, name: u8) {
    out.extend_from_slice(&[LETTER, name]);
}

/// Skips one value of any kind.
fn pass_over(rest: &mut &[u8]) -> Option<()> {
    let mut reader = rmp_serde::Deserializer::new(rest);
    reader.set_max_depth(MAX_DEPTH);
    IgnoredAny::deserialize(&mut reader).ok()?;
    Some(())
}

/// The levels that an unknown field may nest.
const MAX_DEPTH: usize = 32;

const ISSUED: u8 = b'i';
const RENEW: u8 = b'r';
const PERSISTENT: u8 = b'p';
const END: u8 = b'e';
const ABSOLUTE: u8 = b'a';
const OWNER: u8 = b'o';
/// The session of the actor, as an entry of its own.
const ACTOR: u8 = b'c';
/// The keys of the links, one after the other.
const LINKS: u8 = b'k';
const AUTHENTICATED: u8 = b'u';
/// An array: the lease's deadline, its length in milliseconds, and its fencing token.
const LEASE: u8 = b'l';
const LEASE_NUMBERS: u32 = 3;
const FAMILY: u8 = b'f';
/// The use of the present ID, if a renewal made it.
const PRESENTED: u8 = b'n';
const VALUES: u8 = b'v';

/// The marker of a text of one byte.
const LETTER: u8 = 0xa1;
/// A letter outside of the format, for every unknown field.
const UNKNOWN: u8 = 0;

const INFALLIBLE: &str = "a vector takes all";
