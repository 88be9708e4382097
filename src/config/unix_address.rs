//! Addresses of Unix sockets: `unix:/run/app.sock`.

use super::document::Node;
use super::hints::quote;
use super::listener::Listener;
use super::pool::Pool;
use super::root::Config;
use super::schema::Reader;
use ballast_balancer::HostAddress;

/// The address of a Unix socket; `None` if `text` is not meant as one.
///
/// # Errors
/// It cannot be one.
pub(super) fn unix_address(text: &str) -> Option<Result<HostAddress, String>> {
    let shown = quote(text);
    if text.starts_with('/') {
        return Some(Err(format!(
            "{shown} is a path; did you mean the Unix socket `unix:{}`?",
            text.escape_debug()
        )));
    }
    let parse = || text.parse().map_err(|error| format!("{shown}: {error}"));
    HostAddress::names_unix_socket(text).then(parse)
}

/// The name by which a host with this address is known: an IP address, or the whole text of a Unix socket's address.
pub(super) fn name_of(address: &HostAddress) -> String {
    match address {
        HostAddress::Inet(address) => address.ip().to_string(),
        HostAddress::Unix(_) => address.to_string(),
    }
}

/// Reports listeners at the path of one of the process's own sockets, which would replace each other.
pub(super) fn differ_from_own_sockets(config: &Config, root: &Node, reader: &mut Reader<'_>) {
    let own = [
        ("control_socket", &config.server.control_socket),
        ("upgrade_socket", &config.server.upgrade_socket),
    ];
    for (key, path) in own {
        let is_taken =
            |listener: &Listener| path.is_some() && listener.address.as_unix() == path.as_deref();
        let index = config.listeners.iter().position(is_taken);
        if let (Some(index), Some(server)) = (index, root.get("server")) {
            let message = format!("this is the path of listeners[{index}]");
            reader.in_key("server", |reader| {
                reader.problem_of_key(server, key, message);
            });
        }
    }
}

/// Reports TLS to a Unix socket of which it is not known which name the certificate has.
pub(super) fn server_name_is_known(pool: &Pool, map: &Node, reader: &mut Reader<'_>) {
    let unnamed = pool
        .tls
        .as_ref()
        .is_some_and(|tls| tls.server_name.is_none());
    let mut sockets = pool
        .members
        .iter()
        .filter(|host| host.address.port().is_none());
    if let Some(host) = sockets.next().filter(|_| unnamed) {
        let id = quote(host.id.as_str());
        let message = format!(
            "the Unix socket {id} has no name for TLS; say which one its certificate has, with `server_name`"
        );
        reader.problem_of_key(map, "tls", message);
    }
}
