//! Starts a successor: the same program with the same arguments, in two stages.
//!
//! systemd waits only for a main process that is its own child, and the successor would be the predecessor's. So the first
//! stage starts the successor and exits at once; the successor becomes a child of systemd, or of another process that
//! adopts orphans. The predecessor cannot wait for it then, so both stages have a *lifeline* as their standard input: a
//! socket whose other end the predecessor holds, and which closes with the last process that has it.
//! ```text
//!     first stage       →   the pid of the successor; then it exits
//!     the successor    ←    the path of the upgrade socket, to which it must connect
//!                      →    if it cannot start: the reason, as text
//! ```
//! A successor that reads end-of-file instead was given up by its predecessor, and ends.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::process::{self, Stdio};
use std::time::Duration;
use std::{env, path};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// The argument that makes a process a successor.
const UPGRADE_ARGUMENT: &str = "--upgrade";

/// The environment variable that names the stage of a process.
const STAGE_VARIABLE: &str = "BALLAST_HANDOVER_STAGE";
const FIRST_STAGE: &str = "first";
const SECOND_STAGE: &str = "second";

/// The first stage takes milliseconds.
const FIRST_STAGE_TIMEOUT: Duration = Duration::from_secs(5);

/// The longest path that is read from the lifeline; PATH_MAX of Linux.
const MAX_PATH: u32 = 4096;

/// The longest reason that is written to the lifeline and read from it, in bytes. The buffer of a socket takes it at once.
const MAX_REASON: usize = 4096;

/// Call it before anything else in a process with `--upgrade`. In the first stage it starts the second and does not
/// return; in the second it returns the upgrade socket to connect to. `None`: an operator started this process.
///
/// # Errors
/// One line for a person; the process has to end.
pub(in crate::server) fn run_stage() -> Result<Option<PathBuf>, String> {
    match env::var_os(STAGE_VARIABLE)
        .as_deref()
        .and_then(OsStr::to_str)
    {
        Some(FIRST_STAGE) => match start_second() {
            Ok(()) => process::exit(0),
            Err(error) => Err(format!("cannot start the second stage: {error}")),
        },
        Some(SECOND_STAGE) => match read_socket_path() {
            Ok(path) => Ok(Some(path)),
            Err(_) => Err("the predecessor has given this process up".to_owned()),
        },
        _ => Ok(None),
    }
}

fn start_second() -> io::Result<()> {
    let Program { path, arguments } = Program::running()?;
    // This process and its child share the lifeline as standard input.
    let mut lifeline = StdUnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let mut second = process::Command::new(path);
    let second = second
        .args(arguments)
        .env(STAGE_VARIABLE, SECOND_STAGE)
        .spawn()?;
    lifeline.write_all(&second.id().to_be_bytes())
}

fn read_socket_path() -> io::Result<PathBuf> {
    let mut stdin = io::stdin().lock();
    let mut length = [0; 4];
    stdin.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length);
    if length > MAX_PATH {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut path = vec![0; length as usize];
    stdin.read_exact(&mut path)?;
    Ok(OsString::from_vec(path).into())
}

/// Tells the predecessor why this process, which is in the second stage, cannot start. A predecessor that has gone or
/// does not read needs no answer.
pub(super) fn report_failure(reason: &str) {
    let stdin = io::stdin().as_fd().try_clone_to_owned();
    let Ok(mut lifeline) = stdin.map(StdUnixStream::from) else {
        return;
    };
    let reason = &reason.as_bytes()[..reason.len().min(MAX_REASON)];
    let _ = lifeline.set_nonblocking(true);
    let _ = lifeline.write_all(reason);
}

/// The running program and its arguments.
#[derive(Debug, Clone)]
pub(in crate::server) struct Program {
    path: PathBuf,
    arguments: Vec<OsString>,
}

impl Program {
    /// The program of this process. Call it at start: a later upgrade may replace the file, and a successor runs the
    /// new one.
    pub(in crate::server) fn running() -> io::Result<Self> {
        let mut arguments = env::args_os();
        let invoked = arguments.next().map(PathBuf::from).unwrap_or_default();
        // The invoked path may be a link to the current version.
        let by_path = invoked.components().count() > 1;
        let path = match by_path.then(|| path::absolute(&invoked)) {
            Some(Ok(path)) if path.exists() => path,
            _ => env::current_exe()?,
        };
        let mut arguments: Vec<_> = arguments.collect();
        if !arguments
            .iter()
            .any(|argument| argument == UPGRADE_ARGUMENT)
        {
            arguments.push(UPGRADE_ARGUMENT.into());
        }
        Ok(Program { path, arguments })
    }

    /// The binary that a successor runs.
    pub(in crate::server) fn path(&self) -> &Path {
        &self.path
    }

