//! A change of the paths of the process's own files takes effect like any other change.

use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixListener;

use nix::sys::signal::{Signal, kill};

use super::{Service, is_gone};
use crate::support::{Backend, Finished, SOON, Setup, get, run, wait_until};

/// A process that accepts commands.
fn start(backend: &Backend) -> Service {
    let service = Service::start(&Setup::of(&[backend]));
    wait_until(SOON, "the control socket exists", || {
        is_socket(&service, "control")
    });
    service
}

fn edit(service: &Service, from: &str, to: &str) {
    let text = std::fs::read_to_string(service.ballast.file()).expect("the file exists");
    assert!(text.contains(from));
    std::fs::write(service.ballast.file(), text.replace(from, to))
        .expect("the file can be written");
}

fn is_socket(service: &Service, name: &str) -> bool {
    let found = std::fs::symlink_metadata(service.ballast.path(name));
    found.is_ok_and(|found| found.file_type().is_socket())
}

/// `ballast reload` through this socket.
fn reload(service: &Service, socket: &str) -> Finished {
    let socket = service.ballast.path(socket).display().to_string();
    run(&["reload", "--socket", &socket])
}

#[test]
fn the_upgrade_socket_can_move_by_sigquit_and_by_reload() {
    let backend = Backend::start_new("a");
    let service = start(&backend);
    edit(&service, "run/upgrade", "other/b.up");
    let first = service.hand_over();
    wait_until(SOON, "the new socket exists", || {
        is_socket(&service, "other/b.up")
    });
    wait_until(SOON, "the predecessor is gone", || is_gone(first));
    assert!(!service.ballast.path("run/upgrade").exists());
    // The next successor uses the new path.
    let second = service.hand_over();
    edit(&service, "other/b.up", "run/c.up");
    wait_until(SOON, "the predecessor is gone", || is_gone(second));
    let end = reload(&service, "control");
    assert_eq!(end.code, Some(0), "{end:?}");
    assert!(end.stdout.starts_with("reloaded, handover\n"), "{end:?}");
    assert!(
        end.stdout.contains("server.upgrade_socket changed"),
        "{end:?}"
    );
    assert!(is_socket(&service, "run/c.up"));
    assert_eq!(get(service.ballast.address(), "/").status, 200);
}

#[test]
fn the_control_socket_and_the_pid_file_can_move() {
    let backend = Backend::start_new("a");
    let service = start(&backend);
    let before = service.serving();
    edit(
        &service,
        "control_socket: control",
        "control_socket: run/b.sock",
    );
    // The file is still at its old path.
    let end = reload(&service, "control");
    assert_eq!(end.code, Some(0), "{end:?}");
    assert!(
        end.stdout.contains("server.control_socket changed"),
        "{end:?}"
    );
    wait_until(SOON, "the control socket exists", || {
        is_socket(&service, "run/b.sock")
    });
    wait_until(SOON, "the predecessor is gone", || is_gone(before));
    assert!(!service.ballast.path("control").exists());
    let serving = service.serving();
    edit(&service, "pid_file: pid", "pid_file: other.pid");
    assert_eq!(reload(&service, "run/b.sock").code, Some(0));
    let other = service.ballast.path("other.pid");
    let named = std::fs::read_to_string(other).expect("the file exists");
    assert_ne!(named.trim(), serving.to_string());
    wait_until(SOON, "the predecessor is gone", || is_gone(serving));
    assert!(
        !service.ballast.path("pid").exists(),
        "the pid file was removed at exit"
    );
    let last = nix::unistd::Pid::from_raw(named.trim().parse().expect("a number"));
    kill(last, Signal::SIGTERM).expect("the process serves");
    wait_until(SOON, "the process is gone", || is_gone(last));
}

#[test]
fn a_newly_configured_control_socket_path_takes_effect_at_reload() {
    let backend = Backend::start_new("a");
    let ballast = Setup::of(&[&backend]).start();
    ballast.file_with_suffix(".sock");
    let configured = Setup::of(&[&backend]).top("server: { control_socket: run/configured }");
    ballast.configure(&configured.yaml());
    let service = Service { ballast };
    let end = service.ballast.reload();
    assert_eq!(end.code, Some(0), "{end:?}");
    wait_until(SOON, "the control socket exists", || {
        is_socket(&service, "run/configured")
    });
    assert_eq!(service.ballast.reload().code, Some(0));
}

#[test]
fn a_path_that_another_process_uses_is_refused() {
    let backend = Backend::start_new("a");
    let service = start(&backend);
    let foreign = service.ballast.path("run/foreign");
    let _foreign = UnixListener::bind(foreign).expect("the folder can be written");
    edit(&service, "run/upgrade", "run/foreign");
    service.fail_to_hand_over();
    service
        .ballast
        .wait_for_log(&["run/foreign: another process answers there"]);
    edit(
        &service,
        "upgrade_socket: run/foreign",
        "upgrade_socket: run/upgrade",
    );
    edit(
        &service,
        "control_socket: control",
        "control_socket: run/foreign",
    );
    service.fail_to_hand_over();
    service
        .ballast
        .wait_for_log(&["another ballast runs with this file"]);
    edit(&service, "run/foreign", "control");
    edit(&service, "run/upgrade", "run/b.up");
    service.hand_over();
    assert!(is_socket(&service, "run/b.up"));
}
