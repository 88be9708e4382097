//! Which pool gets a request, and which of its hosts belongs to a hash key.

use std::collections::HashSet;
use std::net::SocketAddr;

use crate::support::http2::Secure;
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

#[test]
fn requests_are_matched_by_all_that_a_route_can_ask_for() {
    const ROUTES: [&str; 10] = [
        "path: = /exact",
        "path: ~ \\.php$, not: [{ methods: POST }, { headers: { X-Raw: \"*\" } }]",
        "methods: [PUT, DELETE]",
        "headers: { X-Stage: canary, User-Agent: ~ (?i)bot }",
        "query: { lang: ~ ^de, q: a b }",
        "cookies: { beta: \"1\" }",
        "client: 10.0.0.0/8",
        "host: \"*.test\", path: /api",
        "host: other, not: { path: /open/, methods: GET }",
        "path: /last, methods: GET, headers: { X-A: \"*\" }, query: { a: \"*\" }, cookies: { a: \"*\" }",
    ];
    let backend = Backend::start_new("rest");
    let secure = Secure::new();
    let routes = ROUTES.iter().enumerate().map(|(number, route)| {
        let status = 221 + number;
        format!("{{ {route}, respond: {status} }}, ")
    });
    let ballast = Ballast::start(&format!(
        "{}\ntrusted_proxies: [127.0.0.1]\nroutes: [{}{{ pool: web }}]\n\
         pools: {{ web: {{ hosts: [\"{}\"], health_check: none }} }}\n",
        secure.listeners(),
        String::from_iter(routes),
        backend.address()
    ));
    let http1 = secure.offering(&["http/1.1"]);
    let mut http1 = Client::tls(ballast.address(), "test", http1).expect("connected");
    let mut http2 = secure.connect(ballast.address());
    let (canary, bot) = (("X-Stage", "canary"), ("User-Agent", "A Bot"));
    // The number of the route, from 1; the last one leads to the pool.
    for (route, method, url, fields) in [
        (1, "GET", "test/exact?a=1", &[][..]),
        (1, "POST", "test/x/../%65xact", &[]),
        (11, "GET", "test/exact/", &[]),
        (2, "GET", "test/x/index.php", &[]),
        (11, "POST", "test/x/index.php", &[]),
        (11, "GET", "test/x/index.php", &[("X-Raw", "")]),
        (3, "PUT", "test/", &[]),
        (4, "GET", "test/", &[canary, bot]),
        (4, "GET", "test/", &[("X-Stage", "live"), canary, bot]),
        (11, "GET", "test/", &[("X-Stage", "canary2"), bot]),
        (11, "GET", "test/", &[canary]),
        (5, "GET", "test/?x&lang=en&lang=de-AT&q=a%20b", &[]),
        (5, "GET", "test/?l%61ng=de&q=a+b", &[]),
        (11, "GET", "test/?lang=de", &[]),
        (6, "GET", "test/", &[("Cookie", "a=2; beta=1")]),
        (11, "GET", "test/", &[("Cookie", "beta=12; xbeta=1")]),
        (7, "GET", "test/", &[("X-Forwarded-For", "10.1.2.3")]),
        (11, "GET", "test/", &[("X-Forwarded-For", "11.1.2.3")]),
        (8, "GET", "a.test/api/x", &[]),
        (11, "GET", "a.test/apis", &[]),
        (9, "GET", "other/", &[]),
        (11, "GET", "other/open/x", &[]),
        (10, "GET", "test/last?a=", &[("X-A", "1"), ("Cookie", "a=")]),
        (11, "GET", "test/last?b=", &[("X-A", "1"), ("Cookie", "a=")]),
    ] {
        let status = match route {
            11 => 200,
            number => 220 + number,
        };
        let shown = format!("{method} {url} {fields:?}");
        let (host, path) = url.split_once('/').expect("a path");
        let lines = fields.iter();
        let lines = lines.map(|(name, value)| format!("{name}: {value}\r\n"));
        let lines = String::from_iter(lines);
        let length = if method == "GET" {
            ""
        } else {
            "Content-Length: 0\r\n"
        };
        let head = format!("{method} /{path} HTTP/1.1\r\nHost: {host}\r\n{length}{lines}\r\n");
        let answer = http1.request(head).expect("a whole answer");
        assert_eq!(answer.status, status, "HTTP/1.1: {shown}");

        let mut request = http::Request::builder()
            .method(method)
            .uri(format!("https://{url}"))
            .version(http::Version::HTTP_2);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let request = request.body(()).expect("a request");
        let answer = http2.ask(request).expect("a whole answer");
        assert_eq!(answer.status, status, "HTTP/2: {shown}");
    }
}

#[test]
fn routes_are_listed_in_their_order_and_explained() {
    let backend = Backend::start_new("a");
    let routes = [
        "{ host: a.org, path: = /x, redirect: { to: \"https://b.org{uri}\", status: 302 } }",
        "{ methods: [GET, HEAD], headers: { X-A: \"*\" }, not: { path: /y }, respond: 404 }",
        "{ path: /admin/, pool: web, retry: any_method, allow: [10.0.0.0/8], rate: { requests: 5 } }",
        "{ pool: web, mirror: { pool: next, share: 0.5% } }",
    ];
    let ballast = Setup::of(&[&backend])
        .pool("\n  next: { hosts: [\"127.0.0.1:1\"], health_check: none }")
        .top(&format!("routes: [{}]", routes.join(", ")))
        .start();
    let end = ballast.command(&["routes"]);
    assert_eq!(end.code, Some(0), "{end:?}");
    let expected = "\
#  MATCHES                                   DOES
1  a.org, = /x                               redirect 302 https://b.org{uri}
2  GET or HEAD, header X-A: *, not (/y)      respond 404
3  /admin/                                   pool web, retry any_method, allow 10.0.0.0/8, rate 5/s, burst 5, by client_ip
4  everything                                pool web, mirror next 0.5%
";
    let squeezed = |text: &str| {
        let lines = text.lines();
        let lines = lines.map(|line| Vec::from_iter(line.split_whitespace()).join(" "));
        Vec::from_iter(lines)
    };
    assert_eq!(squeezed(&end.stdout), squeezed(expected), "{end:?}");

    let explain = |args: &[&str]| {
        let end = ballast.command(&[&["explain"], args].concat());
        assert_eq!(end.code, Some(0), "{end:?}");
        end.stdout
    };
    let told = explain(&["--host", "a.org", "--path", "/y", "--header", "X-A: 1"]);
    let lines = [
        "pool web by route 4",
        "not by route 1, because the path does not fit: a.org, = /x",
        "not by route 2, because one of its exceptions fits: GET or HEAD, header X-A: *, not (/y)",
        "not by route 3, because the path does not fit: /admin/",
    ];
    for line in lines {
        assert!(told.contains(line), "{line}\n{told}");
    }
    let told = explain(&["--path", "/x", "--header", "X-A: 1"]);
    let lines = [
        "no pool, by route 2",
        "(respond)",
        "because the host does not fit",
    ];
    for line in lines {
        assert!(told.contains(line), "{line}\n{told}");
    }
    let told = explain(&["--json", "--path", "/z", "--method", "PUT"]);
    let told: serde_json::Value = serde_json::from_str(&told).expect("JSON");
    let whys = told["unmatched"].as_array().expect("a list").iter();
    let whys = Vec::from_iter(whys.map(|unmatched| unmatched["why"].as_str().expect("a text")));
    assert_eq!(whys, ["host", "method", "path"]);
}
