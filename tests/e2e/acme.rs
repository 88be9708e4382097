//! Certificates that are ordered from an authority by ACME.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ballast::config::Config;
use nix::fcntl::{Flock, FlockArg};
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::ServerName;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::admin::with_admin;
use crate::handover::Service;
use crate::support::{
    Authority, Backend, Ballast, Client, LISTEN, Pebble, SOON, Setup, free, get,
    served_certificate, wait_for, wait_until,
};

/// A site with an authority: the listener where it proves domains over plain HTTP, that with TLS, and the state directory.
struct Site {
    backend: Backend,
    pebble: Pebble,
    plain: SocketAddr,
    tls: SocketAddr,
    folder: TempDir,
}

impl Site {
    /// `None` if there is no pebble.
    fn prepare() -> Option<Self> {
        let (plain, tls) = (free(), free());
        Some(Site {
            backend: Backend::start_new("a"),
            pebble: Pebble::prepare(plain, tls)?,
            plain,
            tls,
            folder: tempfile::tempdir().expect("a temporary folder can be made"),
        })
    }

    /// The same, with the authority started.
    fn start() -> Option<Self> {
        let mut site = Site::prepare()?;
        site.pebble.run();
        Some(site)
    }

    fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// A configuration with these keys of `acme`.
    fn setup(&self, acme: &str) -> Setup {
        self.setup_at(self.plain, self.tls, acme)
    }

    fn setup_at(&self, plain: SocketAddr, tls: SocketAddr, acme: &str) -> Setup {
        let listeners =
            format!("listeners: [\"{LISTEN}\", \"{plain}\", {{ address: \"{tls}\", tls: {{}} }}]");
        Setup::of(&[&self.backend])
            .top(&listeners)
            .top(&self.pebble.section(&self.state(), acme))
    }

    /// The directory of the state of the authority.
    fn authority_directory(&self, setup: &Setup) -> PathBuf {
        let yaml = setup.yaml().replace(LISTEN, "127.0.0.1:1");
        let config = Config::parse(&yaml, Path::new("ballast.yaml")).expect("a configuration");
        config.acme.expect("a section").authority_directory()
    }
}

/// Whether a handshake for `name` gets the authority's certificate for it.
fn is_issued(address: SocketAddr, name: &str) -> bool {
    let served = served_certificate(address, Some(name)).unwrap_or_default();
    let has = |text: &str| {
        served
            .windows(text.len())
            .any(|part| part == text.as_bytes())
    };
    has("Pebble Intermediate CA") && has(name)
}

#[track_caller]
fn wait_issued(address: SocketAddr, name: &str) {
    wait_until(
        SOON,
        &format!("the certificate for {name} is served"),
        || is_issued(address, name),
    );
}

/// The status of the only ordered certificate.
fn status(ballast: &Ballast) -> Value {
    let shown = ballast.command(&["status", "--json"]).stdout;
    let shown: Value = serde_json::from_str(&shown).unwrap_or_default();
    shown["acme"][0].clone()
}

fn from_admin(admin: SocketAddr, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let response = Client::try_connect(admin).and_then(|mut client| client.request(request));
    response.map_or_else(|_| String::new(), |response| response.text())
}

fn metrics(admin: SocketAddr) -> String {
    from_admin(admin, "/metrics")
}

/// The modes of all files and directories below a directory.
fn modes(directory: &Path) -> Vec<(PathBuf, u32)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).expect("a directory") {
        let (path, file) = entry
            .map(|entry| (entry.path(), entry.metadata()))
            .expect("an entry");
        let file = file.expect("an entry");
        found.push((path.clone(), file.permissions().mode() & 0o777));
        if file.is_dir() {
            found.extend(modes(&path));
        }
    }
    found
}

/// Holds the right to order, as another instance does.
fn hold_lock(directory: &Path) -> Flock<fs::File> {
    fs::create_dir_all(directory).expect("a directory");
    let file = fs::File::create(directory.join("lock")).expect("a file");
    Flock::lock(file, FlockArg::LockExclusive).expect("a lock")
}

