//! Hosts at `unix:/path`.

use std::process::{Command, Stdio};

use serde_json::json;
use tempfile::TempDir;
use tungstenite::Message;

use crate::proxy_protocol_to_hosts::host::ProxiedHost;
use crate::support::http2::{Http2, request};
use crate::support::http2_backend::{Http2Backend, Stream};
use crate::support::{
    Authority, Backend, Ballast, Client, Collector, HEALTH_PATH, LISTEN, Reply, SOON, Setup,
    UnixRelay, file, get, peer, wait_until,
};
use crate::websocket::{echo, open};

const DRIVERS: [&str; 2] = ["engine", "pingora"];

fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder can be made")
}

fn driver(name: &str) -> String {
    format!("server: {{ http1: {name} }}")
}

fn quoted(relay: &UnixRelay) -> String {
    format!("\"{}\"", relay.address())
}

/// The lines of the status about the socket.
fn status(ballast: &Ballast, relay: &UnixRelay) -> String {
    let status = ballast.command(&["status"]).stdout;
    let lines = status.lines();
    let lines = lines.filter(|line| line.contains(&relay.address()));
    Vec::from_iter(lines).join("\n")
}

#[test]
fn every_algorithm_sends_requests_to_sockets_and_ports() {
    let folder = folder();
    let (socket, port) = (Backend::start_new("socket"), Backend::start_new("port"));
    let relay = UnixRelay::start(folder.path().join("a.sock"), socket.address());
    for algorithm in [
        "p2c",
        "least_load",
        "round_robin",
        "random",
        "{ name: consistent_hash, key: path }",
        "{ name: bounded, key: path }",
        "ip_hash",
    ] {
        let ballast = Setup::of(&[&port])
            .host_entry(&quoted(&relay))
            .algorithm(algorithm)
            .start();
        let mut served = Vec::new();
        wait_until(SOON, "both hosts serve", || {
            let source = format!("127.0.{}.1", served.len() % 200 + 1);
            let source = source.parse().expect("an address");
            let mut client = Client::from_ip(source, ballast.address()).expect("connected");
            let path = format!("/{}", served.len());
            served.push(client.get(&path).backend().to_owned());
            served.iter().any(|name| name == "socket") && served.iter().any(|name| name == "port")
        });
        let explained = ballast.command(&["explain", "--path", "/0", "--client", "127.0.1.1"]);
        assert!(explained.stdout.contains(&relay.address()), "{explained:?}");
    }
}

#[test]
fn both_drivers_keep_connections_and_name_the_socket() {
    let folder = folder();
    let backend = Backend::start_new("a");
    let relay = UnixRelay::start(folder.path().join("a.sock"), backend.address());
    for name in DRIVERS {
        let before = backend.connections();
        let ballast = Setup::of(&[])
            .host_entry(&quoted(&relay))
            .pool("host_header: upstream")
            .pool("sticky: { cookie: ballast }")
            .top(&driver(name))
            .top("access_log: { path: access.log }")
            .start();
        let mut client = Client::connect(ballast.address());
        let big = vec![b'x'; 1 << 20];
        for _ in 0..3 {
            assert_eq!(client.get("/").status, 200, "{name}");
            assert_eq!(client.post("/", &big).status, 200, "{name}");
        }
        assert_eq!(backend.connections() - before, 1, "{name}");
        let seen = backend.last();
        assert_eq!(seen.head.get("host"), Some("localhost"), "{name}");
        assert_eq!(
            seen.head.get("x-forwarded-for"),
            Some("127.0.0.1"),
            "{name}"
        );
        wait_until(SOON, "the body is recorded", || {
            backend.last().body.len() == big.len()
        });
        let line = &ballast.access_log(1)[0];
        assert_eq!(line["host"], json!(relay.address()), "{line}");
        let status = status(&ballast, &relay);
        assert!(status.contains("up"), "{status}");
    }
}

#[test]
fn checks_follow_a_socket_that_goes_and_comes_back() {
    let folder = folder();
    let backend = Backend::start_new("a");
    let path = folder.path().join("a.sock");
    for check in ["tcp", "http"] {
        let relay = UnixRelay::start(&path, backend.address());
        let rest = match check {
            "http" => format!(", path: {HEALTH_PATH}"),
            _ => String::new(),
        };
        let ballast = Setup::of(&[])
            .host_entry(&quoted(&relay))
            .health(&format!(
                "{{ type: {check}{rest}, interval: 200ms, timeout: 200ms, rise: 1, fall: 1 }}"
            ))
            .start();
        let code = || get(ballast.address(), "/").status;
        wait_until(SOON, "the host is up", || code() == 200);
        relay.kill();
        wait_until(SOON, "the host is down", || {
            status(&ballast, &relay).contains("down")
        });
        assert_eq!(code(), 503, "{check}");
        drop(relay);
        let _relay = UnixRelay::start(&path, backend.address());
        wait_until(SOON, "the host is up again", || code() == 200);
        if check == "http" {
            assert_eq!(backend.last_health_check().get("host"), Some("localhost"));
        }
    }
}

