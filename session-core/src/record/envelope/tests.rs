use proptest::{collection::vec, option, prelude::*};

use super::*;
use crate::{
    Owner,
    record::{Lease, UnknownFields, Values},
};

const HOUR: Duration = Duration::from_secs(3600);

/// What this format's writer wrote. Once released, these bytes are in people's stores and never change.
const GOLDEN: [(&str, &str); 8] = [
    ("v1-everything", include_str!("../../../tests/golden/v1-everything.hex")),
    ("v1-least", include_str!("../../../tests/golden/v1-least.hex")),
    ("v1-login", include_str!("../../../tests/golden/v1-login.hex")),
    ("v1-renewal", include_str!("../../../tests/golden/v1-renewal.hex")),
    ("v1-locked", include_str!("../../../tests/golden/v1-locked.hex")),
    ("v1-ending", include_str!("../../../tests/golden/v1-ending.hex")),
    ("v1-end", include_str!("../../../tests/golden/v1-end.hex")),
    ("v1-renewed", include_str!("../../../tests/golden/v1-renewed.hex")),
];

#[test]
fn golden_bytes_are_what_is_written_and_read() {
    for ((name, hex), entry) in GOLDEN.into_iter().zip(entries()) {
        assert_eq!(to_hex(&entry.encode()), hex, "what is written, of {name}");
        assert_eq!(Entry::decode(from_hex(hex)).unwrap(), entry, "what is read, of {name}");
    }
}

/// What a session costs in the store: 40 bytes of header, and some per value.
#[test]
fn a_session_of_four_small_values_is_this_large() {
    let mut record = Record { family: Family(u64::MAX), ..least() };
    record.owner = Some(Owner::from(4711_u64));
    record.authenticated_at = Some(record.created_at);
    record.values = Values::default();
    set(&mut record, "user", &4711_u32);
    set(&mut record, "locale", &"de-DE");
    set(&mut record, "theme", &"dark");
    set(&mut record, "csrf", &"pZ3q0d5bXk6W1yq8TnJr2w");
    insta::assert_snapshot!(live(record).encode().len(), @"138");
}

