//! A host gets no more concurrent requests than its limit allows. The others wait in a queue for a bounded time.

use std::thread;
use std::time::{Duration, Instant};

use crate::support::{Backend, Ballast, Client, Reply, SOON, Setup, wait_until};

/// Sends a request on its own connection in its own thread. Returns the status and the duration.
fn ask(ballast: &Ballast, path: &str) -> thread::JoinHandle<(u16, Duration)> {
    let (address, path) = (ballast.address(), path.to_owned());
    thread::spawn(move || {
        let start = Instant::now();
        let status = Client::connect(address).get(&path).status;
        (status, start.elapsed())
    })
}

/// The number of requests in the queue of the only pool.
fn waiting(ballast: &Ballast) -> u64 {
    let output = ballast.command(&["status", "--json"]);
    let status: serde_json::Value = serde_json::from_str(&output.stdout).expect("JSON");
    status["pools"][0]["waiting"].as_u64().expect("a number")
}

#[test]
fn no_host_gets_more_than_its_limit_with_any_algorithm() {
    for algorithm in [
        "random",
        "round_robin",
        "p2c",
        "{ name: p2c, load: peak_ewma }",
        "least_load",
        "ip_hash",
        "{ name: consistent_hash, key: path }",
        "{ name: bounded, key: path }",
    ] {
        let backends = ["a", "b", "c"].map(Backend::start_new);
        for backend in &backends {
            backend.set(Reply::ok().after(Duration::from_millis(300)));
        }
        let ballast = Setup::of(&[&backends[0], &backends[1]])
            .host_entry(&format!(
                "{{ address: \"{}\", max_in_flight: 1 }}",
                backends[2].address()
            ))
            .algorithm(algorithm)
            .pool("limits: { max_in_flight: 2, queue: 0 }")
            .start();
        // There are five places, so the sixth request is refused at once.
        let pending: Vec<_> = (0..6).map(|_| ask(&ballast, "/same")).collect();
        let total = || backends.iter().map(Backend::requests).sum::<u64>();
        wait_until(SOON, "five requests run", || total() == 5);
        assert_eq!(
            backends.each_ref().map(Backend::requests),
            [2, 2, 1],
            "{algorithm}"
        );
        let mut statuses: Vec<u16> = pending
            .into_iter()
            .map(|thread| thread.join().expect("a response").0)
            .collect();
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 200, 200, 200, 200, 503], "{algorithm}");
        assert_eq!(total(), 5, "{algorithm}");
    }
}

#[test]
fn queued_requests_are_served_in_order() {
    let backend = Backend::start_new("a");
    // The first request runs until all others are in the queue.
    backend.set(Reply::ok().after(Duration::from_secs(4)));
    let ballast = Setup::of(&[&backend])
        .pool("limits: { max_in_flight: 1, queue: 10, queue_timeout: 10s }")
        .start();
    let pending: Vec<_> = (0..6)
        .map(|number| {
            let thread = ask(&ballast, &format!("/{number}"));
            if number == 0 {
                wait_until(SOON, "the first request runs", || backend.requests() == 1);
                backend.set(Reply::ok().after(Duration::from_millis(100)));
            } else {
                wait_until(SOON, "the request waits", || waiting(&ballast) == number);
            }
            thread
        })
        .collect();
    let mut order = Vec::new();
    while order.len() < 6 {
        let last = backend.last().head.start;
        if order.last() != Some(&last) {
            order.push(last);
        }
        // The test does not count connections: one that is not yet back in the idle store makes the next request open
        // a new one.
        assert!(backend.unanswered() <= 1);
    }
    let expected: Vec<_> = (0..6).map(|n| format!("GET /{n} HTTP/1.1")).collect();
    assert_eq!(order, expected);
    for thread in pending {
        assert_eq!(thread.join().expect("a response").0, 200);
    }
}

#[test]
fn a_full_queue_and_a_queue_timeout_give_503_with_retry_after() {
    let backend = Backend::start_new("a");
    backend.set(Reply::Hang);
    let ballast = Setup::of(&[&backend])
        .pool("limits: { max_in_flight: 1, queue: 1, queue_timeout: 4s }")
        .top("timeouts: { read: 30s }")
        .start();
    let mut first = Client::connect(ballast.address());
    first
        .send("GET / HTTP/1.1\r\nHost: test\r\n\r\n")
        .expect("sent");
    wait_until(SOON, "the first request runs", || backend.requests() == 1);
    let start = Instant::now();
    let both = [ask(&ballast, "/"), ask(&ballast, "/")];
    let mut times = both.map(|thread| {
        let (status, time) = thread.join().expect("a response");
        assert_eq!(status, 503);
        time
    });
    times.sort();
    // The order of the two requests is unknown, but one of them found the queue full.
    assert!(times[0] < Duration::from_secs(3), "{times:?}");
    assert!(times[1] >= Duration::from_millis(3_900), "{times:?}");
    assert!(start.elapsed() < SOON);
    let mut client = Client::connect(ballast.address());
    let response = client.get("/");
    assert_eq!(response.status, 503);
    assert!(response.head.get("retry-after").is_some());
    // The connection stays open, and later requests are served.
    backend.set(Reply::ok());
    first.abort();
    wait_until(SOON, "the slot is free", || client.get("/").status == 200);
    assert_eq!(backend.requests(), 2);
}

#[test]
fn the_key_of_a_full_host_moves_and_returns() {
    let backends = ["a", "b", "c"].map(Backend::start_new);
    let ballast = Setup::of(&backends.each_ref())
        .algorithm("{ name: consistent_hash, key: path }")
        .pool("limits: { max_in_flight: 1 }")
        .start();
    let mut client = Client::connect(ballast.address());
    let home = client.get("/key").backend().to_owned();
    let home_backend = backends.iter().find(|backend| backend.name() == home);
    let home_backend = home_backend.expect("one of them");
    home_backend.set(Reply::Hang);
    let mut stuck = Client::connect(ballast.address());
    let before = home_backend.requests();
    stuck
        .send("GET /key HTTP/1.1\r\nHost: test\r\n\r\n")
        .expect("sent");
    wait_until(SOON, "the host is full", || {
        home_backend.requests() > before
    });
    let other = client.get("/key").backend().to_owned();
    assert_ne!(other, home);
    assert_eq!(client.get("/key").backend(), other);
    home_backend.set(Reply::ok());
    stuck.abort();
    wait_until(SOON, "the key is back", || {
        client.get("/key").backend() == home
    });
}

#[test]
fn a_queued_request_is_served_when_the_old_pool_releases_the_host() {
    let backend = Backend::start_new("a");
    let setup = |timeout: &str| {
        Setup::of(&[&backend]).pool(&format!(
            "limits: {{ max_in_flight: 1, queue: 1, queue_timeout: {timeout} }}"
        ))
    };
    let ballast = setup("9s").start();
    backend.set(Reply::ok().after(Duration::from_secs(1)));
    let first = ask(&ballast, "/first");
    wait_until(SOON, "the first request runs", || backend.requests() == 1);
    let line = ballast.reload_by_sighup(&setup("8s").yaml());
    assert!(
        line.contains("limits.queue_timeout changed from 9s to 8s"),
        "{line}"
    );
    backend.set(Reply::ok());
    assert_eq!(ask(&ballast, "/second").join().expect("a response").0, 200);
    assert_eq!(first.join().expect("a response").0, 200);
    assert_eq!(backend.requests(), 2);
}
