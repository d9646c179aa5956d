//! A simulation of the protocol: what no interleaving, no fault of the store and no crash may break.
//!
//! A history is a handful of requests by browsers and attackers to servers that share one store. Each
//! command of each request travels on its own: it can be late, lost, answered by an error, carried out
//! without an answer or twice, and the clock moves meanwhile. Which of that happens, and in which order,
//! follows from the history's seed alone. A model follows what takes effect and what each request is
//! told, and knows what has to be true at every step; see `ledger`.
//!
//! That the simulation can fail is proved by variants that are [`Broken`].

mod batch;
mod broken;
mod counters;
mod draw;
mod fate;
mod flaw;
mod history;
mod ledger;
mod near;
mod plan;
mod remote;
mod request;
mod shrink;
mod stores;
mod trace;
mod view;
mod wire;

pub use batch::{Found, Report, Simulation};
pub use broken::Broken;
pub use counters::Counters;
pub use near::{NearBroken, NearCounters, NearReport, NearSimulation};
