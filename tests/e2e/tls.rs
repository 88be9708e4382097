//! TLS on both sides: which certificate a client gets, and which certificates the proxy accepts from a host.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use nix::sys::signal::Signal;

use crate::admin::with_admin;
use crate::support::{
    Authority, Backend, Ballast, Client, LISTEN, SOON, Setup, file, run, wait_until,
};

fn entry(files: &(std::path::PathBuf, std::path::PathBuf)) -> String {
    format!(
        "{{ certificate: \"{}\", key: \"{}\" }}",
        files.0.display(),
        files.1.display()
    )
}

/// The status of a request over TLS for `name`, from a client that trusts only the authority `trust`.
fn status_over_tls(
    address: std::net::SocketAddr,
    name: &str,
    trust: &Authority,
) -> Result<u16, String> {
    let mut client =
        Client::tls(address, name, trust.client()).map_err(|error| error.to_string())?;
    client
        .request("GET / HTTP/1.1\r\nHost: test\r\n\r\n")
        .map(|response| response.status)
        .map_err(|error| error.to_string())
}

#[test]
fn a_listener_selects_the_certificate_by_sni() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let authority = Authority::new("both");
    let first = authority
        .issue(&["first.test", "127.0.0.1"])
        .write(folder.path(), "first");
    let second = authority
        .issue(&["second.test", "*.wild.test"])
        .write(folder.path(), "second");
    let backend = Backend::start_new("a");
    let ballast = Setup::of(&[&backend])
        .top(&format!(
            "listeners: [{{ address: \"{LISTEN}\", tls: {{ certificates: [{}, {}] }} }}]",
            entry(&first),
            entry(&second)
        ))
        .start();
    let ask = |name| status_over_tls(ballast.address(), name, &authority);
    assert_eq!(ask("first.test"), Ok(200));
    assert_eq!(ask("second.test"), Ok(200));
    assert_eq!(ask("SECOND.test"), Ok(200));
    assert_eq!(ask("a.wild.test"), Ok(200));
    // Without a name in the handshake the first certificate is used.
    assert_eq!(ask("127.0.0.1"), Ok(200));
    let error = ask("unknown.test").expect_err("no such certificate");
    assert!(error.contains("first.test"), "{error}");

    // The connection is kept, and the host learns that the client uses TLS.
    let mut client =
        Client::tls(ballast.address(), "first.test", authority.client()).expect("connected");
    let before = backend.connections();
    for _ in 0..5 {
        assert_eq!(client.get("/").status, 200);
    }
    assert!(backend.connections() <= before + 1);
    assert_eq!(backend.last().head.all("x-forwarded-proto"), ["https"]);
    // A client without TLS gets a response that names HTTPS, however its bytes arrive. The listener still works.
    let requests = backend.requests();
    for pieces in [
        &["GET / HTTP/1.1\r\nHost: test\r\n\r\n"][..],
        &[
            "P",
            "OST / HTTP/1.1\r\nHost: test\r\nContent-Length: 9\r\n\r\n",
        ],
        &["PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"],
    ] {
        let mut plain = Client::connect(ballast.address());
        for piece in &pieces[..pieces.len() - 1] {
            plain.send(piece).expect("sent");
        }
        let response = plain.request(pieces[pieces.len() - 1]).expect("a response");
        assert_eq!(response.status, 400, "{pieces:?}");
        assert!(response.text().contains("HTTPS"), "{}", response.text());
    }
    assert_eq!(backend.requests(), requests);
    assert_eq!(ask("second.test"), Ok(200));
}

/// The status of a request to a pool with the settings `tls`, whose only host has a certificate for `names`.
fn status_with(names: &[&str], tls: impl Fn(&Path) -> String) -> u16 {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let authority = Authority::new("the host's");
    authority.write(folder.path(), "ca.pem");
    Authority::new("another").write(folder.path(), "other.pem");
    let backend = Backend::start_tls("a", authority.issue(names).server());
    let ballast = Setup::of(&[&backend])
        .pool(&format!("tls: {}", tls(folder.path())))
        .start();
    let response = Client::connect(ballast.address()).get("/");
    assert_eq!(backend.requests(), u64::from(response.status == 200));
    response.status
}

#[test]
fn a_host_must_present_a_trusted_certificate_for_its_name() {
    let ca = |folder: &Path| folder.join("ca.pem").display().to_string();
    let other = |folder: &Path| folder.join("other.pem").display().to_string();
    let with = |names: &[&str], name: &str, file: &dyn Fn(&Path) -> String| {
        status_with(names, |folder| {
            format!("{{ server_name: {name}, ca: \"{}\" }}", file(folder))
        })
    };
    assert_eq!(with(&["app.test"], "app.test", &ca), 200);
    assert_eq!(with(&["app.test"], "app.test", &other), 502, "not trusted");
    assert_eq!(with(&["app.test"], "web.test", &ca), 502, "another's name");
    let own = |folder: &Path| format!("{{ ca: \"{}\" }}", ca(folder));
    assert_eq!(status_with(&["127.0.0.1"], own), 200);
    assert_eq!(
        status_with(&["app.test"], |_| "{ server_name: app.test }".to_owned()),
        502,
        "the system does not trust it"
    );
}

