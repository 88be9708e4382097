//! How a successor is started: the same program with the same arguments.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use std::{env, path};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// The argument that makes a process a successor.
const UPGRADE: &str = "--upgrade";

/// The program that runs, as it was called.
#[derive(Debug, Clone)]
pub(in crate::server) struct Program {
    path: PathBuf,
    arguments: Vec<OsString>,
}

impl Program {
    /// The program of this process. To be asked at its start: afterwards another file may have taken the place of its
    /// own, which is then what a successor runs.
    pub(in crate::server) fn running() -> io::Result<Self> {
        let mut arguments = env::args_os();
        let called = arguments.next().map(PathBuf::from).unwrap_or_default();
        // The path that it was called by may be a link to what is the current version.
        let by_path = called.components().count() > 1;
        let path = match by_path.then(|| path::absolute(&called)) {
            Some(Ok(path)) if path.exists() => path,
            _ => env::current_exe()?,
        };
        let mut arguments: Vec<_> = arguments.collect();
        if !arguments.iter().any(|argument| argument == UPGRADE) {
            arguments.push(UPGRADE.into());
        }
        Ok(Program { path, arguments })
    }

    /// Starts a successor, with this process's environment and log.
    pub(super) fn start(&self) -> Result<Started, String> {
        let mut command = Command::new(&self.path);
        command.args(&self.arguments).stdin(Stdio::null());
        match command.spawn() {
            Ok(child) => Ok(Started {
                child: Some(child),
                patience: None,
            }),
            Err(error) => Err(format!("cannot start {}: {error}", self.path().display())),
        }
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

/// A successor that was started here. Dropping it ends it, unless it was [let go](Started::let_go).
#[derive(Debug)]
pub(super) struct Started {
    child: Option<Child>,
    /// How long its requests may run on, if it may have some.
    patience: Option<Duration>,
}

impl Started {
    pub(super) fn pid(&self) -> Option<u32> {
        self.child.as_ref()?.id()
    }

    /// Waits for its end and says how it ended.
    pub(super) async fn ended(&mut self) -> String {
        let Some(child) = &mut self.child else {
            return std::future::pending().await;
        };
        match child.wait().await {
            Ok(status) => format!("the successor has ended ({status}); its own lines say why"),
            Err(error) => format!("the successor is lost: {error}"),
        }
    }

    /// From now on it may have connections, so it is asked to go before it is killed.
    pub(super) fn may_serve(&mut self, patience: Duration) {
        self.patience = Some(patience);
    }

    /// It stands on its own.
    pub(super) fn let_go(mut self) {
        self.child = None;
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let Some(mut child) = self.child.take() else {
            return;
        };
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
        match (self.patience, pid) {
            (Some(patience), Some(pid)) => {
                let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
                tokio::spawn(async move {
                    if timeout(patience, child.wait()).await.is_err() {
                        let _ = child.kill().await;
                    }
                });
            }
            // Tokio waits for a child that nobody holds any more.
            _ => drop(child.start_kill()),
        }
    }
}
