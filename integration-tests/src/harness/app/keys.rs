use session_axum::Key;

/// The counter that `POST /count` increments.
pub const COUNT: Key<u64> = Key::new("count");

/// The device name that `POST /device/{name}` sets.
pub const DEVICE: Key<String> = Key::new("device");
