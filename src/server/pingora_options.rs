//! The options of Pingora's server and of its HTTP proxy.

use std::time::Duration;

use pingora::apps::HttpServerOptions;
use pingora::server::configuration::ServerConf;

use crate::proxy::MAX_ATTEMPTS;

/// The longest grace period that a configuration may set.
const MAX_GRACE_PERIOD: Duration = Duration::from_secs(24 * 60 * 60);

/// The server: `idle` connections to hosts are kept.
pub(super) fn server_conf(idle: u64) -> ServerConf {
    ServerConf {
        // Connections are served by our own worker threads.
        threads: 1,
        upstream_keepalive_pool_size: usize::try_from(idle).unwrap_or(usize::MAX),
        max_retries: MAX_ATTEMPTS,
        work_stealing: false,
        // A backstop only: the drain exits the process earlier, while Pingora would sleep the whole period. It is
        // larger than any grace period that a reload may set.
        grace_period_seconds: Some(MAX_GRACE_PERIOD.as_secs() + 1),
        graceful_shutdown_timeout_seconds: Some(0),
        ..ServerConf::default()
    }
}

/// The HTTP proxy.
pub(super) fn server_options() -> HttpServerOptions {
    let mut options = HttpServerOptions::default();
    // The proxy itself refuses CONNECT, with its own error response.
    options.allow_connect_method_proxying = true;
    options
}
