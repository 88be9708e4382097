//! What a host learns about the client, and what it does not take from just anybody.

use std::collections::HashSet;

use crate::support::{Backend, Client, Setup, get};

#[test]
fn a_host_learns_where_a_request_comes_from() {
    let backend = Backend::start_new("a");
    let ballast = Setup::of(&[&backend]).start();
    let source = "127.0.0.9".parse().expect("an address");
    let mut client = Client::from_ip(source, ballast.address()).expect("connected");
    let request = "GET / HTTP/1.1\r\nHost: shop.example:81\r\n\r\n";
    assert_eq!(client.request(request).expect("whole").status, 200);
    let head = backend.last().head;
    assert_eq!(head.all("x-forwarded-for"), ["127.0.0.9"]);
    assert_eq!(head.all("x-forwarded-proto"), ["http"]);
    assert_eq!(head.all("x-forwarded-host"), ["shop.example:81"]);
}

const CLAIMS: &str = "X-Forwarded-For: 198.51.100.7\r\nX-Forwarded-For: 203.0.113.9\r\n\
                      X-Forwarded-Proto: https\r\nX-Forwarded-Host: bank.example\r\n";

#[test]
fn what_an_untrusted_client_claims_is_replaced() {
    let backend = Backend::start_new("a");
    // The trusted network is another one.
    let ballast = Setup::of(&[&backend])
        .top("trusted_proxies: [10.0.0.0/8, \"::1/128\"]")
        .start();
    Client::connect(ballast.address()).get_with("/", CLAIMS);
    let head = backend.last().head;
    assert_eq!(head.all("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(head.all("x-forwarded-proto"), ["http"]);
    assert_eq!(head.all("x-forwarded-host"), ["test"]);
}

#[test]
fn what_a_trusted_proxy_says_is_kept_and_added_to() {
    let backend = Backend::start_new("a");
    let ballast = Setup::of(&[&backend])
        .top("trusted_proxies: [127.0.0.0/8]")
        .start();
    Client::connect(ballast.address()).get_with("/", CLAIMS);
    let head = backend.last().head;
    assert_eq!(
        head.all("x-forwarded-for").join(", "),
        "198.51.100.7, 203.0.113.9, 127.0.0.1"
    );
    assert_eq!(head.all("x-forwarded-proto"), ["https"]);
    assert_eq!(head.all("x-forwarded-host"), ["bank.example"]);
    // A trusted proxy that says nothing leaves nothing out.
    get(ballast.address(), "/");
    let head = backend.last().head;
    assert_eq!(head.all("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(head.all("x-forwarded-proto"), ["http"]);
}

#[test]
fn a_client_cannot_have_forwarding_fields_removed_on_the_way() {
    let backend = Backend::start_new("a");
    let ballast = Setup::of(&[&backend]).start();
    let mut client = Client::connect(ballast.address());
    let response = client.request(
        "GET / HTTP/1.1\r\nHost: test\r\nConnection: X-Forwarded-For, X-Request-Id\r\n\r\n",
    );
    let answered = response.is_ok_and(|response| response.status == 200);
    if answered {
        let head = backend.last().head;
        assert_eq!(head.all("x-forwarded-for"), ["127.0.0.1"]);
        assert_eq!(head.all("x-request-id").len(), 1);
    } else {
        assert_eq!(backend.requests(), 0);
    }
}

#[test]
fn each_request_has_an_id_of_its_own_unless_it_brings_one() {
    let backend = Backend::start_new("a");
    let ballast = Setup::of(&[&backend]).start();
    let mut client = Client::connect(ballast.address());
    let mut seen = HashSet::new();
    for _ in 0..50 {
        client.get("/");
        let head = backend.last().head;
        let ids = head.all("x-request-id");
        assert_eq!(ids.len(), 1);
        assert!(ids[0].len() >= 16, "`{}` may not be unique", ids[0]);
        assert!(seen.insert(ids[0].to_owned()), "`{}` came twice", ids[0]);
    }
    client.get_with("/", "X-Request-Id: mine-1\r\n");
    assert_eq!(backend.last().head.all("x-request-id"), ["mine-1"]);
}

#[test]
fn the_host_field_is_the_clients_or_the_hosts_own() {
    let (a, b) = (Backend::start_new("a"), Backend::start_new("b"));
    let preserve = Setup::of(&[&a]).pool("host_header: preserve").start();
    let upstream = Setup::of(&[&b]).pool("host_header: upstream").start();
    get(preserve.address(), "/");
    assert_eq!(a.last().head.all("host"), ["test"]);
    get(upstream.address(), "/");
    assert_eq!(b.last().head.all("host"), [b.address().to_string()]);
    // What the client asked for is not lost.
    assert_eq!(b.last().head.all("x-forwarded-host"), ["test"]);
}
