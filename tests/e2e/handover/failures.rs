//! After any failure of a handover, the serving process continues to serve, logs the reason, and can hand over later.

use std::io::Write;
use std::os::unix::fs::symlink;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};

use super::{Service, is_gone, yaml};
use crate::support::{Backend, Ballast, LISTEN, Reply, SOON, Setup, get, long, peer, wait_until};

/// Tries a handover with a changed configuration, which fails, and then one with the old configuration, which succeeds.
#[track_caller]
fn fails_with(change: impl FnOnce(&Service, &str) -> String, reason: &str) {
    let backend = Backend::start_new("a");
    let service = Service::start(&Setup::of(&[&backend]));
    let good = std::fs::read_to_string(service.ballast.file()).expect("the process exists");
    let bad = change(&service, &good);
    std::fs::write(service.ballast.file(), bad).expect("the folder can be written");
    let line = service.fail_to_hand_over();
    assert!(line.contains("the successor has ended"), "{line}");
    service.ballast.wait_for_log(&[reason]);
    std::fs::write(service.ballast.file(), good).expect("the folder can be written");
    service.hand_over();
    assert_eq!(get(service.ballast.address(), "/").status, 200);
}

#[test]
fn an_invalid_configuration_fails_the_handover() {
    fails_with(|_, good| format!("{good}nonsense: 1\n"), "nonsense");
}

#[test]
fn an_unreadable_certificate_fails_the_handover() {
    let change = |service: &Service, good: &str| {
        let address = service.ballast.address();
        let tls = "tls: { certificates: [{ certificate: gone.pem, key: gone.key }] }";
        good.replace(
            &format!("\"{address}\""),
            &format!("{{ address: \"{address}\", {tls} }}"),
        )
    };
    fails_with(change, "gone.pem");
}

#[test]
fn a_port_in_use_fails_the_handover() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let other = taken.local_addr().expect("the socket is bound");
    let change = |service: &Service, good: &str| {
        let own = format!("\"{}\"", service.ballast.address());
        good.replace(&own, &format!("{own}, \"{other}\""))
    };
    fails_with(change, "address in use");
}

#[test]
fn a_broken_program_on_disk_fails_the_handover() {
    let Some(broken) = peer("false") else { return };
    let backend = Backend::start_new("a");
    let mut ballast = Ballast::spawn_link(&yaml(&Setup::of(&[&backend])), "current");
    assert!(ballast.listens_within(SOON));
    let service = Service::from_process(ballast);
    let link = service.ballast.path("current");
    std::fs::remove_file(&link).expect("the test owns the file");
    let line = service.fail_to_hand_over();
    assert!(line.contains("cannot start"), "{line}");
    symlink(broken, &link).expect("the folder can be written");
    let line = service.fail_to_hand_over();
    assert!(
        line.contains("the successor has ended (exit status: 1)"),
        "{line}"
    );
    // The next version.
    std::fs::remove_file(&link).expect("the test owns the file");
    symlink(env!("CARGO_BIN_EXE_ballast"), &link).expect("the folder can be written");
    service.hand_over();
    assert_eq!(get(service.ballast.address(), "/").status, 200);
}

/// A process whose next successor waits up to `timeout` for a silent host.
fn with_slow_successors(timeout: &str) -> (Service, [Backend; 2]) {
    let backends = ["a", "silent"].map(Backend::start_new);
    backends[1].set_health(Reply::Hang);
    let check = |kind| format!("{{ {kind}, interval: {timeout}, timeout: {timeout} }}");
    let service = Service::start(&Setup::of(&[&backends[0]]).health(&check("type: tcp")));
    let slow =
        Setup::of(&[&backends[0], &backends[1]]).health(&check("type: http, path: /healthz"));
    let slow = yaml(&slow).replace(LISTEN, &service.ballast.address().to_string());
    std::fs::write(service.ballast.file(), slow).expect("the folder can be written");
    (service, backends)
}

#[test]
fn a_second_sigquit_during_a_handover_is_ignored() {
    let (service, _backends) = with_slow_successors("1s");
    let before = service.serving();
    service.signal(Signal::SIGQUIT);
    service.ballast.wait_for_log(&["started the successor"]);
    service.signal(Signal::SIGQUIT);
    service.ballast.wait_for_log(&["SIGQUIT: ignored"]);
    wait_until(SOON, "the successor serves", || service.serving() != before);
    assert_eq!(service.successors().len(), 1);
}

#[test]
fn sigterm_during_a_handover_ends_both_processes() {
    let (mut service, _backends) = with_slow_successors("9s");
    service.signal(Signal::SIGQUIT);
    service.ballast.wait_for_log(&["started the successor"]);
    service.signal(Signal::SIGTERM);
    assert!(service.ballast.wait_exit(SOON).success());
    let successor = service.successors()[0];
    wait_until(SOON, "the successor is gone", || is_gone(successor));
    assert!(!service.ballast.path("pid").exists());
}

