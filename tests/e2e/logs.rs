//! The process's own log: first the configuration in use, then as much about each request as configured, and never a
//! flood of lines.

use std::fs;
use std::thread;

use serde_json::Value;

use crate::support::{Backend, Ballast, Client, DeadHost, SOON, Setup, wait_for, wait_until};

/// The number of suppressed lines, in total.
fn suppressed_lines(ballast: &Ballast) -> usize {
    let lines = ballast.log_with(&["more lines like this"]);
    let counts = lines.iter().map(|line| {
        let (before, _) = line
            .split_once(" more lines")
            .expect("the line has a count");
        let count = before.rsplit(' ').next().expect("a word");
        count.parse::<usize>().expect("a number")
    });
    counts.sum()
}

#[test]
fn ten_thousand_failures_log_few_lines_with_the_exact_count() {
    const REQUESTS: usize = 10_000;
    const CLIENTS: usize = 4;
    let dead = DeadHost::new();
    let setup = Setup::of(&[]).host(dead.address());
    let mut ballast = setup.pool("ejection: none").start();
    let address = ballast.address();
    let target = "a".repeat(15_000);
    let request = format!("GET /{target} HTTP/1.1\r\nHost: test\r\n\r\n");
    let clients = Vec::from_iter((0..CLIENTS).map(|_| {
        let request = request.clone();
        thread::spawn(move || {
            for _ in 0..REQUESTS / CLIENTS {
                let response = Client::connect(address).request(&request);
                assert_eq!(response.expect("a complete response").status, 502);
            }
        })
    }));
    for client in clients {
        client.join().expect("no panic");
    }
    ballast.signal(nix::sys::signal::Signal::SIGTERM);
    ballast.wait_exit(SOON);
    let failures = || ballast.log_with(&["Fail to proxy", "status: 502"]);
    wait_until(SOON, "every failure is logged or counted", || {
        failures().len() + suppressed_lines(&ballast) >= REQUESTS
    });
    assert_eq!(failures().len() + suppressed_lines(&ballast), REQUESTS);
    let log = ballast.log();
    let longest = log.iter().map(String::len).max();
    assert!(longest < Some(2_300), "{longest:?}");
    // The log has five whole lines at first, and one in every further ten seconds.
    let bytes = log.iter().map(String::len).sum::<usize>();
    assert!(bytes < 40_000, "{bytes}");
    assert!(failures()[0].contains("bytes more)"), "{}", failures()[0]);
}

#[test]
fn the_first_line_and_each_reload_describe_the_instance() {
    let backend = Backend::start_new("a");
    let (setup, admin) = crate::admin::with_admin(Setup::of(&[&backend]));
    let ballast = setup.start();
    let file = ballast.file().display().to_string();
    let version = format!("ballast {}", env!("CARGO_PKG_VERSION"));
    let pid = format!("pid {}", ballast.pid());
    let listeners = format!("listeners {}", ballast.address());
    let (admin, hosts) = (format!("admin {admin}"), "1 pool with 1 host");
    let parts = [&version, &pid, &file, &listeners, &admin, hosts];
    let first = ballast.log().into_iter().next().expect("a line");
    assert!(parts.iter().all(|part| first.contains(*part)), "{first}");
    let more = setup.host_entry("\"127.0.0.1:9\"").yaml();
    ballast.reload_by_sighup(&more);
    ballast.wait_for_log(&[
        &version,
        &pid,
        "now running with",
        &file,
        "1 pool with 2 hosts",
    ]);
}

#[test]
fn debug_logs_the_selection_for_each_request() {
    let backend = Backend::start_new("a");
    let yaml = Setup::of(&[&backend]).yaml();
    let ballast = Ballast::start(&yaml);
    let lines = || ballast.log_with(&["/asked"]);
    assert_eq!(Client::connect(ballast.address()).get("/asked").status, 200);
    let level = ballast.command(&["log-level", "debug"]);
    assert_eq!(level.code, Some(0), "{level:?}");
    assert!(lines().is_empty(), "{:?}", lines());
    assert_eq!(Client::connect(ballast.address()).get("/asked").status, 200);
    let host = format!("attempt 1: host {}", backend.address());
    let why = "the choice of the algorithm";
    ballast.wait_for_log(&[
        "GET ",
        "/asked from 127.0.0.1",
        "pool web",
        &host,
        why,
        "status 200 in ",
        "complete",
    ]);
    assert_eq!(lines().len(), 1, "{:?}", lines());
}

/// Whatever refuses a request, the log has the status that the client received, and the duration.
#[test]
fn a_rejected_request_is_logged_with_the_status_that_was_sent() {
    let backend = Backend::start_new("a");
    let setup = Setup::of(&[&backend])
        .top("access_log: { path: access.log }")
        .top("timeouts: { client_head: 1s }")
        .top("limits: { body: 1000 }");
    let ballast = setup.start();
    let host = "Host: test\r\n";
    let long = "a".repeat(40_000);
    let refused = [
        "no request\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".to_owned(),
        format!("GET / HTTP/1.1\r\n{host}bad field: 1\r\n\r\n"),
        format!("GET / HTTP/1.1\r\n{host}: 1\r\n\r\n"),
        format!("GET / HTTP/9.9\r\n{host}\r\n"),
        format!("GET http:// HTTP/1.1\r\n{host}\r\n"),
        format!("GET http://a:b:c/ HTTP/1.1\r\n{host}\r\n"),
        format!("CONNECT a:1 HTTP/1.1\r\n{host}\r\n"),
        format!("TRACE / HTTP/1.1\r\n{host}\r\n"),
        format!("POST / HTTP/1.1\r\n{host}Content-Length: x\r\n\r\n"),
        format!("POST / HTTP/1.1\r\n{host}Content-Length: 1\r\nContent-Length: 2\r\n\r\n"),
        format!("POST / HTTP/1.1\r\n{host}Content-Length: 5000\r\n\r\n"),
        format!("POST / HTTP/1.1\r\n{host}Transfer-Encoding: gzip\r\n\r\n"),
        format!("POST / HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\n\r\nzz\r\n"),
        format!("GET /{long} HTTP/1.1\r\n{host}\r\n"),
        format!("GET / HTTP/1.1\r\n{host}A: {long}\r\n\r\n"),
        format!("GET / HTTP/1.1\r\n{host}A"),
    ];
    let lines = |count: usize| {
        wait_for(SOON, "the lines are written", || {
            let text = fs::read_to_string(ballast.path("access.log")).ok()?;
            let lines = text
                .lines()
                .map(|line| serde_json::from_str::<Value>(line).expect("a line is an object"));
            let lines = Vec::from_iter(lines);
            (lines.len() >= count).then_some(lines)
        })
    };
    for (number, request) in refused.iter().enumerate() {
        let response = Client::connect(ballast.address()).request(request);
        let wire = response.expect("a response").status;
        let line = lines(number + 1).pop().expect("a line");
        let shown = request[..request.len().min(60)].escape_debug();
        assert!((400..=505).contains(&wire), "{wire} to {shown}");
        assert_eq!(line["status"], wire, "{shown}: {line}");
        if wire == 408 {
            let elapsed = line["total_ms"].as_f64().expect("a number");
            assert!((900.0..5_000.0).contains(&elapsed), "{line}");
        }
    }
    assert!(
        ballast.log_with(&["ERROR"]).is_empty(),
        "{:?}",
        ballast.log()
    );
}
