#![doc = include_str!("../README.md")]

mod fixture;
mod redis_server;

pub use {
    fixture::{CART, COUNT, NAME, THEME, create_session, fill, record},
    redis_server::{NoRedis, RedisServer},
};
