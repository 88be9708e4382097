use std::path::Path;

use super::*;

fn config(text: &str) -> Config {
    Config::parse(text, Path::new("b.yaml")).unwrap_or_else(|errors| panic!("{errors}"))
}

const BEFORE: &str = "listeners: [\"127.0.0.1:80\"]
pools:
  web: { hosts: [\"127.0.0.1:1\", { address: \"127.0.0.1:2\", weight: 2 }] }
";

fn changes(after: &str) -> ConfigDiff {
    ConfigDiff::between(&config(BEFORE), &config(after))
}

#[test]
fn the_same_file_changes_nothing() {
    assert_eq!(changes(BEFORE), ConfigDiff::default());
}

#[test]
fn hosts_pools_and_sections_are_told_and_taken_in() {
    let changes = changes(
        "listeners: [\"127.0.0.1:80\"]
server: { grace_period: 5s }
timeouts: { read: 1s }
limits: { body: 1MiB }
headers: { via: none }
access_log: { path: access.log }
routes: [{ path: /api, pool: api }, { pool: web }]
pools:
  web:
    algorithm: round_robin
    health_check: none
    hosts: [{ address: \"127.0.0.1:2\", weight: 3 }, \"127.0.0.1:3\"]
  api: { hosts: [\"127.0.0.1:9\"] }
",
    );
    assert!(changes.in_new_process.is_empty());
    assert_eq!(
        changes.into_lines(),
        [
            "server.grace_period changed from 30s to 5s",
            "access_log changed",
            "timeouts.read changed from 1m to 1s",
            "limits.body changed from 0 to 1048576",
            "headers.via changed from ballast to none",
            "routes changed",
            "pools.web.algorithm changed from p2c to round_robin",
            "pools.web.hosts[127.0.0.1:2].weight changed from 2 to 3",
            "pools.web.hosts[127.0.0.1:3] added",
            "pools.web.hosts[127.0.0.1:1] removed",
            "pools.web.health_check changed",
            "pools.api added",
        ]
    );
}

#[test]
fn the_order_of_hosts_is_a_change_of_its_own() {
    let changes = changes(
        "listeners: [\"127.0.0.1:80\"]
pools:
  web: { hosts: [{ address: \"127.0.0.1:2\", weight: 2 }, \"127.0.0.1:1\"] }
",
    );
    assert_eq!(
        changes.into_lines(),
        ["the order of pools.web.hosts changed"]
    );
}

#[test]
fn what_another_process_has_to_do_stands_apart() {
    let after = BEFORE.replace("127.0.0.1:80", "127.0.0.1:81").replace(
        "pools:",
        "server: { threads: 7, control_socket: /a }\nadmin: { address: \"127.0.0.1:9\" }\npools:",
    );
    assert_eq!(
        changes(&after).in_new_process[1..],
        [
            "server.control_socket changed from nothing to /a",
            "admin.address changed from nothing to 127.0.0.1:9",
            "listeners[127.0.0.1:81] added",
            "listeners[127.0.0.1:80] removed",
        ]
    );
}

#[test]
fn a_listener_takes_access_in_place_and_tls_in_a_new_process() {
    let after = |listener: &str| BEFORE.replace("\"127.0.0.1:80\"", listener);
    let access = changes(&after("{ address: \"127.0.0.1:80\", deny: [10.0.0.0/8] }"));
    assert!(access.in_new_process.is_empty());
    assert_eq!(
        access.in_place,
        ["listeners[127.0.0.1:80].deny changed from [] to [10.0.0.0/8]"]
    );
    let two = after("\"127.0.0.1:80\", \"127.0.0.1:81\"");
    let two = config(&two);
    let swapped = config(&after("\"127.0.0.1:81\", \"127.0.0.1:80\""));
    assert_eq!(ConfigDiff::between(&two, &swapped), ConfigDiff::default());
}
