//! Certificates that change while the process runs, directories of them, and which one a name gets.

use std::fs::{self, File};
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use serde_json::{Value, json};

use crate::admin::with_admin;
use crate::support::{
    Authority, Backend, Ballast, Client, Identity, LISTEN, SOON, Setup, file, run,
    served_certificate, wait_until,
};

/// An interval so short that no test waits for it.
const CHECK: &str = "server: { certificate_check: 20ms }";

fn setup(backend: &Backend, tls: &str) -> Setup {
    Setup::of(&[backend]).top(CHECK).top(&format!(
        "listeners: [{{ address: \"{LISTEN}\", tls: {{ {tls} }} }}]"
    ))
}

fn pair(files: &(PathBuf, PathBuf)) -> String {
    let (certificate, key) = (files.0.display(), files.1.display());
    format!("{{ certificate: \"{certificate}\", key: \"{key}\" }}")
}

fn in_directory(directory: &Path) -> String {
    format!("certificates: {{ directory: \"{}\" }}", directory.display())
}

/// Whether a handshake for `name` gets this certificate.
fn gets(address: SocketAddr, name: &str, identity: &Identity) -> bool {
    let served = served_certificate(address, Some(name));
    served.expect("a handshake") == identity.der()
}

#[track_caller]
fn wait_for_certificate(ballast: &Ballast, name: &str, identity: &Identity) {
    wait_until(SOON, "the certificate is served", || {
        gets(ballast.address(), name, identity)
    });
}

/// Replaces the content of a file by another file of this name, as ACME clients do.
fn rename_over(path: &Path, text: &str) {
    let new = path.with_extension("new");
    fs::write(&new, text).expect("written");
    fs::rename(new, path).expect("renamed");
}

/// What the admin listener says; without a connection nothing.
fn from_admin(admin: SocketAddr, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let response = Client::try_connect(admin).and_then(|mut client| client.request(request));
    response.map_or_else(|_| String::new(), |response| response.text())
}

fn metric(admin: SocketAddr, series: &str) -> Option<f64> {
    let metrics = from_admin(admin, "/metrics");
    let mut lines = metrics.lines();
    let value = lines.find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    value.map(|value| value.parse().expect("a number"))
}

#[test]
fn renewed_certificates_are_taken_in_however_they_are_written() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let authority = Authority::new("any");
    let [first, second, third, fourth] =
        [2096, 2097, 2098, 2099].map(|year| authority.issue_between(&["a.test"], 2020, year));
    // As Kubernetes mounts secrets: the files are links into a directory that is a link.
    let version = |name: &str, identity: &Identity| {
        let directory = folder.path().join(name);
        fs::create_dir(&directory).expect("a directory");
        identity.write(&directory, "a");
        name.to_owned()
    };
    let data = folder.path().join("..data");
    symlink(version("..1", &first), &data).expect("a link");
    for name in ["a.crt", "a.key"] {
        symlink(format!("..data/{name}"), folder.path().join(name)).expect("a link");
    }
    let files = (folder.path().join("a.crt"), folder.path().join("a.key"));
    let backend = Backend::start_new("a");
    let certificates = format!("certificates: [{}]", pair(&files));
    let (setup, admin) = with_admin(setup(&backend, &certificates));
    let ballast = setup.start();
    assert!(gets(ballast.address(), "a.test", &first));
    let config = |version: &str| version.split("\"config\"").nth(1).map(str::to_owned);
    let mut before = None;
    wait_until(SOON, "the API", || {
        before = config(&from_admin(admin, "/api/v1/version"));
        before.is_some()
    });
    let mut kept = Client::tls(ballast.address(), "a.test", authority.client()).expect("connected");
    assert_eq!(kept.get("/").status, 200);

    // The link is replaced.
    symlink(version("..2", &second), folder.path().join("..new")).expect("a link");
    fs::rename(folder.path().join("..new"), &data).expect("renamed");
    wait_for_certificate(&ballast, "a.test", &second);
    // The files behind it are written in place, one after the other.
    third.write(&data, "a");
    wait_for_certificate(&ballast, "a.test", &third);
    // The links are replaced by files.
    rename_over(&files.0, &fourth.pem());
    rename_over(&files.1, &fourth.key_pem());
    wait_for_certificate(&ballast, "a.test", &fourth);

    let shown = files.0.display().to_string();
    let line = ballast.wait_for_log(&["INFO", "renewed", "2099-01-01T00:00:00Z"]);
    let text =
        format!("certificate renewed: `{shown}` for a.test, expires at 2099-01-01T00:00:00Z");
    assert!(line.contains(&text), "{line}");
    assert_eq!(ballast.log_with(&["renewed"]).len(), 3);
    // 2099-01-01.
    let series = format!("ballast_certificate_expiry_timestamp_seconds{{certificate=\"{shown}\"}}");
    wait_until(SOON, "the metric", || {
        metric(admin, &series) == Some(4_070_908_800.0)
    });
    let taken = "ballast_certificate_changes_total{outcome=\"taken\"}";
    assert_eq!(metric(admin, taken), Some(3.0));
    let events = from_admin(admin, "/api/v1/events");
    assert_eq!(
        events.matches("\"certificate_changed\"").count(),
        3,
        "{events}"
    );
    // It is the same configuration, and connections stay.
    assert_eq!(config(&from_admin(admin, "/api/v1/version")), before);
    let reload = ballast.reload();
    assert!(reload.stdout.contains("nothing changed"), "{reload:?}");
    assert!(gets(ballast.address(), "a.test", &fourth));
    assert_eq!(kept.get("/").status, 200);
}

