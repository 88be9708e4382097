//! Routes by all kinds of conditions, and the table against a scan.

use std::path::Path;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

use super::*;
use crate::config::Config;

/// A request that borrows nothing.
#[derive(Debug, Clone)]
struct Request {
    method: Method,
    authority: String,
    target: String,
    fields: HeaderMap,
    client: Option<IpAddr>,
}

impl Request {
    fn get(authority: &str, target: &str) -> Self {
        Request {
            method: Method::GET,
            authority: authority.to_owned(),
            target: target.to_owned(),
            fields: HeaderMap::new(),
            client: None,
        }
    }

    fn field(mut self, name: &str, value: &str) -> Self {
        let name = HeaderName::from_bytes(name.as_bytes()).expect("a name");
        let value = HeaderValue::from_str(value).expect("a value");
        self.fields.append(name, value);
        self
    }

    fn input(&self) -> RoutingInput<'_> {
        let (path, query) = self
            .target
            .split_once('?')
            .unwrap_or((self.target.as_str(), ""));
        RoutingInput {
            method: &self.method,
            authority: self.authority.as_bytes(),
            path: path.as_bytes(),
            query: query.as_bytes(),
            fields: FieldsView::Map(&self.fields),
            client: self.client,
        }
    }
}

/// Routes as in the file, without their pool.
fn routes(routes: &[&str]) -> Vec<config::Route> {
    let mut text =
        "listeners: [\"127.0.0.1:80\"]\npools: { w: { hosts: [\"127.0.0.1:1\"] } }\nroutes:\n"
            .to_owned();
    for route in routes {
        let comma = if route.is_empty() { "" } else { ", " };
        text += &format!("- {{ {route}{comma}pool: w }}\n");
    }
    let config = Config::parse(&text, Path::new("b.yaml"));
    config.unwrap_or_else(|errors| panic!("{errors}")).routes
}

fn router(lines: &[&str]) -> Router {
    Router::new(&routes(lines), Ambiguous::Auto)
}

fn find(router: &Router, authority: &str, target: &str) -> Option<usize> {
    let request = Request::get(authority, target);
    router.find(request.input()).expect("no ambiguous path")
}

#[test]
fn the_first_match_wins() {
    let router = router(&[
        "host: api.example.com, path: /v1/",
        "host: api.example.com",
        "path: /v1/",
    ]);
    assert_eq!(find(&router, "api.example.com", "/v1/x"), Some(0));
    assert_eq!(find(&router, "api.example.com", "/v2"), Some(1));
    assert_eq!(find(&router, "other", "/v1/x"), Some(2));
    assert_eq!(find(&router, "other", "/"), None);
}

#[test]
fn hosts_are_compared_without_case_and_port() {
    let router = router(&["host: api.example.com", "host: \"[::1]\""]);
    assert_eq!(find(&router, "API.Example.COM:8080", "/"), Some(0));
    assert_eq!(find(&router, "[::1]:8080", "/"), Some(1));
    assert_eq!(find(&router, "[0:0::1]", "/"), Some(1));
    assert_eq!(find(&router, "xapi.example.com", "/"), None);
    assert_eq!(find(&router, "", "/"), None);
}

#[test]
fn a_wildcard_matches_any_subdomain_but_not_the_parent() {
    let router = router(&["host: \"*.example.com\""]);
    assert_eq!(find(&router, "a.example.com", "/"), Some(0));
    assert_eq!(find(&router, "a.b.EXAMPLE.com:1", "/"), Some(0));
    assert_eq!(find(&router, "example.com", "/"), None);
    assert_eq!(find(&router, ".example.com", "/"), None);
    assert_eq!(find(&router, "badexample.com", "/"), None);
}

