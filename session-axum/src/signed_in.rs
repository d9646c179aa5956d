use std::{any::type_name, fmt, str::FromStr};

use axum_core::extract::{FromRequestParts, OptionalFromRequestParts};
use http::request::Parts;
use session_core::SessionRejection;

use crate::{SessionOf, SessionSlot, Unnamed};

/// The signed-in user, as a type of the application: a number, a UUID or any other type with a parser
/// for the text of the session's [`Owner`](crate::Owner).
///
/// | the request | `SignedIn<T>` | `Option<SignedIn<T>>` |
/// | --- | --- | --- |
/// | has a session with an owner of type `T` | the owner | the owner |
/// | has no session, or a session without an owner | 401 | `None` |
/// | has a session with an owner of another type | 500, logged without the owner | 500 |
/// | has a session that the store fails to load | 503, so that an outage never looks like a logout ([I7]) | 503 |
/// | arrives on a route without a layer | 500 | 500 |
/// | has passed the guard of another [named](crate::RequireSignIn::named) session | 500 | 500 |
///
/// `SignedIn<T, N>` is the user of the session of a [named layer](crate::SessionLayer::named). Behind a
/// guard for administrators, a handler that forgets the name would act for the user of the unnamed
/// session in the same browser. Its requests are refused instead. To read that user there, take
/// [`Session`](crate::Session) and call [`owner_as`](crate::Session::owner_as).
///
/// The application loads the user's account, roles and permissions, in an extractor that calls this
/// one.
///
/// # Examples
///
/// ```
/// use session_axum::{SessionName, SignedIn};
///
/// struct Admin;
///
/// impl SessionName for Admin {
///     const NAME: &'static str = "admin";
/// }
///
/// async fn invoices(SignedIn(user): SignedIn<u64>) -> String {
///     format!("the invoices of user {user}")
/// }
///
/// async fn home(user: Option<SignedIn<u64>>) -> String {
///     match user {
///         Some(SignedIn(user)) => format!("hello, user {user}"),
///         None => "hello, visitor".to_owned(),
///     }
/// }
///
/// async fn accounts(SignedIn(administrator): SignedIn<u64, Admin>) -> String {
///     format!("all accounts, for administrator {administrator}")
/// }
/// # use axum::{Router, routing::get};
/// # let _: Router = Router::new()
/// #     .route("/invoices", get(invoices)).route("/", get(home)).route("/accounts", get(accounts));
/// ```
///
/// A type that names no layer does not compile:
///
/// ```compile_fail,E0277
/// async fn accounts(_: session_axum::SignedIn<u64, String>) {}
/// ```
///
/// [I7]: session_core::guarantees#i7-an-outage-is-not-a-logout
// The field is a `T`. Written with `N`, it needs no second field for the name, which each pattern
// `SignedIn(user)` would have to skip. The price: messages of the compiler show the projection, and
// a pattern alone does not let it infer `T`.
pub struct SignedIn<T, N: SessionSlot = Unnamed>(pub <T as Tagged<N>>::Untagged);

/// A type beside the name of a layer.
#[doc(hidden)]
pub trait Tagged<N: ?Sized> {
    /// The type itself.
    type Untagged;
}

impl<T, N: ?Sized> Tagged<N> for T {
    type Untagged = T;
}

impl<T: FromStr, N: SessionSlot, S: Send + Sync> FromRequestParts<S> for SignedIn<T, N> {
    type Rejection = SessionRejection;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Self::Rejection> {
        #[cfg(feature = "guard")]
        crate::guard::PassedGuard::check::<N>(&parts.extensions)?;
        let session =
            <SessionOf<N> as FromRequestParts<S>>::from_request_parts(parts, state).await?;
        let owner = session.owner().ok_or(SessionRejection::SignedOut)?;
        owner.parse().map(Self).ok_or(SessionRejection::OwnerType { expected: type_name::<T>() })
    }
}

impl<T: FromStr, N: SessionSlot, S: Send + Sync> OptionalFromRequestParts<S> for SignedIn<T, N> {
    type Rejection = SessionRejection;

    async fn from_request_parts(
        parts: &mut Parts,
        state: &S,
    ) -> Result<Option<Self>, Self::Rejection> {
        match <Self as FromRequestParts<S>>::from_request_parts(parts, state).await {
            Err(SessionRejection::SignedOut) => Ok(None),
            outcome => outcome.map(Some),
        }
    }
}

impl<T: Clone, N: SessionSlot> Clone for SignedIn<T, N> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: Copy, N: SessionSlot> Copy for SignedIn<T, N> {}

impl<T: PartialEq, N: SessionSlot> PartialEq for SignedIn<T, N> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl<T: Eq, N: SessionSlot> Eq for SignedIn<T, N> {}

impl<T: fmt::Debug, N: SessionSlot> fmt::Debug for SignedIn<T, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SignedIn").field(&self.0).finish()
    }
}
