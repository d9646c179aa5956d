use std::{fmt, marker::PhantomData, ops::Deref};

use axum_core::extract::{FromRequestParts, OptionalFromRequestParts};
use http::{Extensions, request::Parts};
use session_core::{Session, SessionExtension, SessionRejection};

/// The name of a [layer](crate::SessionLayer::named) whose session is beside those of other layers.
pub trait SessionName: 'static {
    /// The name: 1 to 64 lower-case letters, digits and `_`. Other names do not compile.
    const NAME: &'static str;
}

/// The layer without a name: the default of the extractors' parameter.
#[derive(Clone, Copy, Debug)]
pub struct Unnamed;

/// The layer whose session an extractor asks for: a [`SessionName`] or [`Unnamed`].
///
/// [`SessionOf`], [`SignedIn`](crate::SignedIn) and [`SessionOrOutage`](crate::SessionOrOutage) have
/// a parameter of this kind. An extractor of the application can have one too.
///
/// # Examples
///
/// ```
/// use axum::{extract::FromRequestParts, http::request::Parts};
/// use session_axum::{SessionRejection, SessionSlot, SignedIn, Unnamed};
/// use std::marker::PhantomData;
///
/// /// The account of the signed-in user: `Account` of a customer, `Account<Admin>` of an administrator.
/// struct Account<N = Unnamed> {
///     number: u64,
///     name: PhantomData<N>,
/// }
///
/// impl<N: SessionSlot, S: Send + Sync> FromRequestParts<S> for Account<N> {
///     type Rejection = SessionRejection;
///
///     async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, SessionRejection> {
///         let SignedIn(number) = SignedIn::<u64, N>::from_request_parts(parts, state).await?;
///         Ok(Self { number, name: PhantomData })
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not the name of a session layer",
    note = "implement `SessionName` for the type with which `SessionLayer::named` is called"
)]
pub trait SessionSlot: sealed::HasSlot {}

impl<N: sealed::HasSlot> SessionSlot for N {}

mod sealed {
    use super::{SessionName, Slot, Unnamed};

    pub trait HasSlot: 'static {
        fn slot() -> Slot;
    }

    impl<N: SessionName> HasSlot for N {
        fn slot() -> Slot {
            Slot::of::<N>()
        }
    }

    impl HasSlot for Unnamed {
        fn slot() -> Slot {
            Slot::default()
        }
    }
}

/// The session of a [named layer](crate::SessionLayer::named), beside the
/// [`Session`](crate::Session) of the layer without a name.
///
/// The extractor rejects requests as [`Session`](crate::Session) does, and there is an
/// `Option<SessionOf<N>>`, which is `None` on a route without the layer.
pub struct SessionOf<N: SessionSlot> {
    session: Session,
    name: PhantomData<fn() -> N>,
}

impl<N: SessionSlot> Deref for SessionOf<N> {
    type Target = Session;

    fn deref(&self) -> &Session {
        &self.session
    }
}

impl<N: SessionSlot> From<SessionOf<N>> for Session {
    fn from(named: SessionOf<N>) -> Self {
        named.session
    }
}

impl<N: SessionSlot> Clone for SessionOf<N> {
    fn clone(&self) -> Self {
        Self { session: self.session.clone(), name: PhantomData }
    }
}

impl<N: SessionSlot> fmt::Debug for SessionOf<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SessionOf").field(&self.session).finish()
    }
}

impl<N: SessionSlot, S: Send + Sync> FromRequestParts<S> for SessionOf<N> {
    type Rejection = SessionRejection;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        let session = N::slot().open(parts).await?;
        Ok(Self { session, name: PhantomData })
    }
}

impl<N: SessionSlot, S: Send + Sync> OptionalFromRequestParts<S> for SessionOf<N> {
    type Rejection = SessionRejection;

    async fn from_request_parts(
        parts: &mut Parts,
        state: &S,
    ) -> Result<Option<Self>, Self::Rejection> {
        match <Self as FromRequestParts<S>>::from_request_parts(parts, state).await {
            Err(SessionRejection::MissingLayer | SessionRejection::MissingNamedLayer { .. }) => {
                Ok(None)
            }
            outcome => outcome.map(Some),
        }
    }
}

/// The extension of a request that holds the session of a layer, chosen at run time.
#[derive(Clone, Copy)]
pub struct Slot {
    name: Option<&'static str>,
    insert: fn(&mut Extensions, SessionExtension) -> Option<SessionExtension>,
    get: fn(&Extensions) -> Option<&SessionExtension>,
}

impl Slot {
    /// Returns the slot of a named layer.
    pub(crate) fn of<N: SessionName>() -> Self {
        const { assert!(is_name(N::NAME), "1 to 64 lower-case letters, digits and `_`") }
        Self {
            name: Some(N::NAME),
            insert: |extensions, session| {
                let named = Named { session, name: PhantomData::<fn() -> N> };
                extensions.insert(named).map(|former| former.session)
            },
            get: |extensions| extensions.get::<Named<N>>().map(|named| &named.session),
        }
    }

    pub(crate) fn name(&self) -> Option<&'static str> {
        self.name
    }

    /// Puts the session of a layer into a request, and returns the former one of the slot.
    pub(crate) fn insert(
        &self,
        extensions: &mut Extensions,
        session: SessionExtension,
    ) -> Option<SessionExtension> {
        (self.insert)(extensions, session)
    }

    pub(crate) fn get<'e>(&self, extensions: &'e Extensions) -> Option<&'e SessionExtension> {
        (self.get)(extensions)
    }

    /// Opens the session of a request.
    pub(crate) async fn open(&self, parts: &Parts) -> Result<Session, SessionRejection> {
        match (self.get(&parts.extensions), self.name) {
            (Some(session), _) => Ok(session.open(&parts.headers).await?),
            (None, Some(name)) => Err(SessionRejection::MissingNamedLayer { name }),
            (None, None) => Err(SessionRejection::MissingLayer),
        }
    }
}

/// The slot of the layer without a name.
impl Default for Slot {
    fn default() -> Self {
        Self { name: None, insert: Extensions::insert, get: Extensions::get }
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Slot").field(&self.name).finish()
    }
}

/// The extension of a request that holds the session of a named layer.
struct Named<N> {
    session: SessionExtension,
    name: PhantomData<fn() -> N>,
}

impl<N> Clone for Named<N> {
    fn clone(&self) -> Self {
        Self { session: self.session.clone(), name: PhantomData }
    }
}

const fn is_name(name: &str) -> bool {
    let mut bytes = name.as_bytes();
    let is_long = bytes.len() > 64;
    let mut is_name = !bytes.is_empty() && !is_long;
    while let [byte, rest @ ..] = bytes {
        is_name &= byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'_';
        bytes = rest;
    }
    is_name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_is_a_word() {
        for good in ["admin", "a", "back_office2", &"a".repeat(64)] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", "Admin", "a-b", "a b", "\u{e4}", &"a".repeat(65)] {
            assert!(!is_name(bad), "{bad}");
        }
    }
}
