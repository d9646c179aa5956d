//! The creation of a record under a fresh key.

use std::sync::Arc;

use super::{Located, Protocol, verbs::index_entry, write::Patience};
use crate::{
    Created, Entry, Record, SessionError, SessionKey, StoreError, StoreErrorKind, Timestamp,
    record::Realm,
};

impl Protocol {
    /// Stores a record under a fresh ID of a realm.
    pub(super) async fn create(
        &self,
        record: &Arc<Record>,
        realm: Realm,
        now: Timestamp,
        patience: &mut Patience,
    ) -> Result<Located, SessionError> {
        let mut collisions = 0;
        loop {
            patience.check(self.now())?;
            let id = self.ids.generate().in_realm(realm);
            let key = id.key();
            match self.create_record(&key, record, now).await {
                Ok(Created::Created) => {
                    let record = Arc::clone(record);
                    return Ok(Located { key, id: Some(id), record, is_presented: false });
                }
                // A revocation found the key in the index before the record existed, or this
                // request blocked the key after a lost answer.
                Ok(Created::Exists) if self.is_blocked(&key).await? => {
                    self.leave_indexes(key, record).await;
                }
                Ok(Created::Exists) => {
                    self.leave_strange_indexes(key, record).await?;
                    collisions += 1;
                    tracing::warn!(
                        target: "session",
                        { session.id = %key },
                        "the ID generator made an ID that is in use"
                    );
                    if collisions == MAX_COLLISIONS {
                        return Err(StoreError::new(StoreErrorKind::Misconfigured)
                            .with_source("the ID generator repeats itself")
                            .into());
                    }
                }
                Err(error) => {
                    // If the outcome is unknown, the record may be stored: its entries stay in the
                    // indexes.
                    if !error.is_outcome_unknown() {
                        self.leave_indexes(key, record).await;
                    }
                    return Err(error.into());
                }
            }
        }
    }

    /// Removes the key from the indexes of this record that do not list the session under the key.
    async fn leave_strange_indexes(
        &self,
        key: SessionKey,
        record: &Record,
    ) -> Result<(), StoreError> {
        if let Some(Entry::Session(other)) = self.load_entry(&key).await? {
            let (entry, listed) = (index_entry(key, record), other.index_keys());
            for index in record.index_keys().iter().filter(|index| !listed.contains(index)) {
                self.leave(index, &[entry]).await;
            }
        }
        Ok(())
    }

    /// Deletes a new record whose ID was not sent to any client. A failure is harmless: the record
    /// expires, and until then its family is listed and revoked as one session.
    pub(super) async fn abandon(&self, new: &Located) {
        match self.delete_key(&new.key).await {
            Ok(_) => self.leave_indexes(new.key, &new.record).await,
            Err(error) => {
                tracing::debug!(
                    target: "session", %error, session.id = %new.key, "unused record left"
                );
            }
        }
    }
}

/// The number of collisions with IDs in use after which the creation of a session fails.
const MAX_COLLISIONS: usize = 3;
