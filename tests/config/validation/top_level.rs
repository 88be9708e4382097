//! The smaller sections at the top level: timeouts, limits, upgrades, headers, paths, trusted proxies.

use crate::{only_message, with_top};

#[test]
fn top_level_sections() {
    for (keys, expected) in [
        (
            "timeouts: { read: 5 }",
            "timeouts.read: `5` has no unit; write `5s` for seconds or `5ms` for milliseconds",
        ),
        (
            "timeouts: { read: 0 }",
            "timeouts.read: `0` is not above 0; write a time such as `500ms` or `2s`",
        ),
        (
            "timeouts: { read: soon }",
            "timeouts.read: `soon` is not a time such as `500ms`, `2s` or `1m30s`",
        ),
        (
            "timeouts: { read: -1s }",
            "timeouts.read: `-1s` is not a time such as `500ms`, `2s` or `1m30s`",
        ),
        (
            "timeouts: { read: }",
            "timeouts.read: a value is missing here; write one or leave the key out",
        ),
        (
            "timeouts: { read: 24h1s }",
            "timeouts.read: `24h1s` is longer than 24h",
        ),
        (
            "timeouts: { read: 99999999999999999999h }",
            "timeouts.read: `99999999999999999999h` is not a time such as `500ms`, `2s` or `1m30s`",
        ),
        (
            "timeouts: { read: 10us }",
            "timeouts.read: `10us` is shorter than 1ms",
        ),
        (
            "server: { grace_period: 30 }",
            "server.grace_period: `30` has no unit; write `30s` for seconds or `30ms` for milliseconds",
        ),
        (
            "server: { threads: -1 }",
            "server.threads: `-1` is not a whole number from 0 to 1024",
        ),
        (
            "server: { threads: 1.5 }",
            "server.threads: `1.5` is not a whole number from 0 to 1024",
        ),
        (
            "limits: { max_in_flight: lots }",
            "limits.max_in_flight: `lots` is not a whole number from 0 to 18446744073709551615",
        ),
        (
            "limits: { head: 32KB }",
            "limits.head: `32KB` is not a number of bytes such as `512`, `32KiB` or `10MiB`; did you mean `32KiB`?",
        ),
        (
            "limits: { head: 2MiB }",
            "limits.head: `2MiB` is not from 1024 to 1048576 bytes",
        ),
        (
            "limits: { target: 0 }",
            "limits.target: `0` is not from 64 to 1048576 bytes",
        ),
        (
            "limits: { body: 99999999999GiB }",
            "limits.body: `99999999999GiB` is not a number of bytes such as `512`, `32KiB` or `10MiB`",
        ),
        (
            "limits: { body: -1 }",
            "limits.body: `-1` is not a number of bytes such as `512`, `32KiB` or `10MiB`",
        ),
        (
            "limits: { fields: 257 }",
            "limits.fields: `257` is not a whole number from 8 to 256",
        ),
        (
            "half_close: keep",
            "half_close: `keep` is not one of `abort`, `serve`",
        ),
        (
            "upgrades: [websocket, h2c]",
            "upgrades[1]: `h2c` carries requests, which would pass unseen after the upgrade",
        ),
        (
            "upgrades: [HTTP/2.0]",
            "upgrades[0]: `HTTP/2.0` carries requests, which would pass unseen after the upgrade",
        ),
        (
            "upgrades: [tls/1.2]",
            "upgrades[0]: `tls/1.2` carries requests, which would pass unseen after the upgrade",
        ),
        (
            "upgrades: [a b]",
            "upgrades[0]: `a b` is not a protocol such as `websocket` or `SPDY/3.1`",
        ),
        (
            "upgrades: [SPDY/]",
            "upgrades[0]: `SPDY/` is not a protocol such as `websocket` or `SPDY/3.1`",
        ),
        (
            "upgrades: [a/b/c]",
            "upgrades[0]: `a/b/c` is not a protocol such as `websocket` or `SPDY/3.1`",
        ),
        (
            "upgrades: [\"\"]",
            "upgrades[0]: nothing is not a protocol such as `websocket` or `SPDY/3.1`",
        ),
        ("upgrades: [tcp, TCP]", "upgrades[1]: `TCP` is there twice"),
        (
            "headers: { underscores: keep }",
            "headers.underscores: `keep` is not one of `drop`, `pass`",
        ),
        (
            "headers: { via: a b }",
            "headers.via: `a b` is not a name of letters, digits and `-._`, at most 64, nor `none`",
        ),
        (
            "headers: { client_identity: { drop: [Host] } }",
            "headers.client_identity.drop[0]: `Host` says how a request is sent, and cannot be dropped",
        ),
        (
            "headers: { client_identity: { drop: [\":path\"] } }",
            "headers.client_identity.drop[0]: `:path` is a pseudo-header of HTTP/2, by which no client can claim to be another one",
        ),
        (
            "headers: { client_identity: { drop: [a b] } }",
            "headers.client_identity.drop[0]: `a b` is not the name of a header field",
        ),
        (
            "headers: { client_identity: { pass: [X-Forwarded-For] } }",
            "headers.client_identity.pass[0]: `X-Forwarded-For` is set by this proxy, so a client's own cannot pass; list the clients that may set it in `trusted_proxies`",
        ),
        (
            "headers: { client_identity: { pass: [Proxy] } }",
            "headers.client_identity.pass[0]: `Proxy` is taken for the variable HTTP_PROXY by CGI programs, and never passes (httpoxy)",
        ),
        (
            "headers: { client_identity: { pass: [Cookie] } }",
            "headers.client_identity.pass[0]: `Cookie` passes anyway; only a field that is dropped by default can stand here",
        ),
        (
            "headers: { client_identity: { drop: [Forwarded], pass: [Forwarded] } }",
            "headers.client_identity.pass: `forwarded` is in `drop` as well",
        ),
        (
            "paths: { ambiguous: keep }",
            "paths.ambiguous: `keep` is not one of `auto`, `reject`, `pass`",
        ),
        (
            "trusted_proxies: [10.0.0.1/8]",
            "trusted_proxies[0]: `10.0.0.1/8` has bits set after its prefix; did you mean `10.0.0.0/8`?",
        ),
        (
            "trusted_proxies: [nginx]",
            "trusted_proxies[0]: `nginx` is neither a network such as `10.0.0.0/8` nor an address",
        ),
    ] {
        assert_eq!(only_message(&with_top(keys)), expected);
    }
}

