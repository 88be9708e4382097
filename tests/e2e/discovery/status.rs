//! What people see of sources: status, API, metrics, `explain` and the dashboard.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::hosts_file::{replace, with_file};
use crate::admin::with_admin;
use crate::dashboard::opened;
use crate::metrics::scrape::Scrape;
use crate::support::{Backend, Ballast, Client, HEALTH_PATH, Reply, SOON, Setup, get, wait_until};

fn file(folder: &TempDir) -> PathBuf {
    folder.path().join("web.hosts")
}

/// The source as hosts, the log and the metrics have it.
fn source(folder: &TempDir) -> String {
    format!("file {}", file(folder).display())
}

fn name(backend: &Backend) -> String {
    backend.address().to_string()
}

/// The pool in the status of the process.
fn pool(ballast: &Ballast) -> Value {
    let shown = ballast.command(&["status", "--json"]).stdout;
    let shown: Value = serde_json::from_str(&shown).unwrap_or_default();
    shown["pools"][0].clone()
}

fn host(ballast: &Ballast, backend: &Backend) -> Value {
    let pool = pool(ballast);
    let mut hosts = pool["hosts"].as_array().into_iter().flatten();
    let host = hosts.find(|host| host["id"] == name(backend));
    host.cloned().unwrap_or_default()
}

fn ask(admin: SocketAddr, path: &str) -> (u16, String) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let response = Client::connect(admin).request(request);
    let response = response.expect("a complete response");
    (response.status, response.text())
}

#[test]
fn each_host_and_each_source_says_where_it_comes_from() {
    let [a, b, c] = ["a", "b", "c"].map(Backend::start_new);
    let folder = TempDir::new().expect("a folder");
    let setup = with_file(
        &folder,
        &format!("- {{ address: {}, name: blue }}\n", name(&b)),
    );
    let (setup, admin) = with_admin(setup.host(a.address()));
    let ballast = setup.start();
    let added = ballast.command(&["host", "add", &name(&c), "--pool", "web"]);
    assert_eq!(added.code, Some(0), "{}", added.stderr);
    let source = source(&folder);
    for (backend, expected) in [(&a, "configuration"), (&b, &*source), (&c, "operator")] {
        let host = host(&ballast, backend);
        assert_eq!(host["source"], expected, "{host}");
        assert_eq!(
            (&host["server_name"], &host["labels"], &host["leaving"]),
            (&Value::Null, &json!({}), &json!(false))
        );
    }

    let known = pool(&ballast)["sources"].clone();
    let known = known[0].as_object().expect("a source");
    assert_eq!(
        (&known["source"], &known["kind"], &known["name"]),
        (
            &json!(source),
            &json!("file"),
            &json!(file(&folder).display().to_string())
        )
    );
    assert_eq!(known["hosts"], 1);
    assert!(
        known["confirmed"]
            .as_str()
            .is_some_and(|time| time.ends_with('Z'))
    );
    assert!(known["age_seconds"].as_f64().is_some_and(|age| age < 60.0));
    assert_eq!(
        (&known["stale"], &known["error"], &known["ttl_seconds"]),
        (&json!(false), &Value::Null, &Value::Null)
    );
    assert_eq!(known["answers"]["failed"], 0);
    assert!(
        known["answers"]["good"]
            .as_u64()
            .is_some_and(|count| count >= 1)
    );
    // The same wherever the API has the pool.
    for (path, pointer) in [
        ("/api/v1/pools", "/0/sources/0"),
        ("/api/v1/pools/web", "/sources/0"),
    ] {
        let (status, text) = ask(admin, path);
        let shown: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(status, 200);
        let shown = shown.pointer(pointer);
        assert_eq!(
            shown.map(|shown| &shown["source"]),
            Some(&json!(source)),
            "{text}"
        );
    }

    let shown = ballast.command(&["status"]).stdout;
    let line = format!("source {source}: 1 host, confirmed ");
    assert!(
        shown.lines().any(|shown| shown.starts_with(&line)),
        "{shown}"
    );
    let mut rows = shown.lines().filter(|line| line.contains(&name(&b)));
    assert!(rows.all(|row| row.contains(&source)), "{shown}");
    assert!(
        shown.lines().any(|line| line.contains("  SOURCE")),
        "{shown}"
    );
    let narrow = ballast
        .prepare_command(&["status"])
        .env("COLUMNS", "60")
        .output();
    let narrow = String::from_utf8(narrow.expect("it runs").stdout).expect("UTF-8");
    assert!(narrow.contains("source file "), "{narrow}");
    assert!(
        narrow.lines().all(|line| line.chars().count() <= 60),
        "{narrow}"
    );

    let tried = [name(&a), name(&c)];
    let explain = [
        "explain", "--pool", "web", "--tried", &tried[0], "--tried", &tried[1],
    ];
    let explained = ballast.command(&explain).stdout;
    let line = format!("found by {source}");
    // A line has at most 100 characters.
    let line: String = line.chars().take(99).collect();
    assert!(
        explained.lines().any(|shown| shown.starts_with(&line)),
        "{explained}"
    );
    let explained = ballast
        .command(&[&explain[..], &["--json"]].concat())
        .stdout;
    let explained: Value = serde_json::from_str(&explained).expect("JSON");
    let mut candidates = explained["candidates"].as_array().into_iter().flatten();
    let candidate = candidates.find(|candidate| candidate["host"] == name(&b));
    assert_eq!(
        candidate.map(|shown| &shown["source"]),
        Some(&json!(source))
    );

    let scrape = Scrape::of(admin);
    let labels = [("source", &*source)];
    let value = |name: &str| scrape.sum(&format!("ballast_source_{name}"), &labels);
    assert_eq!((value("hosts"), value("stale")), (1.0, 0.0));
    assert!(value("age_seconds") < 60.0 && value("answers_total") >= 1.0);
}

