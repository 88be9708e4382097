//! After any failure of a handover, the serving process continues to serve, logs the reason, and can hand over later.

use std::io::Write;
use std::os::unix::fs::symlink;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};

use super::{Reign, is_gone, yaml};
use crate::support::{Backend, Ballast, LISTEN, Reply, SOON, Setup, get, long, peer, wait_until};

/// Tries a handover with a changed configuration, which fails, and then one with the old configuration, which succeeds.
#[track_caller]
fn fails_with(change: impl FnOnce(&Reign, &str) -> String, reason: &str) {
    let backend = Backend::start_new("a");
    let reign = Reign::start(&Setup::of(&[&backend]));
    let good = std::fs::read_to_string(reign.ballast.file()).expect("it is there");
    let bad = change(&reign, &good);
    std::fs::write(reign.ballast.file(), bad).expect("the folder can be written");
    let line = reign.fail_to_hand_over();
    assert!(line.contains("the successor has ended"), "{line}");
    reign.ballast.wait_for_log(&[reason]);
    std::fs::write(reign.ballast.file(), good).expect("the folder can be written");
    reign.hand_over();
    assert_eq!(get(reign.ballast.address(), "/").status, 200);
}

#[test]
fn a_bad_configuration() {
    fails_with(|_, good| format!("{good}nonsense: 1\n"), "nonsense");
}

#[test]
fn an_unreadable_certificate() {
    let change = |reign: &Reign, good: &str| {
        let address = reign.ballast.address();
        let tls = "tls: { certificates: [{ certificate: gone.pem, key: gone.key }] }";
        good.replace(
            &format!("\"{address}\""),
            &format!("{{ address: \"{address}\", {tls} }}"),
        )
    };
    fails_with(change, "gone.pem");
}

#[test]
fn a_port_that_is_taken() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let other = taken.local_addr().expect("it is bound");
    let change = |reign: &Reign, good: &str| {
        let own = format!("\"{}\"", reign.ballast.address());
        good.replace(&own, &format!("{own}, \"{other}\""))
    };
    fails_with(change, "address in use");
}

#[test]
fn a_program_on_disk_that_is_broken() {
    let Some(broken) = peer("false") else { return };
    let backend = Backend::start_new("a");
    let mut ballast = Ballast::spawn_link(&yaml(&Setup::of(&[&backend])), "current");
    assert!(ballast.listens_within(SOON));
    let reign = Reign::of(ballast);
    let link = reign.ballast.path("current");
    std::fs::remove_file(&link).expect("it is ours");
    let line = reign.fail_to_hand_over();
    assert!(line.contains("cannot start"), "{line}");
    symlink(broken, &link).expect("the folder can be written");
    let line = reign.fail_to_hand_over();
    assert!(
        line.contains("the successor has ended (exit status: 1)"),
        "{line}"
    );
    // The next version.
    std::fs::remove_file(&link).expect("it is ours");
    symlink(env!("CARGO_BIN_EXE_ballast"), &link).expect("the folder can be written");
    reign.hand_over();
    assert_eq!(get(reign.ballast.address(), "/").status, 200);
}

/// A process whose next successor waits up to `timeout` for a silent host.
fn with_slow_successors(timeout: &str) -> (Reign, [Backend; 2]) {
    let backends = ["a", "silent"].map(Backend::start_new);
    backends[1].set_health(Reply::Hang);
    let check = |kind| format!("{{ {kind}, interval: {timeout}, timeout: {timeout} }}");
    let reign = Reign::start(&Setup::of(&[&backends[0]]).health(&check("type: tcp")));
    let slow =
        Setup::of(&[&backends[0], &backends[1]]).health(&check("type: http, path: /healthz"));
    let slow = yaml(&slow).replace(LISTEN, &reign.ballast.address().to_string());
    std::fs::write(reign.ballast.file(), slow).expect("the folder can be written");
    (reign, backends)
}

