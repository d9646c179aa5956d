use session_axum::{MemoryStore, SessionCookie};
use thirtyfour::SameSite;

use crate::{
    browser::{Browser, Profile},
    shop::{page, shop},
    site::{EVIL, SHOP, Site},
};

const NAME: &str = "__Host-session";

async fn open_shop() -> Site {
    Site::serve(shop(MemoryStore::default(), SessionCookie::default())).await
}

async fn sign_in(browser: &Browser, site: &Site) {
    browser.goto(site.url(SHOP, "/")).await;
    browser.click("#login").await;
    browser.until_text("a cookie, ada").await;
}

pub(crate) async fn cookie_has_the_attributes_of_the_docs(profile: Profile) {
    let site = open_shop().await;
    let browser = profile.open().await;
    sign_in(&browser, &site).await;

    let cookie = browser.cookie(NAME).await.expect("the cookie is stored");
    assert_eq!(cookie.value.len(), 43);
    assert_eq!(cookie.secure, Some(true));
    assert_eq!(cookie.http_only, Some(true));
    assert_eq!(cookie.same_site, Some(SameSite::Lax));
    assert_eq!(cookie.path.as_deref(), Some("/"));
    // A cookie with a domain would have `.shop.example`.
    assert_eq!(cookie.domain.as_deref(), Some(SHOP));
    assert_eq!(cookie.expiry, None);
    assert_eq!(
        browser.js("return [isSecureContext, document.cookie]").await.to_string(),
        r#"[true,""]"#
    );
}

pub(crate) async fn plain_http_carries_no_cookie(profile: Profile) {
    let store = MemoryStore::default();
    let site = Site::serve(shop(store.clone(), SessionCookie::default())).await;
    let plain = Site::serve_without_tls(shop(store, SessionCookie::default())).await;
    let browser = profile.open().await;
    sign_in(&browser, &site).await;

    browser.goto(plain.url(SHOP, "/seen")).await;
    browser.until_text("no cookie, nobody").await;
    // The browser refuses the cookie that the login sets over plain HTTP.
    browser.goto(plain.url(SHOP, "/")).await;
    browser.click("#login").await;
    browser.until_text("no cookie, nobody").await;
    browser.goto(site.url(SHOP, "/seen")).await;
    browser.until_text("a cookie, ada").await;
}

pub(crate) async fn post_of_another_site_carries_no_cookie(profile: Profile) {
    let site = open_shop().await;
    let form = format!(
        "<form method=post action='{}'><button>Win a prize</button></form>",
        site.url(SHOP, "/seen")
    );
    let evil = Site::serve(page(form)).await;
    let browser = profile.open().await;
    sign_in(&browser, &site).await;

    browser.goto(evil.url(EVIL, "/")).await;
    browser.click("button").await;
    browser.until_text("no cookie, nobody").await;
    // The response to the forged request left the cookie as it was.
    browser.goto(site.url(SHOP, "/seen")).await;
    browser.until_text("a cookie, ada").await;
}

pub(crate) async fn link_of_another_site_carries_the_cookie(profile: Profile) {
    let site = open_shop().await;
    let link = format!("<a href='{}'>To the shop</a>", site.url(SHOP, "/seen"));
    let evil = Site::serve(page(link)).await;
    let browser = profile.open().await;
    sign_in(&browser, &site).await;

    browser.goto(evil.url(EVIL, "/")).await;
    browser.click("a").await;
    browser.until_text("a cookie, ada").await;
}
