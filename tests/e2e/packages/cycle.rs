//! The life of the Debian package on a machine: install, upgrade under load, remove, purge. dpkg and systemd are real;
//! they run in namespaces with a private root and network, so neither the machine nor another test sees them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};

use super::{repository, succeed};
use crate::support::{Backend, Connections, Load, file, get, peer, wait_for};

const INSIDE: &str = include_str!("inside.sh");

/// The versions of the two packages. They contain the same binary, in different files.
const FIRST: &str = "0.1.0-1";
const SECOND: &str = "0.1.0-2";

/// How long dpkg and systemd may take for a step on a busy machine.
const STEP: Duration = Duration::from_secs(150);

/// The listener and the host of the configuration that the package brings.
const LISTENER: &str = "127.0.0.1:8080";
const HOST: &str = "127.0.0.1:8081";

#[test]
fn the_package_installs_upgrades_without_a_failed_request_and_goes() {
    for program in [
        "cargo-deb",
        "systemctl",
        "unshare",
        "dpkg",
        "ip",
        "logrotate",
    ] {
        if peer(program).is_none() {
            return;
        }
    }
    // A network namespace belongs to a thread, and its children inherit it.
    let test = thread::spawn(live_through_it);
    if let Err(panic) = test.join() {
        std::panic::resume_unwind(panic);
    }
}

fn live_through_it() {
    if let Err(error) = unshare(CloneFlags::CLONE_NEWNET) {
        println!("skipped: no private network: {error}");
        return;
    }
    succeed(Command::new("ip").args(["link", "set", "lo", "up"]));
    let address = |text: &str| text.parse::<SocketAddr>().expect("an address");
    let backend = Backend::start_at("a", address(HOST));
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    build_packages(folder.path());

    let Some(mut machine) = Machine::boot(folder.path()) else {
        return;
    };
    machine.wait_for("installed");
    assert_eq!(get(address(LISTENER), "/").backend(), "a");

    let load = [
        Load::start(address(LISTENER), 4, Connections::Kept),
        Load::start(address(LISTENER), 2, Connections::OnePerRequest),
    ];
    load.iter().for_each(|load| load.wait_for_more(50));
    machine.go_on();
    machine.wait_for("upgraded");
    load.iter().for_each(|load| load.wait_for_more(50));
    for load in load {
        load.stop().assert_all_ok("during the upgrade");
    }
    machine.go_on();
    machine.wait_for("removed");
    machine.go_on();
    machine.wait_for("purged");
    machine.go_on();
    let (code, stderr) = machine.finish();
    assert_eq!(code, Some(0), "{stderr}");
    drop(backend);
}

/// Makes both packages of the binary under test, and what systemd needs beside them.
fn build_packages(folder: &Path) {
    for (name, version) in [("first.deb", FIRST), ("second.deb", SECOND)] {
        succeed(
            Command::new(repository("packaging/deb/build"))
                .arg(env!("CARGO_BIN_EXE_ballast"))
                .arg(folder.join(name))
                .arg(version)
                .env("BALLAST_FAST_COMPRESSION", "1"),
        );
    }
    let drop_in = folder.join("ballast.service.d");
    std::fs::create_dir(&drop_in).expect("the folder can be written");
    file(
        &drop_in,
        "log.conf",
        "[Service]\nStandardError=append:/run/log\n",
    );
}

/// The namespaces in which the script runs. They end with its input, so also when this is dropped.
struct Machine {
    process: Child,
    answers: Option<ChildStdin>,
    lines: Receiver<String>,
    stderr: Option<JoinHandle<String>>,
}

impl Machine {
    /// Boots it with `folder` as the source of units and packages; `None` where that is impossible.
    fn boot(folder: &Path) -> Option<Self> {
        let mut process = Command::new(repository("tests/e2e/packages/private-root"))
            .arg(repository("tests/e2e/support/systemd-ns"))
            .arg(folder)
            .args(["env", "PACKAGES=/etc/systemd/system"])
            .arg(format!("SECOND_VERSION={SECOND}"))
            .args(["bash", "-c", INSIDE])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("bash is installed");
        let stdout = process.stdout.take().expect("it is piped");
        let mut stderr = process.stderr.take().expect("it is piped");
        let (sender, lines) = channel();
        thread::spawn(move || {
            let lines = BufReader::new(stdout).lines().map_while(Result::ok);
            lines.for_each(|line| drop(sender.send(line)));
        });
        let stderr = thread::spawn(move || {
            let mut text = String::new();
            let _ = stderr.read_to_string(&mut text);
            text
        });
        let mut machine = Machine {
            answers: process.stdin.take(),
            process,
            lines,
            stderr: Some(stderr),
        };
        if machine.next_line().as_deref() == Some("booted") {
            return Some(machine);
        }
        let (code, stderr) = machine.finish();
        assert_eq!(code, Some(77), "{stderr}");
        println!("skipped, systemd cannot be booted here with a private root: {stderr}");
        None
    }

    fn next_line(&self) -> Option<String> {
        self.lines.recv_timeout(STEP).ok()
    }

    /// Waits until the script has done this step.
    #[track_caller]
    fn wait_for(&mut self, step: &str) {
        let line = self.next_line();
        if line.as_deref() != Some(step) {
            let (code, stderr) = self.finish();
            panic!("{line:?} instead of {step}; exit code {code:?}: {stderr}");
        }
    }

    /// Lets the script do the next step.
    fn go_on(&mut self) {
        let answers = self.answers.as_mut().expect("the script has not ended");
        writeln!(answers).expect("the script waits");
    }

    /// Waits for the end of the script, and returns its exit code and what it wrote to stderr.
    #[track_caller]
    fn finish(&mut self) -> (Option<i32>, String) {
        // A script that waits for an answer fails.
        drop(self.answers.take());
        let status = wait_for(STEP, "the namespaces end", || {
            self.process.try_wait().expect("it is a child")
        });
        let stderr = self.stderr.take().map(JoinHandle::join);
        let stderr = stderr.and_then(Result::ok).unwrap_or_default();
        (status.code(), stderr)
    }
}
