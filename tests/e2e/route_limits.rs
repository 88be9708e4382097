//! What routes and pools say of timeouts, sizes and counts themselves, and requests split among pools; with the engine,
//! with Pingora's HTTP/1.1, and over HTTP/2.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::http2::{Http2, Secure};
use crate::support::{
    Backend, Ballast, Client, FullHost, Next, Reply, SOON, Setup, get, wait_until,
};

/// How a process is asked.
const WAYS: [&str; 3] = ["engine", "pingora", "http2"];

/// A process, and a way to ask it.
struct Asked {
    ballast: Ballast,
    http2: Option<Http2>,
}

impl Asked {
    fn start(setup: &Setup, way: &str) -> Self {
        if way == "http2" {
            let secure = Secure::new();
            let ballast = setup.clone().top(&secure.listeners()).start();
            let http2 = Some(secure.connect(ballast.address()));
            return Asked { ballast, http2 };
        }
        let setup = setup.clone().top(&format!("server: {{ http1: {way} }}"));
        Asked {
            ballast: setup.start(),
            http2: None,
        }
    }

    /// The status of the response to a GET.
    fn get(&mut self, path: &str) -> u16 {
        match &mut self.http2 {
            Some(http2) => http2.get(path).status,
            None => get(self.ballast.address(), path).status,
        }
    }

    /// The status of the response to an upload whose length is announced, and to one whose length is not.
    fn post(&mut self, path: &str, size: usize) -> [u16; 2] {
        let body = vec![b'x'; size];
        match &mut self.http2 {
            Some(http2) => {
                let mut announced = crate::support::http2::request("POST", path);
                let length = size.to_string().parse().expect("a value");
                announced.headers_mut().insert("content-length", length);
                let (response, mut stream) = http2.open(announced, false).expect("a stream");
                // A refused upload may be reset before its end.
                let _ = stream.send_data(body.clone().into(), true);
                let announced = http2.wait_for_response(response).expect("a response");
                let streamed = http2.post(path, &body).expect("a response");
                [announced.status, streamed.status]
            }
            None => {
                let mut client = Client::connect(self.ballast.address());
                let announced = client.try_post(path, &body).expect("a response");
                let mut client = Client::connect(self.ballast.address());
                let head = format!(
                    "POST {path} HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"
                );
                client.send(head).expect("sent");
                // A refused upload may be reset before its end.
                let _ = client
                    .send_chunk(&body)
                    .and_then(|()| client.send_chunk(""));
                let streamed = client.read_response(false).expect("a response");
                [announced.status, streamed.status]
            }
        }
    }
}

#[test]
fn a_route_and_a_pool_have_read_timeouts_of_their_own() {
    let (quick, patient) = (Backend::start_new("a"), Backend::start_new("b"));
    let setup = Setup::of(&[&quick])
        .top("timeouts: { read: 20s }")
        .top("routes:\n- { path: /route/, pool: other, timeouts: { read: 700ms } }")
        .top("- { path: /long/, pool: web, timeouts: { read: 20s } }")
        .top("- { path: /other/, pool: other }\n- { pool: web }")
        .pool("timeouts: { read: 700ms }\n    retries: none")
        .pool(&format!(
            "\n  other: {{ hosts: [\"{}\"], health_check: none, retries: none }}",
            patient.address()
        ));
    for way in WAYS {
        let mut asked = Asked::start(&setup, way);
        for backend in [&quick, &patient] {
            backend.set(Reply::Hang);
        }
        for path in ["/route/", "/"] {
            let start = Instant::now();
            assert_eq!(asked.get(path), 504, "{way} {path}");
            let took = start.elapsed();
            assert!(took >= Duration::from_millis(650), "{way} {path}: {took:?}");
            assert!(took < Duration::from_secs(15), "{way} {path}: {took:?}");
        }
        // The hosts of the others take longer than that.
        for backend in [&quick, &patient] {
            backend.set(Reply::ok().after(Duration::from_millis(1_500)));
        }
        for path in ["/long/", "/other/"] {
            assert_eq!(asked.get(path), 200, "{way} {path}");
        }
    }
}

#[test]
fn a_route_has_a_connect_timeout_of_its_own() {
    let full = FullHost::new();
    let setup = Setup::of(&[])
        .host(full.address())
        .top("timeouts: { connect: 60s }")
        .top("routes:\n- { pool: web, retries: none, timeouts: { connect: 300ms } }");
    for way in WAYS {
        let mut asked = Asked::start(&setup, way);
        let start = Instant::now();
        assert_eq!(asked.get("/"), 504, "{way}");
        assert!(start.elapsed() >= Duration::from_millis(300), "{way}");
    }
}

