//! A host that fails requests is left alone for a while, proves itself with one request, and never takes the rest with
//! it.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::support::{
    Backend, Ballast, Client, Connections, Load, Reply, SOON, Setup, get, wait_until,
};

/// Fast enough for a test; only consecutive failures are counted.
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

/// Sends GETs until `backend` has had this many more requests.
fn until_served(ballast: &Ballast, backend: &Backend, more: u64) {
    let wanted = backend.requests() + more;
    let mut client = Client::connect(ballast.address());
    wait_until(SOON, "the host has got its requests", || {
        client.get("/");
        backend.requests() >= wanted
    });
}

#[test]
fn five_failures_in_a_row_eject_and_one_good_request_brings_the_host_back() {
    let (good, bad) = (Backend::start_new("good"), Backend::start_new("bad"));
    let ballast = Setup::of(&[&good, &bad])
        .pool(&ejection("300ms"))
        .pool("slow_start: none")
        .start();
    let address = bad.address().to_string();
    bad.set(Reply::status(500));
    until_served(&ballast, &bad, 5);
    let line = ballast.wait_for_log(&[&address, "ejected for 300ms"]);
    assert!(
        line.contains("5 failures in a row, the last: status 500"),
        "{line}"
    );
    assert_eq!(bad.requests(), 5);
    // The host continues to fail: each time it gets one request, after twice the time.
    ballast_until(&ballast, &[&address, "stays ejected for 600ms"]);
    assert_eq!(bad.requests(), 6);
    ballast_until(&ballast, &[&address, "stays ejected for 1.2s"]);
    assert_eq!(bad.requests(), 7);
    bad.set(Reply::ok());
    ballast_until(&ballast, &[&address, "is no longer ejected"]);
    wait_for_requests(&ballast, &bad);
}

/// Sends GETs until a log line contains this.
fn ballast_until(ballast: &Ballast, parts: &[&str]) {
    let mut client = Client::connect(ballast.address());
    wait_until(SOON, &format!("a line with {parts:?}"), || {
        client.get("/");
        !ballast.log_with(parts).is_empty()
    });
}