#[test]
fn a_path_matches_at_segment_boundaries() {
    let router = router(&["path: /v1"]);
    for (path, found) in [
        ("/v1", true),
        ("/v1/", true),
        ("/v1/x", true),
        ("/v10", false),
        ("/V1", false),
        ("/%761", true),
        ("/%76%31%30", false),
        ("//v1", true),
        ("/V1/../v1/x", true),
        ("*", false),
    ] {
        assert_eq!(find(&router, "h", path).is_some(), found, "{path}");
    }
    let slash = self::router(&["path: /v1/"]);
    assert_eq!(find(&slash, "h", "/v1/x"), Some(0));
    assert_eq!(find(&slash, "h", "/v1"), None);
    assert_eq!(find(&self::router(&["path: /"]), "h", "/x"), Some(0));
    assert_eq!(find(&self::router(&[""]), "h", "*"), Some(0));
}

#[test]
fn each_condition_says_why_it_does_not_fit() {
    let get = || Request::get("a.test", "/x?a=1&b=%2Fz+y&a=2");
    let from = |client: &str| Request {
        client: Some(client.parse().expect("an address")),
        ..get()
    };
    let fields = || {
        get()
            .field("X-A", "one")
            .field("x-a", "two")
            .field("Cookie", "c=1; d=\"2\"")
            .field("Cookie", "c=3")
    };
    for (route, request, why) in [
        ("host: a.test", get(), None),
        ("host: b.test", get(), Some(Mismatch::Host)),
        ("path: = /x", get(), None),
        ("path: = /x/", get(), Some(Mismatch::Path)),
        ("path: ~ ^/x$", get(), None),
        ("path: ~ (?i)X", get(), None),
        ("path: ~ X", get(), Some(Mismatch::Path)),
        ("methods: [POST, GET]", get(), None),
        ("methods: HEAD", get(), Some(Mismatch::Method)),
        ("headers: { X-A: two }", fields(), None),
        ("headers: { X-A: ~ ^o }", fields(), None),
        ("headers: { X-A: \"*\" }", fields(), None),
        (
            "headers: { X-A: tw }",
            fields(),
            Some(Mismatch::Header("X-A")),
        ),
        (
            "headers: { X-B: \"*\" }",
            fields(),
            Some(Mismatch::Header("X-B")),
        ),
        ("query: { a: 2, b: /z y }", get(), None),
        ("query: { a: 3 }", get(), Some(Mismatch::Query("a"))),
        ("query: { c: \"*\" }", get(), Some(Mismatch::Query("c"))),
        ("cookies: { c: 3, d: 2 }", fields(), None),
        (
            "cookies: { c: ~ ^2 }",
            fields(),
            Some(Mismatch::Cookie("c")),
        ),
        ("client: 10.0.0.0/8", from("10.1.2.3"), None),
        ("client: 10.0.0.0/8", from("::ffff:10.1.2.3"), None),
        (
            "client: 10.0.0.0/8",
            from("11.1.2.3"),
            Some(Mismatch::Client),
        ),
        ("client: 10.0.0.0/8", get(), Some(Mismatch::Client)),
        ("not: { path: /y }", get(), None),
        ("not: { path: /x }", get(), Some(Mismatch::Not)),
        ("not: { path: /x, methods: POST }", get(), None),
        (
            "not: [{ path: /y }, { query: { a: \"*\" } }]",
            get(),
            Some(Mismatch::Not),
        ),
    ] {
        let router = router(&[route]);
        assert_eq!(router.mismatch(0, request.input()), why, "{route}");
        let found = why.is_none().then_some(0);
        assert_eq!(router.find(request.input()), Ok(found), "{route}");
    }
}

#[test]
fn an_ambiguous_path_is_refused_for_hosts_with_a_restricted_route() {
    let ambiguous = Request::get("a.test", "/x%2fy");
    let others = Vec::from_iter((0..30).map(|number| format!("host: h{number}.test")));
    for (route, is_refused) in [
        ("host: a.test, path: /z", false),
        ("host: b.test, deny: 10.0.0.0/8", false),
        ("host: a.test, path: /z, deny: 10.0.0.0/8", true),
        ("host: A.test, methods: POST, rate: { requests: 1 }", true),
        ("host: \"*.test\", client: 10.0.0.0/8", true),
        ("path: /z, not: { client: 10.0.0.0/8 }", true),
    ] {
        let many = Vec::from_iter(others.iter().map(String::as_str).chain([route]));
        for routes in [&[route][..], &many] {
            let router = router(routes);
            let found = router.find(ambiguous.input());
            assert_eq!(found.is_err(), is_refused, "{route}");
        }
    }
}

