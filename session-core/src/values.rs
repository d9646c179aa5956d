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
        self.entries
            .iter()
            .map(|(name, value)| (as_text(name), value))
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Bytes> {
        self.find(name).ok().map(|at| &self.entries[at].1)
    }

    pub(crate) fn set(&mut self, name: &str, value: Bytes) {
        match self.find(name) {
            Ok(at) => self.entries[at].1 = value,
            Err(at) => {
                self.entries
                    .insert(at, (Bytes::copy_from_slice(name.as_bytes()), value));
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
        self.entries
            .iter()
            .map(|(name, value)| name.len() + value.len())
            .sum()
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
            Some(old) => check(self.len(), self.size() - old.len() + value.len(), limits),
            None => check(
                self.len() + 1,
                self.size() + name.len() + value.len(),
                limits,
            ),
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
        self.entries
            .binary_search_by(|(other, _)| (**other).cmp(name.as_bytes()))
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
    C::encode(value, &mut out).map_err(|source| SessionError::Encode {
        name: name.to_owned(),
        source,
    })?;
    if out.len() - 1 > limits.value_bytes {
        return Err(too_large("the value", limits.value_bytes));
    }
    Ok(out.into())
}

/// Decodes a value, if it is in the format of the codec.
pub(crate) fn decode<T, C: Codec<T>>(name: &str, value: &[u8]) -> Result<T, SessionError> {
    let decoded = match value.split_first() {
        Some((&format, bytes)) if format == C::FORMAT.byte() => C::decode(bytes),
        Some((&format, _)) => Err(wrong_format(Format::from_byte(format), C::FORMAT)),
        None => Err("the value has no format".into()),
    };
    decoded.map_err(|source| SessionError::Decode {
        name: name.to_owned(),
        source,
    })
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
