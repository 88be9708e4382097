//! Routes with `auth` let in what their service lets in. Over HTTP/1.1 and HTTP/2.

use std::time::Duration;

use crate::support::{
    Backend, Ballast, BothProtocols, Client, DeadHost, Head, Next, Reply, SOON, Setup, Wire, http2,
    wait_until,
};

const LOG: &str = "access_log: { path: access.log, format: json }";

/// A service that lets clients in, and says who they are.
fn permit(service: &Backend) {
    let reply = Reply::status(200).field("Remote-User", "alice");
    service.set(
        reply
            .field("Remote-Groups", "a")
            .field("Remote-Groups", "b"),
    );
}

/// The service at a URL, with further keys.
fn by_url(service: &Backend, keys: &str) -> String {
    format!(
        "auth: {{ url: \"http://{}/verify?x=1\", {keys} }}",
        service.address()
    )
}

#[track_caller]
fn wait_for_ending(ballast: &Ballast, ending: &str) {
    wait_until(SOON, "the line of the access log", || {
        let log = std::fs::read_to_string(ballast.path("access.log"));
        log.is_ok_and(|log| log.contains(&format!("\"ending\":\"{ending}\"")))
    });
}

#[test]
fn who_is_let_in_reaches_the_host_with_the_fields_of_the_service() {
    let (host, service) = (Backend::start_new("a"), Backend::start_new("service"));
    permit(&service);
    let auth = by_url(
        &service,
        "copy_headers: [Remote-User, Remote-Groups, X-Absent]",
    );
    let setup = Setup::of(&[&host])
        .top("headers: { underscores: pass }")
        .top(&format!("routes: [{{ pool: web, {auth} }}]"));
    let mut both = BothProtocols::start(&setup);
    let fields = [
        ("Cookie", "session=1"),
        ("Cookie", "lang=en"),
        ("Authorization", "Bearer token"),
        ("Remote-User", "root"),
        ("remote_user", "root"),
        ("X-Absent", "root"),
        ("X_Absent", "root"),
        ("X-Forwarded-Uri", "/spoofed"),
        ("If-None-Match", "*"),
        ("X-Other", "other"),
    ];
    let assert_passed_on = |scheme: &str| {
        let asked = service.last();
        assert_eq!(asked.head.start, "GET /verify?x=1 HTTP/1.1");
        assert_eq!(asked.body, b"");
        let address = service.address().to_string();
        for (name, expected) in [
            ("host", &[address.as_str()][..]),
            ("x-forwarded-method", &["PUT"]),
            ("x-forwarded-uri", &["/a%20b?c=d"]),
            ("x-forwarded-host", &["test"]),
            ("x-forwarded-proto", &[scheme]),
            ("x-forwarded-for", &["127.0.0.1"]),
            ("cookie", &["session=1; lang=en"]),
            ("authorization", &["Bearer token"]),
            ("x-other", &["other"]),
            ("if-none-match", &[]),
            ("content-length", &[]),
            ("transfer-encoding", &[]),
        ] {
            assert_eq!(asked.head.all(name), expected, "{name}");
        }
        let got = host.last().head;
        assert_eq!(got.start, "PUT /a%20b?c=d HTTP/1.1");
        for (name, expected) in [
            ("remote-user", &["alice"][..]),
            ("remote_user", &[]),
            ("remote-groups", &["a", "b"]),
            ("x-absent", &[]),
            ("x_absent", &[]),
            ("if-none-match", &["*"]),
            ("x-forwarded-uri", &[]),
        ] {
            assert_eq!(got.all(name), expected, "{name}");
        }
        assert_eq!(got.all("x-request-id"), asked.head.all("x-request-id"));
    };
    let lines = fields.map(|(name, value)| format!("{name}: {value}\r\n"));
    let request = format!(
        "PUT /a%20b?c=d HTTP/1.1\r\nHost: test\r\n{}\r\n",
        lines.concat()
    );
    let response = Client::connect(both.plain.address()).request(request);
    assert_eq!(response.expect("a response").status, 200);
    assert_passed_on("http");
    for seen in both.ask("PUT", ("test", "/a%20b?c=d"), &fields) {
        assert_eq!((seen.status, seen.body.as_str()), (200, "a\n"));
        assert_eq!(seen.all("remote-user"), [""; 0]);
    }
    assert_passed_on("https");
}

#[test]
fn bodies_reach_the_host_alone() {
    let (host, service) = (Backend::start_new("a"), Backend::start_new("service"));
    let auth = by_url(&service, "");
    let setup = Setup::of(&[&host]).top(&format!("routes: [{{ pool: web, {auth} }}]"));
    let mut both = BothProtocols::start(&setup);
    let body = vec![b'x'; 300_000];
    let mut client = Client::connect(both.plain.address());
    for _ in 0..3 {
        assert_eq!(client.post("/upload", &body).status, 200);
        assert!(host.last().body == body);
    }
    client
        .send("POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n")
        .expect("sent");
    client.send_chunk("part").expect("sent");
    client.send_chunk("").expect("sent");
    assert_eq!(client.read_response(false).expect("a response").status, 200);
    assert_eq!(host.last().body, b"part");
    assert_eq!(
        both.http2.post("/x", &body).expect("a response").status,
        200
    );
    assert!(host.last().body == body);
    assert_eq!(service.requests(), 5);
    // Those of the first process, and that of the second one.
    assert_eq!(service.connections(), 2);
    assert_eq!(service.last().body, b"");
}