/// A host, in pieces that often meet.
fn host(random: &mut SmallRng) -> String {
    const LABELS: [&str; 4] = ["a", "b", "test", "EXAMPLE"];
    let count = random.gen_range(1..4);
    let labels = (0..count).map(|_| *LABELS.choose(random).expect("there are labels"));
    Vec::from_iter(labels).join(".")
}

fn path(random: &mut SmallRng) -> String {
    const PIECES: [&str; 6] = ["/", "/a", "/b", "/ab", "/a/", "//"];
    let pieces = (0..random.gen_range(1..5)).map(|_| *PIECES.choose(random).expect("pieces"));
    String::from_iter(pieces)
}

fn random_route(random: &mut SmallRng) -> config::Route {
    let mut conditions = Vec::new();
    match random.gen_range(0..8) {
        0..=2 => conditions.push(format!("host: {}", host(random))),
        3..=4 => conditions.push(format!("host: \"*.{}\"", host(random))),
        5 => conditions.push("host: \"[2001:DB8::1]\"".to_owned()),
        _ => {}
    }
    match random.gen_range(0..6) {
        0..=2 => conditions.push(format!("path: {}", path(random))),
        3 => conditions.push(format!("path: = {}", path(random))),
        4 => conditions.push(format!(
            "path: ~ {}",
            path(random).trim_end_matches('/').to_owned() + "/?$"
        )),
        _ => {}
    }
    if random.gen_bool(0.3) {
        conditions.push("methods: POST".to_owned());
    }
    if random.gen_bool(0.2) {
        conditions.push("headers: { X-A: 1 }".to_owned());
    }
    if random.gen_bool(0.2) {
        // An exception that has all of the route would be an error.
        conditions.push(format!(
            "not: {{ path: {}, headers: {{ X-A: 2 }} }}",
            path(random)
        ));
    }
    routes(&[&conditions.join(", ")]).remove(0)
}

#[test]
fn the_table_finds_what_a_scan_finds() {
    let mut random = SmallRng::seed_from_u64(1);
    let (mut found, mut missed) = (0, 0);
    for max_scanned in [0, 3] {
        for _ in 0..40 {
            let count = random.gen_range(1..40);
            let routes = Vec::from_iter((0..count).map(|_| random_route(&mut random)));
            let matchers = Vec::from_iter(routes.iter().map(RouteMatcher::new));
            let table = RouteTable::new(&matchers, max_scanned);
            for _ in 0..100 {
                let authority = match random.gen_range(0..8) {
                    0 => "[2001:db8:0::1]:80".to_owned(),
                    1 => format!("{}:80", host(&mut random)),
                    2 => format!("{}.{}", "A".repeat(300), host(&mut random)),
                    3 => String::new(),
                    _ => host(&mut random),
                };
                let mut request = Request::get(&authority, &path(&mut random));
                if random.gen_bool(0.5) {
                    request.method = Method::POST;
                }
                if random.gen_bool(0.7) {
                    let value = ["1", "2"].choose(&mut random).expect("values");
                    request = request.field("x-a", value);
                }
                let (expected, actual) = NormalizedInput::with(request.input(), |input| {
                    let matches =
                        |matcher: &RouteMatcher| matcher.conditions.mismatch(input).is_none();
                    let expected = matchers.iter().position(matches);
                    let actual =
                        table.first(input, |index| matchers[index].conditions.matches(input));
                    (expected, actual)
                });
                assert_eq!(actual, expected, "{request:?}\n{routes:#?}");
                match expected {
                    Some(_) => found += 1,
                    None => missed += 1,
                }
            }
        }
    }
    assert!(found > 1_000 && missed > 100, "{found}, {missed}");
}