#[test]
fn a_route_has_a_write_timeout_of_its_own() {
    let backend = Backend::start_new("a");
    backend.set(Reply::ok().body(vec![b'x'; 32 << 20]));
    let setup = Setup::of(&[&backend])
        .top("timeouts: { write: 60s }")
        .top("routes:\n- { pool: web, timeouts: { write: 300ms } }");
    // Over HTTP/2 the socket is that of all streams, and has the write timeout of the top level.
    for way in ["engine", "pingora"] {
        let asked = Asked::start(&setup, way);
        let before = backend.requests();
        let mut unread = Client::connect(asked.ballast.address());
        unread
            .send("GET / HTTP/1.1\r\nHost: test\r\n\r\n")
            .expect("sent");
        wait_until(SOON, "the request reaches the host", || {
            backend.requests() == before + 1
        });
        wait_until(SOON, "the host is released", || {
            backend.open_connections() == 0
        });
    }
}

#[test]
fn a_route_says_how_long_its_tunnels_may_be_silent() {
    let backend = Backend::start_new("a");
    backend.set(Reply::script(|_, wire| {
        wire.send("HTTP/1.1 101 Fine\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")?;
        while !wire.read_some(1_000)?.is_empty() {}
        Ok(Next::Close)
    }));
    let setup = Setup::of(&[&backend])
        .top("upgrades: [tcp]\ntimeouts: { tunnel: 700ms }")
        .top("routes:\n- { path: /long/, pool: web, timeouts: { tunnel: 30s } }\n- { pool: web }");
    for way in ["engine", "pingora"] {
        let asked = Asked::start(&setup, way);
        let open = |path: &str| {
            let mut client = Client::connect(asked.ballast.address());
            let upgrade = "Connection: upgrade\r\nUpgrade: tcp\r\n";
            let head = format!("GET {path} HTTP/1.1\r\nHost: test\r\n{upgrade}\r\n");
            client.send(head).expect("sent");
            assert_eq!(client.read_head().expect("a head").0, 101, "{way} {path}");
            client
        };
        let mut long = open("/long/");
        let mut short = open("/");
        assert!(short.is_closed_within(SOON), "{way}");
        // It has been silent for longer than the other one.
        assert!(!long.is_closed_within(Duration::from_millis(200)), "{way}");
    }
}

#[test]
fn a_route_has_a_body_limit_of_its_own() {
    let backend = Backend::start_new("a");
    let setup = Setup::of(&[&backend]).top("limits: { body: 1000 }").top(
        "routes:\n- { path: /small/, pool: web, limits: { body: 100 } }\n\
         - { path: /large/, pool: web, limits: { body: 100KiB } }\n- { pool: web }",
    );
    for way in WAYS {
        let mut asked = Asked::start(&setup, way);
        for (path, most) in [("/small/", 100), ("/", 1_000), ("/large/", 100 * 1024)] {
            assert_eq!(asked.post(path, most), [200; 2], "{way} {path}");
            assert_eq!(asked.post(path, most + 1), [413; 2], "{way} {path}");
        }
    }
    // A client whose body is refused may still send all of it, so the connection ends.
    let ballast = setup.start();
    let mut client = Client::connect(ballast.address());
    let response = client.post("/small/", &[b'x'; 101]);
    assert_eq!(response.status, 413);
    assert_eq!(response.head.get("connection"), Some("close"));
    assert!(client.is_closed_within(SOON));
}

#[test]
fn a_route_has_a_number_of_requests_at_the_same_time_which_a_reload_keeps() {
    let backend = Backend::start_new("a");
    let setup = |limit: u32| {
        Setup::of(&[&backend]).top(&format!(
            "routes:\n- {{ path: /few/, pool: web, limits: {{ max_in_flight: {limit} }} }}\n- {{ pool: web }}"
        ))
    };
    for way in WAYS {
        let mut asked = Asked::start(&setup(1), way);
        backend.set(Reply::Hang);
        let before = backend.requests();
        let address = asked.ballast.address();
        let (mut running, mut stream) = (None, None);
        match &mut asked.http2 {
            Some(http2) => {
                let request = crate::support::http2::request("GET", "/few/");
                stream = Some(http2.open(request, true).expect("a stream"));
            }
            None => {
                let mut client = Client::connect(address);
                let sent = client.send("GET /few/ HTTP/1.1\r\nHost: test\r\n\r\n");
                sent.expect("sent");
                running = Some(client);
            }
        }
        wait_until(SOON, "the request reaches the host", || {
            backend.requests() > before
        });
        backend.set(Reply::ok());
        assert_eq!(asked.get("/few/"), 503, "{way}");
        assert_eq!(asked.get("/"), 200, "{way}: other routes are not limited");
        if way == "engine" {
            let response = get(address, "/few/");
            assert_eq!(response.head.get("retry-after"), Some("1"));
            // The running request is counted in the new configuration as well.
            let server = "server: { http1: engine }";
            asked.ballast.reload_by_sighup(&setup(2).top(server).yaml());
            let mut second = Client::connect(address);
            backend.set(Reply::Hang);
            let before = backend.requests();
            let sent = second.send("GET /few/ HTTP/1.1\r\nHost: test\r\n\r\n");
            sent.expect("sent");
            wait_until(SOON, "the request reaches the host", || {
                backend.requests() > before
            });
            backend.set(Reply::ok());
            assert_eq!(asked.get("/few/"), 503, "two of two are running");
            second.abort();
        }
        if let Some(client) = running {
            client.abort();
        }
        drop(stream);
        wait_until(SOON, "the slot is free", || asked.get("/few/") == 200);
    }
}

