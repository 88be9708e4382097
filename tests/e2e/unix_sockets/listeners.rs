//! Listeners at `unix:/path`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::handover::{Service, is_gone, yaml};
use crate::support::http2::Secure;
use crate::support::{Backend, Ballast, Client, LISTEN, SOON, Setup, get, tcp_relay, wait_until};

fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder can be made")
}

/// The listener that the harness waits for, and one at `path` with further keys.
fn listeners(path: &Path, keys: &str) -> String {
    format!(
        "listeners: [\"{LISTEN}\", {{ address: \"unix:{}\"{keys} }}]",
        path.display()
    )
}

fn connect(path: &Path) -> Client {
    Client::try_unix(path).expect("the socket accepts connections")
}

/// Sends requests one after another, on kept connections or each on its own, until it is stopped.
struct UnixLoad {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    clients: Vec<thread::JoinHandle<Vec<String>>>,
}

impl UnixLoad {
    fn start(path: PathBuf) -> Self {
        let (stop, done) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let clients = [true, false, false].map(|kept| {
            let (stop, done, path) = (Arc::clone(&stop), Arc::clone(&done), path.clone());
            thread::spawn(move || {
                let (mut client, mut failures) = (None::<Client>, Vec::new());
                while !stop.load(Ordering::SeqCst) {
                    let connected = client.take().map_or_else(|| Client::try_unix(&path), Ok);
                    let response = connected.and_then(|mut connected| {
                        let response = connected.request("GET / HTTP/1.1\r\nHost: test\r\n\r\n")?;
                        let closes = response.head.has_token("connection", "close");
                        client = Some(connected).filter(|_| kept && !closes);
                        Ok(response)
                    });
                    match response {
                        Ok(response) if response.status == 200 => {}
                        Ok(response) => failures.push(response.status.to_string()),
                        Err(error) => failures.push(error.to_string()),
                    }
                    done.fetch_add(1, Ordering::SeqCst);
                }
                failures
            })
        });
        UnixLoad {
            stop,
            done,
            clients: clients.into(),
        }
    }

    fn wait_for_more(&self, requests: u64) {
        let target = self.done.load(Ordering::SeqCst) + requests;
        wait_until(SOON, "requests go on", || {
            self.done.load(Ordering::SeqCst) >= target
        });
    }

    #[track_caller]
    fn assert_all_ok(self) {
        self.stop.store(true, Ordering::SeqCst);
        for client in self.clients {
            let failures = client.join().expect("clients do not panic");
            assert!(failures.is_empty(), "{failures:?}");
        }
    }
}

#[test]
fn requests_come_through_a_socket() {
    let folder = folder();
    let path = folder.path().join("ballast.sock");
    let backend = Backend::start_new("a");
    for name in ["engine", "pingora"] {
        let ballast = Setup::of(&[&backend])
            .top(&listeners(&path, ", http2: cleartext"))
            .top(&format!("server: {{ http1: {name} }}"))
            .top("access_log: { path: access.log }")
            .start();
        let mut client = connect(&path);
        for _ in 0..3 {
            let spoofed = "X-Forwarded-For: 203.0.113.9\r\nX-Real-IP: 203.0.113.9\r\n";
            assert_eq!(client.get_with("/", spoofed).backend(), "a", "{name}");
        }
        let big = vec![b'x'; 1 << 20];
        assert_eq!(client.post("/", &big).status, 200, "{name}");
        let head = backend.last().head;
        for absent in ["x-forwarded-for", "x-real-ip", "x-forwarded-port"] {
            assert_eq!(head.get(absent), None, "{name}: {absent}");
        }
        assert_eq!(head.get("x-forwarded-proto"), Some("http"), "{name}");
        assert_eq!(head.get("x-forwarded-host"), Some("test"), "{name}");
        assert_eq!(ballast.access_log(1)[0]["client"], "unix:", "{name}");
        // As many connections as workers, and one more.
        let mut others = Vec::from_iter((0..5).map(|_| connect(&path)));
        assert!(
            others
                .iter_mut()
                .all(|client| client.get("/").status == 200)
        );
        assert_eq!(get(ballast.address(), "/").status, 200, "{name}");
        drop(ballast);
        let _ = fs::remove_file(&path);
    }
}

