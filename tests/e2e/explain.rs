//! Explanations state what happens next, for every possible reason, and change nothing.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::support::{
    Backend, Ballast, Client, Finished, Reply, Response, SOON, Setup, free, get, wait_until,
};

/// A running process with an admin listener.
struct Scene {
    ballast: Ballast,
    admin: SocketAddr,
}

impl Scene {
    fn new(setup: Setup) -> Self {
        let admin = free();
        let setup = setup.top(&format!("admin: {{ address: \"{admin}\" }}"));
        let ballast = setup.start();
        Scene { ballast, admin }
    }

    /// The API's response to a described request, or to any other body.
    #[track_caller]
    fn ask(&self, body: &str) -> (u16, Value) {
        let request = format!(
            "POST /api/v1/explain HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\n\r\n{body}",
            self.admin,
            body.len()
        );
        let mut client = Client::connect(self.admin);
        let response = client.request(request).expect("a complete response");
        let value = serde_json::from_str(&response.text()).expect("JSON");
        (response.status, value)
    }

    #[track_caller]
    fn explain(&self, described: Value) -> Value {
        let (status, explained) = self.ask(&described.to_string());
        assert_eq!(status, 200, "{explained}");
        explained
    }

    #[track_caller]
    fn run(&self, args: &[&str]) -> Finished {
        let end = self.ballast.command(args);
        assert_eq!(end.code, Some(0), "{end:?}");
        end
    }

    /// Drains or undrains the hosts of these backends.
    #[track_caller]
    fn drain(&self, verb: &str, backends: &[&Backend]) {
        for backend in backends {
            self.run(&[verb, &backend.address().to_string()]);
        }
    }
}

/// The explanation of one host.
#[track_caller]
fn candidate<'a>(explained: &'a Value, backend: &Backend) -> &'a Value {
    let address = backend.address().to_string();
    let mut candidates = candidates(explained).iter();
    let found = candidates.find(|candidate| candidate["host"] == address);
    found.unwrap_or_else(|| panic!("no {address} in {explained}"))
}

#[track_caller]
fn candidates(explained: &Value) -> &[Value] {
    explained["candidates"].as_array().expect("candidates")
}

/// Verdict, state and reason.
#[track_caller]
fn verdict_state_reason<'a>(explained: &'a Value, backend: &Backend) -> [&'a str; 3] {
    let found = candidate(explained, backend);
    ["verdict", "state", "why"].map(|key| found[key].as_str().expect("a word"))
}

/// The address of the host that sent the response.
#[track_caller]
fn host_of_response(response: &Response, backends: &[Backend]) -> String {
    let mut backends = backends.iter();
    let found = backends.find(|backend| backend.name() == response.backend());
    found.expect("the name of a backend").address().to_string()
}

/// The host that would get the request.
#[track_caller]
fn host(explained: &Value) -> &str {
    let host = explained["outcome"]["host"].as_str();
    host.unwrap_or_else(|| panic!("no host: {explained}"))
}

