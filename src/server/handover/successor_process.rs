//! How a successor is started: the same program with the same arguments, in two stages.
//!
//! systemd waits only for the end of a main process that is its own child, and the successor would be the predecessor's.
//! So what is started here starts the successor and ends at once; the successor becomes a child of systemd, or of whoever
//! adopts orphans. Nobody here can wait for it then, so both stages have a *lifeline* as their standard input: a socket
//! whose other end the predecessor holds, and which ends with the last process that has it.
//! ```text
//!     first stage       →   the id of the successor; then it ends
//!     the successor    ←    the upgrade socket, to which it has to come
//! ```
//! A successor that hears nothing was given up before it began, and ends.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::process::{self, Stdio};
use std::time::Duration;
use std::{env, path};

use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{MsgFlags, recv};
use nix::unistd::Pid;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// The argument that makes a process a successor.
const UPGRADE_ARGUMENT: &str = "--upgrade";

/// The variable of the environment that tells a process which stage it is.
const STAGE_VARIABLE: &str = "BALLAST_HANDOVER_STAGE";
const FIRST_STAGE: &str = "first";
const SECOND_STAGE: &str = "second";

/// The first stage takes milliseconds.
const FIRST_STAGE_TIMEOUT: Duration = Duration::from_secs(5);

/// The longest path that is taken from the lifeline; the kernel's limit.
const MAX_PATH: u32 = 4096;

/// To be called by a process with `--upgrade` before anything else. In the first stage it starts the second and does not
/// return; in the second it returns the upgrade socket to come to. `None`: this process was started by hand.
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
    // Both this process and its child have the lifeline as their standard input.
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
        let invoked = arguments.next().map(PathBuf::from).unwrap_or_default();
        // The path that it was called by may be a link to what is the current version.
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

    /// Starts a successor, with this process's environment and log, and lets it come to the upgrade socket `upgrade_socket`.
    /// Dropping the future ends what has been started.
    pub(super) async fn start(&self, upgrade_socket: &Path) -> Result<SuccessorProcess, String> {
        let cannot = |error: io::Error| format!("cannot start {}: {error}", self.path.display());
        let (mut first, mut lifeline) = self.start_first().map_err(cannot)?;
        let stage = async {
            let pid = lifeline.read_i32().await;
            // From here on the successor is somebody else's child.
            let status = first.wait().await.map_err(cannot)?;
            match pid {
                Ok(pid) => Ok(Pid::from_raw(pid)),
                Err(_) => Err(format!(
                    "the successor has ended ({status}); its own lines say why"
                )),
            }
        };
        let timed_out = |_| format!("{} was started and says nothing", self.path.display());
        let pid = timeout(FIRST_STAGE_TIMEOUT, stage)
            .await
            .map_err(timed_out)??;
        let mut started = SuccessorProcess {
            pid,
            lifeline: Some(lifeline),
            grace: None,
        };
        started
            .send_socket_path(upgrade_socket)
            .await
            .map_err(cannot)?;
        Ok(started)
    }

    /// The first stage, killed when dropped, and the lifeline.
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

/// A successor that was started here. Dropping it ends it, unless it was [let go](SuccessorProcess::detach).
#[derive(Debug)]
pub(super) struct SuccessorProcess {
    pid: Pid,
    lifeline: Option<UnixStream>,
    /// How long its requests may run on, if it may have some.
    grace: Option<Duration>,
}

impl SuccessorProcess {
    pub(super) fn pid(&self) -> Pid {
        self.pid
    }

    /// Waits for its end and says what is known of it.
    pub(super) async fn wait_for_exit(&mut self) -> String {
        if let Some(lifeline) = &mut self.lifeline {
            wait_for_eof(lifeline).await;
        }
        "the successor has ended; its own lines say why".to_owned()
    }

    /// From now on it may have connections, so it is asked to go before it is killed.
    pub(super) fn set_grace(&mut self, grace: Duration) {
        self.grace = Some(grace);
    }

    /// It stands on its own.
    pub(super) fn detach(mut self) {
        self.lifeline = None;
    }

    /// Kills it.
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
            if timeout(grace, wait_for_eof(&mut lifeline)).await.is_err() {
                send_signal(pid, &lifeline, Signal::SIGKILL);
            }
        });
    }
}

/// Waits until nobody has the other end any more.
async fn wait_for_eof(lifeline: &mut UnixStream) {
    let mut byte = [0];
    while lifeline.read(&mut byte).await.is_ok_and(|read| read > 0) {}
}

/// Sends a signal to the process that has the other end of `lifeline`, if it lives. It would have to end, and as many
/// processes to start as there are ids, between the look and the signal for that to meet another.
pub(super) fn send_signal(pid: Pid, lifeline: &impl AsRawFd, signal: Signal) {
    let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
    if recv(lifeline.as_raw_fd(), &mut [0], flags) != Ok(0) {
        let _ = kill(pid, signal);
    }
}
