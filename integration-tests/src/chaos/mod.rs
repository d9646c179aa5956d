//! Load on servers, and faults meanwhile.

pub mod faults;
pub mod load;
pub mod soak;
