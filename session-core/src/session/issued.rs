//! Values under tokens: a browser brings the token back, and one request receives the value.
//!
//! ```text
//! value of the key    [hash of the token, deadline, value], …    the oldest first
//!
//! issue     an update adds an entry, and removes the surplus and the expired ones
//! redeem    commit the removal of this very entry   ──▶ one request receives the value
//! ```

use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{IntoValue, Session};
use crate::{
    Codec, Key, Limits, MessagePack, SessionError, Timestamp,
    record::{Apply, Change, decode, encode},
};

impl Session {
    /// The number of values that a session keeps for one key of [`issue`](Self::issue).
    pub const MAX_ISSUED: usize = 8;

    /// Stores a value under a token, for one later request with this token: see
    /// [`redeem`](Self::redeem). Use this for the `state` of a sign-in through a provider, for the
    /// token of a form, or for an address that the user confirms.
    ///
    /// The value can be redeemed for `time`, by the clocks of the servers. A `time` of zero ends
    /// immediately. The values of concurrent requests add up ([I1]). A session keeps the last
    /// [`MAX_ISSUED`](Self::MAX_ISSUED) values of a key, so that a visitor who begins and never comes
    /// back does not fill the session. A second value under one token replaces the first.
    ///
    /// All values of the key are one value of the session, with the name of the key. Use the key for
    /// `issue`, `redeem` and [`remove`](Self::remove) alone, which takes all tokens back. As with
    /// every value, a visitor's login keeps them, and a login of another user removes them.
    ///
    /// # Security
    ///
    /// A token counts in the session that issued it: a link or a form that an attacker began in
    /// another browser is worth nothing here (login CSRF). A link in an e-mail must therefore be opened
    /// in the browser that asked for it.
    ///
    /// A token needs 128 random bits at least. The session holds a hash of the token, which the store
    /// and the logs therefore hide ([I10]).
    ///
    /// # Errors
    ///
    /// The errors of [`set`](Self::set). The limit of a value's size holds for all values of the key
    /// together.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use serde::{Deserialize, Serialize};
    /// use session_core::{Key, Session, SessionError};
    ///
    /// #[derive(Deserialize, Serialize)]
    /// struct Attempt {
    ///     nonce: String,
    ///     next: String,
    /// }
    ///
    /// const ATTEMPT: Key<Attempt> = Key::new("sign-in");
    ///
    /// /// Before the redirect to the provider.
    /// fn begin(session: &Session, state: &str, attempt: &Attempt) -> Result<(), SessionError> {
    ///     session.issue(ATTEMPT, state, attempt, Duration::from_secs(600))
    /// }
    ///
    /// /// At the return, with the state in the address.
    /// async fn finish(session: &Session, state: &str) -> Result<String, SessionError> {
    ///     Ok(match session.redeem(ATTEMPT, state).await? {
    ///         Some(attempt) => attempt.next,
    ///         None => "sign in again".to_owned(),
    ///     })
    /// }
    /// ```
    ///
    /// [I1]: crate::guarantees#i1-no-lost-update
    /// [I10]: crate::guarantees#i10-nothing-leaks
    pub fn issue<T, C: Codec<T>>(
        &self,
        key: Key<'_, T, C>,
        token: &str,
        value: impl IntoValue<T>,
        time: Duration,
    ) -> Result<(), SessionError> {
        let limits = &self.protocol().settings.limits;
        let value = value.lend(|value| encode::<T, C>(key.name(), value, limits))?;
        let now = self.protocol().now();
        let issued = Issued { token: hash(token), ends_at: (now + time).as_millis(), value };
        self.update_or_reset(Key::<Vec<Issued>>::new(key.name()), move |list| {
            list.retain(|other| other.is_live(now) && other.token != issued.token);
            list.push(issued.clone());
            list.drain(..list.len().saturating_sub(Self::MAX_ISSUED));
        })?;
        Ok(())
    }

    /// Removes the value of a token and commits, as [`take_once`](Self::take_once) does, so that only
    /// one of all concurrent requests receives the value.
    ///
    /// Returns `None` if the session has not [issued](Self::issue) the token, if its time is over, if
    /// another request was first, or if the value is in another format ([I11]). The token may be any
    /// text of a client.
    ///
    /// # Errors
    ///
    /// The errors of [`commit`](Self::commit). After an error, the value may have been removed.
    ///
    /// [I11]: crate::guarantees#i11-deployments-survive
    pub async fn redeem<T, C: Codec<T>>(
        &self,
        key: Key<'_, T, C>,
        token: &str,
    ) -> Result<Option<T>, SessionError> {
        let (name, token) = (key.name(), hash(token));
        let _turn = self.committing().lock().await;
        self.flush(false).await?;
        let Some(located) = self.open_state()?.located().cloned() else { return Ok(None) };
        let protocol = self.protocol();
        let Some(stored) = located.record.values.get(name) else { return Ok(None) };
        let list = protocol.decode_or_report::<Vec<Issued>, MessagePack>(name, stored);
        let now = protocol.now();
        let is_asked = |issued: &Issued| issued.token == token && issued.is_live(now);
        let Some(issued) = list.into_iter().flatten().find(is_asked) else { return Ok(None) };
        let Some(value) = protocol.decode_or_report::<T, C>(name, &issued.value) else {
            return Ok(None);
        };
        let removal = issued.removal(name, protocol.settings.limits);
        match self.commit_alone(located, removal).await {
            Ok(()) => Ok(Some(value)),
            Err(SessionError::Taken) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// A value under a token.
#[derive(Clone, Deserialize, Eq, PartialEq, Serialize)]
struct Issued {
    token: TokenHash,
    /// In milliseconds since the Unix epoch.
    ends_at: u64,
    /// With the byte of its format in front.
    #[serde(with = "serde_bytes")]
    value: Vec<u8>,
}

impl Issued {
    fn is_live(&self, now: Timestamp) -> bool {
        now.as_millis() < self.ends_at
    }

    /// Returns the change that removes this entry, and the value of the session with the last one.
    /// The change fails if another request has removed or replaced the entry.
    fn removal(self, name: &str, limits: Limits) -> Change {
        let key: Box<str> = name.into();
        let apply: Box<Apply> = Box::new(move |present, _| {
            let list = present.map(|list| decode::<Vec<Self>, MessagePack>(&key, list));
            let mut list = list.ok_or(SessionError::Taken)??;
            let place = list.iter().position(|other| *other == self);
            list.remove(place.ok_or(SessionError::Taken)?);
            let left = Some(list).filter(|list| !list.is_empty());
            left.map(|list| encode::<_, MessagePack>(&key, &list, &limits)).transpose()
        });
        // The change is committed alone: no request sees its preview.
        Change::Update { name: name.into(), is_conditional: false, apply, preview: None }
    }
}

type TokenHash = serde_bytes::ByteArray<16>;

/// Returns the first 128 bits of the SHA-256 of a token. Look-ups by a hash reveal nothing by their
/// duration.
fn hash(token: &str) -> TokenHash {
    let hash: [u8; 32] = Sha256::new_with_prefix("session-core: issued token\0")
        .chain_update(token)
        .finalize()
        .into();
    TokenHash::new(*hash.first_chunk().expect("the hash has 32 bytes"))
}
