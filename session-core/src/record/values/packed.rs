use std::{
    fmt,
    io::{self, Write as _},
    ops::{Deref, Range},
};

use bytes::Bytes;

/// Bytes, stored inline if they are few, as in most sessions. All clones share the memory of many
/// bytes.
#[derive(Clone, Eq, PartialEq)]
pub(super) enum Packed {
    Few { len: u8, bytes: [u8; Packed::FEW] },
    Many(Bytes),
}

impl Packed {
    /// The maximum number of bytes stored inline: with tag and length, one and a half cache lines.
    pub(super) const FEW: usize = 94;

    /// Creates `Packed` from a part of shared bytes.
    pub(super) fn part_of(bytes: &Bytes, part: &[u8]) -> Self {
        Self::few(part).unwrap_or_else(|| Self::Many(bytes.slice_ref(part)))
    }

    pub(super) fn heap_size(&self) -> usize {
        match self {
            Self::Few { .. } => 0,
            Self::Many(bytes) => bytes.len(),
        }
    }

    /// Replaces a range by the output of `write`, whose length is `added`.
    pub(super) fn splice(
        &mut self,
        range: Range<usize>,
        added: usize,
        write: impl Fn(&mut dyn io::Write),
    ) {
        let len = self.len() - range.len() + added;
        if len <= Self::FEW {
            let mut bytes = [0; Self::FEW];
            let mut rest = &mut bytes[..len];
            rest.write_all(&self[..range.start]).expect(INFALLIBLE);
            write(&mut rest);
            rest.write_all(&self[range.end..]).expect(INFALLIBLE);
            debug_assert!(rest.is_empty(), "as much was added as was said");
            *self = Self::Few { len: short(len), bytes };
            return;
        }
        let packed = match self {
            Self::Many(present) if present.is_unique() => {
                // Another change by the same request: the other entries stay in the same
                // allocation.
                let mut entry = Vec::with_capacity(added);
                write(&mut entry);
                let mut packed = Vec::from(std::mem::take(present));
                packed.splice(range, entry);
                packed
            }
            _ => {
                let mut packed = Vec::with_capacity(len);
                packed.extend_from_slice(&self[..range.start]);
                write(&mut packed);
                packed.extend_from_slice(&self[range.end..]);
                packed
            }
        };
        *self = packed.into();
    }

    fn few(from: &[u8]) -> Option<Self> {
        let mut bytes = [0; Self::FEW];
        bytes.get_mut(..from.len())?.copy_from_slice(from);
        Some(Self::Few { len: short(from.len()), bytes })
    }
}

fn short(len: usize) -> u8 {
    u8::try_from(len).expect("they are few")
}

impl From<Vec<u8>> for Packed {
    fn from(bytes: Vec<u8>) -> Self {
        // The spare capacity of the vector would stay allocated as long as the session.
        Self::few(&bytes).unwrap_or_else(|| Self::Many(bytes.into_boxed_slice().into()))
    }
}

impl Default for Packed {
    fn default() -> Self {
        Self::Few { len: 0, bytes: [0; Self::FEW] }
    }
}

impl Deref for Packed {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Few { len, bytes } => &bytes[..usize::from(*len)],
            Self::Many(bytes) => bytes,
        }
    }
}

impl fmt::Debug for Packed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

const INFALLIBLE: &str = "the length was reckoned";

#[cfg(test)]
mod tests {
    use super::*;

    /// Equal bytes are equal, whichever function packed them.
    #[test]
    fn bytes_are_inline_if_few_and_shared_if_many() {
        assert_eq!(size_of::<Packed>(), 96);
        for len in 0..2 * Packed::FEW {
            let bytes: Vec<u8> = (0..=u8::MAX).take(len).collect();
            let shared = Bytes::from(bytes.clone());
            let from_part = Packed::part_of(&shared, &shared);
            let mut spliced = Packed::from(vec![b'x'; 2 * Packed::FEW - len]);
            spliced.splice(0..spliced.len(), len, |out| out.write_all(&bytes).unwrap());
            for packed in [from_part, spliced, bytes.clone().into()] {
                assert_eq!(&*packed, bytes);
                assert_eq!(packed, Packed::from(bytes.clone()));
                let heap = if len <= Packed::FEW { 0 } else { len };
                assert_eq!(packed.heap_size(), heap);
            }
        }
    }
}
