//! A successor that is started by hand: when it takes over, gives up, or replaces a predecessor that is killed.

use std::collections::HashSet;
use std::path::PathBuf;

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::{Service, is_gone, yaml};
use crate::support::{Backend, Ballast, Client, Reply, SOON, Setup, get, wait_until};

fn waiting_successor(service: &Service) -> Ballast {
    let successor = service.ballast.successor();
    successor.wait_for_log(&["prepared; waiting"]);
    successor
}

#[test]
fn a_waiting_successor_takes_over_at_sigquit() {
    let backend = Backend::start_new("a");
    let mut service = Service::start(&Setup::of(&[&backend]));
    let mut successor = waiting_successor(&service);
    assert_eq!(service.serving(), service.ballast.pid());
    service.signal(Signal::SIGQUIT);
    assert!(service.ballast.wait_exit(SOON).success());
    assert_eq!(service.serving(), successor.pid());
    assert!(service.successors().is_empty());
    assert_eq!(get(successor.address(), "/").status, 200);
    successor.signal(Signal::SIGTERM);
    assert!(successor.wait_exit(SOON).success());
    assert!(!successor.path("pid").exists());
    assert!(!successor.path("run/upgrade").exists());
}

#[test]
fn a_later_successor_replaces_an_earlier_one() {
    let backend = Backend::start_new("a");
    let service = Service::start(&Setup::of(&[&backend]));
    let mut first = waiting_successor(&service);
    let second = waiting_successor(&service);
    assert_eq!(first.wait_exit(SOON).code(), Some(1));
    first.wait_for_log(&["another successor has connected"]);
    service.hand_over();
    assert_eq!(service.serving(), second.pid());
}

#[test]
fn a_successor_that_was_told_to_stop_does_not_take_over() {
    let backend = Backend::start_new("a");
    let service = Service::start(&Setup::of(&[&backend]));
    let mut successor = waiting_successor(&service);
    successor.signal(Signal::SIGTERM);
    successor.wait_for_log(&["SIGTERM: no new connections"]);
    service.signal(Signal::SIGQUIT);
    // On a busy machine the successor may have gone already; another one is started then.
    wait_until(SOON, "the outcome of the handover", || {
        let reason = ["no handover, serving on", "the successor was told to stop"];
        [&reason[..], &["handed over: "]]
            .iter()
            .any(|parts| !service.ballast.log_with(parts).is_empty())
    });
    assert!(successor.wait_exit(SOON).success());
    assert_ne!(service.serving(), successor.pid());
    assert_eq!(get(service.ballast.address(), "/").status, 200);
}

#[test]
fn a_successor_that_exited_is_replaced() {
    let backend = Backend::start_new("a");
    let service = Service::start(&Setup::of(&[&backend]));
    drop(waiting_successor(&service));
    let before = service.hand_over();
    wait_until(SOON, "the predecessor is gone", || is_gone(before));
    assert_eq!(get(service.ballast.address(), "/").status, 200);
}

#[test]
fn a_successor_that_gets_no_handover_gives_up() {
    let backend = Backend::start_new("a");
    let service = Service::start(&Setup::of(&[&backend]));
    let mut successor = service.ballast.successor_with(&["--upgrade-wait=300ms"]);
    assert_eq!(successor.wait_exit(SOON).code(), Some(1));
    successor.wait_for_log(&["no handover: the predecessor got no SIGQUIT within 300ms"]);
    assert_eq!(service.serving(), service.ballast.pid());
    let before = service.hand_over();
    wait_until(SOON, "the predecessor is gone", || is_gone(before));
    assert_eq!(get(service.ballast.address(), "/").status, 200);
}

#[test]
fn a_predecessor_killed_before_it_sent_its_sockets_is_replaced() {
    let backend = Backend::start_new("a");
    let mut service = Service::start(&Setup::of(&[&backend]));
    let successor = waiting_successor(&service);
    service.signal(Signal::SIGKILL);
    service.ballast.wait_exit(SOON);
    wait_until(SOON, "the successor listens", || successor.listens());
    assert_eq!(get(successor.address(), "/").status, 200);
    wait_until(SOON, "the pid file names the serving process", || {
        service.serving() == successor.pid()
    });
}

#[test]
fn a_predecessor_killed_after_it_sent_its_sockets_leaves_no_gap() {
    let backend = Backend::start_new("a");
    let service = Service::start(&Setup::of(&[&backend]));
    let before = service.serving();
    service.signal(Signal::SIGQUIT);
    service.ballast.wait_for_log(&["taken over"]);
    nix::sys::signal::kill(before, Signal::SIGKILL).expect("the process still drains");
    for _ in 0..50 {
        assert_eq!(get(service.ballast.address(), "/").status, 200);
    }
    wait_until(SOON, "the successor is known", || {
        service.serving() != before
    });
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
    let next = Service::from_process(ballast.successor());
    wait_until(SOON, "the pid file names the serving process", || {
        next.serving() == next.ballast.pid()
    });
}

/// The sockets that a process has open, by inode number.
fn sockets(pid: Pid) -> HashSet<PathBuf> {
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("the process exists");
    let targets = open.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
    targets
        .filter(|target| target.to_string_lossy().starts_with("socket:"))
        .collect()
}

#[test]
fn a_successor_inherits_no_sockets() {
    let backend = Backend::start_new("a");
    let service = Service::start(&Setup::of(&[&backend]));
    let mut client = Client::connect(service.ballast.address());
    client.get("/");
    let silent = Backend::start_new("silent");
    silent.set_health(Reply::Hang);
    let text = std::fs::read_to_string(service.ballast.file()).expect("the file exists");
    let slow = "{ type: http, path: /healthz, interval: 2s, timeout: 2s }";
    let slow = text
        .replace("health_check: none", &format!("health_check: {slow}"))
        .replace(
            &backend.address().to_string(),
            &silent.address().to_string(),
        );
    std::fs::write(service.ballast.file(), slow).expect("the folder can be written");
    let before = service.serving();
    service.signal(Signal::SIGQUIT);
    wait_until(SOON, "the successor checks", || silent.health_checks() > 0);
    let (old, new) = (sockets(before), sockets(service.successors()[0]));
    assert!(old.len() >= 3, "a listener, a client, a host: {old:?}");
    assert_eq!(old.intersection(&new).count(), 0, "{old:?} {new:?}");
    wait_until(SOON, "the successor serves", || service.serving() != before);
    assert_eq!(client.get("/").status, 200);
}