#[test]
fn others_get_the_response_of_the_service() {
    let (host, service) = (Backend::start_new("a"), Backend::start_new("service"));
    let auth = by_url(&service, "");
    let setup = Setup::of(&[&host])
        .top(&format!(
            r#"routes:
- {{ path: /respond, respond: {{ body: mine }}, {auth} }}
- {{ pool: web, {auth}, response_headers: {{ set: {{ X-Route: edited }} }} }}
errors: {{ 400-599: {{ body: page }} }}"#
        ))
        .top(LOG);
    let mut both = BothProtocols::start(&setup);
    service.set(
        Reply::status(302)
            .field("Location", "https://login.example/?a=b")
            .field("Set-Cookie", "one=1")
            .field("Set-Cookie", "two=2")
            .field("Connection", "X-Hop")
            .field("X-Hop", "1")
            .body("to the login"),
    );
    for path in ["/respond", "/"] {
        for seen in both.ask("GET", ("test", path), &[]) {
            assert_eq!((seen.status, seen.body.as_str()), (302, "to the login"));
            assert_eq!(seen.field("location"), "https://login.example/?a=b");
            assert_eq!(seen.all("set-cookie"), ["one=1", "two=2"]);
            assert_eq!(seen.all("x-hop"), [""; 0]);
            assert_eq!(seen.all("date").len(), 1);
            let edited = if path == "/" { "edited" } else { "" };
            assert_eq!(seen.field("x-route"), edited);
        }
    }
    for seen in both.ask("HEAD", ("test", "/"), &[]) {
        assert_eq!((seen.status, seen.body.as_str()), (302, ""));
        assert_eq!(service.last().head.get("x-forwarded-method"), Some("HEAD"));
    }
    for status in [401, 403, 404, 500] {
        let reply = Reply::status(status).field("WWW-Authenticate", "Bearer");
        service.set(reply.body("no").chunked());
        for seen in both.ask("GET", ("test", "/"), &[("Accept", "application/json")]) {
            assert_eq!((seen.status, seen.body.as_str()), (status, "no"));
            assert_eq!(seen.all("www-authenticate"), ["Bearer"]);
            assert_eq!(seen.all("content-length"), ["2"]);
        }
    }
    service.set(Reply::status(204));
    for seen in both.ask("GET", ("test", "/respond"), &[]) {
        assert_eq!((seen.status, seen.body.as_str()), (200, "mine"));
    }
    assert_eq!(host.requests(), 0);
    wait_for_ending(&both.plain, "unauthorized");
    wait_for_ending(&both.over_tls, "unauthorized");
}

#[test]
fn without_a_valid_answer_nobody_is_let_in() {
    let (host, service) = (Backend::start_new("a"), Backend::start_new("service"));
    let dead = DeadHost::new();
    let keys = "timeout: 200ms";
    let (auth, dead) = (by_url(&service, keys), dead.address());
    let setup = Setup::of(&[&host])
        .pool(&format!(
            "retries: none\n  down: {{ hosts: [\"{dead}\"], health_check: none }}"
        ))
        .top(&format!(
            r#"routes:
- {{ path: /dead, pool: web, auth: {{ url: "http://{dead}", {keys} }} }}
- {{ path: /unknown, pool: web, auth: {{ url: "http://name.invalid", {keys} }} }}
- {{ path: /down, pool: web, auth: {{ pool: down, {keys} }} }}
- {{ pool: web, {auth} }}
errors: {{ 503: {{ body: "<{{message}}>" }} }}"#
        ))
        .top(LOG);
    let mut both = BothProtocols::start(&setup);
    let mut assert_refused = |path: &str| {
        for seen in both.ask("GET", ("test", path), &[]) {
            assert_eq!(seen.status, 503, "{path}: {seen:?}");
            assert_eq!(seen.body, "<no client can be authenticated now>");
            assert_eq!(seen.field("retry-after"), "1");
        }
    };
    for path in ["/dead", "/unknown", "/down"] {
        assert_refused(path);
    }
    service.set(Reply::Hang);
    assert_refused("/slow");
    for bytes in [
        "nonsense\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n1",
        "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        "HTTP/1.1 101 Fine\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        "HTTP/1.1 777 Odd\r\n\r\n",
        "",
    ] {
        service.set(Reply::script(move |_, wire| {
            wire.send(bytes)?;
            Ok(Next::Close)
        }));
        assert_refused(&format!("/garbage/{}", bytes.len()));
    }
    service.set(Reply::status(403).body(vec![b'x'; (64 << 10) + 1]));
    assert_refused("/long");
    assert_eq!(host.requests(), 0);
    wait_for_ending(&both.plain, "auth_failed");
    wait_for_ending(&both.over_tls, "auth_failed");
}

