//! All errors of a file are reported together.

use ballast_balancer::ALGORITHMS;

use crate::{errors, with_pool};

#[test]
fn all_errors_are_reported_in_file_order() {
    let lines = errors(
        "routes: [{ pool: wbe }, { pool: web }]
server: { threads: many }
listeners:
  - \"0.0.0.0:80\"
  - { address: \"0.0.0.0:80\" }
timeouts: { connect: 0s }
pools:
  web:
    algorithm: round_robbin
    hosts: [\"127.0.0.1:1\", { address: \"nowhere.internal:2\", weight: 2, resolve: once }, { address: \"lost:3\", weight: 10001 }, \"127.0.0.1:1\"]
  api:
    hosts: []
",
    );
    let known = Vec::from_iter(ALGORITHMS.iter().map(|info| info.name)).join(", ");
    let lines = Vec::from_iter(lines.iter().map(|line| line.replace(&known, "…")));
    assert_eq!(
        lines,
        [
            "b.yaml:1:18: routes[0].pool: there is no pool `wbe`; did you mean `web`?",
            "b.yaml:2:20: server.threads: `many` is not a whole number from 0 to 1024",
            "b.yaml:5:16: listeners[1].address: `0.0.0.0:80` is the address of listeners[0] already",
            "b.yaml:6:22: timeouts.connect: `0s` is not above 0; write a time such as `500ms` or `2s`",
            "b.yaml:9:16: pools.web.algorithm: unknown algorithm `round_robbin`; known are …; did you mean `round_robin`?",
            "b.yaml:10:39: pools.web.hosts[1].address: cannot resolve `nowhere.internal`: no such name",
            "b.yaml:10:118: pools.web.hosts[2].weight: `10001` is not a whole number from 0 to 10000",
            "b.yaml:10:127: pools.web.hosts[3]: `127.0.0.1:1` is hosts[0] of this pool already",
            "b.yaml:12:12: pools.api.hosts: the pool has no hosts",
        ]
    );
}

#[test]
fn the_list_of_errors_is_limited() {
    let hosts = "x, ".repeat(1_000);
    let lines = errors(&with_pool(&format!("hosts: [{hosts}]")));
    assert_eq!(lines.len(), 51);
    assert_eq!(lines[50], "b.yaml: and 950 more problems");
}
