//! How a handover shows outside: the pid file, systemd, and clients whose process ends.

use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::{Notifications, Reign, is_gone, main_process};
use crate::support::{Backend, Client, Reply, SOON, Setup, free, get, wait_until};

#[test]
fn an_idle_predecessor_is_gone_within_five_seconds() {
    let backend = Backend::start_new("a");
    let reign = Reign::start(&Setup::of(&[&backend]));
    let mut idle = Client::connect(reign.ballast.address());
    idle.get("/");
    let before = reign.hand_over();
    wait_until(Duration::from_secs(5), "the predecessor is gone", || {
        is_gone(before)
    });
    assert!(idle.is_closed_within(SOON), "closed, not reset");
}

#[test]
fn connections_of_a_draining_process_get_their_answer_and_hear_that_it_is_the_last() {
    let backend = Backend::start_new("a");
    let reign = Reign::start(&Setup::of(&[&backend]));
    let mut used = Client::connect(reign.ballast.address());
    used.get("/");
    let mut unused = Client::connect(reign.ballast.address());
    let mut begun = Client::connect(reign.ballast.address());
    begun.send("GET / HTTP/1.1\r\nHo").expect("it is open");
    // The predecessor has accepted the connections once it has served a later one.
    get(reign.ballast.address(), "/");
    reign.hand_over();
    for client in [&mut used, &mut unused] {
        let answer = client.get("/");
        assert!(answer.head.has_token("connection", "close"));
    }
    let answer = begun.request("st: test\r\n\r\n").expect("an answer");
    assert_eq!(answer.status, 200);
    assert!(
        !get(reign.ballast.address(), "/")
            .head
            .has_token("connection", "close")
    );
}

#[test]
fn probes_of_the_service_hear_that_it_is_ready_all_along() {
    let backend = Backend::start_new("a");
    let admin = free();
    let reign =
        Reign::start(&Setup::of(&[&backend]).top(&format!("admin: {{ address: \"{admin}\" }}")));
    let probe = || {
        let mut client = Client::try_connect(admin).ok()?;
        let answer = client.request("GET /ready HTTP/1.1\r\nHost: test\r\n\r\n");
        Some(answer.ok()?.status)
    };
    wait_until(SOON, "it is ready", || probe() == Some(200));
    let before = reign.serving();
    reign.signal(Signal::SIGQUIT);
    wait_until(SOON, "the predecessor is gone", || {
        assert_eq!(probe(), Some(200));
        is_gone(before)
    });
    assert_ne!(reign.serving(), before);
}

#[test]
fn the_pid_file_goes_with_the_process() {
    let backend = Backend::start_new("a");
    for (signal, code) in [(Signal::SIGTERM, 0), (Signal::SIGINT, 0)] {
        let mut reign = Reign::start(&Setup::of(&[&backend]));
        assert_eq!(reign.serving(), reign.ballast.pid());
        reign.signal(signal);
        assert_eq!(reign.ballast.wait_exit(SOON).code(), Some(code));
        assert!(!reign.ballast.path("pid").exists());
        assert!(!reign.ballast.path("run/upgrade").exists());
    }
}

#[test]
fn systemd_hears_who_serves() {
    let backend = Backend::start_new("a");
    let systemd = Notifications::bind();
    let ballast = systemd.spawn(&Setup::of(&[&backend]));
    assert_eq!(systemd.receive(), main_process(ballast.pid()));
    let reign = Reign::of(ballast);
    reign.signal(Signal::SIGHUP);
    let reloading = systemd.receive();
    let since = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=");
    assert!(
        since.is_some_and(|since| since.parse::<u64>().is_ok()),
        "{reloading}"
    );
    assert_eq!(systemd.receive(), "READY=1");
    reign.hand_over();
    assert_eq!(systemd.receive(), main_process(reign.serving()));
    reign.signal(Signal::SIGTERM);
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
    let reign = Reign::of(ballast);
    reign.hand_over();
    assert_eq!(systemd.receive(), main_process(reign.serving()));
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
