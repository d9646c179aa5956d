//! I11: the golden files of every format version are read, and written again byte by byte.

use super::*;
use crate::{
    IndexKey, Owner,
    record::{Lease, Links, UnknownFields, Values},
};

mod arbitrary;
mod damaged;

const HOUR: Duration = Duration::from_secs(3600);

macro_rules! golden {
    ($($name:literal),* $(,)?) => {
        [$(($name, include_str!(concat!("../../../tests/golden/", $name, ".hex")))),*]
    };
}

/// The bytes of the first release, in the order of [`entries`]. The stores of users hold these
/// bytes: never change them.
const GOLDEN: [(&str, &str); 12] = golden![
    "v1-session-full",
    "v1-session-minimal",
    "v1-session-with-end",
    "v1-session-locked",
    "v1-session-linked",
    "v1-session-acting",
    "v1-session-renewed",
    "v1-session-of-later-version",
    "v1-tombstone-login",
    "v1-tombstone-first-login",
    "v1-tombstone-renewal",
    "v1-tombstone-end-marker",
];

/// A session of the next format.
const NEXT_FORMAT: &str = include_str!("../../../tests/golden/v2-session.hex");

#[test]
fn golden_files_match_encode_and_decode() {
    for ((name, hex), entry) in GOLDEN.into_iter().zip(entries()) {
        assert_eq!(to_hex(&entry.encode()), hex, "encode, of {name}");
        assert_eq!(Entry::decode(from_hex(hex)).unwrap(), entry, "decode, of {name}");
    }
}

/// During a deployment both versions write the same sessions.
#[test]
fn unknown_fields_survive_decode_and_encode() {
    let bytes = from_hex(GOLDEN[7].1);
    let entry = Entry::decode(bytes.clone()).unwrap();
    let Entry::Session(record) = &entry else { panic!("a session was written") };
    let mut next = Record::clone(record);
    next.values.set("theme", b"\x00\xa5light");
    let again = live(next.clone()).encode();
    for field in [NESTED_FIELD, INTEGER_FIELD] {
        for bytes in [&bytes, &again] {
            assert!(bytes.windows(field.len()).any(|part| part == field), "{field:x?} is missing");
        }
    }
    assert_eq!(Entry::decode(again).unwrap(), live(next));
}

#[test]
fn unknown_fields_keep_no_spare_memory() {
    let mut bytes = live(minimal()).encode();
    bytes[HEADER_LEN] += 1;
    bytes.extend_from_slice(b"\xa1z\x01");
    let Ok(Entry::Session(record)) = Entry::decode(bytes) else { panic!("it is readable") };
    let unknown = Vec::from(Arc::into_inner(record).unwrap().unknown.bytes);
    assert_eq!((unknown.len(), unknown.capacity()), (3, 3));
}

/// A later version may write its fields anywhere.
#[test]
fn unknown_fields_survive_in_any_order() {
    let known = [&b"\xa1f\x07"[..], b"\xa1u\x01", b"\xa1v\x81\xa1a\xc4\x01A"];
    let unknown = [NESTED_FIELD, INTEGER_FIELD];
    let mut orders = vec![];
    for first in 0..=known.len() {
        for second in first..=known.len() {
            let mut fields = known.to_vec();
            fields.insert(second, unknown[1]);
            fields.insert(first, unknown[0]);
            orders.push(fields.concat());
        }
    }
    let header = &live(minimal()).encode()[..HEADER_LEN];
    let entry = |body: &[u8]| Entry::decode([header, b"\x85", body].concat()).unwrap();
    let first = entry(&orders[0]);
    for body in &orders {
        assert_eq!(entry(body), first);
        assert_eq!(Entry::decode(entry(body).encode()).unwrap(), first);
    }
}

#[test]
fn decode_refuses_the_next_format() {
    assert_corrupt(&from_hex(NEXT_FORMAT), "format 2");
}

