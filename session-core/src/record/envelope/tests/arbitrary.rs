//! Every entry is read back as it was written, and any bytes are read or refused.

use proptest::{collection::vec, option, prelude::*};

use super::*;

proptest! {
    #[test]
    fn decode_returns_the_encoded_entry(entry in any_entry()) {
        let bytes = entry.encode();
        prop_assert_eq!(bytes[0], VERSION);
        let read = Entry::decode(bytes.clone()).unwrap();
        prop_assert_eq!(&read, &entry);
        prop_assert_eq!(read.encode(), bytes);
    }

    /// A store computes deadlines from the header alone.
    #[test]
    fn header_holds_the_deadline_and_the_revision(entry in any_entry()) {
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
    fn decode_of_any_bytes_never_panics(bytes in vec(any::<u8>(), 0..200)) {
        assert_read_or_corrupt(&bytes);
    }

    #[test]
    fn decode_of_any_body_never_panics(
        entry in any_entry(),
        body in vec(any::<u8>(), 0..100),
        at in any::<prop::sample::Index>(),
    ) {
        let mut bytes = entry.encode();
        bytes.truncate(HEADER_LEN);
        bytes.extend_from_slice(&body);
        assert_read_or_corrupt(&bytes);
        let mut bytes = entry.encode();
        let at = at.index(bytes.len());
        let end = bytes.len().min(at + body.len());
        bytes[at..end].copy_from_slice(&body[..end - at]);
        assert_read_or_corrupt(&bytes);
    }
}

fn any_entry() -> impl Strategy<Value = Entry> {
    let owned = || any_record().prop_filter("has an owner", |record| record.owner.is_some());
    let acting = (owned(), owned())
        .prop_map(|(record, login)| live(Record { actor: Some(Arc::new(login)), ..record }));
    prop_oneof![any_record().prop_map(live), acting, any_tombstone().prop_map(moved)]
}

fn any_record() -> impl Strategy<Value = Record> {
    let max_ms = u64::try_from(Lifetime::MAX.as_millis()).unwrap();
    let spans = (1..=max_ms, 1..=max_ms, option::of(1..=max_ms), any::<bool>());
    let instants = (0..1u64 << 47, 0..1u64 << 46, 0..1u64 << 48, option::of(0..1u64 << 48));
    let numbers = (0..1u64 << 48, any::<u64>(), any::<u64>());
    let any_lease = option::of((0..1u64 << 48, 0..1u64 << 48, any::<u64>()));
    let any_end = option::of(0..1u64 << 48);
    let links = vec(any::<[u8; 16]>(), 0..=4);
    let rare = (any_lease, any_end, any_id_use(), any_unknown_fields(), links);
    let owner = option::of(vec(any::<u8>(), 0..=256));
    let values = vec((".{0,40}", vec(any::<u8>(), 0..300)), 0..20);
    (numbers, instants, spans, owner, rare, values).prop_map(
        |(numbers, instants, (one, other, renew_after, is_persistent), owner, rare, values)| {
            let (revision, nonce, family) = numbers;
            let (lease, end, id_use, unknown, links) = rare;
            let (idle, absolute) = (one.min(other), one.max(other));
            let millis = Duration::from_millis;
            let mut lifetime = Lifetime::new(millis(idle), millis(absolute)).unwrap();
            if let Some(age) = renew_after {
                lifetime = lifetime.with_renew_after(millis(age)).unwrap();
            }
            if is_persistent {
                lifetime = lifetime.with_cookie(CookieLifetime::Persistent);
            }
            let created_at = Timestamp::from_millis(instants.0);
            let mut record = Record {
                revision: Revision(revision),
                nonce: Nonce(nonce),
                family: Family(family),
                created_at,
                last_seen_at: created_at + millis(instants.1),
                issued_at: Timestamp::from_millis(instants.2),
                id_use,
                lifetime,
                ends_by: end.map(Timestamp::from_millis),
                owner: owner.map(Owner::from),
                actor: None,
                links: Links::default(),
                authenticated_at: instants.3.map(Timestamp::from_millis),
                lease: lease.map(|(until, span, token)| Lease {
                    token: Nonce(token),
                    until: Timestamp::from_millis(until),
                    span: millis(span),
                }),
                values: Values::default(),
                unknown,
            };
            for link in links {
                record.links.add(IndexKey::from_bytes(link));
            }
            for (name, value) in values {
                record.values.set(&name, &value);
            }
            record
        },
    )
}

fn any_id_use() -> impl Strategy<Value = IdUse> {
    let presented = (1..1u64 << 48).prop_map(|at| IdUse::Presented(Timestamp::from_millis(at)));
    prop_oneof![Just(IdUse::Original), Just(IdUse::Renewed), presented]
}

fn any_unknown_fields() -> impl Strategy<Value = UnknownFields> {
    vec(("[A-Z]{0,40}", vec(any::<u8>(), 0..300)), 0..4).prop_map(|fields| {
        let mut unknown = UnknownFields::default();
        let mut bytes = Vec::new();
        for (name, value) in fields {
            unknown.count += 1;
            rmp::encode::write_str(&mut bytes, &name).unwrap();
            rmp::encode::write_bin(&mut bytes, &value).unwrap();
        }
        UnknownFields { bytes: bytes.into(), ..unknown }
    })
}

fn any_tombstone() -> impl Strategy<Value = Tombstone> {
    let numbers = (0..1u64 << 48, any::<u64>(), any::<u64>());
    (numbers, any_cause(), any_id_use(), 0..1u64 << 48).prop_map(
        |((revision, nonce, family), cause, id_use, expires_at)| Tombstone {
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
    let successor = any::<[u8; 16]>().prop_map(SessionKey::from_bytes);
    let sealed_id =
        vec(any::<u8>(), 0..64).prop_map(|sealed| SealedId::from_stored(Bytes::from(sealed)));
    prop_oneof![
        Just(Cause::Ended),
        (successor.clone(), option::of(sealed_id.clone()), any::<bool>()).prop_map(
            |(successor, sealed_id, changes_user)| {
                Cause::Rotated { successor, sealed_id, changes_user }
            }
        ),
        (successor, sealed_id)
            .prop_map(|(successor, sealed_id)| Cause::Renewed { successor, sealed_id }),
    ]
}