#[test]
fn a_second_sigquit_during_a_handover_is_ignored() {
    let (reign, _backends) = with_slow_successors("1s");
    let before = reign.serving();
    reign.signal(Signal::SIGQUIT);
    reign.ballast.wait_for_log(&["started the successor"]);
    reign.signal(Signal::SIGQUIT);
    reign.ballast.wait_for_log(&["SIGQUIT: ignored"]);
    wait_until(SOON, "the successor serves", || reign.serving() != before);
    assert_eq!(reign.successors().len(), 1);
}

#[test]
fn sigterm_during_a_handover_ends_both_processes() {
    let (mut reign, _backends) = with_slow_successors("9s");
    reign.signal(Signal::SIGQUIT);
    reign.ballast.wait_for_log(&["started the successor"]);
    reign.signal(Signal::SIGTERM);
    assert!(reign.ballast.wait_exit(SOON).success());
    let successor = reign.successors()[0];
    wait_until(SOON, "the successor is gone", || is_gone(successor));
    assert!(!reign.ballast.path("pid").exists());
}

#[test]
fn a_successor_that_hangs_is_given_up() {
    if !long() {
        println!("skipped: takes half a minute; set BALLAST_LONG=1");
        return;
    }
    let (reign, _backends) = with_slow_successors("2s");
    let before = reign.serving();
    reign.signal(Signal::SIGQUIT);
    reign.ballast.wait_for_log(&["started the successor"]);
    let successor = reign.successors()[0];
    kill(successor, Signal::SIGSTOP).expect("it is there");
    wait_until(Duration::from_secs(60), "it is given up", || {
        reign.failures() == 1
    });
    wait_until(SOON, "it is gone", || is_gone(successor));
    assert_eq!(reign.serving(), before);
    assert_eq!(get(reign.ballast.address(), "/").status, 200);
}

#[test]
fn a_foreign_socket_is_neither_replaced_nor_believed() {
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
    let answers = std::thread::spawn(move || {
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
    assert_eq!(answers.join().expect("it does not panic").len(), 2);
}

#[test]
fn a_stranger_at_the_upgrade_socket_changes_nothing() {
    let backend = Backend::start_new("a");
    let reign = Reign::start(&Setup::of(&[&backend]));
    let mut stranger = UnixStream::connect(reign.ballast.path("run/upgrade")).expect("it listens");
    stranger
        .write_all(b"GET / HTTP/1.1\r\n\r\n")
        .expect("it reads");
    reign
        .ballast
        .wait_for_log(&["a successor was rejected", "another protocol"]);
    let silent = UnixStream::connect(reign.ballast.path("run/upgrade")).expect("it listens");
    let before = reign.hand_over();
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
    wait_until(SOON, "it is process 1", || {
        std::fs::read_to_string(&pid_file).is_ok_and(|text| text == "1\n")
    });
    kill(ballast.child(), Signal::SIGQUIT).expect("it runs");
    ballast.wait_for_log(&["no handover, serving on", "this is process 1"]);
    assert_eq!(get(ballast.address(), "/").status, 200);
    assert!(ballast.log_with(&["started the successor"]).is_empty());
    kill(ballast.child(), Signal::SIGTERM).expect("it runs");
    assert!(ballast.wait_exit(SOON).success());
}

/// The parent of a process.
fn parent(pid: nix::unistd::Pid) -> String {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:\t"));
    line.expect("every process has one").to_owned()
}

#[test]
fn a_successor_is_nobodys_child_and_leaves_no_zombie() {
    let (reign, _backends) = with_slow_successors("9s");
    let predecessor = reign.serving();
    reign.signal(Signal::SIGQUIT);
    reign.ballast.wait_for_log(&["started the successor"]);
    let successor = reign.successors()[0];
    assert_ne!(parent(successor), predecessor.to_string());
    kill(successor, Signal::SIGKILL).expect("it runs");
    wait_until(SOON, "the failure is noticed", || reign.failures() == 1);
    let children = format!("/proc/{predecessor}/task/{predecessor}/children");
    let children = std::fs::read_to_string(children).expect("it runs");
    assert_eq!(children.trim(), "");
    assert_eq!(get(reign.ballast.address(), "/").status, 200);
}
