//! A real Redis for each test: its origin, its faults, its command counts.

mod cluster;
mod command_counts;
mod container;
mod image;
mod instance;
mod kind;
mod network;
mod process;
mod sentinel;
mod server;
mod tls;

pub use cluster::ClusterRedis;
pub use command_counts::{CommandCounts, CommandMark};
pub use instance::free_port;
pub use network::RedisNetwork;
pub use sentinel::SentinelRedis;
pub use server::{RedisServer, RedisServerBuilder};
pub use tls::{Authority, TlsFiles};
