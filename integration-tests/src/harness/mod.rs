//! Servers, proxies, browsers and the application of the tests.

pub mod app;
pub(crate) mod browser;
pub(crate) mod fault_proxy;
pub(crate) mod patience;
pub(crate) mod proxy;
pub(crate) mod redis;
pub mod server;
pub(crate) mod server_process;
