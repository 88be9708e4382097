//! Rows 26, 31 and 33: files, names and certificates that are wrong, or have become wrong.

use std::path::Path;

use super::{NO_EJECTION, Subject};
use crate::support::{
    Authority, Backend, Ballast, Client, LISTEN, SOON, Setup, free, get, wait_until,
};

/// An invalid file changes nothing, however the reload is requested, and the reason is reported.
#[track_caller]
fn assert_reload_refused(subject: &Subject, bad: &str, reason: &str) {
    let line = subject.ballast.reload_by_sighup(bad);
    assert!(line.contains("not reloaded"), "{reason}: {line}");
    subject.ballast.wait_for_log(&[reason]);
    let end = subject.ballast.reload();
    assert_eq!(end.code, Some(1), "{reason}: {end:?}");
    assert!(end.stderr.contains(reason), "{reason}\n{}", end.stderr);
    let end = subject.ballast.check();
    assert_eq!(end.code, Some(2), "{reason}: {end:?}");
    assert!(end.stderr.contains(reason), "{reason}\n{}", end.stderr);
}

#[test]
fn row_26_reload_with_a_bad_file() {
    let [a, b] = ["a", "b"].map(Backend::start_new);
    let subject = Subject::start(&Setup::of(&[&a]));
    let good = Setup::of(&[&b]);
    let yaml = good.yaml();
    let partial = &yaml[..yaml.rfind("algorithm").expect("the key exists") + 4];
    let twice = good.clone().host(b.address()).yaml();
    let unknown = good.clone().top("timeoutz: { read: 1s }").yaml();
    let wrong = good.clone().top("timeouts: { read: [1s] }").yaml();
    let huge = format!("# {}\n{yaml}", "x".repeat(10 << 20));
    for (bad, reason) in [
        ("listeners: [", "ballast.yaml:"),
        ("\u{1}\u{2}garbage", "ballast.yaml"),
        ("", "ballast.yaml"),
        (partial, "ballast.yaml:"),
        (&*twice, "ballast.yaml:5:"),
        (&*unknown, "ballast.yaml:2:"),
        (&*wrong, "ballast.yaml:2:"),
        (&*huge, "ballast.yaml"),
        (
            &*good.clone().algorithm("round_robbin").yaml(),
            "did you mean `round_robin`?",
        ),
        (
            &*good.clone().pool("tls: { ca: missing.pem }").yaml(),
            "missing.pem",
        ),
    ] {
        assert_reload_refused(&subject, bad, reason);
        assert_eq!(get(subject.address(), "/").backend(), "a", "{reason}");
    }
    // A valid file works afterwards.
    let line = subject.ballast.reload_by_sighup(&yaml);
    assert!(line.contains("reloaded in place"), "{line}");
    assert_eq!(get(subject.address(), "/").backend(), "b");
    a.close_idle();
    subject.settle(&[&b]);
}

#[test]
fn row_31_unresolvable_name() {
    const REASON: &str = "cannot resolve `nowhere.invalid`";
    let host = Backend::start_new("a");
    let once = "{ address: \"nowhere.invalid:80\", resolve: once }";
    let unknown = Setup::of(&[&host]).host_entry(once);
    // At the start: the process logs a clear error and ends.
    let mut ballast = Ballast::spawn(&unknown.yaml());
    assert_eq!(ballast.wait_exit(SOON).code(), Some(2));
    ballast.wait_for_log(&["ballast.yaml:", REASON]);
    // Later: the known addresses stay.
    let port = host.address().port();
    let known = Setup::of(&[]).host_entry(&format!(
        "{{ address: \"localhost:{port}\", resolve: once }}"
    ));
    let subject = Subject::start(&known);
    assert_eq!(get(subject.address(), "/").backend(), "a");
    assert_reload_refused(&subject, &unknown.yaml(), REASON);
    assert_eq!(get(subject.address(), "/").backend(), "a");
    // A name that is resolved again and again does no harm beside a host that serves.
    let again = Setup::of(&[&host])
        .top("discovery: { state_directory: none, dns: { servers: [\"127.0.0.1:9\"], timeout: 100ms, attempts: 1 } }")
        .host_entry("\"nowhere.invalid:80\"");
    subject.ballast.reload_by_sighup(&again.yaml());
    subject
        .ballast
        .wait_for_log(&["WARN", "source dns nowhere.invalid has told no hosts"]);
    assert_eq!(get(subject.address(), "/").backend(), "a");
    subject.settle(&[&host]);
}

#[test]
fn row_33_bad_certificates_of_hosts_and_listeners() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let authority = Authority::new("all");
    let ca = authority.write(folder.path(), "ca.pem");
    let own = authority.issue(&["front.test"]).write(folder.path(), "own");
    let good = Backend::start_tls("good", authority.issue(&["app.test"]).server());
    let expired = Backend::start_tls("old", authority.issue_expired(&["app.test"]).server());
    let other = Backend::start_tls("other", authority.issue(&["web.test"]).server());
    let front = free();
    let setup = |host: &Backend, certificate: &Path| {
        Setup::of(&[host])
            .top(&format!(
                "listeners: [\"{LISTEN}\", {{ address: \"{front}\", tls: {{ certificates: [{{ certificate: {}, key: {} }}] }} }}]",
                certificate.display(),
                own.1.display()
            ))
            .pool(NO_EJECTION)
            .pool(&format!("tls: {{ server_name: app.test, ca: {} }}", ca.display()))
    };
    let subject = Subject::start(&setup(&good, &own.0));
    assert_eq!(get(subject.address(), "/").backend(), "good");
    for (host, reason) in [(&expired, "xpired"), (&other, "app.test")] {
        let line = subject
            .ballast
            .reload_by_sighup(&setup(host, &own.0).yaml());
        assert!(line.contains("reloaded in place"), "{line}");
        assert_eq!(get(subject.address(), "/").status, 502, "{reason}");
        assert_eq!(host.requests(), 0, "{reason}");
        subject.ballast.wait_for_log(&[reason]);
    }
    let line = subject
        .ballast
        .reload_by_sighup(&setup(&good, &own.0).yaml());
    assert!(line.contains("reloaded in place"), "{line}");
    assert_reload_refused(
        &subject,
        &setup(&expired, &folder.path().join("missing.crt")).yaml(),
        "missing.crt",
    );
    wait_until(SOON, "the old configuration stays in use", || {
        Client::connect(subject.address()).get("/").backend() == "good"
    });
    for host in [&good, &expired, &other] {
        host.close_idle();
    }
    subject.wait_for_initial_descriptors();
    subject.end();
}
