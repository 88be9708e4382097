//! The structure of a file: syntax, types and unknown keys, each error with its position.

use crate::{errors, with_pool};

/// The errors, except those about sections that these short files lack.
fn structure_errors(text: &str) -> Vec<String> {
    let is_missing_section = |line: &String| {
        let messages = [
            "there is no ",
            "the pool has no hosts",
            " is missing; write it",
        ];
        messages.iter().any(|message| line.contains(message)) && !line.contains("unknown")
    };
    let mut lines = errors(text);
    lines.retain(|line| !is_missing_section(line));
    lines
}

fn only(text: &str) -> String {
    let lines = structure_errors(text);
    assert_eq!(lines.len(), 1, "{lines:#?}");
    lines[0].clone()
}

#[test]
fn syntax_errors_have_their_position() {
    assert_eq!(
        only("listeners: [\n  a\npools: {}\n"),
        "b.yaml:3:6: the list that begins at 1:12 has no `]`, or a comma is missing here"
    );
    assert_eq!(
        only("listeners:\n\t- a\n"),
        "b.yaml:2:1: tabs cannot indent YAML; use spaces"
    );
    assert_eq!(only("pools: *web\n"), "b.yaml:1:8: unknown anchor");
}

#[test]
fn unknown_keys_are_refused_with_a_hint() {
    assert_eq!(
        only("listeners: []\nserver:\n  thread: 5\n"),
        "b.yaml:3:3: server: unknown key `thread`, expected one of `threads`, `http1`, `grace_period`, `drain_delay`, `certificate_check`, `pid_file`, `control_socket`, `upgrade_socket`; did you mean `threads`?"
    );
    assert_eq!(
        only("listener: []\n"),
        "b.yaml:1:1: unknown key `listener`, expected one of `include`, `server`, `admin`, `access_log`, `listeners`, `acme`, `trusted_proxies`, \
         `half_close`, `upgrades`, `discovery`, `timeouts`, `limits`, `headers`, `paths`, `compression`, `tracing`, `errors`, `routes`, `pools`; did you mean `listeners`?"
    );
    assert_eq!(
        only("limits: { max_inflight: 3 }\n"),
        "b.yaml:1:11: limits: unknown key `max_inflight`, expected one of `max_in_flight`, `max_connections`, \
         `max_connections_per_client`, `max_handshakes`, `max_requests_per_connection`, `min_body_rate`, `rate`, `head`, `target`, `fields`, `body`; \
         did you mean `max_in_flight`?"
    );
    assert_eq!(
        only("limits: { rate: { per_second: 3 } }\n"),
        "b.yaml:1:19: limits.rate: unknown key `per_second`, expected one of `requests`, `per`, `burst`, `key`"
    );
    assert_eq!(
        only(&with_pool("hosts: [{ adress: \"127.0.0.1:1\" }]")),
        "b.yaml:3:20: pools.web.hosts[0]: unknown key `adress`, expected one of `address`, `srv`, `resolve`, `name`, `weight`, `backup`, `max_in_flight`, `labels`; did you mean `address`?"
    );
    assert_eq!(
        only(&with_pool("health_check: { intervall: 1s }")),
        "b.yaml:3:26: pools.web.health_check: unknown key `intervall`, expected one of `type`, `interval`, `timeout`, \
         `rise`, `fall`, `initial`, `method`, `path`, `host`, `expect`, `service`; did you mean `interval`?"
    );
}

#[test]
fn duplicate_keys_are_refused_everywhere() {
    assert_eq!(
        only("listeners: []\npools: {}\nlisteners: []\n"),
        "b.yaml:3:1: the key `listeners` is here twice"
    );
    assert_eq!(
        only("listeners: []\npools:\n  web: {}\n  api: {}\n  web: {}\n"),
        "b.yaml:5:3: pools: the key `web` is here twice"
    );
    assert_eq!(
        only(&with_pool("algorithm: { name: p2c, name: random }")),
        "b.yaml:3:34: pools.web.algorithm: the key `name` is here twice"
    );
}

