use std::{any::type_name, str::FromStr};

use axum_core::extract::{FromRequestParts, OptionalFromRequestParts};
use http::request::Parts;
use session_core::{Session, SessionRejection};

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
///
/// The application loads the user's account, roles and permissions, in an extractor that calls this
/// one.
///
/// # Examples
///
/// ```
/// use session_axum::SignedIn;
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
/// ```
///
/// [I7]: session_core::guarantees#i7-an-outage-is-not-a-logout
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SignedIn<T>(pub T);

impl<T: FromStr, S: Send + Sync> FromRequestParts<S> for SignedIn<T> {
    type Rejection = SessionRejection;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Self::Rejection> {
        let session = <Session as FromRequestParts<S>>::from_request_parts(parts, state).await?;
        let owner = session.owner().ok_or(SessionRejection::SignedOut)?;
        owner.parse().map(Self).ok_or(SessionRejection::OwnerType { expected: type_name::<T>() })
    }
}

impl<T: FromStr, S: Send + Sync> OptionalFromRequestParts<S> for SignedIn<T> {
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