#[test]
fn a_pool_of_services_shares_the_questions() {
    let host = Backend::start_new("a");
    let services = [Backend::start_new("one"), Backend::start_new("two")];
    let [one, two] = &services;
    let setup = Setup::of(&[&host])
        .pool(&format!(
            "retries: none\n  auth: {{ hosts: [\"{}\", \"{}\"], algorithm: round_robin, health_check: none, host_header: upstream }}",
            one.address(),
            two.address(),
        ))
        .top("routes: [{ pool: web, auth: { pool: auth, path: /verify, copy_headers: [X-Backend] } }]");
    let mut both = BothProtocols::start(&setup);
    for _ in 0..2 {
        for seen in both.ask("GET", ("test", "/"), &[]) {
            assert_eq!(seen.status, 200);
        }
    }
    for service in &services {
        assert_eq!(service.requests(), 2);
        let asked = service.last().head;
        assert_eq!(asked.start, "GET /verify HTTP/1.1");
        assert_eq!(asked.get("host"), Some(&*service.address().to_string()));
        assert_eq!(asked.get("x-forwarded-host"), Some("test"));
    }
    let name = host.last().head.get("x-backend").map(str::to_owned);
    assert_eq!(name.as_deref(), Some("two"));
}

#[test]
fn another_service_of_the_pool_is_asked_instead_of_a_failed_one() {
    let services = [Backend::start_new("one"), Backend::start_new("two")];
    let [failing, working] = &services;
    failing.set(Reply::script(|_, _| Ok(Next::Close)));
    let (host, dead) = (Backend::start_new("a"), DeadHost::new());
    let setup = Setup::of(&[&host])
        .pool(&format!(
            "retries: none\n  auth: {{ hosts: [\"{}\", \"{}\", \"{}\"], algorithm: round_robin, health_check: none, \
             ejection: none, retries: {{ attempts: 2 }} }}",
            failing.address(),
            dead.address(),
            working.address(),
        ))
        .top("routes: [{ pool: web, auth: { pool: auth } }]");
    let mut both = BothProtocols::start(&setup);
    for _ in 0..3 {
        for seen in both.ask("GET", ("test", "/"), &[]) {
            assert_eq!(seen.status, 200);
        }
    }
    assert_eq!(working.requests(), 6);
    assert!(failing.requests() >= 2);
    assert_eq!(host.requests(), 6);
}

#[test]
fn a_client_that_leaves_while_the_service_thinks_never_reaches_the_host() {
    let (host, service) = (Backend::start_new("a"), Backend::start_new("service"));
    service.set(Reply::Hang);
    let auth = by_url(&service, "timeout: 50s");
    let setup = Setup::of(&[&host])
        .top(&format!("routes: [{{ pool: web, {auth} }}]"))
        .top(LOG);
    let mut both = BothProtocols::start(&setup);
    let mut client = Client::connect(both.plain.address());
    let request = "GET / HTTP/1.1\r\nHost: test\r\n\r\n";
    client.send(request).expect("sent");
    let stream = both.http2.open(http2::request("GET", "/"), true);
    let stream = stream.expect("a stream");
    wait_until(SOON, "the service is asked", || service.requests() == 2);
    client.abort();
    drop(stream);
    wait_for_ending(&both.plain, "client_gone");
    wait_for_ending(&both.over_tls, "client_gone");
    wait_until(SOON, "the questions are withdrawn", || {
        service.open_connections() == 0
    });
    assert_eq!(host.requests(), 0);
    permit(&service);
    for seen in both.ask("GET", ("test", "/"), &[]) {
        assert_eq!(seen.status, 200);
    }
}

#[test]
fn upgrades_are_decided_as_well() {
    let (host, service) = (Backend::start_new("a"), Backend::start_new("service"));
    host.set(Reply::script(|_: &Head, wire: &mut Wire| {
        wire.send("HTTP/1.1 101 Fine\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhi")?;
        Ok(Next::Close)
    }));
    let auth = by_url(&service, "copy_headers: [Remote-User]");
    let ballast = Setup::of(&[&host])
        .top(&format!("routes: [{{ pool: web, {auth} }}]"))
        .start();
    let upgrade = "Connection: Upgrade, Remote-User\r\nUpgrade: websocket\r\nRemote-User: root\r\n";
    service.set(Reply::status(401).after(Duration::from_millis(1)));
    let mut client = Client::connect(ballast.address());
    assert_eq!(client.get_with("/", upgrade).status, 401);
    assert_eq!(host.requests(), 0);
    assert_eq!(service.last().head.get("upgrade"), None);
    permit(&service);
    let mut client = Client::connect(ballast.address());
    assert_eq!(client.get_with("/", upgrade).status, 101);
    assert_eq!(host.last().head.all("remote-user"), ["alice"]);
    let sent = client.wire().read_some(2).expect("bytes of the host");
    assert_eq!(sent, b"hi");
}
