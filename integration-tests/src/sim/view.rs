use session_core::{Key, Lifetime, Owner, Session, SessionKey};

use super::plan::NAMES;

/// The values of a session, by slot.
pub(super) type Values = [Option<u64>; NAMES.len()];

/// The owner of a session, and the user who acts as the owner.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct User {
    pub(super) owner: Option<Owner>,
    pub(super) actor: Option<Owner>,
}

/// The session as a request sees it.
#[derive(Clone, Debug)]
pub(super) struct View {
    pub(super) key: Option<SessionKey>,
    pub(super) values: Values,
    pub(super) user: User,
    pub(super) lifetime: Lifetime,
}

impl View {
    pub(super) fn of(session: &Session) -> Self {
        Self {
            key: session.key(),
            values: NAMES.map(|name| session.get(Key::<u64>::new(name))),
            user: User { owner: session.owner(), actor: session.actor() },
            lifetime: session.lifetime(),
        }
    }
}
