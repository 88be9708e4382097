//! `server`: the process itself.

use std::num::NonZeroUsize;
use std::path::{Component, PathBuf};
use std::thread;
use std::time::Duration;

use serde_json::json;

use super::document::Node;
use super::hints::quote;
use super::scalars;
use super::schema::{Reader, Scalar, choice, or_zero, scalar, section, time_or_zero};

/// Far beyond any machine; more would end in an abort when the threads are made.
const MAX_THREADS: usize = 1_024;

/// Bytes of a Unix socket's path that the kernel takes: `sun_path` without its final zero.
const MAX_SOCKET_PATH: usize = 107;

section! {
    /// The process itself.
    pub struct Server: Eq {
        /// Threads that serve requests; 0 stands for one per core.
        threads: usize { threads(), default "0", new_process },
        /// What drives requests to hosts of HTTP/1.1, whatever the client speaks. `pingora` costs two to three times the CPU
        /// per request of `engine`, and a tunnel stalls while a host reads nothing until its own bytes are read. Requests to
        /// hosts of HTTP/2 and calls of gRPC are always driven by Pingora.
        http1: Http1 { choice(&[("engine", Http1::Engine), ("pingora", Http1::Pingora)]), default "engine" },
        /// How long requests may go on when the process stops.
        grace_period: Duration { time_or_zero(), default "30s" },
        /// How long a process that was told to stop still serves while its /ready answers 503.
        drain_delay: Duration { time_or_zero(), default "0s" },
        /// How often the files of TLS are looked at, also behind symbolic links: certificates, keys, authorities, revocation
        /// lists and the secret of session tickets, those for hosts included. A changed certificate is used from the next
        /// handshake on, once its key fits, its chain is whole and in order, and today is within its dates; until then the old
        /// one serves, with the reason in the log. 0s: only a reload reads them.
        certificate_check: Option<Duration> { or_zero(time_or_zero()), default "10s" },
        /// The file with the process id of the serving process. Without these three keys the files are in
        /// $RUNTIME_DIRECTORY (set by systemd), /run/ballast, $XDG_RUNTIME_DIR/ballast or a directory of the user's own,
        /// the first that can be written, and are named after the configuration file, so that two instances with
        /// different files do not meet. A pid file that cannot be written is a warning in the log.
        pid_file: Option<PathBuf> { path(usize::MAX), optional "/run/ballast/ballast.pid", new_process },
        /// The Unix socket for commands such as `ballast reload`; only its owner and root may use it.
        control_socket: Option<PathBuf> { path(MAX_SOCKET_PATH), optional "/run/ballast/ballast.sock", new_process },
        /// The Unix socket where a successor gets the listeners; only its owner and root may use it.
        upgrade_socket: Option<PathBuf> { path(MAX_SOCKET_PATH), optional "/run/ballast/ballast.upgrade", new_process },
    }
    check paths_differ;
}

/// `server.http1`: what drives requests to hosts of HTTP/1.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Http1 {
    /// The engine.
    Engine,
    /// Pingora.
    Pingora,
}

/// Zero becomes the number of cores.
fn threads() -> Scalar<usize> {
    let cores = || thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let read = move |text: &str| {
        let count = scalars::whole(text, 0..=MAX_THREADS)?;
        Ok(if count == 0 { cores() } else { count })
    };
    scalar(
        format!("a whole number from 0 to {MAX_THREADS}"),
        read,
        |count| json!(count),
    )
    .with_schema(json!({ "type": "integer", "minimum": 0, "maximum": MAX_THREADS }))
}

/// The path of a file that the process makes.
pub(super) fn path(max_bytes: usize) -> Scalar<PathBuf> {
    let phrase = "the path of a file";
    scalar(
        phrase,
        |text| Ok(PathBuf::from(text)),
        |path: &PathBuf| json!(path),
    )
    .reading(move |text, reader| resolve(text, max_bytes, reader))
}

/// The path that `text` stands for.
pub(super) fn resolve(
    text: &str,
    max_bytes: usize,
    reader: &Reader<'_>,
) -> Result<PathBuf, String> {
    if text.is_empty() || text.ends_with('/') {
        return Err(format!("{} is not the path of a file", quote(text)));
    }
    if text.contains('\0') {
        return Err(format!("{} has a zero byte in it", quote(text)));
    }
    let path = reader.file(text);
    let bytes = path.as_os_str().len();
    if bytes > max_bytes {
        return Err(format!(
            "{} has {bytes} bytes; the path of a socket may have {max_bytes}",
            quote(&path.display().to_string())
        ));
    }
    Ok(path)
}

fn paths_differ(server: &mut Server, map: &Node, reader: &mut Reader<'_>) {
    let paths = [
        ("pid_file", &server.pid_file),
        ("control_socket", &server.control_socket),
        ("upgrade_socket", &server.upgrade_socket),
    ];
    for (number, (key, path)) in paths.iter().enumerate() {
        let mut earlier = paths[..number].iter();
        if path.is_some()
            && let Some((first, _)) = earlier.find(|(_, other)| is_same_path(other, path))
        {
            let message = format!("this is the path of server.{first} already");
            reader.problem_of_key(map, key, message);
        }
    }
}

/// Compares the components, since `a//b` and `a/./b` are one file.
fn is_same_path(one: &Option<PathBuf>, other: &Option<PathBuf>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => {
            let parts = |path: &PathBuf| {
                let parts = path.components().filter(|part| *part != Component::CurDir);
                parts
                    .map(|part| part.as_os_str().to_owned())
                    .collect::<Vec<_>>()
            };
            parts(one) == parts(other)
        }
        _ => false,
    }
}
