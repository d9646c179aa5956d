//! The provider as it describes itself: its endpoints and its keys.
//!
//! ```text
//!  token ──▶ a known key? ─┬─ yes ───────────────────────────────────▶ verified
//!                          └─ no ──▶ load the description again ──▶ a known key? ─▶ verified, or refused
//!                                    (at most once per pause)
//! ```
//!
//! A provider replaces its keys from time to time. A token of a new key has a `kid` that is unknown here.

use std::{
    error::Error,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures_util::lock::Mutex as AsyncMutex;
use openidconnect::{
    AdditionalClaims, ClaimsVerificationError, ClientId, ClientSecret, DiscoveryError,
    EmptyExtraTokenFields, EndpointMaybeSet, EndpointNotSet, EndpointSet, HttpClientError,
    IdTokenFields, IssuerUrl, RedirectUrl, SignatureVerificationError, StandardErrorResponse,
    StandardTokenResponse,
    core::{
        CoreAuthDisplay, CoreAuthPrompt, CoreErrorResponseType, CoreGenderClaim, CoreJsonWebKey,
        CoreJweContentEncryptionAlgorithm, CoreJwsSigningAlgorithm, CoreProviderMetadata,
        CoreRevocableToken, CoreRevocationErrorResponse, CoreTokenIntrospectionResponse,
        CoreTokenType,
    },
    reqwest,
};
use serde::{Deserialize, Serialize};

use super::provider::{CLIENT_ID, CLIENT_SECRET};

/// The provider, as this application knows it.
pub(crate) struct Discovery {
    issuer: IssuerUrl,
    redirect_url: RedirectUrl,
    http: reqwest::Client,
    client: Mutex<Arc<Client>>,
    /// The time of the last repetition. Held by the request that loads, while others wait.
    repeated_at: AsyncMutex<Option<Instant>>,
}

impl Discovery {
    pub(crate) async fn new(origin: &str, issuer: &str) -> Result<Self, Box<dyn Error>> {
        let http = reqwest::Client::builder()
            // A redirect of the provider could lead the server to an internal address.
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            // A silent provider must not hold the requests of visitors.
            .timeout(Duration::from_secs(10))
            .build()?;
        let issuer = IssuerUrl::new(issuer.to_owned())?;
        let redirect_url = RedirectUrl::new(format!("{origin}/callback"))?;
        let client = Mutex::new(load(&issuer, &redirect_url, &http).await?);
        Ok(Self { issuer, redirect_url, http, client, repeated_at: AsyncMutex::new(None) })
    }

    pub(crate) fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Returns the name of a session at the provider: a `sid` is unique for its issuer alone.
    pub(crate) fn session(&self, sid: &str) -> String {
        format!("{} {sid}", self.issuer())
    }

    pub(crate) fn http(&self) -> &reqwest::Client {
        &self.http
    }

    pub(crate) fn client(&self) -> Arc<Client> {
        Arc::clone(&self.client.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Verifies a token. If its key is unknown, loads the keys again and verifies once more.
    pub(crate) async fn verified<T>(
        &self,
        verify: impl Fn(&Client) -> Result<T, ClaimsVerificationError>,
    ) -> Result<T, ClaimsVerificationError> {
        let client = self.client();
        match verify(&client) {
            Err(ClaimsVerificationError::SignatureVerification(
                SignatureVerificationError::NoMatchingKey,
            )) => verify(&*self.newer_than(&client).await),
            outcome => outcome,
        }
    }

    /// Returns the client with the keys of the present, or the same client within the pause.
    async fn newer_than(&self, known: &Arc<Client>) -> Arc<Client> {
        let mut repeated_at = self.repeated_at.lock().await;
        let is_known = Arc::ptr_eq(&self.client(), known);
        if is_known && repeated_at.is_none_or(|at| at.elapsed() >= PAUSE) {
            *repeated_at = Some(Instant::now());
            match load(&self.issuer, &self.redirect_url, &self.http).await {
                Ok(client) => {
                    *self.client.lock().unwrap_or_else(PoisonError::into_inner) = client;
                }
                Err(error) => tracing::warn!(%error, "the provider's keys could not be loaded"),
            }
        }
        self.client()
    }
}

async fn load(
    issuer: &IssuerUrl,
    redirect_url: &RedirectUrl,
    http: &reqwest::Client,
) -> Result<Arc<Client>, DiscoveryError<HttpClientError<reqwest::Error>>> {
    let metadata = CoreProviderMetadata::discover_async(issuer.clone(), http).await?;
    let (id, secret) = (CLIENT_ID.to_owned(), CLIENT_SECRET.to_owned());
    let client = Client::from_provider_metadata(
        metadata,
        ClientId::new(id),
        Some(ClientSecret::new(secret)),
    );
    Ok(Arc::new(client.set_redirect_uri(redirect_url.clone())))
}

/// The shortest time between two repetitions. Anyone can send tokens with an unknown `kid`, and must not
/// make this application flood the provider.
const PAUSE: Duration = Duration::from_secs(10);

/// The claim of an ID token that names the user's session at the provider.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct SessionClaim {
    pub(crate) sid: String,
}

impl AdditionalClaims for SessionClaim {}

/// `CoreClient` with the claim `sid`.
pub(crate) type Client = openidconnect::Client<
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
