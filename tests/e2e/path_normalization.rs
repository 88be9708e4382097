//! No spelling of a path or a host name bypasses a route, and hosts get the target that the client sent.

use std::net::SocketAddr;

use serde_json::Value;

use crate::support::http2::{Secure, request};
use crate::support::{Backend, Ballast, Client, LISTEN, SOON, Setup, get, wait_until};

/// Spellings of `/admin` or of a path below it.
const ADMIN: &[&str] = &[
    "/admin",
    "//admin",
    "///admin/x",
    "/%61dmin",
    "/%41dmin/../%61%64%6d%69%6e",
    "/./admin",
    "/%2e/admin",
    "/x/../admin",
    "/x/%2e%2E/admin",
    "/admin;a=1",
    "/admin;a=1/x;b",
    "/;a/admin",
    "/admin\\x",
    "/\\admin",
    "/admin?x=/../open",
];

/// Paths that some hosts read as `/admin` or a path below it, and other hosts do not.
const AMBIGUOUS: &[&str] = &[
    "/admin%2fx",
    "/admin%5Cx",
    "/admin%00",
    "/admin%0a",
    "/admin%3ba=1",
    "/x%2f..%2fadmin",
    "/../admin",
    "/x/../../admin",
    "/x/..;/admin",
    "/.;a=1/admin",
    "/x\\..\\admin",
    "/%c0%ae%c0%ae/admin",
    "/admin%c0%afx",
    "/%zzadmin",
    "//example.com/admin",
];

/// The ways in which a client can send a target.
const WAYS: [Way; 3] = [Way::Origin, Way::Absolute, Way::Http2];

#[derive(Debug, Clone, Copy)]
enum Way {
    Origin,
    Absolute,
    Http2,
}

/// A process with a listener for each protocol.
struct Scene {
    ballast: Ballast,
    over_tls: Ballast,
    secure: Secure,
    backend: Backend,
}

impl Scene {
    fn new(top: &str) -> Self {
        let backend = Backend::start_new("a");
        let secure = Secure::new();
        let setup = Setup::of(&[&backend]).top(top);
        Scene {
            ballast: setup.start(),
            over_tls: setup.clone().top(&secure.listeners()).start(),
            secure,
            backend,
        }
    }

    /// The status of a request with this path for the host `test`.
    fn status(&self, way: Way, path: &str) -> u16 {
        match way {
            Way::Origin => ask(self.ballast.address(), path, "test"),
            Way::Absolute => ask(
                self.ballast.address(),
                &format!("http://test{path}"),
                "test",
            ),
            Way::Http2 => {
                let mut client = self.secure.connect(self.over_tls.address());
                client.ask(request("GET", path)).expect("a response").status
            }
        }
    }
}

fn ask(address: SocketAddr, target: &str, host: &str) -> u16 {
    let mut client = Client::connect(address);
    let request = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
    client.request(request).expect("a complete response").status
}

#[test]
fn every_spelling_of_a_path_is_denied() {
    let scene =
        Scene::new("routes: [{ path: /admin, pool: web, deny: [0.0.0.0/0] }, { pool: web }]");
    for way in WAYS {
        let before = scene.backend.requests();
        for path in ADMIN {
            assert_eq!(scene.status(way, path), 403, "{path} {way:?}");
        }
        for path in AMBIGUOUS {
            assert_eq!(scene.status(way, path), 400, "{path} {way:?}");
        }
        assert_eq!(scene.backend.requests(), before, "{way:?}");
        for path in [
            "/administrator",
            "/x/admin",
            "/admin/../open",
            "/%2561dmin",
            "/a%20b",
        ] {
            assert_eq!(scene.status(way, path), 200, "{path} {way:?}");
        }
    }
}

#[test]
fn every_spelling_of_a_path_counts_for_its_rate_limit() {
    let scene = Scene::new(
        "routes: [{ path: /admin, pool: web, rate: { requests: 1, burst: 1, key: \"header:Host\" } }, { pool: web }]",
    );
    for way in [Way::Origin, Way::Http2] {
        let passed = ADMIN.iter().filter(|path| scene.status(way, path) == 200);
        // One request passes at once, and one more for each second that the test takes.
        assert!(passed.count() < ADMIN.len() / 2, "{way:?}");
        for path in AMBIGUOUS {
            assert_eq!(scene.status(way, path), 400, "{path} {way:?}");
        }
    }
}

#[test]
fn every_spelling_takes_the_route_and_reaches_hosts_unchanged() {
    let (admin, web) = (Backend::start_new("admin"), Backend::start_new("web"));
    let ballast = Ballast::start(&format!(
        "listeners: [\"{LISTEN}\"]\nroutes: [{{ path: /admin, pool: admin }}, {{ pool: web }}]\npools:\n  \
         admin: {{ hosts: [\"{}\"], health_check: none }}\n  web: {{ hosts: [\"{}\"], health_check: none }}\n",
        admin.address(),
        web.address()
    ));
    for path in ADMIN {
        let response = get(ballast.address(), path);
        assert_eq!(
            (response.status, response.backend()),
            (200, "admin"),
            "{path}"
        );
        assert_eq!(admin.last().head.word(1), *path);
    }
    // No route has a restriction, so these paths pass as well.
    for path in AMBIGUOUS {
        assert_eq!(get(ballast.address(), path).status, 200, "{path}");
    }
}

