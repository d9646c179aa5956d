use std::{sync::Arc, time::Duration};

use serde_json::json;
use session_axum::{Lifetime, MemoryStore, SessionCookie, Sessions};
use session_core::{Clock as _, ManualClock, SystemClock};

use crate::{
    browser::{Browser, Profile},
    program::Program,
    shop::shop,
    site::{SHOP, Site},
};

const HOUR: Duration = Duration::from_secs(3600);

pub(crate) async fn renewal_in_one_tab_keeps_the_other_signed_in(profile: Profile) {
    let clock = Arc::new(ManualClock::new(SystemClock.now()));
    let lifetime = Lifetime::new(10 * HOUR, 20 * HOUR).unwrap().with_renew_after(HOUR).unwrap();
    let sessions = Sessions::builder(MemoryStore::default())
        .with_lifetime(lifetime)
        .with_clock(Arc::clone(&clock))
        .build()
        .unwrap();
    let site = Site::serve(shop(sessions, SessionCookie::default())).await;
    let browser = profile.open().await;
    browser.goto(site.url(SHOP, "/")).await;
    browser.click("#login").await;
    browser.until_text("a cookie, ada").await;
    let first = browser.current_tab().await;
    let second = browser.new_tab().await;
    browser.goto(site.url(SHOP, "/seen")).await;

    let mut ids = vec![id(&browser).await];
    for _ in 0..3 {
        clock.advance(HOUR + Duration::from_secs(1));
        // The session is due for a renewal, and both tabs send requests concurrently.
        for tab in [&first, &second] {
            browser.show(tab).await;
            browser.js(START).await;
        }
        for tab in [&first, &second] {
            browser.show(tab).await;
            browser.until("the responses", async || browser.js(DONE).await == json!(6)).await;
            assert_eq!(browser.js("return [...new Set(seen)]").await, json!(["a cookie, ada"]));
        }
        ids.push(id(&browser).await);
        // The grace time of the former ID is over.
        clock.advance(Duration::from_secs(60));
        for tab in [&first, &second] {
            browser.show(tab).await;
            browser.reload().await;
            browser.until_text("a cookie, ada").await;
        }
    }
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 4, "each round renews the session");
}

async fn id(browser: &Browser) -> String {
    browser.cookie("__Host-session").await.unwrap().value
}

/// Sends six requests without a wait.
const START: &str = "window.seen = [];
    for (let i = 0; i < 6; i++) {
        fetch('/seen').then(answer => answer.text())
            .then(text => seen.push(new DOMParser().parseFromString(text, 'text/html').body.innerText.trim()));
    }";

const DONE: &str = "return seen.length";

pub(crate) async fn sign_out_in_one_tab_shows_in_the_other(profile: Profile) {
    let program = Program::start().await;
    let browser = profile.open().await;
    program.sign_in(&browser, "ada").await;
    let first = browser.current_tab().await;
    browser.new_tab().await;
    browser.goto(program.url()).await;
    browser.click("form.quiet button").await;
    browser.until_text("Sign in").await;

    // Without a reload by the user.
    browser.show(&first).await;
    browser.until_text("Any name will do").await;
    assert!(!browser.text().await.contains("ada"));
}
