use std::{sync::Arc, time::Duration};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use futures_util::future::join_all;
use reqwest::StatusCode;
use serde_json::json;
use session_axum::{Clock as _, ManualClock, MemoryStore, Session, SystemClock, Timestamp};

use super::{
    Answer, World,
    app::MAX_AGE,
    on_each_store, parameter,
    provider::{CLIENT_ID, CLIENT_SECRET, Client, Provider},
    with_parameter,
};

#[tokio::test(flavor = "multi_thread")]
async fn user_returns_by_link_to_the_page_of_the_beginning() {
    on_each_store(async |world| {
        let ada = world.browser();
        let begun = ada.get("/login?next=%2F%3Fpage%3D2").await;
        let visitor = begun.cookie.unwrap();
        let answer = ada.get(&ada.get(&begun.location).await.location).await;
        assert_eq!((answer.status, &*answer.location), (StatusCode::SEE_OTHER, "/?page=2"));
        assert_ne!(answer.cookie.unwrap(), visitor, "the login has a new ID");
        assert!(ada.is_signed_in_as("ada").await);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn user_returns_by_form_without_the_cookie() {
    on_each_store(async |world| {
        let ada = world.browser();
        let begun = ada.get("/login?form_post").await;
        let page = ada.get(&begun.location).await.body;
        let field = |name: &str| {
            let (_, rest) = page.split_once(&format!(r#"name="{name}" value=""#)).unwrap();
            rest.split_once('"').unwrap().0.to_owned()
        };
        let form = [("state", field("state")), ("code", field("code"))];
        // A POST from another site has no `SameSite=Lax` cookie.
        let post = world.browser().client.post(format!("{}/callback", world.origin)).form(&form);
        let post = post.header("origin", &world.issuer).header("sec-fetch-site", "cross-site");
        let answer = Answer::read(post.send().await.unwrap()).await;
        assert_eq!((answer.status, answer.cookie), (StatusCode::SEE_OTHER, None));
        // The GET after the redirect has the cookie.
        assert_eq!(ada.get(&answer.location).await.status, StatusCode::SEE_OTHER);
        assert!(ada.is_signed_in_as("ada").await);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn form_with_any_text_leads_to_the_callback_only() {
    on_each_store(async |world| {
        let form = [("state", "\r\nset-cookie: session=x"), ("code", "//evil.example&#")];
        let post = world.browser().client.post(format!("{}/callback", world.origin)).form(&form);
        let answer = Answer::read(post.send().await.unwrap()).await;
        assert_eq!((answer.status, &answer.cookie), (StatusCode::SEE_OTHER, &None));
        assert!(answer.location.starts_with("/callback?state="), "{answer:?}");
        assert_eq!(world.browser().get(&answer.location).await.status, StatusCode::BAD_REQUEST);
    })
    .await;
}

/// An ID token or a name in the address would be in logs and in the history of the browser.
#[tokio::test(flavor = "multi_thread")]
async fn form_leaves_all_but_the_answer_behind() {
    on_each_store(async |world| {
        let answer = [("iss", "a"), ("code", "b"), ("error", "c"), ("state", "d")];
        let others = [("id_token", "e"), ("user", "f"), ("error_description", "g"), ("", "h")];
        let form = [answer, others].concat();
        let post = world.browser().client.post(format!("{}/callback", world.origin)).form(&form);
        let returned = Answer::read(post.send().await.unwrap()).await;
        assert_eq!(returned.location, "/callback?iss=a&code=b&error=c&state=d");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answer_of_another_provider_is_refused() {
    on_each_store(async |world| {
        let ada = world.browser();
        let returned = ada.authorize("/login").await;
        let answer = ada.get(&with_parameter(&returned, "iss", Some("http://127.0.0.1:1"))).await;
        assert_eq!((answer.status, answer.cookie), (StatusCode::BAD_GATEWAY, None));
        assert!(ada.is_visitor().await);
        let returned = ada.authorize("/login").await;
        ada.get(&with_parameter(&returned, "iss", Some(&world.issuer))).await;
        assert!(ada.is_signed_in_as("ada").await);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn user_signs_in_after_the_provider_replaced_its_key() {
    on_each_store(async |world| {
        let (ada, before) = (world.signed_in("ada").await, world.key_requests());
        world.provider.rotate_key(Some("2027"));
        world.signed_in("bob").await;
        world.signed_in("eve").await;
        assert_eq!(world.key_requests() - before, 1, "the keys are loaded once");
        assert!(ada.is_signed_in_as("ada").await);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sign_in_that_is_too_old_is_refused() {
    let clock = Arc::new(ManualClock::new(SystemClock.now()));
    let world = World::with_clock(MemoryStore::default(), Arc::clone(&clock) as _).await;
    let second = Duration::from_secs(1);
    for (age, status) in
        [(MAX_AGE - second, StatusCode::SEE_OTHER), (MAX_AGE, StatusCode::BAD_REQUEST)]
    {
        let ada = world.browser();
        let returned = ada.authorize("/login").await;
        clock.advance(age);
        assert_eq!(ada.get(&returned).await.status, status, "{age:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn next_page_on_another_site_is_refused() {
    on_each_store(async |world| {
        for next in ["//evil.example", "https://evil.example", "/%5Cevil.example"] {
            let browser = world.browser();
            let returned = browser.authorize(&format!("/login?next={next}")).await;
            assert_eq!(browser.get(&returned).await.location, "/", "{next}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_tabs_sign_in() {
    on_each_store(async |world| {
        for user in ["ada", "bob"] {
            let browser = world.browser();
            // The visitor has a session, so both tabs begin in it.
            browser.get("/login").await;
            let (one, two) = (
                browser.authorize(&format!("/login?user={user}&next=/one")).await,
                browser.authorize(&format!("/login?user={user}&next=/two")).await,
            );
            for (tab, next) in [(&two, "/two"), (&one, "/one")] {
                let answer = browser.get(tab).await;
                assert_eq!((answer.status, &*answer.location), (StatusCode::SEE_OTHER, next));
            }
            assert!(browser.is_signed_in_as(user).await);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_tabs_that_return_concurrently_leave_the_user_signed_in() {
    on_each_store(async |world| {
        for _ in 0..5 {
            let browser = world.browser();
            browser.get("/login").await;
            let tabs = [browser.authorize("/login").await, browser.authorize("/login").await];
            let answers = join_all(tabs.iter().map(|tab| browser.get(tab))).await;
            // A tab whose request overtook the other's login may have to sign in again.
            let allowed = [StatusCode::SEE_OTHER, StatusCode::BAD_REQUEST, StatusCode::CONFLICT];
            assert!(answers.iter().all(|a| allowed.contains(&a.status)), "{answers:?}");
            assert!(browser.is_signed_in_as("ada").await, "{answers:?}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn return_is_worth_one_sign_in() {
    on_each_store(async |world| {
        let ada = world.browser();
        let returned = ada.authorize("/login").await;
        assert_eq!(ada.get(&returned).await.status, StatusCode::SEE_OTHER);
        let again = ada.get(&returned).await;
        assert_eq!((again.status, again.cookie), (StatusCode::BAD_REQUEST, None));
        assert_eq!(world.token_requests(), 1);
        assert!(ada.is_signed_in_as("ada").await, "a replay signs nobody out");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_returns_at_two_servers_reach_the_provider_once() {
    on_each_store(async |world| {
        for count in 1..=5 {
            let ada = world.browser();
            let returned = ada.authorize("/login").await;
            let at_second = returned.replace(&world.origin, &world.second);
            let tabs = [&returned, &at_second].into_iter().cycle().take(8);
            let answers = join_all(tabs.map(|tab| ada.get(tab))).await;
            let signed_in = answers.iter().filter(|a| a.status == StatusCode::SEE_OTHER).count();
            assert_eq!(signed_in, 1, "{answers:?}");
            assert_eq!(world.token_requests(), count);
            assert!(ada.is_signed_in_as("ada").await);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn return_of_another_visitor_signs_nobody_in() {
    on_each_store(async |world| {
        // Mallory sends her own return to a visitor, and to a signed-in user (login CSRF).
        let mallory = world.browser();
        let returned = mallory.authorize("/login?user=mallory").await;
        let (visitor, ada) = (world.browser(), world.signed_in("ada").await);
        visitor.get("/login").await;
        let before = world.token_requests();
        for victim in [&visitor, &ada] {
            let answer = victim.get(&returned).await;
            assert_eq!((answer.status, answer.cookie), (StatusCode::BAD_REQUEST, None));
        }
        assert!(visitor.is_visitor().await);
        assert!(ada.is_signed_in_as("ada").await);
        assert_eq!(world.token_requests(), before);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn injected_code_is_refused() {
    on_each_store(async |world| {
        let (mallory, ada) = (world.browser(), world.browser());
        let of_mallory = mallory.authorize("/login?user=mallory").await;
        let of_ada = ada.authorize("/login?user=ada").await;
        // The code belongs to the challenge of another sign-in (PKCE).
        let code = parameter(&of_mallory, "code");
        let answer = ada.get(&with_parameter(&of_ada, "code", Some(&code))).await;
        assert_eq!((answer.status, answer.cookie), (StatusCode::BAD_GATEWAY, None));
        assert!(ada.is_visitor().await);
        // The refused sign-in is used up.
        assert_eq!(ada.get(&of_ada).await.status, StatusCode::BAD_REQUEST);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stolen_code_is_worthless_without_the_verifier() {
    on_each_store(async |world| {
        let ada = world.browser();
        let begun = ada.get("/login").await;
        assert_eq!(parameter(&begun.location, "code_challenge_method"), "S256");
        let verifier = parameter(&begun.location, "code_challenge");
        for stolen in [None, Some(&*verifier)] {
            let code = parameter(&ada.get(&begun.location).await.location, "code");
            let mut form = vec![("grant_type", "authorization_code"), ("code", &code)];
            form.extend(stolen.map(|verifier| ("code_verifier", verifier)));
            let client = reqwest::Client::builder().no_proxy().build().unwrap();
            let secret: String =
                url::form_urlencoded::byte_serialize(CLIENT_SECRET.as_bytes()).collect();
            let redeem = client.post(format!("{}/token", world.issuer)).form(&form);
            let answer = redeem.basic_auth(CLIENT_ID, Some(secret)).send().await.unwrap();
            assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
            assert!(answer.text().await.unwrap().contains("invalid_grant"));
        }
        // The provider gives no code without a challenge.
        let downgraded = with_parameter(&begun.location, "code_challenge", None);
        let answer = ada.get(&downgraded).await;
        assert_eq!(parameter(&answer.location, "error"), "invalid_request");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn id_token_of_another_sign_in_is_refused() {
    on_each_store(async |world| {
        let of_mallory = world.browser().get("/login?user=mallory").await.location;
        let nonce = parameter(&of_mallory, "nonce");
        for claims in [
            json!({ "nonce": nonce }),
            json!({ "nonce": null }),
            json!({ "aud": "another application" }),
            json!({ "aud": [CLIENT_ID, "another application"] }),
            json!({ "iss": "http://127.0.0.1:1" }),
            json!({ "exp": 1_000_000_000 }),
        ] {
            world.change_claims(&claims);
            is_refused(&world, &claims.to_string()).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn id_token_without_the_providers_signature_is_refused() {
    on_each_store(async |world| {
        let stranger = Provider::new(&world.issuer, Client::of(&world.origin));
        world.forge(move |claims| stranger.sign(&claims));
        is_refused(&world, "signed by another key").await;
        for algorithm in ["none", "HS256"] {
            let provider = Arc::clone(&world.provider);
            world.forge(move |claims| {
                let token = provider.sign(&claims);
                let payload = token.split('.').nth(1).unwrap();
                let header = json!({ "alg": algorithm }).to_string();
                format!("{}.{payload}.", BASE64_URL_SAFE_NO_PAD.encode(header))
            });
            is_refused(&world, algorithm).await;
        }
    })
    .await;
}

async fn is_refused(world: &World, what: &str) {
    let ada = world.browser();
    let returned = ada.authorize("/login").await;
    let answer = ada.get(&returned).await;
    assert_eq!((answer.status, answer.cookie), (StatusCode::BAD_GATEWAY, None), "{what}");
    assert!(ada.is_visitor().await, "{what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn refusal_of_the_provider_signs_nobody_in() {
    on_each_store(async |world| {
        let browser = world.browser();
        let returned = browser.authorize("/login?user=nobody").await;
        assert_eq!(parameter(&returned, "error"), "access_denied");
        let forged = with_parameter(&returned, "error_description", Some("call 555-0100"));
        assert_eq!(browser.get(&forged).await.location, "/");
        let page = browser.get("/").await.body;
        assert!(page.contains("The provider did not sign you in."), "{page}");
        assert!(!page.contains("555"), "{page}");
        // The sign-in is over: a code cannot follow.
        let late = with_parameter(&returned, "code", Some("late"));
        assert_eq!(browser.get(&late).await.status, StatusCode::BAD_REQUEST);
        assert_eq!(world.token_requests(), 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn return_without_a_known_state_is_refused() {
    on_each_store(async |world| {
        let ada = world.browser();
        let returned = ada.authorize("/login").await;
        for state in [None, Some(""), Some("x"), Some(&*"x".repeat(5_000))] {
            let answer = ada.get(&with_parameter(&returned, "state", state)).await;
            assert_eq!(
                (answer.status, answer.cookie),
                (StatusCode::BAD_REQUEST, None),
                "{state:?}"
            );
        }
        // The sign-in itself goes on.
        assert_eq!(ada.get(&returned).await.status, StatusCode::SEE_OTHER);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn last_few_sign_ins_under_way_can_be_finished() {
    on_each_store(async |world| {
        let ada = world.browser();
        let mut tabs = Vec::new();
        for _ in 0..3 * Session::MAX_ISSUED {
            tabs.push(ada.authorize("/login").await);
        }
        let mut finished = Vec::new();
        for tab in tabs {
            finished.push(ada.get(&tab).await.status == StatusCode::SEE_OTHER);
        }
        let (oldest, last) = finished.split_at(2 * Session::MAX_ISSUED);
        assert!(!oldest.contains(&true) && !last.contains(&false), "{finished:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn session_ends_with_the_id_token() {
    on_each_store(async |world| {
        let now = SystemClock.now().as_millis() / 1_000;
        world.change_claims(&json!({ "exp": now + 600 }));
        world.signed_in("ada").await;
        let session = &world.sessions.list("ada").await.unwrap()[0];
        assert_eq!(session.expires_at(), Timestamp::from_secs(now + 600));
    })
    .await;
}
