//! The sign-ins under way. Each is a value of the visitor's session: another browser cannot finish
//! it, and one request can.

use std::time::{Duration, SystemTime};

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
    pub(crate) began_at: SystemTime,
}

impl Attempt {
    /// Stores the sign-in under its `state`. Several tabs can sign in at the same time.
    pub(crate) fn begin(&self, session: &Session, state: &str) -> Result<(), SessionError> {
        // A visitor who begins and never comes back does not fill the session.
        let names = session.names().into_iter().filter(|name| name.starts_with(PREFIX));
        let began_at = |name: &String| Some(session.get(Key::<Self>::new(name))?.began_at);
        let mut under_way: Vec<_> = names.map(|name| (began_at(&name), name)).collect();
        under_way.sort_unstable();
        let is_over = |(began_at, _): &(Option<_>, String)| !began_at.is_some_and(is_recent);
        let over = under_way.iter().take_while(|attempt| is_over(attempt)).count();
        let surplus = (under_way.len() + 1).saturating_sub(MAX_UNDER_WAY);
        for (_, name) in &under_way[..over.max(surplus)] {
            session.remove(Key::<Self>::new(name))?;
        }
        session.set(Key::<Self>::new(&name_of(state)), self)
    }

    /// Removes the sign-in with this `state` from the session and returns it, to one request only.
    pub(crate) async fn finish(
        session: &Session,
        state: &str,
    ) -> Result<Option<Self>, SessionError> {
        let attempt = session.take_once(Key::<Self>::new(&name_of(state))).await?;
        Ok(attempt.filter(|attempt| is_recent(attempt.began_at)))
    }
}

/// Returns `true` if a sign-in that began at this time may still be finished.
fn is_recent(began_at: SystemTime) -> bool {
    // The clock of the server where it began may be ahead.
    began_at.elapsed().unwrap_or_default() <= MAX_AGE
}

fn name_of(state: &str) -> String {
    format!("{PREFIX}{state}")
}

const PREFIX: &str = "sign-in ";

/// The number of sign-ins that one session keeps. A newer one replaces the oldest. Concurrent requests
/// may add more, which the next one removes.
pub(crate) const MAX_UNDER_WAY: usize = 8;

/// The time in which the browser has to come back.
pub(crate) const MAX_AGE: Duration = Duration::from_secs(600);
