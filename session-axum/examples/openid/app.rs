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
    AdditionalClaims, AuthenticationFlow, AuthorizationCode, ClientId, ClientSecret, CsrfToken,
    EmptyExtraTokenFields, EndpointMaybeSet, EndpointNotSet, EndpointSet, IdTokenFields, IssuerUrl,
    LoginHint, Nonce, PkceCodeChallenge, RedirectUrl, StandardErrorResponse, StandardTokenResponse,
    TokenResponse as _,
    core::{
        CoreAuthDisplay, CoreAuthPrompt, CoreErrorResponseType, CoreGenderClaim, CoreJsonWebKey,
        CoreJweContentEncryptionAlgorithm, CoreJwsSigningAlgorithm, CoreProviderMetadata,
        CoreResponseType, CoreRevocableToken, CoreRevocationErrorResponse,
        CoreTokenIntrospectionResponse, CoreTokenType,
    },
    reqwest,
};
use serde::{Deserialize, Serialize};
use session_axum::{
    FlashLevel, NextPath, Session, SessionCookie, SessionError, SessionLayer, Sessions, Timestamp,
};
use tower_http::csrf::CsrfLayer;

use super::{
    attempt::Attempt,
    logout,
    provider::{CLIENT_ID, CLIENT_SECRET},
};

/// The name of the link to the user's session at the provider, by which the provider ends it.
pub(crate) const SID: &str = "sid";

/// Returns the application.
pub(crate) async fn app(
    sessions: Sessions,
    origin: &str,
    issuer: &str,
) -> Result<Router, Box<dyn Error>> {
    let http = reqwest::Client::builder()
        // A redirect of the provider could lead the server to an internal address.
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        // A silent provider must not hold the requests of visitors.
        .timeout(Duration::from_secs(10))
        .build()?;
    let issuer = IssuerUrl::new(issuer.to_owned())?;
    let metadata = CoreProviderMetadata::discover_async(issuer, &http).await?;
    let (id, secret) = (CLIENT_ID.to_owned(), CLIENT_SECRET.to_owned());
    let client = Client::from_provider_metadata(
        metadata,
        ClientId::new(id),
        Some(ClientSecret::new(secret)),
    )
    .set_redirect_uri(RedirectUrl::new(format!("{origin}/callback"))?);

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
        .with_state(Arc::new(SignOn { client, http, sessions })))
}

/// The provider, as this application knows it, and the sessions that it may end.
pub(crate) struct SignOn {
    pub(crate) client: Client,
    pub(crate) sessions: Sessions,
    http: reqwest::Client,
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
    let mut request = sign_on
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
    Attempt { nonce, verifier, next: begin.next }.begin(&session, state.secret())?;
    Ok(Redirect::to(url.as_str()))
}

/// The provider's answer, which the browser brings. Anyone can write one.
#[derive(Deserialize)]
struct Return {
    #[serde(default)]
    state: String,
    code: Option<String>,
}

/// Signs the user in.
async fn finish(
    session: Session,
    State(sign_on): State<Arc<SignOn>>,
    Query(answer): Query<Return>,
) -> Result<Redirect, SignInError> {
    let attempt =
        Attempt::finish(&session, &answer.state).await?.ok_or(SignInError::UnknownState)?;
    let Some(code) = answer.code else {
        // Any text of the answer may be forged, so the page shows none of it.
        session.flash(FlashLevel::Error, "The provider did not sign you in.")?;
        return Ok(Redirect::to("/"));
    };
    let tokens = sign_on
        .client
        .exchange_code(AuthorizationCode::new(code))
        .map_err(provider_error)?
        .set_pkce_verifier(attempt.verifier)
        .request_async(&sign_on.http)
        .await
        .map_err(provider_error)?;
    let id_token = tokens.id_token().ok_or_else(|| provider_error("no ID token"))?;
    let claims = id_token
        .claims(&sign_on.client.id_token_verifier(), &attempt.nonce)
        .map_err(provider_error)?;

    session.authenticate(claims.subject().as_str())?;
    session.link(SID, &claims.additional_claims().sid)?;
    // An application may outlive the ID token. This one ends with it.
    session.end_by(Timestamp::from(SystemTime::from(claims.expiration())))?;
    Ok(Redirect::to(attempt.next.as_str()))
}

/// Turns a return by form into one by link (`response_mode=form_post`).
///
/// The form is a POST from the provider's site, so the browser leaves the `SameSite=Lax` cookie out.
/// The redirect makes the browser send a GET, which carries the cookie.
async fn repeat_as_get(Form(answer): Form<Vec<(String, String)>>) -> Redirect {
    let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(answer).finish();
    Redirect::to(&format!("/callback?{query}"))
}

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

/// The claim of an ID token that names the user's session at the provider.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct SessionClaim {
    sid: String,
}

impl AdditionalClaims for SessionClaim {}

/// `CoreClient` with the claim `sid`.
type Client = openidconnect::Client<
    SessionClaim,
    CoreAuthDisplay,
    CoreGenderClaim,
    CoreJweContentEncryptionAlgorithm,
    CoreJsonWebKey,
    CoreAuthPrompt,
    StandardErrorResponse<CoreErrorResponseType>,
    StandardTokenResponse<
        IdTokenFields<
            SessionClaim,
            EmptyExtraTokenFields,
            CoreGenderClaim,
            CoreJweContentEncryptionAlgorithm,
            CoreJwsSigningAlgorithm,
        >,
        CoreTokenType,
    >,
    CoreTokenIntrospectionResponse,
    CoreRevocableToken,
    CoreRevocationErrorResponse,
    EndpointSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointMaybeSet,
    EndpointMaybeSet,
>;
