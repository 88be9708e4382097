//! Copies of a route's requests for another pool, of which clients notice nothing. Over HTTP/1.1 and HTTP/2.

use std::net::SocketAddr;
use std::time::Duration;

use crate::metrics::scrape::Scrape;
use crate::support::http2::request;
use crate::support::{
    Authority, Backend, Ballast, BothProtocols, Client, DeadHost, Head, Next, Reply, SOON, Setup,
    wait_for, wait_until,
};

/// A pool `web` of `hosts` behind a route with the keys `route`, and a pool `next` of one host with the further keys
/// `next`, each after a comma.
fn mirrored(hosts: &[&Backend], copies: SocketAddr, route: &str, next: &str) -> Setup {
    Setup::of(hosts)
        .top(&format!("routes: [{{ pool: web, {route} }}]"))
        .pool(&format!(
            "\n  next: {{ hosts: [\"{copies}\"], health_check: none{next} }}"
        ))
}

/// A process with an admin listener, which tells what became of copies.
struct Counted {
    ballast: Ballast,
    admin: SocketAddr,
}

impl Counted {
    fn start(setup: Setup) -> Self {
        let admin = crate::support::free();
        let admin_listener = format!("admin: {{ address: \"{admin}\", hosts: [test] }}");
        Counted {
            ballast: setup.top(&admin_listener).start(),
            admin,
        }
    }

    fn client(&self) -> Client {
        Client::connect(self.ballast.address())
    }

    fn metric(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        Scrape::of(self.admin).sum(name, labels) as u64
    }

    /// The number of copies with this outcome.
    fn copies(&self, outcome: &str) -> u64 {
        let labels = [("pool", "next"), ("outcome", outcome)];
        self.metric("ballast_mirrored_requests_total", &labels)
    }

    fn in_flight(&self) -> u64 {
        self.metric("ballast_mirrored_in_flight", &[("pool", "next")])
    }

    #[track_caller]
    fn wait_for_copies(&self, outcome: &str, count: u64) {
        let what = format!("{count} copies are {outcome}");
        wait_until(SOON, &what, || self.copies(outcome) == count);
    }
}

/// The fields without those in which a copy differs; sorted, since their order means nothing.
fn common_fields(head: &Head) -> Vec<(String, String)> {
    let own = ["x-mirrored", "host", "transfer-encoding", "content-length"];
    let fields = head.fields.iter();
    let fields = fields.map(|(name, value)| (name.to_ascii_lowercase(), value.clone()));
    let mut fields = Vec::from_iter(fields.filter(|(name, _)| !own.contains(&name.as_str())));
    fields.sort();
    fields
}

/// Asserts that the latest `count` requests were copied.
#[track_caller]
fn assert_copied(count: usize, main: &Backend, copies: &Backend, host: &str, body: &[u8]) {
    for original in main.all().iter().rev().take(count) {
        let id = original.head.get("x-request-id");
        let copy = wait_for(SOON, "the copy arrives", || {
            let mut all = copies.all().into_iter();
            all.find(|copy| copy.head.get("x-request-id") == id && copy.body.len() == body.len())
        });
        assert_eq!(copy.head.start, original.head.start);
        assert_eq!(copy.head.all("host"), [host]);
        assert_eq!(copy.head.all("x-mirrored"), ["1"]);
        assert_eq!(original.head.all("x-mirrored"), [""; 0]);
        assert_eq!(common_fields(&copy.head), common_fields(&original.head));
        assert_eq!((&copy.body[..], &original.body[..]), (body, body));
    }
    assert_eq!(copies.requests(), main.requests());
}

