//! Values of the right type that make no sense: all are reported at once, each with its position.

use ballast::balancer::ALGORITHMS;

use crate::{errors, only_message, parse, pool_error, pool_with, with_pool, with_top};

#[test]
fn all_errors_come_at_once_in_the_order_of_the_file() {
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
    hosts: [\"127.0.0.1:1\", { address: \"nowhere.internal:2\", weight: 10001 }, \"lost.internal:3\", \"127.0.0.1:1\"]
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
            "b.yaml:10:69: pools.web.hosts[1].weight: `10001` is not a whole number from 0 to 10000",
            "b.yaml:10:78: pools.web.hosts[2]: cannot resolve `lost.internal`: no such name",
            "b.yaml:10:97: pools.web.hosts[3]: `127.0.0.1:1` is hosts[0] of this pool already",
            "b.yaml:12:12: pools.api.hosts: the pool has no hosts",
        ]
    );
}

#[test]
fn of_very_many_errors_the_first_are_listed() {
    let hosts = "x, ".repeat(1_000);
    let lines = errors(&with_pool(&format!("hosts: [{hosts}]")));
    assert_eq!(lines.len(), 51);
    assert_eq!(lines[50], "b.yaml: and 950 more problems");
}

#[test]
fn listeners() {
    let listener = |text: &str| {
        only_message(&format!(
            "listeners: [{text}]\npools: {{ web: {{ hosts: [\"127.0.0.1:1\"] }} }}\n"
        ))
    };
    for (said, told) in [
        (
            "8080",
            "listeners[0]: `8080` is not an IP address with a port; did you mean `0.0.0.0:8080`?",
        ),
        (
            "\":8080\"",
            "listeners[0]: `:8080` is not an IP address with a port; did you mean `0.0.0.0:8080`?",
        ),
        (
            "\"localhost:80\"",
            "listeners[0]: `localhost:80` is not an IP address with a port; did you mean `127.0.0.1:80`?",
        ),
        (
            "\"127.0.0.1\"",
            "listeners[0]: `127.0.0.1` has no port; write it as in `127.0.0.1:8080`",
        ),
        (
            "\"::1\"",
            "listeners[0]: `::1` has no port; write it as in `[::1]:8080`",
        ),
        (
            "\"1.2.3.4:99999\"",
            "listeners[0]: `1.2.3.4:99999` is not an IP address with a port such as `0.0.0.0:8080`",
        ),
        (
            "\"127.0.0.1:0\"",
            "listeners[0]: `127.0.0.1:0` has port 0; clients could not know the port",
        ),
        (
            "{}",
            "listeners[0]: `address` is missing; write it as in `address: 0.0.0.0:8080`",
        ),
        (
            "\"[::1]:80\", \"[0:0::1]:80\"",
            "listeners[1]: `[::1]:80` is the address of listeners[0] already",
        ),
        (
            "\"127.0.0.1:80\", \"[::ffff:127.0.0.1]:80\"",
            "listeners[1]: `127.0.0.1:80` is the address of listeners[0] already",
        ),
        (
            "{ address: \"127.0.0.1:80\", tls: {} }",
            "listeners[0].tls.certificates: there is no certificate; TLS needs at least one",
        ),
        (
            "{ address: \"127.0.0.1:80\", proxy_protocol: {} }",
            "listeners[0].proxy_protocol: `trusted` is missing; write it as in `trusted: [10.0.0.0/8]`",
        ),
        (
            "{ address: \"127.0.0.1:80\", proxy_protocol: { trusted: [all] } }",
            "listeners[0].proxy_protocol.trusted[0]: `all` is neither a network such as `10.0.0.0/8` nor an address",
        ),
    ] {
        assert_eq!(listener(said), told);
    }
    let many = Vec::from_iter((1..=33).map(|port| format!("\"127.0.0.1:{port}\""))).join(", ");
    assert_eq!(
        listener(&many),
        "listeners: there are 33 listeners; the limit is 32"
    );
}

#[test]
fn the_top_sections() {
    for (said, told) in [
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
        assert_eq!(only_message(&with_top(said)), told);
    }
}

