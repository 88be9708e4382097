//! The admin listener: whether the process is alive, and whether it is ready for requests.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::support::{
    Backend, Ballast, Client, HEALTH_PATH, Reply, SOON, Setup, free, get, wait_until,
};

/// A setup with an admin listener, and the listener's address.
pub(crate) fn with_admin(setup: Setup) -> (Setup, SocketAddr) {
    let admin = free();
    (
        setup.top(&format!("admin: {{ address: \"{admin}\" }}")),
        admin,
    )
}

/// The status of a probe; `None` if the connection fails.
fn probe(admin: SocketAddr, path: &str) -> Option<u16> {
    let mut client = Client::try_connect(admin).ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n");
    Some(client.request(request).ok()?.status)
}

#[test]
fn a_process_is_live_at_once_and_ready_after_the_first_checks() {
    let backend = Backend::start_new("a");
    backend.set_health(Reply::Hang);
    let check = format!("{{ type: http, path: {HEALTH_PATH}, interval: 60s, timeout: 1500ms }}");
    let (setup, admin) = with_admin(Setup::of(&[&backend]).health(&check));
    let ballast = Ballast::spawn(&setup.yaml());
    wait_until(SOON, "the process is live", || {
        probe(admin, "/healthz") == Some(200)
    });
    assert_eq!(probe(admin, "/ready"), Some(503));
    assert!(!ballast.listens());
    wait_until(SOON, "the process is ready", || {
        probe(admin, "/ready") == Some(200)
    });
    wait_until(SOON, "the listener is open", || ballast.listens());
}

#[test]
fn it_is_read_only_without_a_token() {
    let backend = Backend::start_new("a");
    let (setup, admin) = with_admin(Setup::of(&[&backend]));
    let _ballast = setup.start();
    wait_until(SOON, "the process is ready", || {
        probe(admin, "/ready") == Some(200)
    });
    // The `Host` of the request is not a name of this process.
    assert_eq!(probe(admin, "/"), Some(403));
    assert_eq!(probe(admin, "/nowhere"), Some(404));
    assert_eq!(probe(admin, "/api/v1/reload"), Some(405));
    let post = |path: &str| Client::connect(admin).post(path, b"x").status;
    assert_eq!(post("/ready"), 405);
    assert_eq!(post("/api/v1/reload"), 403);
    let head = Client::connect(admin)
        .request("HEAD /ready HTTP/1.1\r\nHost: test\r\n\r\n")
        .map(|response| (response.status, response.body.len()));
    assert_eq!(head.ok(), Some((200, 0)));
}

#[test]
fn after_sigterm_it_is_not_ready_and_serves_for_the_drain_delay() {
    let backend = Backend::start_new("a");
    let (setup, admin) = with_admin(Setup::of(&[&backend]));
    let mut ballast = setup.top("server: { drain_delay: 5s }").start();
    wait_until(SOON, "the process is ready", || {
        probe(admin, "/ready") == Some(200)
    });
    let signalled = Instant::now();
    ballast.signal(Signal::SIGTERM);
    wait_until(SOON, "the process is not ready", || {
        probe(admin, "/ready") == Some(503)
    });
    let mut served = 0;
    while signalled.elapsed() < Duration::from_secs(2) {
        assert_eq!(get(ballast.address(), "/").status, 200);
        served += 1;
    }
    assert!(served > 0);
    assert_eq!(ballast.wait_exit(SOON).code(), Some(0));
    let duration = signalled.elapsed();
    assert!(duration >= Duration::from_secs(5), "{duration:?}");
}

#[test]
fn a_second_sigterm_ends_the_drain() {
    let backend = Backend::start_new("a");
    backend.set(Reply::Hang);
    for server in ["grace_period: 60s", "drain_delay: 60s"] {
        let mut ballast = Setup::of(&[&backend])
            .top(&format!("server: {{ {server} }}"))
            .start();
        let before = backend.requests();
        let mut busy = Client::connect(ballast.address());
        busy.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n")
            .expect("sent");
        wait_until(SOON, "the request is under way", || {
            backend.requests() > before
        });
        ballast.signal(Signal::SIGTERM);
        ballast.wait_for_log(&["SIGTERM"]);
        assert!(ballast.is_running());
        ballast.signal(Signal::SIGTERM);
        assert_eq!(ballast.wait_exit(SOON).code(), Some(0), "{server}");
    }
}

#[test]
fn it_responds_until_a_draining_process_exits() {
    let backend = Backend::start_new("a");
    let (setup, admin) = with_admin(Setup::of(&[&backend]));
    let mut ballast = setup.start();
    wait_until(SOON, "the process is ready", || {
        probe(admin, "/ready") == Some(200)
    });
    backend.set(Reply::ok().after(Duration::from_secs(6)));
    let before = backend.requests();
    let mut busy = Client::connect(ballast.address());
    busy.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n")
        .expect("sent");
    wait_until(SOON, "the request is under way", || {
        backend.requests() > before
    });
    ballast.signal(Signal::SIGTERM);
    wait_until(SOON, "no new connections are accepted", || {
        !ballast.listens()
    });
    let draining = Instant::now();
    while draining.elapsed() < Duration::from_secs(1) {
        assert_eq!(probe(admin, "/healthz"), Some(200));
        assert_eq!(probe(admin, "/ready"), Some(503));
    }
    assert_eq!(
        busy.read_response(false)
            .expect("a complete response")
            .status,
        200
    );
    assert_eq!(ballast.wait_exit(SOON).code(), Some(0));
    assert_eq!(probe(admin, "/healthz"), None);
}