#[test]
fn a_hanging_successor_is_abandoned() {
    if !long() {
        println!("skipped: takes half a minute; set BALLAST_LONG=1");
        return;
    }
    let (service, _backends) = with_slow_successors("2s");
    let before = service.serving();
    service.signal(Signal::SIGQUIT);
    service.ballast.wait_for_log(&["started the successor"]);
    let successor = service.successors()[0];
    kill(successor, Signal::SIGSTOP).expect("the process exists");
    wait_until(Duration::from_secs(60), "the handover is abandoned", || {
        service.failures() == 1
    });
    wait_until(SOON, "the process is gone", || is_gone(successor));
    assert_eq!(service.serving(), before);
    assert_eq!(get(service.ballast.address(), "/").status, 200);
}

#[test]
fn a_foreign_socket_is_neither_replaced_nor_trusted() {
    let backend = Backend::start_new("a");
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let path = folder.path().join("upgrade");
    let foreign = UnixListener::bind(&path).expect("the folder can be written");
    let yaml = yaml(&Setup::of(&[&backend])).replace(
        "upgrade_socket: run/upgrade",
        &format!("upgrade_socket: {}", path.display()),
    );
    let mut plain = Ballast::spawn(&yaml);
    assert_eq!(plain.wait_exit(SOON).code(), Some(1));
    plain.wait_for_log(&["another process answers there"]);
    let responses = std::thread::spawn(move || {
        let mut open = Vec::new();
        // The first connection only checks whether a process responds.
        for stream in foreign.incoming().take(2) {
            let mut stream = stream.expect("a connection");
            let _ = stream.write_all(b"HTTP/1.1 200 OK");
            open.push(stream);
        }
        open
    });
    let mut upgrade = Ballast::spawn_with(&yaml, &["--upgrade"]);
    assert_eq!(upgrade.wait_exit(SOON).code(), Some(1));
    upgrade.wait_for_log(&["speaks another protocol"]);
    assert_eq!(
        responses.join().expect("the thread does not panic").len(),
        2
    );
}

#[test]
fn other_protocols_at_the_upgrade_socket_are_rejected() {
    let backend = Backend::start_new("a");
    let service = Service::start(&Setup::of(&[&backend]));
    let mut other_protocol = UnixStream::connect(service.ballast.path("run/upgrade"))
        .expect("the upgrade socket listens");
    other_protocol
        .write_all(b"GET / HTTP/1.1\r\n\r\n")
        .expect("the upgrade socket reads");
    service
        .ballast
        .wait_for_log(&["a successor was rejected", "another protocol"]);
    let silent = UnixStream::connect(service.ballast.path("run/upgrade"))
        .expect("the upgrade socket listens");
    let before = service.hand_over();
    drop(silent);
    wait_until(Duration::from_secs(5), "the predecessor is gone", || {
        is_gone(before)
    });
}

#[test]
fn process_1_of_a_container_does_not_hand_over() {
    let backend = Backend::start_new("a");
    let Some(mut ballast) = Ballast::spawn_as_process_1(&yaml(&Setup::of(&[&backend]))) else {
        return;
    };
    assert!(ballast.listens_within(SOON));
    let pid_file = ballast.path("pid");
    wait_until(SOON, "the process is process 1", || {
        std::fs::read_to_string(&pid_file).is_ok_and(|text| text == "1\n")
    });
    kill(ballast.child(), Signal::SIGQUIT).expect("the process runs");
    ballast.wait_for_log(&["no handover, serving on", "this is process 1"]);
    assert_eq!(get(ballast.address(), "/").status, 200);
    assert!(ballast.log_with(&["started the successor"]).is_empty());
    kill(ballast.child(), Signal::SIGTERM).expect("the process runs");
    assert!(ballast.wait_exit(SOON).success());
}

/// The parent of a process.
fn parent(pid: nix::unistd::Pid) -> String {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:\t"));
    line.expect("every process has one").to_owned()
}

#[test]
fn a_successor_is_detached_and_leaves_no_zombie() {
    let (service, _backends) = with_slow_successors("9s");
    let predecessor = service.serving();
    service.signal(Signal::SIGQUIT);
    service.ballast.wait_for_log(&["started the successor"]);
    let successor = service.successors()[0];
    assert_ne!(parent(successor), predecessor.to_string());
    kill(successor, Signal::SIGKILL).expect("the process runs");
    wait_until(SOON, "the failure is reported", || service.failures() == 1);
    let children = format!("/proc/{predecessor}/task/{predecessor}/children");
    let children = std::fs::read_to_string(children).expect("the process runs");
    assert_eq!(children.trim(), "");
    assert_eq!(get(service.ballast.address(), "/").status, 200);
}
