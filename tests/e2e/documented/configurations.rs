//! Every configuration in a block is accepted, completed where it shows a part of one.

use std::collections::BTreeSet;

use super::markdown::documents;
use super::sandbox::Sandbox;
use crate::support::file;

#[test]
fn every_configuration_in_the_documents_is_accepted() {
    let Some(sandbox) = Sandbox::new() else {
        return;
    };
    let mut checked = 0;
    for document in documents() {
        for block in document.blocks() {
            if block.language != "yaml" {
                continue;
            }
            file(sandbox.folder(), "block.yaml", &completed(&block.text));
            // Paths of files begin in the directory of the file.
            let place = "/etc/ballast/block.yaml";
            file(sandbox.folder(), "hosts.list", &block.text);
            let end = sandbox.run(&format!(
                "cp block.yaml {place}; cp hosts.list /etc/ballast; ballast check -c {place}"
            ));
            assert_eq!(
                end.code,
                Some(0),
                "{}\n{}{}",
                block.place,
                end.stdout,
                end.stderr
            );
            checked += 1;
        }
    }
    assert!(checked > 10, "{checked}");
}

/// A whole configuration around a block that shows a part: listeners and the pools that it names. A list of hosts is the
/// file of a pool.
fn completed(block: &str) -> String {
    const LISTENERS: &str = "listeners: [\"127.0.0.1:8090\"]\n";
    let first = block.lines().next().unwrap_or_default();
    if first.starts_with("- ") {
        return format!("{LISTENERS}pools: {{ web: {{ hosts_file: hosts.list }} }}\n");
    }
    let has = |key: &str| block.lines().any(|line| line.starts_with(key));
    let mut text = block.to_owned();
    if !has("listeners:") {
        text.insert_str(0, LISTENERS);
    }
    if !has("pools:") {
        let named = block.split("pool: ").skip(1);
        let named = named.filter_map(|rest| rest.split([',', ' ', '\n', '}']).next());
        let mut pools = BTreeSet::from_iter(named);
        if pools.is_empty() {
            pools.insert("web");
        }
        text.push_str("pools:\n");
        for pool in pools {
            text.push_str(&format!("  {pool}: {{ hosts: [\"127.0.0.1:8081\"] }}\n"));
        }
    }
    text
}
