//! The sign-ins under way. Each is a value of the visitor's session: another browser cannot finish
//! it, and one request can.

use openidconnect::{Nonce, PkceCodeVerifier};
use serde::{Deserialize, Serialize};
use session_axum::{Key, NextPath, Session, SessionError};

/// A sign-in under way, from the redirect to the provider until the browser comes back.
#[derive(Deserialize, Serialize)]
pub(crate) struct Attempt {
    /// Is in the ID token: an ID token of another sign-in is refused.
    pub(crate) nonce: Nonce,
    /// Redeems the code: a code of another sign-in is worthless here (PKCE, RFC 7636).
    pub(crate) verifier: PkceCodeVerifier,
    /// The page to which the user wanted to go.
    pub(crate) next: NextPath,
}

impl Attempt {
    /// Stores the sign-in under its `state`. Several tabs can sign in at the same time.
    pub(crate) fn begin(&self, session: &Session, state: &str) -> Result<(), SessionError> {
        // A visitor who begins and never comes back does not fill the session.
        let under_way = session.names().into_iter().filter(|name| name.starts_with(PREFIX));
        for name in under_way.skip(MAX_UNDER_WAY - 1) {
            session.remove(Key::<Self>::new(&name))?;
        }
        session.set(Key::<Self>::new(&name_of(state)), self)
    }

    /// Removes the sign-in with this `state` from the session and returns it, to one request only.
    pub(crate) async fn finish(
        session: &Session,
        state: &str,
    ) -> Result<Option<Self>, SessionError> {
        session.take_once(Key::<Self>::new(&name_of(state))).await
    }
}

fn name_of(state: &str) -> String {
    format!("{PREFIX}{state}")
}

const PREFIX: &str = "sign-in ";

pub(crate) const MAX_UNDER_WAY: usize = 8;
