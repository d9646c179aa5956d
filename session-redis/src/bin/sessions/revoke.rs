use futures_util::{StreamExt as _, stream};
use serde_json::json;
use session_core::SessionError;

use crate::{
    command::Program,
    confirm::confirm,
    failure::{Failure, safe},
    options::{Consent, Revoke, key, owner},
    output::escaped,
    walk::walk,
};

impl Program {
    pub(crate) async fn revoke(&self, revoke: Revoke) -> Result<(), Failure> {
        let revoked = match revoke {
            Revoke::Session { key: text } => match self.sessions.revoke_any(key(&text)?).await? {
                true => 1,
                false => return Err(Failure::NotFound("no session has this key")),
            },
            Revoke::Owner { owner: name, consent } => {
                let owner = owner(name);
                if !consent.yes {
                    let sessions = self.sessions.list(owner.clone()).await?.len();
                    // A session ID that was pasted in place of an owner must not be shown.
                    let name = safe(&String::from_utf8_lossy(owner.as_bytes()));
                    confirm(consent, &format!("revoke {sessions} sessions of the owner {name}?"))?;
                }
                self.sessions.revoke_all(owner).await?
            }
            Revoke::Everybody { consent } => self.revoke_everybody(consent).await?,
        };
        self.output.print(&json!({ "revoked": revoked }), || text(revoked))?;
        Ok(())
    }

    async fn revoke_everybody(&self, consent: Consent) -> Result<usize, Failure> {
        let prefix = escaped(self.prefix.as_bytes());
        confirm(consent, &format!("revoke ALL sessions with the prefix {prefix}?"))?;
        let mut revoked = 0;
        let result = self.revoke_until_none_is_found(&mut revoked).await;
        if result.is_err() {
            eprintln!("warning: {} before the error", text(revoked));
        }
        result.map(|()| revoked)
    }

    async fn revoke_until_none_is_found(&self, revoked: &mut usize) -> Result<(), Failure> {
        // A session that begins during a walk may begin at a place behind the walk.
        for _ in 0..MAX_WALKS {
            let before = *revoked;
            walk(async || self.revoke_all_found(revoked).await).await?;
            if *revoked == before {
                return Ok(());
            }
        }
        Err(Failure::Incomplete("sessions appear as fast as they are revoked: repeat the command"))
    }

    /// Revokes the sessions that one walk finds. If a revocation fails, the walk goes on.
    async fn revoke_all_found(&self, revoked: &mut usize) -> Result<(), SessionError> {
        let mut failure = None;
        let mut scan = self.store.scan();
        while let Some(keys) = scan.next().await? {
            let revoking = stream::iter(keys).map(|key| self.sessions.revoke_any(key));
            let mut revoking = revoking.buffer_unordered(CONCURRENT);
            while let Some(is_revoked) = revoking.next().await {
                match is_revoked {
                    Ok(is_revoked) => *revoked += usize::from(is_revoked),
                    Err(error) => failure = failure.or(Some(error)),
                }
            }
        }
        failure.map_or(Ok(()), Err)
    }
}

fn text(revoked: usize) -> String {
    match revoked {
        1 => "1 session revoked".to_owned(),
        revoked => format!("{revoked} sessions revoked"),
    }
}

/// The most walks over all sessions. The last one finds none.
const MAX_WALKS: usize = 4;

/// The number of sessions that are revoked concurrently.
const CONCURRENT: usize = 16;
