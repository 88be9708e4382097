//! Which clients are allowed, and how often they may send requests.

use std::net::IpAddr;

use crate::support::{Backend, Client, LISTEN, SOON, Setup, wait_until};

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

#[test]
fn clients_are_served_by_the_allow_and_deny_lists_of_a_listener() {
    let backend = Backend::start_new("a");
    let listeners = |access: &str| format!("listeners: [{{ address: \"{LISTEN}\", {access} }}]");
    let setup = |access: &str| Setup::of(&[&backend]).top(&listeners(access));
    let ballast = setup("deny: [127.0.0.8, 127.1.0.0/16]").start();
    let status = |source: &str| {
        let mut client = Client::from_ip(ip(source), ballast.address()).ok()?;
        let response = client.request("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
        Some(response.ok()?.status)
    };
    assert_eq!(status("127.0.0.1"), Some(200));
    assert_eq!(status("127.0.0.8"), None, "closed without a response");
    assert_eq!(status("127.1.2.3"), None);
    // A reload changes the lists in place. They apply to new connections.
    let outcome =
        ballast.reload_by_sighup(&setup("allow: [127.0.0.0/16], deny: [127.0.0.9]").yaml());
    assert!(outcome.contains("reloaded"), "{outcome}");
    assert_eq!(status("127.0.0.8"), Some(200));
    assert_eq!(status("127.1.2.3"), None);
    assert_eq!(status("127.0.0.9"), None);
}

#[test]
fn routes_check_the_client_address_that_trusted_proxies_forward() {
    let backend = Backend::start_new("a");
    let ballast = Setup::of(&[&backend])
        .top("trusted_proxies: [127.0.0.7]")
        .top(
            "routes: [{ path: /inside, pool: web, allow: [10.0.0.0/8, 127.0.0.1] }, \
             { path: /open, pool: web, deny: [192.0.2.0/24] }, { pool: web }]",
        )
        .start();
    let status = |source: &str, path: &str, forwarded_for: &str| {
        let mut client = Client::from_ip(ip(source), ballast.address()).expect("connected");
        let forwarded = match forwarded_for {
            "" => String::new(),
            client => format!("X-Forwarded-For: {client}\r\n"),
        };
        let status = client.get_with(path, &forwarded).status;
        assert_eq!(client.get("/other").status, 200, "the connection is kept");
        status
    };
    assert_eq!(status("127.0.0.1", "/inside", ""), 200);
    assert_eq!(status("127.0.0.2", "/inside", ""), 403);
    // An untrusted client cannot change its address by `X-Forwarded-For`.
    assert_eq!(status("127.0.0.2", "/inside", "10.1.1.1"), 403);
    assert_eq!(status("127.0.0.7", "/inside", "10.1.1.1"), 200);
    assert_eq!(status("127.0.0.7", "/inside", "192.0.2.1"), 403);
    assert_eq!(status("127.0.0.7", "/open", "192.0.2.1"), 403);
    assert_eq!(status("127.0.0.7", "/open", "192.0.3.1"), 200);
}

#[test]
fn a_client_over_its_rate_gets_429_with_retry_after() {
    let backend = Backend::start_new("a");
    let ballast = Setup::of(&[&backend])
        .top("limits: { rate: { requests: 1, burst: 3 } }")
        .start();
    let mut client = Client::connect(ballast.address());
    for _ in 0..3 {
        assert_eq!(client.get("/").status, 200);
    }
    let response = client.get("/");
    assert_eq!(response.status, 429);
    assert_eq!(response.head.get("retry-after"), Some("1"));
    assert_eq!(backend.requests(), 3);
    // The count is per client: a second connection of the same client shares it, and another client has its own.
    assert_eq!(Client::connect(ballast.address()).get("/").status, 429);
    let mut other = Client::from_ip(ip("127.0.0.2"), ballast.address()).expect("connected");
    assert_eq!(other.get("/").status, 200);
    // The connection is kept. After the stated time the client is served again.
    wait_until(SOON, "the client is served again", || {
        client.get("/").status == 200
    });
}

#[test]
fn a_rate_limit_may_belong_to_one_route_and_count_by_a_header_field() {
    let backend = Backend::start_new("a");
    let ballast = Setup::of(&[&backend])
        .top(
            "routes: [{ path: /a, pool: web, rate: { requests: 1, burst: 2, key: \"header:X-Key\" } }, \
             { path: /b, pool: web, rate: { requests: 1 } }, { pool: web }]",
        )
        .start();
    let mut client = Client::connect(ballast.address());
    let mut statuses = |path: &str, key: &str| {
        [(); 4].map(|()| client.get_with(path, &format!("X-Key: {key}\r\n")).status)
    };
    assert_eq!(statuses("/a", "one"), [200, 200, 429, 429]);
    assert_eq!(statuses("/a", "two"), [200, 200, 429, 429]);
    assert_eq!(statuses("/b", "one"), [200, 429, 429, 429]);
    assert_eq!(statuses("/c", "one"), [200; 4]);
}

#[test]
fn rate_counts_stay_with_a_route_that_a_reload_moves() {
    let backend = Backend::start_new("a");
    let slow = "rate: { requests: 1, burst: 600 }";
    let setup = |before: &str| {
        let routes =
            format!("routes: [{before}{{ path: /a, pool: web, {slow} }}, {{ pool: web }}]");
        Setup::of(&[&backend]).top(&routes)
    };
    let ballast = setup("").start();
    let mut client = Client::connect(ballast.address());
    while client.get("/a").status == 200 {}
    let outcome =
        ballast.reload_by_sighup(&setup(&format!("{{ path: /b, pool: web, {slow} }}, ")).yaml());
    assert!(outcome.contains("reloaded"), "{outcome}");
    assert_eq!(client.get("/a").status, 429);
    // The new route in its place has its own count.
    assert_eq!(client.get("/b").status, 200);
}
