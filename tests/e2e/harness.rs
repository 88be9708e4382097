//! Tests of the harness itself: a test with a broken helper proves nothing.

use std::time::Duration;

use crate::rig::{Hosts, Mode, Plan};
use crate::support::{
    Authority, Backend, Client, Connections, DeadHost, Load, Next, Reply, SOON, get, wait_until,
};

#[test]
fn a_backend_counts_and_records_requests_and_connections() {
    let backend = Backend::start_new("a");
    let mut client = Client::connect(backend.address());
    assert_eq!(client.get("/1").text(), "a\n");
    assert_eq!(client.post("/2", b"body").backend(), "a");
    assert_eq!((backend.requests(), backend.connections()), (2, 1));
    let last = backend.last();
    assert_eq!(last.head.start, "POST /2 HTTP/1.1");
    assert_eq!(last.body, b"body");
    client.get("/healthz");
    assert_eq!((backend.requests(), backend.health_checks()), (2, 1));
    assert_eq!((backend.accepted(), backend.open_connections()), (1, 1));
}

#[test]
fn a_backend_misbehaves_as_configured() {
    let backend = Backend::start_new("a");
    let ask = || {
        let mut client = Client::connect(backend.address());
        client.request("GET / HTTP/1.1\r\nHost: test\r\n\r\n")
    };
    backend.set(Reply::Reset);
    let error = ask().expect_err("reset");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    backend.set(Reply::Close);
    let error = ask().expect_err("closed");
    assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
    backend.set(Reply::ResetMidBody);
    ask().expect_err("cut off");
    backend.set(Reply::Drip(Duration::from_millis(1)));
    assert_eq!(ask().expect("a complete response").text(), "ok");
    backend.set(Reply::ok().body("x".repeat(40_000)).chunked());
    assert_eq!(ask().expect("a complete response").body.len(), 40_000);
    backend.set(Reply::ok().then_close());
    assert_eq!(ask().expect("a complete response").status, 200);
    backend.set(Reply::script(|_, wire| {
        wire.send("HTTP/1.1 204 Done\r\n\r\n")?;
        Ok(Next::Close)
    }));
    assert_eq!(ask().expect("a complete response").status, 204);
    backend.set(Reply::Hang);
    let mut client = Client::connect(backend.address());
    client.send("GET / HTTP/1.1\r\n\r\n").expect("sent");
    assert!(!client.is_closed_within(Duration::from_millis(50)));
    client.abort();
    wait_until(SOON, "the host sees the abort", || {
        backend.open_connections() == 0
    });
}

#[test]
fn a_stopped_backend_resets_and_refuses_until_it_starts_again() {
    let backend = Backend::start_new("a");
    for _ in 0..3 {
        let mut client = Client::connect(backend.address());
        client.get("/");
        backend.stop();
        let error = client
            .request("GET / HTTP/1.1\r\nHost: test\r\n\r\n")
            .expect_err("the connection was reset");
        assert!(matches!(
            error.kind(),
            std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::BrokenPipe
        ));
        Client::try_connect(backend.address())
            .err()
            .expect("refused");
        backend.start();
        assert_eq!(get(backend.address(), "/").backend(), "a");
    }
    let dead = DeadHost::new();
    Client::try_connect(dead.address()).err().expect("refused");
}

#[test]
fn load_sees_every_failure() {
    let backend = Backend::start_new("a");
    let load = Load::start(backend.address(), 2, Connections::Kept);
    wait_until(SOON, "some requests", || load.done() > 100);
    let tally = load.stop();
    tally.assert_all_ok("a healthy backend");
    assert_eq!(tally.of("a"), backend.requests());
    assert_eq!(backend.connections(), 2);

    let load = Load::start(backend.address(), 2, Connections::OnePerRequest);
    backend.stop();
    let failures_from = load.done() + 10;
    wait_until(SOON, "some failures", || load.done() > failures_from);
    assert!(!load.stop().errors.is_empty());
}

#[test]
fn tls_shows_the_certificate_that_was_issued() {
    let authority = Authority::new("test authority");
    let identity = authority.issue(&["a.test"]);
    let backend = Backend::start_tls("a", identity.server());
    let mut client =
        Client::tls(backend.address(), "a.test", authority.client()).expect("connected");
    assert_eq!(client.get("/").backend(), "a");
    let mut mismatched =
        Client::tls(backend.address(), "b.test", authority.client()).expect("connected");
    let error = mismatched
        .request("GET / HTTP/1.1\r\n\r\n")
        .expect_err("the name differs");
    assert!(error.to_string().contains("not valid for name"), "{error}");
}

#[test]
fn a_simulated_load_keeps_its_schedule_and_sees_every_failure() {
    let hosts = Hosts::start(2, 1);
    let plan = |target| Plan {
        target,
        rate: 300.0,
        duration: Duration::from_secs(1),
        clients: 10,
        patience: SOON,
        seed: 1,
    };
    let addresses: Vec<_> = hosts.addresses().collect();
    let record = plan(addresses[0]).run();
    // The expected value is 300, with a deviation of 17. The bound is five deviations.
    assert!((215..=385).contains(&record.count()), "{}", record.count());
    assert_eq!(record.failed(), 0);
    assert_eq!(hosts.requests(), [record.count() as u64, 0]);
    // The median of exponentially distributed times with a mean of 10 ms is 6.9 ms.
    assert!(record.latency(0.5) >= Duration::from_millis(4));

    hosts.set(1, Mode::Failing);
    let record = plan(addresses[1]).run();
    assert_eq!(record.failed(), record.count());
    assert_eq!(record.success(), 0.0);
    hosts.kill(0);
    let record = plan(addresses[0]).run();
    assert_eq!(record.failed(), record.count());
    hosts.revive(0);
    assert_eq!(plan(addresses[0]).run().failed(), 0);
    let late = plan(addresses[0]).run().after(Duration::from_millis(500));
    assert!(late.count() < 250, "{}", late.count());
}
