//! Messages that the user sees once.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Session;
use crate::{Key, SessionError, record::too_large};

impl Session {
    /// Adds a flash message: the next page that calls [`take_flashes`](Self::take_flashes) shows the
    /// message, after a redirect or a login too.
    ///
    /// The messages of concurrent requests add up ([I1]). A session keeps the last
    /// [`Flash::MAX_COUNT`] messages, in one value with the reserved name [`Flash::NAME`]. As with
    /// all values, a login of another user removes the messages before it.
    ///
    /// # Errors
    ///
    /// Returns [`SessionError::TooLarge`] for a text longer than [`Flash::MAX_BYTES`]. Also the
    /// errors of [`update_or_reset`](Self::update_or_reset).
    ///
    /// # Examples
    ///
    /// ```
    /// use session_core::{FlashLevel, Session, SessionError};
    ///
    /// fn save(session: &Session) -> Result<(), SessionError> {
    ///     session.flash(FlashLevel::Success, "Saved.")?;
    ///     session.flash(FlashLevel::Warning, "The invoice has no address.")
    /// }
    ///
    /// async fn page(session: &Session) -> Result<String, SessionError> {
    ///     let flashes = session.take_flashes().await?;
    ///     let lines = flashes.iter().map(|flash| format!("{}: {}\n", flash.level(), flash.text()));
    ///     Ok(lines.collect())
    /// }
    /// ```
    ///
    /// [I1]: crate::guarantees#i1-no-lost-update
    pub fn flash(&self, level: FlashLevel, text: impl Into<String>) -> Result<(), SessionError> {
        let flash = Flash { level, text: text.into() };
        if flash.text.len() > Flash::MAX_BYTES {
            return Err(too_large("the text of a flash message", Flash::MAX_BYTES));
        }
        self.update_or_reset(FLASHES, move |flashes| {
            flashes.push(flash.clone());
            flashes.drain(..flashes.len().saturating_sub(Flash::MAX_COUNT));
        })?;
        Ok(())
    }

    /// Removes all flash messages and commits, as [`take_once`](Self::take_once) does, and returns
    /// the messages, the oldest first. Of all concurrent requests, one receives each message.
    ///
    /// Without messages, the call returns immediately and commits nothing. If another request adds a
    /// message at the same time, the list is empty, and the next page shows all messages. Messages
    /// in another format count as missing ([I11]).
    ///
    /// # Errors
    ///
    /// The errors of [`commit`](Self::commit). After an error, the messages may have been removed.
    ///
    /// [I11]: crate::guarantees#i11-deployments-survive
    pub async fn take_flashes(&self) -> Result<Vec<Flash>, SessionError> {
        if self.get(FLASHES).is_none() {
            return Ok(Vec::new());
        }
        Ok(self.take_once(FLASHES).await?.unwrap_or_default())
    }
}

/// A message that the user sees once.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Flash {
    level: FlashLevel,
    text: String,
}

impl Flash {
    /// The name of the value that holds the messages of a session.
    pub const NAME: &'static str = "_flashes";

    /// The number of messages that a session keeps. Another message replaces the oldest one, so that
    /// requests without a page, such as those of a script, do not fill the session.
    pub const MAX_COUNT: usize = 16;

    /// The maximum length of a message's text, in bytes.
    pub const MAX_BYTES: usize = 1_024;

    /// Returns the level.
    #[must_use]
    pub fn level(&self) -> FlashLevel {
        self.level
    }

    /// Returns the text.
    ///
    /// # Security
    ///
    /// The text is not escaped. A page must escape it, as any text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// The level of a flash message, which decides its look on the page.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FlashLevel {
    /// `info`: a fact.
    Info,
    /// `success`: the action succeeded.
    Success,
    /// `warning`: the action succeeded, and needs attention.
    Warning,
    /// `error`: the action failed.
    Error,
}

impl FlashLevel {
    /// Returns the name in lower case, for a CSS class for example.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Success => "success",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

impl fmt::Display for FlashLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

const FLASHES: Key<Vec<Flash>> = Key::new(Flash::NAME);