/// Of few values each is copied, and the owner is: the bytes are not kept for a part of them. Many share them.
#[test]
fn bytes_that_were_read_are_kept_only_for_many_values() {
    let mut record = least();
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
fn another_version_is_corrupt_whatever_follows() {
    for version in [0, 2, 3, 255] {
        for entry in entries() {
            let mut bytes = entry.encode();
            bytes[0] = version;
            assert_corrupt(&bytes, &format!("format {version}"));
            assert_corrupt(&bytes[..1], &format!("format {version}"));
        }
    }
}

#[test]
fn an_unknown_kind_is_corrupt() {
    for kind in 2..=255 {
        let mut bytes = live(least()).encode();
        bytes[KIND] = kind;
        assert_corrupt(&bytes, &format!("kind {kind}"));
    }
}

#[test]
fn one_kind_is_not_read_as_the_other() {
    for entry in entries() {
        let mut bytes = entry.encode();
        bytes[KIND] ^= 1;
        assert_corrupt(&bytes, "");
    }
}

#[test]
fn what_was_cut_is_corrupt_at_every_length() {
    for entry in entries() {
        let bytes = entry.encode();
        for len in 0..bytes.len() {
            assert_corrupt(&bytes[..len], "");
        }
    }
}

#[test]
fn what_has_something_behind_it_is_corrupt() {
    for entry in entries() {
        for garbage in [&b"\0"[..], b"\x80", b"garbage"] {
            let mut bytes = entry.encode();
            bytes.extend_from_slice(garbage);
            assert_corrupt(&bytes, "");
        }
    }
}

#[test]
fn a_changed_byte_is_read_or_corrupt_and_never_a_panic() {
    for entry in entries() {
        let bytes = entry.encode();
        for at in 0..bytes.len() {
            for other in 0..=255 {
                let mut bytes = bytes.clone();
                bytes[at] = other;
                read_or_corrupt(&bytes);
            }
        }
    }
}

#[test]
fn an_impossible_lifetime_is_corrupt() {
    let bytes = live(least()).encode();
    for (field, millis) in [(IDLE, 0), (IDLE, u64::MAX), (ENDS_AT, 0)] {
        let mut bytes = bytes.clone();
        bytes[field].copy_from_slice(&u48(millis));
        assert_corrupt(&bytes, "lifetime");
    }
}

/// A store goes by the header, core by the record: they must not differ.
#[test]
fn a_header_that_contradicts_the_body_is_corrupt() {
    for (earlier, later) in [(1, 0), (0, 1), (1 << 40, 0), (0, 1 << 40)] {
        let mut bytes = live(ending()).encode();
        let ends_at = number(&bytes, ENDS_AT);
        bytes[ENDS_AT].copy_from_slice(&u48(ends_at - earlier + later));
        assert_corrupt(&bytes, "lifetime");
    }
}

/// While a deployment runs, requests of two versions write to one session.
#[test]
fn fields_of_a_later_version_are_kept() {
    let mut bytes = live(least()).encode();
    let fields = &mut bytes[HEADER_LEN];
    assert_eq!(*fields, 0x81, "a map with the family alone");
    *fields = 0x83;
    bytes.extend_from_slice(b"\xa1z\x93\x01\xc0\xa1?\xa1y\x07");
    let Entry::Live(record) = Entry::decode(bytes.clone()).unwrap() else {
        panic!("a session was written")
    };
    assert_eq!(live(Record::clone(&record)).encode(), bytes);
    // A request of this version changes a value.
    let mut changed = Record::clone(&record);
    set(&mut changed, "a", &1);
    let Entry::Live(changed) = Entry::decode(live(changed).encode()).unwrap() else {
        panic!("a session was written")
    };
    assert_eq!((changed.unknown.count, &changed.unknown.bytes), (2, &record.unknown.bytes));
}

#[test]
fn a_successor_that_is_no_key_is_corrupt() {
    for len in [0, 15, 17] {
        let mut bytes = entries()[2].encode();
        bytes.truncate(HEADER_LEN);
        bytes.extend_from_slice(&[0x81, 0xa1, b's', 0xc4, len]);
        bytes.resize(bytes.len() + usize::from(len), 0);
        assert_corrupt(&bytes, "body");
    }
}

#[test]
fn names_out_of_order_are_put_in_order() {
    let mut bytes = live(least()).encode();
    bytes.truncate(HEADER_LEN);
    bytes.extend_from_slice(b"\x81\xa1v\x83\xa1b\xc4\x01B\xa1a\xc4\x01A\xa1b\xc4\x01C");
    let Entry::Live(record) = Entry::decode(bytes).unwrap() else {
        panic!("a session was written")
    };
    let names: Vec<_> = record.values.names().collect();
    assert_eq!(names, ["a", "b"]);
    assert_eq!(record.values.get("a").unwrap(), b"A");
}

#[test]
fn claimed_lengths_are_not_believed() {
    let header = &live(least()).encode()[..HEADER_LEN];
    for claim in [
        &b"\x81\xa1v\xdf\xff\xff\xff\xff"[..],
        b"\x81\xa1v\x81\xdb\xff\xff\xff\xff",
        b"\x81\xa1v\x81\xa1a\xc6\xff\xff\xff\xff",
        b"\x81\xa1o\xc6\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
    ] {
        let bytes = [header, claim].concat();
        // An attempt at 4 GiB of each would be noticed: by the allocator, or by the clock.
        for _ in 0..100 {
            assert_corrupt(&bytes, "");
        }
    }
}

#[test]
fn deep_nesting_is_read_or_corrupt() {
    let mut bytes = live(least()).encode();
    bytes.truncate(HEADER_LEN);
    bytes.extend_from_slice(b"\x81\xa1z");
    bytes.resize(1 << 20, 0x91);
    read_or_corrupt(&bytes);
}

/// An event may tell why a record could not be read, and nothing of what is in it (I10).
#[test]
fn errors_tell_nothing_of_the_record() {
    for entry in entries() {
        let mut bytes = entry.encode();
        bytes.pop();
        let error = Entry::decode(bytes).unwrap_err();
        insta::allow_duplicates! {
            insta::assert_snapshot!(error, @"the stored session is unreadable");
            insta::assert_snapshot!(error.source_text(), @"the record's body is damaged");
        }
    }
}

#[test]
fn numbers_are_cut_to_48_bits() {
    assert_eq!(u48(0x0102_0304_0506), [1, 2, 3, 4, 5, 6]);
    assert_eq!(u48(u64::MAX), [0xff; 6]);
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(entry in any_entry()) {
        let bytes = entry.encode();
        prop_assert_eq!(bytes[0], VERSION);
        let read = Entry::decode(bytes.clone()).unwrap();
        prop_assert_eq!(&read, &entry);
        prop_assert_eq!(read.encode(), bytes);
    }

    /// A store reckons with the header alone.
    #[test]
    fn the_header_tells_the_deadline_and_the_revision(entry in any_entry()) {
        let bytes = entry.encode();
        let ends_at = number(&bytes, ENDS_AT);
        let deadline = if bytes[KIND] == LIVE {
            ends_at.min(number(&bytes, LAST_SEEN_AT) + number(&bytes, IDLE))
        } else {
            ends_at
        };
        prop_assert_eq!(deadline, entry.expires_at().as_millis());
        prop_assert_eq!(number(&bytes, REVISION), entry.revision().as_u64());
    }

    #[test]
    fn any_bytes_are_read_or_corrupt(bytes in vec(any::<u8>(), 0..200)) {
        read_or_corrupt(&bytes);
    }

    #[test]
    fn any_body_is_read_or_corrupt(
        entry in any_entry(),
        body in vec(any::<u8>(), 0..100),
        at in any::<prop::sample::Index>(),
    ) {
        let mut bytes = entry.encode();
        bytes.truncate(HEADER_LEN);
        bytes.extend_from_slice(&body);
        read_or_corrupt(&bytes);
        let mut bytes = entry.encode();
        let at = at.index(bytes.len());
        let end = bytes.len().min(at + body.len());
        bytes[at..end].copy_from_slice(&body[..end - at]);
        read_or_corrupt(&bytes);
    }
}

/// The entries of the golden files.
fn entries() -> [Entry; 8] {
    let successor = SessionKey::from_bytes(*b"0123456789abcdef");
    let login = Tombstone {
        revision: Revision(8),
        nonce: Nonce(0x0102_0304_0506_0708),
        family: Family(0x0807_0605_0403_0201),
        cause: Cause::Rotated { successor, sealed_id: None },
        id_use: IdUse::Original,
        expires_at: Timestamp::from_millis(1_700_000_300_000),
    };
    let sealed_id = SealedId::from_stored(Bytes::from_static(&[0xa5; 43]));
    let renewal = Tombstone {
        cause: Cause::Renewed { successor, sealed_id },
        id_use: IdUse::Presented(Timestamp::from_millis(1_700_000_030_000)),
        ..login.clone()
    };
    let end = Tombstone::end_marker(login.nonce, login.expires_at);
    [
        live(everything()),
        live(least()),
        moved(login),
        moved(renewal),
        live(locked()),
        live(ending()),
        moved(end),
        live(renewed()),
    ]
}

fn everything() -> Record {
    let created_at = Timestamp::from_millis(1_700_000_000_000);
    let lifetime = Lifetime::new(HOUR, 24 * HOUR)
        .unwrap()
        .with_renew_after(HOUR / 4)
        .unwrap()
        .with_cookie(CookieLifetime::Persistent);
    let mut record = Record {
        revision: Revision(0x0102_0304_0506),
        nonce: Nonce(0x1122_3344_5566_7788),
        created_at,
        last_seen_at: created_at + HOUR / 2,
        issued_at: created_at + HOUR / 3,
        lifetime,
        ends_by: None,
        owner: Some(Owner::from("user 1")),
        authenticated_at: Some(created_at + HOUR / 4),
        lease: None,
        family: Family(0x1020_3040_5060_7080),
        id_use: IdUse::Presented(created_at + HOUR / 3),
        unknown: UnknownFields::default(),
        values: Values::default(),
    };
    set(&mut record, "cart", &["apples", "pears"]);
    set(&mut record, "visits", &1_000);
    record.values.set("raw", b"\x02\x00\xff");
    record.values.set("é", b"");
    record
}

fn ending() -> Record {
    let mut record = least();
    record.ends_by = Some(record.created_at + 2 * HOUR);
    record
}

fn locked() -> Record {
    let lease = Lease {
        token: Nonce(0x0123_4567_89ab_cdef),
        until: Timestamp::from_millis(1_700_000_010_000),
        span: Duration::from_secs(10),
    };
    Record { lease: Some(lease), ..least() }
}

fn renewed() -> Record {
    Record { id_use: IdUse::Renewed, owner: Some(Owner::from("user 1")), ..least() }
}

fn least() -> Record {
    let new = Record::new(Timestamp::from_millis(1_700_000_000_000), Lifetime::standard());
    Record { family: Family(1), ..new }
}

fn set(record: &mut Record, name: &str, value: &impl Serialize) {
    let mut bytes = vec![0];
    value.serialize(&mut rmp_serde::Serializer::new(&mut bytes)).unwrap();
    record.values.set(name, &bytes);
}

fn live(record: Record) -> Entry {
    Entry::Live(Arc::new(record))
}

fn moved(tombstone: Tombstone) -> Entry {
    Entry::Moved(Arc::new(tombstone))
}

fn assert_corrupt(bytes: &[u8], told: &str) {
    let error = Entry::decode(bytes.to_vec()).expect_err("bytes that are no record were read");
    assert_eq!(error.kind(), StoreErrorKind::Corrupt);
    assert!(error.source_text().contains(told), "{}", error.source_text());
}

/// What can be read can be written and read again.
fn read_or_corrupt(bytes: &[u8]) {
    match Entry::decode(bytes.to_vec()) {
        Ok(entry) => {
            let _ = (entry.expires_at(), entry.memory_bytes(), format!("{entry:?}"));
            let again = Entry::decode(entry.encode()).unwrap();
            assert_eq!(again.revision(), entry.revision());
        }
        Err(error) => assert_eq!(error.kind(), StoreErrorKind::Corrupt),
    }
}

fn any_entry() -> impl Strategy<Value = Entry> {
    prop_oneof![any_record().prop_map(live), any_tombstone().prop_map(moved)]
}

fn any_record() -> impl Strategy<Value = Record> {
    let max_ms = u64::try_from(Lifetime::MAX.as_millis()).unwrap();
    let spans = (1..=max_ms, 1..=max_ms, option::of(1..=max_ms));
    let instants = (0..1u64 << 47, 0..1u64 << 46, 0..1u64 << 46, option::of(0..1u64 << 46));
    let any_end = option::of(0..1u64 << 48);
    let values = vec((".{0,40}", vec(any::<u8>(), 0..300)), 0..20);
    (
        (0..1u64 << 48, any::<u64>()),
        instants,
        spans,
        any::<bool>(),
        option::of(vec(any::<u8>(), 0..=256)),
        (
            option::of((0..1u64 << 48, 0..1u64 << 48, any::<u64>())),
            any_end,
            any::<u64>(),
            any_id_use(),
        ),
        values,
    )
        .prop_map(
            |(numbers, instants, (one, other, renew_after), persistent, owner, rare, values)| {
                let (lease, end, family, id_use) = rare;
                let (idle, absolute) = (one.min(other), one.max(other));
                let millis = Duration::from_millis;
                let mut lifetime = Lifetime::new(millis(idle), millis(absolute)).unwrap();
                if let Some(age) = renew_after {
                    lifetime = lifetime.with_renew_after(millis(age)).unwrap();
                }
                if persistent {
                    lifetime = lifetime.with_cookie(CookieLifetime::Persistent);
                }
                let created_at = Timestamp::from_millis(instants.0);
                let mut record = Record {
                    revision: Revision(numbers.0),
                    nonce: Nonce(numbers.1),
                    created_at,
                    last_seen_at: created_at + millis(instants.1),
                    issued_at: created_at + millis(instants.2),
                    lifetime,
                    family: Family(family),
                    id_use,
                    unknown: UnknownFields::default(),
                    ends_by: end.map(Timestamp::from_millis),
                    owner: owner.map(Owner::from),
                    authenticated_at: instants.3.map(|after| created_at + millis(after)),
                    lease: lease.map(|(until, span, token)| Lease {
                        token: Nonce(token),
                        until: Timestamp::from_millis(until),
                        span: millis(span),
                    }),
                    values: Values::default(),
                };
                for (name, value) in values {
                    record.values.set(&name, &value);
                }
                record
            },
        )
}

fn any_tombstone() -> impl Strategy<Value = Tombstone> {
    let numbers = (0..1u64 << 48, any::<u64>(), any::<u64>(), 0..1u64 << 48);
    (numbers, any_cause(), any_id_use()).prop_map(
        |((revision, nonce, family, expires_at), cause, id_use)| Tombstone {
            revision: Revision(revision),
            nonce: Nonce(nonce),
            family: Family(family),
            cause,
            id_use,
            expires_at: Timestamp::from_millis(expires_at),
        },
    )
}

fn any_cause() -> impl Strategy<Value = Cause> {
    let successor = || any::<[u8; 16]>().prop_map(SessionKey::from_bytes);
    let sealed_id =
        || vec(any::<u8>(), 0..64).prop_map(|sealed| SealedId::from_stored(sealed.into()));
    prop_oneof![
        Just(Cause::Ended),
        (successor(), option::of(sealed_id()))
            .prop_map(|(successor, sealed_id)| Cause::Rotated { successor, sealed_id }),
        (successor(), sealed_id())
            .prop_map(|(successor, sealed_id)| Cause::Renewed { successor, sealed_id }),
    ]
}

fn any_id_use() -> impl Strategy<Value = IdUse> {
    let presented = (1..1u64 << 48).prop_map(|at| IdUse::Presented(Timestamp::from_millis(at)));
    prop_oneof![Just(IdUse::Original), Just(IdUse::Renewed), presented]
}

/// Lower case, 32 bytes to a line.
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
