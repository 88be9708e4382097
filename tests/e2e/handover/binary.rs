//! `ballast reload --binary` replaces the program; without it a reload in place keeps the one that runs.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use serde_json::Value;

use crate::support::{Backend, Ballast, SOON, Setup, get, peer, wait_until};

const HINT: &str = "another binary is on disk: ballast reload --binary";

/// A process whose program is the link `current`.
fn start(setup: &Setup) -> Ballast {
    let mut ballast = Ballast::spawn_link(&setup.yaml(), "current");
    assert!(ballast.listens_within(SOON));
    ballast
}

fn status(ballast: &Ballast) -> String {
    let end = ballast.command(&["status"]);
    assert_eq!(end.code, Some(0), "{end:?}");
    end.stdout
}

fn serving(ballast: &Ballast) -> u64 {
    let end = ballast.command(&["status", "--json"]);
    let status: Value = serde_json::from_str(&end.stdout).expect("JSON");
    status["pid"].as_u64().expect("a number")
}

/// Puts another program in the place of the link.
fn replace(ballast: &Ballast, program: &Path) {
    let new = ballast.path("new");
    symlink(program, &new).expect("the folder can be written");
    fs::rename(new, ballast.path("current")).expect("the folder can be written");
}

/// A program that is another file, and runs the same.
fn other_version(ballast: &Ballast) -> std::path::PathBuf {
    let path = ballast.path("other-version");
    let script = format!("#!/bin/sh\nexec {} \"$@\"\n", env!("CARGO_BIN_EXE_ballast"));
    fs::write(&path, script).expect("the folder can be written");
    fs::set_permissions(&path, Permissions::from_mode(0o755)).expect("the file is there");
    path
}

#[test]
fn only_a_handover_uses_the_binary_on_disk() {
    let backend = Backend::start_new("a");
    let setup = Setup::of(&[&backend]);
    let ballast = start(&setup);
    let old = serving(&ballast);
    assert!(!status(&ballast).contains(HINT));
    replace(&ballast, &other_version(&ballast));
    wait_until(SOON, "the other binary is noticed", || {
        status(&ballast).contains(HINT)
    });
    ballast.assert_output(&["check"], HINT);
    ballast.configure(&setup.algorithm("p2c").yaml());
    ballast.assert_output(&["reload"], "reloaded, in-place");
    assert_eq!(serving(&ballast), old);
    assert!(status(&ballast).contains(HINT));

    let end = ballast.command(&["reload", "--binary"]);
    assert_eq!(end.code, Some(0), "{end:?}");
    let new = serving(&ballast);
    assert_ne!(new, old);
    let version = env!("CARGO_PKG_VERSION");
    let outcome = format!(
        "handed over from ballast {version}, process {old} to ballast {version}, process {new}"
    );
    assert_eq!(end.stdout.trim(), outcome);
    assert_eq!(get(ballast.address(), "/").status, 200);
    assert!(!status(&ballast).contains(HINT));
}

#[test]
fn a_binary_that_does_not_start_leaves_everything_as_it_was() {
    let Some(broken) = peer("false") else { return };
    let backend = Backend::start_new("a");
    let setup = Setup::of(&[&backend]);
    let ballast = start(&setup);
    let old = serving(&ballast);
    replace(&ballast, &broken);
    let end = ballast.command(&["reload", "--binary"]);
    assert_eq!(end.code, Some(1), "{end:?}");
    let reason = "the binary was not replaced: no handover, serving on: the successor has ended";
    assert!(end.stderr.starts_with(reason), "{end:?}");

    // The new binary decides what is valid, and its reason reaches the operator.
    replace(&ballast, Path::new(env!("CARGO_BIN_EXE_ballast")));
    ballast.configure(&format!("{}nonsense: 1\n", setup.yaml()));
    let end = ballast.command(&["reload", "--binary"]);
    assert_eq!(end.code, Some(1), "{end:?}");
    assert!(end.stderr.starts_with(reason), "{end:?}");
    assert!(end.stderr.contains("nonsense"), "{end:?}");

    assert_eq!(serving(&ballast), old);
    assert_eq!(get(ballast.address(), "/").status, 200);
}