#[test]
fn bad_certificates_are_refused_with_the_reason_while_the_old_one_serves() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let root = Authority::new("the root");
    let between = root.subordinate("the one between");
    let old = between.issue(&["a.test"]);
    let new = between.issue(&["a.test"]);
    let chain = |identity: &Identity| format!("{}{}", identity.pem(), between.pem());
    let files = (folder.path().join("a.crt"), folder.path().join("a.key"));
    let write = |chain: &str, key: &str| {
        rename_over(&files.0, chain);
        rename_over(&files.1, key);
    };
    write(&chain(&old), &old.key_pem());
    let backend = Backend::start_new("a");
    let certificates = format!("certificates: [{}]", pair(&files));
    let (setup, admin) = with_admin(setup(&backend, &certificates));
    let ballast = setup.start();
    let expired = between.issue_expired(&["a.test"]);
    let early = between.issue_between(&["a.test"], 2090, 2091);
    let other = Authority::new("another");
    let half = &chain(&new)[..new.pem().len() / 2];
    for (what, chain, key, reason) in [
        (
            "another's key",
            chain(&new),
            old.key_pem(),
            "does not belong to the certificate",
        ),
        (
            "half written",
            half.to_owned(),
            new.key_pem(),
            "is not a proper PEM file",
        ),
        (
            "empty",
            String::new(),
            new.key_pem(),
            "holds no certificate",
        ),
        (
            "expired",
            chain(&expired),
            expired.key_pem(),
            "expired at 2002-01-01",
        ),
        (
            "early",
            chain(&early),
            early.key_pem(),
            "is not valid before 2090-01-01",
        ),
        (
            "without the one between",
            new.pem(),
            new.key_pem(),
            "is not whole: the certificate of CN=the one between",
        ),
        (
            "out of order",
            format!("{}{}", new.pem(), other.pem()),
            new.key_pem(),
            "is out of order",
        ),
    ] {
        write(&chain, &key);
        let line = ballast.wait_for_log(&["WARN", "a.crt` not taken in", reason]);
        assert!(gets(ballast.address(), "a.test", &old), "{what}: {line}");
    }
    fs::remove_file(&files.1).expect("removed");
    ballast.wait_for_log(&["not taken in", "cannot read", "a.key"]);
    assert!(gets(ballast.address(), "a.test", &old));
    let status = ballast.command(&["status"]);
    assert!(
        status.stdout.contains("a.crt not taken in: cannot read"),
        "{status:?}"
    );
    let status = from_admin(admin, "/api/v1/status");
    assert!(
        status.contains("\"refused_certificates\":[{\"file\":"),
        "{status}"
    );
    assert_eq!(metric(admin, "ballast_certificates_refused"), Some(1.0));

    write(&chain(&new), &new.key_pem());
    wait_for_certificate(&ballast, "a.test", &new);
    wait_until(SOON, "nothing is refused", || {
        metric(admin, "ballast_certificates_refused") == Some(0.0)
    });
    // Each reason once, although it was found at every check.
    let lines = ballast.log_with(&["not taken in", "is not valid before"]);
    assert_eq!(lines.len(), 1, "{lines:?}");
}

