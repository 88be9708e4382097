//! When a host fails a request, the request goes to another host: in which cases, how often, and in which cases not.
//! The hosts count everything that the proxy sends.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::support::{
    Backend, Client, Connections, DeadHost, Framing, Load, Next, Reply, SOON, Setup, get,
    wait_until,
};

/// A pool without ejection, so that failing hosts stay in it.
fn setup(backends: &[&Backend]) -> Setup {
    Setup::of(backends).pool("ejection: none")
}

/// Two hosts; the tests let the second one fail.
fn good_and_bad() -> (Backend, Backend) {
    (Backend::start_new("good"), Backend::start_new("bad"))
}

/// A complete request with a body of known length.
fn request(method: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!("{method} / HTTP/1.1\r\nHost: test\r\nContent-Length: {length}\r\n\r\n");
    [head.as_bytes(), body].concat()
}

#[test]
fn a_failure_status_is_retried_on_another_host() {
    let (good, bad) = good_and_bad();
    let ballast = setup(&[&good, &bad]).start();
    let mut client = Client::connect(ballast.address());
    for status in [502, 503, 504] {
        bad.set(Reply::status(status));
        let before = bad.requests();
        for method in ["GET", "PUT", "DELETE", "OPTIONS", "HEAD"] {
            for _ in 0..2 {
                let response = client.request(request(method, b"body"));
                let response = response.expect("a complete response");
                assert_eq!(response.backend(), "good", "{method} after {status}");
                assert_eq!(good.last().body, b"body", "{method} after {status}");
            }
        }
        assert!(bad.requests() >= before + 5, "{status}: bad was not tried");
    }
}

#[test]
fn a_failed_post_gets_the_response_of_its_host() {
    let (good, bad) = good_and_bad();
    let ballast = setup(&[&good, &bad]).start();
    bad.set(Reply::status(503).field("Retry-After", "7").body("not now"));
    let mut client = Client::connect(ballast.address());
    let mut failed = 0;
    for _ in 0..10 {
        let response = client.post("/", b"pay");
        if response.status == 503 {
            failed += 1;
            assert_eq!(response.backend(), "bad");
            assert_eq!(response.head.get("retry-after"), Some("7"));
            assert_eq!(response.text(), "not now");
        }
    }
    assert_eq!(failed, 5);
    assert_eq!((good.requests(), bad.requests()), (5, 5));
}

#[test]
fn other_statuses_are_not_retried() {
    let (good, bad) = good_and_bad();
    let ballast = setup(&[&good, &bad]).start();
    let mut client = Client::connect(ballast.address());
    for status in [500, 501, 505, 404, 429] {
        bad.set(Reply::status(status));
        let statuses = [client.get("/").status, client.get("/").status];
        assert!(statuses.contains(&status), "{statuses:?}");
    }
    assert_eq!((good.requests(), bad.requests()), (5, 5));
}

#[test]
fn retried_statuses_are_configured_per_pool() {
    let (good, bad) = good_and_bad();
    let ballast = setup(&[&good, &bad])
        .pool("retries: { statuses: [404, 500-501] }")
        .start();
    let mut client = Client::connect(ballast.address());
    for status in [404, 500, 501] {
        bad.set(Reply::status(status));
        assert_eq!([client.get("/").status, client.get("/").status], [200; 2]);
    }
    bad.set(Reply::status(503));
    let statuses = [client.get("/").status, client.get("/").status];
    assert!(statuses.contains(&503), "{statuses:?}");
}

#[test]
fn a_route_may_retry_every_method() {
    let (good, bad) = good_and_bad();
    let ballast = setup(&[&good, &bad])
        .top("routes: [{ path: /twice, pool: web, retry: any_method }, { pool: web }]")
        .start();
    let mut client = Client::connect(ballast.address());
    for reply in [Reply::status(503).into(), Reply::Reset, Reply::Close] {
        bad.set(reply.clone());
        let before = bad.requests();
        for _ in 0..4 {
            assert_eq!(
                client.post("/twice", b"body").backend(),
                "good",
                "{reply:?}"
            );
            assert_eq!(good.last().body, b"body", "{reply:?}");
        }
        assert!(bad.requests() >= before + 2, "{reply:?}: bad was not tried");
    }
    bad.set(Reply::status(503));
    let statuses = [0; 2].map(|_| client.post("/once", b"body").status);
    assert!(statuses.contains(&503), "{statuses:?}");
}

