//! Rows 14 to 16: clients that close one side, disconnect, or are slow.

use std::thread;
use std::time::{Duration, Instant};

use super::{GET, Subject};
use crate::support::{
    Backend, Client, Connections, Load, Next, Reply, SOON, Setup, accepted_at, wait_until,
};

/// More than any buffer on the way.
const MANY: usize = 20 * 1024 * 1024;

#[test]
fn row_14_half_close_after_the_request() {
    let host = Backend::start_new("a");
    let subject = Subject::start(&Setup::of(&[&host]));
    host.set(Reply::Hang);
    for request in [
        GET,
        "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\n\r\nbody",
    ] {
        let mut client = Client::connect(subject.address());
        let before = host.requests();
        client.send(request).expect("sent");
        client.finish_sending();
        assert!(
            client.is_closed_within(SOON),
            "the connection closes without a response"
        );
        wait_until(SOON, "the host is released", || {
            host.open_connections() == 0
        });
        assert!(host.requests() <= before + 1);
    }
    subject.settle(&[&host]);
}

#[test]
fn row_14_half_close_after_the_request_with_half_close_serve() {
    let host = Backend::start_new("a");
    let subject = Subject::start(&Setup::of(&[&host]).top("half_close: serve"));
    host.set(Reply::ok().after(Duration::from_millis(100)));
    for request in [
        GET,
        "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\n\r\nbody",
    ] {
        let mut client = Client::connect(subject.address());
        client.send(request).expect("sent");
        client.finish_sending();
        assert_eq!(
            client
                .read_response(false)
                .expect("a complete response")
                .text(),
            "a\n"
        );
        assert!(client.is_closed_within(SOON));
    }
    assert_eq!(host.requests(), 2);
    subject.settle(&[&host]);
}

#[test]
fn row_15_client_gone_during_the_upload_or_the_response() {
    let host = Backend::start_new("a");
    let subject = Subject::start(&Setup::of(&[&host]));
    let left = |what: &str| {
        // The promise is one second; the rest is an allowance for a busy machine. Timeouts are a minute.
        wait_until(Duration::from_secs(5), what, || {
            host.open_connections() == 0
        });
    };
    for number in 1..=5 {
        host.set(Reply::Hang);
        let mut client = Client::connect(subject.address());
        client
            .send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 1000000\r\n\r\nbegun")
            .expect("sent");
        wait_until(SOON, "the request arrives", || {
            host.requests() == 2 * number - 1
        });
        if number % 2 == 0 {
            client.abort();
        } else {
            drop(client);
        }
        left("the host is left after an upload");

        host.set(Reply::ok().body(vec![b'x'; MANY]));
        let mut client = Client::connect(subject.address());
        client.send(GET).expect("sent");
        client.read_head().expect("a head");
        if number % 2 == 0 {
            client.abort();
        } else {
            drop(client);
        }
        left("the host is left after a download");
        assert_eq!(host.requests(), 2 * number);
    }
    subject.settle(&[&host]);
}

#[test]
fn row_16_slow_clients() {
    const SLOW: usize = 300;
    const OTHERS: usize = 4;
    const HEAD: &str = "owes the rest of a head";
    let host = Backend::start_new("a");
    let setup = Setup::of(&[&host]).top("timeouts: { read: 3s, write: 3s }");
    let subject = Subject::start(&setup);
    let address = subject.address();
    // The response is so large that most of it waits for a client that does not read.
    host.set(Reply::script(|head, wire| {
        if let Some(framing) = head.framing() {
            wire.read_body(framing)?;
        }
        let length = if head.word(1) == "/large" { MANY } else { 2 };
        wire.send(format!(
            "HTTP/1.1 200 OK\r\nX-Backend: a\r\nContent-Length: {length}\r\n\r\n"
        ))?;
        wire.send(vec![b'x'; length])?;
        Ok(Next::Keep)
    }));
    let slow: Vec<(&str, Client)> = (0..SLOW)
        .map(|number| {
            let (what, begin) = match number % 10 {
                0 => ("reads nothing", "GET /large HTTP/1.1\r\nHost: test\r\n\r\n"),
                1..=5 => (HEAD, "GET / HTTP/1.1\r\nHost: te"),
                _ => (
                    "owes the rest of a body",
                    "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 9\r\n\r\nbegun",
                ),
            };
            let mut client = Client::connect(address);
            client.send(begin).expect("sent");
            (what, client)
        })
        .collect();
    // Other clients notice nothing while the slow ones are connected, nor when those are cut off.
    let others = Load::start_paced(address, OTHERS, Connections::Kept, Duration::from_millis(2));
    let slowest = thread::spawn(move || {
        let mut client = Client::connect(address);
        let mut times: Vec<Duration> = (0..500)
            .map(|_| {
                let start = Instant::now();
                assert_eq!(client.get("/").status, 200);
                let time = start.elapsed();
                thread::sleep(Duration::from_millis(2));
                time
            })
            .collect();
        times.sort_unstable();
        times[times.len() * 99 / 100]
    });
    wait_until(SOON, "hosts with unread responses are released", || {
        host.open_connections() <= OTHERS + 1
    });
    // The test does not control how long a first head may take.
    let owe_heads = slow.iter().filter(|(what, _)| *what == HEAD).count();
    wait_until(SOON, "the slow clients are disconnected", || {
        accepted_at(address) <= owe_heads + OTHERS + 1
    });
    drop(slow);
    let p99 = slowest.join().expect("every request gets a response");
    // A request that waited for a slow client would wait for the three seconds which that client may take.
    assert!(p99 < Duration::from_secs(2), "{p99:?}");
    others.stop().assert_all_ok("beside slow clients");
    subject.settle(&[&host]);
}
