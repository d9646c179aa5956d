//! How changes get into a session that others change too.

use std::{sync::Arc, time::Duration};

use crate::{
    Committed, Entry, Event, Record, SessionError, Sessions,
    change::{Change, replay},
    creation::Placed,
    sessions::Home,
    work::{Rotation, Stamp, Work},
};

impl Sessions {
    /// Carries out a commit.
    pub(crate) async fn store_changes(&self, work: &Work) -> Result<Stored, SessionError> {
        match &work.home {
            Some(origin) if work.rotation.is_none() => {
                let record = Arc::clone(&work.record);
                let home = self.update(origin, record, &work.log, work.stamp).await?;
                Ok(Stored::of(work, origin, home))
            }
            // Boxed, for most requests do not need it and would carry its size about.
            _ => Box::pin(self.store_under_new_id(work)).await,
        }
    }

    /// Carries out a commit that creates the session, or moves it.
    async fn store_under_new_id(&self, work: &Work) -> Result<Stored, SessionError> {
        let Work { home, record, log, rotation, stamp } = work;
        let (record, mut stamp) = (Arc::clone(record), *stamp);
        let turn = self.login_turn(&record, *rotation).await;
        if turn.is_some() {
            // The wait was for others, who had the time that this one has from here on.
            stamp.begun_at = self.now();
            if stamp.begun_at.since(stamp.now) > LOGIN_PATIENCE {
                return Err(SessionError::Contended);
            }
        }
        match (home, rotation) {
            (Some(origin), Some(rotation)) => {
                let home = self.rotate(origin.clone(), record, log, *rotation, stamp).await?;
                Ok(Stored::of(work, origin, home))
            }
            _ => {
                let home = match self.create(&record, *rotation, None, stamp).await? {
                    Placed::At(home, _) => home,
                    Placed::FormerMoved(_) => return Err(SessionError::Ended),
                };
                self.tell(match rotation {
                    Some(Rotation::Login) => Event::Authenticated { key: home.key, former: None },
                    _ => Event::Created { key: home.key },
                });
                Ok(Stored { home, crossed: false })
            }
        }
    }

    /// Stores changes where the session is.
    pub(crate) async fn update(
        &self,
        home: &Home,
        record: Arc<Record>,
        log: &[Arc<Change>],
        stamp: Stamp,
    ) -> Result<Home, SessionError> {
        match self.replace_at(home, &record, stamp).await? {
            Committed::Committed => Ok(Home { record, ..home.clone() }),
            // Boxed, for most requests meet nobody and would carry its size about.
            met => Box::pin(self.update_newer(home.clone(), record, met, log, stamp)).await,
        }
    }

    /// Goes on where somebody else was faster.
    async fn update_newer(
        &self,
        mut home: Home,
        mut record: Arc<Record>,
        mut met: Committed,
        log: &[Arc<Change>],
        stamp: Stamp,
    ) -> Result<Home, SessionError> {
        let mut turn = None;
        for _ in 1..MAX_CONFLICTS {
            match met {
                Committed::Committed => return Ok(Home { record, ..home }),
                Committed::Gone => {
                    if home.record.expires_at() <= self.now() {
                        // By a clock that is a little behind it may live on: it stays in the index.
                        self.tell(Event::Expired { key: home.key });
                    } else if home.record.absolute_deadline() < record.absolute_deadline() {
                        // It may have been entered anew after it had left.
                        self.forget(&record, &[home.key]).await;
                    }
                    return Err(SessionError::Ended);
                }
                Committed::Conflict(Entry::Live(newer)) => home.record = newer,
                Committed::Conflict(Entry::Moved(tombstone)) => {
                    home = self.successor(&home, &tombstone).await?;
                }
            }
            if turn.is_none() {
                turn = Some(self.turn(&home.key).await);
            }
            self.check_patience(stamp)?;
            record = self.replayed(&home, log, stamp)?;
            met = self.replace_at(&home, &record, stamp).await?;
        }
        Err(SessionError::Contended)
    }

    /// Puts a record in place of the one at home, if that is still there.
    async fn replace_at(
        &self,
        home: &Home,
        record: &Arc<Record>,
        stamp: Stamp,
    ) -> Result<Committed, SessionError> {
        self.check_claim(home, stamp)?;
        self.keep_entered(&home.key, &home.record, record, stamp).await?;
        Ok(self.commit_at(home, Entry::Live(Arc::clone(record)), stamp).await?)
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
        if self.now().since(stamp.begun_at) > PATIENCE {
            return Err(SessionError::Contended);
        }
        Ok(())
    }

    /// A commit that is made under a lease counts only as long as that lasts.
    pub(crate) fn check_claim(&self, home: &Home, stamp: Stamp) -> Result<(), SessionError> {
        stamp.claim.map_or(Ok(()), |claim| self.check_lease(&home.record, claim.token))
    }
}

/// Where a commit left the session.
pub(crate) struct Stored {
    pub(crate) home: Home,
    /// A login by another request lies between what this one loaded and what is stored.
    pub(crate) crossed: bool,
}

impl Stored {
    /// What the request sees of the session that its changes went into.
    fn of(work: &Work, origin: &Home, home: Home) -> Self {
        if home.id.is_some() {
            return Self { home, crossed: false };
        }
        // Another request signed in meanwhile. What this one began before that is merged, but what the
        // session holds now is not for it to see, nor is the ID: it goes on as if the session were what
        // it loaded, with its own changes (I4).
        let home = Home { record: Arc::clone(&work.record), ..origin.clone() };
        Self { home, crossed: true }
    }
}

/// How long one commit tries again after others were faster.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long a login waits for others of its owner, where their sessions are limited.
const LOGIN_PATIENCE: Duration = Duration::from_secs(10);

/// How often one commit tries again after others were faster.
pub(crate) const MAX_CONFLICTS: usize = 128;
