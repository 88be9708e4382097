//! OCSP responses that come with a listener's certificate.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::admin::with_admin;
use crate::support::{
    Authority, Backend, Ballast, Client, LISTEN, SOON, Setup, peer, stapled_response, wait_until,
};

/// An interval so short that no test waits for it.
const CHECK: &str = "server: { certificate_check: 20ms }";

/// Long ago.
const THEN: Option<&str> = Some("2021-01-01");

fn has_programs() -> bool {
    peer("openssl").is_some() && peer("faketime").is_some()
}

fn setup(backend: &Backend, certificates: &str) -> Setup {
    let listeners = format!(
        "listeners: [{{ address: \"{LISTEN}\", tls: {{ certificates: {{ {certificates} }} }} }}]"
    );
    Setup::of(&[backend]).top(CHECK).top(&listeners)
}

#[track_caller]
fn wait_for_response(ballast: &Ballast, name: &str, response: &[u8]) {
    wait_until(SOON, "the response is stapled", || {
        stapled_response(ballast.address(), name) == response
    });
}

/// Writes a file as a whole, as programs do that renew one.
fn put(folder: &Path, name: &str, content: &[u8]) {
    let new = folder.join("new");
    fs::write(&new, content).expect("written");
    fs::rename(new, folder.join(name)).expect("renamed");
}

#[test]
fn a_good_response_is_stapled_and_a_renewed_one_read() {
    if !has_programs() {
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let folder = folder.path();
    let authority = Authority::new("any");
    let [first, second] = [(); 2].map(|()| authority.issue(&["a.test"]));
    first.write(folder, "a");
    let good = authority.ocsp_response(&first, false, None);
    put(
        folder,
        "a.ocsp",
        &authority.ocsp_response(&first, false, THEN),
    );
    let backend = Backend::start_new("a");
    let path = folder.display();
    let files = format!("certificate: {path}/a.crt, key: {path}/a.key, ocsp: {path}/a.ocsp");
    let (setup, admin) = with_admin(setup(&backend, &files));
    let ballast = setup.start();
    let listed = || {
        let mut client = Client::connect(admin);
        let request = "GET /api/v1/certificates HTTP/1.1\r\nHost: localhost\r\n\r\n";
        let response = client.request(request).expect("a response");
        let list: Value = serde_json::from_str(&response.text()).expect("JSON");
        list["listeners"][0]["certificates"][0]["ocsp"].clone()
    };
    // It has expired, which is no reason not to start.
    ballast.wait_for_log(&["WARN", "certificates[0].ocsp", "expired at 2021-01-08"]);
    assert!(stapled_response(ballast.address(), "a.test").is_empty());
    assert_eq!(listed()["next_update"], "2021-01-08T12:00:00Z");
    let problem = listed()["problem"].to_string();
    assert!(problem.contains("expired at 2021-01-08"), "{problem}");

    put(folder, "a.ocsp", &good);
    ballast.wait_for_log(&["OCSP response renewed", "a.ocsp`, current until"]);
    wait_for_response(&ballast, "a.test", &good);
    wait_until(SOON, "the API knows", || listed()["problem"].is_null());
    // What clients could not use does not take its place.
    for (content, reason) in [
        (
            authority.ocsp_response(&first, true, None),
            "says that the certificate is revoked",
        ),
        (
            authority.ocsp_response(&second, false, None),
            "is about another certificate",
        ),
        (
            // The responder was busy: tryLater.
            b"\x30\x03\x0a\x01\x03".to_vec(),
            "has answered with tryLater",
        ),
        (b"nothing".to_vec(), "is not an OCSP response in DER form"),
    ] {
        put(folder, "a.ocsp", &content);
        ballast.wait_for_log(&["WARN", "a.ocsp` not taken in", reason]);
        assert_eq!(stapled_response(ballast.address(), "a.test"), good);
    }
    let status = ballast.command(&["status"]);
    assert!(status.stdout.contains("a.ocsp not taken in:"), "{status:?}");

    // A new certificate does not wait for its response.
    second.write(folder, "a");
    ballast.wait_for_log(&["certificate renewed", "a.crt"]);
    wait_for_response(&ballast, "a.test", b"");
    let good = authority.ocsp_response(&second, false, None);
    put(folder, "a.ocsp", &good);
    wait_for_response(&ballast, "a.test", &good);
}

#[test]
fn responses_in_a_directory_are_beside_the_certificates() {
    if !has_programs() {
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let folder = folder.path();
    let authority = Authority::new("any");
    let [a, b] = ["a.test", "b.test"].map(|name| authority.issue(&[name]));
    let [of_a, of_b] = [&a, &b].map(|identity| authority.ocsp_response(identity, false, None));
    a.write(folder, "a");
    put(folder, "a.ocsp", &of_a);
    let nested = folder.join("b");
    fs::create_dir(&nested).expect("a directory");
    put(&nested, "fullchain.pem", b.pem().as_bytes());
    put(&nested, "privkey.pem", b.key_pem().as_bytes());
    let backend = Backend::start_new("a");
    let ballast = setup(&backend, &format!("directory: {}", folder.display())).start();
    assert_eq!(stapled_response(ballast.address(), "a.test"), of_a);
    assert!(stapled_response(ballast.address(), "b.test").is_empty());
    put(&nested, "fullchain.ocsp", &of_b);
    wait_for_response(&ballast, "b.test", &of_b);
    fs::remove_file(folder.join("a.ocsp")).expect("removed");
    wait_for_response(&ballast, "a.test", b"");
    ballast.wait_for_log(&["OCSP response removed", "a.ocsp"]);
}
