use serde_json::json;
use session_core::{
    Clock as _, Entry, Owner, SessionError, SessionStore as _, Sessions, StoreErrorKind,
    SystemClock,
};
use session_redis::RedisStore;

use crate::{
    failure::Failure,
    options::{Command, key, owner},
    output::{Output, owner_json, time, users},
    show,
    walk::walk,
};

/// The sessions of an application, and the form of the output.
pub(crate) struct Program {
    pub(crate) sessions: Sessions,
    pub(crate) store: RedisStore,
    pub(crate) output: Output,
    pub(crate) prefix: String,
}

impl Program {
    pub(crate) async fn run(&self, command: Command) -> Result<(), Failure> {
        match command {
            Command::Count => self.count().await,
            Command::List { owner: name } => self.list(owner(name)).await,
            Command::Show { key: text, values } => {
                show::show(&self.store, key(&text)?, values).await
            }
            Command::Revoke(revoke) => self.revoke(revoke).await,
            Command::Watch => self.watch().await,
        }
    }

    async fn count(&self) -> Result<(), Failure> {
        let count = walk(async || self.count_all_found().await).await?;
        let Count { signed_in, visitors, tombstones, unreadable } = count;
        let sessions = signed_in + visitors;
        let json = json!({
            "sessions": sessions,
            "signed_in": signed_in,
            "visitors": visitors,
            "tombstones": tombstones,
            "unreadable": unreadable,
        });
        self.output.print(&json, || {
            format!(
                "sessions    {sessions:>10}\n\
                 signed in   {signed_in:>10}\n\
                 visitors    {visitors:>10}\n\
                 tombstones  {tombstones:>10}\n\
                 unreadable  {unreadable:>10}"
            )
        })?;
        Ok(())
    }

    async fn count_all_found(&self) -> Result<Count, SessionError> {
        let mut count = Count::default();
        let mut scan = self.store.scan();
        while let Some(keys) = scan.next().await? {
            for entry in self.store.load_many(&keys, SystemClock.now()).await? {
                match entry {
                    Ok(Some(Entry::Session(record))) if record.owner().is_some() => {
                        count.signed_in += 1;
                    }
                    Ok(Some(Entry::Session(_))) => count.visitors += 1,
                    Ok(Some(Entry::Tombstone(_))) => count.tombstones += 1,
                    Ok(None) => {}
                    Err(error) if error.kind() == StoreErrorKind::Corrupt => count.unreadable += 1,
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(count)
    }

    async fn list(&self, owner: Owner) -> Result<(), Failure> {
        for session in self.sessions.list(owner).await? {
            let [created, seen, expires] =
                [session.created_at(), session.last_seen_at(), session.expires_at()].map(time);
            let authenticated = session.authenticated_at().map(time);
            let json = json!({
                "key": session.key(),
                "owner": session.owner().map(owner_json),
                "actor": session.actor().map(owner_json),
                "created_at": created,
                "authenticated_at": authenticated,
                "last_seen_at": seen,
                "expires_at": expires,
            });
            self.output.print(&json, || {
                let key = session.key();
                let users = users(session.owner(), session.actor());
                let authenticated = authenticated.map(|at| format!("  authenticated {at}"));
                let authenticated = authenticated.unwrap_or_default();
                format!(
                    "{key}  created {created}{authenticated}  used {seen}  expires {expires}{users}"
                )
            })?;
        }
        Ok(())
    }
}

#[derive(Default)]
struct Count {
    signed_in: usize,
    visitors: usize,
    tombstones: usize,
    unreadable: usize,
}
