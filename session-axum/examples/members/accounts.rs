//! The accounts, and the extractors that load them. A real application has a database here.

use axum::{
    extract::FromRequestParts,
    http::{StatusCode, request::Parts},
    response::{IntoResponse, Response},
};
use session_axum::{Session, SessionRejection, SignedIn};

#[derive(Clone)]
pub(crate) struct Account {
    pub(crate) id: u64,
    pub(crate) name: &'static str,
    pub(crate) is_support: bool,
}

/// The state of the application.
#[derive(Clone)]
pub(crate) struct Accounts([Account; 2]);

impl Default for Accounts {
    fn default() -> Self {
        let ada = Account { id: 1, name: "ada", is_support: true };
        Self([ada, Account { id: 2, name: "grace", is_support: false }])
    }
}

impl Accounts {
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Account> {
        self.0.iter()
    }

    pub(crate) fn by_id(&self, id: u64) -> Option<Account> {
        self.iter().find(|account| account.id == id).cloned()
    }

    /// Returns the account if the password is right. A real application compares an Argon2id hash, and
    /// limits the attempts.
    pub(crate) fn check(&self, name: &str, password: &str) -> Option<Account> {
        self.iter().find(|account| account.name == name && password == "secret").cloned()
    }
}

/// The user of the request, as the database has the account now.
pub(crate) struct Member {
    pub(crate) account: Account,
    /// The member of the support staff who acts as the user.
    pub(crate) actor: Option<Account>,
    pub(crate) session: Session,
}

impl FromRequestParts<Accounts> for Member {
    type Rejection = SessionRejection;

    async fn from_request_parts(
        parts: &mut Parts,
        accounts: &Accounts,
    ) -> Result<Self, SessionRejection> {
        let SignedIn(id) = SignedIn::<u64>::from_request_parts(parts, accounts).await?;
        let session = Session::from_request_parts(parts, accounts).await?;
        // The account may have been deleted after the login.
        let account = accounts.by_id(id).ok_or(SessionRejection::SignedOut)?;
        let actor = session.actor().and_then(|actor| accounts.by_id(actor.parse()?));
        Ok(Self { account, actor, session })
    }
}

/// A member of the support staff, or a 403. While staff act as a member, the account is the
/// member's.
pub(crate) struct Support(pub(crate) Member);

impl FromRequestParts<Accounts> for Support {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, accounts: &Accounts) -> Result<Self, Response> {
        match Member::from_request_parts(parts, accounts).await {
            Ok(member) if member.account.is_support => Ok(Self(member)),
            Ok(_) => Err((StatusCode::FORBIDDEN, "You may not do this.").into_response()),
            Err(rejection) => Err(rejection.into_response()),
        }
    }
}
