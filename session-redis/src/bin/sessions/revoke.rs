use futures_util::{StreamExt as _, stream};
use serde_json::json;

use crate::{
    command::Program,
    confirm::confirm,
    failure::{Failure, safe},
    options::{Consent, Revoke, key, owner},
    output::escaped,
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
        self.output.print(&json!({ "revoked": revoked }), || match revoked {
            1 => "1 session revoked".to_owned(),
            revoked => format!("{revoked} sessions revoked"),
        })?;
        Ok(())
    }

    async fn revoke_everybody(&self, consent: Consent) -> Result<usize, Failure> {
        let prefix = escaped(self.prefix.as_bytes());
        confirm(consent, &format!("revoke ALL sessions with the prefix {prefix}?"))?;
        let mut revoked = 0;
        // A session that begins during a walk may begin at a place behind the walk.
        for _ in 0..MAX_WALKS {
            let found = self.revoke_all_found().await?;
            revoked += found;
            if found == 0 {
                return Ok(revoked);
            }
        }
        Err(Failure::Incomplete("sessions appear as fast as they are revoked: repeat the command"))
    }

    /// Revokes the sessions that one walk finds. After an error, the walk goes on.
    async fn revoke_all_found(&self) -> Result<usize, Failure> {
        let (mut revoked, mut failure) = (0, None);
        let mut scan = self.store.scan();
        while let Some(keys) = scan.next().await? {
            let revoking = stream::iter(keys).map(|key| self.sessions.revoke_any(key));
            let mut revoking = revoking.buffer_unordered(CONCURRENT);
            while let Some(is_revoked) = revoking.next().await {
                match is_revoked {
                    Ok(is_revoked) => revoked += usize::from(is_revoked),
                    Err(error) => failure = failure.or(Some(error)),
                }
            }
        }
        match failure {
            Some(error) => Err(error.into()),
            None => Ok(revoked),
        }
    }
}

/// The most walks over all sessions. The last one finds none.
const MAX_WALKS: usize = 4;

/// The number of sessions that are revoked concurrently.
const CONCURRENT: usize = 16;
