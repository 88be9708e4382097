//! The API: what it reports and what it changes, over the control socket and over TCP.

use std::fs::Permissions;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{
    Backend, Ballast, Client, Connections, DeadHost, Load, Reply, SOON, Setup, file, free, get,
    wait_until,
};

const TOKEN: &str = "a-token-of-more-than-16-bytes";
const CHECK: &str = "{ interval: 1s, timeout: 1s, rise: 1, fall: 1 }";

/// Sends a request over the control socket. An empty response body becomes null.
#[track_caller]
fn ask(ballast: &Ballast, method: &str, path: &str, body: &str) -> (u16, Value) {
    let socket = ballast.file_with_suffix(".sock");
    let mut stream = UnixStream::connect(socket).expect("the control socket exists");
    stream.set_read_timeout(Some(SOON)).expect("not zero");
    let length = body.len();
    let request =
        format!("{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{body}");
    stream.write_all(request.as_bytes()).expect("sent");
    let mut response = String::new();
    stream
        .read_to_string(&mut response)
        .expect("a complete response");
    let (head, body) = response.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).and_then(|word| word.parse().ok());
    let body = serde_json::from_str(body).unwrap_or(Value::Null);
    (status.expect("a status"), body)
}

#[track_caller]
fn read(ballast: &Ballast, path: &str) -> Value {
    let (status, body) = ask(ballast, "GET", path, "");
    assert_eq!(status, 200, "{path}: {body}");
    body
}

#[track_caller]
fn assert_refused(response: (u16, Value), status: u16, reason: &str) {
    let error = response.1["error"].as_str().unwrap_or_default();
    assert_eq!(response.0, status, "{}", response.1);
    assert!(error.contains(reason), "{reason}\n{error}");
    assert!(!error.contains('\n'), "{error}");
}

fn host_path(host: &str) -> String {
    format!("/api/v1/pools/web/hosts/{}", host.replace(':', "%3A"))
}

fn host(ballast: &Ballast, backend: &Backend) -> Value {
    read(ballast, &host_path(&backend.address().to_string()))
}

#[track_caller]
fn wait_for_state(ballast: &Ballast, backend: &Backend, state: &str) -> Value {
    wait_until(SOON, state, || host(ballast, backend)["state"] == state);
    host(ballast, backend)
}

fn kinds(ballast: &Ballast) -> Vec<String> {
    let events = read(ballast, "/api/v1/events");
    let events = events["events"].as_array().cloned().unwrap_or_default();
    let kinds = events.iter().filter_map(|event| event["kind"].as_str());
    kinds.map(str::to_owned).collect()
}

#[test]
fn hosts_show_their_state_and_its_reason() {
    let [a, b] = ["a", "b"].map(Backend::start_new);
    let dead = DeadHost::new();
    let ballast = Setup::of(&[&a, &b])
        .host(dead.address())
        .health(CHECK)
        .pool("slow_start: none")
        .start();
    let up = wait_for_state(&ballast, &a, "up");
    assert_eq!(
        (&up["reason"], &up["serving"]),
        (&json!("checks pass"), &json!(true))
    );
    assert_eq!(up["last_check"]["good"], true);
    let down = read(&ballast, &host_path(&dead.address().to_string()));
    assert_eq!(down["state"], "down");
    assert_eq!(down["reason"], "check failed: connection refused");
    let since = down["since"].as_str().expect("a time").to_owned();
    assert!(since.ends_with('Z') && since.contains('T'), "{since}");
    let drain = format!("{}/drain", host_path(&b.address().to_string()));
    let (status, drained) = ask(&ballast, "POST", &drain, "");
    assert_eq!((status, &drained["state"]), (200, &json!("draining")));
    assert_eq!(drained["operator"], json!(["drained"]));
    for _ in 0..5 {
        assert_eq!(get(ballast.address(), "/").status, 200);
    }
    wait_until(SOON, "the requests are counted", || {
        read(&ballast, "/api/v1/pools/web")["requests"] == 5
    });
    assert_eq!(host(&ballast, &a)["requests"], 5);
    a.stop();
    let down = wait_for_state(&ballast, &a, "down");
    let reason = down["reason"].as_str().expect("a reason");
    assert!(reason.contains("connection refused"), "{reason}");
    // The other host drains, and is the last resort.
    wait_until(SOON, "the drained host serves", || {
        host(&ballast, &b)["serving"] == true
    });
    let kinds = kinds(&ballast);
    assert!(
        kinds.ends_with(&["drained".to_owned(), "down".to_owned()]),
        "{kinds:?}"
    );
    let events = read(&ballast, "/api/v1/events?after=1");
    assert_eq!(events["events"][0]["number"], 2);
    let status = read(&ballast, "/api/v1/status");
    assert_eq!(
        status["pools"][0]["hosts"].as_array().map(Vec::len),
        Some(3)
    );
    assert_eq!(status["writable"], true);
    assert_eq!(status["config"]["hash"].as_str().map(str::len), Some(64));
}

