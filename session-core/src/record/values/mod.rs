mod packed;

use std::{cmp::Ordering, io};

use bytes::Bytes;
use packed::Packed;
use rmp::{decode as pack_decode, encode as pack_encode};

use crate::{BoxError, Codec, Format, Limits, SessionError};

/// The values of a session, in the order of their names.
///
/// A value is the byte of its format, followed by the bytes of its codec. Memory and store hold the
/// same form: name, value, name, value, as MessagePack strings and binaries without the head of
/// their map. So loading and storing a session copies all values together, without decoding them. A
/// look-up reads one piece of memory: the record itself if the values are small.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
// The fields needed by a read come first.
#[repr(C)]
pub(crate) struct Values {
    packed: Packed,
    count: usize,
    /// The bytes of all names and values.
    size: usize,
}

impl Values {
    /// Reads the values at the front of `rest`, a part of `bytes`: a map's head and its entries.
    pub(crate) fn read_stored(rest: &mut &[u8], bytes: &Bytes) -> Option<Self> {
        let claimed = pack_decode::read_map_len(rest).ok()?;
        let before = *rest;
        let (mut count, mut size) = (0, 0);
        let mut last: Option<&[u8]> = None;
        let mut is_sorted = true;
        for _ in 0..claimed {
            let (name, value) = read_entry(rest)?;
            if !name.is_ascii() {
                std::str::from_utf8(name).ok()?;
            }
            is_sorted &= last.is_none_or(|last| last < name);
            last = Some(name);
            count += 1;
            size += name.len() + value.len();
        }
        let packed = &before[..before.len() - rest.len()];
        let stored = Self { count, size, packed: Packed::part_of(bytes, packed) };
        Some(if is_sorted { stored } else { stored.sorted() })
    }

    /// Appends the values in the form of [`read_stored`](Self::read_stored).
    pub(crate) fn write_stored(&self, out: &mut Vec<u8>) {
        let count = u32::try_from(self.count).expect("each has a byte at least");
        pack_encode::write_map_len(out, count).expect(INFALLIBLE);
        out.extend_from_slice(&self.packed);
    }

    pub(crate) fn len(&self) -> usize {
        self.count
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.entries().map(|(name, _)| {
            std::str::from_utf8(name).expect("names are text, which is checked when they are read")
        })
    }

    pub(crate) fn get(&self, name: &str) -> Option<&[u8]> {
        self.entries().find_map(|(other, value)| (other == name.as_bytes()).then_some(value))
    }

    pub(crate) fn set(&mut self, name: &str, value: &[u8]) {
        self.replace(name, Some(value));
    }

    pub(crate) fn remove(&mut self, name: &str) {
        if self.get(name).is_some() {
            self.replace(name, None);
        }
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Returns the bytes of all names and values.
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// Returns the bytes of the values in a stored record.
    pub(crate) fn packed_size(&self) -> usize {
        self.packed.len()
    }

    /// Returns the bytes of the values in memory, beside the record.
    pub(crate) fn heap_size(&self) -> usize {
        self.packed.heap_size()
    }

    /// Checks the limits of the number and of the bytes, each if it has grown. A session stored before
    /// the limits were lowered stays usable, and can shrink.
    pub(crate) fn check_growth(
        &self,
        (count, size): (usize, usize),
        limits: &Limits,
    ) -> Result<(), SessionError> {
        let grown = |now: usize, before: usize| if now > before { now } else { 0 };
        check(grown(self.count, count), grown(self.size, size), limits)
    }

    /// Checks the limits as if the value were set.
    pub(crate) fn check_set(
        &self,
        name: &str,
        value: &[u8],
        limits: &Limits,
    ) -> Result<(), SessionError> {
        match self.get(name) {
            Some(old) if value.len() <= old.len() => Ok(()),
            Some(old) => check(self.count, self.size - old.len() + value.len(), limits),
            None => check(self.count + 1, self.size + name.len() + value.len(), limits),
        }
    }

    fn entries(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut rest = &*self.packed;
        std::iter::from_fn(move || read_entry(&mut rest))
    }

    /// Replaces the value of a name, or inserts it, or removes it if `value` is `None`.
    pub(crate) fn replace(&mut self, name: &str, value: Option<&[u8]>) {
        let name = name.as_bytes();
        let mut rest = &*self.packed;
        let mut before = 0;
        let mut old = None;
        while let Some((other, present)) = read_entry(&mut rest) {
            match other.cmp(name) {
                Ordering::Less => before = self.packed.len() - rest.len(),
                Ordering::Equal => {
                    old = Some(present.len());
                    break;
                }
                Ordering::Greater => break,
            }
        }
        let after = if old.is_some() { self.packed.len() - rest.len() } else { before };
        let added = value.map_or(0, |value| {
            str_head_len(name.len()) + name.len() + bin_head_len(value.len()) + value.len()
        });
        let write = |out: &mut dyn io::Write| {
            if let Some(value) = value {
                write_entry(out, name, value);
            }
        };
        self.packed.splice(before..after, added, write);
        if let Some(len) = old {
            self.count -= 1;
            self.size -= name.len() + len;
        }
        if let Some(value) = value {
            self.count += 1;
            self.size += name.len() + value.len();
        }
    }

    /// Sorts entries of another writer. Of equal names the first stays.
    fn sorted(self) -> Self {
        let mut entries: Vec<_> = self.entries().collect();
        entries.sort_by_key(|(name, _)| *name);
        entries.dedup_by_key(|(name, _)| *name);
        let mut packed = Vec::with_capacity(self.packed.len());
        for (name, value) in &entries {
            write_entry(&mut packed, name, value);
        }
        let size = entries.iter().map(|(name, value)| name.len() + value.len()).sum();
        Self { count: entries.len(), size, packed: packed.into() }
    }
}

fn read_entry<'a>(rest: &mut &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
    let name_len = match **rest {
        // The fast path: nearly all names are short. The other arm reads names of every length.
        [head @ FIX_STR..=FIX_STR_MAX, ..] => {
            *rest = &rest[1..];
            u32::from(head - FIX_STR)
        }
        _ => pack_decode::read_str_len(rest).ok()?,
    };
    let name = read_bytes(rest, name_len)?;
    let value_len = match **rest {
        [BIN_8, len, ..] => {
            *rest = &rest[2..];
            u32::from(len)
        }
        _ => pack_decode::read_bin_len(rest).ok()?,
    };
    Some((name, read_bytes(rest, value_len)?))
}

