//! The clients of a pool in maintenance get 503 until an operator or the file ends it.

use std::net::IpAddr;

use serde_json::Value;

use crate::support::http2::Secure;
use crate::support::{Backend, Ballast, Client, SOON, Setup, get, wait_until};

#[track_caller]
fn assert_refused(ballast: &Ballast, args: &[&str], expected: &str) {
    let end = ballast.command(args);
    assert_eq!(end.code, Some(1), "{end:?}");
    assert!(end.stderr.contains(expected), "{expected}\n{end:?}");
}

fn client_of(ballast: &Ballast, source: &str) -> Client {
    let source: IpAddr = source.parse().expect("an address");
    Client::from_ip(source, ballast.address()).expect("connected")
}

#[track_caller]
fn assert_maintenance(ballast: &Ballast, text: &str, retry_after: &str) {
    let response = get(ballast.address(), "/");
    assert_eq!((response.status, response.text().as_str()), (503, text));
    assert_eq!(response.head.get("retry-after"), Some(retry_after));
}

#[track_caller]
fn assert_serves(ballast: &Ballast) {
    assert_eq!(get(ballast.address(), "/").backend(), "a");
}

#[test]
fn an_operator_begins_and_ends_maintenance() {
    let backend = Backend::start_new("a");
    let admin = crate::support::free();
    let ballast = Setup::of(&[&backend])
        .health("{ interval: 1s, timeout: 1s }")
        .top(&format!("admin: {{ address: \"{admin}\", hosts: [test] }}"))
        .start();
    let metric = |value: &str| {
        let metrics = get(admin, "/metrics").text();
        let line = format!("ballast_pool_maintenance{{pool=\"web\"}} {value}\n");
        assert!(metrics.contains(&line), "{line}\n{metrics}");
    };
    let pool = || {
        let pool = get(admin, "/api/v1/pools/web").text();
        serde_json::from_str::<Value>(&pool).expect("JSON")
    };
    metric("0");
    assert_eq!(pool()["maintenance"], Value::Null);
    let on = ["maintenance", "on", "web"];
    ballast.assert_output(
        &[
            &on[..],
            &[
                "--message",
                "back <b>at 10</b>",
                "--retry-after",
                "1m",
                "--allow",
                "127.0.0.7",
            ],
        ]
        .concat(),
        "pool web is in maintenance: back <b>at 10</b>; Retry-After 1m; served: 127.0.0.7/32",
    );
    assert_maintenance(&ballast, "503 back <b>at 10</b>\n", "60");
    assert_eq!(client_of(&ballast, "127.0.0.7").get("/").status, 200);
    metric("1");
    assert_eq!(pool()["maintenance"]["by_operator"], true);
    ballast.assert_output(&["status"], "web (maintenance)");
    ballast.assert_output(
        &["explain", "--client", "127.0.0.1"],
        "its pool is in maintenance, so it gets 503 (maintenance)",
    );
    ballast.assert_output(&["explain", "--client", "127.0.0.7"], "goes to");
    // Health checks go on.
    let seen = backend.accepted();
    wait_until(SOON, "a check", || backend.accepted() > seen);
    // A second command replaces the settings of the first.
    ballast.assert_output(&on, "the service is under maintenance; Retry-After 5m");
    assert_maintenance(&ballast, "503 the service is under maintenance\n", "300");
    assert_eq!(client_of(&ballast, "127.0.0.7").get("/").status, 503);
    let off = ["maintenance", "off", "web"];
    ballast.assert_output(&off, "pool web is no longer in maintenance");
    assert_serves(&ballast);
    metric("0");
    assert_refused(&ballast, &off, "the pool web is not in maintenance");
    assert_refused(
        &ballast,
        &["maintenance", "on", "wep"],
        "there is no pool `wep`",
    );
    assert_refused(
        &ballast,
        &[&on[..], &["--retry-after", "5"]].concat(),
        "retry_after: `5` has no unit",
    );
    assert_serves(&ballast);
    assert_eq!(
        ballast
            .log_with(&["pool web: maintenance by an operator: "])
            .len(),
        2
    );
    assert_eq!(
        ballast
            .log_with(&["an operator ended the maintenance"])
            .len(),
        1
    );
}

#[test]
fn the_file_begins_maintenance_with_its_page() {
    let backend = Backend::start_new("a");
    let setup = |maintenance: &str| {
        Setup::of(&[&backend])
            .pool(&format!("maintenance: {maintenance}"))
            .top("errors: { 503: { body: \"<h1>{message}\", type: text/html } }")
    };
    let secure = Secure::new();
    let over_tls = setup("true").top(&secure.listeners()).start();
    let response = secure.connect(over_tls.address()).get("/");
    let page = "<h1>the service is under maintenance";
    assert_eq!(
        (response.status, response.body.as_slice()),
        (503, page.as_bytes())
    );
    assert_eq!(response.field("retry-after"), "300");

    let ballast = setup("true").start();
    assert_maintenance(&ballast, page, "300");
    let own = "{ message: soon, page: { body: \"<h2>{message}\", type: text/html }, retry_after: 1500ms, allow: 127.0.0.7 }";
    ballast.reload_by_sighup(&setup(own).yaml());
    assert_maintenance(&ballast, "<h2>soon", "2");
    assert_eq!(client_of(&ballast, "127.0.0.7").get("/").status, 200);
    let json = Client::connect(ballast.address()).get_with("/", "Accept: application/json\r\n");
    assert!(
        json.text()
            .starts_with("{\"status\":503,\"error\":\"soon\","),
        "{}",
        json.text()
    );
    ballast.reload_by_sighup(&setup("false").yaml());
    assert_serves(&ballast);
    assert_eq!(backend.requests(), 2);
}

#[test]
fn maintenance_survives_reload_and_handover_until_the_file_changes_it() {
    let backend = Backend::start_new("a");
    let setup = |maintenance: &str, threads: u32| {
        Setup::of(&[&backend])
            .pool(&format!("maintenance: {maintenance}"))
            .top(&format!("server: {{ threads: {threads} }}"))
    };
    let ballast = setup("false", 2).start();
    let reload = |setup: &Setup, how: &str| {
        ballast.configure(&setup.yaml());
        let end = ballast.reload();
        assert_eq!(end.code, Some(0), "{end:?}");
        assert!(end.stdout.contains(how), "{how}\n{end:?}");
    };
    let on = ["maintenance", "on", "web", "--message", "soon"];
    ballast.assert_output(&on, "is in maintenance");
    ballast.reload_by_sighup(&setup("false", 2).algorithm("p2c").yaml());
    assert_maintenance(&ballast, "503 soon\n", "300");
    reload(&setup("false", 3), "handover");
    assert_maintenance(&ballast, "503 soon\n", "300");
    let in_file = "{ message: of the file }";
    reload(&setup(in_file, 3), "the operator's no longer applies");
    assert_maintenance(&ballast, "503 of the file\n", "300");
    ballast.assert_output(&["maintenance", "off", "web"], "no longer");
    reload(&setup(in_file, 2), "handover");
    assert_serves(&ballast);
    reload(&setup("false", 2), "the operator's no longer applies");
    reload(&setup("true", 2), "maintenance");
    assert_maintenance(&ballast, "503 the service is under maintenance\n", "300");
}
