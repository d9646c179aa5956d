//! The pages. The template engine escapes each text.

use axum::{
    Json,
    response::{IntoResponse as _, Response},
};
use maud::{DOCTYPE, Markup, html};
use serde_json::json;
use session_axum::{ErrorFormat, Flash, NextPath};

use super::accounts::{Accounts, Member};

pub(crate) fn home(me: &Member, flashes: &[Flash], accounts: &Accounts) -> Markup {
    page(html! {
        (banner(me))
        @for flash in flashes { p.(flash.level()) role="status" { (flash.text()) } }
        h1 { "Hello, " (me.account.name) }
        p { a href="/recovery-codes" { "Recovery codes" } }
        @if me.account.is_support {
            @for account in accounts.iter().filter(|account| account.id != me.account.id) {
                form method="post" action="/act-as" {
                    button name="id" value=(account.id) { "Act as " (account.name) }
                }
            }
        }
        form method="post" action="/logout" { button { "Sign out" } }
    })
}

pub(crate) fn recovery_codes(me: &Member) -> Markup {
    page(html! {
        (banner(me))
        h1 { "The recovery codes of " (me.account.name) }
        p { "1234 5678" }
    })
}

/// The form to sign in, or the form that asks a user for the password again.
pub(crate) fn password(me: Option<&Member>, next: &NextPath, note: Option<&str>) -> Markup {
    page(html! {
        @if let Some(me) = me { (banner(me)) }
        @if let Some(note) = note { p role="alert" { (note) } }
        h1 { @if me.is_some() { "Enter your password again" } @else { "Sign in" } }
        form method="post" action=(if me.is_some() { "/confirm" } else { "/login" }) {
            input type="hidden" name="next" value=(next);
            @if me.is_none() { input name="name" aria-label="Name" required; }
            input name="password" type="password" aria-label="Password" required;
            button { "Go on" }
        }
    })
}

/// A page for a browser, and JSON for another client.
pub(crate) fn error(text: &str, format: ErrorFormat) -> Response {
    let content = html! { h1 { (text) } p { a href="/" { "Go to your page" } } };
    match format {
        ErrorFormat::Html => page(content).into_response(),
        _ => Json(json!({ "error": text })).into_response(),
    }
}

/// Reminds the support staff on each page whose account it shows.
fn banner(me: &Member) -> Markup {
    html! {
        @if let Some(actor) = &me.actor {
            form method="post" action="/stop-acting" {
                strong { (actor.name) " acts as " (me.account.name) } " "
                button { "Back to your own account" }
            }
        }
    }
}

fn page(content: Markup) -> Markup {
    html! { (DOCTYPE) html lang="en" { head { title { "Members" } } body { (content) } } }
}