#[test]
fn a_dead_socket_costs_no_request_while_another_host_is_left() {
    let folder = folder();
    let backend = Backend::start_new("a");
    let dead = UnixRelay::start(folder.path().join("dead.sock"), backend.address());
    dead.kill();
    for name in DRIVERS {
        let setup = Setup::of(&[]).host_entry(&quoted(&dead)).top(&driver(name));
        let alone = setup.start();
        assert_eq!(get(alone.address(), "/").status, 502, "{name}");
        drop(alone);
        let missing = format!("\"unix:{}\"", folder.path().join("none").display());
        let ballast = setup.host_entry(&missing).host(backend.address()).start();
        let mut client = Client::connect(ballast.address());
        for _ in 0..6 {
            assert_eq!(client.get("/").backend(), "a", "{name}");
            assert_eq!(client.post("/", b"body").backend(), "a", "{name}");
        }
    }
}

#[test]
fn a_connection_that_was_closed_while_idle_is_replaced() {
    let folder = folder();
    let backend = Backend::start_new("a");
    backend.set(Reply::ok().then_close());
    let relay = UnixRelay::start(folder.path().join("a.sock"), backend.address());
    for name in DRIVERS {
        let setup = Setup::of(&[]).host_entry(&quoted(&relay));
        let ballast = setup.top(&driver(name)).start();
        let mut client = Client::connect(ballast.address());
        for _ in 0..20 {
            assert_eq!(client.get("/").status, 200, "{name}");
        }
    }
}

#[test]
fn websockets_pass() {
    let folder = folder();
    let backend = Backend::start_new("a");
    backend.set(echo());
    let relay = UnixRelay::start(folder.path().join("a.sock"), backend.address());
    for name in DRIVERS {
        let setup = Setup::of(&[]).host_entry(&quoted(&relay));
        let ballast = setup.top(&driver(name)).start();
        let mut socket = open(ballast.address());
        let text = Message::text("x".repeat(100_000));
        socket.send(text.clone()).expect("sent");
        assert!(socket.read().expect("echoed") == text, "{name}");
    }
}

#[test]
fn tls_asks_for_the_name_that_the_pool_has() {
    let folder = folder();
    let authority = Authority::new("authority");
    authority.write(folder.path(), "ca.pem");
    let backend = Backend::start_tls("a", authority.issue(&["app.test"]).server());
    let relay = UnixRelay::start(folder.path().join("a.sock"), backend.address());
    let ca = folder.path().join("ca.pem");
    for name in DRIVERS {
        for (server_name, status) in [("app.test", 200), ("other.test", 502)] {
            let ballast = Setup::of(&[])
                .host_entry(&quoted(&relay))
                .pool(&format!(
                    "tls: {{ server_name: {server_name}, ca: {} }}",
                    ca.display()
                ))
                .top(&driver(name))
                .start();
            let found = get(ballast.address(), "/").status;
            assert_eq!(found, status, "{name}, {server_name}");
        }
    }
}

#[test]
fn http_2_and_its_checks_work() {
    async fn greet(stream: Stream) {
        stream.answer(200, "hello", http::HeaderMap::new());
    }
    let folder = folder();
    let backend = Http2Backend::start(greet);
    let relay = UnixRelay::start(folder.path().join("a.sock"), backend.address());
    let ballast = Setup::of(&[])
        .host_entry(&quoted(&relay))
        .pool("protocol: h2c")
        .health("{ type: http, interval: 200ms, timeout: 200ms }")
        .top(&format!(
            "listeners: [{{ address: \"{LISTEN}\", http2: cleartext }}]"
        ))
        .start();
    wait_until(SOON, "the host is up", || {
        get(ballast.address(), "/").text() == "hello"
    });
    let mut client = Http2::connect_plain(ballast.address());
    let response = client.ask(request("GET", "/")).expect("a response");
    assert_eq!(response.status, 200);
}