#[test]
fn verification_can_be_disabled() {
    assert_eq!(
        status_with(&["app.test"], |_| "{ verify: false }".to_owned()),
        200
    );
    assert_eq!(
        status_with(&["app.test"], |_| {
            "{ verify: false, server_name: web.test }".to_owned()
        }),
        200
    );
}

#[test]
fn health_checks_of_a_tls_pool_use_tls() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let authority = Authority::new("the host's");
    let ca = authority.write(folder.path(), "ca.pem");
    let identity: Arc<_> = authority.issue(&["app.test"]).server();
    for check in [
        "{ interval: 1s }",
        "{ type: http, path: /healthz, interval: 1s }",
    ] {
        let good = Backend::start_tls("good", identity.clone());
        let plain = Backend::start_new("plain");
        let ballast = Setup::of(&[&good, &plain])
            .pool(&format!(
                "tls: {{ server_name: app.test, ca: \"{}\" }}",
                ca.display()
            ))
            .health(check)
            .start();
        let mut client = Client::connect(ballast.address());
        for _ in 0..10 {
            assert_eq!(client.get("/").backend(), "good", "{check}");
        }
        if check.contains("http") {
            assert!(good.health_checks() >= 1);
        }
    }
}

#[test]
fn an_invalid_certificate_prints_one_line_and_exits_2() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let authority = Authority::new("any");
    let good = authority.issue(&["a.test"]).write(folder.path(), "good");
    let other = authority.issue(&["b.test"]).write(folder.path(), "other");
    let broken = file(
        folder.path(),
        "broken.crt",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    );
    let missing = folder.path().join("missing.crt");
    for (what, pair, names) in [
        ("broken", (broken.clone(), good.1.clone()), "broken.crt"),
        ("missing", (missing, good.1.clone()), "missing.crt"),
        (
            "another's key",
            (good.0.clone(), other.1.clone()),
            "other.key",
        ),
        ("no key", (good.0.clone(), good.0.clone()), "good.crt"),
    ] {
        let config = file(
            folder.path(),
            "ballast.yaml",
            &format!(
                "listeners: [{{ address: \"127.0.0.1:9\", tls: {{ certificates: [{}] }} }}]\n\
                 pools: {{ web: {{ hosts: [\"127.0.0.1:10\"] }} }}\n",
                entry(&pair)
            ),
        );
        let config = config.display().to_string();
        for command in ["run", "check"] {
            let end = run(&[command, "-c", &config]);
            assert_eq!(end.code, Some(2), "{what}: {end:?}");
            assert!(end.stderr.contains(names), "{what}: {}", end.stderr);
            assert!(
                end.stderr.contains("certificates[0]"),
                "{what}: {}",
                end.stderr
            );
        }
    }
}

/// The configuration of a listener with these certificates.
fn listener(entries: &[String]) -> String {
    format!(
        "listeners: [{{ address: \"{LISTEN}\", tls: {{ certificates: [{}] }} }}]",
        entries.join(", ")
    )
}

#[test]
fn the_whole_chain_is_sent_however_the_file_is_formatted() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let root = Authority::new("the root");
    let between = root.subordinate("the one between");
    let identity = between.issue(&["a.test"]);
    let (_, key) = identity.write(folder.path(), "a");
    let (leaf, between) = (identity.pem(), between.pem());
    let chain = format!("{leaf}{between}");
    let backend = Backend::start_new("a");
    for (how, text) in [
        ("plainly", chain.clone()),
        (
            "without a line break between",
            format!("{}{between}", leaf.trim_end()),
        ),
        (
            "with spaces between",
            format!("{}   {between}", leaf.trim_end()),
        ),
        ("without one at the end", chain.trim_end().to_owned()),
        ("with a byte order mark", format!("\u{feff}{chain}")),
        ("with one between", format!("{leaf}\u{feff}{between}")),
        ("on Windows", chain.replace('\n', "\r\n")),
        ("with spaces at the ends", chain.replace('\n', "  \n")),
        ("indented", format!("  {}", chain.replace('\n', "\n  "))),
        (
            "with text between",
            format!("Certificate:\n    Data:\n{leaf}subject=CN = \u{e4}\n---\n{between}---\n"),
        ),
        (
            "with its key",
            format!(
                "{}{leaf}{between}",
                std::fs::read_to_string(&key).expect("a file")
            ),
        ),
    ] {
        let certificate = file(folder.path(), "chain.pem", &text);
        let ballast = Setup::of(&[&backend])
            .top(&listener(&[entry(&(certificate, key.clone()))]))
            .start();
        assert_eq!(
            status_over_tls(ballast.address(), "a.test", &root),
            Ok(200),
            "{how}"
        );
        assert!(ballast.log_with(&["WARN"]).is_empty(), "{how}");
    }
}

