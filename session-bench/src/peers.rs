//! The other libraries, each with the settings of its own documentation and with our idle time.

mod axum_session;
mod tower_sessions;

use crate::route::{MakeRouter, redis_tls_url};

pub(crate) const TOWER_SESSIONS_MOKA: Option<MakeRouter> =
    Some(|_| Box::pin(async { Ok(tower_sessions::on_moka()) }));
pub(crate) const TOWER_SESSIONS_REDIS: Option<MakeRouter> =
    Some(|url| Box::pin(tower_sessions::on_redis(url)));
pub(crate) const TOWER_SESSIONS_REDIS_TLS: Option<MakeRouter> =
    Some(|_| Box::pin(async { tower_sessions::on_redis(redis_tls_url()?).await }));
pub(crate) const AXUM_SESSION_REDIS: Option<MakeRouter> =
    Some(|url| Box::pin(axum_session::on_redis(url)));

/// The names of the four small values, the same as ours.
const NAME: &str = "name";
const COUNT: &str = "count";
const THEME: &str = "theme";
const CART: &str = "cart";
/// The name of the value with the user. Our records have a separate field for the owner.
const USER: &str = "user";

/// The idle time, the same as our default.
const IDLE: time::Duration = time::Duration::hours(1);