#[test]
fn the_handling_of_ambiguous_paths_is_configurable() {
    let backend = Backend::start_new("a");
    let routes =
        "routes: [{ host: a.test, path: /admin, pool: web, deny: [0.0.0.0/0] }, { pool: web }]";
    let status = |paths: &str, host: &str| {
        let ballast = Setup::of(&[&backend]).top(routes).top(paths).start();
        ask(ballast.address(), "/x%2fy", host)
    };
    // A restriction applies only to its own host.
    for (paths, here, elsewhere) in [
        ("", 400, 200),
        ("paths: { ambiguous: auto }", 400, 200),
        ("paths: { ambiguous: reject }", 400, 400),
        ("paths: { ambiguous: pass }", 200, 200),
    ] {
        assert_eq!(status(paths, "a.test"), here, "{paths}");
        assert_eq!(status(paths, "A.test.:80"), here, "{paths}");
        assert_eq!(status(paths, "b.test"), elsewhere, "{paths}");
    }
}

#[test]
fn an_ambiguous_path_is_logged_as_a_bad_request_and_explained() {
    let scene = Scene::new(
        "routes: [{ path: /admin, pool: web, deny: [0.0.0.0/0] }, { pool: web }]\n\
         access_log: { path: access.log }",
    );
    assert_eq!(scene.status(Way::Origin, "/admin%2fx"), 400);
    let file = scene.ballast.folder().join("access.log");
    wait_until(SOON, "the line", || {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        let line = serde_json::from_str::<Value>(text.lines().next().unwrap_or_default());
        line.is_ok_and(|line| {
            assert_eq!(line["target"], "/admin%2fx");
            assert_eq!(line["ending"], "bad_request");
            line["status"] == 400
        })
    });
    let explained = scene.ballast.command(&["explain", "--path", "/admin%2fx"]);
    assert!(explained.stdout.contains("ambiguous_path"), "{explained:?}");
}

#[test]
fn every_spelling_of_a_host_name_takes_its_route() {
    let backend = Backend::start_new("a");
    let ballast = Setup::of(&[&backend])
        .top(
            "routes: [{ host: admin.example.com, pool: web, deny: [0.0.0.0/0] }, \
             { host: \"[2001:db8::1]\", pool: web, deny: [0.0.0.0/0] }, \
             { host: \"*.example.org\", pool: web, deny: [0.0.0.0/0] }, { pool: web }]",
        )
        .start();
    for host in [
        "admin.example.com",
        "admin.example.com.",
        "ADMIN.Example.com",
        "admin.example.com:80",
        "admin.example.com:443",
        "admin.example.com.:80",
        "admin.example.com:",
        "[2001:db8::1]",
        "[2001:DB8:0:0:0:0:0:1]:80",
        "a.example.org.",
    ] {
        assert_eq!(ask(ballast.address(), "/", host), 403, "{host}");
        let target = format!("http://{host}/");
        assert_eq!(ask(ballast.address(), &target, host), 403, "{host}");
    }
    // The same name in another spelling, which Pingora rejects in an absolute target.
    for host in ["%61dmin.example.com", "admin%2eexample.com"] {
        assert_eq!(ask(ballast.address(), "/", host), 403, "{host}");
        let target = format!("http://{host}/");
        let status = ask(ballast.address(), &target, host);
        assert!([400, 403].contains(&status), "{host}: {status}");
    }
    assert_eq!(backend.requests(), 0);
    assert_eq!(ask(ballast.address(), "/", "admin.example.net"), 200);
}

#[test]
fn unusual_target_bytes_pass_and_fragments_do_not() {
    let backend = Backend::start_new("a");
    let ballast = Setup::of(&[&backend]).start();
    for text in ["\"", "<", ">", "`", "{", "}", "|", "^", "\\", "[", "]", "'"] {
        for target in [format!("/a{text}b"), format!("/a?q={text}b")] {
            assert_eq!(get(ballast.address(), &target).status, 200, "{target}");
            // The host gets the target as the client sent it. With Pingora, characters that the `http` crate rejects
            // arrive escaped.
            let escaped = match text {
                "\"" if target.contains('?') => target.replace('"', "%22"),
                "<" | ">" | "`" => target.replace(text, &format!("%{:02X}", text.as_bytes()[0])),
                _ => target.clone(),
            };
            let arrived = |backend: &Backend| backend.last().head.word(1).to_owned();
            assert!(
                [&target, &escaped].contains(&&arrived(&backend)),
                "{target}"
            );
            let absolute = format!("http://test{target}");
            assert_eq!(ask(ballast.address(), &absolute, "test"), 200, "{absolute}");
            assert!(
                [&target, &escaped].contains(&&arrived(&backend)),
                "{target}"
            );
        }
    }
    let before = backend.requests();
    for target in [
        "/a#b",
        "/#",
        "/a?b#c",
        "http://test/a#b",
        "http://test#b",
        "/a b",
        "/a\tb",
        "/a\x01b",
        "/a\x7fb",
    ] {
        assert_eq!(ask(ballast.address(), target, "test"), 400, "{target:?}");
    }
    assert_eq!(backend.requests(), before);
}