#[test]
fn what_has_expired_already_is_replaced_by_anything_that_fits() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let authority = Authority::new("any");
    let [old, new] = [2002, 2003].map(|year| authority.issue_between(&["a.test"], 2001, year));
    let files = old.write(folder.path(), "a");
    let backend = Backend::start_new("a");
    let ballast = setup(&backend, &format!("certificates: [{}]", pair(&files))).start();
    assert!(gets(ballast.address(), "a.test", &old));
    new.write(folder.path(), "a");
    wait_for_certificate(&ballast, "a.test", &new);
}

#[test]
fn listeners_with_the_same_files_are_all_renewed() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let authority = Authority::new("any");
    let [old, new] = [(); 2].map(|()| authority.issue(&["a.test"]));
    let files = pair(&old.write(folder.path(), "a"));
    let second = crate::support::free();
    let listener =
        |address: &str| format!("{{ address: \"{address}\", tls: {{ certificates: {files} }} }}");
    let (first, other) = (listener(LISTEN), listener(&second.to_string()));
    let backend = Backend::start_new("a");
    let setup = Setup::of(&[&backend])
        .top(CHECK)
        .top(&format!("listeners: [{first}, {other}]"));
    let ballast = setup.start();
    assert!(gets(second, "a.test", &old));
    new.write(folder.path(), "a");
    wait_for_certificate(&ballast, "a.test", &new);
    wait_until(SOON, "the other listener has it", || {
        gets(second, "a.test", &new)
    });
}

#[test]
fn a_directory_gains_and_loses_certificates() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let directory = folder.path().join("certs");
    let authority = Authority::new("any");
    let issue = |names: &[&str]| authority.issue_between(names, 2020, 2090);
    let (a, b, nested) = (
        issue(&["a.test"]),
        issue(&["b.test"]),
        issue(&["nested.test"]),
    );
    fs::create_dir_all(directory.join("nested")).expect("a directory");
    a.write(&directory, "a");
    // The key in the same file, and as certbot has it.
    file(&directory, "b.pem", &format!("{}{}", b.pem(), b.key_pem()));
    file(&directory.join("nested"), "fullchain.pem", &nested.pem());
    file(&directory.join("nested"), "privkey.pem", &nested.key_pem());
    for ignored in ["README", ".hidden.pem", "old.key"] {
        file(&directory, ignored, "nothing");
    }
    let backend = Backend::start_new("a");
    let ballast = setup(&backend, &in_directory(&directory)).start();
    assert!(ballast.log_with(&["WARN"]).is_empty());
    let address = ballast.address();
    assert!(gets(address, "a.test", &a));
    assert!(gets(address, "b.test", &b));
    assert!(gets(address, "nested.test", &nested));
    assert!(gets(address, "other.test", &a), "the first one by name");

    let c = issue(&["c.test", "*.c.test"]);
    c.write(&directory, "c");
    wait_for_certificate(&ballast, "www.c.test", &c);
    ballast.wait_for_log(&[
        "added",
        "c.crt` for c.test, *.c.test, expires at 2090-01-01",
    ]);
    // What lasts longer serves a name, from whichever file.
    let longer = authority.issue_between(&["b.test", "d.test"], 2020, 2095);
    longer.write(&directory, "a-longer");
    wait_for_certificate(&ballast, "b.test", &longer);
    ballast.wait_for_log(&[
        "WARN",
        "b.pem` is for b.test as",
        "a-longer.crt` is, which serves it",
    ]);
    let shorter = authority.issue_between(&["b.test"], 2020, 2085);
    shorter.write(&directory, "z-shorter");
    ballast.wait_for_log(&["added", "z-shorter.crt` for b.test, expires"]);
    assert!(gets(address, "b.test", &longer));
    // A new one that cannot serve holds nothing up.
    file(&directory, "bad.pem", "nothing");
    ballast.wait_for_log(&["bad.pem` not taken in", "holds no certificate"]);
    fs::remove_file(directory.join("a-longer.crt")).expect("removed");
    wait_for_certificate(&ballast, "b.test", &b);
    ballast.wait_for_log(&["removed", "a-longer.crt` for b.test, d.test"]);
    assert!(gets(address, "d.test", &a), "the first one again");
    // The last ones stay.
    fs::rename(&directory, folder.path().join("gone")).expect("renamed");
    ballast.wait_for_log(&["certs` not taken in", "cannot read the directory"]);
    fs::create_dir(&directory).expect("a directory");
    ballast.wait_for_log(&["certs` not taken in", "there is no certificate in"]);
    assert!(gets(address, "b.test", &b));

    let check = ballast.check();
    assert_eq!(check.code, Some(2), "{check:?}");
    let expected = "listeners[0].tls.certificates.directory: there is no certificate in";
    assert!(check.stderr.contains(expected), "{check:?}");
}

