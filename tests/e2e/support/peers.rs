//! Programs that tests are measured against, where they are installed.

use std::path::PathBuf;

/// Finds a program. Where it is absent, the caller says so and returns; in CI nothing may be absent.
pub(crate) fn peer(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        // Debian's servers lie where a user's PATH does not lead.
        .chain([PathBuf::from("/usr/sbin")])
        .map(|folder| folder.join(program))
        .find(|candidate| candidate.is_file());
    installed(found, program)
}

/// What was found of `name`; the same as with a [`peer`] that is absent.
pub(crate) fn installed<T>(found: Option<T>, name: &str) -> Option<T> {
    if found.is_none() {
        assert!(!ci(), "{name} is not installed, and CI skips nothing");
        println!("skipped: needs {name}");
    }
    found
}

/// Whether this is CI, where nothing is skipped.
pub(crate) fn ci() -> bool {
    let names = ["CI", "BALLAST_CI"];
    names.iter().any(|name| std::env::var_os(name).is_some())
}

/// Whether the long forms of tests were asked for (`BALLAST_LONG=1`).
pub(crate) fn long() -> bool {
    std::env::var_os("BALLAST_LONG").is_some_and(|value| value != "0")
}