#[test]
fn a_retried_body_is_complete_or_not_sent() {
    let (good, bad) = good_and_bad();
    let ballast = setup(&[&good, &bad]).start();
    bad.set(Reply::status(503));
    let body = |length: u32| Vec::from_iter((0..length).map(|i| (i % 251) as u8));
    let mut client = Client::connect(ballast.address());
    for length in [0, 1, 10_000, 60_000, 64 * 1024] {
        for _ in 0..2 {
            let response = client.request(request("PUT", &body(length)));
            assert_eq!(
                response.expect("a complete response").backend(),
                "good",
                "{length}"
            );
            assert!(good.last().body == body(length), "{length}");
        }
    }
    // The same with a chunked body.
    for _ in 0..2 {
        client
            .send("PUT / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n")
            .expect("sent");
        for piece in body(50_000).chunks(7_000) {
            client.send_chunk(piece).expect("sent");
        }
        client.send_chunk("").expect("sent");
        let response = client.read_response(false).expect("a complete response");
        assert_eq!(response.backend(), "good");
        assert!(good.last().body == body(50_000));
    }
    // The body is larger than the buffer, so the client gets the response of `bad`.
    let counts = [good.requests(), bad.requests()];
    let mut statuses = Vec::new();
    for _ in 0..2 {
        let response = Client::connect(ballast.address()).request(request("PUT", &body(70_000)));
        statuses.push(response.expect("a complete response").status);
    }
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 503]);
    assert_eq!(
        [good.requests(), bad.requests()],
        counts.map(|count| count + 1)
    );
}

#[test]
fn a_partly_received_body_is_retried() {
    let (good, bad) = good_and_bad();
    let ballast = setup(&[&good, &bad]).start();
    bad.set(Reply::Early(503));
    for _ in 0..4 {
        let before = [&good, &bad].map(Backend::requests);
        let mut client = Client::connect(ballast.address());
        client
            .send("PUT / HTTP/1.1\r\nHost: test\r\nContent-Length: 8\r\n\r\nhalf")
            .expect("sent");
        wait_until(SOON, "the good host has the first part", || {
            good.requests() > before[0] && good.last().body == b"half"
        });
        client.send("rest").expect("sent");
        let response = client.read_response(false).expect("a complete response");
        assert_eq!(response.backend(), "good");
        assert_eq!(good.last().body, b"halfrest");
    }
    assert!(bad.requests() >= 2);
}

#[test]
fn a_retry_after_an_interim_response_gives_a_valid_response() {
    let (good, bad) = good_and_bad();
    let ballast = setup(&[&good, &bad]).start();
    bad.set(Reply::script(|head, wire| {
        wire.read_body(head.framing().unwrap_or(Framing::Length(0)))?;
        wire.send("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")?;
        wire.send("HTTP/1.1 503 Test\r\nX-Backend: bad\r\nContent-Length: 2\r\n\r\nno")?;
        Ok(Next::Keep)
    }));
    let mut client = Client::connect(ballast.address());
    for _ in 0..20 {
        let response = client.get("/");
        // The network decides whether the two responses arrive together. If they do, the proxy has passed on nothing
        // from `bad`.
        match response.backend() {
            "bad" => assert_eq!((response.status, response.text().as_str()), (503, "no")),
            other => assert_eq!(other, "good"),
        }
    }
}

#[test]
fn no_host_gets_a_request_twice_and_the_client_gets_the_last_response() {
    let backends = ["a", "b"].map(Backend::start_new);
    let ballast = setup(&backends.each_ref())
        .pool("retries: { attempts: 5, min: 100 }")
        .start();
    for backend in &backends {
        backend.set(Reply::status(503));
    }
    let mut client = Client::connect(ballast.address());
    for round in 1..=10 {
        let response = client.get("/");
        assert_eq!(response.status, 503);
        assert_ne!(response.backend(), "", "the response comes from a host");
        assert_eq!([0, 1].map(|i| backends[i].requests()), [round; 2]);
    }
}

#[test]
fn a_response_is_not_discarded_for_a_place_in_a_queue() {
    let (good, bad) = good_and_bad();
    let ballast = setup(&[&good, &bad])
        .pool("limits: { max_in_flight: 1, queue_timeout: 10m }")
        .top("timeouts: { read: 10m }")
        .start();
    good.set(Reply::Hang);
    bad.set(Reply::status(503));
    let mut busy = Client::connect(ballast.address());
    let start = Instant::now();
    busy.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n")
        .expect("sent");
    wait_until(SOON, "good is full", || good.requests() == 1);
    let response = get(ballast.address(), "/");
    assert_eq!((response.status, response.backend()), (503, "bad"));
    assert!(start.elapsed() < SOON);
}