#[test]
fn each_host_is_listed_with_its_reason() {
    let names = ["idle", "busy", "full", "drained", "ejected", "down"];
    let backends = names.map(Backend::start_new);
    let [idle, busy, full, drained, ejected, down] = &backends;
    let limited = format!("{{ address: \"{}\", max_in_flight: 1 }}", full.address());
    let scene = Scene::new(
        Setup::of(&[idle, busy, drained, ejected, down])
            .host_entry(&limited)
            .algorithm("p2c")
            .health("{ interval: 1s, timeout: 1s, rise: 1, fall: 1 }")
            .pool("slow_start: none")
            .pool("ejection: { consecutive: 1, base: 60s, max: 60s }"),
    );
    let address = scene.ballast.address();
    let described = || json!({ "pool": "web" });
    down.stop();
    ejected.set(Reply::status(500));
    wait_until(SOON, "one host is down and one is ejected", || {
        get(address, "/");
        let explained = scene.explain(described());
        verdict_state_reason(&explained, down)[1] == "down"
            && verdict_state_reason(&explained, ejected)[1] == "ejected"
    });
    scene.drain("drain", &[drained, idle]);
    let running = [busy, full];
    running.iter().for_each(|backend| backend.set(Reply::Hang));
    let before = running.map(Backend::requests);
    let arrived = || [0, 1].map(|at| running[at].requests() - before[at]);
    let mut clients = [1, 2].map(|count| {
        let mut client = Client::connect(address);
        (client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n")).expect("sent");
        // The next request finds this one running, and goes to the other host.
        wait_until(SOON, "the request runs", || {
            arrived().iter().sum::<u64>() == count
        });
        client
    });
    assert_eq!(arrived(), [1, 1], "each host has a request");
    scene.drain("undrain", &[idle]);

    let requests = || backends.each_ref().map(Backend::requests);
    let before = requests();
    for _ in 0..20 {
        let explained = scene.explain(described());
        assert_eq!(explained["pool"], "web");
        assert_eq!(explained["algorithm"], "p2c");
        assert_eq!(explained["key"], Value::Null);
        assert_eq!(explained["outcome"]["why"], "balanced");
        assert_eq!(host(&explained), idle.address().to_string());
        for (backend, expected) in [
            (idle, ["taken", "up", "balanced"]),
            (busy, ["skipped", "up", "loaded"]),
            (full, ["skipped", "up", "full"]),
            (drained, ["skipped", "draining", "draining"]),
            (ejected, ["skipped", "ejected", "ejected"]),
            (down, ["skipped", "down", "down"]),
        ] {
            assert_eq!(
                verdict_state_reason(&explained, backend),
                expected,
                "{explained}"
            );
        }
        for backend in &backends {
            let running = u64::from(["busy", "full"].contains(&backend.name()));
            assert_eq!(
                candidate(&explained, backend)["in_flight"],
                running,
                "{explained}"
            );
        }
        let orders = candidates(&explained)
            .iter()
            .map(|candidate| &candidate["order"]);
        assert!(orders.eq([1, 2, 3, 4, 5, 6].iter()), "{explained}");
    }
    assert_eq!(requests(), before);

    let end = scene.run(&["explain", "--pool", "web"]);
    let taken = format!("> {}", idle.address());
    assert!(end.stdout.contains(&taken), "{end:?}");
    for reason in [
        "balanced: ",
        "loaded: ",
        "full: ",
        "ejected: ",
        "down: check failed",
    ] {
        assert!(end.stdout.contains(reason), "{reason}\n{end:?}");
    }
    let widest = end.stdout.lines().map(|line| line.chars().count()).max();
    assert!(widest.is_some_and(|widest| widest <= 100), "{end:?}");
    for client in &mut clients {
        client.finish_sending();
    }
}

#[test]
fn the_explained_host_of_a_key_gets_the_request() {
    let backends = ["a", "b", "c", "d", "e"].map(Backend::start_new);
    for algorithm in ["consistent_hash", "bounded"] {
        let scene = Scene::new(
            Setup::of(&backends.each_ref())
                .algorithm(&format!("{{ name: {algorithm}, key: \"header:X-User\" }}")),
        );
        let mut client = Client::connect(scene.ballast.address());
        for number in 0..200 {
            let user = format!("user{number}");
            let mut explained = Value::Null;
            // The previous request keeps its slot for a moment after its response.
            wait_until(SOON, "no request runs", || {
                explained = scene.explain(json!({ "headers": [["x-user", user]] }));
                let mut candidates = candidates(&explained).iter();
                // The previous request may end between the choice of the host and the reading of the counts.
                candidates.all(|it| it["in_flight"] == 0 && it["why"] != "bound")
            });
            assert_eq!(explained["route"], 1, "{explained}");
            let key = json!({ "source": "header:x-user", "value": user });
            assert_eq!(explained["key"], key);
            let response = client.get_with("/", &format!("X-User: {user}\r\n"));
            assert_eq!(
                host(&explained),
                host_of_response(&response, &backends),
                "{explained}"
            );
        }
        let keyless = scene.explain(json!({}));
        assert_eq!(keyless["key"]["value"], Value::Null);
        assert_eq!(keyless["outcome"]["why"], "balanced");
    }
}

#[test]
fn an_explanation_does_not_use_up_a_turn() {
    let backends = ["a", "b", "c"].map(Backend::start_new);
    let scene = Scene::new(Setup::of(&backends.each_ref()));
    for round in 0..20 {
        let mut explained = scene.explain(json!({ "path": "/x?y" }));
        for _ in 0..round % 3 {
            explained = scene.explain(json!({ "path": "/x?y" }));
        }
        let reasons = candidates(&explained)
            .iter()
            .map(|candidate| &candidate["why"]);
        assert!(
            reasons.eq(["balanced", "turn", "turn"].iter()),
            "{explained}"
        );
        let response = get(scene.ballast.address(), "/");
        assert_eq!(
            host(&explained),
            host_of_response(&response, &backends),
            "{explained}"
        );
    }
}

#[test]
fn forwarded_clients_are_explained_as_they_are_served() {
    let backends = ["a", "b", "c", "d"].map(Backend::start_new);
    let setup = Setup::of(&backends.each_ref()).algorithm("ip_hash");
    let scene = Scene::new(setup.top("trusted_proxies: [127.0.0.1/32]"));
    for number in 0..30 {
        let client = format!("192.0.2.{number}");
        let explained = scene.explain(json!({
            "client": "127.0.0.1", "headers": [["X-Forwarded-For", client]]
        }));
        let scores = candidates(&explained).iter();
        let scores = scores.filter_map(|candidate| candidate["score"].as_f64());
        let scores = Vec::from_iter(scores);
        assert_eq!(scores.len(), 4, "{explained}");
        assert!(scores.is_sorted_by(|a, b| a > b), "{explained}");
        let mut connection = Client::connect(scene.ballast.address());
        let response = connection.get_with("/", &format!("X-Forwarded-For: {client}\r\n"));
        assert_eq!(
            host(&explained),
            host_of_response(&response, &backends),
            "{explained}"
        );
    }
}

#[test]
fn a_cookie_selects_its_host_unless_it_is_drained_or_tried() {
    let [a, b] = ["a", "b"].map(Backend::start_new);
    let scene = Scene::new(
        Setup::of(&[&a, &b])
            .pool("sticky: { cookie: stay }")
            .pool("slow_start: none"),
    );
    let response = get(scene.ballast.address(), "/");
    let cookie = response.head.get("set-cookie").expect("a cookie");
    let cookie = cookie.split(';').next().expect("a pair").to_owned();
    let (mine, other) = match response.backend() {
        "a" => (&a, &b),
        _ => (&b, &a),
    };
    let described = json!({ "headers": [["Cookie", cookie]] });
    for _ in 0..3 {
        let explained = scene.explain(described.clone());
        assert_eq!(
            verdict_state_reason(&explained, mine),
            ["taken", "up", "sticky"],
            "{explained}"
        );
        assert_eq!(
            verdict_state_reason(&explained, other),
            ["skipped", "up", "not_asked"],
            "{explained}"
        );
    }
    scene.drain("drain", &[mine]);
    let explained = scene.explain(described.clone());
    assert_eq!(
        verdict_state_reason(&explained, other),
        ["taken", "up", "balanced"],
        "{explained}"
    );
    let reason = "the client's cookie names it, but: drained by an operator";
    assert!(explained.to_string().contains(reason), "{explained}");
    // After a failed attempt at its host, the request and its client move to another host.
    scene.drain("undrain", &[mine]);
    let failed = json!({
        "headers": described["headers"], "tried": [mine.address().to_string()]
    });
    let explained = scene.explain(failed);
    assert_eq!(
        verdict_state_reason(&explained, mine),
        ["skipped", "up", "tried"],
        "{explained}"
    );
    assert_eq!(
        verdict_state_reason(&explained, other),
        ["taken", "up", "balanced"],
        "{explained}"
    );
}

#[test]
fn requests_without_a_host_are_explained() {
    let [a, b, c] = ["a", "b", "c"].map(Backend::start_new);
    let pool = |name: &str, backend: &Backend, rest: &str| {
        let address = backend.address();
        format!("\n  {name}:\n    hosts: [\"{address}\"]\n    {rest}")
    };
    let checked = "health_check: { interval: 1s, timeout: 1s, fall: 1 }";
    let limited = "health_check: none\n    limits: { max_in_flight: 1 }";
    let routes = [
        "{ host: open.example, path: /one, pool: one }",
        "{ host: open.example, path: /dead, pool: dead }",
        "{ host: closed.example, pool: web, allow: [10.0.0.0/8], auth: { pool: one } }",
    ];
    c.stop();
    let scene = Scene::new(
        Setup::of(&[&a])
            .top(&format!("routes: [{}]", routes.join(", ")))
            .pool(&pool("one", &b, limited))
            .pool(&pool("dead", &c, checked)),
    );
    b.set(Reply::Hang);
    let mut client = Client::connect(scene.ballast.address());
    (client.send("GET /one HTTP/1.1\r\nHost: open.example\r\n\r\n")).expect("sent");
    wait_until(SOON, "the request runs", || b.requests() == 1);
    let none = |described: Value| scene.explain(described)["outcome"]["none"].clone();
    assert_eq!(
        none(json!({ "host": "open.example", "path": "/one" })),
        "busy"
    );
    assert_eq!(
        none(json!({ "host": "open.example", "path": "/dead" })),
        "no_host"
    );
    assert_eq!(none(json!({ "host": "other.example" })), "no_route");
    let closed = json!({ "host": "closed.example", "client": "192.0.2.1" });
    assert_eq!(none(closed), "forbidden");
    let tried = json!({ "pool": "web", "tried": [a.address().to_string()] });
    assert_eq!(none(tried), "tried");
    let open = scene.explain(json!({ "host": "closed.example", "client": "10.1.2.3" }));
    assert_eq!(
        (host(&open), &open["route"]),
        (&*a.address().to_string(), &json!(3))
    );
    assert_eq!(open["authentication"], "auth pool one");
    let end = scene.run(&["explain", "--host", "open.example", "--path", "/one"]);
    assert!(
        end.stdout.contains("it waits in the queue (busy)"),
        "{end:?}"
    );
    let end = scene.run(&[
        "explain",
        "--host",
        "closed.example",
        "--client",
        "10.1.2.3",
        "--json",
    ]);
    let printed: Value = serde_json::from_str(&end.stdout).expect("JSON");
    assert_eq!(printed["outcome"], open["outcome"]);
}

#[test]
fn invalid_descriptions_are_refused_with_the_reason() {
    let a = Backend::start_new("a");
    let scene = Scene::new(Setup::of(&[&a]));
    let many = json!({ "tried": vec![a.address().to_string(); 50] }).to_string();
    for (body, status, reason) in [
        ("", 400, "the body is not valid"),
        ("1", 400, "the body is not valid"),
        (r#"{"pol": "web"}"#, 400, "unknown field `pol`"),
        (
            r#"{"pool": "other\none"}"#,
            404,
            r"there is no pool `other\none`",
        ),
        (
            r#"{"tried": ["x:1"]}"#,
            404,
            "the pool web does not have a host `x:1`",
        ),
        (r#"{"client": "somebody"}"#, 400, "invalid IP address"),
        (r#"{"method": "G T"}"#, 400, "method: `G T` is not a method"),
        (r#"{"path": "x"}"#, 400, "path: `x` is not a request target"),
        (r#"{"path": "*"}"#, 400, "path: `*` is not a request target"),
        (
            r#"{"path": "/a b"}"#,
            400,
            "path: `/a b` is not a request target",
        ),
        (r#"{"path": ""}"#, 400, "path: `` is not a request target"),
        (
            r#"{"host": "a\nb"}"#,
            400,
            r"headers: `host: a\nb` is not a header field",
        ),
        (
            r#"{"headers": [["a b", "c"]]}"#,
            400,
            "headers: `a b: c` is not a header field",
        ),
        (&many, 400, "tried: 50 hosts"),
    ] {
        let (actual, document) = scene.ask(body);
        let error = document["error"].as_str().expect("an error");
        assert_eq!(actual, status, "{body}: {error}");
        assert!(error.contains(reason), "{body}: {error}");
        assert_eq!(error.lines().count(), 1, "{body}: {error}");
    }
    let response = get(scene.admin, "/api/v1/explain");
    assert_eq!(response.status, 405);
    for (args, code, reason) in [
        (vec!["--pool", "other"], 1, "there is no pool `other`"),
        (vec!["--header", "x"], 2, "`x` has no colon"),
        (vec!["--client", "x"], 2, "invalid IP address"),
    ] {
        let end = scene.ballast.command(&[vec!["explain"], args].concat());
        assert_eq!(end.code, Some(code), "{end:?}");
        assert!(end.stderr.contains(reason), "{end:?}");
    }
    assert_eq!(get(scene.ballast.address(), "/").backend(), "a");
}