fn split(backends: [&Backend; 2], split: &str) -> Setup {
    let [first, second] = backends;
    Setup::of(&[first])
        .top(&format!("routes: [{{ {split} }}]"))
        .pool(&format!(
            "\n  next: {{ hosts: [\"{}\"], health_check: none, timeouts: {{ read: 700ms }}, retries: none }}",
            second.address()
        ))
}

#[test]
fn requests_are_split_by_weight_and_steadily_by_a_key() {
    let (first, second) = (Backend::start_new("a"), Backend::start_new("b"));
    let at_random = "pools: [{ pool: web, weight: 60 }, { pool: next, weight: 40 }]";
    let ballast = split([&first, &second], at_random).start();
    let mut client = Client::connect(ballast.address());
    for _ in 0..400 {
        assert_eq!(client.get("/").status, 200);
    }
    // 160 of them, with a standard deviation of less than 10.
    let share = second.requests();
    assert!((100..220).contains(&share), "{share}");
    assert_eq!(first.requests() + share, 400);

    let by_cookie = |weight: u32| {
        let pools = format!(
            "pools: [{{ pool: web, weight: {} }}, {{ pool: next, weight: {weight} }}], split_by: \"cookie:user\"",
            100 - weight
        );
        split([&first, &second], &pools)
    };
    let ballast = by_cookie(30).start();
    let pools_of = |ballast: &Ballast| {
        let mut client = Client::connect(ballast.address());
        let users = (0..60).map(|user| {
            let cookie = format!("Cookie: x=1; user={user}\r\n");
            client.get_with("/", &cookie).backend().to_owned()
        });
        Vec::from_iter(users)
    };
    let before = pools_of(&ballast);
    assert_eq!(before, pools_of(&ballast), "each user stays");
    let over_http2 = {
        let mut asked = Asked::start(&by_cookie(30), "http2");
        let http2 = asked.http2.as_mut().expect("a connection");
        let users = (0..60).map(|user| {
            let mut request = crate::support::http2::request("GET", "/");
            let cookie = format!("user={user}").parse().expect("a value");
            request.headers_mut().insert("cookie", cookie);
            let response = http2.ask(request).expect("a response");
            response.field("x-backend").to_owned()
        });
        Vec::from_iter(users)
    };
    assert_eq!(before, over_http2, "in every process and protocol");
    ballast.reload_by_sighup(&by_cookie(60).yaml());
    let after = pools_of(&ballast);
    for (user, (before, after)) in before.iter().zip(&after).enumerate() {
        // No user moves away from the pool whose share grows.
        assert!(before == after || (before == "a" && after == "b"), "{user}");
    }
    assert_ne!(before, after);
    // The timeouts are those of the pool that was chosen.
    let user = after.iter().position(|pool| pool == "b").expect("a user");
    let cookie = format!("user={user}");
    second.set(Reply::Hang);
    let response = client_of(&ballast).get_with("/", &format!("Cookie: {cookie}\r\n"));
    assert_eq!(response.status, 504);

    let explained = ballast.command(&["explain", "--header", &format!("Cookie: {cookie}")]);
    let shown = format!("split by cookie:user = `{user}`: web 40%, next 60%");
    assert!(
        explained.stdout.contains("pool next by route 1"),
        "{explained:?}"
    );
    assert!(explained.stdout.contains(&shown), "{explained:?}");
    let explained = ballast.command(&["explain", "--json"]);
    let value: Value = serde_json::from_str(&explained.stdout).expect("JSON");
    assert_eq!(value["outcome"]["none"], "split", "{value}");
    assert_eq!(value["split"]["shares"][1]["weight"], 60, "{value}");
}

