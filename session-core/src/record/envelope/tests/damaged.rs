//! I11: damaged bytes and bytes of another format are `Corrupt`, and never cause a panic.

use super::*;

#[test]
fn decode_refuses_every_other_format() {
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
fn decode_refuses_an_unknown_kind() {
    for kind in 2..=255 {
        let mut bytes = live(minimal()).encode();
        bytes[KIND] = kind;
        assert_corrupt(&bytes, &format!("kind {kind}"));
    }
}

#[test]
fn decode_refuses_one_kind_as_the_other() {
    for entry in entries() {
        let mut bytes = entry.encode();
        bytes[KIND] ^= 1;
        assert_corrupt(&bytes, "");
    }
}

#[test]
fn decode_refuses_a_cut_record_at_every_length() {
    for entry in entries() {
        let bytes = entry.encode();
        for len in 0..bytes.len() {
            assert_corrupt(&bytes[..len], "");
        }
    }
}

#[test]
fn decode_refuses_trailing_bytes() {
    for entry in entries() {
        for garbage in [&b"\0"[..], b"\x80", b"garbage"] {
            let mut bytes = entry.encode();
            bytes.extend_from_slice(garbage);
            assert_corrupt(&bytes, "");
        }
    }
}

#[test]
fn decode_of_any_changed_byte_never_panics() {
    for entry in entries() {
        let bytes = entry.encode();
        for at in 0..bytes.len() {
            for other in 0..=255 {
                let mut bytes = bytes.clone();
                bytes[at] = other;
                assert_read_or_corrupt(&bytes);
            }
        }
    }
}

/// Otherwise stored bytes could overflow the stack.
#[test]
fn decode_refuses_the_actor_of_an_actor() {
    for depth in [2, 1_000] {
        let mut bytes = live(minimal()).encode();
        for _ in 0..depth {
            let mut outer = live(minimal()).encode();
            outer[HEADER_LEN] += 1;
            outer.extend_from_slice(b"\xa1c\xc6");
            outer.extend_from_slice(&u32::try_from(bytes.len()).unwrap().to_be_bytes());
            outer.append(&mut bytes);
            bytes = outer;
        }
        assert_corrupt(&bytes, "body");
    }
}

#[test]
fn decode_refuses_an_actor_without_an_owner() {
    let login = Arc::new(minimal());
    let owned = Arc::new(Record { owner: Some("ada".into()), ..minimal() });
    for (owner, actor) in [(Some("grace".into()), &login), (None, &owned)] {
        let record = Record { owner, actor: Some(Arc::clone(actor)), ..minimal() };
        assert!(Entry::decode(live(record).encode()).is_err());
    }
}

#[test]
fn decode_refuses_an_actor_of_another_kind() {
    let Entry::Session(record) = &entries()[5] else { panic!("a session was written") };
    let login = live(Record::clone(record.actor.as_ref().unwrap())).encode();
    let bytes = entries()[5].encode();
    let at = bytes.windows(login.len()).position(|part| part == login).unwrap();
    for (place, value) in [(0, 2), (KIND, MOVED), (KIND, 2)] {
        let mut bytes = bytes.clone();
        bytes[at + place] = value;
        assert_corrupt(&bytes, "");
    }
}

#[test]
fn decode_refuses_an_impossible_lifetime() {
    let bytes = live(minimal()).encode();
    for (field, millis) in [(IDLE, 0), (IDLE, u64::MAX), (ENDS_AT, 0)] {
        let mut bytes = bytes.clone();
        bytes[field].copy_from_slice(&u48(millis));
        assert_corrupt(&bytes, "lifetime");
    }
}

/// A store reads the header, and core reads the body: both must hold the same deadline.
#[test]
fn decode_refuses_a_header_that_contradicts_the_body() {
    for (earlier, later) in [(1, 0), (0, 1), (1 << 40, 0), (0, 1 << 40)] {
        let mut bytes = live(with_end()).encode();
        let ends_at = number(&bytes, ENDS_AT);
        bytes[ENDS_AT].copy_from_slice(&u48(ends_at - earlier + later));
        assert_corrupt(&bytes, "lifetime");
    }
}

#[test]
fn decode_refuses_a_successor_of_another_length() {
    for len in [0, 15, 17] {
        let field = [&[0x81, 0xa1, b's', 0xc4, len][..], &vec![0; usize::from(len)]].concat();
        assert_corrupt(&tombstone_of(&field), "body");
    }
}

/// A renewal's tombstone has a successor and its sealed ID; an end marker has neither.
#[test]
fn decode_refuses_a_tombstone_of_no_cause() {
    let successor = [b"\xa1s\xc4\x10", &[7; 16][..]].concat();
    let (renewal, sealed_id) = (&b"\xa1r\xc3"[..], &b"\xa1i\xc4\x01i"[..]);
    for fields in [&[renewal][..], &[sealed_id], &[renewal, sealed_id], &[&successor, renewal]] {
        let count = 0x80 + u8::try_from(fields.len()).unwrap();
        assert_corrupt(&tombstone_of(&[&[count], &fields.concat()[..]].concat()), "body");
    }
    for fields in [&[&successor[..], renewal, sealed_id][..], &[&successor, sealed_id], &[]] {
        let count = 0x80 + u8::try_from(fields.len()).unwrap();
        Entry::decode(tombstone_of(&[&[count], &fields.concat()[..]].concat())).unwrap();
    }
}

#[test]
fn decode_allocates_nothing_for_claimed_lengths() {
    let header = &live(minimal()).encode()[..HEADER_LEN];
    for claim in [
        &b"\x81\xa1v\xdf\xff\xff\xff\xff"[..],
        b"\x81\xa1v\x81\xdb\xff\xff\xff\xff",
        b"\x81\xa1v\x81\xa1a\xc6\xff\xff\xff\xff",
        b"\x81\xa1o\xc6\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
    ] {
        let bytes = [header, claim].concat();
        // An allocation of 4 GiB in each round would fail, or make the test visibly slow.
        for _ in 0..100 {
            assert_corrupt(&bytes, "");
        }
    }
}

/// If the time grew faster than the record, a planted record would hold a processor for minutes.
#[test]
fn decode_allocates_in_proportion_to_the_record() {
    let unknown = b"\xa1z\xc0".repeat(MANY);
    let links: Vec<_> = (0..MANY as u128).flat_map(u128::to_be_bytes).collect();
    let fields = [
        [&b"\xdf"[..], &u32::try_from(MANY).unwrap().to_be_bytes(), &unknown].concat(),
        [b"\x81\xa1k\xc6", &u32::try_from(links.len()).unwrap().to_be_bytes()[..], &links].concat(),
    ];
    for body in fields {
        let bytes = Bytes::from([&live(minimal()).encode()[..HEADER_LEN], &body].concat());
        let mut entry = None;
        let measured = allocation_counter::measure(|| entry = Entry::decode(bytes.clone()).ok());
        assert!(entry.is_some(), "the record is readable");
        assert!(measured.bytes_total < 100 * bytes.len() as u64, "{measured:?}");
    }
}

const MANY: usize = 50_000;

#[test]
fn decode_refuses_links_in_another_order() {
    let (one, two) = ([1; 16], [2; 16]);
    for (links, is_read) in [([one, two], true), ([two, one], false), ([one, one], false)] {
        let links = links.concat();
        let mut bytes = live(minimal()).encode();
        bytes[HEADER_LEN] += 1;
        bytes.extend_from_slice(b"\xa1k\xc4\x20");
        bytes.extend_from_slice(&links);
        assert_eq!(Entry::decode(bytes).is_ok(), is_read);
    }
}

#[test]
fn decode_of_deep_nesting_never_panics() {
    let mut bytes = live(minimal()).encode();
    bytes.truncate(HEADER_LEN);
    bytes.extend_from_slice(b"\x81\xa1z");
    bytes.resize(1 << 20, 0x91);
    assert_read_or_corrupt(&bytes);
}

/// An event holds the reason why a record is unreadable, without its content (I10).
#[test]
fn errors_reveal_nothing_of_the_record() {
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

/// The bytes of a tombstone of this body.
fn tombstone_of(body: &[u8]) -> Vec<u8> {
    let end_marker = Tombstone::end_marker(Nonce(1), Timestamp::from_millis(1_700_000_300_000));
    [&moved(end_marker).encode()[..HEADER_LEN], body].concat()
}
