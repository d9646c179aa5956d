//! Guides for applications: complete tasks, with code that compiles.

#[doc = include_str!("bearer.md")]
pub mod bearer {}
#[doc = include_str!("csrf.md")]
pub mod csrf {}
#[doc = include_str!("layers.md")]
pub mod layers {}
#[doc = include_str!("openid.md")]
pub mod openid {}
