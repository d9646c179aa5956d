//! The application: it sends the browser to the provider, and signs the user in at the return.

use std::{
    error::Error,
    sync::Arc,
    time::{Duration, SystemTime},
};

use axum::{
    Form, Router,
    extract::{Query, State},
    http::StatusCode,
    response::{IntoResponse, Redirect, Response},
    routing::{get, post},
};
use maud::{DOCTYPE, Markup, html};
use openidconnect::{
    AuthenticationFlow, AuthorizationCode, CsrfToken, LoginHint, Nonce, PkceCodeChallenge,
    PkceCodeVerifier, TokenResponse as _, core::CoreResponseType,
};
use serde::{Deserialize, Serialize};
use session_axum::{
    FlashLevel, Key, NextPath, Session, SessionCookie, SessionError, SessionLayer, Sessions,
    Timestamp,
};
use tower_http::csrf::CsrfLayer;

use super::{discovery::Discovery, logout};

/// The name of the link to the user's session at the provider, by which the provider ends it.
pub(crate) const SID: &str = "sid";

/// Returns the application.
pub(crate) async fn app(
    sessions: Sessions,
    origin: &str,
    issuer: &str,
) -> Result<Router, Box<dyn Error>> {
    let provider = Discovery::new(origin, issuer).await?;
    // For plain HTTP on localhost. In production keep the default.
    let cookie = SessionCookie::insecure_for_development();
    let layer = SessionLayer::new(sessions.clone()).with_cookie(cookie);
    Ok(Router::new()
        .route("/", get(home))
        .route("/login", get(begin))
        .route("/callback", get(finish))
        .route("/logout", post(log_out))
        .layer(layer)
        .layer(CsrfLayer::new())
        // Below the layers: these requests come from another site, or from no browser, and use no
        // session.
        .route("/callback", post(repeat_as_get))
        .route("/backchannel-logout", post(logout::end_sessions))
        .with_state(Arc::new(SignOn { provider, sessions })))
}

/// The provider, and the sessions that it may end.
pub(crate) struct SignOn {
    pub(crate) provider: Discovery,
    pub(crate) sessions: Sessions,
}

async fn home(session: Session) -> Result<Markup, SessionError> {
    let flashes = session.take_flashes().await?;
    Ok(html! {
        (DOCTYPE)
        title { "Sign on" }
        @for flash in flashes { p role="status" { (flash.text()) } }
        @match session.owner_as::<String>() {
            Some(user) => {
                p { "Hello, " (user) "." }
                form method="post" action="/logout" { button { "Sign out" } }
            }
            None => p { a href="/login" { "Sign in" } }
        }
    })
}

/// A sign-in under way. Each is a value of the visitor's session: another browser cannot finish it, and
/// one request can.
const ATTEMPT: Key<Attempt> = Key::new("sign-in");

#[derive(Deserialize, Serialize)]
struct Attempt {
    /// Is in the ID token: an ID token of another sign-in is refused.
    nonce: Nonce,
    /// Redeems the code: a code of another sign-in is worthless here (PKCE, RFC 7636).
    verifier: PkceCodeVerifier,
    /// The page to which the user wanted to go.
    next: NextPath,
}

/// The time in which the browser has to come back.
pub(crate) const MAX_AGE: Duration = Duration::from_secs(600);

#[derive(Deserialize)]
struct Begin {
    #[serde(default)]
    next: NextPath,
    user: Option<String>,
    /// Asks the provider to return by a form.
    form_post: Option<String>,
}

/// Sends the browser to the provider.
async fn begin(
    session: Session,
    State(sign_on): State<Arc<SignOn>>,
    Query(begin): Query<Begin>,
) -> Result<Redirect, SessionError> {
    let flow = AuthenticationFlow::<CoreResponseType>::AuthorizationCode;
    let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
    let provider = sign_on.provider.description();
    let mut request = provider
        .client
        .authorize_url(flow, CsrfToken::new_random, Nonce::new_random)
        .set_pkce_challenge(challenge);
    if let Some(user) = begin.user {
        request = request.set_login_hint(LoginHint::new(user));
    }
    if begin.form_post.is_some() {
        request = request.add_extra_param("response_mode", "form_post");
    }
    let (url, state, nonce) = request.url();
    let attempt = Attempt { nonce, verifier, next: begin.next };
    session.issue(ATTEMPT, state.secret(), attempt, MAX_AGE)?;
    Ok(Redirect::to(url.as_str()))
}

