//! Configurations for tests in a line or two.

use std::net::SocketAddr;

use super::backend::Backend;
use super::ballast::{Ballast, LISTEN};

/// A configuration with one listener and one pool, `web`. By default hosts take turns and there are no health checks.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    top: String,
    hosts: Vec<String>,
    algorithm: String,
    health: String,
    pool: String,
}

impl Setup {
    /// A pool of these backends.
    pub(crate) fn of(backends: &[&Backend]) -> Self {
        let setup = Setup {
            top: String::new(),
            hosts: Vec::new(),
            algorithm: "round_robin".to_owned(),
            health: "none".to_owned(),
            pool: String::new(),
        };
        backends
            .iter()
            .fold(setup, |setup, backend| setup.host(backend.address()))
    }

    /// One more host.
    pub(crate) fn host(mut self, address: SocketAddr) -> Self {
        self.hosts.push(format!("\"{address}\""));
        self
    }

    /// One more host, in the syntax of the file.
    pub(crate) fn host_entry(mut self, entry: &str) -> Self {
        self.hosts.push(entry.to_owned());
        self
    }

    pub(crate) fn algorithm(mut self, algorithm: &str) -> Self {
        self.algorithm = algorithm.to_owned();
        self
    }

    /// The health check, such as `{ interval: 100ms, timeout: 50ms }`.
    pub(crate) fn health(mut self, check: &str) -> Self {
        self.health = check.to_owned();
        self
    }

    /// A further line of the pool.
    pub(crate) fn pool(mut self, line: &str) -> Self {
        self.pool.push_str(&format!("    {line}\n"));
        self
    }

    /// A further line at the top level of the file. A line that begins with `listeners` replaces the listener.
    pub(crate) fn top(mut self, line: &str) -> Self {
        self.top.push_str(&format!("{line}\n"));
        self
    }

    /// The same with other text in the lines at the top level.
    pub(crate) fn replacing(mut self, text: &str, by: &str) -> Self {
        self.top = self.top.replace(text, by);
        self
    }

    pub(crate) fn yaml(&self) -> String {
        let listeners = if self.top.contains("listeners:") {
            String::new()
        } else {
            format!("listeners: [\"{LISTEN}\"]\n")
        };
        format!(
            "{listeners}{}pools:\n  web:\n    algorithm: {}\n    hosts: [{}]\n    health_check: {}\n{}",
            self.top,
            self.algorithm,
            self.hosts.join(", "),
            self.health,
            self.pool
        )
    }

    #[track_caller]
    pub(crate) fn start(&self) -> Ballast {
        Ballast::start(&self.yaml())
    }
}
