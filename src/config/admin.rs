//! `admin`: the TCP listener for operators and monitoring.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde_json::json;

use super::hints::quote;
use super::host_port;
use super::listener;
use super::schema::{Reader, Scalar, choice, file, list, map_of, scalar, section, whole};
use super::secret::{self, Secret};

section! {
    /// `admin`: the TCP listener for operators and monitoring.
    pub struct Admin: Eq {
        /// The address to listen on.
        address: Option<SocketAddr> { listener::address(), optional "127.0.0.1:9901", new_process },
        /// A file with the token for changes: one word of at least 16 bytes, in a file that only its owner may read.
        /// Requests with `Authorization: Bearer TOKEN` may then change something. Without it they cannot; over the
        /// control socket the owner of the process always can.
        token_file: Option<Secret> { token(), optional "/etc/ballast/admin.token" },
        /// Host names that requests may ask for, beside IP addresses and localhost. Others get 403, so that no web page
        /// can reach the API through a name of its own.
        hosts: Vec<String> { list("host names", name()), default "[]" },
        /// When /ready answers 200.
        ready: Ready { map_of::<Ready>(), default "{}" },
        /// What /metrics shows.
        metrics: AdminMetrics { map_of::<AdminMetrics>(), default "{}" },
    }
}

section! {
    /// When /ready answers 200.
    pub struct Ready: Copy, Eq {
        /// Usable hosts that each pool must have; with fewer /ready answers 503.
        usable: usize { whole(0..=usize::MAX), default "0" },
    }
}

section! {
    /// What /metrics shows.
    pub struct AdminMetrics: Copy, Eq {
        /// How much is shown of each host. `full`: statuses, reasons and durations, some 100 lines for each host.
        /// `brief`: fewer than 10 lines for each host, and statuses, reasons and durations by pool, with `host="*"`.
        /// `auto`: `brief` from 500 hosts on.
        hosts: HostMetrics {
            choice(&[
                ("auto", HostMetrics::Auto),
                ("full", HostMetrics::Full),
                ("brief", HostMetrics::Brief),
            ]),
            default "auto"
        },
    }
}

/// How much the metrics show of each host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum HostMetrics {
    /// Everything for few hosts, little for many.
    #[default]
    Auto,
    /// Statuses, reasons and durations by host.
    Full,
    /// Statuses, reasons and durations by pool.
    Brief,
}

/// A token that can stand in a header field.
fn token() -> Scalar<Secret> {
    let read = |path: PathBuf, reader: &Reader<'_>| {
        let token = secret::private_secret(&path, reader.environment)?;
        match token.bytes.iter().all(u8::is_ascii_graphic) {
            true => Ok(token),
            false => Err(format!(
                "`{}` must hold one word of visible ASCII characters",
                token.file.display()
            )),
        }
    };
    file("the path of a file", read, |token: &Secret| {
        json!(token.file)
    })
}

/// A host name without port.
fn name() -> Scalar<String> {
    let read = |text: &str| match host_port::is_name(text) {
        true => Ok(text.to_lowercase()),
        false => Err(format!(
            "{} is not a host name without port; IP addresses need not be listed",
            quote(text)
        )),
    };
    scalar("a host name without port", read, |name| json!(name))
}