#[test]
fn certificates_are_ordered_by_http_01_in_both_drivers_and_kept() {
    let Some(mut site) = Site::start() else {
        return;
    };
    for (number, driver) in ["engine", "pingora"].into_iter().enumerate() {
        let names = [format!("a{number}.test"), format!("b{number}.test")];
        let domains = format!("domains: [{}, {}]", names[0], names[1]);
        let http1 = format!("server: {{ http1: {driver} }}");
        let (setup, admin) = with_admin(site.setup(&domains).top(&http1));
        let ballast = setup.start();
        assert_eq!(get(site.plain, "/").status, 200);
        for name in &names {
            wait_issued(site.tls, name);
            let text = format!("certificate for {name} ordered from localhost, signed by");
            ballast.wait_for_log(&["INFO", &text, "expires at 20"]);
        }
        wait_until(SOON, "the metrics", || {
            let metrics = metrics(admin);
            let renewal = format!(
                "ballast_acme_renewal_timestamp_seconds{{domain=\"{}\"}} ",
                names[0]
            );
            let orders = "ballast_acme_orders_total{outcome=\"issued\"} 2";
            metrics.contains(&renewal) && metrics.contains(orders)
        });
        let status = status(&ballast);
        assert_eq!(status["domain"], *names[0]);
        assert!(
            status["issuer"]
                .as_str()
                .expect("an issuer")
                .contains("Pebble")
        );
        assert!(status["renewal"].as_str() < status["expires"].as_str());
        let shown = ballast.command(&["status"]).stdout;
        assert!(
            shown.contains(&format!("certificate for {} by CN=Pebble", names[0])),
            "{shown}"
        );
        let list = from_admin(admin, "/api/v1/certificates");
        let list: Value = serde_json::from_str(&list).expect("JSON");
        let listed = list["listeners"][0]["certificates"].as_array();
        let listed = Vec::from_iter(listed.into_iter().flatten());
        assert_eq!(listed.len(), names.len(), "{list}");
        for name in &names {
            // The one that lasts longer comes first, which they do by less than a second.
            let mut serving = listed.iter().filter(|it| it["serves"] == json!([name]));
            let is_default = serving.next().map(|certificate| &certificate["default"]);
            assert_eq!(is_default, Some(&json!(*name == names[0])), "{list}");
        }
        // Only pending challenges are answered.
        let response = get(site.plain, "/.well-known/acme-challenge/x");
        assert_eq!(response.backend(), "a");
    }
    for (path, mode) in modes(&site.state()) {
        let wanted = if path.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(mode, wanted, "{}", path.display());
    }
    assert_eq!(site.pebble.issued(), 4);

    // A process that starts serves what is there, also while the authority is away.
    site.pebble.stop();
    let setup = site.setup("domains: [a0.test, b1.test]");
    let _ballast = setup.start();
    assert!(is_issued(site.tls, "a0.test") && is_issued(site.tls, "b1.test"));
    let challenges = site.authority_directory(&setup).join("challenges");
    assert_eq!(modes(&challenges), []);
}

/// Does the handshake of an authority for `name`, and returns what comes after it.
fn challenge_handshake(address: SocketAddr, name: &'static str) -> io::Result<Vec<u8>> {
    let mut config = Arc::unwrap_or_clone(Authority::new("any").client());
    config.alpn_protocols = vec![b"acme-tls/1".to_vec()];
    let name = ServerName::try_from(name).expect("a name");
    let session = rustls::ClientConnection::new(Arc::new(config), name).expect("a session");
    let mut stream = rustls::StreamOwned::new(session, TcpStream::connect(address)?);
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")?;
    let mut received = Vec::new();
    stream.read_to_end(&mut received).map(|_| received)
}

