//! A real Redis for each test: its origin, its faults, its command counts.

mod address;
mod cluster;
mod command_counts;
mod connection;
mod container;
mod engine;
mod image;
mod instance;
mod kind;
mod network;
mod process;
mod sentinel;
mod server;
mod source;
mod tls;

pub use address::free_port;
pub use cluster::ClusterRedis;
pub use command_counts::{CommandCounts, CommandMark};
pub use network::RedisNetwork;
pub use sentinel::SentinelRedis;
pub use server::{RedisServer, RedisServerBuilder};
pub use tls::{Authority, TlsFiles};
