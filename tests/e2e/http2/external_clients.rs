//! Third-party clients.

use std::process::Command;

use crate::support::http2::Secure;
use crate::support::{Backend, Setup, finish, peer};

#[test]
fn curl_fetches_and_uploads() {
    let Some(curl) = peer("curl") else { return };
    let backend = Backend::start_new("a");
    let secure = Secure::new();
    let ballast = Setup::of(&[&backend]).top(&secure.listeners()).start();
    let ask = |arguments: &[&str]| {
        let mut command = Command::new(&curl);
        command
            .args(["--http2", "--insecure", "--silent", "--output", "/dev/null"])
            .args(["--write-out", "%{http_version} %{response_code}\\n"])
            .args(arguments)
            .arg(format!("https://{}/", ballast.address()));
        finish(command).stdout
    };
    assert_eq!(ask(&[]), "2 200\n");
    let body = "x".repeat(100_000);
    let file = crate::support::file(ballast.folder(), "body", &body);
    let data = format!("@{}", file.display());
    // The client waits a moment for 100 Continue and then sends the body anyway.
    assert_eq!(ask(&["--data-binary", &data]), "2 200\n");
    assert_eq!(backend.last().body.len(), body.len());
    assert_eq!(ask(&["--http1.1"]), "1.1 200\n");
}

#[test]
fn nghttp_fetches() {
    let Some(nghttp) = peer("nghttp") else { return };
    let backend = Backend::start_new("a");
    let secure = Secure::new();
    let ballast = Setup::of(&[&backend]).top(&secure.listeners()).start();
    let mut command = Command::new(nghttp);
    command
        .args(["--verbose", "--no-verify-peer", "--multiply=20"])
        .arg(format!("https://{}/", ballast.address()));
    let end = finish(command);
    assert_eq!(end.code, Some(0), "{end:?}");
    let responses = end.stdout.matches(":status: 200").count();
    assert_eq!(responses, 20, "{}", end.stdout);
    assert!(!end.stdout.contains("RST_STREAM"), "{}", end.stdout);
}

#[test]
fn h2load_fails_no_request_of_twenty_thousand() {
    let Some(h2load) = peer("h2load") else { return };
    let backends = ["a", "b"].map(Backend::start_new);
    let secure = Secure::new();
    let ballast = Setup::of(&[&backends[0], &backends[1]])
        .top(&secure.listeners())
        // The client does not reconnect.
        .top("limits: { max_requests_per_connection: 0 }")
        .start();
    let mut command = Command::new("timeout");
    command
        .arg("120")
        .arg(h2load)
        .args([
            "--requests=20000",
            "--clients=8",
            "--max-concurrent-streams=20",
        ])
        .arg(format!("https://{}/", ballast.address()));
    let output = command.output().expect("the client runs");
    let summary = String::from_utf8_lossy(&output.stdout);
    println!("{summary}");
    assert!(output.status.success(), "{summary}");
    assert!(
        summary.contains("20000 succeeded, 0 failed, 0 errored, 0 timeout"),
        "{summary}"
    );
    let served: u64 = backends.iter().map(Backend::requests).sum();
    assert_eq!(served, 20_000);
}