/// The header takes 40 bytes, each value its name and a few bytes more.
#[test]
fn session_of_four_small_values_stays_small() {
    let mut record = minimal();
    record.owner = Some(Owner::from(4711_u64));
    record.authenticated_at = Some(record.created_at);
    record.values = Values::default();
    set(&mut record, "user", &4711_u32);
    set(&mut record, "locale", &"de-DE");
    set(&mut record, "theme", &"dark");
    set(&mut record, "csrf", &"pZ3q0d5bXk6W1yq8TnJr2w");
    insta::assert_snapshot!(live(record).encode().len(), @"138");
}

/// A few small values and the owner are copied, in order to free the whole record. Many values
/// share its bytes.
#[test]
fn decode_keeps_the_bytes_only_for_many_values() {
    let mut record = minimal();
    record.owner = Some(Owner::from("ada"));
    set(&mut record, "theme", &"dark");
    let is_kept = |record: &Record| {
        let bytes = Bytes::from(live(record.clone()).encode());
        let entry = Entry::decode(bytes.clone()).unwrap();
        let is_kept = !bytes.is_unique();
        drop(entry);
        is_kept
    };
    assert!(!is_kept(&record));
    set(&mut record, "cart", &vec![7_u8; 100]);
    assert!(is_kept(&record));
}

#[test]
fn decode_sorts_the_names_of_values() {
    let mut bytes = live(minimal()).encode();
    bytes.truncate(HEADER_LEN);
    bytes.extend_from_slice(b"\x81\xa1v\x83\xa1b\xc4\x01B\xa1a\xc4\x01A\xa1b\xc4\x01C");
    let Entry::Session(record) = Entry::decode(bytes).unwrap() else {
        panic!("a session was written")
    };
    let names: Vec<_> = record.values.names().collect();
    assert_eq!(names, ["a", "b"]);
    assert_eq!(record.values.get("a").unwrap(), b"A");
}

#[test]
fn u48_caps_numbers_at_48_bits() {
    assert_eq!(u48(0x0102_0304_0506), [1, 2, 3, 4, 5, 6]);
    assert_eq!(u48(u64::MAX), [0xff; 6]);
}

/// The entries of the golden files.
fn entries() -> [Entry; 12] {
    let successor = SessionKey::from_bytes(*b"0123456789abcdef");
    let sealed_id = SealedId::from_stored(Bytes::from_static(&[0xa5; 43]));
    let login = Tombstone {
        revision: Revision(8),
        nonce: Nonce(0x0102_0304_0506_0708),
        family: FAMILY,
        cause: Cause::Rotated { successor, sealed_id: None, changes_user: true },
        id_use: IdUse::Original,
        expires_at: Timestamp::from_millis(1_700_000_300_000),
    };
    let first_login = Tombstone {
        cause: Cause::Rotated {
            successor,
            sealed_id: Some(sealed_id.clone()),
            changes_user: false,
        },
        id_use: IdUse::Renewed,
        ..login.clone()
    };
    let renewal = Tombstone {
        cause: Cause::Renewed { successor, sealed_id },
        id_use: IdUse::Presented(Timestamp::from_millis(1_700_000_030_000)),
        ..login.clone()
    };
    let end_marker = Tombstone::end_marker(login.nonce, login.expires_at);
    [
        live(full()),
        live(minimal()),
        live(with_end()),
        live(locked()),
        live(linked()),
        live(acting()),
        live(renewed()),
        live(of_later_version()),
        moved(login),
        moved(first_login),
        moved(renewal),
        moved(end_marker),
    ]
}

fn full() -> Record {
    let created_at = Timestamp::from_millis(1_700_000_000_000);
    let lifetime = Lifetime::new(HOUR, 24 * HOUR)
        .unwrap()
        .with_renew_after(HOUR / 4)
        .unwrap()
        .with_cookie(CookieLifetime::Persistent);
    let mut record = Record {
        revision: Revision(0x0102_0304_0506),
        nonce: Nonce(0x1122_3344_5566_7788),
        family: FAMILY,
        created_at,
        last_seen_at: created_at + HOUR / 2,
        issued_at: created_at + HOUR / 3,
        id_use: IdUse::Presented(created_at + HOUR / 3),
        lifetime,
        ends_by: None,
        owner: Some(Owner::from("user 1")),
        actor: None,
        links: Links::default(),
        authenticated_at: Some(created_at + HOUR / 4),
        lease: None,
        values: Values::default(),
        unknown: UnknownFields::default(),
    };
    set(&mut record, "cart", &["apples", "pears"]);
    set(&mut record, "visits", &1_000);
    record.values.set("raw", b"\x02\x00\xff");
    record.values.set("é", b"");
    record
}