#[test]
fn certificates_are_ordered_by_tls_alpn_01_and_a_reload_adds_one() {
    let Some(site) = Site::start() else { return };
    let acme = |domains: &str| format!("domains: [{domains}], challenge: tls-alpn-01");
    let ballast = site.setup(&acme("a.test")).start();
    wait_issued(site.tls, "a.test");
    let reload = ballast.reload_by_sighup(&site.setup(&acme("a.test, b.test")).yaml());
    assert!(reload.contains("acme.domains"), "{reload}");
    wait_issued(site.tls, "b.test");
    assert_eq!(site.pebble.issued(), 2);
    // No challenge is pending.
    let refused = challenge_handshake(site.tls, "a.test");
    assert!(refused.is_err(), "{refused:?}");
    // From the challenge over HTTP to this one: the listener begins to answer it.
    let http = site.setup("domains: [a.test, b.test]").yaml();
    ballast.reload_by_sighup(&http);
    ballast.reload_by_sighup(&site.setup(&acme("a.test, b.test, c.test")).yaml());
    wait_issued(site.tls, "c.test");
}

#[test]
fn service_goes_on_while_the_authority_is_away_and_a_change_tries_again_at_once() {
    let Some(mut site) = Site::prepare() else {
        return;
    };
    let (setup, admin) = with_admin(site.setup("domains: [a.test]"));
    let ballast = setup.start();
    let line = ballast.wait_for_log(&["WARN", "certificate for a.test not ordered, attempt 1: "]);
    assert!(line.contains("; the next one is at 20"), "{line}");
    assert_eq!(get(site.plain, "/").status, 200);
    let refused = served_certificate(site.tls, Some("a.test"));
    assert!(refused.is_err(), "there is no certificate");
    wait_until(SOON, "the status", || status(&ballast)["failures"] == 1);
    let failed = "ballast_acme_orders_total{outcome=\"failed\"} 1\n";
    wait_until(SOON, "the metric", || metrics(admin).contains(failed));
    assert!(metrics(admin).contains("ballast_acme_failures{domain=\"a.test\"} 1\n"));
    let shown = ballast.command(&["status"]).stdout;
    assert!(
        shown.contains("certificate for a.test not ordered, 1 attempt: "),
        "{shown}"
    );
    // Another process does not hurry either.
    drop(ballast);
    let ballast = setup.start();
    wait_until(SOON, "the status", || status(&ballast)["failures"] == 1);
    site.pebble.run();
    let changed = setup
        .yaml()
        .replace("domains:", "email: admin@a.test, domains:");
    ballast.reload_by_sighup(&changed);
    wait_issued(site.tls, "a.test");
    assert_eq!(ballast.log_with(&["not ordered"]), [""; 0]);
    let settled =
        || status(&ballast)["failures"] == 0 && status(&ballast)["last_error"] == Value::Null;
    wait_until(SOON, "the failure is forgotten", settled);
    // An authority that has lost its accounts gets a new one.
    site.pebble.stop();
    site.pebble.run();
    ballast.reload_by_sighup(&changed.replace("[a.test]", "[a.test, b.test]"));
    wait_issued(site.tls, "b.test");
}

#[test]
fn a_directory_that_cannot_be_made_is_a_line_in_the_log() {
    let Some(site) = Site::prepare() else { return };
    fs::write(site.state(), "a file").expect("written");
    let ballast = site.setup("domains: [a.test]").start();
    let line = ballast.wait_for_log(&["WARN", "acme: cannot make `"]);
    assert!(
        line.contains("; it is tried again after a minute"),
        "{line}"
    );
    assert_eq!(get(site.plain, "/").status, 200);
}

#[test]
fn what_the_authority_says_against_a_domain_is_shown() {
    let Some(site) = Site::start() else { return };
    // The authority asks at a port where nothing listens.
    let ballast = site.setup_at(free(), site.tls, "domains: [a.test]").start();
    let line = ballast.wait_for_log(&["WARN", "certificate for a.test not ordered, attempt 1: "]);
    assert!(
        line.contains("connection refused") && line.contains("(connection)"),
        "{line}"
    );
    assert_eq!(get(ballast.address(), "/").status, 200);
}