#[test]
fn attempts_are_limited() {
    for attempts in 1..=4 {
        let backends = ["a", "b", "c", "d", "e"].map(Backend::start_new);
        let ballast = setup(&backends.each_ref())
            .pool(&format!("retries: {{ attempts: {attempts} }}"))
            .start();
        for backend in &backends {
            backend.set(Reply::status(502));
        }
        assert_eq!(get(ballast.address(), "/").status, 502);
        let arrived: u64 = backends.iter().map(Backend::requests).sum();
        assert_eq!(arrived, attempts + 1);
    }
}

#[test]
fn retries_none_disables_retries() {
    let (good, bad) = good_and_bad();
    let dead = DeadHost::new();
    let ballast = setup(&[&good, &bad])
        .host(dead.address())
        .pool("retries: none")
        .start();
    for (reply, status) in [
        (Reply::status(503).into(), 503),
        (Reply::Reset, 502),
        (Reply::Close, 502),
    ] {
        bad.set(reply);
        let mut statuses = [0; 3].map(|_| get(ballast.address(), "/").status);
        statuses.sort_unstable();
        let mut expected = [200, status, 502];
        expected.sort_unstable();
        assert_eq!(statuses, expected);
    }
}

#[test]
fn no_attempt_begins_after_the_deadline() {
    let (good, bad) = good_and_bad();
    let ballast = setup(&[&good, &bad])
        .pool("retries: { deadline: 100ms }")
        .start();
    bad.set(Reply::status(503).after(Duration::from_millis(150)));
    let start = Instant::now();
    let mut statuses = [0; 2].map(|_| get(ballast.address(), "/").status);
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 503]);
    assert!(start.elapsed() < SOON);
    assert_eq!((good.requests(), bad.requests()), (1, 1));
}

#[test]
fn without_budget_only_unsent_requests_are_retried() {
    let (good, bad) = good_and_bad();
    let dead = DeadHost::new();
    let ballast = setup(&[&good, &bad])
        .host(dead.address())
        .pool("retries: { budget: 0%, min: 0 }")
        .start();
    for (reply, status) in [(Reply::status(503).into(), 503), (Reply::Reset, 502)] {
        bad.set(reply);
        let mut statuses = [0; 6].map(|_| get(ballast.address(), "/").status);
        statuses.sort_unstable();
        // The turns are good, bad, dead and so on, and the turns of the dead host go to the next host.
        let ok = statuses.iter().filter(|got| **got == 200).count();
        assert!(statuses.iter().all(|got| [200, status].contains(got)));
        assert!((2..=4).contains(&ok), "{statuses:?}");
    }
}

/// All hosts fail, and retries do not overload them: they get at most 1.2 times the requests that the clients send.
#[test]
fn retries_add_at_most_a_fifth_of_the_requests() {
    const REQUESTS: u64 = 2_000;
    const IN_FLIGHT: usize = 64;
    // Enough requests that the budget's share is greater than its minimum all the time.
    const HELD: usize = 16;
    let backends = ["a", "b", "c", "d"].map(Backend::start_new);
    let ballast = setup(&backends.each_ref()).start();
    for backend in &backends {
        backend.set(Reply::Hang);
    }
    let waiting = Vec::from_iter((0..HELD).map(|_| {
        let mut client = Client::connect(ballast.address());
        client
            .send("GET / HTTP/1.1\r\nHost: test\r\n\r\n")
            .expect("sent");
        client
    }));
    let arrived = || backends.iter().map(Backend::requests).sum::<u64>();
    wait_until(SOON, "the held requests arrive", || {
        arrived() == HELD as u64
    });
    for backend in &backends {
        backend.set(Reply::status(503));
    }
    let load = Load::start(ballast.address(), IN_FLIGHT, Connections::Kept);
    wait_until(4 * SOON, "the requests get responses", || {
        load.done() >= REQUESTS
    });
    let tally = load.stop();
    assert_eq!(tally.by_status.get(&503), Some(&tally.total()), "{tally:?}");
    let sent = tally.total() + HELD as u64;
    let arrived = arrived();
    println!("{sent} requests, {arrived} attempts");
    assert!(
        arrived * 100 <= sent * 120,
        "{sent} requests, {arrived} attempts"
    );
    // The budget was used.
    assert!(
        arrived * 100 >= sent * 119,
        "{sent} requests, {arrived} attempts"
    );
    drop(waiting);
}

