use std::{fmt, marker::PhantomData};

use crate::MessagePack;

/// The name of a value in a session, together with the type of the value and its codec.
///
/// A constant is the one place for the name and the type: all code that reads or writes the value
/// uses the constant.
///
/// # Examples
///
/// ```
/// use session_core::{Key, Raw};
///
/// const VISITS: Key<u64> = Key::new("visits");
/// const AVATAR: Key<Vec<u8>, Raw> = Key::new("avatar");
///
/// // An application that keeps all of its values as JSON has a type for it.
/// # #[cfg(feature = "json")]
/// type JsonKey<T> = session_core::Key<'static, T, session_core::Json>;
///
/// // Names can be made at run time too.
/// let name = format!("form-{}", 7);
/// let form: Key<String> = Key::new(&name);
/// # let _ = (VISITS, AVATAR, form);
/// ```
pub struct Key<'n, T, C = MessagePack> {
    name: &'n str,
    // `fn` makes the key `Send`, `Sync` and `Copy` for every `T`.
    types: PhantomData<fn() -> (T, C)>,
}

impl<'n, T, C> Key<'n, T, C> {
    /// Creates the key of a value. The name counts towards the size of the session: choose a short
    /// one.
    #[must_use]
    pub const fn new(name: &'n str) -> Self {
        Self { name, types: PhantomData }
    }

    /// Returns the name of the value.
    #[must_use]
    pub const fn name(&self) -> &'n str {
        self.name
    }
}

impl<T, C> Clone for Key<'_, T, C> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T, C> Copy for Key<'_, T, C> {}

impl<T, C> fmt::Debug for Key<'_, T, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({:?})", self.name)
    }
}
