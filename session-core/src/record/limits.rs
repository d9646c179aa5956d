/// The limits of a session's size. A `set` beyond a limit returns
/// [`SessionError::TooLarge`](crate::SessionError::TooLarge).
///
/// | limit | default |
/// | --- | --- |
/// | values in a session | 1,024 |
/// | bytes of a value's name | 128, fixed |
/// | bytes of an encoded value | 64 KiB |
/// | bytes of all names and values together | 256 KiB |
/// | bytes of an owner | 256, fixed |
/// | links of a session | 4, fixed |
/// | bytes of a link's name, and of its value | 128 and 1,024, fixed |
/// | changes that a request recorded and did not commit yet | 8,192, fixed |
///
/// A limit of zero allows nothing of its kind.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    pub(crate) values: usize,
    pub(crate) value_bytes: usize,
    pub(crate) session_bytes: usize,
}

impl Limits {
    /// The maximum length of the name of a value or of a link, in bytes.
    pub const NAME_BYTES: usize = 128;

    /// The maximum length of an owner, in bytes.
    pub const OWNER_BYTES: usize = 256;

    /// The maximum number of [links](crate::Session::link) of a session.
    pub const LINKS: usize = 4;

    /// The maximum length of a link's value, in bytes. Its name has at most
    /// [`NAME_BYTES`](Self::NAME_BYTES).
    pub const LINK_BYTES: usize = 1_024;

    /// The maximum number of changes by a request between two commits. The session keeps each
    /// change in order to replay it on a newer record.
    pub const CHANGES: usize = 8_192;

    /// Sets the maximum number of values in a session. The default is 1,024.
    #[must_use]
    pub const fn with_values(mut self, values: usize) -> Self {
        self.values = values;
        self
    }

    /// Sets the maximum size of an encoded value, in bytes. The default is 64 KiB.
    #[must_use]
    pub const fn with_value_bytes(mut self, bytes: usize) -> Self {
        self.value_bytes = bytes;
        self
    }

    /// Sets the maximum size of all names and values together, in bytes. The default is 256 KiB.
    #[must_use]
    pub const fn with_session_bytes(mut self, bytes: usize) -> Self {
        self.session_bytes = bytes;
        self
    }

    /// Returns the maximum number of values in a session.
    #[must_use]
    pub const fn values(&self) -> usize {
        self.values
    }

    /// Returns the maximum size of an encoded value, in bytes.
    #[must_use]
    pub const fn value_bytes(&self) -> usize {
        self.value_bytes
    }

    /// Returns the maximum size of all names and values together, in bytes.
    #[must_use]
    pub const fn session_bytes(&self) -> usize {
        self.session_bytes
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { values: 1_024, value_bytes: 64 * 1024, session_bytes: 256 * 1024 }
    }
}