#[test]
fn hosts() {
    let host = |text: &str| only_message(&with_pool(&format!("hosts: [{text}]")));
    for (said, told) in [
        (
            "\"127.0.0.1\"",
            "pools.web.hosts[0]: `127.0.0.1` has no port; did you mean `127.0.0.1:80`?",
        ),
        (
            "app.internal",
            "pools.web.hosts[0]: `app.internal` has no port; did you mean `app.internal:80`?",
        ),
        (
            "\"::1\"",
            "pools.web.hosts[0]: `::1` has no port; an IPv6 address with one is written as in `[::1]:80`",
        ),
        (
            "\"app.internal:0\"",
            "pools.web.hosts[0]: `app.internal:0` has port 0, where no host can listen",
        ),
        (
            "\"127.0.0.1:0\"",
            "pools.web.hosts[0]: `127.0.0.1:0` has port 0, where no host can listen",
        ),
        (
            "\"app.internal:http\"",
            "pools.web.hosts[0]: `app.internal:http` has no port from 1 to 65535 after its last colon",
        ),
        (
            "\"10.0.0.256:80\"",
            "pools.web.hosts[0]: `10.0.0.256:80` is not a `host:port`",
        ),
        (
            "\"a b:80\"",
            "pools.web.hosts[0]: `a b:80` is not a `host:port`",
        ),
        (
            "\"http://app.internal/\"",
            "pools.web.hosts[0]: `http://app.internal/` is a URL, but a host is `host:port`; leave out `http://` and give the port",
        ),
        (
            "\"http://app.internal:80\"",
            "pools.web.hosts[0]: `http://app.internal:80` is a URL, but a host is `host:port`; leave out `http://`",
        ),
        (
            "\"nope.internal:80\"",
            "pools.web.hosts[0]: cannot resolve `nope.internal`: no such name",
        ),
        (
            "\"empty.internal:80\"",
            "pools.web.hosts[0]: cannot resolve `empty.internal`: it has no address",
        ),
        (
            "{ weight: 2 }",
            "pools.web.hosts[0]: `address` is missing; write it as in `address: 127.0.0.1:8081`",
        ),
        (
            "{ address: \"127.0.0.1:1\", weight: -1 }",
            "pools.web.hosts[0].weight: `-1` is not a whole number from 0 to 10000",
        ),
        (
            "{ address: \"127.0.0.1:80\", name: \" \" }",
            "pools.web.hosts[0].name: a name has at least one character",
        ),
        (
            "{ address: \"127.0.0.1:80\", name: \"a\\tb\" }",
            "pools.web.hosts[0].name: `a\\tb` begins or ends with a space, or has a control character",
        ),
        (
            "{ address: \"127.0.0.1:80\", name: a }, { address: \"127.0.0.1:81\", name: a }",
            "pools.web.hosts[1].name: `a` is the name of hosts[0] already",
        ),
        (
            "{ address: \"127.0.0.1:1\", backup: maybe }",
            "pools.web.hosts[0].backup: `maybe` is not one of `true`, `false`",
        ),
        (
            "{ address: \"127.0.0.1:1\", max_in_flight: -1 }",
            "pools.web.hosts[0].max_in_flight: `-1` is not a whole number from 0 to 18446744073709551615",
        ),
        (
            "{ address: \"127.0.0.1:1\", weight: 0 }",
            "pools.web.hosts: no host of the pool can take requests: every weight is 0",
        ),
        (
            "\"app.internal:80\", { address: \"App.Internal:80\" }",
            "pools.web.hosts[1].address: `App.Internal:80` is hosts[0] of this pool already",
        ),
        (
            "\"[::1]:80\", \"[0::1]:80\"",
            "pools.web.hosts[1]: `[0::1]:80` is hosts[0] of this pool already",
        ),
    ] {
        assert_eq!(host(said), told);
    }
    let long = "x".repeat(200);
    let told = host(&format!("\"{long}\\n!\""));
    assert_eq!(
        told,
        format!(
            "pools.web.hosts[0]: `{}…` is not a `host:port`",
            &long[..80]
        )
    );
}

