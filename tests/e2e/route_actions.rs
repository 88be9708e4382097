//! What routes do with requests: redirects and responses from the configuration; and what they change on the way of
//! those that go to a pool. Over HTTP/1.1 and HTTP/2.

use std::net::SocketAddr;

use crate::support::{Backend, BothProtocols, Client, LISTEN, Reply, Setup, file};

#[test]
fn a_route_redirects_or_responds_itself() {
    let backend = Backend::start_new("a");
    let setup = Setup::of(&[&backend]).top(
        r#"routes:
- { host: www.example.com, redirect: "https://example.com{uri}" }
- { path: /old/, redirect: { to: "{scheme}://{host}/new?was={path}&q={query}", status: 302 } }
- { path: /open/, redirect: "{uri}" }
- { path: /health, respond: { status: 200, body: "{\"host\": \"{host}\", \"uri\": \"{uri}\"}", type: application/json } }
- { path: /page, respond: { status: 403, body: "<p>{uri}", type: text/html } }
- { path: /gone, respond: 410 }
- { path: /empty, respond: 204 }
- { pool: web }"#,
    );
    let mut both = BothProtocols::start(&setup);
    for (host, path, status, location) in [
        (
            "www.example.com",
            "/a/b?c=d",
            308,
            "https://example.com/a/b?c=d",
        ),
        ("WWW.Example.com.", "//x", 308, "https://example.com//x"),
        (
            "shop.example:8443",
            "/old/a%20b?x",
            302,
            "SCHEME://shop.example/new?was=/old/a%20b&q=x",
        ),
    ] {
        for seen in both.ask("GET", (host, path), &[]) {
            assert_eq!(seen.status, status, "{path}");
            assert_eq!(
                seen.all("location"),
                [location.replace("SCHEME", seen.scheme)]
            );
            assert_eq!(seen.body, "");
        }
    }
    let line_break = "GET /old/ HTTP/1.1\r\nHost: a%0d%0aX-Y.example\r\n\r\n";
    let mut client = Client::connect(both.plain.address());
    let response = client.request(line_break).expect("a whole response");
    let location = response.head.all("location");
    assert_eq!(location, ["http://a%0d%0aX-Y.example/new?was=/old/&q="]);
    for seen in both.ask("GET", ("test", "//open/x"), &[]) {
        // Not `//open/x`, which leads to another site.
        assert_eq!(seen.all("location"), ["/open/x"]);
    }
    for (path, status, media_type, body) in [
        (
            "/health?'",
            200,
            "application/json",
            r#"{"host": "test", "uri": "/health?'"}"#,
        ),
        ("/page?'b'", 403, "text/html", "<p>/page?&#39;b&#39;"),
    ] {
        for seen in both.ask("GET", ("test", path), &[]) {
            assert_eq!(seen.status, status);
            assert_eq!(seen.all("content-type"), [media_type]);
            assert_eq!(seen.body, body);
        }
    }
    for (path, status, length) in [("/gone", 410, vec!["0"]), ("/empty", 204, vec![])] {
        for seen in both.ask("GET", ("test", path), &[]) {
            assert_eq!((seen.status, seen.body.as_str()), (status, ""));
            assert_eq!(seen.all("content-length"), length, "{path}");
        }
    }
    assert_eq!(backend.requests(), 0);
    for seen in both.ask("GET", ("test", "/"), &[]) {
        assert_eq!(seen.status, 200);
    }
    assert_eq!(backend.requests(), 2);
}

#[test]
fn a_listener_redirects_to_https() {
    let backend = Backend::start_new("a");
    let listener = format!("listeners: [{{ address: \"{LISTEN}\", redirect_https: true }}]");
    let setup = Setup::of(&[&backend]).top(&listener);
    let ballast = setup.clone().top("trusted_proxies: [127.0.0.1]").start();
    let mut client = Client::connect(ballast.address());
    let response = client
        .request("POST /a?b HTTP/1.1\r\nHost: Shop.example:8080\r\nContent-Length: 0\r\n\r\n")
        .expect("a whole response");
    assert_eq!(response.status, 308);
    let location = response.head.all("location");
    assert_eq!(location, ["https://Shop.example/a?b"]);
    let status = |client: &mut Client, path: &str| client.get(path).status;
    assert_eq!(status(&mut client, "/.well-known/acme-challenge/x"), 200);
    assert_eq!(status(&mut client, "/.well-known/acme-challenge/../x"), 308);
    // The client's own connection ends at the trusted proxy.
    let behind_proxy = client.get_with("/", "X-Forwarded-Proto: https\r\n");
    assert_eq!(behind_proxy.status, 200);
    ballast.reload_by_sighup(&setup.clone().yaml().replace("redirect_https: true", ""));
    assert_eq!(status(&mut client, "/"), 200);
}

