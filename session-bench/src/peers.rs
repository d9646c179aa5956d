//! The other libraries, each with the settings of its own documentation, and an idle time as long as ours.

mod axum_session;
mod tower_sessions;

use crate::candidate::{MakeRouter, redis_tls_url};

pub(crate) const TOWER_SESSIONS_MOKA: Option<MakeRouter> =
    Some(|_| Box::pin(async { Ok(tower_sessions::on_moka()) }));
pub(crate) const TOWER_SESSIONS_REDIS: Option<MakeRouter> =
    Some(|url| Box::pin(tower_sessions::on_redis(url)));
pub(crate) const TOWER_SESSIONS_REDIS_TLS: Option<MakeRouter> =
    Some(|_| Box::pin(async { tower_sessions::on_redis(redis_tls_url()?).await }));
pub(crate) const AXUM_SESSION_REDIS: Option<MakeRouter> =
    Some(|url| Box::pin(axum_session::on_redis(url)));

/// The names of the four small values, as ours are called.
const NAME: &str = "name";
const COUNT: &str = "count";
const THEME: &str = "theme";
const CART: &str = "cart";
/// Whose session it is: ours has a place of its own for that.
const USER: &str = "user";

/// As long as ours by default.
const IDLE: time::Duration = time::Duration::hours(1);
