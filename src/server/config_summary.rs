//! A configuration in one line for the log: which file, which listeners, how many hosts.

use std::fmt::Display;
use std::path::{self, Path};

use crate::config::Config;

/// The file, the listeners, and the numbers of pools and hosts.
pub(super) fn summarize(config: &Config, file: Option<&Path>) -> String {
    let file = match file {
        Some(file) => {
            let absolute = path::absolute(file);
            let file = absolute.as_deref().unwrap_or(file);
            format!("configuration {}", file.display())
        }
        None => "built-in configuration".to_owned(),
    };
    let listeners = config.listeners.iter().map(|listener| {
        let tls = if listener.tls.is_some() { " (TLS)" } else { "" };
        format!("{}{tls}", listener.address)
    });
    let listeners = Vec::from_iter(listeners).join(", ");
    let admin = match config.admin.address {
        Some(address) => format!("admin {address}"),
        None => "no admin address".to_owned(),
    };
    let hosts = config.pools.iter().map(|pool| pool.members.len()).sum();
    let sources = config.pools.iter().map(|pool| pool.sources().count()).sum();
    let (pools, hosts) = (count(config.pools.len(), "pool"), count(hosts, "host"));
    let sources = match sources {
        0 => String::new(),
        _ => format!(" and {}", count(sources, "source")),
    };
    format!("{file}; listeners {listeners}; {admin}; {pools} with {hosts}{sources}")
}

fn count(number: usize, what: &str) -> impl Display {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}
