//! A provider for the example and its tests. It signs everybody in without a password, and is no model
//! for a real one.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use axum::{
    Form, Json, Router,
    extract::{Query, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse as _, Redirect, Response},
    routing::{get, post},
};
use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use maud::html;
use openidconnect::{
    CsrfToken, JsonWebKey as _, JsonWebKeyId, PkceCodeChallenge, PkceCodeVerifier,
    PrivateSigningKey as _,
    core::{CoreEdDsaPrivateSigningKey, CoreJsonWebKeySet, CoreJwsSigningAlgorithm},
    reqwest,
};
use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;

/// The application, as it is registered at the provider.
pub(crate) struct Client {
    redirect_uri: String,
    logout_uri: String,
}

impl Client {
    pub(crate) fn of(origin: &str) -> Self {
        Self {
            redirect_uri: format!("{origin}/callback"),
            logout_uri: format!("{origin}/backchannel-logout"),
        }
    }
}

pub(crate) const CLIENT_ID: &str = "shop";
pub(crate) const CLIENT_SECRET: &str = "a real application reads its secret from the environment";

/// The user who denies the sign-in.
const NOBODY: &str = "nobody";

pub(crate) struct Provider {
    issuer: String,
    client: Client,
    key: Mutex<CoreEdDsaPrivateSigningKey>,
    http: reqwest::Client,
    /// The codes that nobody redeemed yet.
    grants: Mutex<HashMap<String, Grant>>,
    /// The user and the `sid` of each session at the provider.
    logins: Mutex<Vec<(String, String)>>,
}

struct Grant {
    user: String,
    sid: String,
    nonce: Option<String>,
    challenge: String,
}

pub(crate) fn router(provider: Arc<Provider>) -> Router {
    Router::new()
        .route("/.well-known/openid-configuration", get(discovery))
        .route("/jwks", get(keys))
        .route("/authorize", get(authorize))
        .route("/rotate", post(rotate))
        .route("/token", post(token))
        .route("/logout", post(log_out))
        .with_state(provider)
}

impl Provider {
    pub(crate) fn new(issuer: &str, client: Client) -> Self {
        let http = reqwest::Client::builder().no_proxy().build().expect("a client without TLS");
        Self {
            issuer: issuer.to_owned(),
            client,
            key: Mutex::new(new_key(Some("2026"))),
            http,
            grants: Mutex::default(),
            logins: Mutex::default(),
        }
    }

