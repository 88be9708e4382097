//! Notifications to systemd.
//!
//! Written by hand: the crate `sd-notify` 0.5 does not send to abstract sockets (`@name`).

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use log::warn;
use nix::time::{ClockId, clock_gettime};

/// Sends a notification to systemd, if it started this process; see sd_notify(3). Errors are logged.
pub(super) fn notify(state: &str) {
    let Some(socket) = env::var_os("NOTIFY_SOCKET").filter(|socket| !socket.is_empty()) else {
        return;
    };
    if let Err(error) = send(&socket, state) {
        warn!("cannot notify {}: {error}", socket.display());
    }
}

/// Notifies systemd that an in-place reload begins; `READY=1` ends it. A unit with Type=notify-reload waits for both.
pub(super) fn notify_reloading() {
    // Every Linux has this clock. systemd matches the notification to its reload request by the time.
    if let Ok(now) = clock_gettime(ClockId::CLOCK_MONOTONIC) {
        let now = Duration::from(now).as_micros();
        notify(&format!("RELOADING=1\nMONOTONIC_USEC={now}"));
    }
}

fn send(socket: &OsStr, state: &str) -> io::Result<()> {
    let address = match socket.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        path => SocketAddr::from_pathname(OsStr::from_bytes(path))?,
    };
    let sender = UnixDatagram::unbound()?;
    sender.send_to_addr(state.as_bytes(), &address).map(drop)
}

#[cfg(test)]
mod tests {
    use std::process;

    use super::*;

    #[test]
    fn notifications_reach_both_kinds_of_sockets() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let by_path = UnixDatagram::bind(&path).unwrap();
        let name = format!("ballast-test-{}", process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let by_name = UnixDatagram::bind_addr(&address).unwrap();
        let abstract_name = format!("@{name}");
        for (socket, receiver) in [
            (path.as_os_str(), by_path),
            (OsStr::new(&abstract_name), by_name),
        ] {
            send(socket, "READY=1").unwrap();
            let mut text = [0; 16];
            let length = receiver.recv(&mut text).unwrap();
            assert_eq!(&text[..length], b"READY=1");
        }
    }
}
