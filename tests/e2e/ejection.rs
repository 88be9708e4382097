//! A host that fails requests gets none for a while and then has to prove itself with one request. It never takes the
//! other hosts down with it.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::support::{
    Backend, Ballast, Client, Connections, Load, Reply, SOON, Setup, get, wait_until,
};

/// An ejection with a short time for a test, which counts only failures in a row.
fn ejection(base: &str) -> String {
    format!("ejection: {{ base: {base}, rate: 0% }}")
}

fn wait_for_requests(ballast: &Ballast, backend: &Backend) {
    let before = backend.requests();
    wait_until(SOON, "the host gets requests", || {
        get(ballast.address(), "/");
        backend.requests() > before
    });
}

/// Sends GETs until `backend` has had `more` further requests.
fn request_until_served(ballast: &Ballast, backend: &Backend, more: u64) {
    let wanted = backend.requests() + more;
    let mut client = Client::connect(ballast.address());
    wait_until(SOON, "the host has its requests", || {
        client.get("/");
        backend.requests() >= wanted
    });
}

#[test]
fn five_consecutive_failures_eject_and_one_success_readmits() {
    let (good, bad) = (Backend::start_new("good"), Backend::start_new("bad"));
    let ballast = Setup::of(&[&good, &bad])
        .pool(&ejection("300ms"))
        .pool("slow_start: none")
        .start();
    let address = bad.address().to_string();
    bad.set(Reply::status(500));
    request_until_served(&ballast, &bad, 5);
    let line = ballast.wait_for_log(&[&address, "ejected for 300ms"]);
    assert!(
        line.contains("5 failures in a row, the last: status 500"),
        "{line}"
    );
    assert_eq!(bad.requests(), 5);
    // The host still fails: each time it gets one request, after twice the time.
    request_until_logged(&ballast, &[&address, "stays ejected for 600ms"]);
    assert_eq!(bad.requests(), 6);
    request_until_logged(&ballast, &[&address, "stays ejected for 1.2s"]);
    assert_eq!(bad.requests(), 7);
    bad.set(Reply::ok());
    request_until_logged(&ballast, &[&address, "is no longer ejected"]);
    wait_for_requests(&ballast, &bad);
}

/// Sends GETs until the log has a line with these parts.
fn request_until_logged(ballast: &Ballast, parts: &[&str]) {
    let mut client = Client::connect(ballast.address());
    wait_until(SOON, &format!("a line with {parts:?}"), || {
        client.get("/");
        !ballast.log_with(parts).is_empty()
    });
}

#[test]
fn the_last_usable_host_and_half_of_the_hosts_are_never_ejected() {
    let backends = ["a", "b", "c", "d"].map(Backend::start_new);
    let ballast = Setup::of(&backends.each_ref())
        .pool(&ejection("1m"))
        .start();
    backends.iter().for_each(|b| b.set(Reply::status(500)));
    let load = Load::start(ballast.address(), 4, Connections::Kept);
    wait_until(SOON, "many failures", || load.done() > 400);
    load.stop();
    assert_eq!(ballast.log_with(&["is ejected for"]).len(), 2);
    // The hosts that are not ejected serve as soon as they can.
    backends.iter().for_each(|b| b.set(Reply::ok()));
    let mut client = Client::connect(ballast.address());
    for _ in 0..20 {
        assert_eq!(client.get("/").status, 200);
    }

    let alone = Backend::start_new("alone");
    let ballast = Setup::of(&[&alone]).pool(&ejection("1m")).start();
    alone.set(Reply::status(500));
    let mut client = Client::connect(ballast.address());
    for _ in 0..50 {
        assert_eq!(client.get("/").status, 500);
    }
    alone.set(Reply::ok());
    assert_eq!(client.get("/").status, 200);
}

