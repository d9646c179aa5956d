use std::{fmt, path::Path, sync::Arc, time::Duration};

use rusqlite::{
    Connection, ErrorCode, OptionalExtension as _, Row, Transaction, TransactionBehavior, params,
};
use session_core::{
    Committed, Created, Entry, Expected, Family, IndexEntry, IndexKey, SessionIndex, SessionKey,
    SessionStore, StoreError, StoreErrorKind, Timestamp, Touched, envelope,
};
use tokio::sync::Mutex;

/// A store of sessions in an SQLite file, shared by the processes of one machine.
///
/// Each verb is one transaction. A transaction with writes takes SQLite's write lock before its
/// first read, and so is atomic among all processes.
///
/// A process has one connection, and its requests wait for the connection in order. SQLite has one
/// writer in any case, and other waiting connections would poll for the lock.
pub(crate) struct SqliteStore {
    connection: Arc<Mutex<Connection>>,
}

impl SqliteStore {
    /// Opens a file. Creates the file if it is missing.
    ///
    /// # Errors
    ///
    /// Returns [`StoreErrorKind::Misconfigured`] if the file cannot be opened or is not a database.
    pub(crate) fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        let connect = || -> rusqlite::Result<Connection> {
            let connection = Connection::open(path)?;
            connection.busy_timeout(BUSY_TIMEOUT)?;
            connection.execute_batch(SCHEMA)?;
            Ok(connection)
        };
        let connection = connect().map_err(Fault::from)?;
        Ok(Self { connection: Arc::new(Mutex::new(connection)) })
    }

    /// Runs a transaction without writes. Such a transaction does not wait for writers.
    async fn read<R: Send + 'static>(
        &self,
        act: impl FnOnce(&Transaction<'_>) -> Result<R, Fault> + Send + 'static,
    ) -> Result<R, StoreError> {
        self.transaction(TransactionBehavior::Deferred, act).await
    }

    /// Runs a transaction with writes.
    async fn write<R: Send + 'static>(
        &self,
        act: impl FnOnce(&Transaction<'_>) -> Result<R, Fault> + Send + 'static,
    ) -> Result<R, StoreError> {
        self.transaction(TransactionBehavior::Immediate, act).await
    }

    /// Runs a transaction on one of Tokio's threads for blocking calls, because SQLite blocks its
    /// thread. If the request is dropped, the transaction still runs to its end.
    async fn transaction<R: Send + 'static>(
        &self,
        behavior: TransactionBehavior,
        act: impl FnOnce(&Transaction<'_>) -> Result<R, Fault> + Send + 'static,
    ) -> Result<R, StoreError> {
        let mut connection = Arc::clone(&self.connection).lock_owned().await;
        let transaction = move || -> Result<R, Fault> {
            let transaction = connection.transaction_with_behavior(behavior)?;
            // A failure drops the transaction, and so rolls the changes back.
            let answer = act(&transaction)?;
            // A failure here may come after the changes have reached the disk.
            transaction.commit().map_err(|error| unknown(error.into()))?;
            Ok(answer)
        };
        match tokio::task::spawn_blocking(transaction).await {
            Ok(answer) => Ok(answer?),
            Err(panic_or_shutdown) => Err(unknown(panic_or_shutdown.into()).into()),
        }
    }
}

#[session_core::async_trait]
impl SessionStore for SqliteStore {
    async fn create(
        &self,
        key: &SessionKey,
        entry: Entry,
        now: Timestamp,
    ) -> Result<Created, StoreError> {
        let (key, bytes) = (*key, entry.encode());
        self.write(move |transaction| {
            remove_expired(transaction, now)?;
            let created = transaction.execute(
                "INSERT INTO sessions (key, entry, expires_at) VALUES (?1, ?2, ?3)
                 ON CONFLICT (key) DO UPDATE SET entry = ?2, expires_at = ?3
                 WHERE expires_at <= ?4",
                params![key.as_bytes(), bytes, millis(entry.expires_at()), millis(now)],
            )?;
            Ok(if created == 0 { Created::Exists } else { Created::Created })
        })
        .await
    }

