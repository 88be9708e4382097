//! What a listener negotiates: versions of TLS, and sessions that clients resume.

use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::HandshakeKind::{Full, Resumed};

use crate::admin::with_admin;
use crate::handover::Service;
use crate::support::{Client, SOON, Setup, TlsSite, file, handshake_kind, wait_until};

/// A listener whose tickets are from the secret in this file.
fn with_secret(site: &TlsSite, file: &str) -> Setup {
    let folder = site.path().display();
    site.setup(&format!(
        ", session_tickets: {{ secret_file: {folder}/{file} }}"
    ))
}

#[track_caller]
fn assert_kind(address: SocketAddr, client: &Arc<ClientConfig>, kind: rustls::HandshakeKind) {
    let handshake = handshake_kind(address, client);
    assert_eq!(handshake.expect("a handshake and a response"), kind);
}

#[test]
fn sessions_are_resumed_after_a_reload_and_after_a_handover() {
    let site = TlsSite::new();
    let (setup, admin) = with_admin(site.setup(""));
    let service = Service::start(&setup);
    let address = service.ballast.address();
    let clients = site.clients(None);
    for client in &clients {
        assert_kind(address, client, Full);
        assert_kind(address, client, Resumed);
    }
    // Another certificate is no reason against it.
    site.servers.issue(&["a.test"]).write(site.path(), "a");
    let reload = service.ballast.reload();
    assert_eq!(reload.code, Some(0), "{reload:?}");
    for client in &clients {
        assert_kind(address, client, Resumed);
    }
    service.hand_over();
    for client in &clients {
        assert_kind(address, client, Resumed);
        assert_kind(address, client, Resumed);
    }
    let mut metrics = String::new();
    wait_until(SOON, "the metric", || {
        let request = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";
        let response = Client::try_connect(admin).and_then(|mut client| client.request(request));
        metrics = response.map_or_else(|_| String::new(), |response| response.text());
        metrics.contains("ballast_tls_tickets_total{outcome=\"accepted\"} 4")
    });
    assert!(
        metrics.contains("ballast_tls_tickets_total{outcome=\"refused\"} 0"),
        "{metrics}"
    );
}

#[test]
fn instances_with_the_same_secret_resume_each_others_sessions() {
    let site = TlsSite::new();
    file(site.path(), "one.key", "0123456789abcdef0123456789abcdef\n");
    file(site.path(), "other.key", "another secret, as long\n");
    let [first, second] = [(); 2].map(|()| with_secret(&site, "one.key").start());
    let stranger = with_secret(&site, "other.key").start();
    for client in site.clients(None) {
        assert_kind(first.address(), &client, Full);
        assert_kind(second.address(), &client, Resumed);
        assert_kind(first.address(), &client, Resumed);
        assert_kind(stranger.address(), &client, Full);
        assert_kind(second.address(), &client, Full);
    }

    // Another secret: what was made with the one before is good until it expires, and new tickets are made with the new.
    let [old, new] = [site.clients(None), site.clients(None)];
    for client in &old {
        assert_kind(first.address(), client, Full);
    }
    fs::write(site.path().join("one.key"), "another secret, as long\n").expect("written");
    let reload = first.reload();
    assert!(
        reload
            .stdout
            .contains("session_tickets.secret_file has new content"),
        "{reload:?}"
    );
    for (old, new) in old.iter().zip(&new) {
        assert_kind(first.address(), old, Resumed);
        assert_kind(first.address(), new, Full);
        assert_kind(stranger.address(), new, Resumed);
    }
}

#[test]
fn another_secret_of_tickets_needs_no_reload() {
    let site = TlsSite::new();
    file(site.path(), "one.key", "0123456789abcdef0123456789abcdef\n");
    file(site.path(), "other.key", "another secret, as long\n");
    let check = "server: { certificate_check: 20ms }";
    let first = with_secret(&site, "one.key").top(check).start();
    let stranger = with_secret(&site, "other.key").start();
    let [old, new] = [site.clients(None), site.clients(None)];
    for client in &old {
        assert_kind(first.address(), client, Full);
    }
    file(site.path(), "one.key", "short");
    first.wait_for_log(&["one.key` not taken in", "holds 5 bytes"]);
    file(site.path(), "one.key", "another secret, as long\n");
    first.wait_for_log(&["secret of session tickets renewed", "one.key"]);
    for (old, new) in old.iter().zip(&new) {
        assert_kind(first.address(), old, Resumed);
        assert_kind(first.address(), new, Full);
        assert_kind(stranger.address(), new, Resumed);
    }
}

#[test]
fn without_tickets_sessions_stay_in_their_process() {
    let site = TlsSite::new();
    let service = Service::start(&site.setup(", session_tickets: none"));
    let address = service.ballast.address();
    let clients = site.clients(None);
    for client in &clients {
        assert_kind(address, client, Full);
        assert_kind(address, client, Resumed);
    }
    service.hand_over();
    for client in &clients {
        assert_kind(address, client, Full);
    }
}

#[test]
fn a_version_below_the_lowest_is_refused() {
    let site = TlsSite::new();
    for further in [", min_version: \"1.3\"", ", profile: modern"] {
        let ballast = site.setup(further).start();
        let [old, new] = site.clients(None);
        assert_kind(ballast.address(), &new, Full);
        let refused = handshake_kind(ballast.address(), &old).expect_err("TLS 1.2 is too old");
        assert!(refused.to_string().contains("ProtocolVersion"), "{refused}");
        // It stays with the process.
        let line = ballast.reload_by_sighup(&site.setup("").yaml());
        assert!(line.contains("needs a new process"), "{line}");
    }
}
