#![doc = include_str!("../README.md")]

/// The examples of the repository's README.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;

pub mod app;
mod browser;
mod fault_proxy;
pub mod faults;
pub mod load;
mod locked;
mod patience;
mod proxy;
mod random;
mod redis;
pub mod server;
mod server_process;
pub mod simulation;
pub mod soak;

pub use self::redis::{
    Authority, ClusterRedis, CommandCounts, CommandMark, RedisNetwork, RedisServer,
    RedisServerBuilder, SentinelRedis, TlsFiles, free_port,
};
pub use browser::{Answer, Browser, assert_silent};
pub use fault_proxy::{Fault, FaultProxy};
pub use patience::{PATIENCE, redis_config, until};
pub use proxy::Proxy;
pub use server_process::ServerProcess;
