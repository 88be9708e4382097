//! TLS to hosts: sessions are resumed, and none is below the lowest version.

use std::path::Path;
use std::sync::Arc;

use http::HeaderMap;
use rustls::HandshakeKind::{Full, Resumed};
use rustls::ServerConfig;
use rustls::version::{TLS12, TLS13};

use crate::support::http2_backend::Http2Backend;
use crate::support::{
    Authority, Backend, Ballast, BothProtocols, Client, Reply, SOON, Setup, get, wait_until,
};

/// The log line about a host that has chosen TLS 1.2.
const TOO_LOW: &str = "the host has chosen TLS 1.2, and min_version of the pool is 1.3";

/// A host that closes each connection after one response.
fn closing(config: Arc<ServerConfig>) -> Backend {
    let backend = Backend::start_tls("a", config);
    backend.set(Reply::ok().then_close());
    backend
}

/// Requests on connections of their own.
#[track_caller]
fn ask(ballast: &Ballast, count: usize) {
    let mut client = Client::connect(ballast.address());
    for _ in 0..count {
        assert_eq!(client.get("/").status, 200);
    }
}

#[test]
fn sessions_are_resumed_until_authorities_or_certificate_change() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let path = |name: &str| folder.path().join(name).display().to_string();
    let [servers, clients] = ["servers", "clients"].map(Authority::new);
    servers.write(folder.path(), "ca.pem");
    let shown = |name: &str| clients.issue_named(name).write(folder.path(), "client");
    shown("first");
    let identity = servers.issue(&["a.test"]);
    let named = "server_name: a.test";
    let trusting = format!("{named}, ca: {}", path("ca.pem"));
    let showing = format!(
        "{trusting}, certificate: {}, key: {}",
        path("client.crt"),
        path("client.key")
    );
    let add_authority = || {
        let both = servers.pem() + &Authority::new("another").pem();
        std::fs::write(path("ca.pem"), both).expect("written");
    };
    let show_another = || drop(shown("second"));
    for (host, tls, change) in [
        (identity.server_of(&[&TLS12]), &trusting, None),
        (
            identity.server_of(&[&TLS13]),
            &format!("{named}, verify: false"),
            None,
        ),
        (
            identity.server(),
            &trusting,
            Some(&add_authority as &dyn Fn()),
        ),
        (identity.server_for(&clients), &showing, Some(&show_another)),
    ] {
        let host = closing(host);
        let ballast = Setup::of(&[&host])
            .pool(&format!("tls: {{ {tls} }}"))
            .start();
        ask(&ballast, 4);
        assert_eq!(host.take_handshakes(), [Full, Resumed, Resumed, Resumed]);
        let Some(change) = change else { continue };
        change();
        let reload = ballast.reload();
        assert_eq!(reload.code, Some(0), "{reload:?}");
        ask(&ballast, 2);
        assert_eq!(host.take_handshakes(), [Full, Resumed], "{tls}");
    }
}

#[test]
fn hosts_and_pools_share_no_sessions() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let authority = Authority::new("servers");
    let ca = authority.write(folder.path(), "ca.pem");
    let identity = authority.issue(&["a.test"]);
    // They would resume each other's sessions.
    let config = identity.server();
    let [first, second] = [closing(config.clone()), closing(config)];
    let tls = format!("tls: {{ server_name: a.test, ca: {} }}", ca.display());
    let ballast = Setup::of(&[&first, &second])
        .pool(&tls)
        .pool(&format!(
            "\n  other: {{ hosts: [\"{}\"], health_check: none, {tls} }}",
            second.address()
        ))
        .top("routes: [{ path: /other, pool: other }, { pool: web }]")
        .start();
    ask(&ballast, 4);
    for host in [&first, &second] {
        assert_eq!(host.take_handshakes(), [Full, Resumed]);
    }
    for expected in [Full, Resumed] {
        assert_eq!(get(ballast.address(), "/other").status, 200);
        assert_eq!(second.take_handshakes(), [expected]);
    }
}

#[test]
fn requests_of_the_proxy_itself_resume_sessions() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let authority = Authority::new("servers");
    let ca = authority.write(folder.path(), "ca.pem");
    let identity = authority.issue(&["a.test"]);
    let host = Backend::start_new("a");
    for (service, further, expected) in [
        (closing(identity.server()), "min_version: 1.3", 200),
        (
            closing(identity.server_of(&[&TLS12])),
            "min_version: 1.3",
            500,
        ),
    ] {
        let ballast = Setup::of(&[&host])
            .pool(&format!(
                "\n  auth: {{ hosts: [\"{}\"], health_check: none, tls: {{ server_name: a.test, ca: {}, {further} }} }}",
                service.address(),
                ca.display()
            ))
            .top("routes: [{ pool: web, auth: { pool: auth } }]")
            .start();
        for _ in 0..2 {
            assert_eq!(get(ballast.address(), "/").status / 100, expected / 100);
        }
        let resumed: &[_] = if expected == 200 {
            &[Full, Resumed]
        } else {
            &[]
        };
        assert_eq!(service.take_handshakes(), resumed);
        assert_eq!(service.requests(), resumed.len() as u64);
    }
}