fn with_end() -> Record {
    let end = minimal().created_at + 2 * HOUR;
    Record { ends_by: Some(end), ..minimal() }
}

fn locked() -> Record {
    let lease = Lease {
        token: Nonce(0x0123_4567_89ab_cdef),
        until: Timestamp::from_millis(1_700_000_010_000),
        span: Duration::from_secs(10),
    };
    Record { lease: Some(lease), ..minimal() }
}

fn linked() -> Record {
    let mut record = minimal();
    record.links.add(IndexKey::from_bytes([0x22; 16]));
    record.links.add(IndexKey::from_bytes([0x11; 16]));
    record
}

fn acting() -> Record {
    let login = Record { owner: Some(Owner::from("ada")), ..linked() };
    Record { owner: Some(Owner::from("user 1")), actor: Some(Arc::new(login)), ..minimal() }
}

fn renewed() -> Record {
    let record = minimal();
    Record { issued_at: record.created_at + HOUR / 3, id_use: IdUse::Renewed, ..record }
}

/// A session with two fields of a later version.
fn of_later_version() -> Record {
    let mut record = minimal();
    record.owner = Some(Owner::from("user 1"));
    set(&mut record, "theme", &"dark");
    let bytes = [NESTED_FIELD, INTEGER_FIELD].concat().into();
    Record { unknown: UnknownFields { count: 2, bytes }, ..record }
}

fn minimal() -> Record {
    let created_at = Timestamp::from_millis(1_700_000_000_000);
    Record { family: FAMILY, ..Record::new(created_at, Lifetime::aal2()) }
}

const FAMILY: Family = Family(0xfa01_1702_0304_0506);

/// `"d": { "os": "linux", "seen": [1, nil] }`, as MessagePack.
const NESTED_FIELD: &[u8] = b"\xa1d\x82\xa2os\xa5linux\xa4seen\x92\x01\xc0";

/// `"w": 4711`, as MessagePack.
const INTEGER_FIELD: &[u8] = b"\xa1w\xcd\x12\x67";

fn set(record: &mut Record, name: &str, value: &impl Serialize) {
    let mut bytes = vec![0];
    value.serialize(&mut rmp_serde::Serializer::new(&mut bytes)).unwrap();
    record.values.set(name, &bytes);
}

fn live(record: Record) -> Entry {
    Entry::Session(Arc::new(record))
}

fn moved(tombstone: Tombstone) -> Entry {
    Entry::Tombstone(Arc::new(tombstone))
}

fn assert_corrupt(bytes: &[u8], reason: &str) {
    let error = Entry::decode(bytes.to_vec()).expect_err("bytes that are no record were read");
    assert_eq!(error.kind(), StoreErrorKind::Corrupt);
    assert!(error.source_text().contains(reason), "{}", error.source_text());
}

/// Asserts that a readable record can be written, and read again.
fn assert_read_or_corrupt(bytes: &[u8]) {
    match Entry::decode(bytes.to_vec()) {
        Ok(entry) => {
            let _ = (entry.expires_at(), entry.memory_bytes(), format!("{entry:?}"));
            let again = Entry::decode(entry.encode()).unwrap();
            assert_eq!(again, entry);
        }
        Err(error) => assert_eq!(error.kind(), StoreErrorKind::Corrupt),
    }
}

/// Returns lower-case digits, 32 bytes to a line.
fn to_hex(bytes: &[u8]) -> String {
    bytes
        .chunks(32)
        .map(|line| line.iter().map(|byte| format!("{byte:02x}")).collect::<String>() + "\n")
        .collect()
}

fn from_hex(text: &str) -> Vec<u8> {
    let digits: Vec<_> = text.chars().filter_map(|digit| digit.to_digit(16)).collect();
    digits.chunks(2).map(|pair| u8::try_from(pair[0] * 16 + pair[1]).unwrap()).collect()
}