#[test]
fn a_failure_rate_ejects_without_consecutive_failures() {
    let (good, bad) = (Backend::start_new("good"), Backend::start_new("bad"));
    let ballast = Setup::of(&[&good, &bad])
        .pool("ejection: { consecutive: 0, rate: 40%, min_requests: 10, base: 1m }")
        .start();
    let turn = std::sync::atomic::AtomicU64::new(0);
    bad.set(Reply::script(move |_, wire| {
        let turn = turn.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let status = if turn.is_multiple_of(2) { 500 } else { 200 };
        wire.send(format!("HTTP/1.1 {status} T\r\nContent-Length: 0\r\n\r\n"))?;
        Ok(crate::support::Next::Keep)
    }));
    request_until_logged(
        &ballast,
        &[&bad.address().to_string(), "is ejected for 60s"],
    );
    let line = ballast.wait_for_log(&["requests failed"]);
    assert!(line.contains("of 1"), "{line}");
    let before = bad.requests();
    assert!(before >= 10, "{before}");
    let mut client = Client::connect(ballast.address());
    for _ in 0..20 {
        assert_eq!(client.get("/").backend(), "good");
    }
    assert_eq!(bad.requests(), before);
}

#[test]
fn client_errors_never_count_as_failures() {
    let (a, b) = (Backend::start_new("a"), Backend::start_new("b"));
    let ballast = Setup::of(&[&a, &b])
        .pool(&ejection("1m"))
        .top("timeouts: { read: 1s }")
        .start();
    for backend in [&a, &b] {
        backend.set(Reply::status(404));
    }
    let mut client = Client::connect(ballast.address());
    for _ in 0..20 {
        assert_eq!(client.get("/").status, 404);
    }
    for _ in 0..10 {
        // One client disconnects during the upload, and another client never finishes it.
        let upload = "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 1000\r\n\r\nbegun";
        let mut leaving = Client::connect(ballast.address());
        leaving.send(upload).expect("sent");
        leaving.abort();
        let mut stalling = Client::connect(ballast.address());
        stalling.send(upload).expect("sent");
        assert_eq!(
            stalling.read_response(false).expect("a response").status,
            408
        );
    }
    assert!(
        ballast.log_with(&["ejected"]).is_empty(),
        "{:?}",
        ballast.log()
    );
}

#[test]
fn a_response_that_does_not_end_readmits_a_host() {
    let (good, bad) = (Backend::start_new("good"), Backend::start_new("bad"));
    let ballast = Setup::of(&[&good, &bad])
        .pool(&ejection("200ms"))
        .pool("slow_start: none")
        .start();
    bad.set(Reply::status(500));
    request_until_served(&ballast, &bad, 5);
    bad.set(Reply::script(|_, wire| {
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nbegun")?;
        while !wire.read_some(1024)?.is_empty() {}
        Ok(crate::support::Next::Close)
    }));
    let (mut clients, before) = (Vec::new(), bad.requests());
    wait_until(SOON, "the probing request", || {
        let total = good.requests() + bad.requests();
        let mut client = Client::connect(ballast.address());
        client
            .send("GET / HTTP/1.1\r\nHost: test\r\n\r\n")
            .expect("sent");
        wait_until(SOON, "the request has arrived", || {
            good.requests() + bad.requests() > total
        });
        clients.push(client);
        bad.requests() > before
    });
    ballast.wait_for_log(&[&bad.address().to_string(), "is no longer ejected"]);
}

#[test]
fn a_post_readmits_a_host_if_there_are_only_posts() {
    let (good, bad) = (Backend::start_new("good"), Backend::start_new("bad"));
    let ballast = Setup::of(&[&good, &bad]).pool(&ejection("100ms")).start();
    bad.set(Reply::status(500));
    request_until_served(&ballast, &bad, 5);
    let address = bad.address().to_string();
    ballast.wait_for_log(&[&address, "is ejected for"]);
    bad.set(Reply::ok());
    let (start, before) = (Instant::now(), bad.requests());
    let mut client = Client::connect(ballast.address());
    wait_until(SOON, "a POST readmits the host", || {
        assert_eq!(client.post("/", b"body").status, 200);
        bad.requests() > before
    });
    // The process first waits for a request that it could send again if the host failed it.
    assert!(start.elapsed() > Duration::from_secs(4));
    ballast.wait_for_log(&[&address, "is no longer ejected"]);
}

#[test]
fn ejection_none_ejects_no_host() {
    let (good, bad) = (Backend::start_new("good"), Backend::start_new("bad"));
    bad.set(Reply::status(500));
    let ballast = Setup::of(&[&good, &bad]).pool("ejection: none").start();
    request_until_served(&ballast, &bad, 30);
    assert!(ballast.log_with(&["ejected"]).is_empty());
}