#[test]
fn wrong_types_are_refused() {
    assert_eq!(
        only("timeouts: 5\n"),
        "b.yaml:1:11: timeouts: expected a map, found `5`"
    );
    assert_eq!(
        only("listeners: 5\n"),
        "b.yaml:1:12: listeners: `5` is not an IP address with a port; did you mean `0.0.0.0:5`?"
    );
    assert_eq!(
        only("listeners:\n  - [a, b]\n"),
        "b.yaml:2:5: listeners[0]: expected a single value or a map, found a list"
    );
    assert_eq!(
        only("timeouts: { read: [1s] }\n"),
        "b.yaml:1:19: timeouts.read: expected a time above 0, found a list"
    );
    assert_eq!(
        only(&with_pool(
            "health_check: { type: http, expect: { from: 200 } }"
        )),
        "b.yaml:3:46: pools.web.health_check.expect: expected a list of statuses, found a map"
    );
    assert_eq!(
        only("listeners: [{ tls: true }]\n"),
        "b.yaml:1:20: listeners[0].tls: expected a map, found `true`; write `tls: { certificates: [{ certificate: FILE, key: FILE }] }`"
    );
    assert_eq!(
        only("listeners: !all [\"127.0.0.1:1\"]\n"),
        "b.yaml:1:12: listeners: a tag such as `!this` has no meaning here"
    );
    assert_eq!(only("hello\n"), "b.yaml:1:1: expected a map, found `hello`");
    assert_eq!(errors("~\n"), errors(""));
    assert_eq!(
        only("a: 1\n---\nb: 2\n"),
        "b.yaml: there is more than one document (`---`) in this file"
    );
}

#[test]
fn an_empty_value_is_not_a_default() {
    assert_eq!(
        only("pools:\n  web:\n    tls:\n    hosts: []\n"),
        "b.yaml:3:5: pools.web.tls: a value is missing here; write one or leave the key out"
    );
    assert_eq!(
        only("pools:\n  web:\n    health_check: ~\n"),
        "b.yaml:3:5: pools.web.health_check: a value is missing here; write one or leave the key out"
    );
}

#[test]
fn an_empty_file_lacks_listeners_and_pools() {
    for text in ["", "\n", "# nothing\n"] {
        let lines = errors(text);
        assert_eq!(lines.len(), 2, "{lines:#?}");
        assert!(lines[0].ends_with(
            "listeners: there is no listener; clients need an address to connect to, such as `0.0.0.0:8080`"
        ));
        assert!(lines[1].contains("pools: there is no pool; "), "{lines:#?}");
    }
}

#[test]
fn tabs_are_reported_at_their_position() {
    assert_eq!(
        only(
            "listeners: [\"127.0.0.1:27080\"]\npools:\n\tweb:\n\t  hosts: [\"127.0.0.1:19101\"]\n"
        ),
        "b.yaml:3:1: tabs cannot indent YAML; use spaces"
    );
    let after_spaces = only("pools:\n  web:\n  \thosts: []\n");
    assert!(
        after_spaces.starts_with("b.yaml:3:3: tabs cannot indent YAML"),
        "{after_spaces}"
    );
}

#[test]
fn unclosed_brackets_are_reported_with_their_start() {
    assert_eq!(
        only("listeners: [\"127.0.0.1:27080\"\npools:\n  web: { hosts: [\"127.0.0.1:19101\"] }\n"),
        "b.yaml:2:1: the list that begins at 1:12 has no `]`, or a comma is missing here"
    );
    let map = only("listeners: [a]\npools:\n  web: { hosts: [a]\n  api: { hosts: [b] }\n");
    assert!(
        map.contains("the map that begins at 3:8 has no `}`"),
        "{map}"
    );
}