/// `tls` of a pool whose lowest version is 1.3.
fn modern(folder: &Path) -> String {
    let ca = folder.join("ca.pem");
    format!(
        "tls: {{ server_name: a.test, ca: {}, min_version: 1.3 }}",
        ca.display()
    )
}

#[test]
fn a_host_below_the_lowest_version_gets_no_request() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let authority = Authority::new("servers");
    authority.write(folder.path(), "ca.pem");
    let identity = authority.issue(&["a.test"]);
    let old = Backend::start_tls("old", identity.server_of(&[&TLS12]));
    let new = Backend::start_tls("new", identity.server());
    let by_pingora = |setup: Setup| setup.top("server: { http1: pingora }").start();
    let setup = Setup::of(&[&old])
        .pool("ejection: none")
        .pool(&modern(folder.path()));
    let mut both = BothProtocols::start(&setup);
    for response in both.ask("GET", ("test", "/"), &[]) {
        assert_eq!(response.status, 502);
    }
    for ballast in [&both.plain, &both.over_tls] {
        ballast.wait_for_log(&["min_version of the pool is 1.3"]);
    }
    let ballast = by_pingora(setup.clone());
    assert_eq!(get(ballast.address(), "/").status, 502);
    ballast.wait_for_log(&[TOO_LOW]);

    // Nothing has been sent, so any request may go to another host.
    let setup = setup.host(new.address());
    let mut both = BothProtocols::start(&setup);
    let pingora = by_pingora(setup);
    for _ in 0..2 {
        for response in both.ask("POST", ("test", "/"), &[("Content-Length", "0")]) {
            assert_eq!(response.status, 200);
        }
        let response = Client::connect(pingora.address()).post("/", b"body");
        assert_eq!((response.status, response.backend()), (200, "new"));
    }
    assert_eq!((old.requests(), new.requests()), (0, 6));
}

#[test]
fn over_http_2_as_well() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let authority = Authority::new("servers");
    authority.write(folder.path(), "ca.pem");
    let identity = authority.issue(&["a.test"]);
    for (versions, expected) in [(&[&TLS12][..], 502), (&[&TLS13], 200)] {
        let mut config = (*identity.server_of(versions)).clone();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let settings = h2::server::Builder::new();
        let host = Http2Backend::with(settings, Some(Arc::new(config)), |stream| async move {
            stream.answer(200, "", HeaderMap::new());
        });
        for protocol in ["http2", "auto"] {
            let ballast = Setup::of(&[])
                .host(host.address())
                .pool("ejection: none")
                .pool(&format!("protocol: {protocol}"))
                .pool(&modern(folder.path()))
                .start();
            for _ in 0..2 {
                assert_eq!(get(ballast.address(), "/").status, expected, "{protocol}");
            }
            if expected == 502 {
                ballast.wait_for_log(&[TOO_LOW]);
            }
        }
        assert_eq!(host.streams(), if expected == 200 { 4 } else { 0 });
    }
}

#[test]
fn health_checks_of_a_host_below_the_lowest_version_fail() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let authority = Authority::new("servers");
    authority.write(folder.path(), "ca.pem");
    let identity = authority.issue(&["a.test"]);
    let [old, new] = [&[&TLS12][..], &[&TLS13]].map(|versions| {
        let mut config = (*identity.server_of(versions)).clone();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Arc::new(config)
    });
    let [old, new] = [("old", old), ("new", new)].map(|(name, tls)| Backend::start_tls(name, tls));
    for check in ["", "type: http, path: /healthz, "] {
        let ballast = Setup::of(&[&old, &new])
            .pool(&modern(folder.path()))
            .health(&format!("{{ {check}interval: 1s, initial: up }}"))
            .start();
        let address = old.address().to_string();
        ballast.wait_for_log(&[&address, "is down", TOO_LOW]);
        ask(&ballast, 4);
    }
    assert_eq!((old.requests(), old.health_checks()), (0, 0));
    assert_eq!(new.requests(), 8);

    let mut config = (*identity.server_of(&[&TLS12])).clone();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let settings = h2::server::Builder::new();
    let host = Http2Backend::with(settings, Some(Arc::new(config)), |stream| async move {
        stream.answer(200, "", HeaderMap::new());
    });
    let ballast = Setup::of(&[])
        .host(host.address())
        .pool("protocol: http2")
        .pool(&modern(folder.path()))
        .health("{ type: grpc, interval: 1s, initial: up }")
        .start();
    ballast.wait_for_log(&["is down", TOO_LOW]);
    wait_until(SOON, "no request is sent", || {
        get(ballast.address(), "/").status == 503
    });
    assert_eq!(host.streams(), 0);
}
