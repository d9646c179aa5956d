use serde_json::{Value, json};
use thirtyfour::Key;

use crate::{
    browser::{Browser, Profile},
    program::Program,
};

pub(crate) async fn user_signs_in_and_out_without_a_mouse(profile: Profile) {
    let program = Program::start().await;
    let browser = profile.open().await;
    browser.goto(program.url()).await;

    tab_to(&browser, "user").await;
    browser.press("ada").await;
    tab_to(&browser, "remember").await;
    browser.press(" ").await;
    assert_eq!(
        browser.js("return document.querySelector('[name=remember]').checked").await,
        json!(true)
    );
    tab_to(&browser, "Sign in").await;
    browser.press(Key::Enter).await;
    browser.until_text("Hello, ada").await;
    assert!(
        browser.cookie("__Host-session").await.unwrap().expiry.is_some(),
        "the box was checked"
    );

    tab_to(&browser, "Visit").await;
    browser.press(Key::Enter).await;
    browser.until_text("1 visit").await;
    tab_to(&browser, "Sign out").await;
    browser.press(" ").await;
    browser.until_text("Any name will do").await;
}

/// Presses the tabulator until the control with this name or text has the focus. Each control on the way
/// must show that it has the focus.
async fn tab_to(browser: &Browser, control: &str) {
    for _ in 0..12 {
        browser.press(Key::Tab).await;
        let focused = browser.js(FOCUSED).await;
        if focused.is_null() {
            continue; // The page itself, at the end of a round.
        }
        assert_eq!(focused["visible"], json!(true), "{focused}");
        if focused["name"] == control {
            return;
        }
    }
    panic!("no way by the keyboard to `{control}`: {}", browser.js(FOCUSED).await);
}

/// The name of the control with the focus, and whether a frame of at least two pixels surrounds it.
const FOCUSED: &str = "const control = document.activeElement;
    if (!control || control === document.body || control === document.documentElement) return null;
    const style = getComputedStyle(control);
    return {
        name: control.getAttribute('name') ?? control.innerText,
        visible: control.matches(':focus-visible')
            && style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2,
    };";

/// The list of devices is replaced while a user of the keyboard is in it.
pub(crate) async fn focus_stays_while_the_list_changes(profile: Profile) {
    let program = Program::start().await;
    let browser = profile.open().await;
    program.sign_in(&browser, "ada").await;
    let phone = program.sign_in_on_a_phone("ada").await;
    until_devices(&browser, 2).await;
    focus(&browser, ".devices form button").await;
    program.sign_out_on_the_phone(phone).await;
    until_devices(&browser, 1).await;
    // The button is gone with its device.
    assert_eq!(browser.js(FOCUSED_ID).await, json!("device-list"));

    program.sign_in_on_a_phone("ada").await;
    until_devices(&browser, 2).await;
    for (others, selector) in [".devices form button", "#end-others"].iter().enumerate() {
        let before = focus(&browser, selector).await;
        program.sign_in_on_a_phone("ada").await;
        until_devices(&browser, others + 3).await;
        assert_eq!(browser.js(FOCUSED_ID).await, before);
    }
}

async fn focus(browser: &Browser, selector: &str) -> Value {
    browser.js_with("document.querySelector(arguments[0]).focus()", [json!(selector)]).await;
    browser.js(FOCUSED_ID).await
}

async fn until_devices(browser: &Browser, count: usize) {
    let counted = "return document.querySelectorAll('.devices li').length";
    browser.until("the devices", async || browser.js(counted).await == json!(count)).await;
}

const FOCUSED_ID: &str = "return document.activeElement.id";