#[test]
fn hosts_of_an_earlier_process_are_stale_until_their_source_answers() {
    let [a, b] = ["a", "b"].map(Backend::start_new);
    let folder = TempDir::new().expect("a folder");
    let (setup, admin) = with_admin(with_file(&folder, &format!("{}\n", name(&a))));
    let ballast = setup.start();
    wait_until(SOON, "the list is kept", || {
        let kept = fs::read_dir(folder.path().join("state"))
            .into_iter()
            .flatten();
        kept.flatten()
            .any(|file| file.path().extension().is_some_and(|end| end == "json"))
    });
    drop(ballast);
    fs::remove_file(file(&folder)).expect("removed");
    let ballast = setup.start();
    let source = source(&folder);
    let known = pool(&ballast)["sources"][0].clone();
    assert_eq!(
        (&known["hosts"], &known["stale"]),
        (&json!(1), &json!(true))
    );
    let error = known["error"].as_str().unwrap_or_default();
    assert!(error.starts_with("cannot read it: "), "{known}");
    let shown = ballast.command(&["status"]).stdout;
    let line = shown.lines().find(|line| line.starts_with("source "));
    let line = line.expect("a line of the source");
    assert!(line.contains("1 host, confirmed "), "{line}");
    assert!(
        line.contains(" (stale: by an earlier process); cannot read it: "),
        "{line}"
    );
    let stale = || Scrape::of(admin).sum("ballast_source_stale", &[("source", &source)]);
    assert_eq!(stale(), 1.0);
    let failed = [("source", &*source), ("outcome", "failed")];
    assert!(Scrape::of(admin).sum("ballast_source_answers_total", &failed) >= 1.0);

    replace(&file(&folder), &format!("{}\n", name(&b)));
    wait_until(SOON, "the source answers", || {
        let known = pool(&ballast)["sources"][0].clone();
        known["stale"] == false && known["error"].is_null()
    });
    assert_eq!(stale(), 0.0);
}

#[test]
fn a_host_that_leaves_says_so_until_it_is_gone() {
    let [a, b] = ["a", "b"].map(Backend::start_new);
    b.set_health(Reply::status(500));
    let folder = TempDir::new().expect("a folder");
    let check = "interval: 1s, timeout: 1s, rise: 1, fall: 1";
    let ballast = with_file(&folder, &format!("{}\n", name(&a)))
        .health(&format!("{{ type: http, path: {HEALTH_PATH}, {check} }}"))
        .start();
    assert_eq!(get(ballast.address(), "/").backend(), "a");
    replace(&file(&folder), &format!("{}\n", name(&b)));
    wait_until(SOON, "the host leaves", || {
        host(&ballast, &a)["leaving"] == true
    });
    let reason = host(&ballast, &a)["reason"].clone();
    let reason = reason.as_str().unwrap_or_default();
    assert!(
        reason.ends_with("; its source does not name it any more"),
        "{reason}"
    );
    assert_eq!(host(&ballast, &b)["leaving"], false);
    b.set_health(Reply::ok());
    wait_until(SOON, "the host is gone", || host(&ballast, &a).is_null());
    assert_eq!(host(&ballast, &b)["leaving"], false);
}

#[test]
fn a_source_that_never_answered_makes_a_process_unready_only_where_the_file_says_so() {
    let a = Backend::start_new("a");
    let folder = TempDir::new().expect("a folder");
    let (setup, admin) = with_admin(with_file(&folder, ""));
    let ready = || ask(admin, "/ready").0;
    let ballast = setup.start();
    wait_until(SOON, "the process is ready", || ready() == 200);
    assert_eq!(get(ballast.address(), "/").status, 503);
    let shown = ballast.command(&["status"]).stdout;
    let line = format!(
        "source {}: no hosts yet; its answer is empty",
        source(&folder)
    );
    assert!(shown.lines().any(|shown| shown == line), "{shown}");
    let (section, required) = (
        format!("{admin}\" }}"),
        format!("{admin}\", ready: {{ usable: 1 }} }}"),
    );
    ballast.reload_by_sighup(&setup.yaml().replace(&section, &required));
    wait_until(SOON, "the process is not ready", || ready() == 503);
    replace(&file(&folder), &format!("{}\n", name(&a)));
    wait_until(SOON, "the process is ready again", || ready() == 200);
}

#[test]
fn the_dashboard_shows_sources() {
    let a = Backend::start_new("a");
    let folder = TempDir::new().expect("a folder");
    let setup: Setup = with_file(&folder, &format!("{}\n", name(&a)));
    let Some((_ballast, browser)) = opened(&setup) else {
        return;
    };
    let source = source(&folder);
    let shown = browser.text(".sources li");
    assert!(
        shown.starts_with(&format!("{source}: 1 host, confirmed ")),
        "{shown}"
    );
    assert_eq!(browser.text("tbody [data-is=about]"), source);
    fs::remove_file(file(&folder)).expect("removed");
    browser.wait_for(
        "document.querySelector('.sources li.warn')?.innerText.includes('; cannot read it: ')",
    );
    browser.screenshot("sources");
    assert_eq!(browser.complaints(), [""; 0]);
}
