use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::json;

use crate::{
    command::Program,
    confirm::confirm,
    failure::Failure,
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
                    let name = escaped(owner.as_bytes());
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
        let mut scan = self.store.scan();
        while let Some(keys) = scan.next().await? {
            let revoking = stream::iter(keys).map(|key| self.sessions.revoke_any(key));
            revoked += revoking
                .buffer_unordered(CONCURRENT)
                .try_fold(0, async |count, is_revoked| Ok(count + usize::from(is_revoked)))
                .await?;
        }
        Ok(revoked)
    }
}

/// The number of sessions that are revoked concurrently.
const CONCURRENT: usize = 16;
