//! The real binary: started with a file, watched, signalled, ended.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

use super::client::Client;
use super::http1::in_requested_mode;
use super::peers::peer;
use super::ports;
use super::wait::{SOON, wait_for, wait_until};

/// Placeholder in a configuration for the address of the listener.
pub(crate) const LISTEN: &str = "LISTEN";

/// A running `ballast`. It is killed when dropped, and prints its log if the test has failed.
pub(crate) struct Ballast {
    child: Child,
    address: SocketAddr,
    lines: Arc<Mutex<Vec<String>>>,
    exit: Option<ExitStatus>,
    folder: Arc<TempDir>,
}

/// A command that has ended.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ballast {
    /// Runs a configuration, in which [`LISTEN`] stands for the listener's address, and waits until it listens.
    #[track_caller]
    pub(crate) fn start(yaml: &str) -> Self {
        for _ in 0..5 {
            let mut ballast = Ballast::spawn(yaml);
            if ballast.listens_within(SOON) {
                // The control socket opens a moment after the listeners. Where the configuration names its path, the
                // test waits.
                if !yaml.contains("control_socket:") {
                    wait_until(SOON, "the control socket is open", || {
                        !ballast.is_running() || ballast.find_file(".sock").is_some()
                    });
                }
                // A separate service opens the admin listener, and reports a moment later that the process is ready.
                if let Some(admin) = admin_address(yaml) {
                    wait_until(SOON, "the process is ready", || {
                        match yaml.contains("ready:") {
                            // The hosts that readiness waits for may not be up yet.
                            true => TcpStream::connect(admin).is_ok(),
                            false => !ballast.is_running() || is_ready(admin),
                        }
                    });
                }
                return ballast;
            }
            let text = ballast.log().join("\n");
            assert!(
                text.contains("in use"),
                "ballast does not listen; its output:\n{text}\nwith\n{yaml}"
            );
        }
        panic!("five ports in a row were taken by somebody else");
    }

    /// Runs a configuration without waiting.
    pub(crate) fn spawn(yaml: &str) -> Self {
        Ballast::spawn_with(yaml, &[])
    }

    /// Runs a configuration with further arguments and environment variables (NAME=VALUE).
    pub(crate) fn spawn_with(yaml: &str, extra: &[&str]) -> Self {
        let (folder, address) = Ballast::folder_with(yaml);
        let file = folder.path().join("ballast.yaml");
        Ballast::spawn_file(&file, extra, address, Arc::new(folder))
    }

    fn folder_with(yaml: &str) -> (TempDir, SocketAddr) {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let address = ports::free();
        let text = yaml.replace(LISTEN, &address.to_string());
        file(folder.path(), "ballast.yaml", &text);
        (folder, address)
    }

    /// Runs a configuration by way of the link `name` next to the configuration, which leads to the program.
    pub(crate) fn spawn_link(yaml: &str, name: &str) -> Self {
        let (folder, address) = Ballast::folder_with(yaml);
        let link = folder.path().join(name);
        symlink(env!("CARGO_BIN_EXE_ballast"), &link).expect("the folder can be written");
        let mut command = Command::new(link);
        command
            .args(["run", "-c"])
            .arg(folder.path().join("ballast.yaml"));
        Ballast::spawn_command(command, address, Arc::new(folder))
    }

    /// Runs a configuration by the path that `arrange` returns, after `arrange` has prepared the folder with the
    /// configuration `ballast.yaml`. Waits until it listens.
    #[track_caller]
    pub(crate) fn start_with_path(yaml: &str, arrange: impl FnOnce(&Path) -> PathBuf) -> Self {
        let (folder, address) = Ballast::folder_with(yaml);
        let file = arrange(folder.path());
        Ballast::spawn_file(&file, &[], address, Arc::new(folder)).once_it_listens()
    }

    /// Runs a configuration in a folder with the files that it names, and waits until it listens. Further arguments and
    /// environment variables are as for [`spawn_with`](Self::spawn_with).
    #[track_caller]
    pub(crate) fn start_in(folder: TempDir, yaml: &str, extra: &[&str]) -> Self {
        let address = ports::free();
        let text = yaml.replace(LISTEN, &address.to_string());
        let path = file(folder.path(), "ballast.yaml", &text);
        Ballast::spawn_file(&path, extra, address, Arc::new(folder)).once_it_listens()
    }

    /// Waits until the process listens.
    #[track_caller]
    fn once_it_listens(mut self) -> Self {
        let listens = self.listens_within(SOON);
        let log = self.log().join("\n");
        assert!(listens, "ballast does not listen; its output:\n{log}");
        self
    }

    /// Runs a configuration as process 1 of a PID namespace, like in a container; `None` if that is not possible.
    pub(crate) fn spawn_as_process_1(yaml: &str) -> Option<Self> {
        let unshare = peer("unshare")?;
        let alone = ["--pid", "--fork", "--kill-child", "--"];
        let tried = Command::new(&unshare).args(alone).arg("true").output();
        if !tried.is_ok_and(|tried| tried.status.success()) {
            println!("skipped: no right to make a namespace of process ids");
            return None;
        }
        let through = [&["unshare"][..], &alone].concat();
        Some(Ballast::spawn_with_wrapper(yaml, &through))
    }

    /// Runs a configuration by a program that sets something up and then runs the command that follows its own
    /// arguments.
    pub(crate) fn spawn_with_wrapper(yaml: &str, through: &[&str]) -> Self {
        let (folder, address) = Ballast::folder_with(yaml);
        let mut command = Command::new(through[0]);
        command
            .args(&through[1..])
            .arg(env!("CARGO_BIN_EXE_ballast"))
            .args(["run", "-c"])
            .arg(folder.path().join("ballast.yaml"))
            .env("BALLAST_LOG", "info")
            .env_remove("RUST_LOG");
        Ballast::spawn_command(command, address, Arc::new(folder))
    }

    /// Its only child.
    #[track_caller]
    pub(crate) fn child(&self) -> Pid {
        let pid = self.pid();
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        let children = children.expect("the process runs");
        Pid::from_raw(children.trim().parse().expect("the process has one child"))
    }

    /// One more process with the same file, which takes over from this one.
    pub(crate) fn successor(&self) -> Self {
        self.successor_with(&[])
    }

    /// The same with further arguments.
    pub(crate) fn successor_with(&self, extra: &[&str]) -> Self {
        let folder = Arc::clone(&self.folder);
        let arguments = [&["--upgrade"], extra].concat();
        Ballast::spawn_file(&self.file(), &arguments, self.address, folder)
    }

    fn spawn_file(file: &Path, extra: &[&str], address: SocketAddr, folder: Arc<TempDir>) -> Self {
        let (args, variables): (Vec<&str>, Vec<&str>) =
            extra.iter().partition(|extra| extra.starts_with("--"));
        let run = [OsStr::new("run"), OsStr::new("-c"), file.as_os_str()];
        let args = run.into_iter().chain(args.into_iter().map(OsStr::new));
        let variables = variables.iter().filter_map(|text| text.split_once('='));
        let mut command = command();
        command.args(args).envs(variables);
        Ballast::spawn_command(command, address, folder)
    }

    /// Its configuration.
    pub(crate) fn file(&self) -> PathBuf {
        self.path("ballast.yaml")
    }

    /// A file next to its configuration.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id() as i32)
    }

    /// Runs `ballast demo`, which has its own configuration, with its dashboard at `admin`.
    pub(crate) fn demo(listen: SocketAddr, admin: SocketAddr) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let mut command = command();
        command.arg("demo");
        command.args(["--listen", &listen.to_string()]);
        command.args(["--admin", &admin.to_string()]);
        let mut ballast = Ballast::spawn_command(command, listen, Arc::new(folder));
        assert!(
            ballast.listens_within(SOON),
            "the demo does not listen; its output:\n{}",
            ballast.log().join("\n")
        );
        wait_until(SOON, "the demo's dashboard is served", || {
            TcpStream::connect(admin).is_ok()
        });
        ballast
    }

    fn spawn_command(mut command: Command, address: SocketAddr, folder: Arc<TempDir>) -> Self {
        let mut child = command
            .env("RUNTIME_DIRECTORY", folder.path().join("run"))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary has been built");
        let lines = Arc::new(Mutex::new(Vec::new()));
        collect(child.stdout.take(), &lines);
        collect(child.stderr.take(), &lines);
        Ballast {
            child,
            address,
            lines,
            exit: None,
            folder,
        }
    }

    /// The address of its listener.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether a connection to the listener succeeds now.
    pub(crate) fn listens(&self) -> bool {
        TcpStream::connect_timeout(&self.address, Duration::from_secs(1)).is_ok()
    }

    /// Its output so far.
    pub(crate) fn log(&self) -> Vec<String> {
        self.lines
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .clone()
    }

    /// Lines that contain all of `parts`.
    pub(crate) fn log_with(&self, parts: &[&str]) -> Vec<String> {
        let mut lines = self.log();
        lines.retain(|line| parts.iter().all(|part| line.contains(part)));
        lines
    }

    /// Waits for a line that contains all of `parts`.
    #[track_caller]
    pub(crate) fn wait_for_log(&self, parts: &[&str]) -> String {
        wait_for(SOON, &format!("a line with {parts:?}"), || {
            self.log_with(parts).into_iter().next()
        })
    }

    /// The folder of its configuration.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The path of its pid file or socket that has this suffix.
    #[track_caller]
    pub(crate) fn file_with_suffix(&self, ending: &str) -> PathBuf {
        wait_for(SOON, &format!("a file that ends in {ending}"), || {
            self.find_file(ending)
        })
    }

    fn find_file(&self, ending: &str) -> Option<PathBuf> {
        let files = std::fs::read_dir(self.path("run")).ok()?;
        let mut paths = files.filter_map(|file| Some(file.ok()?.path()));
        paths.find(|path| path.display().to_string().ends_with(ending))
    }

    /// Replaces its configuration atomically; the process does not notice until it is signalled.
    pub(crate) fn configure(&self, yaml: &str) {
        let text = yaml.replace(LISTEN, &self.address.to_string());
        let new = file(self.folder(), "new.yaml", &text);
        std::fs::rename(new, self.file()).expect("the folder can be written");
    }

    /// Replaces its configuration and sends SIGHUP; returns the log line about the outcome.
    #[track_caller]
    pub(crate) fn reload_by_sighup(&self, yaml: &str) -> String {
        let outcomes = || self.log_with(&["reloaded"]);
        let before = outcomes().len();
        self.configure(yaml);
        self.signal(Signal::SIGHUP);
        wait_for(SOON, "an outcome of the reload", || {
            outcomes().into_iter().nth(before)
        })
    }

    /// Runs `ballast reload` on it.
    #[track_caller]
    pub(crate) fn reload(&self) -> Finished {
        self.command(&["reload"])
    }

    /// Runs `ballast check` on its configuration.
    #[track_caller]
    pub(crate) fn check(&self) -> Finished {
        self.command(&["check"])
    }

    /// The lines of the access log in `access.log`, as soon as there are `count` of them.
    #[track_caller]
    pub(crate) fn access_log(&self, count: usize) -> Vec<Value> {
        let path = self.path("access.log");
        let read = || std::fs::read_to_string(&path).unwrap_or_default();
        wait_until(SOON, "the lines of the log", || {
            read().lines().count() >= count
        });
        let lines = read();
        let lines = lines.lines().map(serde_json::from_str);
        lines.map(|line| line.expect("JSON")).collect()
    }

    /// Tries to run its configuration a second time.
    #[track_caller]
    pub(crate) fn run_again(&self) -> Finished {
        self.command(&["run"])
    }

    /// Runs a command with its configuration.
    #[track_caller]
    pub(crate) fn command(&self, args: &[&str]) -> Finished {
        finish(self.prepare_command(args))
    }

    /// Runs a command on it, which succeeds and prints `expected`.
    #[track_caller]
    pub(crate) fn assert_output(&self, args: &[&str], expected: &str) {
        let end = self.command(args);
        assert_eq!(end.code, Some(0), "{end:?}");
        assert!(end.stdout.contains(expected), "{expected}\n{end:?}");
    }

    /// A command with its configuration that has not been started.
    pub(crate) fn prepare_command(&self, args: &[&str]) -> Command {
        let mut command = command();
        command
            .args(args)
            .arg("-c")
            .arg(self.file())
            .env("RUNTIME_DIRECTORY", self.path("run"));
        command
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).expect("the process has not been waited for");
    }

    /// Whether it still runs.
    pub(crate) fn is_running(&mut self) -> bool {
        if self.exit.is_none() {
            self.exit = self
                .child
                .try_wait()
                .expect("the process is a child of this one");
        }
        self.exit.is_none()
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn wait_exit(&mut self, deadline: Duration) -> ExitStatus {
        wait_until(deadline, "ballast exits", || !self.is_running());
        self.exit.expect("the process has ended")
    }

    pub(crate) fn listens_within(&mut self, deadline: Duration) -> bool {
        let start = Instant::now();
        while start.elapsed() < deadline {
            if !self.is_running() {
                return false;
            }
            if self.listens() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        false
    }
}

/// `admin.address` of a configuration that has it on one line.
fn admin_address(yaml: &str) -> Option<SocketAddr> {
    let (_, address) = yaml.split_once("admin: { address: \"")?;
    address.split('"').next()?.parse().ok()
}

/// Whether the process with this admin address reports that it is ready.
fn is_ready(admin: SocketAddr) -> bool {
    let response = Client::try_connect(admin)
        .and_then(|mut client| client.request("GET /ready HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    response.is_ok_and(|response| response.status == 200)
}

impl Drop for Ballast {
    fn drop(&mut self) {
        if self.is_running() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if Arc::strong_count(&self.folder) == 1 {
            kill_successors(&self.folder.path().join("run"));
        }
        if std::thread::panicking() {
            println!("--- ballast at {} printed:", self.address);
            for line in self.log() {
                println!("{line}");
            }
        }
    }
}

/// Ends the successors of a process, which are not children of the test: the remaining ones, and one that is starting.
fn kill_successors(runtime_directory: &Path) {
    let mut wanted = b"RUNTIME_DIRECTORY=".to_vec();
    wanted.extend_from_slice(runtime_directory.as_os_str().as_encoded_bytes());
    let is_one = |pid: &Pid| {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment
            .split(|byte| *byte == 0)
            .any(|variable| variable == wanted)
    };
    for _ in 0..3 {
        let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let left = pids.map(Pid::from_raw).filter(is_one);
        left.for_each(|pid| {
            let _ = kill(pid, Signal::SIGKILL);
        });
    }
}

/// Runs `ballast` with arguments until it ends; panics if that takes too long.
#[track_caller]
pub(crate) fn run(args: &[&str]) -> Finished {
    let mut command = command();
    command.args(args);
    finish(command)
}

/// Runs a command until it ends; panics if that takes too long.
#[track_caller]
pub(crate) fn finish(mut command: Command) -> Finished {
    let start = Instant::now();
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary has been built");
    let stdout = read_all(child.stdout.take());
    let stderr = read_all(child.stderr.take());
    let mut ended = false;
    while !ended && start.elapsed() < SOON {
        std::thread::sleep(Duration::from_millis(2));
        ended = child
            .try_wait()
            .expect("the process is a child of this one")
            .is_some();
    }
    if !ended {
        let _ = child.kill();
    }
    let status = child.wait().expect("the process is a child of this one");
    let stdout = stdout.join().expect("reading does not panic");
    let stderr = stderr.join().expect("reading does not panic");
    assert!(
        ended,
        "{command:?} has not ended; its output:\n{stdout}{stderr}"
    );
    Finished {
        code: status.code(),
        stdout,
        stderr,
    }
}

/// Writes a file of a test. A configuration (the only YAML) gets the requested `server.http1`.
pub(crate) fn file(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    let text = match name.ends_with(".yaml") {
        true => in_requested_mode(text),
        false => text.into(),
    };
    std::fs::write(&path, text.as_ref()).expect("the folder can be written");
    path
}

fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ballast"));
    command
        .stdin(Stdio::null())
        .env("BALLAST_LOG", "info")
        .env_remove("RUST_LOG");
    command
}

fn collect(stream: Option<impl Read + Send + 'static>, lines: &Arc<Mutex<Vec<String>>>) {
    let (Some(stream), lines) = (stream, lines.clone()) else {
        return;
    };
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            lines
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner)
                .push(line);
        }
    });
}

fn read_all(stream: Option<impl Read + Send + 'static>) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut text = String::new();
        if let Some(mut stream) = stream {
            let _ = stream.read_to_string(&mut text);
        }
        text
    })
}
