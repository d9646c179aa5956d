//! Session store in process memory, on moka.
