//! The provider as it describes itself: its endpoints and its keys.
//!
//! ```text
//!  token ──▶ signed by a known key? ─┬─ yes ────────────────────────▶ verified
//!                                    └─ no ──▶ reload ──▶ verified, or refused
//! ```
//!
//! A provider replaces its keys from time to time. A token of a new key has a `kid` that is unknown
//! here. A provider with one key may leave the `kid` out: its tokens fail by their signature. A reload
//! also comes before the first token after `MAX_KEY_AGE`, because no token reports a withdrawn key.
//!
//! A reload begins `RELOAD_INTERVAL` after the end of the last one at the earliest. Other requests wait
//! for it. It goes on if the client of its request leaves.

use std::{
    error::Error,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::lock::Mutex as AsyncMutex;
use openidconnect::{
    AdditionalClaims, ClaimsVerificationError, ClientId, ClientSecret, DiscoveryError,
    EmptyExtraTokenFields, EndpointMaybeSet, EndpointNotSet, EndpointSet, HttpClientError,
    IdTokenFields, IssuerUrl, RedirectUrl, StandardErrorResponse, StandardTokenResponse,
    core::{
        CoreAuthDisplay, CoreAuthPrompt, CoreErrorResponseType, CoreGenderClaim, CoreJsonWebKey,
        CoreJweContentEncryptionAlgorithm, CoreJwsSigningAlgorithm, CoreProviderMetadata,
        CoreRevocableToken, CoreRevocationErrorResponse, CoreTokenIntrospectionResponse,
        CoreTokenType,
    },
    reqwest,
};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::provider::{CLIENT_ID, CLIENT_SECRET};

/// The provider, as this application knows it. Clones share the knowledge.
#[derive(Clone)]
pub(crate) struct Discovery {
    issuer: IssuerUrl,
    redirect_url: RedirectUrl,
    http: reqwest::Client,
    description: Arc<Mutex<Arc<Description>>>,
    /// The end of the last reload. Locked during a reload.
    reloaded_at: Arc<AsyncMutex<Option<Instant>>>,
}

/// The endpoints and keys of the provider.
pub(crate) struct Description {
    pub(crate) client: Client,
    loaded_at: Instant,
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
        let description = load(&issuer, &redirect_url, &http).await?;
        let description = Arc::new(Mutex::new(description));
        Ok(Self { issuer, redirect_url, http, description, reloaded_at: Arc::default() })
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

    pub(crate) fn description(&self) -> Arc<Description> {
        Arc::clone(&self.description.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Verifies a token by the provider's current keys.
    pub(crate) async fn verified<T>(
        &self,
        verify: impl Fn(&Client) -> Result<T, ClaimsVerificationError>,
    ) -> Result<T, ClaimsVerificationError> {
        let mut known = self.description();
        if known.loaded_at.elapsed() >= MAX_KEY_AGE {
            known = self.newer_than(&known).await;
        }
        match verify(&known.client) {
            Err(ClaimsVerificationError::SignatureVerification(_)) => {
                verify(&self.newer_than(&known).await.client)
            }
            outcome => outcome,
        }
    }

    /// Returns a newer description. Returns the same one if the interval is not over, or if the
    /// provider does not answer.
    async fn newer_than(&self, known: &Arc<Description>) -> Arc<Description> {
        let mut reloaded_at = self.reloaded_at.clone().lock_owned().await;
        let is_known = Arc::ptr_eq(&self.description(), known);
        if is_known && reloaded_at.is_none_or(|at| at.elapsed() >= RELOAD_INTERVAL) {
            let discovery = self.clone();
            // A task of its own: this request is dropped if its client leaves.
            let reload = tokio::spawn(async move {
                discovery.reload().await;
                *reloaded_at = Some(Instant::now());
            });
            if let Err(error) = reload.await {
                tracing::error!(%error, "the reload of the provider's keys panicked");
            }
        }
        self.description()
    }

    async fn reload(&self) {
        match load(&self.issuer, &self.redirect_url, &self.http).await {
            Ok(description) => {
                *self.description.lock().unwrap_or_else(PoisonError::into_inner) = description;
            }
            Err(error) => tracing::warn!(%error, "the provider's keys could not be loaded"),
        }
    }
}

async fn load(
    issuer: &IssuerUrl,
    redirect_url: &RedirectUrl,
    http: &reqwest::Client,
) -> Result<Arc<Description>, DiscoveryError<HttpClientError<reqwest::Error>>> {
    let metadata = CoreProviderMetadata::discover_async(issuer.clone(), http).await?;
    let (id, secret) = (CLIENT_ID.to_owned(), CLIENT_SECRET.to_owned());
    let client = Client::from_provider_metadata(
        metadata,
        ClientId::new(id),
        Some(ClientSecret::new(secret)),
    );
    let client = client.set_redirect_uri(redirect_url.clone());
    Ok(Arc::new(Description { client, loaded_at: Instant::now() }))
}

/// The shortest time between two reloads. Anyone can send tokens with an unknown `kid`, and must not
/// make this application flood the provider.
pub(crate) const RELOAD_INTERVAL: Duration = Duration::from_secs(10);

/// The time in which a withdrawn key is trusted, if no other token causes a reload. If the provider does
/// not answer then, the keys stay.
pub(crate) const MAX_KEY_AGE: Duration = Duration::from_secs(3600);

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
