use serde_json::json;

use crate::{
    browser::{Look, Profile},
    program::Program,
};

/// A name of the greatest length, without a place for a line break.
const LONG_NAME: &str = "Hubert-Blaine-Wolfeschlegelsteinhausenbergerdorff-Senior-the-3rd";

pub(crate) async fn pages_fit_into_360_pixels(profile: Profile) {
    let program = Program::start().await;
    let profile = profile.with_look(Look { width: 360, height: 740, is_dark: false });
    let browser = profile.open().await;
    program
        .tour(&browser, LONG_NAME, async |page| {
            assert_eq!(browser.js(OVERFLOW).await, json!([360, []]), "{page}");
        })
        .await;
}

/// The width of the page, and the elements that reach beyond it or beyond themselves.
const OVERFLOW: &str = "const width = document.documentElement.clientWidth;
    const beyond = [...document.querySelectorAll('*')]
        .filter(element => element.getBoundingClientRect().right > width + 0.5
            || element.scrollWidth > element.clientWidth + 1 && element.clientWidth > 0)
        .map(element => element.outerHTML.slice(0, 80));
    return [window.innerWidth, beyond];";