/// certbot has numbered files in `archive/NAME`, and links to the latest of each in `live/NAME`.
#[test]
fn certificates_of_certbot_are_renewed() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let [live, archive] = ["live", "archive"].map(|name| folder.path().join(name));
    let authority = Authority::new("the root");
    let between = authority.subordinate("the one between");
    let renew = |site: &str, number: u32| {
        let identity = between.issue_between(&[site], 2020, 2090);
        let files = [
            ("cert", identity.pem()),
            ("privkey", identity.key_pem()),
            ("chain", between.pem()),
            ("fullchain", identity.pem() + &between.pem()),
        ];
        for directory in [&live, &archive] {
            fs::create_dir_all(directory.join(site)).expect("a directory");
        }
        for (name, text) in &files {
            file(&archive.join(site), &format!("{name}{number}.pem"), text);
        }
        // One link after the other, each away for a moment.
        for (name, _) in &files {
            let link = live.join(site).join(format!("{name}.pem"));
            let _ = fs::remove_file(&link);
            let target = format!("../../archive/{site}/{name}{number}.pem");
            symlink(target, link).expect("a link");
        }
        identity
    };
    let [a, b] = ["a.test", "b.test"].map(|site| renew(site, 1));
    file(&live, "README", "This directory contains your keys.");
    let backend = Backend::start_new("a");
    let ballast = setup(&backend, &in_directory(&live)).start();
    assert!(gets(ballast.address(), "a.test", &a));
    assert!(gets(ballast.address(), "b.test", &b));
    let b = renew("b.test", 2);
    wait_for_certificate(&ballast, "b.test", &b);
    assert!(gets(ballast.address(), "a.test", &a));
    let c = renew("c.test", 1);
    wait_for_certificate(&ballast, "c.test", &c);
    ballast.wait_for_log(&["certificate added", "live/c.test/fullchain.pem` for c.test"]);
}

#[test]
fn the_api_lists_certificates() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let authority = Authority::new("any");
    let short = authority.issue_between(&["a.test", "b.test"], 2020, 2090);
    let long = authority.issue_between(&["b.test"], 2021, 2095);
    short.write(folder.path(), "a");
    long.write(folder.path(), "b");
    let backend = Backend::start_new("a");
    let (setup, admin) = with_admin(setup(&backend, &in_directory(folder.path())));
    let ballast = setup.start();
    file(folder.path(), "a.key", "nothing");
    ballast.wait_for_log(&["a.crt` not taken in"]);
    let list: Value =
        serde_json::from_str(&from_admin(admin, "/api/v1/certificates")).expect("JSON");
    assert_eq!(
        list["listeners"][0]["address"],
        ballast.address().to_string()
    );
    let path = |name: &str| folder.path().join(name).display().to_string();
    let reason = list["refused"][0]["reason"].clone();
    assert!(
        reason
            .as_str()
            .is_some_and(|reason| reason.contains("no private key"))
    );
    let expected = json!([
        {
            "file": path("b.crt"), "key": path("b.key"), "names": ["b.test"], "serves": ["b.test"], "default": false,
            "issuer": "CN=any", "not_before": "2021-01-01T00:00:00Z", "not_after": "2095-01-01T00:00:00Z",
            "refused": null, "ocsp": null
        },
        {
            "file": path("a.crt"), "key": path("a.key"), "names": ["a.test", "b.test"], "serves": ["a.test"],
            "default": true, "issuer": "CN=any", "not_before": "2020-01-01T00:00:00Z",
            "not_after": "2090-01-01T00:00:00Z", "refused": reason, "ocsp": null
        }
    ]);
    assert_eq!(list["listeners"][0]["certificates"], expected);
}