    async fn load(&self, key: &SessionKey, now: Timestamp) -> Result<Option<Entry>, StoreError> {
        let key = *key;
        self.read(move |transaction| find(transaction, &key, now)).await
    }

    async fn commit(
        &self,
        key: &SessionKey,
        expected: Expected,
        entry: Entry,
        now: Timestamp,
    ) -> Result<Committed, StoreError> {
        let (key, bytes) = (*key, entry.encode());
        self.write(move |transaction| {
            // The first bytes hold kind, revision and nonce, so the stored record need not be
            // decoded.
            let start = envelope::live_start(expected.revision(), expected.nonce());
            let replaced = transaction.execute(
                "UPDATE sessions SET entry = ?2, expires_at = ?3
                 WHERE key = ?1 AND expires_at > ?4 AND substr(entry, 1, length(?5)) = ?5",
                params![key.as_bytes(), bytes, millis(entry.expires_at()), millis(now), start],
            )?;
            if replaced == 1 {
                return Ok(Committed::Committed);
            }
            Ok(find(transaction, &key, now)?.map_or(Committed::Gone, Committed::Conflict))
        })
        .await
    }

    async fn touch(&self, key: &SessionKey, now: Timestamp) -> Result<Touched, StoreError> {
        let key = *key;
        self.write(move |transaction| {
            let Some(Entry::Session(record)) = find(transaction, &key, now)? else {
                return Ok(Touched::Gone);
            };
            let seen = Entry::Session(Arc::new(record.seen(now)));
            transaction.execute(
                "UPDATE sessions SET entry = ?2, expires_at = ?3 WHERE key = ?1",
                params![key.as_bytes(), seen.encode(), millis(seen.expires_at())],
            )?;
            Ok(Touched::Touched)
        })
        .await
    }

    async fn delete(&self, key: &SessionKey, now: Timestamp) -> Result<Option<Entry>, StoreError> {
        let key = *key;
        self.write(move |transaction| {
            let found = match find(transaction, &key, now) {
                Err(Fault(error)) if error.kind() == StoreErrorKind::Corrupt => None,
                found => found?,
            };
            // A tombstone stays, so a repeated delete finds the session's new key again.
            if !matches!(found, Some(Entry::Tombstone(_))) {
                transaction.execute("DELETE FROM sessions WHERE key = ?1", [key.as_bytes()])?;
            }
            Ok(found)
        })
        .await
    }
}

#[session_core::async_trait]
impl SessionIndex for SqliteStore {
    async fn enter(
        &self,
        index: &IndexKey,
        entry: IndexEntry,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let index = *index;
        self.write(move |transaction| {
            remove_passed(transaction, &index, now)?;
            transaction.execute(
                "INSERT INTO indexes (name, key, family, until) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT DO UPDATE SET until = max(until, ?4)",
                params![
                    index.as_bytes(),
                    entry.key.as_bytes(),
                    entry.family.as_u64().cast_signed(),
                    millis(entry.until),
                ],
            )?;
            Ok(())
        })
        .await
    }

    async fn leave(
        &self,
        index: &IndexKey,
        entries: &[IndexEntry],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let (index, entries) = (*index, entries.to_vec());
        self.write(move |transaction| {
            remove_passed(transaction, &index, now)?;
            let mut statement = transaction
                .prepare("DELETE FROM indexes WHERE name = ?1 AND key = ?2 AND family = ?3")?;
            for entry in entries {
                let family = entry.family.as_u64().cast_signed();
                statement.execute(params![index.as_bytes(), entry.key.as_bytes(), family])?;
            }
            Ok(())
        })
        .await
    }