/// How a host ends a connection that the proxy wants to reuse.
#[derive(Debug, Clone, Copy)]
enum Race {
    /// The host closes or resets this long after its response, possibly just while the next request is on its way.
    Unread(Next, Duration),
    /// The host reads the next request, may have worked on it, and closes or resets.
    Read(Next),
}

/// A host that responds to the first request of each connection and ends the connection as `race` states. Returns how
/// often the host read each path.
fn racing(backend: &Backend, race: Race) -> Arc<Mutex<HashMap<String, u32>>> {
    let seen = Arc::<Mutex<HashMap<String, u32>>>::default();
    let counted = Arc::clone(&seen);
    backend.set(Reply::script(move |head, wire| {
        let count = |path: &str| {
            let mut seen = counted.lock().expect("the lock is not poisoned");
            *seen.entry(path.to_owned()).or_default() += 1;
        };
        count(head.word(1));
        wire.read_body(head.framing().unwrap_or(Framing::Length(0)))?;
        wire.send("HTTP/1.1 200 OK\r\nX-Backend: a\r\nContent-Length: 2\r\n\r\nok")?;
        match race {
            Race::Unread(next, delay) => {
                let answered = Instant::now();
                // This time is shorter than the resolution of a sleep.
                while answered.elapsed() < delay {
                    std::hint::spin_loop();
                }
                Ok(next)
            }
            Race::Read(next) => {
                if let Some(head) = wire.read_head()? {
                    count(head.word(1));
                    wire.read_body(head.framing().unwrap_or(Framing::Length(0)))?;
                }
                Ok(next)
            }
        }
    }));
    seen
}

/// Sends requests one after another, each with its own path. Returns how many got the status 200.
fn send_one_by_one(address: SocketAddr, method: &str, round: &str, requests: usize) -> usize {
    let mut client = Client::connect(address);
    let mut answered = 0;
    for number in 0..requests {
        let body = if method == "POST" { "pay" } else { "" };
        let length = body.len();
        let request = format!(
            "{method} /{round}/{number} HTTP/1.1\r\nHost: test\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        let response = client.request(request).expect("a complete response");
        if response.status == 200 {
            answered += 1;
        } else {
            assert_eq!(response.status, 502);
        }
        if response.head.has_token("connection", "close") {
            client = Client::connect(address);
        }
    }
    answered
}

/// Sends POSTs and GETs over connections that end as `race` states. Returns how many POSTs got the status 200, how
/// many POSTs the host read, and how many GETs it read twice. The host must read no POST twice, and no GET more than
/// twice.
fn race(address: SocketAddr, backend: &Backend, race: Race, requests: usize) -> [usize; 3] {
    let seen = racing(backend, race);
    let round = backend.requests();
    let posted = send_one_by_one(address, "POST", &format!("post{round}"), requests);
    let got = send_one_by_one(address, "GET", &format!("get{round}"), requests);
    assert_eq!(got, requests, "{race:?}: a GET failed");
    let (mut read, mut twice) = (0, 0);
    for (path, count) in seen.lock().expect("the lock is not poisoned").iter() {
        if path.starts_with("/post") {
            assert_eq!(*count, 1, "{race:?}: {path}");
            read += 1;
        } else {
            assert!(*count <= 2, "{race:?}: {path} {count} times");
            twice += *count as usize - 1;
        }
    }
    [posted, read, twice]
}

#[test]
fn a_connection_closed_during_a_request_repeats_no_post_and_fails_no_get() {
    const REQUESTS: usize = 20;
    let backend = Backend::start_new("a");
    let ballast = setup(&[&backend]).start();
    let mut lost = 0;
    for step in 0..30 {
        for next in [Next::Close, Next::Reset] {
            let unread = Race::Unread(next, Duration::from_micros(step * 15));
            let [posted, read, twice] = race(ballast.address(), &backend, unread, REQUESTS);
            assert_eq!((read, twice), (posted, 0), "{unread:?}");
            lost += REQUESTS - posted;
        }
    }
    println!("{lost} POSTs failed and their clients got an error");
}

#[test]
fn a_post_that_was_read_before_its_connection_ended_is_not_retried() {
    for next in [Next::Close, Next::Reset] {
        let backend = Backend::start_new("a");
        let ballast = setup(&[&backend]).start();
        let counts = race(ballast.address(), &backend, Race::Read(next), 20);
        // Every second POST, and each GET but the first, uses the connection of the previous request.
        assert_eq!(counts, [10, 20, 19], "{next:?}");
    }
}