#[test]
fn names_of_other_load_balancers_have_hints() {
    for (name, hint) in [
        ("leastconn", "least_load"),
        ("least_conn", "least_load"),
        ("rr", "round_robin"),
        ("RoundRobin", "round_robin"),
        ("ring-hash", "consistent_hash"),
        ("source", "ip_hash"),
    ] {
        let text = with_pool(&format!("hosts: [\"127.0.0.1:1\"], algorithm: {name}"));
        let line = only(&text);
        assert!(
            line.ends_with(&format!("; did you mean `{hint}`?")),
            "{line}"
        );
    }
    let line = only("upstreams: {}\n");
    assert!(line.ends_with("; did you mean `pools`?"), "{line}");
}

#[test]
fn every_unknown_key_is_reported() {
    let lines = errors(
        "listeners: [\"127.0.0.1:27080\"]\nfoo: 1\nbar: 2\nroute: on\npools:\n  \
         web: { hosts: [\"127.0.0.1:19101\"], port: 80, timeout: 3s }\n",
    );
    let without_known_keys = Vec::from_iter(lines.iter().map(|line| {
        let (message, _) = line
            .split_once(", expected one of")
            .expect("the known keys");
        message.to_owned()
    }));
    assert_eq!(
        without_known_keys,
        [
            "b.yaml:2:1: unknown key `foo`",
            "b.yaml:3:1: unknown key `bar`",
            "b.yaml:4:1: unknown key `route`",
            "b.yaml:6:38: pools.web: unknown key `port`",
            "b.yaml:6:48: pools.web: unknown key `timeout`",
        ]
    );
    assert!(lines[2].ends_with("; did you mean `routes`?"), "{lines:#?}");
}

#[test]
fn wrong_types_are_reported_together_with_unknown_keys() {
    let lines = structure_errors(
        "listeners: [{ address: \"127.0.0.1:1\", x: 1 }, [b]]\ntimeouts: 5\npools:\n  a.b: { tls: [1] }\n  \
         \"c[0]\": { hosts: [{ y: 2 }, { z: 3 }] }\n",
    );
    let positions = Vec::from_iter(lines.iter().map(|line| {
        let parts = Vec::from_iter(line.splitn(6, ':'));
        format!("{}:{}", parts[1], parts[2])
    }));
    assert_eq!(
        positions,
        ["1:39", "1:47", "2:11", "4:15", "5:11", "5:23", "5:33"],
        "{lines:#?}"
    );
}

#[test]
fn a_scalar_is_a_list_of_one_and_every_wrong_value_is_reported() {
    let lines = errors(
        "listeners: \"127.0.0.1:27080\"\npools:\n  web:\n    hosts: 127.0.0.1:19101\n    when_all_down: 503\n    \
         health_check: true\n    retries: 3\n    sticky: true\n",
    );
    let paths = Vec::from_iter(lines.iter().map(|line| line.split(": ").nth(1)));
    assert_eq!(
        paths,
        ["when_all_down", "health_check", "retries", "sticky"]
            .map(|key| Some(format!("pools.web.{key}")))
            .each_ref()
            .map(|key| key.as_deref()),
        "{lines:#?}"
    );
    let config = crate::parse(
        "listeners: \"127.0.0.1:80\"\ntrusted_proxies: 10.0.0.0/8\nroutes: [{ allow: 10.0.0.0/8, pool: web }]\n\
         pools: { web: { hosts: \"127.0.0.1:1\" } }\n",
    );
    assert_eq!(config.listeners.len(), 1);
    assert_eq!(config.trusted_proxies.len(), 1);
    assert_eq!(config.pools[0].members.len(), 1);
}

#[test]
fn an_underindented_key_is_reported_with_its_pool() {
    let lines = errors(
        "listeners: [\"127.0.0.1:27080\"]\npools:\n  web:\n  hosts: [\"127.0.0.1:19101\"]\n",
    );
    let expected =
        "b.yaml:4:10: pools.hosts: `hosts` is indented too little: it belongs to the pool `web`";
    assert_eq!(lines, [expected]);
}
