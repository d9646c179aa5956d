use crate::IndexKey;

/// The links of a session, by their keys in ascending order.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Links(Box<[IndexKey]>);

impl Links {
    pub(crate) fn keys(&self) -> &[IndexKey] {
        &self.0
    }

    pub(crate) fn contains(&self, link: &IndexKey) -> bool {
        self.0.contains(link)
    }

    pub(crate) fn add(&mut self, link: IndexKey) {
        if let Err(place) = self.0.binary_search(&link) {
            let mut links = std::mem::take(&mut self.0).into_vec();
            links.insert(place, link);
            self.0 = links.into();
        }
    }

    /// Reads the keys, stored one after the other in ascending order. Returns `None` if the last one is
    /// cut, or if the keys are in another order.
    pub(super) fn from_stored(bytes: &[u8]) -> Option<Self> {
        let (keys, rest) = bytes.as_chunks();
        let is_sorted = keys.is_sorted_by(|one, next| one < next);
        let keys = keys.iter().map(|key| IndexKey::from_bytes(*key));
        (is_sorted && rest.is_empty()).then(|| Self(keys.collect()))
    }
}
