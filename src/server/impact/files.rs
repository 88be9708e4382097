//! What a configuration needs of the file system and lacks.

use std::path::Path;

use nix::unistd::{AccessFlags, access};

use crate::config::Config;
use crate::server::config_check;

/// One line for each file that a process with `after` could not use.
pub(super) fn obstacles(before: &Config, after: &Config) -> Vec<String> {
    let checked = config_check::check(after).map_err(|error| error.to_string());
    let sockets = [
        (
            "server.control_socket",
            &before.server.control_socket,
            &after.server.control_socket,
        ),
        (
            "server.upgrade_socket",
            &before.server.upgrade_socket,
            &after.server.upgrade_socket,
        ),
    ];
    let changed = sockets.iter().filter(|(_, before, after)| before != after);
    let unusable = changed.filter_map(|(key, _, socket)| {
        let directory = socket.as_ref()?.parent()?;
        cannot_create_in(directory).map(|reason| format!("{key}: {reason}"))
    });
    checked.err().into_iter().chain(unusable).collect()
}

/// Why no file can be created in a directory.
fn cannot_create_in(directory: &Path) -> Option<String> {
    let directory = match directory.as_os_str().is_empty() {
        true => Path::new("."),
        false => directory,
    };
    let shown = directory.display();
    let denied = access(directory, AccessFlags::W_OK | AccessFlags::X_OK);
    denied
        .err()
        .map(|error| format!("nothing can be created in {shown}: {}", error.desc()))
}