    /// Starts a successor with this process's environment and log, and lets it connect to `upgrade_socket`. Dropping
    /// the future ends the started process.
    pub(super) async fn start(&self, upgrade_socket: &Path) -> Result<SuccessorProcess, String> {
        let cannot = |error: io::Error| format!("cannot start {}: {error}", self.path.display());
        let (mut first, mut lifeline) = self.start_first().map_err(cannot)?;
        let stage = async {
            let pid = lifeline.read_i32().await;
            // Once the first stage has ended, the successor is a child of systemd or of init.
            let status = first.wait().await.map_err(cannot)?;
            match pid {
                Ok(pid) => Ok(Pid::from_raw(pid)),
                Err(_) => Err(format!(
                    "the successor has ended ({status}); its own log lines say why"
                )),
            }
        };
        let timed_out = |_| format!("{} was started but does not respond", self.path.display());
        let pid = timeout(FIRST_STAGE_TIMEOUT, stage)
            .await
            .map_err(timed_out)??;
        let mut started = SuccessorProcess {
            pid,
            lifeline: Some(lifeline),
            reason: Vec::new(),
            grace: None,
        };
        started
            .send_socket_path(upgrade_socket)
            .await
            .map_err(cannot)?;
        Ok(started)
    }

    /// Starts the first stage, which is killed when dropped, and returns it with the lifeline.
    fn start_first(&self) -> io::Result<(Child, UnixStream)> {
        let (ours, theirs) = StdUnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let lifeline = UnixStream::from_std(ours)?;
        let first = Command::new(&self.path)
            .args(&self.arguments)
            .env(STAGE_VARIABLE, FIRST_STAGE)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .kill_on_drop(true)
            .spawn()?;
        Ok((first, lifeline))
    }
}

/// A started successor. Dropping it ends the process, unless it was [detached](SuccessorProcess::detach).
#[derive(Debug)]
pub(super) struct SuccessorProcess {
    pid: Pid,
    lifeline: Option<UnixStream>,
    /// Why it could not start, as far as it has told.
    reason: Vec<u8>,
    /// How long its requests may finish, if it may have some; `None`: it has none yet.
    grace: Option<Duration>,
}

impl SuccessorProcess {
    pub(super) fn pid(&self) -> Pid {
        self.pid
    }

    /// Waits for the end of the process and describes it. May be cancelled and called again.
    pub(super) async fn wait_for_exit(&mut self) -> String {
        if let Some(lifeline) = &mut self.lifeline {
            read_to_end(lifeline, &mut self.reason).await;
        }
        match String::from_utf8_lossy(&self.reason).trim() {
            "" => "the successor has ended; its own log lines say why".to_owned(),
            reason => format!("the successor has ended: {reason}"),
        }
    }

    /// From now on the process may have connections, so it gets SIGTERM before SIGKILL.
    pub(super) fn set_grace(&mut self, grace: Duration) {
        self.grace = Some(grace);
    }

    /// Lets the process live on its own.
    pub(super) fn detach(mut self) {
        self.lifeline = None;
    }

    pub(super) fn kill(mut self) {
        if let Some(lifeline) = self.lifeline.take() {
            send_signal(self.pid, &lifeline, Signal::SIGKILL);
        }
    }

    async fn send_socket_path(&mut self, upgrade_socket: &Path) -> io::Result<()> {
        let Some(lifeline) = &mut self.lifeline else {
            return Ok(());
        };
        let upgrade_socket = upgrade_socket.as_os_str().as_bytes();
        lifeline.write_u32(upgrade_socket.len() as u32).await?;
        lifeline.write_all(upgrade_socket).await
    }
}

impl Drop for SuccessorProcess {
    fn drop(&mut self) {
        let Some(mut lifeline) = self.lifeline.take() else {
            return;
        };
        let pid = self.pid;
        let Some(grace) = self.grace else {
            send_signal(pid, &lifeline, Signal::SIGKILL);
            return;
        };
        send_signal(pid, &lifeline, Signal::SIGTERM);
        tokio::spawn(async move {
            let mut unread = Vec::new();
            let ended = read_to_end(&mut lifeline, &mut unread);
            if timeout(grace, ended).await.is_err() {
                send_signal(pid, &lifeline, Signal::SIGKILL);
            }
        });
    }
}

/// Waits until the last process has closed the other end, and keeps up to [`MAX_REASON`] bytes of what comes until then.
async fn read_to_end(lifeline: &mut UnixStream, received: &mut Vec<u8>) {
    let mut chunk = [0; 512];
    while let Ok(count @ 1..) = lifeline.read(&mut chunk).await {
        let left = MAX_REASON.saturating_sub(received.len());
        received.extend_from_slice(&chunk[..count.min(left)]);
    }
}

/// Sends a signal to the process at the other end of `lifeline`, if it lives. The pid could be reused only if the
/// process ended and all other pids were used up between the check and the signal.
pub(super) fn send_signal(pid: Pid, lifeline: &impl AsFd, signal: Signal) {
    // What the process has written before its end may not have been read.
    let mut ends = [PollFd::new(lifeline, PollFlags::empty())];
    let polled = poll(&mut ends, Some(&Timespec::default()));
    if polled.is_err() || !ends[0].revents().contains(PollFlags::HUP) {
        let _ = kill(pid, signal);
    }
}