#[test]
fn an_ejected_host_shows_the_reason_and_the_remaining_time() {
    let [a, b] = ["a", "b"].map(Backend::start_new);
    b.set(Reply::status(500));
    let ballast = Setup::of(&[&a, &b])
        .pool("ejection: { consecutive: 2, base: 60s }")
        .pool("retries: none")
        .start();
    wait_until(SOON, "the host is ejected", || {
        get(ballast.address(), "/");
        host(&ballast, &b)["state"] == "ejected"
    });
    let ejected = host(&ballast, &b);
    let reason = ejected["reason"].as_str().expect("a reason");
    assert!(
        reason.starts_with("ejected: 2 failures in a row, the last: status 500; "),
        "{reason}"
    );
    let left = ejected["ejected_for_seconds"].as_f64().expect("a time");
    assert!((50.0..=60.0).contains(&left), "{left}");
    assert_eq!(ejected["errors"], 2);
    // A rebuilt pool keeps the ejection of the host.
    let (status, _) = ask(
        &ballast,
        "PATCH",
        &host_path(&a.address().to_string()),
        r#"{"weight":2}"#,
    );
    assert_eq!(status, 200);
    let after = host(&ballast, &b);
    assert_eq!(
        (&after["state"], &after["since"]),
        (&json!("ejected"), &ejected["since"])
    );
    assert_eq!(after["errors"], 2);
}

