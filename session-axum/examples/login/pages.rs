//! The look of the pages, independent of sessions.

use axum::{
    http::{HeaderName, header},
    response::{IntoResponse, Response},
};
use maud::{DOCTYPE, Markup, html};
use session_axum::FlashLevel;

use super::devices::Device;

/// The page of a signed-in user.
pub(crate) fn member(
    user: &str,
    visits: u64,
    notices: &[Notice<'_>],
    devices: &[Device],
) -> Markup {
    page(html! {
        (notice_lines(notices))
        h1 { "Hello, " strong id="user" { (user) } }
        p { "The server holds your session; the browser holds only its ID." }
        (visit_form(visits))
        (device_list(devices))
        form.quiet method="post" action="/logout" {
            button.secondary { "Sign out" }
        }
        script src="/live.js" {}
    })
}

/// The page of a visitor.
pub(crate) fn visitor(visits: u64, notices: &[Notice<'_>], problem: Option<&str>) -> Markup {
    page(sign_in(visits, notices, problem))
}

/// The content of the page of a visitor.
pub(crate) fn sign_in(visits: u64, notices: &[Notice<'_>], problem: Option<&str>) -> Markup {
    html! {
        (notice_lines(notices))
        h1 { "Sign in" }
        p { "Any name will do. What you count before you sign in stays yours." }
        form method="post" action="/login" {
            label for="user" { "Name" }
            input id="user" name="user" type="text" required maxlength="64" autocomplete="username"
                autocapitalize="none" spellcheck="false" aria-invalid=[problem.map(|_| "true")]
                aria-describedby=[problem.map(|_| "problem")];
            @if let Some(problem) = problem {
                p.problem id="problem" role="alert" { (problem) }
            }
            label.check {
                input name="remember" type="checkbox";
                "Keep me signed in"
            }
            button { "Sign in" }
        }
        (visit_form(visits))
    }
}

/// The page in an outage of the store.
pub(crate) fn outage() -> Markup {
    page(html! {
        h1 { "Back in a moment" }
        p { "Sessions cannot be reached right now. Nobody was signed out by that: "
            "load this page again in a few seconds." }
        p { a.button href="/" { "Try again" } }
    })
}

/// The response to a form that another site's page sent.
pub(crate) fn foreign() -> Markup {
    page(html! {
        h1 { "Nothing was done" }
        p { "That form was sent by another site. If you meant to do something here, do it on this page." }
        p { a.button href="/" { "Go to the page" } }
    })
}

/// A message at the top of a page, with its level.
type Notice<'n> = (FlashLevel, &'n str);

fn notice_lines(notices: &[Notice<'_>]) -> Markup {
    html! {
        @for (level, text) in notices {
            p.notice.(level) role="status" { (text) }
        }
    }
}

/// The list of devices, which the browser replaces while the page is open.
pub(crate) fn device_list(devices: &[Device]) -> Markup {
    html! {
        section id="device-list" aria-labelledby="devices" tabindex="-1" {
            h2 id="devices" { "Your devices" }
            ul.devices {
                @for device in devices {
                    li {
                        div {
                            strong { (device.name) }
                            @if device.is_this { span.this { "this device" } }
                            p { (device.seen) ", signed in " (device.signed_in) }
                        }
                        @if !device.is_this {
                            form method="post" action="/devices/end" {
                                input type="hidden" name="key" value=(device.key);
                                button.secondary id={ "end-" (device.key) }
                                    aria-label={ "Sign out " (device.name) } { "Sign out" }
                            }
                        }
                    }
                }
            }
            @if devices.len() > 1 {
                form method="post" action="/devices/end-others" {
                    button.secondary id="end-others" { "Sign out everywhere else" }
                }
            }
        }
    }
}

fn visit_form(visits: u64) -> Markup {
    html! {
        form.visits method="post" action="/visit" {
            p { output id="visits" { (visits) } @if visits == 1 { " visit" } @else { " visits" } }
            button.secondary { "Visit" }
        }
    }
}

fn page(content: Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { "Sessions" }
                link rel="icon" href=(ICON);
                link rel="stylesheet" href="/style.css";
            }
            body { main { (content) } }
        }
    }
}

/// The style sheet.
pub(crate) async fn style() -> impl IntoResponse {
    let headers = [
        (header::CONTENT_TYPE, "text/css; charset=utf-8"),
        (header::CACHE_CONTROL, "public, max-age=3600"),
    ];
    (headers, include_str!("style.css"))
}

/// The script of the page of a user.
pub(crate) async fn script() -> impl IntoResponse {
    let headers = [
        (header::CONTENT_TYPE, "text/javascript; charset=utf-8"),
        (header::CACHE_CONTROL, "public, max-age=3600"),
    ];
    (headers, include_str!("live.js"))
}

/// Adds the headers that a page with personal content should have.
pub(crate) async fn secure(mut response: Response) -> Response {
    for (name, value) in SECURE_HEADERS {
        let value = header::HeaderValue::from_static(value);
        response.headers_mut().entry(name).or_insert(value);
    }
    response
}

const SECURE_HEADERS: [(HeaderName, &str); 4] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; connect-src 'self'; style-src 'self'; \
         img-src data:; form-action 'self'; \
         base-uri 'none'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "same-origin"),
    (header::CACHE_CONTROL, "no-store"),
];

const ICON: &str = "data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'>\
    <rect width='16' height='16' rx='4' fill='%232f6f5e'/>\
    <circle cx='8' cy='6.2' r='2.6' fill='white'/>\
    <path d='M3.2 13.4a4.8 4.2 0 0 1 9.6 0z' fill='white'/></svg>";
