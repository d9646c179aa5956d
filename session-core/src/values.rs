use bytes::Bytes;

use crate::{BoxError, Codec, Format, Limits, SessionError};

/// The values of a session, in the order of their names.
///
/// A value is its format's byte followed by what its codec wrote. Names and values are slices of what
/// was read from the store, so that loading a session copies and decodes nothing.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Values {
    entries: Vec<(Bytes, Bytes)>,
}

impl Values {
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Bytes)> {
        self.entries.iter().map(|(name, value)| (as_text(name), value))
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Bytes> {
        self.find(name).ok().map(|at| &self.entries[at].1)
    }

    pub(crate) fn set(&mut self, name: &str, value: Bytes) {
        match self.find(name) {
            Ok(at) => self.entries[at].1 = value,
            Err(at) => {
                self.entries.insert(at, (Bytes::copy_from_slice(name.as_bytes()), value));
            }
        }
    }

    pub(crate) fn remove(&mut self, name: &str) {
        if let Ok(at) = self.find(name) {
            self.entries.remove(at);
        }
    }

    pub(crate) fn clear(&mut self) {
        self.entries.clear();
    }

    /// The bytes of all names and values.
    pub(crate) fn size(&self) -> usize {
        self.entries.iter().map(|(name, value)| name.len() + value.len()).sum()
    }

    pub(crate) fn check(&self, limits: &Limits) -> Result<(), SessionError> {
        check(self.len(), self.size(), limits)
    }

    /// Checks what the limits say of the values with one more set.
    pub(crate) fn check_set(
        &self,
        name: &str,
        value: &Bytes,
        limits: &Limits,
    ) -> Result<(), SessionError> {
        match self.get(name) {
            Some(old) if value.len() <= old.len() => Ok(()),
            Some(old) => check(self.len(), self.size() - old.len() + value.len(), limits),
            None => check(self.len() + 1, self.size() + name.len() + value.len(), limits),
        }
    }

    /// Appends an entry that was read from a store. The caller has seen that the name is UTF-8;
    /// [`sort`](Self::sort) puts right an order that another writer may have left.
    pub(crate) fn push_stored(&mut self, name: Bytes, value: Bytes) {
        self.entries.push((name, value));
    }

    pub(crate) fn sort(&mut self) {
        if !self.entries.is_sorted_by(|a, b| a.0 < b.0) {
            self.entries.sort_by(|a, b| a.0.cmp(&b.0));
            self.entries.dedup_by(|a, b| a.0 == b.0);
        }
    }

    fn find(&self, name: &str) -> Result<usize, usize> {
        self.entries.binary_search_by(|(other, _)| (**other).cmp(name.as_bytes()))
    }
}

/// Encodes a value with its format's byte in front.
pub(crate) fn encode<T, C: Codec<T>>(
    name: &str,
    value: &T,
    limits: &Limits,
) -> Result<Bytes, SessionError> {
    if name.len() > Limits::NAME_BYTES {
        return Err(too_large("the name of a value", Limits::NAME_BYTES));
    }
    let mut out = vec![C::FORMAT.byte()];
    C::encode(value, &mut out)
        .map_err(|source| SessionError::Encode { name: name.to_owned(), source })?;
    if out.len() - 1 > limits.value_bytes {
        return Err(too_large("the value", limits.value_bytes));
    }
    // What a vector keeps in reserve would be kept for as long as the session.
    Ok(out.into_boxed_slice().into())
}

/// Decodes a value, if it is in the format of the codec.
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

fn wrong_format(stored: Format, wanted: Format) -> BoxError {
    format!("it is stored as {stored}, not as {wanted}").into()
}

fn as_text(name: &[u8]) -> &str {
    std::str::from_utf8(name).expect("names are made from text, and checked when they are read")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::{collection::vec, option, prelude::*};

    use super::*;
    use crate::{MessagePack, Raw};

    proptest! {
        #[test]
        fn values_are_a_map(steps in vec(("[a-e]{0,2}", option::of(vec(any::<u8>(), 0..4))), 0..60)) {
            let (mut values, mut model) = (Values::default(), BTreeMap::new());
            for (name, value) in steps {
                match value {
                    Some(value) => {
                        values.set(&name, value.clone().into());
                        model.insert(name, value);
                    }
                    None => {
                        values.remove(&name);
                        model.remove(&name);
                    }
                }
            }
            let stored: Vec<_> =
                values.iter().map(|(name, value)| (name.to_owned(), value.to_vec())).collect();
            prop_assert_eq!(values.size(), stored.iter().map(|(n, v)| n.len() + v.len()).sum::<usize>());
            prop_assert_eq!(stored, model.into_iter().collect::<Vec<_>>());
        }

        /// What is told before a value is set is what is true after; what makes nothing larger is let
        /// through.
        #[test]
        fn limits_are_checked_ahead(
            names in vec("[a-c]{1,2}", 0..8),
            len in 1..20usize,
            limits in (0..6usize, 0..40usize),
        ) {
            let limits = Limits::default().with_values(limits.0).with_session_bytes(limits.1);
            let mut values = Values::default();
            for name in names {
                let value = Bytes::from(vec![0; len]);
                let ahead = values.check_set(&name, &value, &limits).is_ok();
                let before = values.size();
                values.set(&name, value);
                let grew = values.size() > before;
                prop_assert_eq!(ahead, !grew || values.check(&limits).is_ok());
            }
        }
    }

    #[test]
    fn a_value_of_another_format_is_refused_by_name() {
        let limits = Limits::default();
        let value = encode::<u32, MessagePack>("n", &7, &limits).unwrap();
        let error = decode::<Vec<u8>, Raw>("n", &value).unwrap_err();
        insta::assert_snapshot!(error, @r#"the value "n" cannot be decoded"#);
        let SessionError::Decode { source, .. } = error else { panic!("another error") };
        insta::assert_snapshot!(source, @"it is stored as MessagePack, not as raw bytes");
    }

    #[test]
    fn a_value_without_a_format_is_refused() {
        assert!(matches!(decode::<u32, MessagePack>("n", b""), Err(SessionError::Decode { .. })));
        assert!(matches!(
            decode::<u32, MessagePack>("n", b"\x7fx"),
            Err(SessionError::Decode { .. })
        ));
    }

    #[test]
    fn the_format_does_not_count_towards_the_limit_of_a_value() {
        let limits = Limits::default().with_value_bytes(3);
        assert!(encode::<_, Raw>("n", &vec![0; 3], &limits).is_ok());
        assert!(encode::<_, Raw>("n", &vec![0; 4], &limits).is_err());
    }
}
