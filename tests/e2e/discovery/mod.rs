//! Hosts that come from sources other than the file: what adds them, what removes them, and what must not.

mod hosts_file;
mod status;

use std::path::Path;

use crate::support::{Ballast, Setup};

/// A pool without hosts in the file, and the sources' answers kept in `folder`.
pub(crate) fn setup(folder: &Path) -> Setup {
    let state = folder.join("state");
    let discovery = format!("discovery: {{ state_directory: {} }}", state.display());
    Setup::of(&[]).top(&discovery)
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
