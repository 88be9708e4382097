//! Rows 6 to 13: responses that break off, stall, drip, or never come.

use std::io;
use std::time::{Duration, Instant};

use super::{GET, NO_EJECTION, Subject};
use crate::support::{Backend, Client, Next, Reply, SOON, Setup, resident, wait_until};

/// How much memory may grow while a host misbehaves: buffers, and what the allocator keeps of them.
const SOME_MEMORY: u64 = 24 << 20;

/// Sends `bytes` unchanged in response to any request.
fn raw(bytes: impl Into<Vec<u8>>, next: Next) -> Reply {
    let bytes = bytes.into();
    Reply::script(move |head, wire| {
        if let Some(framing) = head.framing() {
            wire.read_body(framing)?;
        }
        wire.send(&bytes)?;
        Ok(next)
    })
}

#[test]
fn row_06_reset_or_close_within_the_body() {
    const LENGTH: &str = "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n0123456789";
    const CHUNKED: &str =
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\na\r\n0123456789\r\n";
    let (good, bad) = (Backend::start_new("good"), Backend::start_new("bad"));
    let subject = Subject::start(&Setup::of(&[&bad, &good]).pool(NO_EJECTION));
    for (round, (response, next)) in [
        (LENGTH, Next::Reset),
        (LENGTH, Next::Close),
        (CHUNKED, Next::Reset),
        (CHUNKED, Next::Close),
    ]
    .into_iter()
    .enumerate()
    {
        bad.set(raw(response, next));
        let mut outcomes = [(); 2].map(|()| Client::connect(subject.address()).request(GET));
        outcomes.sort_by_key(io::Result::is_ok);
        let [cut, whole] = outcomes;
        cut.expect_err("the client sees that the end is missing");
        assert_eq!(whole.expect("a complete response").backend(), "good");
        let round = round as u64 + 1;
        assert_eq!(
            (bad.requests(), good.requests()),
            (round, round),
            "{next:?}"
        );
    }
    subject.settle(&[&good, &bad]);
}

#[test]
fn row_07_content_length_mismatch() {
    let host = Backend::start_new("a");
    let subject = Subject::start(&Setup::of(&[&host]).pool(NO_EJECTION));
    let canary = |after: &str| {
        host.set(Reply::ok());
        let mut client = Client::connect(subject.address());
        for _ in 0..3 {
            assert_eq!(client.get("/").text(), "a\n", "after {after}");
        }
    };
    // The announced length exceeds the body.
    for response in [
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nshort",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n",
    ] {
        host.set(raw(response, Next::Close));
        let outcome = Client::connect(subject.address()).request(GET);
        outcome.expect_err("the end is missing");
        canary(response);
    }
    // The announced length is below the body. The excess bytes belong to no response, and the connection is not reused.
    for response in [
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nright and wrong",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nrightHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nright\r\n0\r\n\r\nwrong",
    ] {
        host.set(raw(response, Next::Keep));
        let before = host.connections();
        let mut client = Client::connect(subject.address());
        for _ in 0..3 {
            assert_eq!(client.get("/").text(), "right");
        }
        assert!(host.connections() >= before + 2, "{response}");
        canary(response);
    }
    subject.settle(&[&host]);
}

#[test]
fn row_08_body_that_stalls() {
    let host = Backend::start_new("a");
    let setup = Setup::of(&[&host])
        .top("limits: { max_in_flight: 1 }")
        .top("timeouts: { read: 1s }")
        .pool(NO_EJECTION);
    let subject = Subject::start(&setup);
    for _ in 0..3 {
        host.set(Reply::script(|_, wire| {
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n0123456789")?;
            while !wire.read_some(1024)?.is_empty() {}
            Ok(Next::Close)
        }));
        let start = Instant::now();
        let outcome = Client::connect(subject.address()).request(GET);
        outcome.expect_err("the rest never comes");
        assert!(start.elapsed() >= Duration::from_millis(900));
        assert!(start.elapsed() < SOON);
        wait_until(SOON, "the host is released", || {
            host.open_connections() == 0
        });
        // The only place is free.
        host.set(Reply::ok());
        let mut client = Client::connect(subject.address());
        wait_until(SOON, "the slot is free", || client.get("/").status == 200);
        drop(client);
        host.close_idle();
    }
    subject.settle(&[&host]);
}

#[test]
fn row_09_body_that_drips() {
    let host = Backend::start_new("a");
    let setup = Setup::of(&[&host]).top("timeouts: { read: 2s }");
    let subject = Subject::start(&setup);
    host.set(Reply::Drip(Duration::from_millis(10)));
    let before = resident(subject.ballast.pid());
    let start = Instant::now();
    let dripping: Vec<_> = (0..50)
        .map(|_| {
            let mut client = Client::connect(subject.address());
            client.send(GET).expect("sent");
            client
        })
        .collect();
    wait_until(SOON, "all are served", || host.requests() == 50);
    host.set(Reply::ok());
    assert_eq!(Client::connect(subject.address()).get("/").status, 200);
    for mut client in dripping {
        assert_eq!(
            client
                .read_response(false)
                .expect("a complete response")
                .text(),
            "ok"
        );
    }
    assert!(start.elapsed() >= Duration::from_millis(500));
    assert!(resident(subject.ballast.pid()) < before + SOME_MEMORY);
    subject.settle(&[&host]);
}