#[test]
fn a_route_changes_paths_and_the_way_back() {
    let backend = Backend::start_new("a");
    let setup = Setup::of(&[&backend]).top(
        r#"routes:
- { path: /api/, strip_prefix: /api, pool: web }
- { path: /app, strip_prefix: /app, add_prefix: /v2/app, pool: web }
- { path: /spa/, replace_path: /index.html, pool: web }
- { pool: web }"#,
    );
    let mut both = BothProtocols::start(&setup);
    for (path, expected) in [
        ("/api/", "/"),
        ("/api/v1/a%2Cb;c=d?x=/api/", "/v1/a%2Cb;c=d?x=/api/"),
        ("/%61pi/v1", "/v1"),
        ("/api//x", "/x"),
        ("/app?x", "/v2/app/?x"),
        ("/app/a/../b", "/v2/app/b"),
        ("/spa/a/b?c", "/index.html?c"),
        ("/other", "/other"),
    ] {
        let before = backend.requests();
        both.ask("GET", ("test", path), &[]);
        assert_eq!(backend.requests(), before + 2);
        assert_eq!(backend.last().head.word(1), expected, "{path}");
    }
    let reply = |address: SocketAddr| {
        Reply::ok()
            .field("Location", &format!("http://{address}/login"))
            .field("Set-Cookie", "a=1; Path=/; HttpOnly")
            .field("Set-Cookie", "b=2")
    };
    backend.set(reply(backend.address()));
    for seen in both.ask("GET", ("test", "/api/x"), &[]) {
        // The host names itself, which clients cannot reach.
        assert_eq!(seen.all("location"), ["/api/login"]);
        assert_eq!(seen.all("set-cookie"), ["a=1; Path=/api; HttpOnly", "b=2"]);
    }
    for seen in both.ask("GET", ("test", "/other"), &[]) {
        let location = format!("http://{}/login", backend.address());
        assert_eq!(seen.all("location"), [location]);
    }
}

#[test]
fn a_route_changes_header_fields() {
    let backend = Backend::start_new("a");
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let secret = file(folder.path(), "fields", "X-Secret: hush");
    let setup = Setup::of(&[&backend]).top(
        &r#"routes:
- path: /x
  pool: web
  request_headers:
    set_file: SECRET
    set: { Host: app.internal, X-Client: "{client_ip} {method}", X-Proto: "{scheme}", X-Pool: "{pool} at {upstream}" }
    add: { X-Proto: more }
    remove: [Accept-Language, X-Forwarded-Port]
  response_headers:
    set: { Cache-Control: no-store, X-Host: "{host}" }
    add: { Vary: Origin }
    remove: [Server, X-Powered-By]
  security_headers: true
- { path: /none, respond: 404, response_headers: { set: { X-Route: "{path}" } }, security_headers: true }
- { pool: web }"#
            .replace("SECRET", &secret.display().to_string()),
    );
    let reply = Reply::ok()
        .field("Server", "secret/1.0")
        .field("X-Powered-By", "secrets")
        .field("Cache-Control", "public")
        .field("Vary", "Accept")
        .field("X-Frame-Options", "DENY");
    backend.set(reply);
    let mut both = BothProtocols::start(&setup);
    for seen in both.ask("GET", ("shop.example:8080", "/x"), &[]) {
        assert_eq!(seen.all("server"), [] as [&str; 0]);
        assert_eq!(seen.all("x-powered-by"), [] as [&str; 0]);
        assert_eq!(seen.all("cache-control"), ["no-store"]);
        assert_eq!(seen.all("x-host"), ["shop.example"]);
        assert_eq!(seen.all("vary"), ["Accept", "Origin"]);
        assert_eq!(seen.all("x-content-type-options"), ["nosniff"]);
        assert_eq!(
            seen.all("x-frame-options"),
            ["DENY"],
            "the host's own stays"
        );
        let strict = seen.all("strict-transport-security");
        assert_eq!(strict.len(), usize::from(seen.scheme == "https"));
    }
    let mut proxied = Client::connect(both.plain.address());
    proxied.get_with(
        "/x",
        "Accept-Language: de\r\nX-Proto: mine\r\nX-Secret: mine\r\n",
    );
    let head = backend.last().head;
    assert_eq!(head.all("host"), ["app.internal"]);
    assert_eq!(head.all("x-client"), ["127.0.0.1 GET"]);
    assert_eq!(head.all("x-secret"), ["hush"]);
    assert_eq!(head.all("x-proto"), ["http", "more"]);
    assert_eq!(
        head.all("x-pool"),
        [format!("web at {}", backend.address())]
    );
    assert_eq!(head.all("accept-language"), [] as [&str; 0]);
    assert_eq!(head.all("x-forwarded-port"), [] as [&str; 0]);
    for seen in both.ask("GET", ("test", "/none"), &[]) {
        assert_eq!(seen.status, 404);
        assert_eq!(seen.all("x-route"), ["/none"]);
        assert_eq!(
            seen.all("referrer-policy"),
            ["strict-origin-when-cross-origin"]
        );
    }
    for seen in both.ask("GET", ("test", "/"), &[]) {
        assert_eq!(seen.all("server"), ["secret/1.0"]);
        assert_eq!(seen.all("cache-control"), ["public"]);
    }
}
