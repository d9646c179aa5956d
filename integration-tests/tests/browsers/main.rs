//! The promises of the cookie, and the login program, in real browsers: Chromium and Firefox, driven
//! by WebDriver over HTTPS.
//!
//! Each story is a test for each browser. A story is left out, with the reason, on a machine without
//! the browser or its driver. `INTEGRATION_TESTS_BROWSERS=required` makes the absence a failure.

#![expect(clippy::unwrap_used, reason = "the helpers of tests are tests")]

mod accessibility;
mod browser;
mod cookie;
mod devices;
mod driver;
mod keyboard;
mod kind;
mod look;
mod partitioned;
mod program;
mod screenshots;
mod shop;
mod sign_out;
mod site;
mod tabs;

use std::{
    env,
    io::{self, Write as _},
};

use tokio::sync::Semaphore;

use crate::{browser::Profile, kind::Kind};

/// Makes each story a test for each browser.
macro_rules! on_each_browser {
    ($($module:ident::$story:ident,)*) => {
        mod chromium {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $story() {
                    crate::run(crate::Kind::Chromium, crate::$module::$story).await;
                }
            )*
        }

        mod firefox {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $story() {
                    crate::run(crate::Kind::Firefox, crate::$module::$story).await;
                }
            )*
        }
    };
}

on_each_browser! {
    accessibility::pages_have_no_violations_in_light_and_dark,
    cookie::cookie_has_the_attributes_of_the_docs,
    cookie::plain_http_carries_no_cookie,
    cookie::post_of_another_site_carries_no_cookie,
    cookie::link_of_another_site_carries_the_cookie,
    devices::device_list_shows_both_profiles_and_the_end_live,
    devices::many_tabs_follow_the_devices,
    devices::ordinary_login_ends_with_the_browser,
    devices::remembered_login_survives_a_restart,
    keyboard::focus_stays_while_the_list_changes,
    keyboard::user_signs_in_and_out_without_a_mouse,
    look::pages_fit_into_360_pixels,
    partitioned::frame_has_a_session_per_embedding_site,
    screenshots::pages_are_drawn,
    sign_out::back_button_shows_no_private_page,
    sign_out::login_program_leaves_no_page_in_the_memory,
    sign_out::sign_out_removes_the_cookie,
    tabs::renewal_in_one_tab_keeps_the_other_signed_in,
    tabs::sign_out_in_one_tab_shows_in_the_other,
}

async fn run(kind: Kind, story: impl AsyncFnOnce(Profile)) {
    let programs = match kind.find() {
        Ok(programs) => programs,
        Err(missing) => return leave_out(&format!("stories in {kind:?}"), &missing),
    };
    // A browser keeps more than one core busy.
    static TURNS: Semaphore = Semaphore::const_new(2);
    let _turn = TURNS.acquire().await.unwrap();
    story(Profile::new(programs)).await;
}

/// Reports a part that this machine cannot run, or fails if it is required.
fn leave_out(part: &str, reason: &str) {
    let is_required = env::var(CHOICE).is_ok_and(|choice| choice == "required");
    assert!(!is_required, "{CHOICE}=required: {reason}");
    // Not with `eprintln`, because the test runner captures its output.
    let _ = writeln!(io::stderr(), "left out: {part}: {reason}");
}

const CHOICE: &str = "INTEGRATION_TESTS_BROWSERS";
