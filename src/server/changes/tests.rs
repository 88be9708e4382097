use std::path::Path;

use super::*;

fn config(text: &str) -> Config {
    Config::parse(text, Path::new("b.yaml")).unwrap_or_else(|errors| panic!("{errors}"))
}

const BEFORE: &str = "listeners: [\"127.0.0.1:80\"]
pools:
  web: { hosts: [\"127.0.0.1:1\", { address: \"127.0.0.1:2\", weight: 2 }] }
";

fn changes(after: &str) -> Changes {
    Changes::between(&config(BEFORE), &config(after))
}

#[test]
fn the_same_file_changes_nothing() {
    assert_eq!(changes(BEFORE), Changes::default());
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
            "pool web: algorithm changed from p2c to round_robin",
            "pool web: weight of host 127.0.0.1:2 changed from 2 to 3",
            "pool web: host 127.0.0.1:3 added",
            "pool web: host 127.0.0.1:1 removed",
            "pool web: health_check changed",
            "pool api added, hosts: 1",
            "routes changed",
            "timeouts changed",
            "limits changed",
            "headers changed",
            "access_log changed",
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
        ["pool web: order of the hosts changed"]
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
            "server.control_socket changed",
            "admin.address changed from nothing to 127.0.0.1:9",
            "listeners changed (127.0.0.1:81 added, 127.0.0.1:80 removed)",
        ]
    );
}
