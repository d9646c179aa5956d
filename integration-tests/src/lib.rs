//! End-to-end tests of the session crates on a real Redis.
