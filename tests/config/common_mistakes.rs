//! Common mistakes in a first configuration file, and the corrections that the messages suggest.

use crate::{errors, pool_error, with_pool, with_top};

/// The messages about `text`, without file and position.
fn messages(text: &str) -> Vec<String> {
    let lines = errors(text);
    let message = |line: &String| {
        let message = line.splitn(4, ':').nth(3).expect("a position");
        message.trim_start().to_owned()
    };
    lines.iter().map(message).collect()
}

#[test]
fn tabs_as_indentation() {
    let text =
        "listeners: [\"127.0.0.1:27080\"]\npools:\n\tweb:\n\t  hosts: [\"127.0.0.1:19101\"]\n";
    assert_eq!(
        errors(text),
        ["b.yaml:3:1: tabs cannot indent YAML; use spaces"]
    );
}

#[test]
fn algorithms_of_other_load_balancers() {
    for (name, expected) in [
        ("leastconn", "least_load"),
        ("least_conn", "least_load"),
        ("rr", "round_robin"),
        ("wrr", "round_robin"),
        ("source", "ip_hash"),
    ] {
        let message = pool_error(&format!("algorithm: {name}"));
        let hint = format!("; did you mean `{expected}`?");
        assert!(message.ends_with(&hint), "{message}");
    }
}

#[test]
fn an_option_of_another_algorithm() {
    let message = pool_error("algorithm: { name: round_robin, factor: 2 }");
    assert!(
        message.contains("`round_robin`") && message.contains("factor"),
        "{message}"
    );
}

#[test]
fn sizes_of_nginx() {
    for (size, expected) in [
        ("8k", "8KiB"),
        ("10M", "10MiB"),
        ("1g", "1GiB"),
        ("32KB", "32KiB"),
    ] {
        let messages = messages(&with_top(&format!("limits: {{ body: {size} }}")));
        let hint = format!("; did you mean `{expected}`?");
        assert!(messages[0].ends_with(&hint), "{messages:?}");
    }
}

#[test]
fn on_and_off_for_booleans() {
    assert_eq!(
        pool_error("tls: on"),
        "pools.web.tls: `on` is neither `false` nor `true` nor a map; did you mean `true`?"
    );
    assert_eq!(
        pool_error("tls: { verify: off }"),
        "pools.web.tls.verify: `off` is not one of `true`, `false`; did you mean `false`?"
    );
    let text = "listeners: [{ address: \"127.0.0.1:1\", tls: on }]\npools: { web: { hosts: [\"127.0.0.1:2\"] } }\n";
    assert_eq!(
        messages(text),
        [
            "listeners[0].tls: expected a map, found `on`; write `tls: { certificates: [{ certificate: FILE, key: FILE }] }`"
        ]
    );
}

#[test]
fn scalars_for_maps() {
    for (keys, hint) in [
        ("health_check: /healthz", "{ type: http, path: /healthz }"),
        ("health_check: true", "{ type: tcp }"),
        ("health_check: http", "{ type: http }"),
        ("health_check: off", "none"),
        ("retries: 3", "{ attempts: 3 }"),
        ("retries: 0", "none"),
        ("sticky: true", "{ cookie: ballast }"),
        ("sticky: session", "{ cookie: session }"),
    ] {
        let message = pool_error(keys);
        let hint = format!(" is neither `none` nor a map; did you mean `{hint}`?");
        assert!(message.ends_with(&hint), "{message}");
    }
}

#[test]
fn underindented_keys_of_a_pool() {
    let text = "listeners: [\"127.0.0.1:27080\"]\npools:\n  web:\n  hosts: [\"127.0.0.1:19101\"]\n  retries: none\n";
    assert_eq!(
        messages(text),
        [
            "pools.hosts: `hosts` is indented too little: it belongs to the pool `web`",
            "pools.retries: `retries` is indented too little: it belongs to the pool `web`",
        ]
    );
}

#[test]
fn a_path_with_a_wildcard() {
    let text = with_top("routes: [{ path: /static/*, pool: web }]");
    assert_eq!(
        messages(&text),
        [
            "routes[0].path: `/static/*` has a `*`, but a path is a prefix of whole segments already; did you mean `/static/`?"
        ]
    );
}

