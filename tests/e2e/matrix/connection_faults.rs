//! Rows 1 to 5: connections to a host that fail, or break before the first byte of the response.

use std::io::Write;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::{GET, NO_EJECTION, Subject};
use crate::support::{
    Backend, Client, DeadHost, FullHost, Next, Reply, SOON, Setup, Wire, descriptors, wait_until,
};

#[test]
fn row_01_connection_refused() {
    let good = Backend::start_new("good");
    let dead = [DeadHost::new(), DeadHost::new()];
    let setup = Setup::of(&[&good])
        .host(dead[0].address())
        .host(dead[1].address());
    let subject = Subject::start(&setup);
    let large = vec![b'x'; 300_000];
    let mut client = Client::connect(subject.address());
    for number in 1..=6 {
        assert_eq!(client.get("/").backend(), "good");
        assert_eq!(client.post("/", &large).backend(), "good");
        assert!(good.last().body == large);
        assert_eq!(good.requests(), 2 * number);
    }
    good.stop();
    for method in ["GET", "POST"] {
        let request = format!("{method} / HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\n\r\nbody");
        let response = Client::connect(subject.address()).request(request);
        assert_eq!(
            response.expect("a complete response").status,
            502,
            "{method}"
        );
    }
    assert_eq!(good.requests(), 12);
    drop(client);
    subject.settle(&[]);
}

#[test]
fn row_02_blackhole() {
    const AT_ONCE: usize = 20;
    let (full, good) = (FullHost::new(), Backend::start_new("good"));
    let setup = Setup::of(&[&good])
        .host(full.address())
        .top("timeouts: { connect: 1s }");
    let subject = Subject::start(&setup);
    let (pid, address) = (subject.ballast.pid(), subject.address());
    for _ in 0..3 {
        let before = good.requests();
        thread::scope(|scope| {
            for number in 0..AT_ONCE {
                scope.spawn(move || {
                    let start = Instant::now();
                    let mut client = Client::connect(address);
                    let response = match number % 2 {
                        0 => client.get("/"),
                        _ => client.post("/", b"body"),
                    };
                    assert_eq!(response.backend(), "good");
                    assert!(start.elapsed() < SOON);
                });
            }
        });
        assert_eq!(good.requests(), before + AT_ONCE as u64);
        // One connection to the client and one to the host for each request, and none from the rounds before.
        assert!(descriptors(pid) <= subject.descriptors + 2 * AT_ONCE);
    }
    subject.settle(&[&good]);
}

#[test]
fn row_03_connect_slow() {
    let (slow, other) = (FullHost::new(), Backend::start_new("other"));
    let setup = Setup::of(&[&other]).host(slow.address());
    let subject = Subject::start(&setup);
    let mut client = Client::connect(subject.address());
    assert_eq!(client.get("/").backend(), "other");
    let start = Instant::now();
    client.send(GET).expect("sent");
    let pid = subject.ballast.pid();
    // The connections to the client and to the other host, and the one that is being opened.
    wait_until(SOON, "a connection is attempted", || {
        descriptors(pid) >= subject.descriptors + 3
    });
    // The first SYN was lost; the kernel sends the next one after a second.
    let listener = slow.open_up();
    let serving = thread::spawn(move || serve_one(&listener));
    let response = client.read_response(false).expect("a complete response");
    assert_eq!(response.backend(), "slow");
    assert!(start.elapsed() >= Duration::from_millis(500));
    assert_eq!(other.requests(), 1, "the request was not retried");
    assert_eq!(serving.join().expect("no panic"), 1);
    drop(client);
    subject.settle(&[&other]);
}

/// Responds to one request on any connection; returns how many connections brought a request.
fn serve_one(listener: &TcpListener) -> usize {
    loop {
        let (stream, _) = listener.accept().expect("a listener accepts");
        let mut wire = Wire::new(stream);
        if let Ok(Some(_)) = wire.read_head() {
            let response = "HTTP/1.1 200 OK\r\nX-Backend: slow\r\nContent-Length: 0\r\n\r\n";
            wire.write_all(response.as_bytes()).expect("sent");
            return 1;
        }
    }
}

#[test]
fn row_04_reset_before_a_byte() {
    let (good, bad) = (Backend::start_new("good"), Backend::start_new("bad"));
    let subject = Subject::start(&Setup::of(&[&good, &bad]).pool(NO_EJECTION));
    bad.set(Reply::Reset);
    let arrived = || (good.requests(), bad.requests());
    let get = || Client::connect(subject.address()).get("/");
    let post = || Client::connect(subject.address()).post("/", b"pay");
    for _ in 0..6 {
        let (at_good, at_bad) = arrived();
        assert_eq!(get().status, 200);
        assert_eq!(good.requests(), at_good + 1);
        assert!(bad.requests() <= at_bad + 1, "tried once at most");
    }
    assert!(bad.requests() >= 2);
    let mut failed = 0;
    for _ in 0..6 {
        let (at_good, at_bad) = arrived();
        match post().status {
            200 => assert_eq!(arrived(), (at_good + 1, at_bad)),
            502 => {
                assert_eq!(arrived(), (at_good, at_bad + 1));
                failed += 1;
            }
            status => panic!("{status}"),
        }
    }
    assert_eq!(failed, 3);
    subject.settle(&[&good, &bad]);
}

#[test]
fn row_05_idle_connection_closed_as_a_request_is_sent() {
    let host = Backend::start_new("a");
    let subject = Subject::start(&Setup::of(&[&host]).pool(NO_EJECTION));
    // The second request on a connection meets its end. The host may have seen the request, so it counts as seen.
    let seen = Arc::new(AtomicU64::new(0));
    let counted = seen.clone();
    host.set(Reply::script(move |_, wire| {
        wire.send("HTTP/1.1 200 OK\r\nX-Backend: a\r\nContent-Length: 0\r\n\r\n")?;
        if wire.read_head()?.is_some() {
            counted.fetch_add(1, Ordering::SeqCst);
        }
        Ok(Next::Close)
    }));
    for number in 1..=5 {
        let mut client = Client::connect(subject.address());
        // One request leaves a connection behind; the other finds it closed and is sent again over a new one.
        assert_eq!((client.get("/").status, client.get("/").status), (200, 200));
        assert_eq!(seen.load(Ordering::SeqCst), 2 * number - 1);
        // This request finds the new connection.
        assert_eq!(client.post("/", b"").status, 502);
        assert_eq!(seen.load(Ordering::SeqCst), 2 * number);
        assert_eq!(
            host.requests(),
            2 * number,
            "only requests with a response count"
        );
    }
    subject.settle(&[&host]);
}
