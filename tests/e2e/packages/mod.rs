//! What users install: the Debian package, the container image and the bill of materials of packaging/.

mod cycle;
mod release;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The path of a file of the repository.
fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Runs a command of packaging/ to its end and returns its output.
#[track_caller]
fn succeed(command: &mut Command) -> String {
    // Whether a release has a static binary depends on the machine, and equal times make equal files.
    let command = command.env("SOURCE_DATE_EPOCH", "1700000000");
    let output: Output = command.output().expect("the program can be started");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let stdout = text(&output.stdout);
    assert!(
        output.status.success(),
        "{command:?}: {}\n{stdout}\n{}",
        output.status,
        text(&output.stderr)
    );
    stdout
}