    async fn entries(
        &self,
        index: &IndexKey,
        now: Timestamp,
    ) -> Result<Vec<IndexEntry>, StoreError> {
        let index = *index;
        self.read(move |transaction| {
            let mut statement = transaction
                .prepare("SELECT key, family, until FROM indexes WHERE name = ?1 AND until > ?2")?;
            let rows = statement.query_map(params![index.as_bytes(), millis(now)], index_entry)?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
        .await
    }
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore").finish_non_exhaustive()
    }
}

/// Returns the entry under a key. Returns `None` if the entry has expired.
fn find(
    transaction: &Transaction<'_>,
    key: &SessionKey,
    now: Timestamp,
) -> Result<Option<Entry>, Fault> {
    let bytes: Option<Vec<u8>> = transaction
        .query_row(
            "SELECT entry FROM sessions WHERE key = ?1 AND expires_at > ?2",
            params![key.as_bytes(), millis(now)],
            |row| row.get(0),
        )
        .optional()?;
    Ok(bytes.map(Entry::decode).transpose()?)
}

fn index_entry(row: &Row<'_>) -> rusqlite::Result<IndexEntry> {
    let key = SessionKey::from_bytes(row.get(0)?);
    let family = Family::from_u64(row.get::<_, i64>(1)?.cast_unsigned());
    let until = Timestamp::from_millis(row.get::<_, i64>(2)?.cast_unsigned());
    Ok(IndexEntry::new(key, family, until))
}

/// Removes some expired entries. Each creation adds one row and removes up to ten. So the table
/// stays bounded, and each request does little work.
fn remove_expired(transaction: &Transaction<'_>, now: Timestamp) -> rusqlite::Result<()> {
    transaction.execute(
        "DELETE FROM sessions WHERE rowid IN
             (SELECT rowid FROM sessions WHERE expires_at <= ?1 ORDER BY expires_at LIMIT 10)",
        [millis(now)],
    )?;
    Ok(())
}

/// Removes the entries of an index whose deadline has passed, and some of other indexes.
fn remove_passed(
    transaction: &Transaction<'_>,
    index: &IndexKey,
    now: Timestamp,
) -> rusqlite::Result<()> {
    transaction.execute(
        "DELETE FROM indexes WHERE name = ?1 AND until <= ?2",
        params![index.as_bytes(), millis(now)],
    )?;
    transaction.execute(
        "DELETE FROM indexes WHERE rowid IN
             (SELECT rowid FROM indexes WHERE until <= ?1 ORDER BY until LIMIT 10)",
        [millis(now)],
    )?;
    Ok(())
}

fn millis(at: Timestamp) -> i64 {
    at.as_millis().cast_signed()
}

/// An error of SQLite, or of a record.
struct Fault(StoreError);

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        let kind = match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => StoreErrorKind::Full,
            Some(ErrorCode::TooBig) => StoreErrorKind::TooLarge,
            Some(
                ErrorCode::CannotOpen
                | ErrorCode::NotADatabase
                | ErrorCode::PermissionDenied
                | ErrorCode::ReadOnly,
            ) => StoreErrorKind::Misconfigured,
            _ => StoreErrorKind::Unavailable,
        };
        Self(StoreError::new(kind).with_source(error))
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self(error)
    }
}

impl From<Fault> for StoreError {
    fn from(Fault(error): Fault) -> Self {
        error
    }
}

/// Returns the error of a transaction with an unknown outcome.
fn unknown(source: session_core::BoxError) -> Fault {
    Fault(StoreError::new(StoreErrorKind::Timeout).with_source(source))
}

/// The longest wait for the write lock of another process.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// With a write-ahead log, processes can read while one process writes. With `FULL`, an
/// acknowledged commit survives a power failure. With `NORMAL`, it survives a crash of the process,
/// and writes are faster.
const SCHEMA: &str = "
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = FULL;
    BEGIN IMMEDIATE;
    CREATE TABLE IF NOT EXISTS sessions (
        key BLOB PRIMARY KEY,
        entry BLOB NOT NULL,
        expires_at INTEGER NOT NULL
    );
    CREATE INDEX IF NOT EXISTS sessions_by_deadline ON sessions (expires_at);
    CREATE TABLE IF NOT EXISTS indexes (
        name BLOB NOT NULL,
        key BLOB NOT NULL,
        family INTEGER NOT NULL,
        until INTEGER NOT NULL,
        PRIMARY KEY (name, key, family)
    );
    CREATE INDEX IF NOT EXISTS entries_by_deadline ON indexes (until);
    COMMIT;
";
