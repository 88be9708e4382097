//! A successor that is started by hand, and how it fares when its predecessor ends.

use std::collections::HashSet;
use std::path::PathBuf;

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::{Reign, is_gone, yaml};
use crate::support::{Backend, Ballast, Client, Reply, SOON, Setup, get, wait_until};

fn waiting_successor(reign: &Reign) -> Ballast {
    let successor = reign.ballast.successor();
    successor.wait_for_log(&["prepared; waiting"]);
    successor
}

#[test]
fn a_successor_that_waits_takes_over_at_sigquit() {
    let backend = Backend::start_new("a");
    let mut reign = Reign::start(&Setup::of(&[&backend]));
    let mut successor = waiting_successor(&reign);
    assert_eq!(reign.serving(), reign.ballast.pid());
    reign.signal(Signal::SIGQUIT);
    assert!(reign.ballast.wait_exit(SOON).success());
    assert_eq!(reign.serving(), successor.pid());
    assert!(reign.successors().is_empty());
    assert_eq!(get(successor.address(), "/").status, 200);
    successor.signal(Signal::SIGTERM);
    assert!(successor.wait_exit(SOON).success());
    assert!(!successor.path("pid").exists());
    assert!(!successor.path("run/upgrade").exists());
}

#[test]
fn a_later_successor_sends_an_earlier_one_away() {
    let backend = Backend::start_new("a");
    let reign = Reign::start(&Setup::of(&[&backend]));
    let mut first = waiting_successor(&reign);
    let second = waiting_successor(&reign);
    assert_eq!(first.wait_exit(SOON).code(), Some(1));
    first.wait_for_log(&["another successor has connected"]);
    reign.hand_over();
    assert_eq!(reign.serving(), second.pid());
}

#[test]
fn a_successor_that_was_told_to_stop_does_not_take_over() {
    let backend = Backend::start_new("a");
    let reign = Reign::start(&Setup::of(&[&backend]));
    let mut successor = waiting_successor(&reign);
    successor.signal(Signal::SIGTERM);
    successor.wait_for_log(&["SIGTERM: no new connections"]);
    reign.signal(Signal::SIGQUIT);
    // On a busy machine the successor may have gone already; another one is started then.
    wait_until(SOON, "the outcome of the handover", || {
        let reason = ["no handover, serving on", "the successor was told to stop"];
        [&reason[..], &["handed over: "]]
            .iter()
            .any(|parts| !reign.ballast.log_with(parts).is_empty())
    });
    assert!(successor.wait_exit(SOON).success());
    assert_ne!(reign.serving(), successor.pid());
    assert_eq!(get(reign.ballast.address(), "/").status, 200);
}

#[test]
fn a_successor_that_left_is_replaced() {
    let backend = Backend::start_new("a");
    let reign = Reign::start(&Setup::of(&[&backend]));
    drop(waiting_successor(&reign));
    let before = reign.hand_over();
    wait_until(SOON, "the predecessor is gone", || is_gone(before));
    assert_eq!(get(reign.ballast.address(), "/").status, 200);
}

#[test]
fn a_successor_that_nobody_hands_over_to_gives_up() {
    let backend = Backend::start_new("a");
    let reign = Reign::start(&Setup::of(&[&backend]));
    let mut successor = reign.ballast.successor_with(&["--upgrade-wait=300ms"]);
    assert_eq!(successor.wait_exit(SOON).code(), Some(1));
    successor.wait_for_log(&["no handover: the predecessor got no SIGQUIT within 300ms"]);
    assert_eq!(reign.serving(), reign.ballast.pid());
    let before = reign.hand_over();
    wait_until(SOON, "the predecessor is gone", || is_gone(before));
    assert_eq!(get(reign.ballast.address(), "/").status, 200);
}

#[test]
fn when_the_predecessor_is_killed_before_the_sockets_have_passed_the_successor_listens() {
    let backend = Backend::start_new("a");
    let mut reign = Reign::start(&Setup::of(&[&backend]));
    let successor = waiting_successor(&reign);
    reign.signal(Signal::SIGKILL);
    reign.ballast.wait_exit(SOON);
    wait_until(SOON, "the successor listens", || successor.listens());
    assert_eq!(get(successor.address(), "/").status, 200);
    wait_until(SOON, "the pid file is right", || {
        reign.serving() == successor.pid()
    });
}

#[test]
fn when_the_predecessor_is_killed_after_the_sockets_have_passed_there_is_no_gap() {
    let backend = Backend::start_new("a");
    let reign = Reign::start(&Setup::of(&[&backend]));
    let before = reign.serving();
    reign.signal(Signal::SIGQUIT);
    reign.ballast.wait_for_log(&["taken over"]);
    nix::sys::signal::kill(before, Signal::SIGKILL).expect("it drains at most");
    for _ in 0..50 {
        assert_eq!(get(reign.ballast.address(), "/").status, 200);
    }
    wait_until(SOON, "the successor is known", || reign.serving() != before);
}

#[test]
fn without_a_predecessor_upgrade_is_a_start() {
    let backend = Backend::start_new("a");
    let yaml = yaml(&Setup::of(&[&backend]));
    let mut ballast = Ballast::spawn_with(&yaml, &["--upgrade"]);
    assert!(ballast.listens_within(SOON));
    assert_eq!(get(ballast.address(), "/").status, 200);
    // The files that a killed process leaves behind do not prevent a start.
    ballast.signal(Signal::SIGKILL);
    ballast.wait_exit(SOON);
    assert!(ballast.path("run/upgrade").exists() && ballast.path("pid").exists());
    let next = Reign::of(ballast.successor());
    wait_until(SOON, "the pid file is right", || {
        next.serving() == next.ballast.pid()
    });
}

/// The sockets that a process has open, by inode number.
fn sockets(pid: Pid) -> HashSet<PathBuf> {
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("the process is there");
    let targets = open.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
    targets
        .filter(|target| target.to_string_lossy().starts_with("socket:"))
        .collect()
}

#[test]
fn a_successor_gets_no_socket_by_accident() {
    let backend = Backend::start_new("a");
    let reign = Reign::start(&Setup::of(&[&backend]));
    let mut client = Client::connect(reign.ballast.address());
    client.get("/");
    let silent = Backend::start_new("silent");
    silent.set_health(Reply::Hang);
    let text = std::fs::read_to_string(reign.ballast.file()).expect("it is there");
    let slow = "{ type: http, path: /healthz, interval: 2s, timeout: 2s }";
    let slow = text
        .replace("health_check: none", &format!("health_check: {slow}"))
        .replace(
            &backend.address().to_string(),
            &silent.address().to_string(),
        );
    std::fs::write(reign.ballast.file(), slow).expect("the folder can be written");
    let before = reign.serving();
    reign.signal(Signal::SIGQUIT);
    wait_until(SOON, "the successor checks", || silent.health_checks() > 0);
    let (old, new) = (sockets(before), sockets(reign.successors()[0]));
    assert!(old.len() >= 3, "a listener, a client, a host: {old:?}");
    assert_eq!(old.intersection(&new).count(), 0, "{old:?} {new:?}");
    wait_until(SOON, "the successor serves", || reign.serving() != before);
    assert_eq!(client.get("/").status, 200);
}