#[test]
fn an_added_host_serves_after_its_first_good_check() {
    let [a, b] = ["a", "b"].map(Backend::start_new);
    let dead = DeadHost::new();
    let ballast = Setup::of(&[&a])
        .health(CHECK)
        .pool("slow_start: none")
        .start();
    let add = |address: SocketAddr| {
        let body = format!(r#"{{"address":"{address}","weight":3}}"#);
        ask(&ballast, "POST", "/api/v1/pools/web/hosts", &body)
    };
    let (status, added) = add(b.address());
    assert_eq!((status, &added["state"]), (201, &json!("up")), "{added}");
    assert_eq!(added["operator"], json!(["added"]));
    assert_eq!(added["configured_weight"], Value::Null);
    let (status, added) = add(dead.address());
    assert_eq!((status, &added["serving"]), (201, &json!(false)), "{added}");
    wait_until(SOON, "the added host serves", || {
        get(ballast.address(), "/").backend() == "b"
    });
    assert_refused(add(b.address()), 409, "has a host");
    let (status, removed) = ask(&ballast, "DELETE", &host_path(&b.address().to_string()), "");
    assert_eq!(
        (status, removed),
        (
            200,
            json!({ "removed": b.address().to_string(), "in_flight": 0 })
        )
    );
    for _ in 0..10 {
        assert_eq!(get(ballast.address(), "/").backend(), "a");
    }
    let kinds = kinds(&ballast);
    assert!(
        kinds.contains(&"added".to_owned()) && kinds.contains(&"removed".to_owned()),
        "{kinds:?}"
    );
}

#[test]
fn requests_on_a_removed_host_finish_and_the_last_host_stays() {
    let [a, b] = ["a", "b"].map(Backend::start_new);
    let ballast = Setup::of(&[&a, &b]).start();
    for backend in [&a, &b] {
        backend.set(Reply::ok().body("end").after(Duration::from_millis(700)));
    }
    let mut clients = [(); 2].map(|()| {
        let mut client = Client::connect(ballast.address());
        client
            .send("GET / HTTP/1.1\r\nHost: test\r\n\r\n")
            .expect("sent");
        client
    });
    wait_until(SOON, "each host has a request", || {
        (a.requests(), b.requests()) == (1, 1)
    });
    let path = host_path(&b.address().to_string());
    let (status, removed) = ask(&ballast, "DELETE", &path, "");
    assert_eq!((status, &removed["in_flight"]), (200, &json!(1)));
    for client in &mut clients {
        assert_eq!(
            client
                .read_response(false)
                .expect("a complete response")
                .text(),
            "end"
        );
    }
    let last = host_path(&a.address().to_string());
    assert_refused(
        ask(&ballast, "DELETE", &last, ""),
        409,
        "the last usable host",
    );
    assert_refused(
        ask(&ballast, "DELETE", &format!("{last}?force=1"), ""),
        400,
        "force",
    );
    let pool = read(&ballast, "/api/v1/pools/web");
    assert_eq!(pool["hosts"][1]["state"], "removed");
    assert_eq!(
        ask(&ballast, "DELETE", &format!("{last}?force=true"), "").0,
        200
    );
    assert_eq!(get(ballast.address(), "/").status, 503);
    let body = format!(r#"{{"address":"{}"}}"#, a.address());
    assert_eq!(
        ask(&ballast, "POST", "/api/v1/pools/web/hosts", &body).0,
        201
    );
    assert_eq!(get(ballast.address(), "/").backend(), "a");
}

#[test]
fn file_edits_override_operator_changes_which_survive_other_reloads() {
    let [a, b, c] = ["a", "b", "c"].map(Backend::start_new);
    let setup = |weight: u32, more: &str| {
        Setup::of(&[&a])
            .host_entry(&format!(
                "{{ address: \"{}\", weight: {weight} }}",
                b.address()
            ))
            .pool("slow_start: none")
            .top(more)
    };
    let ballast = setup(1, "").start();
    let [of_a, of_b, of_c] = [&a, &b, &c].map(|backend| host_path(&backend.address().to_string()));
    assert_eq!(ask(&ballast, "PATCH", &of_b, r#"{"weight":5}"#).0, 200);
    let body = format!(r#"{{"address":"{}"}}"#, c.address());
    assert_eq!(
        ask(&ballast, "POST", "/api/v1/pools/web/hosts", &body).0,
        201
    );
    assert_eq!(ask(&ballast, "DELETE", &of_a, "").0, 200);
    let as_changed = |what: &str| {
        let changed = read(&ballast, &of_b);
        assert_eq!(changed["operator"], json!(["weight 5 (file: 1)"]), "{what}");
        assert_eq!(
            read(&ballast, &of_c)["operator"],
            json!(["added"]),
            "{what}"
        );
        assert_eq!(ask(&ballast, "GET", &of_a, "").0, 404, "{what}");
    };
    as_changed("at once");
    ballast.reload_by_sighup(&setup(1, "").algorithm("p2c").yaml());
    as_changed("after a reload");
    ballast.configure(&setup(1, "server: { threads: 3 }").yaml());
    let end = ballast.reload();
    assert!(end.stdout.contains("handover"), "{end:?}");
    as_changed("after a handover");
    let line = ballast.command(&["reload"]);
    assert!(line.stdout.contains("nothing changed"), "{line:?}");
    ballast.configure(&setup(2, "server: { threads: 3 }").host(c.address()).yaml());
    let end = ballast.reload();
    assert!(
        end.stdout
            .contains("the operator's weight no longer applies"),
        "{end:?}"
    );
    let edited = read(&ballast, &of_b);
    assert_eq!(
        (&edited["weight"], &edited["operator"]),
        (&json!(2), &json!([]))
    );
    assert_eq!(read(&ballast, &of_c)["operator"], json!([]));
    // The operator did not edit the entry of this host in the file.
    assert_eq!(ask(&ballast, "GET", &of_a, "").0, 404);
    assert_refused(
        ask(
            &ballast,
            "POST",
            "/api/v1/pools/web/hosts",
            &format!(r#"{{"address":"{}","backup":true}}"#, a.address()),
        ),
        409,
        "only with the settings of the file",
    );
    let body = format!(r#"{{"address":"{}"}}"#, a.address());
    assert_eq!(
        ask(&ballast, "POST", "/api/v1/pools/web/hosts", &body).0,
        201
    );
    assert_eq!(read(&ballast, &of_a)["operator"], json!([]));
}

#[test]
fn a_hundred_changes_under_load_fail_no_request() {
    let [a, b, c] = ["a", "b", "c"].map(Backend::start_new);
    let ballast = Setup::of(&[&a, &b]).algorithm("p2c").health(CHECK).start();
    let load = Load::start_paced(
        ballast.address(),
        4,
        Connections::Kept,
        Duration::from_millis(1),
    );
    let of_b = host_path(&b.address().to_string());
    let of_c = host_path(&c.address().to_string());
    let body = format!(r#"{{"address":"{}"}}"#, c.address());
    for round in 0..25 {
        let weight = format!(r#"{{"weight":{}}}"#, round % 5 + 1);
        for (method, path, body, wanted) in [
            ("POST", "/api/v1/pools/web/hosts", &*body, 201),
            ("PATCH", &of_c, &*weight, 200),
            ("PATCH", &of_b, &*weight, 200),
            ("DELETE", &of_c, "", 200),
        ] {
            let (status, body) = ask(&ballast, method, path, body);
            assert_eq!(status, wanted, "{method} {path}: {body}");
        }
    }
    let tally = load.stop();
    tally.assert_all_ok("a hundred changes");
    let pool = read(&ballast, "/api/v1/pools/web");
    assert_eq!(pool["requests"], tally.total());
}

#[test]
fn invalid_requests_get_a_reason() {
    let a = Backend::start_new("a");
    let ballast = Setup::of(&[&a]).start();
    let of_a = host_path(&a.address().to_string());
    for (method, path, body, status, reason) in [
        (
            "GET",
            "/api/v1/nothing",
            "",
            404,
            "no path `/api/v1/nothing`",
        ),
        ("GET", "/api/v1/pools/other", "", 404, "no pool `other`"),
        ("GET", "/api/v1/pools/%ff", "", 400, "not UTF-8"),
        (
            "GET",
            "/api/v1/pools/web/hosts/x%3A1",
            "",
            404,
            "does not have a host `x:1`",
        ),
        (
            "PATCH",
            "/api/v1/pools/web/hosts/x%3A1",
            r#"{"weight":1}"#,
            404,
            "does not have a host",
        ),
        (
            "POST",
            "/api/v1/pools/web/hosts/x%3A1/drain",
            "",
            404,
            "does not have a host",
        ),
        (
            "DELETE",
            "/api/v1/pools/none/hosts/x%3A1",
            "",
            404,
            "no pool `none`",
        ),
        ("PATCH", &of_a, "weight", 400, "the body is not valid"),
        (
            "PATCH",
            &of_a,
            r#"{"weight":1,"wait":2}"#,
            400,
            "unknown field `wait`",
        ),
        (
            "PATCH",
            &of_a,
            r#"{"weight":10001}"#,
            400,
            "10001 is above 10000",
        ),
        ("PATCH", &of_a, r#"{"weight":-1}"#, 400, "`-1`"),
        (
            "POST",
            "/api/v1/pools/web/hosts",
            r#"{"address":"http://x"}"#,
            400,
            "is a URL",
        ),
        (
            "POST",
            "/api/v1/pools/web/hosts",
            r#"{"address":"x.invalid:1"}"#,
            400,
            "cannot resolve",
        ),
        (
            "POST",
            "/api/v1/pools/web/hosts",
            "{}",
            400,
            "missing field `address`",
        ),
        (
            "GET",
            "/api/v1/events?after=x",
            "",
            400,
            "`x` is not an event number",
        ),
        ("POST", "/api/v1/drain", "", 400, "the query has no host"),
        (
            "PUT",
            "/api/v1/log-level",
            r#"{"level":"loud"}"#,
            400,
            "loud",
        ),
        (
            "DELETE",
            "/api/v1/status",
            "",
            405,
            "accepts only GET, HEAD",
        ),
        ("GET", "/api/v1/reload", "", 405, "accepts only POST"),
    ] {
        assert_refused(ask(&ballast, method, path, body), status, reason);
    }
    let long = format!(r#"{{"weight":1,"x":"{}"}}"#, "x".repeat(70_000));
    assert_refused(
        ask(&ballast, "PATCH", &of_a, &long),
        413,
        "larger than 65536 bytes",
    );
}

/// A process with an admin listener that requires a token, and the listener's address.
fn with_token() -> (Backend, Ballast, SocketAddr) {
    let backend = Backend::start_new("a");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let token = folder.path().join("token");
    std::fs::write(&token, TOKEN).expect("written");
    std::fs::set_permissions(&token, Permissions::from_mode(0o600)).expect("set");
    let admin = free();
    let ballast = Setup::of(&[&backend])
        .top(&format!(
            "admin: {{ address: \"{admin}\", token_file: {}, hosts: [lb.internal], ready: {{ usable: 1 }} }}",
            token.display()
        ))
        .start();
    wait_until(SOON, "the process is ready", || {
        over_tcp(admin, "GET", "/ready", "x", "").0 == 200
    });
    (backend, ballast, admin)
}

/// Sends a request over TCP with further header fields. Each field ends with `\r\n`.
#[track_caller]
fn over_tcp(admin: SocketAddr, method: &str, path: &str, host: &str, fields: &str) -> (u16, Value) {
    let Ok(mut client) = Client::try_connect(admin) else {
        return (0, Value::Null);
    };
    let body = r#"{"weight":2}"#;
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {host}\r\n{fields}Content-Length: {length}\r\n\r\n{body}"
    );
    let response = client.request(request).expect("a response");
    (
        response.status,
        serde_json::from_str(&response.text()).unwrap_or(Value::Null),
    )
}

#[test]
fn tcp_writes_need_the_token() {
    let (backend, _ballast, admin) = with_token();
    let path = host_path(&backend.address().to_string());
    let write = |fields: &str| over_tcp(admin, "PATCH", &path, "127.0.0.1", fields);
    assert_refused(write(""), 401, "needs the token");
    assert_refused(write("Authorization: Bearer wrong\r\n"), 401, "wrong token");
    assert_refused(
        write("Authorization: Basic YTpi\r\n"),
        401,
        "needs the token",
    );
    let token = format!("Authorization: Bearer {}\r\n", TOKEN);
    let (status, weighed) = write(&token);
    assert_eq!((status, &weighed["weight"]), (200, &json!(2)), "{weighed}");
    let (status, body) = over_tcp(admin, "GET", "/api/v1/status", "localhost:1", "");
    assert_eq!((status, &body["writable"]), (200, &json!(true)));
    assert_refused(
        over_tcp(admin, "GET", "/api/v1/status", "evil.example", ""),
        403,
        "is not in admin.hosts",
    );
    assert_eq!(
        over_tcp(admin, "GET", "/api/v1/status", "lb.internal:9", "").0,
        200
    );
    let (status, config) = over_tcp(admin, "GET", "/api/v1/config", "localhost", "");
    assert_eq!(status, 200);
    assert!(!config.to_string().contains(TOKEN), "{config}");
}

#[test]
fn tcp_without_a_token_is_read_only() {
    let backend = Backend::start_new("a");
    let admin = free();
    let _ballast = Setup::of(&[&backend])
        .top(&format!("admin: {{ address: \"{admin}\" }}"))
        .start();
    wait_until(SOON, "the process is ready", || {
        over_tcp(admin, "GET", "/ready", "x", "").0 == 200
    });
    for path in ["/api/v1/reload", "/api/v1/drain?host=x"] {
        assert_refused(
            over_tcp(admin, "POST", path, "localhost", ""),
            403,
            "set admin.token_file",
        );
    }
    let (_, status) = over_tcp(admin, "GET", "/api/v1/status", "localhost", "");
    assert_eq!(status["writable"], false);
}

#[test]
fn a_token_that_others_can_read_is_refused() {
    let backend = Backend::start_new("a");
    let ballast = Setup::of(&[&backend]).start();
    let token = ballast.path("token");
    std::fs::write(&token, TOKEN).expect("written");
    std::fs::set_permissions(&token, Permissions::from_mode(0o644)).expect("set");
    let line = ballast.reload_by_sighup(
        &Setup::of(&[&backend])
            .top("admin: { token_file: token }")
            .yaml(),
    );
    assert!(line.contains("its mode is 0644"), "{line}");
    std::fs::set_permissions(&token, Permissions::from_mode(0o600)).expect("set");
    let line = ballast.reload_by_sighup(
        &Setup::of(&[&backend])
            .top("admin: { token_file: token }")
            .yaml(),
    );
    assert!(line.contains("admin.token_file changed"), "{line}");
}

#[test]
fn a_pool_with_too_few_usable_hosts_is_not_ready() {
    let [a, b] = ["a", "b"].map(Backend::start_new);
    let admin = free();
    let _ballast = Setup::of(&[&a, &b])
        .health(CHECK)
        .top(&format!(
            "admin: {{ address: \"{admin}\", ready: {{ usable: 2 }} }}"
        ))
        .start();
    let ready = || over_tcp(admin, "GET", "/ready", "x", "").0;
    wait_until(SOON, "the process is ready", || ready() == 200);
    b.stop();
    wait_until(SOON, "the process is not ready", || ready() == 503);
    b.start();
    wait_until(SOON, "the process is ready again", || ready() == 200);
}

#[test]
fn the_log_level_changes_at_run_time() {
    let a = Backend::start_new("a");
    let ballast = Setup::of(&[&a]).start();
    assert_eq!(
        read(&ballast, "/api/v1/log-level"),
        json!({ "level": "info" })
    );
    let (status, _) = ask(&ballast, "PUT", "/api/v1/log-level", r#"{"level":"warn"}"#);
    assert_eq!(status, 200);
    let drain = format!("{}/drain", host_path(&a.address().to_string()));
    assert_eq!(ask(&ballast, "POST", &drain, "").0, 200);
    let (status, body) = ask(
        &ballast,
        "PUT",
        "/api/v1/log-level",
        r#"{"level":"ballast=debug,info"}"#,
    );
    assert_eq!(
        (status, &body["level"]),
        (200, &json!("ballast=debug,info"))
    );
    let undrain = format!("{}/undrain", host_path(&a.address().to_string()));
    assert_eq!(ask(&ballast, "POST", &undrain, "").0, 200);
    ballast.wait_for_log(&["is no longer drained"]);
    assert!(ballast.log_with(&[" drains"]).is_empty());
    assert_eq!(
        kinds(&ballast)
            .iter()
            .filter(|kind| *kind == "level")
            .count(),
        2
    );
}

/// The process serves every path and method of the description, and each response is as described.
#[test]
fn responses_match_the_openapi_description() {
    let a = Backend::start_new("a");
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let found = DeadHost::new();
    let list = file(
        folder.path(),
        "web.hosts",
        &format!("{}\n", found.address()),
    );
    let state = folder.path().join("state");
    let ballast = Setup::of(&[&a])
        .top(&format!(
            "discovery: {{ state_directory: {} }}",
            state.display()
        ))
        .pool(&format!("hosts_file: {}", list.display()))
        .pool("sticky: { cookie: c }")
        .algorithm("{ name: consistent_hash, key: path }")
        .health(CHECK)
        .start();
    assert_eq!(get(ballast.address(), "/").status, 200);
    let description: Value =
        serde_yaml::from_str(include_str!("../../conf/openapi.yaml")).expect("YAML");
    let paths = description["paths"].as_object().expect("paths");
    for (template, methods) in paths {
        let path = template
            .replace("{pool}", "web")
            .replace("{host}", &a.address().to_string());
        for (method, operation) in methods.as_object().expect("methods") {
            if operation["x-streams"] == true {
                continue;
            }
            let example = &operation["requestBody"]["content"]["application/json"]["example"];
            let body = match example {
                Value::Null => String::new(),
                example => example.to_string(),
            };
            let method = method.to_uppercase();
            let (status, document) = ask(&ballast, &method, &path, &body);
            assert!(status != 405, "{method} {path}");
            let response = &operation["responses"][status.to_string()];
            assert!(response.is_object(), "{method} {path}: {status} {document}");
            let response = match response["$ref"].as_str() {
                Some(name) => resolve(&description, name),
                None => response,
            };
            let schema = &response["content"]["application/json"]["schema"];
            if schema.is_object() {
                assert_matches_schema(&description, schema, &document, &format!("{method} {path}"));
            }
        }
    }
}

/// A plan without a change would show little of its form.
#[test]
fn a_plan_matches_its_description() {
    let [a, b] = ["a", "b"].map(Backend::start_new);
    let ballast = Setup::of(&[&a]).algorithm("ip_hash").start();
    let changed = Setup::of(&[&b]).algorithm("bounded").health(CHECK);
    let listeners = format!("listeners: [\"{}\"]", free());
    ballast.configure(&changed.top(&listeners).yaml());
    let description: Value =
        serde_yaml::from_str(include_str!("../../conf/openapi.yaml")).expect("YAML");
    let plan = read(&ballast, "/api/v1/plan");
    let pool = &plan["pools"][0];
    assert!(pool["keys"].is_object(), "{plan}");
    assert_eq!(pool["hosts"].as_array().map(Vec::len), Some(2), "{plan}");
    let schema = resolve(&description, "/components/schemas/Plan");
    assert_matches_schema(&description, schema, &plan, "a plan");
}

fn resolve<'a>(description: &'a Value, name: &str) -> &'a Value {
    let found = description.pointer(name.trim_start_matches('#'));
    found.unwrap_or_else(|| panic!("{name} is not there"))
}

/// Checks a value against a schema. Supports as much of JSON Schema as the description uses.
#[track_caller]
fn assert_matches_schema(description: &Value, schema: &Value, value: &Value, at: &str) {
    if let Some(name) = schema["$ref"].as_str() {
        return assert_matches_schema(description, resolve(description, name), value, at);
    }
    for part in schema["allOf"].as_array().into_iter().flatten() {
        assert_matches_schema(description, part, value, at);
    }
    // Either a value or null.
    if let Some(alternatives) = schema["oneOf"].as_array() {
        let is_null = |schema: &&Value| (schema["type"] == "null") == value.is_null();
        let found = alternatives.iter().find(is_null);
        let found = found.unwrap_or_else(|| panic!("{at}: {value} is no alternative"));
        return assert_matches_schema(description, found, value, at);
    }
    if let Some(known) = schema["enum"].as_array() {
        assert!(known.contains(value), "{at}: {value} is none of {known:?}");
    }
    let types = match &schema["type"] {
        Value::String(name) => vec![name.as_str()],
        Value::Array(names) => names.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let found = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let fits = types.contains(&found) || (found == "integer" && types.contains(&"number"));
    assert!(types.is_empty() || fits, "{at}: {value} is no {types:?}");
    if let Value::Array(items) = value {
        for item in items.iter().filter(|_| schema["items"].is_object()) {
            assert_matches_schema(description, &schema["items"], item, at);
        }
    }
    let (Value::Object(fields), Some(known)) = (value, schema["properties"].as_object()) else {
        return;
    };
    for name in schema["required"].as_array().into_iter().flatten() {
        let name = name.as_str().expect("a name");
        assert!(
            fields.contains_key(name),
            "{at}: `{name}` is missing in {value}"
        );
    }
    let closed = schema["additionalProperties"] == false;
    for (name, value) in fields {
        match known.get(name) {
            Some(schema) => {
                assert_matches_schema(description, schema, value, &format!("{at}: {name}"))
            }
            None => assert!(!closed, "{at}: `{name}` is not described"),
        }
    }
}