#[test]
fn a_copy_is_what_the_host_gets() {
    let (main, copies) = (Backend::start_new("a"), Backend::start_new("b"));
    let setup = Setup::of(&[&main])
        .top("headers: { via: edge }\ntrusted_proxies: [127.0.0.1]")
        .top("routes:")
        .top("- { path: /v1/, pool: web, mirror: next, strip_prefix: /v1, request_headers: { set: { X-Uri: \"{uri}\" }, remove: [X-Secret] } }")
        .top("- { path: /named/, pool: web, mirror: next, request_headers: { set: { Host: named.example } } }")
        .top("- { path: /own/, pool: web, mirror: own }")
        .top("- { pool: web, mirror: { pool: next, share: 100% } }")
        .pool("host_header: upstream")
        .pool(&format!("\n  next: {{ hosts: [\"{}\"], health_check: none }}", copies.address()))
        .pool(&format!(
            "\n  own: {{ hosts: [\"{}\"], health_check: none, host_header: upstream }}",
            copies.address()
        ));
    let mut both = BothProtocols::start(&setup);
    let own = copies.address().to_string();
    for (path, host) in [
        ("/v1/a%20b?c=d", "test"),
        ("/named/x", "named.example"),
        ("/own/", own.as_str()),
        ("/", "test"),
    ] {
        for method in ["GET", "HEAD", "DELETE"] {
            let fields = [
                ("X-Secret", "1"),
                ("X-Twice", "1"),
                ("X-Twice", "2"),
                ("Forwarded", "for=192.0.2.1"),
                ("X-Forwarded-For", "192.0.2.1"),
                ("Cookie", "a=b"),
            ];
            for seen in both.ask(method, ("test", path), &fields) {
                assert_eq!((seen.status, seen.field("x-backend")), (200, "a"));
            }
            assert_copied(2, &main, &copies, host, b"");
        }
    }
    // Hop-by-hop fields reach neither.
    let mut client = Client::connect(both.plain.address());
    client.get_with(
        "/",
        "Connection: keep-alive, X-Hop\r\nX-Hop: 1\r\nTE: trailers\r\n",
    );
    assert_copied(1, &main, &copies, "test", b"");
    assert_eq!(copies.last().head.get("x-hop"), None);
    assert_eq!(copies.last().head.get("via"), Some("1.1 edge"));
}

#[test]
fn bodies_are_copied_as_far_as_they_are_kept() {
    let (main, copies) = (Backend::start_new("a"), Backend::start_new("b"));
    // They are kept for copies also where there are no retries.
    let route = "mirror: next, retries: none";
    let setup = mirrored(&[&main], copies.address(), route, "");
    let mut both = BothProtocols::start(&setup);
    let mut client = Client::connect(both.plain.address());
    for size in [1, 1_000, 60_000] {
        let body = Vec::from_iter((0..size).map(|index| (index % 251) as u8));
        assert_eq!(client.post("/length", &body).status, 200);
        assert_copied(1, &main, &copies, "test", &body);
        let head = "POST /chunked HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n";
        client.send(head).expect("sent");
        for piece in body.chunks(20_000) {
            client.send_chunk(piece).expect("sent");
        }
        client.send_chunk("").expect("sent");
        assert_eq!(client.read_response(false).expect("a response").status, 200);
        assert_copied(1, &main, &copies, "test", &body);
        let response = both.http2.post("/http2", &body).expect("a response");
        assert_eq!(response.status, 200);
        assert_copied(1, &main, &copies, "test", &body);
    }
    let expecting =
        "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n";
    client.send(format!("{expecting}ok")).expect("sent");
    let copied = copies.requests() + 1;
    wait_until(SOON, "the copy arrives", || {
        copies.requests() == copied && copies.last().body == b"ok"
    });
    assert_eq!(copies.last().head.get("expect"), None);
}

#[test]
fn a_large_body_is_not_copied_and_reaches_the_host() {
    let (main, copies) = (Backend::start_new("a"), Backend::start_new("b"));
    let counted = Counted::start(mirrored(&[&main], copies.address(), "mirror: next", ""));
    let large = vec![b'x'; 70_000];
    assert_eq!(counted.client().post("/", &large).status, 200);
    assert_eq!(main.last().body, large);
    counted.wait_for_copies("too_large", 1);
    // A request that does not arrive whole is not copied either.
    let mut client = counted.client();
    client
        .send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\nab")
        .expect("sent");
    wait_until(SOON, "the host gets a part", || main.last().body == b"ab");
    client.abort();
    // Nor is a copy, or else a pool that leads back here would make a loop.
    counted.client().get_with("/", "X-Mirrored: 1\r\n");
    // Nor is one that asks for an upgrade.
    main.set(Reply::script(|_, wire| {
        wire.send("HTTP/1.1 101 Fine\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")?;
        Ok(Next::Close)
    }));
    let mut client = counted.client();
    let upgrade =
        "GET / HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    client.send(upgrade).expect("sent");
    assert_eq!(client.read_head().expect("a head").0, 101);
    main.set(Reply::ok());
    assert_eq!(counted.client().get("/last").status, 200);
    counted.wait_for_copies("ok", 1);
    assert_eq!(
        (copies.requests(), copies.last().head.word(1)),
        (1, "/last")
    );
    assert_eq!(counted.copies("failed"), 0);
}