#[test]
fn a_trusted_proxy_at_a_socket_names_the_client() {
    let folder = folder();
    let (plain, proxied) = (folder.path().join("plain"), folder.path().join("proxied"));
    let backend = Backend::start_new("a");
    let _ballast = Setup::of(&[&backend])
        .top(&format!(
            "listeners: [\"{LISTEN}\", \"unix:{}\", {{ address: \"unix:{}\", proxy_protocol: {{}}, allow: [192.0.2.0/24] }}]",
            plain.display(),
            proxied.display()
        ))
        .top("trusted_proxies: [\"unix:\"]")
        .start();
    let fields = "X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Proto: https\r\n";
    assert_eq!(connect(&plain).get_with("/", fields).status, 200);
    let head = backend.last().head;
    assert_eq!(head.get("x-forwarded-for"), Some("203.0.113.9"));
    assert_eq!(head.get("x-real-ip"), Some("203.0.113.9"));
    assert_eq!(head.get("x-forwarded-proto"), Some("https"));
    let mut client = connect(&proxied);
    let header = "PROXY TCP4 192.0.2.7 192.0.2.1 4711 80\r\n";
    let request = format!("{header}GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    assert_eq!(client.request(request).expect("a response").status, 200);
    assert_eq!(
        backend.last().head.get("x-forwarded-for"),
        Some("192.0.2.7")
    );
    // Without an address `allow` admits nobody.
    let mut unknown = connect(&proxied);
    let refused = unknown.request("PROXY UNKNOWN\r\nGET / HTTP/1.1\r\nHost: test\r\n\r\n");
    assert!(refused.is_err(), "{refused:?}");
}

#[test]
fn access_lists_do_not_let_in_who_has_no_address() {
    let folder = folder();
    let (closed, open) = (folder.path().join("closed"), folder.path().join("open"));
    let backend = Backend::start_new("a");
    let _ballast = Setup::of(&[&backend])
        .top(&format!(
            "listeners: [\"{LISTEN}\", {{ address: \"unix:{}\", allow: [0.0.0.0/0, \"::/0\"] }}, \"unix:{}\"]",
            closed.display(),
            open.display()
        ))
        .top("limits: { max_connections_per_client: 1 }")
        .top("routes: [{ path: /private/, pool: web, allow: [0.0.0.0/0] }, { path: /local/, client: [0.0.0.0/0], pool: web }, { path: /, pool: web, deny: [127.0.0.0/8] }]")
        .start();
    let refused = connect(&closed).request("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    assert!(refused.is_err(), "{refused:?}");
    let clients = [connect(&open), connect(&open)];
    for mut client in clients {
        assert_eq!(client.get("/private/").status, 403);
        assert_eq!(
            client.get("/local/").status,
            200,
            "the route after it takes it"
        );
        assert_eq!(client.get("/").status, 200);
    }
}

#[test]
fn tls_and_http_2_come_through_a_socket() {
    let folder = folder();
    let (tls, redirects) = (folder.path().join("tls"), folder.path().join("redirects"));
    let backend = Backend::start_new("a");
    let secure = Secure::new();
    let keys = secure.listeners();
    let keys = keys.split_once("tls:").expect("a listener with TLS").1;
    let keys = keys.trim_end_matches([']', '\n', ' ']);
    for name in ["engine", "pingora"] {
        let ballast = Setup::of(&[&backend])
            .top(&format!(
                "listeners: [\"{LISTEN}\", {{ address: \"unix:{}\", tls: {keys}, {{ address: \"unix:{}\", redirect_https: true }}]",
                tls.display(),
                redirects.display()
            ))
            .top(&format!("server: {{ http1: {name} }}"))
            .start();
        let mut client = connect(&redirects);
        let response = client.get("/x");
        assert_eq!(response.status, 308, "{name}");
        assert_eq!(
            response.head.get("location"),
            Some("https://test/x"),
            "{name}"
        );
        let address = tcp_relay(&tls);
        let response = secure.connect(address).get("/");
        assert_eq!(response.status, 200, "{name}");
        let offered = secure.offering(&["http/1.1"]);
        let mut client = Client::tls(address, "test", offered).expect("connected");
        assert_eq!(client.get("/").backend(), "a", "{name}");
        assert_eq!(
            backend.last().head.get("x-forwarded-proto"),
            Some("https"),
            "{name}"
        );
        drop(ballast);
        for path in [&tls, &redirects] {
            let _ = fs::remove_file(path);
        }
    }
}

#[test]
fn the_file_has_its_permissions_and_goes_at_the_end() {
    let folder = folder();
    let path = folder.path().join("ballast.sock");
    let backend = Backend::start_new("a");
    for (keys, mode) in [
        ("", 0o660),
        (", mode: 0600", 0o600),
        (", mode: \"0666\"", 0o666),
    ] {
        let mut ballast = Setup::of(&[&backend]).top(&listeners(&path, keys)).start();
        let found = fs::metadata(&path).expect("a socket").permissions().mode();
        assert_eq!(found & 0o777, mode);
        ballast.signal(Signal::SIGTERM);
        ballast.wait_exit(SOON);
        assert!(!path.exists(), "{keys}");
    }
}

#[test]
fn only_a_stale_socket_is_replaced() {
    let folder = folder();
    let path = folder.path().join("ballast.sock");
    let backend = Backend::start_new("a");
    let setup = Setup::of(&[&backend]).top(&listeners(&path, ""));
    let refused = |part: &str| {
        let mut ballast = Ballast::spawn(&setup.yaml());
        assert!(!ballast.wait_exit(SOON).success());
        ballast.wait_for_log(&[part]);
    };
    fs::write(&path, "precious").expect("written");
    refused("there is a file that is no socket");
    assert_eq!(fs::read_to_string(&path).expect("it is there"), "precious");
    fs::remove_file(&path).expect("it is there");
    let mut killed = setup.start();
    assert_eq!(connect(&path).get("/").status, 200);
    refused("address in use");
    killed.signal(Signal::SIGKILL);
    killed.wait_exit(SOON);
    assert!(path.exists() && Client::try_unix(&path).is_err());
    let _ballast = setup.start();
    assert_eq!(connect(&path).get("/").status, 200);
}

#[test]
fn a_socket_passes_to_the_successor_without_a_failed_request() {
    let folder = folder();
    let path = folder.path().join("ballast.sock");
    let backend = Backend::start_new("a");
    let setup = Setup::of(&[&backend]).top(&listeners(&path, ""));
    let service = Service::start(&setup);
    let load = UnixLoad::start(path.clone());
    for _ in 0..2 {
        load.wait_for_more(50);
        let before = service.hand_over();
        load.wait_for_more(50);
        wait_until(SOON, "the predecessor has gone", || is_gone(before));
        assert!(path.exists());
    }
    load.assert_all_ok();
    let warnings = service.ballast.log_with(&["no probe came through"]);
    assert!(warnings.is_empty(), "{warnings:?}");
    let last = service.serving();
    service.signal(Signal::SIGTERM);
    wait_until(SOON, "the last process has gone", || is_gone(last));
    assert!(!path.exists(), "the successor removes the file");
}

#[test]
fn a_successor_without_the_listener_leaves_no_file() {
    let folder = folder();
    let (path, other) = (folder.path().join("one"), folder.path().join("other"));
    let backend = Backend::start_new("a");
    let setup = |path: &Path| Setup::of(&[&backend]).top(&listeners(path, ""));
    let service = Service::start(&setup(&path));
    service.ballast.configure(&yaml(&setup(&other)));
    let before = service.hand_over();
    assert_eq!(connect(&other).get("/").status, 200);
    wait_until(SOON, "the predecessor has gone", || is_gone(before));
    assert!(!path.exists() && other.exists());
}

#[test]
fn the_check_knows_which_sockets_cannot_be_bound() {
    let folder = folder();
    let (path, used) = (folder.path().join("one"), folder.path().join("used"));
    let _other = UnixListener::bind(&used).expect("bound");
    let backend = Backend::start_new("a");
    let setup = |path: &Path| Setup::of(&[&backend]).top(&listeners(path, ""));
    let ballast = setup(&path).start();
    ballast.configure(&setup(&used).yaml());
    let check = ballast.check();
    let text = format!("{}{}", check.stdout, check.stderr);
    assert!(text.contains("address in use"), "{text}");
    let free = folder.path().join("free");
    ballast.configure(&setup(&free).yaml());
    let check = ballast.check();
    let text = format!("{}{}", check.stdout, check.stderr);
    assert!(text.contains(&format!("unix:{}", free.display())), "{text}");
    assert!(!free.exists(), "a check creates no file");
    assert_eq!(connect(&path).get("/").status, 200);
}
