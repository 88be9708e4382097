//! A process hands over to its successor: no request and no state is lost, and a failed handover does no harm.

mod binary;
mod changed_paths;
mod changes;
mod failures;
mod http2;
mod manual_successor;
mod notifications;
mod state;
mod successor_watch;
mod under_load;

use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::support::{Ballast, SOON, Setup, get, wait_until};

/// A process and the successors that it starts. All are killed when this is dropped.
pub(crate) struct Service {
    pub(crate) ballast: Ballast,
}

impl Service {
    #[track_caller]
    pub(crate) fn start(setup: &Setup) -> Self {
        Service::from_process(Ballast::start(&yaml(setup)))
    }

    #[track_caller]
    fn from_process(ballast: Ballast) -> Self {
        let service = Service { ballast };
        wait_until(SOON, "the pid file exists", || service.main_pid().is_some());
        service
    }

    fn main_pid(&self) -> Option<Pid> {
        let text = std::fs::read_to_string(self.ballast.path("pid")).ok()?;
        text.trim().parse().ok().map(Pid::from_raw)
    }

    /// The process that serves.
    #[track_caller]
    pub(crate) fn serving(&self) -> Pid {
        self.main_pid().expect("a process serves")
    }

    /// The processes that were started to take over, in order.
    fn successors(&self) -> Vec<Pid> {
        let lines = self.ballast.log_with(&["started the successor, process "]);
        let pid = |line: &String| line.rsplit(' ').next()?.parse().ok();
        lines.iter().filter_map(pid).map(Pid::from_raw).collect()
    }

    #[track_caller]
    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.serving(), signal).expect("the serving process exists");
    }

    /// A complete handover; returns the process that served before.
    #[track_caller]
    pub(crate) fn hand_over(&self) -> Pid {
        let before = self.serving();
        self.signal(Signal::SIGQUIT);
        wait_until(Duration::from_secs(30), "the successor serves", || {
            self.serving() != before
        });
        before
    }

    /// A handover that fails; returns the log line with the reason.
    #[track_caller]
    fn fail_to_hand_over(&self) -> String {
        let before = self.serving();
        let failures = self.failures();
        self.signal(Signal::SIGQUIT);
        wait_until(Duration::from_secs(30), "the handover fails", || {
            self.failures() > failures
        });
        assert_eq!(self.serving(), before);
        assert_eq!(get(self.ballast.address(), "/").status, 200);
        if let Some(&last) = self.successors().last() {
            wait_until(SOON, "the successor is gone", || is_gone(last));
        }
        let lines = self.ballast.log_with(&["no handover, serving on"]);
        lines.last().expect("the line was counted").clone()
    }

    fn failures(&self) -> usize {
        self.ballast.log_with(&["no handover, serving on"]).len()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let mut all = self.successors();
        all.extend(self.main_pid());
        for pid in all {
            if belongs_to(pid, &self.ballast) {
                let _ = kill(pid, Signal::SIGKILL);
            }
        }
    }
}

/// The notification socket of a stand-in for systemd.
struct Notifications {
    socket: UnixDatagram,
    path: PathBuf,
    _folder: TempDir,
}

impl Notifications {
    fn bind() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).expect("the folder can be written");
        Notifications {
            socket,
            path,
            _folder: folder,
        }
    }

    /// Starts a process that sends its notifications here.
    fn spawn(&self, setup: &Setup) -> Ballast {
        let variable = format!("NOTIFY_SOCKET={}", self.path.display());
        Ballast::spawn_with(&yaml(setup), &[&variable])
    }

    /// Waits for the next notification.
    #[track_caller]
    fn receive(&self) -> String {
        self.socket.set_nonblocking(false).expect("it is open");
        let timeout = self.socket.set_read_timeout(Some(SOON));
        timeout.expect("not zero");
        self.next().expect("a notification")
    }

    /// The notifications that have arrived and were not received yet.
    fn received(&self) -> Vec<String> {
        self.socket.set_nonblocking(true).expect("it is open");
        std::iter::from_fn(|| self.next()).collect()
    }

    fn next(&self) -> Option<String> {
        let mut text = [0; 256];
        let length = self.socket.recv(&mut text).ok()?;
        Some(String::from_utf8_lossy(&text[..length]).into_owned())
    }
}

/// The notification that makes `pid` the main process of the service.
fn main_process(pid: Pid) -> String {
    format!("MAINPID={pid}\nREADY=1")
}

/// The configuration, with the files of the process next to it.
pub(crate) fn yaml(setup: &Setup) -> String {
    let files = "server: { pid_file: pid, control_socket: control, upgrade_socket: run/upgrade }";
    setup.clone().top(files).yaml()
}

/// Whether the process has ended, including a zombie.
pub(crate) fn is_gone(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')')
        .next()
        .is_none_or(|rest| rest.trim().is_empty() || rest.trim_start().starts_with('Z'))
}

/// Another process may have the id by now.
fn belongs_to(pid: Pid, ballast: &Ballast) -> bool {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&line).contains(&ballast.file().display().to_string())
}
