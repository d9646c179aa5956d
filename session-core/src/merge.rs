//! How changes get into a session that others change too.

use std::{sync::Arc, time::Duration};

use crate::{
    Committed, Created, Entry, Record, SessionError, Sessions, StoreError, StoreErrorKind,
    change::{Change, replay},
    sessions::Home,
    work::{Stamp, Work},
};

impl Sessions {
    /// Carries out a commit.
    pub(crate) async fn store_changes(&self, work: &Work) -> Result<Stored, SessionError> {
        let Work { home, record, log, rotation, stamp } = work;
        let (record, stamp) = (Arc::clone(record), *stamp);
        let Some(origin) = home else {
            let home = self.create(&record, stamp).await?;
            tracing::debug!(target: "session", key = %home.key, "session created");
            return Ok(Stored { home, crossed: false });
        };
        let home = match rotation {
            None => self.update(origin.clone(), record, log, stamp).await?,
            Some(rotation) => self.rotate(origin.clone(), record, log, *rotation, stamp).await?,
        };
        if home.id.is_some() {
            return Ok(Stored { home, crossed: false });
        }
        // Another request signed in meanwhile. What this one began before that is merged, but what the
        // session holds now is not for it to see, nor is the ID: it goes on as if the session were what
        // it loaded, with its own changes (I4).
        let home = Home { record: Arc::clone(&work.record), ..origin.clone() };
        Ok(Stored { home, crossed: true })
    }

    /// Stores a session under a fresh ID.
    pub(crate) async fn create(
        &self,
        record: &Arc<Record>,
        stamp: Stamp,
    ) -> Result<Home, SessionError> {
        for _ in 0..MAX_COLLISIONS {
            let id = self.ids.generate();
            let key = id.key();
            if self.create_at(&key, record, stamp).await? == Created::Created {
                return Ok(Home { key, id: Some(id), record: Arc::clone(record) });
            }
            tracing::warn!(target: "session", %key, "the ID generator made an ID that is in use");
        }
        Err(StoreError::new(StoreErrorKind::Misconfigured)
            .with_source("the ID generator repeats itself")
            .into())
    }

    /// Stores changes where the session is.
    pub(crate) async fn update(
        &self,
        mut home: Home,
        mut record: Arc<Record>,
        log: &[Arc<Change>],
        stamp: Stamp,
    ) -> Result<Home, SessionError> {
        let mut turn = None;
        for _ in 0..MAX_CONFLICTS {
            self.check_patience(stamp)?;
            match self.commit_at(&home, Entry::Live(Arc::clone(&record)), stamp).await? {
                Committed::Committed => return Ok(Home { record, ..home }),
                Committed::Gone => return Err(SessionError::Ended),
                Committed::Conflict(Entry::Live(newer)) => home.record = newer,
                Committed::Conflict(Entry::Moved(tombstone)) => {
                    home = self.successor(&home, &tombstone).await?;
                }
            }
            if turn.is_none() {
                turn = Some(self.turn(&home.key).await);
            }
            record = self.replayed(&home, log, stamp)?;
        }
        Err(SessionError::Contended)
    }

    pub(crate) fn replayed(
        &self,
        home: &Home,
        log: &[Arc<Change>],
        stamp: Stamp,
    ) -> Result<Arc<Record>, SessionError> {
        let mut draft = Record::clone(&home.record);
        replay(log, &mut draft, &self.limits)?;
        Ok(stamp.onto(Some(&home.record), draft))
    }

    /// A commit that waits for others does not wait for ever (I9).
    pub(crate) fn check_patience(&self, stamp: Stamp) -> Result<(), SessionError> {
        if self.now().since(stamp.now) > PATIENCE {
            return Err(SessionError::Contended);
        }
        Ok(())
    }
}

/// Where a commit left the session.
pub(crate) struct Stored {
    pub(crate) home: Home,
    /// A login by another request lies between what this one loaded and what is stored.
    pub(crate) crossed: bool,
}

/// How long one commit tries again after others were faster.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often one commit tries again after others were faster.
pub(crate) const MAX_CONFLICTS: usize = 128;

/// How many IDs in use the generator may offer in a row.
const MAX_COLLISIONS: usize = 3;
