//! Which pool gets a request, and which of its hosts belongs to a hash key.

use std::collections::HashSet;
use std::net::SocketAddr;

use crate::support::{Backend, Ballast, Client, LISTEN, Setup};

#[test]
fn requests_go_to_pools_by_host_and_path_and_the_first_route_wins() {
    let backends = ["api", "wild", "static", "rest"].map(Backend::start_new);
    let pools: String = backends
        .iter()
        .map(|backend| {
            format!(
                "  {}: {{ algorithm: random, hosts: [\"{}\"], health_check: none }}\n",
                backend.name(),
                backend.address()
            )
        })
        .collect();
    let ballast = Ballast::start(&format!(
        "listeners: [\"{LISTEN}\"]\n\
         routes:\n\
         - {{ host: api.example.com, path: /v1/, pool: api }}\n\
         - {{ host: \"*.example.com\", pool: wild }}\n\
         - {{ path: /static/, pool: static }}\n\
         - {{ pool: rest }}\n\
         pools:\n{pools}"
    ));
    let mut client = Client::connect(ballast.address());
    for (host, path, pool) in [
        ("api.example.com", "/v1/users", "api"),
        ("API.Example.COM:8080", "/v1/users?x=/static/", "api"),
        ("api.example.com", "/v2/users", "wild"),
        ("a.example.com", "/static/x", "wild"),
        ("a.b.example.com", "/", "wild"),
        ("example.com", "/", "rest"),
        ("other.test", "/static/x", "static"),
        ("other.test", "/statics", "rest"),
        ("other.test", "/V1/", "rest"),
    ] {
        let response = client
            .request(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"))
            .expect("a complete response");
        assert_eq!(response.backend(), pool, "{host}{path}");
    }
}

#[test]
fn a_request_without_a_route_gets_404_and_keeps_its_connection() {
    let backend = Backend::start_new("a");
    let ballast = Setup::of(&[&backend])
        .top("routes: [{ path: /only/, pool: web }]")
        .start();
    let mut client = Client::connect(ballast.address());
    assert_eq!(client.get("/other").status, 404);
    assert_eq!(client.get("/only/this").status, 200);
    assert_eq!(backend.requests(), 1);
}

/// Sends several requests for each value of the key. Returns how many hosts one client reached at most, and how many
/// all clients reached together.
fn hosts_met(key: &str, ask: impl Fn(SocketAddr, usize, usize) -> String) -> (usize, usize) {
    let backends: Vec<Backend> = (0..5)
        .map(|n| Backend::start_new(&format!("h{n}")))
        .collect();
    let refs: Vec<&Backend> = backends.iter().collect();
    let ballast = Setup::of(&refs)
        .algorithm(&format!("{{ name: consistent_hash, key: \"{key}\" }}"))
        .start();
    let mut widest = 0;
    let mut all = HashSet::new();
    for client in 0..20 {
        let met: HashSet<String> = (0..5)
            .map(|time| ask(ballast.address(), client, time))
            .collect();
        widest = widest.max(met.len());
        all.extend(met);
    }
    (widest, all.len())
}

fn ask(address: SocketAddr, target: &str, fields: &str) -> String {
    Client::connect(address)
        .get_with(target, fields)
        .backend()
        .to_owned()
}

#[test]
fn each_kind_of_key_pins_a_client_to_a_host() {
    let pinned = |name: &str, met: (usize, usize)| {
        assert_eq!(met.0, 1, "{name}: one client met several hosts");
        assert!(met.1 >= 3, "{name}: twenty clients met {} hosts", met.1);
    };
    pinned(
        "header",
        hosts_met("header:X-User", |address, client, time| {
            ask(
                address,
                &format!("/{time}"),
                &format!("x-user: u{client}\r\n"),
            )
        }),
    );
    pinned(
        "cookie",
        hosts_met("cookie:session", |address, client, time| {
            ask(
                address,
                &format!("/{time}"),
                &format!("Cookie: a={time}; session=s{client}; z=1\r\n"),
            )
        }),
    );
    pinned(
        "query",
        hosts_met("query:user", |address, client, time| {
            ask(address, &format!("/{time}?t={time}&user={client}"), "")
        }),
    );
    pinned(
        "path",
        hosts_met("path", |address, client, time| {
            ask(address, &format!("/p{client}?t={time}"), "")
        }),
    );
    pinned(
        "uri",
        hosts_met("uri", |address, client, _| {
            ask(address, &format!("/p?c={client}"), "")
        }),
    );
    pinned(
        "client_ip",
        hosts_met("client_ip", |address, client, time| {
            let source = [127, 0, 2, client as u8 + 1].into();
            let mut client = Client::from_ip(source, address).expect("connected");
            client.get(&format!("/{time}")).backend().to_owned()
        }),
    );
}

#[test]
fn different_uris_of_one_path_are_different_keys() {
    let (widest, _) = hosts_met("uri", |address, client, time| {
        ask(address, &format!("/p{client}?t={time}"), "")
    });
    assert!(widest > 1, "the query is not part of the key");
}

#[test]
fn requests_without_the_key_are_spread() {
    for key in ["header:X-User", "cookie:session", "query:user"] {
        let (_, all) = hosts_met(key, |address, _, _| ask(address, "/", ""));
        assert_eq!(
            all, 5,
            "{key}: 100 requests without it met {all} of 5 hosts"
        );
    }
}

#[test]
fn ip_hash_keeps_a_client_on_its_host() {
    let backends = ["a", "b", "c"].map(Backend::start_new);
    let ballast = Setup::of(&backends.each_ref()).algorithm("ip-hash").start();
    let mut all = HashSet::new();
    for last in 1..=20 {
        let met: HashSet<String> = (0..5)
            .map(|_| {
                let mut client = Client::from_ip([127, 0, 3, last].into(), ballast.address())
                    .expect("connected");
                client.get("/").backend().to_owned()
            })
            .collect();
        assert_eq!(met.len(), 1, "127.0.3.{last} met {met:?}");
        all.extend(met);
    }
    assert_eq!(all.len(), 3);
}

#[test]
fn requests_are_divided_by_weight() {
    let (a, b, idle) = (
        Backend::start_new("a"),
        Backend::start_new("b"),
        Backend::start_new("idle"),
    );
    let ballast = Setup::of(&[])
        .host_entry(&format!("{{ address: \"{}\", weight: 3 }}", a.address()))
        .host_entry(&format!("{{ address: \"{}\" }}", b.address()))
        .host_entry(&format!("{{ address: \"{}\", weight: 0 }}", idle.address()))
        .start();
    let mut client = Client::connect(ballast.address());
    for _ in 0..40 {
        client.get("/");
    }
    assert_eq!((a.requests(), b.requests(), idle.requests()), (30, 10, 0));
}