#[test]
fn zero_timeouts() {
    for zero in ["0", "0s", "0ms"] {
        let messages = messages(&with_top(&format!("timeouts: {{ read: {zero} }}")));
        assert!(messages[0].contains(" is not above 0; "), "{messages:?}");
    }
}

#[test]
fn unclosed_brackets() {
    let text = "listeners: [\"127.0.0.1:27080\"\npools:\n  web: { hosts: [\"127.0.0.1:19101\"] }\n";
    assert!(messages(text)[0].contains("the list that begins at 1:12 has no `]`"));
}

#[test]
fn all_mistakes_are_reported_at_once() {
    let text = "listeners: [\"127.0.0.1:27080\"]\nfoo: 1\nbar: 2\ngzip: on\ntimeouts: { read: [1s], write: 0 }\npools:\n  \
                web: { hosts: [\"127.0.0.1:19101\"], port: 80, timeout: 3s, algorithm: rr }\n";
    let messages = messages(text);
    let beginnings = Vec::from_iter(messages.iter().map(|line| {
        let front = line.split(", expected one of").next().unwrap_or_default();
        let front = front.split("; ").next().unwrap_or_default();
        front.split(", found").next().unwrap_or_default().to_owned()
    }));
    assert_eq!(
        beginnings[..7],
        [
            "unknown key `foo`",
            "unknown key `bar`",
            "unknown key `gzip`",
            "timeouts.read: expected a time above 0",
            "timeouts.write: `0` is not above 0",
            "pools.web: unknown key `port`",
            "pools.web: unknown key `timeout`",
        ]
    );
    assert!(
        messages[7].starts_with("pools.web.algorithm: unknown algorithm `rr`"),
        "{messages:#?}"
    );
    assert_eq!(messages.len(), 8);
}

#[test]
fn null_is_not_a_string() {
    for null in ["~", "null", ""] {
        let messages = messages(&with_top(&format!("server: {{ pid_file: {null} }}")));
        assert_eq!(
            messages,
            ["server.pid_file: a value is missing here; write one or leave the key out"]
        );
    }
    // In quotes the value is a string.
    let config = crate::parse(&with_top("server: { pid_file: \"~\" }"));
    assert_eq!(config.server.pid_file, Some("~".into()));
}

#[test]
fn indices_count_invalid_elements_too() {
    let text = "listeners: [\"nowhere\", \"127.0.0.1:1\", \"127.0.0.1:1\"]\npools: { web: { hosts: [\"x\", \"127.0.0.1:2\", \"127.0.0.1:2\"] } }\n";
    let messages = messages(text);
    assert_eq!(
        messages[1],
        "listeners[2]: `127.0.0.1:1` is the address of listeners[1] already"
    );
    assert_eq!(
        messages[3],
        "pools.web.hosts[2]: `127.0.0.1:2` is hosts[1] of this pool already"
    );
}

#[test]
fn overlapping_listeners() {
    let listeners = |addresses: &str| {
        let text = with_pool("hosts: [\"127.0.0.1:1\"]").replace("\"127.0.0.1:8080\"", addresses);
        crate::try_parse(&text).map_or_else(|errors| errors.to_string(), |_| String::new())
    };
    let overlap = listeners("\"0.0.0.0:80\", \"127.0.0.1:80\"");
    assert!(
        overlap.contains("listeners[1]: `127.0.0.1:80` overlaps with `0.0.0.0:80` of listeners[0]"),
        "{overlap}"
    );
    assert!(listeners("\"[::1]:80\", \"[::]:80\"").contains("overlaps"));
    assert_eq!(listeners("\"0.0.0.0:80\", \"[::]:80\""), "");
    assert_eq!(listeners("\"0.0.0.0:80\", \"127.0.0.1:81\""), "");
}

#[test]
fn two_paths_of_one_file() {
    let text = with_top("server: { control_socket: run/a.sock, upgrade_socket: ./run//a.sock }");
    assert_eq!(
        messages(&text),
        ["server.upgrade_socket: this is the path of server.control_socket already"]
    );
}
