//! The access log: one correct line for each request, and no request waits for the log.

mod lines;
mod nginx;
mod rotation;
mod write_failures;

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::{Ballast, SOON, Setup, wait_for, wait_until};

/// The log of a setup, next to its configuration.
const FILE: &str = "access.log";

/// A log in JSON, with further keys of its section.
fn logging(setup: Setup, keys: &str) -> Setup {
    setup.top(&format!("access_log: {{ path: {FILE}, {keys} }}"))
}

/// The lines of a file; each must be complete.
#[track_caller]
fn lines(file: &Path) -> Vec<String> {
    let text = fs::read_to_string(file).expect("the file exists");
    assert!(
        text.is_empty() || text.ends_with('\n'),
        "an incomplete line"
    );
    text.lines().map(str::to_owned).collect()
}

/// The lines of a log in JSON.
#[track_caller]
fn objects(file: &Path) -> Vec<Value> {
    let objects = lines(file)
        .into_iter()
        .map(|line| serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}")));
    objects.collect()
}

/// The lines of a running process, once there are this many.
#[track_caller]
fn wait_for_lines(ballast: &Ballast, count: usize) -> Vec<Value> {
    let file = ballast.path(FILE);
    let has_all = || fs::read_to_string(&file).is_ok_and(|text| text.lines().count() >= count);
    wait_until(SOON, &format!("{count} lines"), has_all);
    let objects = objects(&file);
    assert_eq!(objects.len(), count);
    objects
}

/// The line of a running process about the request for `target`.
#[track_caller]
fn wait_for_line(ballast: &Ballast, target: &str) -> Value {
    wait_for(SOON, &format!("a line of {target}"), || {
        let mut objects = objects(&ballast.path(FILE)).into_iter();
        objects.find(|line| line["target"] == target)
    })
}