fn client_of(ballast: &Ballast) -> Client {
    Client::connect(ballast.address())
}

#[test]
fn a_route_has_retries_of_its_own() {
    let (failing, working) = (Backend::start_new("a"), Backend::start_new("b"));
    failing.set(Reply::status(503));
    let setup = Setup::of(&[&failing, &working])
        .algorithm("round_robin")
        .pool("ejection: none")
        .top("routes:\n- { path: /once/, pool: web, retries: none }")
        .top("- { path: /not503/, pool: web, retries: { statuses: [502] } }\n- { pool: web }");
    for way in WAYS {
        let mut asked = Asked::start(&setup, way);
        for (path, seen) in [("/", vec![200; 4]), ("/once/", vec![200, 200, 503, 503])] {
            let mut statuses = Vec::from_iter((0..4).map(|_| asked.get(path)));
            statuses.sort_unstable();
            assert_eq!(statuses, seen, "{way} {path}");
        }
        let statuses = Vec::from_iter((0..4).map(|_| asked.get("/not503/")));
        assert!(statuses.contains(&503), "{way}: {statuses:?}");
    }
}

#[test]
fn check_shows_what_is_in_force_and_which_key_says_so() {
    let backend = Backend::start_new("a");
    let setup = Setup::of(&[&backend])
        .top("limits: { body: 1MiB }")
        .top("timeouts: { read: 20s, write: 30s }")
        .top("compression: { min_size: 2KiB }")
        .top("routes:\n- path: /a/\n  pool: web\n  timeouts: { read: 5m }\n  rate: 5/min\n  auth: { pool: web }")
        .top("  compression: true\n- { path: /b/, pool: web, compression: false }")
        .top("- { pool: web, compression: { algorithms: gzip } }")
        .pool("timeouts:\n      write: 7s\n    retries: none");
    let ballast = setup.start();
    let checked = ballast.command(&["check", "--effective"]);
    assert_eq!(checked.code, Some(0), "{checked:?}");
    let text = ballast.file();
    let text = std::fs::read_to_string(text).expect("the file");
    let line_of = |part: &str| {
        let found = text.lines().position(|line| line.contains(part));
        found.expect("a line of the file") + 1
    };
    let blocks = checked.stdout.split("\n\n");
    let blocks = Vec::from_iter(blocks.map(|block| {
        let lines = block.lines();
        let words = lines.map(|line| Vec::from_iter(line.split_whitespace()).join(" "));
        Vec::from_iter(words)
    }));
    let block = |title: &str| {
        let found = blocks.iter().find(|block| block[0] == title);
        found.unwrap_or_else(|| panic!("no {title} in {}", checked.stdout))
    };
    for (title, expected) in [
        (
            "pools.web",
            vec![
                "timeouts.connect 3s default".to_owned(),
                format!("timeouts.read 20s timeouts.read, line {}", line_of("20s")),
                format!(
                    "timeouts.write 7s pools.web.timeouts.write, line {}",
                    line_of("7s")
                ),
                format!(
                    "retries none pools.web.retries, line {}",
                    line_of("retries")
                ),
            ],
        ),
        (
            "routes[0] /a/ -> pool web",
            vec![
                format!(
                    "timeouts.read 5m routes[0].timeouts.read, line {}",
                    line_of("5m")
                ),
                format!("limits.body 1MiB limits.body, line {}", line_of("1MiB")),
                "limits.max_in_flight no limit default".to_owned(),
                format!(
                    "rate 5/min, burst 1, by client_ip routes[0].rate, line {}",
                    line_of("5/min")
                ),
                format!("auth pool web routes[0].auth, line {}", line_of("auth:")),
            ],
        ),
        (
            "routes[0] /a/ -> pool web",
            vec![
                "compression.algorithms zstd, br, gzip default".to_owned(),
                format!(
                    "compression.min_size 2KiB compression.min_size, line {}",
                    line_of("2KiB")
                ),
            ],
        ),
        (
            "routes[1] /b/ -> pool web",
            vec![format!(
                "compression false routes[1].compression, line {}",
                line_of("/b/")
            )],
        ),
        (
            "routes[2] everything -> pool web",
            vec![
                "rate no limit default".to_owned(),
                format!(
                    "compression.algorithms gzip routes[2].compression.algorithms, line {}",
                    line_of("algorithms: gzip")
                ),
            ],
        ),
    ] {
        let block = block(title);
        for line in expected {
            assert!(block.contains(&line), "no {line} in {block:#?}");
        }
    }
}
