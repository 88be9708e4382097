//! Programs that tests compare Ballast with, where they are installed.

use std::path::PathBuf;

/// Finds a program. If it is absent, the caller prints that and returns; in CI every program must be present.
pub(crate) fn peer(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        // Debian installs servers in folders that are not in a user's PATH.
        .chain([PathBuf::from("/usr/sbin")])
        .map(|folder| folder.join(program))
        .find(|candidate| candidate.is_file());
    installed(found, program)
}

/// The search result for `name`, treated like that of a [`peer`].
pub(crate) fn installed<T>(found: Option<T>, name: &str) -> Option<T> {
    if found.is_none() {
        assert!(!ci(), "{name} is not installed, and CI skips nothing");
        println!("skipped: needs {name}");
    }
    found
}

/// Whether this is CI, where no test is skipped.
pub(crate) fn ci() -> bool {
    let names = ["CI", "BALLAST_CI"];
    names.iter().any(|name| std::env::var_os(name).is_some())
}

/// Whether the long forms of tests were requested (`BALLAST_LONG=1`).
pub(crate) fn long() -> bool {
    std::env::var_os("BALLAST_LONG").is_some_and(|value| value != "0")
}
