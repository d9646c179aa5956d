//! Benchmarks of the session crates.
