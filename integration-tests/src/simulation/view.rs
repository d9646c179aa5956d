use session_core::{Key, Lifetime, Owner, Session, SessionKey};

use super::{ledger::Values, plan::NAMES};

/// The session as a request sees it.
#[derive(Clone, Debug)]
pub(super) struct View {
    pub(super) key: Option<SessionKey>,
    pub(super) values: Values,
    pub(super) owner: Option<Owner>,
    pub(super) lifetime: Lifetime,
}

impl View {
    pub(super) fn of(session: &Session) -> Self {
        Self {
            key: session.key(),
            values: NAMES.map(|name| session.get(Key::<u64>::new(name))),
            owner: session.owner(),
            lifetime: session.lifetime(),
        }
    }
}
