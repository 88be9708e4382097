//! The pid file, and notifications to systemd.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::{Path, PathBuf};
use std::process;
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

/// The file with the id of the serving process. [`remove`](PidFile::remove) keeps it if it names another process.
#[derive(Debug)]
pub(super) struct PidFile(PathBuf);

impl PidFile {
    pub(super) fn new(path: PathBuf) -> Self {
        PidFile(path)
    }

    /// Writes this process's id, in one step. The old content is a predecessor's, running or dead.
    ///
    /// # Errors
    /// One line for a person.
    pub(super) fn write(&self) -> Result<(), String> {
        let error_text =
            |error: io::Error| format!("cannot write the pid file {}: {error}", self.0.display());
        let name = self.0.file_name().unwrap_or_default().to_string_lossy();
        let temporary = self.0.with_file_name(format!(".{name}.{}", process::id()));
        fs::write(&temporary, pid_line()).map_err(error_text)?;
        fs::rename(&temporary, &self.0).map_err(|error| {
            let _ = fs::remove_file(&temporary);
            error_text(error)
        })
    }

    /// Removes the file if it names this process.
    pub(super) fn remove(&self) {
        if names_this_process(&self.0) {
            let _ = fs::remove_file(&self.0);
        }
    }
}

fn names_this_process(path: &Path) -> bool {
    fs::read_to_string(path).is_ok_and(|text| text == pid_line())
}

fn pid_line() -> String {
    format!("{}\n", process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pid_file_is_removed_only_by_its_own_process() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pid");
        fs::write(&path, "1\n").unwrap();
        let file = PidFile::new(path.clone());
        file.remove();
        assert!(path.exists());
        file.write().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), pid_line());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        file.remove();
        assert!(!path.exists());
    }

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