#[test]
fn a_share_of_requests_is_copied() {
    let (main, copies) = (Backend::start_new("a"), Backend::start_new("b"));
    let route = "mirror: { pool: next, share: 30% }";
    let setup = mirrored(&[&main], copies.address(), route, "");
    let counted = Counted::start(setup);
    let mut client = counted.client();
    for _ in 0..300 {
        assert_eq!(client.get("/").status, 200);
    }
    wait_until(SOON, "no copy is in flight", || counted.in_flight() == 0);
    let copied = counted.copies("ok");
    // Seven standard deviations around 90.
    assert!((34..=146).contains(&copied), "{copied}");
    assert_eq!(copies.requests(), copied);
    // A copy is no request of a client.
    let requests = |pool: &str| counted.metric("ballast_requests_total", &[("pool", pool)]);
    wait_until(SOON, "all requests are counted", || requests("web") == 300);
    assert_eq!(requests("next"), 0);
    let route = "mirror: { pool: next, share: 0% }";
    let none = mirrored(&[&main], copies.address(), route, "");
    let counted = Counted::start(none);
    let mut client = counted.client();
    for _ in 0..50 {
        assert_eq!(client.get("/").status, 200);
    }
    let metrics = Scrape::of(counted.admin).text;
    for outcome in ["ok", "failed", "no_host", "too_many", "too_large"] {
        assert_eq!(counted.copies(outcome), 0, "{outcome}");
        assert!(
            metrics.contains(&format!("outcome=\"{outcome}\"}} 0\n")),
            "{metrics}"
        );
    }
    assert_eq!(copies.requests(), copied);
}

#[test]
fn copies_that_hang_delay_nothing_and_are_bounded() {
    let (main, copies) = (Backend::start_new("a"), Backend::start_new("b"));
    copies.set(Reply::Hang);
    let route = "mirror: { pool: next, max_in_flight: 2 }";
    let setup = mirrored(&[&main], copies.address(), route, "");
    let mut counted = Counted::start(setup.clone());
    let mut client = counted.client();
    for _ in 0..5 {
        assert_eq!(client.get("/").backend(), "a");
    }
    wait_until(SOON, "two copies hang", || copies.requests() == 2);
    assert_eq!((counted.in_flight(), counted.copies("too_many")), (2, 3));
    // Neither a reload nor the end of the process waits for them.
    let with = format!(
        "admin: {{ address: \"{}\", hosts: [test] }}\n",
        counted.admin
    );
    let with = with + &setup.yaml();
    // A pool that no route leads to would be an error.
    let without = with.replace(&format!("pool: web, {route}"), "pool: web");
    let without = without.replace("[{ pool", "[{ path: /never, pool: next }, { pool");
    let outcome = counted.ballast.reload_by_sighup(&without);
    assert!(!outcome.contains("ERROR"), "{outcome}");
    assert_eq!(client.get("/").backend(), "a");
    assert_eq!((counted.in_flight(), counted.copies("too_many")), (2, 3));
    copies.stop();
    counted.wait_for_copies("failed", 2);
    copies.start();
    counted.ballast.reload_by_sighup(&with);
    assert_eq!(client.get("/").backend(), "a");
    wait_until(SOON, "a copy hangs", || copies.requests() == 3);
    counted.ballast.signal(nix::sys::signal::Signal::SIGTERM);
    assert!(counted.ballast.wait_exit(SOON).success());
}

#[test]
fn a_copy_does_not_wait_for_the_response() {
    let (main, copies) = (Backend::start_new("a"), Backend::start_new("b"));
    main.set(Reply::Hang);
    let mut both = BothProtocols::start(&mirrored(&[&main], copies.address(), "mirror: next", ""));
    let mut client = Client::connect(both.plain.address());
    client
        .send("GET / HTTP/1.1\r\nHost: test\r\n\r\n")
        .expect("sent");
    wait_until(SOON, "the copy arrives", || copies.requests() == 1);
    let (response, _stream) = both
        .http2
        .open(request("GET", "/"), true)
        .expect("a stream");
    wait_until(SOON, "the copy arrives", || copies.requests() == 2);
    main.stop();
    assert_eq!(client.read_response(false).expect("a response").status, 502);
    let response = both.http2.wait_for_response(response).expect("a response");
    assert_eq!(response.status, 502);
}

