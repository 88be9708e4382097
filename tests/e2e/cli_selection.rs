//! What a command acts on if it is not said: the file, and the pool.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::{Backend, Ballast, Finished, LISTEN, Setup, finish};

/// A command without -c.
fn command(ballast: &Ballast, variable: Option<&Path>, args: &[&str]) -> Finished {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ballast"));
    command
        .args(args)
        .env("RUNTIME_DIRECTORY", ballast.path("run"))
        .env_remove("BALLAST_CONFIG");
    if let Some(file) = variable {
        command.env("BALLAST_CONFIG", file);
    }
    finish(command)
}

#[test]
fn the_file_is_that_of_the_option_else_the_variable_else_the_default() {
    let backend = Backend::start_new("a");
    let ballast = Setup::of(&[&backend]).start();
    let (file, gone) = (ballast.file(), ballast.path("gone.yaml"));
    for args in [
        &["status"][..],
        &["check"],
        &["routes"],
        &["reload"],
        &["log-level"],
    ] {
        let end = command(&ballast, Some(&file), args);
        assert_eq!(end.code, Some(0), "{args:?}: {end:?}");
    }
    let named = file.display().to_string();
    let end = command(&ballast, Some(&gone), &["check", "-c", &named]);
    assert_eq!(end.code, Some(0), "{end:?}");

    let hint = format!("the file is {} (from BALLAST_CONFIG)", gone.display());
    for args in [&["check"][..], &["run"], &["status"], &["plan"]] {
        let end = command(&ballast, Some(&gone), args);
        assert!(end.stderr.contains(&hint), "{args:?}: {end:?}");
    }
    let other = ballast.path("other.yaml");
    fs::copy(&file, &other).expect("the folder can be written");
    let end = command(&ballast, Some(&other), &["status"]);
    let hint = format!(
        "no ballast runs with {} (from BALLAST_CONFIG)",
        other.display()
    );
    assert!(end.stderr.contains(&hint), "{end:?}");

    let default = "/etc/ballast/ballast.yaml";
    if Path::new(default).exists() {
        return println!("skipped: there is {default}");
    }
    // An empty variable counts as unset.
    let end = command(&ballast, Some(Path::new("")), &["check"]);
    assert_eq!(end.code, Some(2), "{end:?}");
    let hint = format!("the file is {default} (the default; -c or BALLAST_CONFIG names another)");
    assert!(end.stderr.contains(&hint), "{end:?}");
}

#[test]
fn a_pool_is_named_only_where_several_are_possible() {
    let [a, b, c] = ["a", "b", "c"].map(Backend::start_new);
    let [one, both, new] = [&a, &b, &c].map(|backend| backend.address().to_string());
    let ballast = Ballast::start(&format!(
        "listeners: [\"{LISTEN}\"]\nroutes: [{{ path: /api, pool: api }}, {{ pool: web }}]\npools:\n  \
         web: {{ hosts: [\"{one}\", \"{both}\"], health_check: none }}\n  \
         api: {{ hosts: [\"{both}\"], health_check: none }}\n"
    ));
    ballast.assert_output(&["host", "weight", &one, "2"], "in web is 2");
    for (args, reason) in [
        (
            vec!["host", "add", &new],
            "the process has 2 pools, name one with --pool: web, api".to_owned(),
        ),
        (
            vec!["maintenance", "on"],
            "the process has 2 pools, name one: web, api".to_owned(),
        ),
        (
            vec!["host", "remove", &both],
            format!("several pools have the host `{both}`, name one with --pool: web, api"),
        ),
    ] {
        let end = ballast.command(&args);
        assert_eq!(end.code, Some(2), "{end:?}");
        assert_eq!(end.stderr.trim(), reason);
    }
    let end = ballast.command(&["host", "weight", &new, "2"]);
    assert_eq!(end.code, Some(1), "{end:?}");
    let reason = format!("no pool has a host `{new}`; the pools are web, api");
    assert_eq!(end.stderr.trim(), reason);
    ballast.assert_output(&["host", "add", &new, "--pool", "api"], "to api");
    ballast.assert_output(&["host", "remove", &new], "from api");
}