#[test]
fn proxy_headers_name_the_client() {
    let folder = folder();
    for version in ["v1", "v2"] {
        for name in DRIVERS {
            let host = ProxiedHost::http1();
            let path = folder.path().join(format!("{version}-{name}"));
            let relay = UnixRelay::start(path, host.address());
            let ballast = Setup::of(&[])
                .host_entry(&quoted(&relay))
                .pool(&format!("proxy_protocol: {version}"))
                .top(&driver(name))
                .start();
            let mut client = Client::connect(ballast.address());
            let source = client.local_address().to_string();
            let text = client.get("/").text();
            assert!(text.contains(&source), "{version}, {name}: {text}");
        }
    }
}

#[test]
fn copies_and_questions_go_to_sockets() {
    let folder = folder();
    let [app, copies, auth] = ["app", "copies", "auth"].map(Backend::start_new);
    let relay = |name: &str, to: &Backend| UnixRelay::start(folder.path().join(name), to.address());
    let (to_copies, to_auth) = (relay("copies", &copies), relay("auth", &auth));
    let ballast = Ballast::start(&format!(
        "listeners: [\"{LISTEN}\"]\n\
         routes: [{{ pool: web, mirror: {{ pool: copies }}, auth: {{ pool: auth }} }}]\n\
         pools:\n  web: {{ hosts: [\"{}\"], health_check: none }}\n  \
         copies: {{ hosts: [\"{}\"], health_check: none }}\n  \
         auth: {{ hosts: [\"{}\"], health_check: none }}\n",
        app.address(),
        to_copies.address(),
        to_auth.address(),
    ));
    assert_eq!(get(ballast.address(), "/").backend(), "app");
    assert_eq!(auth.requests(), 1);
    wait_until(SOON, "the copy arrives", || copies.requests() == 1);
}

#[test]
fn operators_add_drain_and_remove_sockets() {
    let folder = folder();
    let [first, second] = ["a", "b"].map(Backend::start_new);
    let relay = UnixRelay::start(folder.path().join("b.sock"), second.address());
    let address = relay.address();
    let ballast = Setup::of(&[&first]).start();
    let run = |args: &[&str]| {
        let end = ballast.command(args);
        assert_eq!(end.code, Some(0), "{end:?}");
    };
    run(&["host", "add", &address, "--pool", "web"]);
    run(&["drain", &first.address().to_string()]);
    wait_until(SOON, "the socket serves", || {
        get(ballast.address(), "/").backend() == "b"
    });
    run(&["undrain", &first.address().to_string()]);
    run(&["host", "remove", &address, "--pool", "web"]);
    wait_until(SOON, "the socket does not serve any more", || {
        (0..4).all(|_| get(ballast.address(), "/").backend() == "a")
    });
}

#[test]
fn a_span_has_the_path_of_the_socket() {
    let folder = folder();
    let backend = Backend::start_new("a");
    let relay = UnixRelay::start(folder.path().join("a.sock"), backend.address());
    let collector = Collector::start_new();
    let ballast = Setup::of(&[])
        .host_entry(&quoted(&relay))
        .top(&collector.section(""))
        .start();
    assert_eq!(get(ballast.address(), "/").status, 200);
    let path = relay.path().display().to_string();
    wait_until(SOON, "a span of the attempt arrives", || {
        collector.spans().iter().any(|span| {
            span.get("network.peer.address") == path && span.get("network.transport") == "unix"
        })
    });
}

#[test]
fn nginx_serves_at_a_socket() {
    let Some(program) = peer("nginx") else {
        return;
    };
    let folder = folder();
    let path = folder.path().display().to_string();
    let config = format!(
        "daemon off;\nmaster_process off;\npid {path}/nginx.pid;\nerror_log {path}/error.log;\nevents {{}}\n\
         http {{ access_log off; client_body_temp_path {path}/body; proxy_temp_path {path}/proxy;\n\
         fastcgi_temp_path {path}/fastcgi; uwsgi_temp_path {path}/uwsgi; scgi_temp_path {path}/scgi;\n\
         server {{ listen unix:{path}/nginx.sock; return 200 \"nginx $host\"; }} }}\n"
    );
    let config = file(folder.path(), "nginx.conf", &config);
    let mut nginx = Command::new(program)
        .args(["-p", &path, "-c"])
        .arg(config)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("an installed program can be started");
    let ballast = Setup::of(&[])
        .host_entry(&format!("\"unix:{path}/nginx.sock\""))
        .health("{ type: http, path: /, interval: 200ms, timeout: 200ms }")
        .start();
    wait_until(SOON, "nginx serves", || {
        get(ballast.address(), "/").text() == "nginx test"
    });
    let _ = nginx.kill();
    let _ = nginx.wait();
}