#[test]
fn limits_rates_and_access_lists() {
    for (keys, expected) in [
        (
            "limits: { max_connections: 0 }",
            "limits.max_connections: `0` is not a whole number from 1 to 18446744073709551615, nor `auto`",
        ),
        (
            "limits: { min_body_rate: -1 }",
            "limits.min_body_rate: `-1` is not a whole number from 0 to 18446744073709551615",
        ),
        (
            "limits: { rate: { burst: 5 } }",
            "limits.rate: `requests` is missing; write it as in `requests: 100`",
        ),
        (
            "limits: { rate: { requests: 0 } }",
            "limits.rate.requests: `0` is not from 0.001 to 10000000 requests",
        ),
        (
            "limits: { rate: 5r/m }",
            "limits.rate: `5r/m` is not a number of requests such as `100/s`, `5/min`, `1000/h` or `0.5/s`; did you mean `5/min`?",
        ),
        (
            "limits: { rate: 5/day }",
            "limits.rate: `5/day` is not a number of requests such as `100/s`, `5/min`, `1000/h` or `0.5/s`",
        ),
        (
            "limits: { rate: 5 }",
            "limits.rate: `5` has no period; write `5/s`, `5/min` or `5/h`",
        ),
        (
            "limits: { rate: { requests: 5/s, per: min } }",
            "limits.rate.per: `requests` has a period already; write one of the two",
        ),
        (
            "limits: { rate: { requests: 5, per: m } }",
            "limits.rate.per: `m` is not one of `s`, `min`, `h`; did you mean `min`?",
        ),
        (
            "limits: { rate: { requests: 1, per: h, burst: 10000 } }",
            "limits.rate.burst: 10000 requests at this rate take more than a year",
        ),
        (
            "limits: { rate: }",
            "limits.rate: `requests` is missing; write it as in `requests: 100`",
        ),
        (
            "limits: { rate: { requests: 1, key: cookie } }",
            "limits.rate.key: `cookie` is neither `client_ip` nor `header:NAME`",
        ),
        (
            "routes: [{ pool: web, deny: [10.0.0.1/8] }]",
            "routes[0].deny[0]: `10.0.0.1/8` has bits set after its prefix; did you mean `10.0.0.0/8`?",
        ),
    ] {
        assert_eq!(only_message(&with_top(keys)), expected);
    }
}