    /// Signs claims: an ID token or a logout token.
    pub(crate) fn sign(&self, claims: &Value) -> String {
        let key = self.key();
        let header = json!({ "alg": "EdDSA", "kid": key.as_verification_key().key_id() });
        let encode = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        let input = format!("{}.{}", encode(&header), encode(claims));
        let signature = key.sign(&CoreJwsSigningAlgorithm::EdDsa, input.as_bytes());
        let signature = signature.expect("the key is of this algorithm");
        format!("{input}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
    }

    /// Replaces the key, and withdraws the former one. A provider with one key may leave its ID out
    /// (OpenID Connect Core, 10.1).
    pub(crate) fn rotate_key(&self, id: Option<&str>) {
        *self.key() = new_key(id);
    }

    /// Returns the claims of a logout token.
    pub(crate) fn logout_claims(&self, user: &str, sid: &str) -> Value {
        let now = now();
        json!({
            "iss": self.issuer, "aud": CLIENT_ID, "sub": user, "sid": sid, "jti": random(),
            "iat": now, "exp": now + 120,
            "events": { "http://schemas.openid.net/event/backchannel-logout": {} },
        })
    }

    /// The user and the `sid` of each session.
    pub(crate) fn logins(&self) -> MutexGuard<'_, Vec<(String, String)>> {
        self.logins.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn key(&self) -> MutexGuard<'_, CoreEdDsaPrivateSigningKey> {
        self.key.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn grants(&self) -> MutexGuard<'_, HashMap<String, Grant>> {
        self.grants.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn discovery(State(provider): State<Arc<Provider>>) -> Json<Value> {
    let issuer = &provider.issuer;
    Json(json!({
        "issuer": issuer,
        "authorization_endpoint": format!("{issuer}/authorize"),
        "token_endpoint": format!("{issuer}/token"),
        "jwks_uri": format!("{issuer}/jwks"),
        "response_types_supported": ["code"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["EdDSA"],
    }))
}

async fn keys(State(provider): State<Arc<Provider>>) -> Json<CoreJsonWebKeySet> {
    Json(CoreJsonWebKeySet::new(vec![provider.key().as_verification_key()]))
}

async fn rotate(State(provider): State<Arc<Provider>>) {
    provider.rotate_key(Some(&random()));
}

#[derive(Deserialize)]
struct Authorize {
    client_id: String,
    redirect_uri: String,
    state: String,
    code_challenge: Option<String>,
    code_challenge_method: Option<String>,
    nonce: Option<String>,
    login_hint: Option<String>,
    response_mode: Option<String>,
}

/// Signs the user in, and sends the browser back with a code.
async fn authorize(
    State(provider): State<Arc<Provider>>,
    Query(request): Query<Authorize>,
) -> Response {
    let Client { redirect_uri, .. } = &provider.client;
    if request.client_id != CLIENT_ID || request.redirect_uri != *redirect_uri {
        return (StatusCode::BAD_REQUEST, "unknown application").into_response();
    }
    let user = request.login_hint.unwrap_or_else(|| "ada".to_owned());
    let is_s256 = request.code_challenge_method.as_deref() == Some("S256");
    let result = match request.code_challenge {
        _ if user == NOBODY => ("error", "access_denied".to_owned()),
        Some(challenge) if is_s256 => {
            let (code, sid) = (random(), random());
            provider.logins().push((user.clone(), sid.clone()));
            let grant = Grant { user, sid, nonce: request.nonce, challenge };
            provider.grants().insert(code.clone(), grant);
            ("code", code)
        }
        _ => ("error", "invalid_request".to_owned()),
    };
    let pairs = [("state", request.state), result];
    if request.response_mode.as_deref() == Some("form_post") {
        let form = html! {
            form method="post" action=(redirect_uri) {
                @for (name, value) in pairs { input type="hidden" name=(name) value=(value); }
                button { "Continue" }
            }
            script { "document.forms[0].submit()" }
        };
        return form.into_response();
    }
    match Url::parse_with_params(redirect_uri, pairs) {
        Ok(url) => Redirect::to(url.as_str()).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

#[derive(Deserialize)]
struct Redeem {
    code: String,
    code_verifier: Option<String>,
}

/// Exchanges a code for an ID token, once.
async fn token(
    State(provider): State<Arc<Provider>>,
    headers: HeaderMap,
    Form(redeem): Form<Redeem>,
) -> Response {
    let refuse =
        |error: &str| (StatusCode::BAD_REQUEST, Json(json!({ "error": error }))).into_response();
    let pair = [CLIENT_ID, CLIENT_SECRET]
        .map(|part| url::form_urlencoded::byte_serialize(part.as_bytes()).collect::<String>());
    let secret = format!("Basic {}", BASE64_STANDARD.encode(pair.join(":")));
    if headers.get(header::AUTHORIZATION).is_none_or(|sent| *sent != *secret) {
        return refuse("invalid_client");
    }
    let Some(grant) = provider.grants().remove(&redeem.code) else {
        return refuse("invalid_grant");
    };
    let challenge = redeem.code_verifier.map(|verifier| {
        PkceCodeChallenge::from_code_verifier_sha256(&PkceCodeVerifier::new(verifier))
    });
    if challenge.is_none_or(|challenge| challenge.as_str() != grant.challenge) {
        return refuse("invalid_grant");
    }
    let now = now();
    let id_token = provider.sign(&json!({
        "iss": provider.issuer, "aud": CLIENT_ID, "sub": grant.user, "sid": grant.sid,
        "nonce": grant.nonce, "iat": now, "exp": now + 3_600,
    }));
    let tokens = json!({ "access_token": random(), "token_type": "Bearer", "id_token": id_token });
    ([(header::CACHE_CONTROL, "no-store")], Json(tokens)).into_response()
}

#[derive(Deserialize)]
struct LogOut {
    user: String,
}

/// Ends all sessions of a user, and reports each to the application. A real provider knows the user by
/// a cookie.
async fn log_out(
    State(provider): State<Arc<Provider>>,
    Form(form): Form<LogOut>,
) -> Result<String, StatusCode> {
    let ended: Vec<_> = provider.logins().extract_if(.., |(user, _)| *user == form.user).collect();
    for (user, sid) in &ended {
        let token = provider.sign(&provider.logout_claims(user, sid));
        let request = provider.http.post(&provider.client.logout_uri);
        let answer = request.form(&[("logout_token", token)]).send().await;
        if !answer.is_ok_and(|answer| answer.status() == StatusCode::OK) {
            return Err(StatusCode::BAD_GATEWAY);
        }
    }
    Ok(format!("{} ended\n", ended.len()))
}

/// Makes an Ed25519 key. The prefix is that of its PKCS #8 form (RFC 8410, 7).
fn new_key(id: Option<&str>) -> CoreEdDsaPrivateSigningKey {
    const PREFIX: [u8; 16] =
        [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
    let mut secret = [0; 32];
    getrandom::fill(&mut secret).expect("the operating system has random bytes");
    let der = BASE64_STANDARD.encode([&PREFIX[..], &secret].concat());
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{der}\n-----END PRIVATE KEY-----\n");
    let id = id.map(|id| JsonWebKeyId::new(id.to_owned()));
    CoreEdDsaPrivateSigningKey::from_ed25519_pem(&pem, id).expect("a key in PKCS #8")
}

/// Returns 128 random bits as text.
fn random() -> String {
    CsrfToken::new_random().into_secret()
}

fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