#[test]
fn a_fast_failing_host_gets_few_requests_with_every_algorithm() {
    for algorithm in [
        "random",
        "round_robin",
        "p2c",
        "{ name: p2c, load: peak_ewma }",
        "least_load",
        "ip_hash",
        "{ name: consistent_hash, key: uri }",
        "{ name: bounded, key: uri }",
    ] {
        let backends: Vec<_> = (0..8)
            .map(|n| Backend::start_new(&format!("h{n}")))
            .collect();
        backends[3].set(Reply::status(500));
        for (n, backend) in backends.iter().enumerate() {
            if n != 3 {
                backend.set(Reply::ok().after(Duration::from_millis(2)));
            }
        }
        let ballast = Setup::of(&backends.iter().collect::<Vec<_>>())
            .algorithm(algorithm)
            .start();
        let load = Load::start(ballast.address(), 16, Connections::Kept);
        wait_until(SOON, "the load has run", || load.done() > 2_000);
        load.stop();
        let failed = backends[3].requests();
        assert!(
            failed < 40,
            "{algorithm}: {failed} of 2000 went to the bad host"
        );
    }
}

#[test]
fn an_ejection_survives_a_reload() {
    let (good, bad) = (Backend::start_new("good"), Backend::start_new("bad"));
    let setup = Setup::of(&[&good, &bad]).pool(&ejection("1m"));
    let ballast = setup.start();
    bad.set(Reply::status(500));
    request_until_served(&ballast, &bad, 5);
    ballast.wait_for_log(&["is ejected for 60s"]);
    let before = bad.requests();
    let line = ballast.reload_by_sighup(&setup.clone().algorithm("random").yaml());
    assert!(line.contains("algorithm changed"), "{line}");
    let mut client = Client::connect(ballast.address());
    for _ in 0..30 {
        assert_eq!(client.get("/").backend(), "good");
    }
    assert_eq!(bad.requests(), before);
    ballast.signal(Signal::SIGTERM);
}

#[test]
fn a_host_that_recovers_by_its_check_leaves_its_ejection() {
    let (a, b) = (Backend::start_new("a"), Backend::start_new("b"));
    let ballast = Setup::of(&[&a, &b])
        .health("{ interval: 1s, timeout: 1s, rise: 1, fall: 1 }")
        .pool(&ejection("2m"))
        .start();
    let address = b.address().to_string();
    b.stop();
    request_until_logged(&ballast, &[&address, "is down"]);
    b.start();
    ballast.wait_for_log(&[&address, "is up"]);
    wait_for_requests(&ballast, &b);
}

/// Methods that a client can choose. CONNECT never reaches a host.
const METHODS: [&str; 9] = [
    "GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "FOO",
];

/// A host that responds with the status in the path.
fn status_of_the_path() -> Reply {
    Reply::script(|head, wire| {
        let status = head.word(1).trim_start_matches('/').to_owned();
        let length = match status.as_str() {
            "204" | "304" => "",
            _ => "Content-Length: 0\r\n",
        };
        wire.send(format!("HTTP/1.1 {status} T\r\n{length}\r\n"))?;
        Ok(crate::support::Next::Keep)
    })
}

fn indicates_a_host_failure(status: u16) -> bool {
    matches!(status, 500 | 502..=504 | 520..=529)
}

#[test]
fn only_statuses_that_indicate_a_host_failure_eject() {
    let hosts = [Backend::start_new("a"), Backend::start_new("b")];
    hosts.iter().for_each(|host| host.set(status_of_the_path()));
    let setup = Setup::of(&hosts.each_ref())
        .pool("ejection: { consecutive: 1, rate: 1%, min_requests: 1, base: 1m }")
        .pool("retries: none");
    let ballast = setup.start();
    let mut client = Client::connect(ballast.address());
    let ask = |client: &mut Client, method: &str, status: u16| {
        let request = format!("{method} /{status} HTTP/1.1\r\nHost: test\r\n\r\n");
        if client.request(&request).is_err() {
            *client = Client::connect(ballast.address());
        }
    };
    let others = (200..600).filter(|status| !indicates_a_host_failure(*status));
    for status in others {
        for method in METHODS {
            ask(&mut client, method, status);
            let ejections = ballast.log_with(&["ejected"]);
            assert!(ejections.is_empty(), "{method} {status}: {ejections:?}");
        }
        client = match status % 50 {
            0 => Client::connect(ballast.address()),
            _ => client,
        };
    }
    assert!(hosts.iter().all(|host| host.requests() > 1_000));
    for status in (500..600).filter(|status| indicates_a_host_failure(*status)) {
        let ballast = setup.start();
        let path = format!("/{status}");
        assert_eq!(get(ballast.address(), &path).status, status);
        ballast.wait_for_log(&["is ejected for", &format!("the last: status {status}")]);
    }
}