#[test]
fn a_bad_file_in_a_directory_is_an_error_at_the_start() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let authority = Authority::new("any");
    authority.issue(&["a.test"]).write(folder.path(), "a");
    let (b, _) = authority.issue(&["b.test"]).write(folder.path(), "b");
    file(
        folder.path(),
        "b.key",
        &authority.issue(&["b.test"]).key_pem(),
    );
    file(folder.path(), "ca.pem", &authority.pem());
    let config = format!(
        "listeners: [{{ address: \"127.0.0.1:9\", tls: {{ {} }} }}]\npools: {{ web: {{ hosts: [\"127.0.0.1:10\"] }} }}\n",
        in_directory(folder.path())
    );
    let config = file(folder.path(), "ballast.yaml", &config);
    let end = run(&["check", "-c", &config.display().to_string()]);
    assert_eq!(end.code, Some(2), "{end:?}");
    let of_b = format!("does not belong to the certificate in `{}`", b.display());
    assert!(end.stderr.contains(&of_b), "{end:?}");
    assert!(
        end.stderr.contains("ca.pem` holds no private key"),
        "{end:?}"
    );
}

#[test]
fn an_exact_name_comes_before_a_wildcard_and_that_before_the_first() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let authority = Authority::new("any");
    let [first, wild, exact] = [
        &["first.test"][..],
        &["*.a.test"],
        &["www.a.test", "a.test"],
    ]
    .map(|names| authority.issue(names));
    let pairs = [("1", &first), ("2", &wild), ("3", &exact)]
        .map(|(name, identity)| pair(&identity.write(folder.path(), name)));
    let certificates = format!("certificates: [{}]", pairs.join(", "));
    let backend = Backend::start_new("a");
    let ballast = setup(&backend, &certificates).start();
    let address = ballast.address();
    for (name, identity) in [
        ("www.a.test", &exact),
        ("WWW.A.test", &exact),
        ("other.a.test", &wild),
        ("a.test", &exact),
        ("x.other.a.test", &first),
        ("unknown.test", &first),
    ] {
        assert!(gets(address, name, identity), "{name}");
    }
    assert_eq!(
        served_certificate(address, None).expect("a handshake"),
        first.der()
    );

    // The same, strictly, without a restart.
    let line = ballast
        .reload_by_sighup(&setup(&backend, &format!("{certificates}, sni_strict: true")).yaml());
    assert!(
        line.contains("sni_strict changed from false to true"),
        "{line}"
    );
    assert!(gets(address, "other.a.test", &wild));
    for name in [Some("unknown.test"), None] {
        let refused = served_certificate(address, name).expect_err("no certificate has it");
        let refused = refused.to_string();
        assert!(refused.contains("UnrecognisedName"), "{name:?}: {refused}");
    }
    assert!(gets(address, "first.test", &first));
}

#[test]
fn no_handshake_fails_during_twenty_rotations() {
    const CLIENTS: usize = 2;
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let authority = Authority::new("any");
    let files = authority.issue(&["a.test"]).write(folder.path(), "a");
    let backend = Backend::start_new("a");
    let ballast = setup(&backend, &format!("certificates: [{}]", pair(&files))).start();
    let (handshakes, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    let mut client = Client::tls(ballast.address(), "a.test", authority.client())
                        .expect("a client");
                    let response = client.request("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
                    assert_eq!(response.expect("a response").status, 200);
                    handshakes.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for rotation in 0..20 {
            let new = authority.issue(&["a.test"]);
            if rotation % 2 == 0 {
                rename_over(&files.0, &new.pem());
                rename_over(&files.1, &new.key_pem());
            } else {
                // In two pieces, with time for a look at each state.
                let pem = new.pem();
                let (begin, end) = pem.split_at(200);
                let mut chain = File::create(&files.0).expect("a file");
                chain.write_all(begin.as_bytes()).expect("written");
                ballast.wait_for_log(&["not taken in"]);
                chain.write_all(end.as_bytes()).expect("written");
                fs::write(&files.1, new.key_pem()).expect("written");
            }
            wait_for_certificate(&ballast, "a.test", &new);
        }
        is_over.store(true, Ordering::Relaxed);
    });
    assert!(handshakes.load(Ordering::Relaxed) > 20);
    assert_eq!(ballast.log_with(&["renewed"]).len(), 20);
}