#[test]
fn row_10_flood_of_interim_responses() {
    const ENOUGH: usize = 20_000;
    let host = Backend::start_new("a");
    let subject = Subject::start(&Setup::of(&[&host]).pool(NO_EJECTION));
    let before = resident(subject.ballast.pid());
    host.set(Reply::script(|_, wire| {
        let hints = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n".repeat(100);
        for _ in 0..ENOUGH / 100 {
            wire.send(&hints)?;
        }
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone")?;
        Ok(Next::Keep)
    }));
    for _ in 0..3 {
        // The response is passed on or cut short: the client sees an end, and no data accumulates.
        if let Ok(response) = Client::connect(subject.address()).request(GET) {
            assert!([200, 502].contains(&response.status), "{}", response.status);
        }
    }
    assert!(resident(subject.ballast.pid()) < before + SOME_MEMORY);
    host.set(Reply::ok());
    assert_eq!(Client::connect(subject.address()).get("/").status, 200);
    subject.settle(&[&host]);
}

#[test]
fn row_11_malformed_heads() {
    let host = Backend::start_new("a");
    let subject = Subject::start(&Setup::of(&[&host]).pool(NO_EJECTION));
    for (number, malformed) in [
        "this is not HTTP\r\n\r\n",
        "HTTP/1.1 abc OK\r\n\r\n",
        "HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 99999 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nno colon\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nBad Name: x\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: five\r\n\r\nwrong",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 7\r\n\r\nwrong",
    ]
    .into_iter()
    .enumerate()
    {
        host.set(raw(malformed, Next::Close));
        let response = Client::connect(subject.address()).post("/", b"x");
        assert_eq!(response.status, 502, "{malformed:?}");
        assert!(!response.text().contains("wrong"), "{malformed:?}");
        // A response came, although a bad one, so the request is not sent again.
        assert_eq!(host.requests(), 2 * number as u64 + 1, "{malformed:?}");
        host.set(Reply::ok());
        assert_eq!(Client::connect(subject.address()).get("/").text(), "a\n");
    }
    subject.settle(&[&host]);
}

#[test]
fn row_12_heads_of_20_kilobytes_2_megabytes_and_2000_fields() {
    let host = Backend::start_new("a");
    let subject = Subject::start(&Setup::of(&[&host]).pool(NO_EJECTION));
    let memory = || resident(subject.ballast.pid());
    let head = |fields: usize, length: usize| {
        let mut head = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n".to_owned();
        for number in 0..fields {
            head.push_str(&format!("X-{number}: {}\r\n", "x".repeat(length)));
        }
        head.push_str("\r\n");
        head
    };
    let get = || Client::connect(subject.address()).request(GET);
    let mut warm = u64::MAX;
    for round in 0..10 {
        host.set(raw(head(10, 2_000), Next::Keep));
        let response = get().expect("a complete response");
        assert_eq!(response.status, 200);
        assert_eq!(response.head.get("x-9").map(str::len), Some(2_000));
        for (what, head) in [
            ("2 megabytes", head(100, 20_000)),
            ("2 megabytes in one field", head(1, 2_000_000)),
            ("2,000 fields", head(2_000, 10)),
        ] {
            host.set(raw(head, Next::Close));
            assert_eq!(get().expect("a complete response").status, 502, "{what}");
        }
        if round == 2 {
            warm = memory();
        }
    }
    let memory = memory();
    assert!(
        memory < warm.saturating_add(SOME_MEMORY),
        "{warm} to {memory}"
    );
    subject.settle(&[&host]);
}

#[test]
fn row_13_response_before_the_upload_has_ended() {
    const LENGTH: usize = 1_000_000;
    let host = Backend::start_new("a");
    let subject = Subject::start(&Setup::of(&[&host]).top("timeouts: { read: 1s }"));
    host.set(Reply::Early(413));
    for number in 1..=6 {
        let mut client = Client::connect(subject.address());
        let head = format!("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: {LENGTH}\r\n\r\n");
        client.send(head).expect("sent");
        let response = client.read_response(false).expect("a complete response");
        assert_eq!((response.status, response.backend()), (413, "a"));
        if number % 2 == 0 {
            // The proxy may drain the excess, or the connection may have ended.
            let _ = client.send(vec![b'x'; LENGTH]);
            let _ = client.request(GET);
        } else {
            assert!(
                client.is_closed_within(SOON),
                "the proxy does not wait for the rest"
            );
        }
    }
    subject.settle(&[&host]);
}
