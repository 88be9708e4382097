//! `pools`: names, policies, TLS to the hosts, ejection, limits and slow start.

use crate::{only_message, pool_error, with_pool};

#[test]
fn names() {
    let line = only_message(
        "listeners: [\"127.0.0.1:80\"]\npools: { \"a b\": { hosts: [\"127.0.0.1:1\"] } }\n",
    );
    assert_eq!(
        line,
        "pools.a b: `a b` is not a name of a pool: letters, digits, `_`, `-` and `.`"
    );
}

#[test]
fn policies_and_tls() {
    for (keys, expected) in [
        (
            "host_header: keep",
            "host_header: `keep` is not one of `preserve`, `upstream`",
        ),
        (
            "when_all_down: try-all",
            "when_all_down: `try-all` is not one of `error`, `try_all`; did you mean `try_all`?",
        ),
        (
            "protocol: h2",
            "protocol: `h2` is not one of `http1`, `http2`, `h2c`, `auto`; did you mean `h2c`?",
        ),
        (
            "proxy_protocol: v3",
            "proxy_protocol: `v3` is not one of `none`, `v1`, `v2`; did you mean `v1`?",
        ),
        (
            "proxy_protocol: on",
            "proxy_protocol: `on` is not one of `none`, `v1`, `v2`",
        ),
        (
            "proxy_protocol: { trusted: [10.0.0.0/8] }",
            "proxy_protocol: expected `none`, `v1`, `v2`, found a map",
        ),
        (
            "protocol: http2",
            "protocol: HTTP/2 needs `tls: true`; without TLS it is `protocol: h2c`",
        ),
        (
            "protocol: auto",
            "protocol: hosts choose their protocol in the TLS handshake; set `tls: true`, or `protocol: h2c` or `http1`",
        ),
        (
            "protocol: h2c, tls: true",
            "protocol: h2c is HTTP/2 without TLS; with `tls` it is `protocol: http2`",
        ),
        (
            "health_check: { type: grpc }",
            "health_check: gRPC needs hosts of HTTP/2; set `protocol: h2c`, or `http2` with `tls: true`",
        ),
        (
            "health_check: { type: grpc, path: / }, protocol: h2c",
            "health_check.path: `path` belongs to an HTTP check; did you mean `type: http`?",
        ),
        (
            "health_check: { type: http, service: a.B }",
            "health_check.service: `service` belongs to a gRPC check; did you mean `type: grpc`?",
        ),
        (
            "health_check: { type: grpc, service: \"a b\" }, protocol: h2c",
            "health_check.service: `a b` is not a name of a service, such as `shop.Orders`",
        ),
        (
            "tls: maybe",
            "tls: `maybe` is neither `false` nor `true` nor a map",
        ),
        (
            "tls: { verify: no }",
            "tls.verify: `no` is not one of `true`, `false`; did you mean `false`?",
        ),
        (
            "tls: { server_name: \"a b\" }",
            "tls.server_name: `a b` is not a server name",
        ),
        (
            "tls: { min_version: 1.1 }",
            "tls.min_version: `1.1` is not one of `1.2`, `1.3`; did you mean `1.2`?",
        ),
        (
            "tls: { min_version: TLSv1.3 }",
            "tls.min_version: `TLSv1.3` is not one of `1.2`, `1.3`",
        ),
        (
            "ejection: off",
            "ejection: `off` is neither `none` nor a map; did you mean `none`?",
        ),
        (
            "ejection: { failures: [conect] }",
            "ejection.failures[0]: `conect` is not one of `connect`, `timeout`, `reset`, `malformed`, `5xx` nor a status \
             from 100 to 599; did you mean `connect`?",
        ),
        (
            "ejection: { failures: [] }",
            "ejection.failures: nothing counts as a failure; did you mean `ejection: none`?",
        ),
        (
            "ejection: { rate: 50 }",
            "ejection.rate: `50` has no percent sign; write `50%`",
        ),
        (
            "ejection: { max_ejected: 0% }",
            "ejection.max_ejected: `0%` is not a whole percentage from 1% to 100%",
        ),
        (
            "ejection: { base: 2m, max: 1m }",
            "ejection.max: the longest ejection of 1m is shorter than the first one of 2m",
        ),
        (
            "ejection: { base: 6m }",
            "ejection.base: the longest ejection of 5m is shorter than the first one of 6m",
        ),
        (
            "limits: { queue: many }",
            "limits.queue: `many` is not a whole number from 0 to 1000000",
        ),
        (
            "limits: { queue_timeout: 0s }",
            "limits.queue_timeout: `0s` is not above 0; write a time such as `500ms` or `2s`",
        ),
        (
            "slow_start: { floor: 0% }",
            "slow_start.floor: `0%` is not a whole percentage from 1% to 100%",
        ),
    ] {
        assert_eq!(pool_error(keys), format!("pools.web.{expected}"));
    }
}

#[test]
fn a_prefix_in_etcd_needs_etcd() {
    let message = only_message(&with_pool("etcd: /services/web/"));
    assert!(
        message.starts_with("pools.web.etcd: it is not said where etcd is; set `discovery.etcd`"),
        "{message}"
    );
}

#[test]
fn consul_is_a_server_that_waits_a_while() {
    let with_consul = |keys: &str| {
        let yaml = with_pool("consul: web");
        only_message(&format!("{yaml}\ndiscovery: {{ consul: {{ {keys} }} }}\n"))
    };
    for (keys, expected) in [
        (
            "wait: 11m",
            "discovery.consul.wait: Consul waits at most 10m, not 11m",
        ),
        (
            "address: \"127.0.0.1:8500\"",
            "discovery.consul.address: `127.0.0.1:8500` is not a URL such as `http://127.0.0.1:8500`",
        ),
        (
            "address: \"http://u:p@a:8500\"",
            "discovery.consul.address: `http://u:p@a:8500` has a user before the host; write `token_file`",
        ),
        (
            "address: \"http://a:8500/ui\"",
            "discovery.consul.address: `http://a:8500/ui` has a path; leave it out",
        ),
        (
            "token_file: /nope/token",
            "discovery.consul.token_file: cannot read `/nope/token`: ",
        ),
    ] {
        let message = with_consul(keys);
        assert!(message.starts_with(expected), "{keys}: {message}");
    }
}
