//! What the connections to Redis tell the near cache. Without that there is nothing to tell, in the same words.

#[cfg(not(feature = "near-cache"))]
mod off;
#[cfg(feature = "near-cache")]
mod on;

#[cfg(not(feature = "near-cache"))]
pub(crate) use off::{Seen, Tracked, Tracking};
#[cfg(feature = "near-cache")]
pub(crate) use on::{Seen, Tracked, Tracking};

use crate::wire::Wire;

/// A connection, and whether Redis tells over it what others change.
#[derive(Clone)]
pub(crate) struct Link {
    pub(crate) connection: Wire,
    pub(crate) tracked: Tracked,
}

impl Link {
    pub(crate) fn untracked(connection: Wire) -> Self {
        Self { connection, tracked: Tracked::default() }
    }
}