#[test]
fn algorithms() {
    for (said, told) in [
        (
            "{ key: path }",
            "pools.web.algorithm: `name` is missing, the algorithm's name",
        ),
        (
            "{ name: p2c, lod: peak_ewma }",
            "pools.web.algorithm.lod: `p2c` has no option `lod`; it has load; did you mean `load`?",
        ),
        (
            "{ name: bounded, factor: 0.5 }",
            "pools.web.algorithm.factor: `factor` is `0.5`, expected a number from 1 to 100",
        ),
        (
            "{ name: random, key: path }",
            "pools.web.algorithm.key: `random` takes no key, so `path` has no effect",
        ),
        (
            "{ name: ip_hash, key: path }",
            "pools.web.algorithm.key: `ip_hash` takes no key, so `path` has no effect",
        ),
    ] {
        assert_eq!(pool_error(&format!("algorithm: {said}")), told);
    }
    let sources =
        "is not one of `client_ip`, `header:NAME`, `cookie:NAME`, `query:NAME`, `path`, `uri`";
    for (said, told) in [
        (
            "client-ip",
            format!("`client-ip` {sources}; did you mean `client_ip`?"),
        ),
        ("user", format!("`user` {sources}")),
        (
            "header",
            "`header` needs a name, as in `header:NAME`".to_owned(),
        ),
        (
            "header:X User",
            "`header:X User` does not name a header field".to_owned(),
        ),
        (
            "\"header:\"",
            "`header:` does not name a header field".to_owned(),
        ),
        (
            "\"cookie:a=b\"",
            "`cookie:a=b` does not name a cookie".to_owned(),
        ),
        (
            "\"query:\"",
            "`query:` does not name a query parameter".to_owned(),
        ),
        (
            "path:/v1",
            "`path:/v1` takes no name; did you mean `path`?".to_owned(),
        ),
    ] {
        let line = pool_error(&format!(
            "algorithm: {{ name: consistent_hash, key: {said} }}"
        ));
        assert_eq!(line, format!("pools.web.algorithm.key: {told}"));
    }
}

#[test]
fn health_checks() {
    for (said, told) in [
        (
            "off",
            ": `off` is neither `none` nor a map; did you mean `none`?",
        ),
        (
            "http",
            ": `http` is neither `none` nor a map; did you mean `{ type: http }`?",
        ),
        (
            "{ type: htpp }",
            ".type: `htpp` is not one of `tcp`, `http`; did you mean `http`?",
        ),
        (
            "{ path: / }",
            ".path: `path` belongs to an HTTP check; did you mean `type: http`?",
        ),
        (
            "{ interval: 0s }",
            ".interval: `0s` is not above 0; write a time such as `500ms` or `2s`",
        ),
        (
            "{ interval: 1s, timeout: 2s }",
            ".timeout: the timeout of 2s is longer than the interval of 1s; a check must end before the next begins",
        ),
        (
            "{ interval: 500ms }",
            ".interval: the timeout of 1s is longer than the interval of 500ms; a check must end before the next begins",
        ),
        (
            "{ rise: 0 }",
            ".rise: `0` is not a whole number from 1 to 1000",
        ),
        (
            "{ fall: 0 }",
            ".fall: `0` is not a whole number from 1 to 1000",
        ),
        (
            "{ initial: down }",
            ".initial: `down` is not one of `unknown`, `up`",
        ),
        (
            "{ type: http, method: get }",
            ".method: `get` is not in capital letters; did you mean `GET`?",
        ),
        (
            "{ type: http, method: CONNECT }",
            ".method: `CONNECT` is not a method for a check",
        ),
        (
            "{ type: http, path: healthz }",
            ".path: `healthz` does not begin with `/`",
        ),
        (
            "{ type: http, path: \"/a b\" }",
            ".path: `/a b` is not a path: invalid uri character",
        ),
        (
            "{ type: http, host: \"a b\" }",
            ".host: `a b` is not a host name",
        ),
        (
            "{ type: http, expect: [] }",
            ".expect: no status is expected, so no host could ever be healthy",
        ),
        (
            "{ type: http, expect: 99 }",
            ".expect: `99` is neither a status from 100 to 599 nor a range such as `200-299`",
        ),
        (
            "{ type: http, expect: [200, \"500-600\"] }",
            ".expect[1]: `500-600` is neither a status from 100 to 599 nor a range such as `200-299`",
        ),
        (
            "{ type: http, expect: 299-200 }",
            ".expect: `299-200` is empty; did you mean `200-299`?",
        ),
    ] {
        let line = pool_error(&format!("health_check: {said}"));
        assert_eq!(line, format!("pools.web.health_check{told}"));
    }
}

