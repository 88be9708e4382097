//! Hosts that come from sources other than the file: what adds them, what removes them, and what must not.

mod consul;
mod dns;
mod etcd;
mod hosts_file;
mod status;

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::{Backend, Ballast, SOON, Setup, wait_for, wait_until};

/// A pool without hosts in the file, and the sources' answers kept in `folder`.
pub(crate) fn setup(folder: &Path) -> Setup {
    let state = folder.join("state");
    let discovery = format!("discovery: {{ state_directory: {} }}", state.display());
    Setup::of(&[]).top(&discovery)
}

/// Waits until an answer is kept in `folder`, and gives the file.
pub(crate) fn wait_for_kept(folder: &Path) -> PathBuf {
    let is_kept = |path: &PathBuf| path.extension().is_some_and(|end| end == "json");
    let kept = || {
        let files = fs::read_dir(folder.join("state"))
            .into_iter()
            .flatten()
            .flatten();
        files.map(|file| file.path()).find(is_kept)
    };
    wait_for(SOON, "an answer is kept", kept)
}

#[track_caller]
pub(crate) fn wait_for_hosts(ballast: &Ballast, backends: &[&Backend]) {
    let mut wanted = Vec::from_iter(backends.iter().map(|backend| backend.address().to_string()));
    wanted.sort();
    wait_until(SOON, &format!("the hosts are {wanted:?}"), || {
        hosts(ballast) == wanted
    });
}

/// The ids of the pool's hosts, sorted.
pub(crate) fn hosts(ballast: &Ballast) -> Vec<String> {
    let shown = ballast.command(&["status", "--json"]).stdout;
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap_or_default();
    let hosts = shown["pools"][0]["hosts"].as_array().cloned();
    let ids = hosts.into_iter().flatten();
    let mut ids = Vec::from_iter(ids.filter_map(|host| host["id"].as_str().map(str::to_owned)));
    ids.sort();
    ids
}
