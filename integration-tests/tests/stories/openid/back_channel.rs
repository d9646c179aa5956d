use std::{pin::pin, time::Duration};

use futures_util::future::{join_all, select};
use reqwest::StatusCode;
use serde_json::json;
use session_axum::MemoryStore;
use tokio::time::{Instant, advance, sleep};

use super::{
    Browser, World, changed,
    discovery::{MAX_KEY_AGE, RELOAD_INTERVAL},
    on_each_store,
    provider::{Client, Provider},
};

/// Returns the `sid` of a user's last sign-in at the provider.
fn sid_of(world: &World, user: &str) -> String {
    let logins = world.provider.logins();
    logins.iter().rev().find(|(of, _)| of == user).unwrap().1.clone()
}

/// Sends a logout token, as the provider does.
async fn send(world: &World, token: &str) -> StatusCode {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let request = client.post(format!("{}/backchannel-logout", world.origin));
    let answer = request.form(&[("logout_token", token)]).send().await.unwrap();
    assert_eq!(answer.headers()["cache-control"], "no-store");
    assert!(answer.headers().get("set-cookie").is_none());
    answer.status()
}

#[tokio::test(flavor = "multi_thread")]
async fn logout_at_the_provider_ends_the_users_sessions() {
    on_each_store(async |world| {
        let devices = [world.signed_in("ada").await, world.signed_in("ada").await];
        let bob = world.signed_in("bob").await;
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let logout = client.post(format!("{}/logout", world.issuer)).form(&[("user", "ada")]);
        assert_eq!(logout.send().await.unwrap().text().await.unwrap(), "2 ended\n");
        for device in &devices {
            assert!(device.is_visitor().await);
        }
        assert!(bob.is_signed_in_as("bob").await);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn logout_token_ends_one_session() {
    on_each_store(async |world| {
        let laptop = world.signed_in("ada").await;
        // A `sid` is unique for its issuer alone.
        let link = format!("{} {}", world.issuer, sid_of(&world, "ada"));
        assert_eq!(world.sessions.list_linked("sid", link).await.unwrap().len(), 1);
        let token =
            world.provider.sign(&world.provider.logout_claims("ada", &sid_of(&world, "ada")));
        let phone = world.signed_in("ada").await;
        assert_eq!(send(&world, &token).await, StatusCode::OK);
        assert!(laptop.is_visitor().await);
        assert!(phone.is_signed_in_as("ada").await);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replayed_logout_token_ends_no_later_login() {
    on_each_store(async |world| {
        let ada = world.signed_in("ada").await;
        let token =
            world.provider.sign(&world.provider.logout_claims("ada", &sid_of(&world, "ada")));
        assert_eq!(send(&world, &token).await, StatusCode::OK);
        let returned = ada.authorize("/login").await;
        ada.get(&returned).await;
        for _ in 0..2 {
            assert_eq!(send(&world, &token).await, StatusCode::OK);
            assert!(ada.is_signed_in_as("ada").await);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn logout_token_with_a_wrong_claim_ends_nothing() {
    on_each_store(async |world| {
        let ada = world.signed_in("ada").await;
        let sid = sid_of(&world, "ada");
        for change in [
            json!({ "iss": "http://127.0.0.1:1" }),
            json!({ "aud": "another application" }),
            json!({ "exp": 1_000_000_000 }),
            json!({ "exp": null }),
            json!({ "events": {} }),
            json!({ "events": { "http://schemas.openid.net/event/backchannel-logout": true } }),
            json!({ "events": null }),
            json!({ "sid": null }),
            // As in an ID token.
            json!({ "nonce": "any" }),
        ] {
            let claims = changed(world.provider.logout_claims("ada", &sid), &change);
            let token = world.provider.sign(&claims);
            is_refused(&world, &ada, &token, &change.to_string()).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn logout_token_without_the_providers_signature_ends_nothing() {
    on_each_store(async |world| {
        let ada = world.signed_in("ada").await;
        let claims = world.provider.logout_claims("ada", &sid_of(&world, "ada"));
        let valid = world.provider.sign(&claims);
        let (header, rest) = valid.split_once('.').unwrap();
        let (payload, signature) = rest.split_once('.').unwrap();
        let stranger = Provider::new(&world.issuer, Client::of(&world.origin));
        let none = "eyJhbGciOiJub25lIn0"; // {"alg":"none"}
        let hs256 = "eyJhbGciOiJIUzI1NiJ9"; // {"alg":"HS256"}
        for token in [
            stranger.sign(&claims),
            format!("{none}.{payload}."),
            format!("{none}.{payload}.{signature}"),
            format!("{hs256}.{payload}.{signature}"),
            format!("{header}.{payload}."),
            format!("{header}.{payload}"),
            String::new(),
        ] {
            is_refused(&world, &ada, &token, &token).await;
        }
        assert_eq!(send(&world, &valid).await, StatusCode::OK);
        assert!(ada.is_visitor().await);
    })
    .await;
}

async fn is_refused(world: &World, ada: &Browser, token: &str, what: &str) {
    assert_eq!(send(world, token).await, StatusCode::BAD_REQUEST, "{what}");
    assert!(ada.is_signed_in_as("ada").await, "{what}");
}

/// Each server learns of the new key from the first token that it signs.
#[tokio::test(flavor = "multi_thread")]
async fn replaced_key_of_the_provider_signs_logout_tokens() {
    on_each_store(async |world| {
        let ada = world.signed_in("ada").await;
        let claims = world.provider.logout_claims("ada", &sid_of(&world, "ada"));
        let former = world.provider.sign(&claims);
        world.provider.rotate_key(Some("2027"));
        assert_eq!(send(&world, &world.provider.sign(&claims)).await, StatusCode::OK);
        assert!(ada.is_visitor().await);
        assert_eq!(send(&world, &former).await, StatusCode::BAD_REQUEST, "the key is withdrawn");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn replaced_key_without_an_id_signs_logout_tokens() {
    let world = World::new(MemoryStore::default()).await;
    for _ in 0..2 {
        let ada = world.signed_in("ada").await;
        let claims = world.provider.logout_claims("ada", &sid_of(&world, "ada"));
        world.provider.rotate_key(None);
        assert_eq!(send(&world, &world.provider.sign(&claims)).await, StatusCode::OK);
        assert!(ada.is_visitor().await);
        advance(RELOAD_INTERVAL).await;
    }
}

/// No token of another key has come since.
#[tokio::test(start_paused = true)]
async fn withdrawn_key_of_the_provider_is_trusted_for_an_hour() {
    let world = World::new(MemoryStore::default()).await;
    let ada = world.signed_in("ada").await;
    let stolen = world.provider.sign(&world.provider.logout_claims("ada", &sid_of(&world, "ada")));
    world.provider.rotate_key(Some("2027"));
    advance(MAX_KEY_AGE).await;
    is_refused(&world, &ada, &stolen, "the key is withdrawn").await;
}

/// Anyone can send tokens with an unknown `kid`.
#[tokio::test(start_paused = true)]
async fn tokens_of_unknown_keys_make_one_request_for_keys() {
    let world = World::new(MemoryStore::default()).await;
    let ada = world.signed_in("ada").await;
    let before = world.key_requests();
    let forged: Vec<_> = (0..20).map(|_| forged(&world)).collect();
    let answers = join_all(forged.iter().map(|token| send(&world, token))).await;
    assert!(answers.iter().all(|answer| *answer == StatusCode::BAD_REQUEST), "{answers:?}");
    is_refused(&world, &ada, &forged[0], "within the interval").await;
    assert_eq!(world.key_requests() - before, 1);
    let claims = world.provider.logout_claims("ada", &sid_of(&world, "ada"));
    assert_eq!(send(&world, &world.provider.sign(&claims)).await, StatusCode::OK);
}

/// An attacker would close each request, and the keys would never arrive.
#[tokio::test(flavor = "multi_thread")]
async fn keys_arrive_after_the_client_that_asked_has_gone() {
    let world = World::new(MemoryStore::default()).await;
    let ada = world.signed_in("ada").await;
    let (before, forged) = (world.key_requests(), forged(&world));
    world.provider.rotate_key(Some("2027"));
    let silence = world.endpoints.keys.write().await;
    let loading = async {
        while world.key_requests() == before {
            sleep(Duration::from_millis(5)).await;
        }
    };
    // The client closes its connection while the provider does not answer.
    select(pin!(send(&world, &forged)), pin!(loading)).await;
    sleep(Duration::from_millis(300)).await;
    drop(silence);
    let claims = world.provider.logout_claims("ada", &sid_of(&world, "ada"));
    assert_eq!(send(&world, &world.provider.sign(&claims)).await, StatusCode::OK);
    assert!(ada.is_visitor().await);
}

#[tokio::test(start_paused = true)]
async fn silent_provider_holds_tokens_for_one_load() {
    let world = World::new(MemoryStore::default()).await;
    let forged: Vec<_> = (0..5).map(|_| forged(&world)).collect();
    let _silence = world.endpoints.keys.write().await;
    let begun = Instant::now();
    let answers = join_all(forged.iter().map(|token| send(&world, token))).await;
    assert!(answers.iter().all(|answer| *answer == StatusCode::BAD_REQUEST), "{answers:?}");
    assert!(begun.elapsed() < 2 * RELOAD_INTERVAL, "{:?}", begun.elapsed());
}

/// Returns a logout token of a key that is not the provider's.
fn forged(world: &World) -> String {
    let stranger = Provider::new(&world.issuer, Client::of(&world.origin));
    stranger.rotate_key(Some("unknown"));
    stranger.sign(&world.provider.logout_claims("ada", "any"))
}
