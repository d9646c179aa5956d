#![doc = include_str!("../README.md")]

/// The examples of the repository's README.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;

pub mod chaos;
mod harness;
mod random;
pub mod sim;

pub use harness::{
    app,
    browser::{Answer, Browser, assert_silent},
    fault_proxy::{Fault, FaultProxy},
    patience::{PATIENCE, redis_config, until},
    proxy::Proxy,
    redis::{
        Authority, ClusterRedis, CommandCounts, CommandMark, RedisNetwork, RedisServer,
        RedisServerBuilder, SentinelRedis, TlsFiles, free_port,
    },
    server,
    server_process::ServerProcess,
};
