//! The other libraries in a build without the feature `peers`: all are left out.

use crate::route::MakeRouter;

pub(crate) const TOWER_SESSIONS_MOKA: Option<MakeRouter> = None;
pub(crate) const TOWER_SESSIONS_REDIS: Option<MakeRouter> = None;
pub(crate) const TOWER_SESSIONS_REDIS_TLS: Option<MakeRouter> = None;
pub(crate) const AXUM_SESSION_REDIS: Option<MakeRouter> = None;