/// The provider's answer, which the browser brings. Anyone can write one.
#[derive(Deserialize)]
struct Return {
    #[serde(default)]
    state: String,
    code: Option<String>,
    /// The provider that answers (RFC 9207). Some providers leave it out.
    iss: Option<String>,
}

/// Signs the user in.
async fn finish(
    session: Session,
    State(sign_on): State<Arc<SignOn>>,
    Query(answer): Query<Return>,
) -> Result<Redirect, SignInError> {
    let attempt = session.redeem(ATTEMPT, &answer.state).await?;
    let attempt = attempt.ok_or(SignInError::UnknownState)?;
    let provider = &sign_on.provider;
    if answer.iss.is_some_and(|issuer| issuer != provider.issuer()) {
        return Err(provider_error("the answer of another provider"));
    }
    let Some(code) = answer.code else {
        // Any text of the answer may be forged, so the page shows none of it.
        session.flash(FlashLevel::Error, "The provider did not sign you in.")?;
        return Ok(Redirect::to("/"));
    };
    let tokens = provider
        .description()
        .client
        .exchange_code(AuthorizationCode::new(code))
        .map_err(provider_error)?
        .set_pkce_verifier(attempt.verifier)
        .request_async(provider.http())
        .await
        .map_err(provider_error)?;
    let id_token = tokens.id_token().ok_or_else(|| provider_error("no ID token"))?;
    let claims = provider
        .verified(|client| id_token.claims(&client.id_token_verifier(), &attempt.nonce))
        .await
        .map_err(provider_error)?;

    session.authenticate(claims.subject().as_str())?;
    session.link(SID, sign_on.provider.session(&claims.additional_claims().sid))?;
    // An application may outlive the ID token. This one ends with it.
    session.end_by(Timestamp::from(SystemTime::from(claims.expiration())))?;
    Ok(Redirect::to(attempt.next.as_str()))
}

/// Turns a return by form into one by link (`response_mode=form_post`).
///
/// The form is a POST from the provider's site, so the browser leaves the `SameSite=Lax` cookie out.
/// The redirect makes the browser send a GET, which carries the cookie.
///
/// Other fields are dropped: an ID token or a name of the user would be in the address.
async fn repeat_as_get(Form(mut answer): Form<Vec<(String, String)>>) -> Redirect {
    answer.retain(|(name, _)| ANSWER.contains(&name.as_str()));
    let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(answer).finish();
    Redirect::to(&format!("/callback?{query}"))
}

/// The parameters of the provider's answer (RFC 6749, 4.1.2; RFC 9207).
const ANSWER: [&str; 4] = ["code", "error", "iss", "state"];

/// Signs out here. The provider's session goes on.
async fn log_out(session: Session) -> Result<Redirect, SessionError> {
    session.destroy()?;
    Ok(Redirect::to("/"))
}

/// The reason why nobody was signed in.
#[derive(Debug, thiserror::Error)]
enum SignInError {
    #[error(transparent)]
    Session(#[from] SessionError),
    #[error("this sign-in is finished, or began in another browser: sign in again")]
    UnknownState,
    #[error("the provider's answer is not valid: sign in again")]
    Provider(#[source] Box<dyn Error + Send + Sync>),
}

fn provider_error(error: impl Into<Box<dyn Error + Send + Sync>>) -> SignInError {
    SignInError::Provider(error.into())
}

impl IntoResponse for SignInError {
    fn into_response(self) -> Response {
        let text = self.to_string();
        match self {
            Self::Session(error) => error.into_response(),
            Self::UnknownState => (StatusCode::BAD_REQUEST, text).into_response(),
            Self::Provider(cause) => {
                tracing::warn!(%cause, "a sign-in failed");
                (StatusCode::BAD_GATEWAY, text).into_response()
            }
        }
    }
}