#[test]
fn policies_and_tls() {
    for (said, told) in [
        (
            "host_header: keep",
            "host_header: `keep` is not one of `preserve`, `upstream`",
        ),
        (
            "when_all_down: try-all",
            "when_all_down: `try-all` is not one of `error`, `try_all`; did you mean `try_all`?",
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
        assert_eq!(pool_error(said), format!("pools.web.{told}"));
    }
}

#[test]
fn retries() {
    for (said, told) in [
        ("never", ": `never` is neither `none` nor a map"),
        (
            "3",
            ": `3` is neither `none` nor a map; did you mean `{ attempts: 3 }`?",
        ),
        (
            "{ attempts: 0 }",
            ".attempts: `0` is not a whole number from 1 to 10; `retries: none` turns them off",
        ),
        (
            "{ attempts: 11 }",
            ".attempts: `11` is not a whole number from 1 to 10",
        ),
        (
            "{ statuses: 200 }",
            ".statuses: `200` is not a failure, which has a status from 400 to 599",
        ),
        (
            "{ statuses: [503, 504-502] }",
            ".statuses[1]: `504-502` is empty; did you mean `502-504`?",
        ),
        (
            "{ budget: 20 }",
            ".budget: `20` has no percent sign; write `20%`",
        ),
        (
            "{ budget: 101% }",
            ".budget: `101%` is not a whole percentage from 0% to 100%",
        ),
        (
            "{ min: -1 }",
            ".min: `-1` is not a whole number from 0 to 1000000",
        ),
        (
            "{ deadline: 0s }",
            ".deadline: `0s` is not above 0; write a time such as `500ms` or `2s`",
        ),
    ] {
        let line = pool_error(&format!("retries: {said}"));
        assert_eq!(line, format!("pools.web.retries{told}"));
    }
    assert_eq!(pool_with("retries: none").retries, None);
    let retries = pool_with("retries: { statuses: [] }").retries;
    assert_eq!(retries.expect("retries").statuses, []);
    let retries = pool_with("retries: { statuses: 500-599, budget: 0% }").retries;
    let retries = retries.expect("retries");
    assert_eq!((retries.statuses, retries.budget), (vec![(500, 599)], 0));
}

#[test]
fn sticky() {
    for (said, told) in [
        (
            "yes",
            ": `yes` is neither `none` nor a map; did you mean `{ cookie: ballast }`?",
        ),
        (
            "{ ttl: 1h }",
            ": `cookie` is missing; write it as in `cookie: ballast`",
        ),
        (
            "{ cookie: \"a b\" }",
            ".cookie: `a b` is not the name of a cookie",
        ),
        (
            "{ cookie: __Host-a }",
            ".cookie: browsers take `__Host-a` with `Secure` only; set `secure: true`",
        ),
        (
            "{ cookie: a, same_site: none }",
            ".same_site: browsers take `SameSite=None` with `Secure` only; set `secure: true`",
        ),
        (
            "{ cookie: a, same_site: Lax }",
            ".same_site: `Lax` is not one of `strict`, `lax`, `none`; did you mean `lax`?",
        ),
        (
            "{ cookie: a, ttl: 999ms }",
            ".ttl: `999ms` is shorter than 1s",
        ),
        (
            "{ cookie: a, http_only: maybe }",
            ".http_only: `maybe` is not one of `true`, `false`",
        ),
        (
            "{ cookie: a, secret_file: s.key }",
            ".secret_file: cannot read `s.key`: entity not found",
        ),
    ] {
        let line = pool_error(&format!("sticky: {said}"));
        assert_eq!(line, format!("pools.web.sticky{told}"));
    }
    assert_eq!(pool_with("sticky: none").sticky, None);
    let sticky = pool_with("sticky: { cookie: __Host-a, secure: true, same_site: none }").sticky;
    let sticky = sticky.expect("sticky");
    assert_eq!(sticky.cookie, "__Host-a");
    assert_eq!(sticky.ttl.as_secs(), 3600);
    assert!(sticky.http_only && sticky.secret_file.is_none());
}

#[test]
fn names_of_pools_need_no_quotes_anywhere() {
    let line = only_message(
        "listeners: [\"127.0.0.1:80\"]\npools: { \"a b\": { hosts: [\"127.0.0.1:1\"] } }\n",
    );
    assert_eq!(
        line,
        "pools.a b: `a b` is not a name of a pool: letters, digits, `_`, `-` and `.`"
    );
}

#[test]
fn files_of_the_process() {
    let told = |keys: &str| only_message(&with_top(&format!("server: {{ {keys} }}")));
    assert_eq!(
        told("pid_file: run/"),
        "server.pid_file: `run/` is not the path of a file"
    );
    assert_eq!(
        told("control_socket: /a, upgrade_socket: /a"),
        "server.upgrade_socket: this is the path of server.control_socket already"
    );
    let long = "x".repeat(107);
    assert!(
        told(&format!("control_socket: /{long}"))
            .ends_with("has 108 bytes; the path of a socket may have 107")
    );
    assert_eq!(
        told("drain_delay: 10"),
        "server.drain_delay: `10` has no unit; write `10s` for seconds or `10ms` for milliseconds"
    );
    let server = parse(&with_top(
        "server: { pid_file: run/b.pid, control_socket: /s/b.sock, drain_delay: 1500ms }",
    ))
    .server;
    assert_eq!(server.pid_file, Some("run/b.pid".into()));
    assert_eq!(server.control_socket, Some("/s/b.sock".into()));
    assert_eq!(server.drain_delay, std::time::Duration::from_millis(1500));
}

#[test]
fn the_admin_listener_is_none_of_the_listeners() {
    assert_eq!(
        only_message(&with_top("admin: { address: \"127.0.0.1:8080\" }")),
        "admin.address: `127.0.0.1:8080` is the address of listeners[0] already"
    );
    assert_eq!(
        only_message(&with_top("admin: { address: localhost:9901 }")),
        "admin.address: `localhost:9901` is not an IP address with a port; did you mean `127.0.0.1:9901`?"
    );
    let admin = parse(&with_top("admin: { address: \"[::1]:9901\" }")).admin;
    assert_eq!(admin.address, Some("[::1]:9901".parse().expect("right")));
}

#[test]
fn who_may_ask_the_admin_listener() {
    for (said, told) in [
        (
            "hosts: [\"a.example:80\"]",
            "admin.hosts[0]: `a.example:80` is not a host name without port; IP addresses need not be listed",
        ),
        (
            "ready: { usable: some }",
            "admin.ready.usable: `some` is not a whole number from 0 to 18446744073709551615",
        ),
    ] {
        assert_eq!(
            only_message(&with_top(&format!("admin: {{ {said} }}"))),
            told
        );
    }
    let admin = parse(&with_top(
        "admin: { hosts: [Lb.Internal], ready: { usable: 2 } }",
    ))
    .admin;
    assert_eq!((&*admin.hosts[0], admin.ready.usable), ("lb.internal", 2));
}

#[test]
fn limits_rates_and_access() {
    for (said, told) in [
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
            "limits.rate.requests: `0` is not a whole number from 1 to 10000000",
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
        assert_eq!(only_message(&with_top(said)), told);
    }
}

#[test]
fn access_logs() {
    for (said, told) in [
        (
            "{ format: json }",
            ": `path` is missing; write it as in `path: /var/log/ballast/access.log`",
        ),
        (
            "{ path: logs/ }",
            ".path: `logs/` is not the path of a file",
        ),
        (
            "{ path: a, format: jsn }",
            ".format: `jsn` is not one of `json`, `combined`; did you mean `json`?",
        ),
        (
            "{ path: a, buffer: 1KiB }",
            ".buffer: `1KiB` is not from 65536 to 1073741824 bytes",
        ),
        (
            "{ path: a, sample: [{ statuses: 200 }] }",
            ".sample[0]: `share` is missing; write it as in `share: 1%`",
        ),
        (
            "{ path: a, sample: [{ statuses: [200, 2xx], share: 1% }] }",
            ".sample[0].statuses[1]: `2xx` is neither a status from 100 to 599 nor a range such as `200-299`",
        ),
        (
            "{ path: a, sample: [{ statuses: 200, share: 0.01 }] }",
            ".sample[0].share: `0.01` has no percent sign; write `0.01%`",
        ),
        (
            "{ path: a, sample: [{ statuses: 200, share: 101% }] }",
            ".sample[0].share: `101%` is not a share from 0% to 100%",
        ),
        (
            "{ path: a, sample: [{ statuses: 200, share: NaN% }] }",
            ".sample[0].share: `NaN%` is not a share from 0% to 100%",
        ),
    ] {
        let line = only_message(&with_top(&format!("access_log: {said}")));
        assert_eq!(line.strip_prefix("access_log"), Some(told));
    }
    let text = "access_log: { path: a, sample: [{ statuses: 200-399, share: 0.25% }, { statuses: [404, 410-499], share: 100% }] }";
    let log = parse(&with_top(text)).access_log.expect("a log");
    let samples = log.sample.into_iter();
    assert_eq!(
        Vec::from_iter(samples.map(|sample| (sample.statuses, sample.share.millionths()))),
        [
            (vec![(200, 399)], 2_500),
            (vec![(404, 404), (410, 499)], 1_000_000)
        ]
    );
}
