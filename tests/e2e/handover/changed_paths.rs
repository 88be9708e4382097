//! A change of the paths of the process's own files takes effect like any other change.

use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixListener;

use nix::sys::signal::{Signal, kill};

use super::{Reign, is_gone};
use crate::support::{Backend, Finished, SOON, Setup, get, run, wait_until};

/// A process that accepts commands.
fn start(backend: &Backend) -> Reign {
    let reign = Reign::start(&Setup::of(&[backend]));
    wait_until(SOON, "it takes commands", || is_socket(&reign, "control"));
    reign
}

fn edit(reign: &Reign, from: &str, to: &str) {
    let text = std::fs::read_to_string(reign.ballast.file()).expect("it is there");
    assert!(text.contains(from));
    std::fs::write(reign.ballast.file(), text.replace(from, to)).expect("it can be written");
}

fn is_socket(reign: &Reign, name: &str) -> bool {
    let found = std::fs::symlink_metadata(reign.ballast.path(name));
    found.is_ok_and(|found| found.file_type().is_socket())
}

/// `ballast reload` through this socket.
fn reload(reign: &Reign, socket: &str) -> Finished {
    let socket = reign.ballast.path(socket).display().to_string();
    run(&["reload", "--socket", &socket])
}

#[test]
fn the_upgrade_socket_by_sigquit_and_by_reload() {
    let backend = Backend::start_new("a");
    let reign = start(&backend);
    edit(&reign, "run/upgrade", "other/b.up");
    let first = reign.hand_over();
    wait_until(SOON, "the new one is there", || {
        is_socket(&reign, "other/b.up")
    });
    wait_until(SOON, "the predecessor is gone", || is_gone(first));
    assert!(!reign.ballast.path("run/upgrade").exists());
    // The next successor uses the new path.
    let second = reign.hand_over();
    edit(&reign, "other/b.up", "run/c.up");
    wait_until(SOON, "the predecessor is gone", || is_gone(second));
    let end = reload(&reign, "control");
    assert_eq!(end.code, Some(0), "{end:?}");
    assert!(end.stdout.starts_with("reloaded, handover\n"), "{end:?}");
    assert!(
        end.stdout.contains("server.upgrade_socket changed"),
        "{end:?}"
    );
    assert!(is_socket(&reign, "run/c.up"));
    assert_eq!(get(reign.ballast.address(), "/").status, 200);
}

#[test]
fn the_control_socket_and_the_pid_file() {
    let backend = Backend::start_new("a");
    let reign = start(&backend);
    let before = reign.serving();
    edit(
        &reign,
        "control_socket: control",
        "control_socket: run/b.sock",
    );
    // The file is still at its old path.
    let end = reload(&reign, "control");
    assert_eq!(end.code, Some(0), "{end:?}");
    assert!(
        end.stdout.contains("server.control_socket changed"),
        "{end:?}"
    );
    wait_until(SOON, "it takes commands", || {
        is_socket(&reign, "run/b.sock")
    });
    wait_until(SOON, "the predecessor is gone", || is_gone(before));
    assert!(!reign.ballast.path("control").exists());
    let serving = reign.serving();
    edit(&reign, "pid_file: pid", "pid_file: other.pid");
    assert_eq!(reload(&reign, "run/b.sock").code, Some(0));
    let other = reign.ballast.path("other.pid");
    let named = std::fs::read_to_string(other).expect("it is there");
    assert_ne!(named.trim(), serving.to_string());
    wait_until(SOON, "the predecessor is gone", || is_gone(serving));
    assert!(
        !reign.ballast.path("pid").exists(),
        "it went with its process"
    );
    let last = nix::unistd::Pid::from_raw(named.trim().parse().expect("a number"));
    kill(last, Signal::SIGTERM).expect("it serves");
    wait_until(SOON, "it is gone", || is_gone(last));
}

#[test]
fn a_control_socket_that_is_said_at_last_is_found_where_it_was() {
    let backend = Backend::start_new("a");
    let ballast = Setup::of(&[&backend]).start();
    ballast.file_ending(".sock");
    let said = Setup::of(&[&backend]).top("server: { control_socket: run/said }");
    ballast.configure(&said.yaml());
    let reign = Reign { ballast };
    let end = reign.ballast.reload();
    assert_eq!(end.code, Some(0), "{end:?}");
    wait_until(SOON, "it takes commands", || is_socket(&reign, "run/said"));
    assert_eq!(reign.ballast.reload().code, Some(0));
}

#[test]
fn a_place_where_somebody_else_answers_is_refused() {
    let backend = Backend::start_new("a");
    let reign = start(&backend);
    let foreign = reign.ballast.path("run/foreign");
    let _foreign = UnixListener::bind(foreign).expect("the folder can be written");
    edit(&reign, "run/upgrade", "run/foreign");
    reign.fail_to_hand_over();
    reign
        .ballast
        .wait_for_log(&["run/foreign: another process answers there"]);
    edit(
        &reign,
        "upgrade_socket: run/foreign",
        "upgrade_socket: run/upgrade",
    );
    edit(
        &reign,
        "control_socket: control",
        "control_socket: run/foreign",
    );
    reign.fail_to_hand_over();
    reign
        .ballast
        .wait_for_log(&["another ballast runs with this file"]);
    edit(&reign, "run/foreign", "control");
    edit(&reign, "run/upgrade", "run/b.up");
    reign.hand_over();
    assert!(is_socket(&reign, "run/b.up"));
}
