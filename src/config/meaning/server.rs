//! `server`: the process itself.

use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use super::super::errors::Problems;
use super::super::model::{Http1, Server};
use super::super::place::Place;
use super::super::words::{choice, quote, time_or_zero, whole};
use super::super::yaml;
use super::World;

/// Far beyond any machine; more is a slip that would end in an abort when the threads are made.
const MOST_THREADS: usize = 1_024;

/// What the kernel takes as the path of a Unix socket, in bytes: `sun_path` less its final zero.
const LONGEST_SOCKET: usize = 107;

pub(super) fn server(
    said: yaml::Server,
    world: &World<'_>,
    place: &Place,
    problems: &mut Problems,
) -> Server {
    let yaml::Server {
        threads,
        http1,
        grace_period,
        drain_delay,
        pid_file,
        control_socket,
        upgrade_socket,
    } = said;
    let threads = problems.value(&place.key("threads"), threads.0, 0, |text| {
        whole(text, 0..=MOST_THREADS)
    });
    let choices = [("engine", Http1::Engine), ("pingora", Http1::Pingora)];
    let http1 = problems.value(&place.key("http1"), http1.0, Http1::Engine, |text| {
        choice(text, &choices)
    });
    let cores = || thread::available_parallelism().map_or(1, |cores| cores.get());
    let mut seconds = |key, said: yaml::Said<String>, default| {
        let default = Duration::from_secs(default);
        problems.value(&place.key(key), said.0, default, time_or_zero)
    };
    let grace_period = seconds("grace_period", grace_period, 30);
    let drain_delay = seconds("drain_delay", drain_delay, 0);
    let mut path = |key, said: yaml::Said<String>, longest| {
        problems.optional(&place.key(key), said.0, |text| path(text, world, longest))
    };
    let pid_file = path("pid_file", pid_file, usize::MAX);
    let control_socket = path("control_socket", control_socket, LONGEST_SOCKET);
    let upgrade_socket = path("upgrade_socket", upgrade_socket, LONGEST_SOCKET);
    let named = [
        ("pid_file", &pid_file),
        ("control_socket", &control_socket),
        ("upgrade_socket", &upgrade_socket),
    ];
    for (number, (key, path)) in named.iter().enumerate() {
        let mut earlier = named[..number].iter();
        if path.is_some()
            && let Some((first, _)) = earlier.find(|(_, other)| other == path)
        {
            problems.add(
                &place.key(key),
                format!("this is the path of server.{first} already"),
            );
        }
    }
    Server {
        threads: if threads == 0 { cores() } else { threads },
        http1,
        grace_period,
        drain_delay,
        pid_file,
        control_socket,
        upgrade_socket,
    }
}

/// Reads the path of a file that the process makes.
pub(super) fn path(text: &str, world: &World<'_>, longest: usize) -> Result<PathBuf, String> {
    if text.is_empty() || text.ends_with('/') {
        return Err(format!("{} is not the path of a file", quote(text)));
    }
    if text.contains('\0') {
        return Err(format!("{} has a zero byte in it", quote(text)));
    }
    let path = world.path(text);
    let length = path.as_os_str().len();
    if length > longest {
        return Err(format!(
            "{} has {length} bytes; the path of a socket may have {longest}",
            quote(&path.display().to_string())
        ));
    }
    Ok(path)
}
