//! The promises of the project, tested end to end on real servers: real HTTP, real processes, a real
//! Redis.
//!
//! Each module tests one promise. The numbers are those of the invariants in the README.

#![expect(clippy::unwrap_used, reason = "the helpers of tests are tests")]

mod acl;
mod acting;
mod bad_input;
mod bearer;
mod breaker;
mod budget;
mod client_name;
mod cluster;
mod concurrency;
mod conformance;
mod credentials;
mod csrf;
mod errors;
mod examples;
mod expiry;
mod failure_table;
mod faults;
mod faulty_network;
mod flash;
mod health;
mod links;
mod live;
mod load_balancer;
mod lock;
mod members;
mod metrics;
mod named_layers;
mod near_cache;
mod openid;
mod operating;
mod operator;
mod outage;
mod owners;
mod races;
mod ready;
mod reauthentication;
mod renewal;
mod replicas;
mod require_sign_in;
mod restart;
mod sentinel;
mod server_error;
mod signed_in;
mod silence;
mod start;
mod stopcock;
mod support;
mod tls;
mod transports;
mod trouble;
