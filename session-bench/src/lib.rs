#![doc = include_str!("../README.md")]

mod fixture;
pub mod handlers;
pub mod process;
mod progress;
mod redis_info;
mod redis_server;
mod request;
mod table;

pub use {
    fixture::{CART, COUNT, NAME, THEME, create_session, fill, record},
    progress::Progress,
    redis_info::{Memory, RedisInfo},
    redis_server::{NoRedis, RedisServer},
    request::{Work, at_once, request},
    table::Table,
};

/// Any error.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
