//! A simulation of the protocol: its promises must hold for every interleaving, fault of the store and
//! crash.
//!
//! A history is a handful of requests by browsers and attackers to servers that share one store. Each
//! command of each request travels independently: it can be late, lost, refused, applied without a
//! reply, or applied twice. Meanwhile the clock moves. The history's seed alone determines the events
//! and their order. A model follows the effects and the responses, and checks every step; see `ledger`.
//!
//! Variants of the protocol that are [`Broken`] prove that the simulation can fail.

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
