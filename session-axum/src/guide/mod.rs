//! Guides for applications: complete tasks, with code that compiles.
//!
//! | the task | page |
//! | --- | --- |
//! | sign users in and out, ask for a fresh login, act as a user | [`sign_in`] |
//! | open pages to signed-in users only | [`guards`] |
//! | list devices, sign out elsewhere, limit the sessions of a user | [`devices`] |
//! | show a message on the next page | [`flash`] |
//! | change values in concurrent requests, lock a session | [`concurrency`] |
//! | choose deadlines, "remember me", renewed IDs | [`lifetimes`] |
//! | set the attributes of the cookie, serve sub-domains | [`cookies`] |
//! | serve mobile applications and front ends on other hosts | [`bearer`] |
//! | follow a session in a web socket or an event stream | [`live`] |
//! | sign in through an OpenID Connect provider | [`openid`] |
//! | refuse forged requests | [`csrf`] |
//! | order layers, use several sessions, run several applications on a host | [`layers`] |
//! | draw error pages, go on in an outage | [`errors`] |
//! | test handlers | [`tests`] |
//! | choose memory or Redis | [`stores`] |
//! | look up defaults and limits | [`limits`] |
//! | run behind a proxy, in containers, with rolling updates | [`deployment`] |
//! | know the security model | [`security`] |
//! | come from another session library | [`coming_from`] |

#[doc = include_str!("bearer.md")]
pub mod bearer {}
#[doc = include_str!("coming_from.md")]
pub mod coming_from {}
#[doc = include_str!("concurrency.md")]
pub mod concurrency {}
#[doc = include_str!("cookies.md")]
pub mod cookies {}
#[doc = include_str!("csrf.md")]
pub mod csrf {}
#[doc = include_str!("deployment.md")]
pub mod deployment {}
#[doc = include_str!("devices.md")]
pub mod devices {}
#[doc = include_str!("errors.md")]
pub mod errors {}
#[doc = include_str!("flash.md")]
pub mod flash {}
#[doc = include_str!("guards.md")]
pub mod guards {}
#[doc = include_str!("layers.md")]
pub mod layers {}
#[doc = include_str!("lifetimes.md")]
pub mod lifetimes {}
#[doc = include_str!("limits.md")]
pub mod limits {}
#[doc = include_str!("live.md")]
pub mod live {}
#[doc = include_str!("openid.md")]
pub mod openid {}
#[doc = include_str!("security.md")]
pub mod security {}
#[doc = include_str!("sign_in.md")]
pub mod sign_in {}
#[doc = include_str!("stores.md")]
pub mod stores {}
#[doc = include_str!("tests.md")]
pub mod tests {}
