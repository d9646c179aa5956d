use session_axum::{MemoryStore, SessionCookie};

use crate::{
    browser::Profile,
    program::Program,
    shop::{page, shop},
    site::{BLOG, SHOP, Site},
};

pub(crate) async fn sign_out_removes_the_cookie(profile: Profile) {
    let site = Site::serve(shop(MemoryStore::default(), SessionCookie::default())).await;
    let browser = profile.open().await;
    browser.goto(site.url(SHOP, "/")).await;
    browser.click("#login").await;
    browser.until_text("a cookie, ada").await;
    assert!(browser.cookie("__Host-session").await.is_some());

    browser.goto(site.url(SHOP, "/")).await;
    browser.click("#logout").await;
    browser.until_text("no cookie, nobody").await;
    assert!(browser.cookie("__Host-session").await.is_none());
}

pub(crate) async fn back_button_shows_no_private_page(profile: Profile) {
    let site = Site::serve(shop(MemoryStore::default(), SessionCookie::default())).await;
    let other = Site::serve(page("<h1>News</h1>".to_owned())).await;
    let browser = profile.open().await;
    for is_other_tab in [false, true] {
        browser.goto(site.url(SHOP, "/")).await;
        browser.click("#login").await;
        browser.until_text("a cookie, ada").await;
        browser.goto(site.url(SHOP, "/private")).await;
        browser.until_text("Account of ada").await;
        let private = browser.current_tab().await;
        if is_other_tab {
            browser.goto(other.url(BLOG, "/")).await;
            browser.new_tab().await;
            browser.goto(site.url(SHOP, "/private")).await;
        }
        browser.click("#logout").await;
        browser.until_text("no cookie, nobody").await;

        browser.show(&private).await;
        browser.back().await;
        assert!(browser.url().await.ends_with("/private"));
        let text = browser.text().await;
        assert!(!text.contains("ada"), "signed out in another tab: {is_other_tab}: {text}");
    }
}

/// Chromium keeps a page in memory despite `no-store`. The removal of the cookie makes it forget the page,
/// unless a redirect led to the page (Chromium 156).
pub(crate) async fn login_program_leaves_no_page_in_the_memory(profile: Profile) {
    let program = Program::start().await;
    let other = Site::serve(page("<h1>News</h1>".to_owned())).await;
    let browser = profile.open().await;
    for is_signed_out_elsewhere in [false, true] {
        program.sign_in(&browser, "ada").await;
        let private = browser.current_tab().await;
        browser.js(RECORD_RESTORATION).await;
        browser.goto(other.url(BLOG, "/")).await;
        browser.until_text("News").await;
        if is_signed_out_elsewhere {
            // The cookie of this browser stays.
            program.sign_out_by_a_phone("ada").await;
        } else {
            browser.new_tab().await;
            browser.goto(program.url()).await;
            browser.click("form.quiet button").await;
            browser.until_text("Any name will do").await;
            browser.show(&private).await;
        }
        browser.back().await;
        browser.until_text("Any name will do").await;
        assert!(!browser.text().await.contains("ada"));
        let restored = browser.js("return sessionStorage.getItem('restored')").await;
        assert!(restored.is_null() || restored == "", "{restored}");
    }
}

/// Records the text of a page that comes from the memory, before the script of the page loads it again.
const RECORD_RESTORATION: &str = "addEventListener('pageshow', ({ persisted }) => {
        if (persisted) sessionStorage.setItem('restored', document.body.innerText);
    });";