#[test]
fn the_last_usable_host_stays_and_half_of_the_hosts_at_least() {
    let backends = ["a", "b", "c", "d"].map(Backend::start_new);
    let ballast = Setup::of(&backends.each_ref())
        .pool(&ejection("1m"))
        .start();
    backends.iter().for_each(|b| b.set(Reply::status(500)));
    let load = Load::start(ballast.address(), 4, Connections::Kept);
    wait_until(SOON, "many failures", || load.done() > 400);
    load.stop();
    assert_eq!(ballast.log_with(&["is ejected for"]).len(), 2);
    // The remaining hosts serve as well as they can.
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
fn a_rate_of_failures_ejects_where_no_row_does() {
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
    ballast_until(
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
fn what_a_client_does_wrong_never_counts() {
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
        // One client leaves in the middle of the upload, and another never ends it.
        let upload = "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 1000\r\n\r\nbegun";
        let mut leaving = Client::connect(ballast.address());
        leaving.send(upload).expect("sent");
        leaving.abort();
        let mut stalling = Client::connect(ballast.address());
        stalling.send(upload).expect("sent");
        assert_eq!(
            stalling.read_response(false).expect("an answer").status,
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
fn an_answer_that_does_not_end_proves_a_host_as_well() {
    let (good, bad) = (Backend::start_new("good"), Backend::start_new("bad"));
    let ballast = Setup::of(&[&good, &bad])
        .pool(&ejection("200ms"))
        .pool("slow_start: none")
        .start();
    bad.set(Reply::status(500));
    until_served(&ballast, &bad, 5);
    bad.set(Reply::script(|_, wire| {
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nbegun")?;
        while !wire.read_some(1024)?.is_empty() {}
        Ok(crate::support::Next::Close)
    }));
    let (mut clients, before) = (Vec::new(), bad.requests());
    wait_until(SOON, "the request that proves it", || {
        let total = good.requests() + bad.requests();
        let mut client = Client::connect(ballast.address());
        client
            .send("GET / HTTP/1.1\r\nHost: test\r\n\r\n")
            .expect("sent");
        wait_until(SOON, "it has arrived", || {
            good.requests() + bad.requests() > total
        });
        clients.push(client);
        bad.requests() > before
    });
    ballast.wait_for_log(&[&bad.address().to_string(), "is no longer ejected"]);
}

#[test]
fn where_only_posts_come_one_of_them_has_to_prove_a_host() {
    let (good, bad) = (Backend::start_new("good"), Backend::start_new("bad"));
    let ballast = Setup::of(&[&good, &bad]).pool(&ejection("100ms")).start();
    bad.set(Reply::status(500));
    until_served(&ballast, &bad, 5);
    let address = bad.address().to_string();
    ballast.wait_for_log(&[&address, "is ejected for"]);
    bad.set(Reply::ok());
    let (start, before) = (Instant::now(), bad.requests());
    let mut client = Client::connect(ballast.address());
    wait_until(SOON, "a POST proves it", || {
        assert_eq!(client.post("/", b"body").status, 200);
        bad.requests() > before
    });
    // Other requests could have been retried if the host had failed them.
    assert!(start.elapsed() > Duration::from_secs(4));
    ballast.wait_for_log(&[&address, "is no longer ejected"]);
}

#[test]
fn turned_off_nobody_is_ejected() {
    let (good, bad) = (Backend::start_new("good"), Backend::start_new("bad"));
    bad.set(Reply::status(500));
    let ballast = Setup::of(&[&good, &bad]).pool("ejection: none").start();
    until_served(&ballast, &bad, 30);
    assert!(ballast.log_with(&["ejected"]).is_empty());
}

#[test]
fn a_host_that_fails_at_once_costs_few_requests_with_every_algorithm() {
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
    until_served(&ballast, &bad, 5);
    ballast.wait_for_log(&["is ejected for 60s"]);
    let before = bad.requests();
    let line = ballast.hang_up(&setup.clone().algorithm("random").yaml());
    assert!(line.contains("algorithm changed"), "{line}");
    let mut client = Client::connect(ballast.address());
    for _ in 0..30 {
        assert_eq!(client.get("/").backend(), "good");
    }
    assert_eq!(bad.requests(), before);
    ballast.signal(Signal::SIGTERM);
}

#[test]
fn a_host_that_a_check_sees_recover_need_not_wait() {
    let (a, b) = (Backend::start_new("a"), Backend::start_new("b"));
    let ballast = Setup::of(&[&a, &b])
        .health("{ interval: 1s, timeout: 1s, rise: 1, fall: 1 }")
        .pool(&ejection("2m"))
        .start();
    let address = b.address().to_string();
    b.stop();
    ballast_until(&ballast, &[&address, "is down"]);
    b.start();
    ballast.wait_for_log(&[&address, "is up"]);
    wait_for_requests(&ballast, &b);
}

/// Methods that a client can choose. CONNECT never reaches a host.
const METHODS: [&str; 9] = [
    "GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "FOO",
];

/// Responds with the status that the path names.
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

fn is_the_hosts(status: u16) -> bool {
    matches!(status, 500 | 502..=504 | 520..=529)
}

#[test]
fn only_statuses_that_tell_of_the_host_eject_it_whatever_one_client_asks_for() {
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
    let others = (200..600).filter(|status| !is_the_hosts(*status));
    for status in others {
        for method in METHODS {
            ask(&mut client, method, status);
            let told = ballast.log_with(&["ejected"]);
            assert!(told.is_empty(), "{method} {status}: {told:?}");
        }
        client = match status % 50 {
            0 => Client::connect(ballast.address()),
            _ => client,
        };
    }
    assert!(hosts.iter().all(|host| host.requests() > 1_000));
    for status in (500..600).filter(|status| is_the_hosts(*status)) {
        let ballast = setup.start();
        let asked = format!("/{status}");
        assert_eq!(get(ballast.address(), &asked).status, status);
        ballast.wait_for_log(&["is ejected for", &format!("the last: status {status}")]);
    }
}

#[test]
fn what_the_file_names_counts_as_it_says() {
    let hosts = [Backend::start_new("a"), Backend::start_new("b")];
    hosts.iter().for_each(|host| host.set(status_of_the_path()));
    let ejects = |failures: &str, status: u16| {
        let ejection = format!("ejection: {{ failures: {failures}, consecutive: 1, base: 1m }}");
        let ballast = Setup::of(&hosts.each_ref()).pool(&ejection).start();
        get(ballast.address(), &format!("/{status}"));
        let is_ejected = || !ballast.log_with(&["ejected"]).is_empty();
        // The effect of a response follows right after it.
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

/// Like Python's `http.server` and less polite servers: the host reads no body, and an unknown method, a large head or
/// an upload ends the connection.
fn plain_server(polite: bool) -> Reply {
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
fn a_client_cannot_have_a_plain_server_ejected_by_what_it_asks_for() {
    for polite in [true, false] {
        let hosts = [Backend::start_new("a"), Backend::start_new("b")];
        hosts.iter().for_each(|host| host.set(plain_server(polite)));
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
                // The host may have closed before it has read everything.
                let _ = client.send(request);
                let _ = client.read_response(false);
                let told = ballast.log_with(&["ejected"]);
                let start = &request[..20];
                assert!(told.is_empty(), "{start} (polite: {polite}): {told:?}");
            }
        }
        assert!(hosts.iter().all(|host| host.requests() >= 40));
        // The pool has not turned away from any host either.
        let before = hosts.each_ref().map(Backend::requests);
        for _ in 0..20 {
            assert_eq!(get(ballast.address(), "/").status, 200);
        }
        let after = hosts.each_ref().map(Backend::requests);
        assert!(after[0] > before[0] && after[1] > before[1]);
    }
}
