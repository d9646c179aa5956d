use serde_json::json;

use crate::{browser::Profile, program::Program};

pub(crate) async fn device_list_shows_both_profiles_and_the_end_live(profile: Profile) {
    let program = Program::start().await;
    let phone = profile.another();
    let (laptop, phone) = (profile.open().await, phone.open().await);
    program.sign_in(&laptop, "ada").await;
    for browser in [&laptop, &phone] {
        // A reload would lose the mark.
        browser.js("window.isFirstPage = true").await;
    }
    program.sign_in(&phone, "ada").await;
    phone.js("window.isFirstPage = true").await;
    for browser in [&laptop, &phone] {
        browser.until("two devices", async || browser.js(DEVICES).await == json!([2, 1])).await;
    }

    laptop.click(".devices form button").await;
    laptop.until_text("That device is signed out.").await;
    assert_eq!(laptop.js(DEVICES).await, json!([1, 1]));
    phone.until_text("Your session has ended").await;
    assert_eq!(phone.js("return window.isFirstPage").await, json!(true));
    let text = phone.text().await;
    assert!(!text.contains("Hello") && text.contains("Sign in"), "{text}");
    // The form that replaced the page works.
    phone.fill("#user", "ada").await;
    phone.click("main > form button").await;
    phone.until_text("Hello, ada").await;
}

/// The number of devices, and of those that are marked as this one.
const DEVICES: &str = "return [document.querySelectorAll('.devices li').length, \
     document.querySelectorAll('.devices .this').length]";

/// Browsers open at most six connections to a host over HTTP/1.1, for all tabs together.
pub(crate) async fn many_tabs_follow_the_devices(profile: Profile) {
    let program = Program::start().await;
    let browser = profile.open().await;
    program.sign_in(&browser, "ada").await;
    let mut tabs = vec![browser.current_tab().await];
    for _ in 0..7 {
        tabs.push(browser.new_tab().await);
        browser.goto(program.url()).await;
        browser.until_text("Hello, ada").await;
    }
    program.sign_in_on_a_phone("ada").await;
    for tab in tabs.iter().rev() {
        browser.show(tab).await;
        browser.until("two devices", async || browser.js(DEVICES).await == json!([2, 1])).await;
    }
}

pub(crate) async fn remembered_login_survives_a_restart(profile: Profile) {
    let program = Program::start().await;
    let browser = profile.open().await;
    browser.goto(program.url()).await;
    browser.fill("#user", "ada").await;
    browser.click("input[name=remember]").await;
    browser.click("main > form button").await;
    browser.until_text("Hello, ada").await;
    drop(browser);

    let browser = profile.open().await;
    browser.goto(program.url()).await;
    browser.until_text("Hello, ada").await;
}

pub(crate) async fn ordinary_login_ends_with_the_browser(profile: Profile) {
    let program = Program::start().await;
    let browser = profile.open().await;
    program.sign_in(&browser, "ada").await;
    drop(browser);

    let browser = profile.open().await;
    browser.goto(program.url()).await;
    browser.until_text("Sign in").await;
    assert!(
        !browser.text().await.contains("Your session has ended"),
        "the browser sends no cookie"
    );
}