/// The value of the expiry metric of a certificate.
fn expiry(admin: SocketAddr, certificate: &Path) -> Option<f64> {
    let metrics = Client::try_connect(admin)
        .ok()?
        .request("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .ok()?
        .text();
    let series = format!(
        "ballast_certificate_expiry_timestamp_seconds{{certificate=\"{}\"}} ",
        certificate.display()
    );
    let value = metrics.lines().find_map(|line| line.strip_prefix(&*series));
    value.map(|value| value.parse().expect("a number"))
}

#[test]
fn an_expired_certificate_gives_warnings_and_its_expiry_is_a_metric() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let authority = Authority::new("any");
    let good = authority.issue_between(&["a.test"], 2020, 2100);
    let good = good.write(folder.path(), "good");
    let old = authority.issue_expired(&["a.test"]);
    let old = old.write(folder.path(), "old");
    let early = authority.issue_between(&["a.test"], 2090, 2091);
    let early = early.write(folder.path(), "early");
    let backend = Backend::start_new("a");
    let setup = |entries: &[String]| Setup::of(&[&backend]).top(&listener(entries));

    let (fine, admin) = with_admin(setup(&[entry(&good)]));
    let ballast = fine.start();
    assert!(ballast.check().stderr.is_empty());
    assert!(ballast.log_with(&["WARN"]).is_empty());
    // 2100-01-01.
    wait_until(SOON, "the metric", || {
        expiry(admin, &good.0) == Some(4_102_444_800.0)
    });

    let bad = setup(&[entry(&old), entry(&early), entry(&good)])
        .top(&format!("admin: {{ address: \"{admin}\" }}"))
        .yaml();
    ballast.configure(&bad);
    let expired = [
        "listeners[0].tls.certificates[0].certificate",
        "old.crt",
        "expired at 2002-01-01T00:00:00Z",
    ];
    let not_yet = [
        "listeners[0].tls.certificates[1].certificate",
        "early.crt",
        "is not valid before 2090-01-01T00:00:00Z",
    ];
    let check = ballast.check();
    assert_eq!(check.code, Some(0), "{check:?}");
    for parts in [&expired, &not_yet] {
        let mut lines = check.stderr.lines();
        assert!(
            lines.any(|line| line.starts_with("warning: ")
                && parts.iter().all(|part| line.contains(part))),
            "{check:?}"
        );
    }
    assert_eq!(check.stderr.lines().count(), 2, "{check:?}");
    assert!(ballast.log_with(&["WARN"]).is_empty());
    ballast.signal(Signal::SIGHUP);
    ballast.wait_for_log(&[&["WARN"][..], &expired].concat());
    ballast.wait_for_log(&[&["WARN"][..], &not_yet].concat());
    // 2002-01-01 and 2091-01-01.
    wait_until(SOON, "the metric follows the reload", || {
        expiry(admin, &old.0) == Some(1_009_843_200.0)
            && expiry(admin, &early.0) == Some(3_818_448_000.0)
    });
    drop(ballast);
    let ballast = Ballast::start(&bad);
    ballast.wait_for_log(&[&["WARN"][..], &expired].concat());
    ballast.wait_for_log(&[&["WARN"][..], &not_yet].concat());
}

#[test]
fn expired_intermediates_and_authorities_and_unordered_chains_give_warnings() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let root = Authority::new("the root");
    let old = root.issue_expired(&["whatever.test"]);
    let good = root.issue(&["a.test"]);
    let (_, key) = good.write(folder.path(), "good");
    let chain = format!("{}{}", good.pem(), old.pem());
    let chain = file(folder.path(), "chain.pem", &chain);
    let (old_file, _) = old.write(folder.path(), "authority");
    let config = file(
        folder.path(),
        "ballast.yaml",
        &format!(
            "listeners: [{{ address: \"127.0.0.1:9\", tls: {{ certificates: [{}] }} }}]\n\
             pools: {{ web: {{ hosts: [\"127.0.0.1:10\"], tls: {{ ca: \"{}\" }} }} }}\n",
            entry(&(chain, key)),
            old_file.display()
        ),
    );
    let end = run(&["check", "-c", &config.display().to_string()]);
    assert_eq!(end.code, Some(0), "{end:?}");
    let lines = Vec::from_iter(end.stderr.lines());
    assert_eq!(lines.len(), 3, "{end:?}");
    assert!(lines[0].contains("certificate 2 in") && lines[0].contains("expired at 2002-01-01"));
    assert!(lines[1].contains("is out of order: certificate 2"));
    assert!(lines[2].contains("pools.web.tls.ca: certificate in") && lines[2].contains("expired"));
}
