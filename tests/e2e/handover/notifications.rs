//! What a handover notifies: the pid file, systemd, readiness probes, and clients of the draining process.

use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::{Notifications, Service, is_gone, main_process};
use crate::support::{Backend, Client, Reply, SOON, Setup, free, get, wait_until};

#[test]
fn an_idle_predecessor_exits_within_five_seconds() {
    let backend = Backend::start_new("a");
    let service = Service::start(&Setup::of(&[&backend]));
    let mut idle = Client::connect(service.ballast.address());
    idle.get("/");
    let before = service.hand_over();
    wait_until(Duration::from_secs(5), "the predecessor is gone", || {
        is_gone(before)
    });
    assert!(idle.is_closed_within(SOON), "closed, not reset");
}

#[test]
fn connections_of_a_draining_process_get_a_last_response_with_close() {
    let backend = Backend::start_new("a");
    let service = Service::start(&Setup::of(&[&backend]));
    let mut used = Client::connect(service.ballast.address());
    used.get("/");
    let mut unused = Client::connect(service.ballast.address());
    let mut unfinished = Client::connect(service.ballast.address());
    unfinished
        .send("GET / HTTP/1.1\r\nHo")
        .expect("the connection is open");
    // The predecessor has accepted the connections once it has served a later one.
    get(service.ballast.address(), "/");
    service.hand_over();
    for client in [&mut used, &mut unused] {
        let response = client.get("/");
        assert!(response.head.has_token("connection", "close"));
    }
    let response = unfinished.request("st: test\r\n\r\n").expect("a response");
    assert_eq!(response.status, 200);
    assert!(
        !get(service.ballast.address(), "/")
            .head
            .has_token("connection", "close")
    );
}

#[test]
fn readiness_probes_succeed_during_a_handover() {
    let backend = Backend::start_new("a");
    let admin = free();
    let service =
        Service::start(&Setup::of(&[&backend]).top(&format!("admin: {{ address: \"{admin}\" }}")));
    let probe = || {
        let mut client = Client::try_connect(admin).ok()?;
        let response = client.request("GET /ready HTTP/1.1\r\nHost: test\r\n\r\n");
        Some(response.ok()?.status)
    };
    wait_until(SOON, "the process is ready", || probe() == Some(200));
    let before = service.serving();
    service.signal(Signal::SIGQUIT);
    wait_until(SOON, "the predecessor is gone", || {
        assert_eq!(probe(), Some(200));
        is_gone(before)
    });
    assert_ne!(service.serving(), before);
}

#[test]
fn the_pid_file_is_removed_at_exit() {
    let backend = Backend::start_new("a");
    for (signal, code) in [(Signal::SIGTERM, 0), (Signal::SIGINT, 0)] {
        let mut service = Service::start(&Setup::of(&[&backend]));
        assert_eq!(service.serving(), service.ballast.pid());
        service.signal(signal);
        assert_eq!(service.ballast.wait_exit(SOON).code(), Some(code));
        assert!(!service.ballast.path("pid").exists());
        assert!(!service.ballast.path("run/upgrade").exists());
    }
}

#[test]
fn systemd_is_notified_of_the_serving_process() {
    let backend = Backend::start_new("a");
    let systemd = Notifications::bind();
    let ballast = systemd.spawn(&Setup::of(&[&backend]));
    assert_eq!(systemd.receive(), main_process(ballast.pid()));
    let service = Service::from_process(ballast);
    service.signal(Signal::SIGHUP);
    let reloading = systemd.receive();
    let since = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=");
    assert!(
        since.is_some_and(|since| since.parse::<u64>().is_ok()),
        "{reloading}"
    );
    assert_eq!(systemd.receive(), "READY=1");
    service.hand_over();
    assert_eq!(systemd.receive(), main_process(service.serving()));
    service.signal(Signal::SIGTERM);
    assert_eq!(systemd.receive(), "STOPPING=1");
}

#[test]
fn commands_reach_a_process_that_has_just_reported_ready() {
    let backend = Backend::start_new("a");
    let systemd = Notifications::bind();
    let ballast = systemd.spawn(&Setup::of(&[&backend]));
    let control = ballast.path("control");
    assert_eq!(systemd.receive(), main_process(ballast.pid()));
    UnixStream::connect(&control).expect("the control socket is open");
    let end = ballast.command(&["status"]);
    assert_eq!(end.code, Some(0), "{end:?}");
    assert!(end.stdout.contains(" ready"), "{end:?}");
    let service = Service::from_process(ballast);
    service.hand_over();
    assert_eq!(systemd.receive(), main_process(service.serving()));
    UnixStream::connect(&control).expect("the control socket is open");
}

#[test]
fn a_process_that_is_stopped_while_it_starts_never_reports_ready() {
    let backend = Backend::start_new("a");
    // The first check ends within the shortest drain, while the process still runs.
    backend.set_health(Reply::ok().after(Duration::from_secs(1)));
    let systemd = Notifications::bind();
    let setup =
        Setup::of(&[&backend]).health("{ type: http, path: /healthz, interval: 5s, timeout: 5s }");
    let mut ballast = systemd.spawn(&setup);
    wait_until(SOON, "a check runs and SIGTERM is handled", || {
        backend.health_checks() > 0 && handles(ballast.pid(), Signal::SIGTERM)
    });
    ballast.signal(Signal::SIGTERM);
    assert!(ballast.wait_exit(SOON).success());
    assert_eq!(systemd.received(), Vec::<String>::new());
    assert!(!ballast.path("control").exists());
    assert!(!ballast.path("pid").exists());
}

/// Whether the process has installed a handler for `signal`.
fn handles(pid: Pid, signal: Signal) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal as u32 - 1) & 1 == 1)
}
