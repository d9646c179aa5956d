//! The provider ends a session, without the browser (OpenID Connect Back-Channel Logout 1.0).

use std::sync::Arc;

use axum::{
    Form,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
};
use openidconnect::{
    AdditionalClaims, IdToken, JsonWebTokenType, Nonce,
    core::{CoreGenderClaim, CoreJweContentEncryptionAlgorithm, CoreJwsSigningAlgorithm},
};
use serde::{Deserialize, Serialize};
use session_axum::SessionError;

use super::app::{SID, SignOn};

#[derive(Deserialize)]
pub(crate) struct Logout {
    logout_token: String,
}

/// Ends the sessions that began with a session at the provider.
///
/// The application is registered with `backchannel_logout_session_required`, so each token names one
/// session. A copy of the token leaves later logins alone, which have another `sid`.
pub(crate) async fn end_sessions(
    State(sign_on): State<Arc<SignOn>>,
    Form(logout): Form<Logout>,
) -> Result<Response, SessionError> {
    let no_store = [(header::CACHE_CONTROL, "no-store")];
    let Some(sid) = verify(&sign_on, &logout.logout_token).await else {
        return Ok((StatusCode::BAD_REQUEST, no_store).into_response());
    };
    sign_on.sessions.revoke_linked(SID, sign_on.provider.session(&sid)).await?;
    Ok((StatusCode::OK, no_store).into_response())
}

/// Returns the session that a valid token names (section 2.6).
///
/// The checks of an ID token apply: signature, algorithm, issuer, audience, expiry.
async fn verify(sign_on: &SignOn, token: &str) -> Option<String> {
    let types =
        ["logout+jwt", "JWT"].map(|name| JsonWebTokenType::new(name.to_owned()).normalize());
    let types = types.into_iter().collect::<Result<Vec<_>, _>>().ok()?;
    // Without a nonce: an ID token never passes.
    let no_nonce = |nonce: Option<&Nonce>| match nonce {
        None => Ok(()),
        Some(_) => Err("a logout token has no nonce".to_owned()),
    };
    let token: LogoutToken = token.parse().ok()?;
    let claims = sign_on
        .provider
        .verified(|client| {
            let verifier = client.id_token_verifier().set_allowed_jose_types(types.clone());
            token.claims(&verifier, no_nonce)
        })
        .await
        .inspect_err(|error| tracing::warn!(%error, "a logout token was refused"))
        .ok()?;
    Some(claims.additional_claims().sid.clone())
}

type LogoutToken = IdToken<
    LogoutClaims,
    CoreGenderClaim,
    CoreJweContentEncryptionAlgorithm,
    CoreJwsSigningAlgorithm,
>;

#[derive(Debug, Deserialize, Serialize)]
struct LogoutClaims {
    sid: String,
    events: Events,
}

impl AdditionalClaims for LogoutClaims {}

#[derive(Debug, Deserialize, Serialize)]
struct Events {
    #[serde(rename = "http://schemas.openid.net/event/backchannel-logout")]
    logout: Event,
}

/// A JSON object, usually an empty one.
#[derive(Debug, Deserialize, Serialize)]
struct Event {}
