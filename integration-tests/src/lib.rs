#![doc = include_str!("../README.md")]

mod proxy;
mod redis;
mod server_process;

pub use self::redis::{CommandCounts, CommandMark, RedisServer, RedisServerBuilder};
pub use proxy::Proxy;
pub use server_process::ServerProcess;
