//! How a process differs from its file is told by `status`, `check`, the API and a metric.

use std::fs;
use std::net::SocketAddr;

use serde_json::Value;

use crate::admin::with_admin;
use crate::metrics::scrape::Scrape;
use crate::support::{Backend, Ballast, SOON, Setup, wait_until};

fn status(ballast: &Ballast) -> String {
    let end = ballast.command(&["status"]);
    assert_eq!(end.code, Some(0), "{end:?}");
    end.stdout
}

/// The `drift` of the status.
fn drift(ballast: &Ballast) -> Value {
    let end = ballast.command(&["status", "--json"]);
    let status: Value = serde_json::from_str(&end.stdout).expect("JSON");
    status["drift"].clone()
}

/// The kinds of operators' changes and the hosts, sorted.
fn changes(ballast: &Ballast) -> Vec<String> {
    let drift = drift(ballast);
    let changes = drift["operator_changes"].as_array().expect("a list");
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let shown = changes
        .iter()
        .map(|change| format!("{} {}", text(&change["kind"]), text(&change["host"])));
    let mut shown = Vec::from_iter(shown);
    shown.sort();
    shown
}

fn metric(admin: SocketAddr, kind: &str) -> f64 {
    Scrape::of(admin).sum("ballast_drift", &[("kind", kind)])
}

#[test]
fn changes_of_operators_are_told_until_they_are_undone() {
    let backends = ["a", "b", "c"].map(Backend::start_new);
    let [a, b, c] = backends
        .each_ref()
        .map(|backend| backend.address().to_string());
    let setup = Setup::of(&[&backends[0], &backends[1]]);
    let (setup, admin) = with_admin(setup);
    let ballast = setup.start();
    assert_eq!(changes(&ballast), [""; 0]);
    assert!(!status(&ballast).contains("differs from"));

    let run = |args: &[&str]| ballast.assert_output(args, "");
    run(&["host", "weight", &a, "5"]);
    run(&["host", "remove", &b]);
    run(&["host", "add", &c]);
    run(&["drain", &a]);
    run(&["maintenance", "on"]);
    run(&["log-level", "debug"]);
    let expected = [
        format!("drained {a}"),
        format!("host_added {c}"),
        format!("host_removed {b}"),
        "log_level -".to_owned(),
        "maintenance_begun -".to_owned(),
        format!("weight {a}"),
    ];
    assert_eq!(changes(&ballast), expected);
    assert_eq!(metric(admin, "operator"), 6.0);
    let told = [
        "differs from ballast.yaml by changes of operators:".to_owned(),
        format!("  host {b} was removed from pool web, "),
        format!("  host {a} of pool web has weight 5, 1 in the file, "),
        "  the level of the log is debug".to_owned(),
    ];
    let (status_shown, check) = (status(&ballast), ballast.check());
    for line in told {
        assert!(status_shown.contains(&line), "{line}\n{status_shown}");
        assert!(check.stdout.contains(&line), "{line}\n{check:?}");
    }
    // A file that is as the operator wants it is no difference.
    let weighed = format!("{{ address: \"{a}\", weight: 5 }}");
    let (edited, _) = (Setup::of(&[]).host_entry(&weighed), ());
    let edited = edited
        .host(backends[1].address())
        .top(&format!("admin: {{ address: \"{admin}\" }}"));
    ballast.configure(&edited.yaml());
    ballast.assert_output(&["reload"], "in-place");
    assert!(!changes(&ballast).contains(&format!("weight {a}")));

    run(&["host", "remove", &c]);
    run(&["host", "add", &b]);
    run(&["undrain", &a]);
    run(&["maintenance", "off"]);
    run(&["log-level", "info"]);
    assert_eq!(changes(&ballast), [""; 0]);
    assert!(!status(&ballast).contains("differs from"));
    assert_eq!(metric(admin, "operator"), 0.0);
}

#[test]
fn a_file_that_was_edited_after_the_last_reload_is_told() {
    let backend = Backend::start_new("a");
    let (setup, admin) = with_admin(Setup::of(&[&backend]));
    let ballast = setup.start();
    let hint = "ballast.yaml was edited after the last reload: ballast reload";
    assert_eq!(drift(&ballast)["file"], "loaded");
    ballast.configure(&format!("# A comment is an edit, too.\n{}", setup.yaml()));
    wait_until(SOON, "the edit is noticed", || {
        status(&ballast).contains(hint)
    });
    assert_eq!(metric(admin, "file"), 1.0);
    ballast.assert_output(&["check"], hint);
    ballast.assert_output(&["reload"], "nothing changed");
    assert_eq!(drift(&ballast)["file"], "loaded");
    assert_eq!(metric(admin, "file"), 0.0);

    let socket = ballast.file_with_suffix(".sock").display().to_string();
    fs::remove_file(ballast.file()).expect("the file is there");
    wait_until(SOON, "the loss is noticed", || {
        let end = ballast.command(&["status", "--socket", &socket]);
        end.stdout.contains("ballast.yaml cannot be read")
    });
}

#[test]
fn changes_survive_a_handover_with_their_times() {
    let [a, b] = ["a", "b"].map(Backend::start_new);
    let setup = Setup::of(&[&a, &b]);
    let ballast = setup.start();
    let host = a.address().to_string();
    ballast.assert_output(&["host", "weight", &host, "3"], "is 3");
    let before = drift(&ballast)["operator_changes"].clone();
    assert!(before[0]["at"].is_string(), "{before}");
    ballast.assert_output(&["reload", "--binary"], "handed over");
    assert_eq!(drift(&ballast)["operator_changes"], before);
}