/// Reads the content of a string or a binary, of the length claimed by its head.
pub(crate) fn read_bytes<'a>(rest: &mut &'a [u8], len: u32) -> Option<&'a [u8]> {
    let (bytes, behind) = rest.split_at_checked(usize::try_from(len).ok()?)?;
    *rest = behind;
    Some(bytes)
}

fn write_entry(mut out: &mut dyn io::Write, name: &[u8], value: &[u8]) {
    let len = |bytes: &[u8]| u32::try_from(bytes.len()).expect("the limits are far below");
    pack_encode::write_str_len(&mut out, len(name)).expect(INFALLIBLE);
    out.write_all(name).expect(INFALLIBLE);
    pack_encode::write_bin_len(&mut out, len(value)).expect(INFALLIBLE);
    out.write_all(value).expect(INFALLIBLE);
}

/// MessagePack's heads of a string of up to 31 bytes and of a binary of up to 255.
const FIX_STR: u8 = 0xa0;
const FIX_STR_MAX: u8 = 0xbf;
const BIN_8: u8 = 0xc4;

const INFALLIBLE: &str = "there is room";

/// Returns the length of MessagePack's head of a string.
fn str_head_len(len: usize) -> usize {
    match len {
        0..32 => 1,
        32..256 => 2,
        256..65_536 => 3,
        _ => 5,
    }
}

/// Returns the length of MessagePack's head of a binary.
fn bin_head_len(len: usize) -> usize {
    match len {
        0..256 => 2,
        256..65_536 => 3,
        _ => 5,
    }
}

/// Encodes a value, with the byte of its format in front, and checks that it can be decoded again.
pub(crate) fn encode<T, C: Codec<T>>(
    name: &str,
    value: &T,
    limits: &Limits,
) -> Result<Vec<u8>, SessionError> {
    if name.len() > Limits::NAME_BYTES {
        return Err(too_large("the name of a value", Limits::NAME_BYTES));
    }
    let mut out = Vec::with_capacity(SMALL_VALUE);
    out.push(C::FORMAT.byte());
    let refused = |source| SessionError::Encode { name: name.to_owned(), source };
    C::encode(value, &mut out).map_err(refused)?;
    if out.len() - 1 > limits.value_bytes {
        return Err(too_large("the value", limits.value_bytes));
    }
    C::check(value, &out[1..]).map_err(|source| refused(unreadable(&source)))?;
    Ok(out)
}

/// Decodes a value. Returns an error if the value is not in the format of the codec.
pub(crate) fn decode<T, C: Codec<T>>(name: &str, value: &[u8]) -> Result<T, SessionError> {
    let decoded = match value.split_first() {
        Some((&format, bytes)) if format == C::FORMAT.byte() => C::decode(bytes),
        Some((&format, _)) => Err(wrong_format(Format::from_byte(format), C::FORMAT)),
        None => Err("the value has no format".into()),
    };
    decoded.map_err(|source| SessionError::Decode { name: name.to_owned(), source })
}

fn check(values: usize, bytes: usize, limits: &Limits) -> Result<(), SessionError> {
    if values > limits.values {
        return Err(too_large("the number of values", limits.values));
    }
    if bytes > limits.session_bytes {
        return Err(too_large("the session", limits.session_bytes));
    }
    Ok(())
}

pub(crate) fn too_large(what: &'static str, limit: usize) -> SessionError {
    SessionError::TooLarge { what, limit }
}