/// A certificate of another authority for `a.test` with its key, which began so many days ago and lasts for so many more.
fn certificate(ago: i64, left: i64) -> (Vec<u8>, String) {
    let mut params = CertificateParams::new(["a.test".to_owned()]).expect("parameters");
    let now = std::time::SystemTime::now();
    let days = |days: i64| std::time::Duration::from_secs(days as u64 * 86_400);
    params.not_before = (now - days(ago)).into();
    params.not_after = (now + days(left)).into();
    let key = KeyPair::generate().expect("a key");
    let certificate = params.self_signed(&key).expect("a certificate");
    (
        certificate.der().to_vec(),
        key.serialize_pem() + &certificate.pem(),
    )
}

#[test]
fn a_certificate_is_renewed_after_two_thirds_of_its_life() {
    let Some(site) = Site::start() else { return };
    let setup = site
        .setup("domains: [a.test]")
        .top("server: { certificate_check: 0s }");
    let directory = site.authority_directory(&setup);
    fs::create_dir_all(directory.join("certificates")).expect("a directory");
    let kept = directory.join("certificates/a.test.pem");
    let (young, text) = certificate(3, 3);
    fs::write(&kept, text).expect("written");
    let ballast = setup.start();
    let served = || served_certificate(site.tls, Some("a.test")).expect("a handshake");
    assert_eq!(served(), young);
    wait_until(SOON, "the status", || {
        status(&ballast)["renewal"].is_string()
    });
    drop(ballast);
    assert_eq!(site.pebble.issued(), 0);
    let lock = hold_lock(&directory);
    let (old, text) = certificate(5, 1);
    fs::write(&kept, text).expect("written");
    let _ballast = setup.start();
    assert_eq!(served(), old);
    drop(lock);
    wait_issued(site.tls, "a.test");
    assert_eq!(site.pebble.issued(), 1);
}

#[test]
fn instances_with_one_directory_make_one_order_and_answer_for_each_other() {
    let Some(site) = Site::start() else { return };
    let setup = site.setup("domains: [a.test]");
    let directory = site.authority_directory(&setup);
    let lock = hold_lock(&directory);
    let one = setup.start();
    let (other_plain, other_tls) = (free(), free());
    let other = site
        .setup_at(other_plain, other_tls, "domains: [a.test]")
        .start();
    // The answer of an instance that this test plays.
    let challenges = directory.join("challenges");
    wait_until(SOON, "the directory", || challenges.is_dir());
    fs::write(challenges.join("http-token"), "token.thumbprint").expect("written");
    let asked = "/.well-known/acme-challenge/token";
    let answer = wait_for(SOON, "an answer", || {
        let response = get(other_plain, asked);
        response.backend().is_empty().then_some(response)
    });
    assert_eq!((answer.status, &*answer.text()), (200, "token.thumbprint"));
    assert_eq!(
        answer.head.get("content-type"),
        Some("application/octet-stream")
    );
    drop(lock);
    for tls in [site.tls, other_tls] {
        wait_issued(tls, "a.test");
    }
    let served =
        [site.tls, other_tls].map(|tls| served_certificate(tls, Some("a.test")).expect("one"));
    assert_eq!(served[0], served[1]);
    assert_eq!(site.pebble.issued(), 1);
    let orders = [&one, &other].map(|one| one.log_with(&["ordered from"]).len());
    assert_eq!(orders.iter().sum::<usize>(), 1, "{orders:?}");
}

#[test]
fn a_successor_goes_on_with_what_its_predecessor_could_not_order() {
    let Some(site) = Site::start() else { return };
    let setup = site.setup("domains: [a.test]");
    let lock = hold_lock(&site.authority_directory(&setup));
    let service = Service::start(&setup);
    service.hand_over();
    drop(lock);
    wait_issued(site.tls, "a.test");
    assert_eq!(site.pebble.issued(), 1);
    assert_eq!(get(site.plain, "/").status, 200);
}
