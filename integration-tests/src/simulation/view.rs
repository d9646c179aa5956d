use session_core::{Lifetime, Owner, Session, SessionKey};

use super::{glass::values, ledger::Values};

/// What a request sees of its session.
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
            values: values(session),
            owner: session.owner(),
            lifetime: session.lifetime(),
        }
    }
}
