//! TLS of a listener as OpenSSL's client and curl see it.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output};

use crate::support::{Setup, TlsSite, file, peer};

/// Runs OpenSSL's client for a request to `a.test`, and returns what it prints.
fn s_client(site: &TlsSite, address: SocketAddr, args: &[&str]) -> String {
    let request = file(
        site.path(),
        "request",
        "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n",
    );
    let output = Command::new("openssl")
        .args(["s_client", "-connect", &address.to_string(), "-ign_eof"])
        .args(["-verify_return_error", "-CAfile"])
        .arg(site.path().join("servers.pem"))
        .args(args)
        .stdin(fs::File::open(request).expect("it was written"))
        .output()
        .expect("OpenSSL runs");
    text(&output)
}

fn text(output: &Output) -> String {
    let parts = [&output.stdout, &output.stderr].map(|part| String::from_utf8_lossy(part));
    parts.concat()
}

fn curl(folder: &Path, address: SocketAddr, args: &[&str]) -> String {
    let port = address.port();
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--max-time", "20", "--cacert"])
        .arg(folder.join("servers.pem"))
        .args(["--resolve", &format!("a.test:{port}:127.0.0.1")])
        .args(["--write-out", " %{http_code} over %{http_version}"])
        .arg(format!("https://a.test:{port}/"))
        .args(args)
        .output()
        .expect("curl runs");
    text(&output)
}

#[test]
fn openssl_negotiates_versions_protocols_and_names() {
    if peer("openssl").is_none() {
        return;
    }
    let site = TlsSite::new();
    let folder = site.path().display();
    site.servers.issue(&["b.test"]).write(site.path(), "b");
    let listeners = site.listeners("").replace(
        "certificates: {",
        &format!("certificates: [{{ certificate: {folder}/b.crt, key: {folder}/b.key }}, {{"),
    );
    let listeners = listeners.replace("a.key }", "a.key }]");
    let ballast = Setup::of(&[&site.backend]).top(&listeners).start();
    let address = ballast.address();
    let a = &["-servername", "a.test", "-verify_hostname", "a.test"][..];
    for (args, expected) in [
        (&["-tls1_2"][..], "Cipher is ECDHE-ECDSA-"),
        (&["-tls1_3"], "New, TLSv1.3, Cipher is TLS_"),
        (&["-alpn", "h2,http/1.1"], "ALPN protocol: h2"),
        (&["-alpn", "http/1.1"], "ALPN protocol: http/1.1"),
        (&["-groups", "P-256"], "Server Temp Key: ECDH, prime256v1"),
    ] {
        let printed = s_client(&site, address, &[a, args].concat());
        assert!(printed.contains(expected), "{args:?}: {printed}");
        assert!(printed.contains("Verify return code: 0 (ok)"), "{printed}");
        // HTTP/2 answers a request of HTTP/1.1 with its own end.
        if !args.contains(&"h2,http/1.1") {
            assert!(printed.contains("HTTP/1.1 200"), "{args:?}: {printed}");
        }
    }
    // Without a name and for another one, the first certificate.
    for args in [&["-noservername"][..], &["-servername", "c.test"]] {
        let hostname = ["-verify_hostname", "b.test"];
        let printed = s_client(&site, address, &[args, &hostname].concat());
        assert!(printed.contains("Verify return code: 0 (ok)"), "{printed}");
    }
    for old in [
        &["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"][..],
        &["-tls1_2", "-cipher", "AES128-SHA:@SECLEVEL=0"],
    ] {
        let printed = s_client(&site, address, &[a, old].concat());
        assert!(printed.contains("alert"), "{old:?}: {printed}");
        assert!(!printed.contains("HTTP/1.1 200"), "{old:?}: {printed}");
    }
}

#[test]
fn openssl_resumes_its_sessions_and_checks_the_stapled_response() {
    if peer("openssl").is_none() || peer("curl").is_none() {
        return;
    }
    let site = TlsSite::new();
    // curl finds the issuer, which the response is about as well, in the chain.
    let chain = site.identity.pem() + &site.servers.pem();
    file(site.path(), "a.crt", &chain);
    let response = site.servers.ocsp_response(&site.identity, false, None);
    fs::write(site.path().join("a.ocsp"), response).expect("written");
    let folder = site.path().display();
    let listeners = site
        .listeners("")
        .replace("a.key }", &format!("a.key, ocsp: {folder}/a.ocsp }}"));
    let ballast = Setup::of(&[&site.backend]).top(&listeners).start();
    let address = ballast.address();
    let session = site.path().join("session").display().to_string();
    for version in ["-tls1_2", "-tls1_3"] {
        let args = [version, "-servername", "a.test", "-status"];
        let printed = s_client(
            &site,
            address,
            &[&args[..], &["-sess_out", &session]].concat(),
        );
        assert!(printed.contains("New, TLSv1."), "{printed}");
        for line in ["OCSP Response Status: successful", "Cert Status: good"] {
            assert!(printed.contains(line), "{version}: {printed}");
        }
        let printed = s_client(
            &site,
            address,
            &[&args[..], &["-sess_in", &session]].concat(),
        );
        assert!(printed.contains("Reused, TLSv1."), "{version}: {printed}");
        assert!(printed.contains("HTTP/1.1 200"), "{version}: {printed}");
    }
    for (args, expected) in [
        (&["--http1.1"][..], "200 over 1.1"),
        (&["--http2"], "200 over 2"),
        // It verifies the response's signature and its certificate.
        (&["--cert-status"], "200 over 2"),
    ] {
        let printed = curl(site.path(), address, args);
        assert!(printed.contains(expected), "{args:?}: {printed}");
    }
}

#[test]
fn openssl_shows_its_certificate() {
    if peer("openssl").is_none() || peer("curl").is_none() {
        return;
    }
    let site = TlsSite::new();
    site.clients.issue_named("ann").write(site.path(), "ann");
    let ballast = site.setup(&site.asking("")).start();
    let address = ballast.address();
    let [certificate, key] =
        ["ann.crt", "ann.key"].map(|name| site.path().join(name).display().to_string());
    let printed = s_client(&site, address, &["-cert", &certificate, "-key", &key]);
    assert!(printed.contains("CN = clients"), "{printed}");
    assert!(printed.contains("HTTP/1.1 200"), "{printed}");
    assert_eq!(
        site.backend.last().head.all("x-ssl-client-subject-dn"),
        ["CN=ann"]
    );
    let printed = curl(
        site.path(),
        address,
        &["--cert", &certificate, "--key", &key],
    );
    assert!(printed.contains("200 over 2"), "{printed}");
    let printed = s_client(&site, address, &[]);
    assert!(printed.contains("alert certificate required"), "{printed}");
    assert!(!printed.contains("HTTP/1.1 200"), "{printed}");
}