#[test]
fn configured_statuses_count_as_failures() {
    let hosts = [Backend::start_new("a"), Backend::start_new("b")];
    hosts.iter().for_each(|host| host.set(status_of_the_path()));
    let ejects = |failures: &str, status: u16| {
        let ejection = format!("ejection: {{ failures: {failures}, consecutive: 1, base: 1m }}");
        let ballast = Setup::of(&hosts.each_ref()).pool(&ejection).start();
        get(ballast.address(), &format!("/{status}"));
        let is_ejected = || !ballast.log_with(&["ejected"]).is_empty();
        // An ejection may follow shortly after the response that causes it.
        for _ in 0..20 {
            get(ballast.address(), "/200");
            if is_ejected() {
                break;
            }
        }
        is_ejected()
    };
    for (failures, status, expected) in [
        ("5xx", 501, false),
        ("5xx", 505, false),
        ("5xx", 507, true),
        ("[501]", 501, true),
        ("500-599", 505, true),
        ("[429]", 429, true),
        ("[429]", 500, false),
    ] {
        assert_eq!(ejects(failures, status), expected, "{failures} {status}");
    }
}

/// Behaves like Python's `http.server`, and like less polite servers: it reads no body, and an unknown method, a
/// large head or an upload ends the connection.
fn ordinary_server(polite: bool) -> Reply {
    Reply::script(move |head, wire| {
        use crate::support::Next;
        let known = matches!(head.word(0), "GET" | "HEAD");
        let large = head.get("x-long").is_some();
        match (known && !large, polite) {
            (true, _) => {
                wire.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")?;
                Ok(Next::Keep)
            }
            (false, true) => {
                wire.send(
                    "HTTP/1.0 501 Unsupported\r\nConnection: close\r\nContent-Length: 4\r\n\r\nwhat",
                )?;
                Ok(Next::Close)
            }
            (false, false) if head.word(0) == "PUT" => Ok(Next::Reset),
            (false, false) => Ok(Next::Close),
        }
    })
}

#[test]
fn a_client_cannot_eject_an_ordinary_server_by_its_requests() {
    for polite in [true, false] {
        let hosts = [Backend::start_new("a"), Backend::start_new("b")];
        hosts
            .iter()
            .for_each(|host| host.set(ordinary_server(polite)));
        let ballast = Setup::of(&hosts.each_ref())
            .pool("ejection: { consecutive: 2, min_requests: 5, base: 1m }")
            .start();
        let large = format!(
            "GET / HTTP/1.1\r\nHost: test\r\nX-Long: {}\r\n\r\n",
            "x".repeat(20_000)
        );
        let upload = format!(
            "PUT / HTTP/1.1\r\nHost: test\r\nContent-Length: 3000000\r\n\r\n{}",
            "x".repeat(500_000)
        );
        for request in [
            "FOO / HTTP/1.1\r\nHost: test\r\n\r\n",
            "TRACE / HTTP/1.1\r\nHost: test\r\n\r\n",
            "FOO / HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\nhello",
            &large,
            &upload,
        ] {
            for _ in 0..20 {
                let mut client = Client::connect(ballast.address());
                // The host may have closed before the client has sent the whole request.
                let _ = client.send(request);
                let _ = client.read_response(false);
                let ejections = ballast.log_with(&["ejected"]);
                let start = &request[..20];
                assert!(
                    ejections.is_empty(),
                    "{start} (polite: {polite}): {ejections:?}"
                );
            }
        }
        assert!(hosts.iter().all(|host| host.requests() >= 40));
        // The pool still sends requests to both hosts.
        let before = hosts.each_ref().map(Backend::requests);
        for _ in 0..20 {
            assert_eq!(get(ballast.address(), "/").status, 200);
        }
        let after = hosts.each_ref().map(Backend::requests);
        assert!(after[0] > before[0] && after[1] > before[1]);
    }
}