fn unreadable(error: &BoxError) -> BoxError {
    format!("it cannot be read back: {error}").into()
}

fn wrong_format(stored: Format, wanted: Format) -> BoxError {
    format!("it is stored as {stored}, not as {wanted}").into()
}

/// Most values fit: a vector that grows to this capacity would be allocated three times.
const SMALL_VALUE: usize = 32;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::{collection::vec, option, prelude::*};

    use super::*;
    use crate::{MessagePack, Raw};

    proptest! {
        #[test]
        fn values_are_a_map(
            steps in vec(("[a-e]{0,2}", option::weighted(0.7, vec(any::<u8>(), 0..60)), any::<bool>()), 0..60),
        ) {
            let (mut values, mut model) = (Values::default(), BTreeMap::new());
            let mut earlier = Vec::new();
            for (name, value, is_shared) in steps {
                if is_shared {
                    earlier.push((values.clone(), model.clone()));
                }
                match value {
                    Some(value) => {
                        values.set(&name, &value);
                        model.insert(name, value);
                    }
                    None => {
                        values.remove(&name);
                        model.remove(&name);
                    }
                }
            }
            let map = |values: &Values| -> BTreeMap<String, Vec<u8>> {
                let entry = |name: &str| (name.to_owned(), values.get(name).unwrap().to_vec());
                values.names().map(entry).collect()
            };
            for (values, model) in earlier {
                prop_assert_eq!(map(&values), model);
            }
            let mut afresh = Values::default();
            for (name, value) in &model {
                afresh.set(name, value);
            }
            prop_assert_eq!(&values, &afresh);
            let stored: Vec<_> = map(&values).into_iter().collect();
            prop_assert_eq!(values.len(), stored.len());
            prop_assert_eq!(values.size(), stored.iter().map(|(n, v)| n.len() + v.len()).sum::<usize>());
            let heads = |name: &str, value: &[u8]| str_head_len(name.len()) + bin_head_len(value.len());
            let heads: usize = stored.iter().map(|(name, value)| heads(name, value)).sum();
            prop_assert_eq!(values.packed_size(), values.size() + heads);
            prop_assert_eq!(stored, model.into_iter().collect::<Vec<_>>());
        }

        /// A set that keeps or reduces the size of the session is allowed beyond the limits too.
        #[test]
        fn check_set_agrees_with_the_limits_after_the_set(
            names in vec("[a-c]{1,2}", 0..8),
            len in 1..20usize,
            limits in (0..6usize, 0..40usize),
        ) {
            let limits = Limits::default().with_values(limits.0).with_session_bytes(limits.1);
            let mut values = Values::default();
            for name in names {
                let value = vec![0; len];
                let ahead = values.check_set(&name, &value, &limits).is_ok();
                let before = values.size();
                values.set(&name, &value);
                let grew = values.size() > before;
                prop_assert_eq!(ahead, !grew || values.check_growth((0, 0), &limits).is_ok());
            }
        }
    }

    /// If each change copied, a thousand changes of one value would copy a large session a thousand
    /// times.
    #[test]
    fn second_change_copies_nothing_and_changes_no_clone() {
        let mut stored = Values::default();
        stored.set("large", &[0; 10_000]);
        stored.set("n", b"0");
        let mut draft = stored.clone();
        draft.set("n", b"1");
        let place = draft.packed.as_ptr();
        draft.set("n", b"2");
        assert_eq!(draft.packed.as_ptr(), place);
        assert_eq!((stored.get("n"), draft.get("n")), (Some(&b"0"[..]), Some(&b"2"[..])));
        let shared = draft.clone();
        draft.set("n", b"3");
        assert_eq!((shared.get("n"), draft.get("n")), (Some(&b"2"[..]), Some(&b"3"[..])));
    }

    #[test]
    fn decode_refuses_a_value_of_another_format() {
        let limits = Limits::default();
        let value = encode::<u32, MessagePack>("n", &7, &limits).unwrap();
        let error = decode::<Vec<u8>, Raw>("n", &value).unwrap_err();
        insta::assert_snapshot!(error, @r#"the value "n" cannot be decoded"#);
        let SessionError::Decode { source, .. } = error else { panic!("another error") };
        insta::assert_snapshot!(source, @"it is stored as MessagePack, not as raw bytes");
    }

    #[test]
    fn decode_refuses_a_value_without_a_format() {
        assert!(matches!(decode::<u32, MessagePack>("n", b""), Err(SessionError::Decode { .. })));
        assert!(matches!(
            decode::<u32, MessagePack>("n", b"\x7fx"),
            Err(SessionError::Decode { .. })
        ));
    }

    #[test]
    fn format_byte_does_not_count_towards_the_value_limit() {
        let limits = Limits::default().with_value_bytes(3);
        assert!(encode::<_, Raw>("n", &vec![0; 3], &limits).is_ok());
        assert!(encode::<_, Raw>("n", &vec![0; 4], &limits).is_err());
    }
}