#[test]
fn a_pool_for_copies_that_fails_changes_nothing_for_clients() {
    let (main, copies) = (Backend::start_new("a"), Backend::start_new("b"));
    let dead = DeadHost::new();
    for (host, next, reply, outcome) in [
        (dead.address(), "", Reply::ok().into(), "failed"),
        (copies.address(), "", Reply::Reset, "failed"),
        (copies.address(), "", Reply::ResetMidBody, "ok"),
        (copies.address(), "", Reply::status(503).into(), "ok"),
        (copies.address(), "", Reply::Early(413), "ok"),
        (
            copies.address(),
            ", timeouts: { connect: 100ms, read: 200ms }",
            Reply::Hang,
            "failed",
        ),
        (
            copies.address(),
            ", maintenance: true",
            Reply::ok().into(),
            "no_host",
        ),
        (
            dead.address(),
            ", ejection: { consecutive: 1 }",
            Reply::ok().into(),
            "failed",
        ),
    ] {
        copies.set(reply);
        let counted = Counted::start(mirrored(&[&main], host, "mirror: next", next));
        assert_eq!(counted.client().get("/").backend(), "a", "{next}");
        counted.wait_for_copies(outcome, 1);
        assert_eq!(counted.client().post("/", b"body").backend(), "a", "{next}");
        wait_until(SOON, "both copies end", || {
            counted.copies(outcome) + counted.copies("no_host") >= 2
        });
    }
    // The response is read only as far as that is cheaper than a connection.
    copies.set(Reply::script(|_, wire| {
        wire.send("HTTP/1.1 200 OK\r\n\r\n")?;
        while wire.send([b'x'; 10_000]).is_ok() {}
        Ok(Next::Close)
    }));
    let counted = Counted::start(mirrored(&[&main], copies.address(), "mirror: next", ""));
    assert_eq!(counted.client().get("/").backend(), "a");
    counted.wait_for_copies("ok", 1);
    copies.set(Reply::Hang);
    let full = format!(
        "\n  next: {{ hosts: [{{ address: \"{}\", max_in_flight: 1 }}], health_check: none }}",
        copies.address()
    );
    let counted = Counted::start(
        Setup::of(&[&main])
            .top("routes: [{ pool: web, mirror: next }]")
            .pool(&full),
    );
    let before = copies.requests();
    assert_eq!(counted.client().get("/").backend(), "a");
    wait_until(SOON, "a copy hangs", || copies.requests() == before + 1);
    assert_eq!(counted.client().get("/").backend(), "a");
    counted.wait_for_copies("no_host", 1);
}

#[test]
fn a_request_is_copied_once_however_often_it_is_tried() {
    let (bad, good) = (Backend::start_new("bad"), Backend::start_new("good"));
    let (copies, dead) = (Backend::start_new("b"), DeadHost::new());
    bad.set(Reply::Reset);
    let setup = mirrored(&[&bad, &good], copies.address(), "mirror: next", "").host(dead.address());
    let counted = Counted::start(setup);
    let mut client = counted.client();
    for copied in 1..=3 {
        let response =
            client.request("PUT / HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\n\r\nbody");
        assert_eq!(response.expect("a response").backend(), "good");
        counted.wait_for_copies("ok", copied);
    }
    assert!(bad.requests() > 0);
    assert_eq!(copies.requests(), 3);
    assert_eq!(copies.last().body, b"body");
    // The connection is kept for the next copy.
    assert_eq!(copies.connections(), 1);
}

#[test]
fn copies_go_over_tls_where_the_pool_says_so() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let authority = Authority::new("the host's");
    let ca = authority.write(folder.path(), "ca.pem");
    let main = Backend::start_new("a");
    let copies = Backend::start_tls("b", authority.issue(&["app.test"]).server());
    let tls = format!(
        ", tls: {{ server_name: app.test, ca: \"{}\" }}",
        ca.display()
    );
    let mut both =
        BothProtocols::start(&mirrored(&[&main], copies.address(), "mirror: next", &tls));
    for seen in both.ask("GET", ("test", "/"), &[]) {
        assert_eq!(seen.status, 200);
    }
    wait_until(Duration::from_secs(20), "the copies arrive", || {
        copies.requests() == 2
    });
}
