//! Valid values: each key that takes a single value, a list or a map, in each of these forms.

use std::time::Duration;

use ballast::config::{
    Access, CleartextHttp2, HalfClose, HostHeader, Initial, KeySource, Listener, Period, PoolTls,
    Probe, ProxyProtocolVersion, Rate, RateKey, TlsVersion, Underscores, WhenAllDown,
};
use ballast_balancer::ALGORITHMS;

use crate::{parse, pool, pool_with, with_top};

#[test]
fn a_listener_is_an_address_or_a_map() {
    let config = parse(
        "listeners: [\"0.0.0.0:80\", { address: \"[::1]:8080\" }]\npools: { web: { hosts: [\"127.0.0.1:1\"] } }\n",
    );
    let plain = |address: &str| Listener {
        address: address.parse().expect("an address"),
        mode: None,
        tls: None,
        access: Access::default(),
        proxy_protocol: None,
        http2: CleartextHttp2::Off,
        redirect_https: false,
    };
    assert_eq!(config.listeners, [plain("0.0.0.0:80"), plain("[::1]:8080")]);
}

#[test]
fn proxy_protocol_trusts_the_listed_networks() {
    let config = parse(
        "listeners: [{ address: \"0.0.0.0:80\", proxy_protocol: { trusted: [10.0.0.0/8, \"::1\"] } }]
pools: { web: { hosts: [\"127.0.0.1:1\"] } }
",
    );
    let proxy_protocol = config.listeners[0].proxy_protocol.as_ref();
    let trusts = |peer: &str| {
        let peer = Some(peer.parse().expect("an address"));
        proxy_protocol.is_some_and(|proxy_protocol| proxy_protocol.trusts(peer))
    };
    assert!(trusts("10.1.2.3") && trusts("::1") && trusts("::ffff:10.1.2.3"));
    assert!(!trusts("11.1.2.3") && !trusts("::2"));
}

#[test]
fn a_host_is_an_address_a_name_or_a_map() {
    let pool = pool(
        "hosts: [\"127.0.0.1:81\", { address: \"App.internal:82\", resolve: once }, { address: \"[::1]:83\", weight: 10000 }, \
         { address: \"app.internal:84\", weight: 0, resolve: once }]",
    );
    let found = Vec::from_iter(pool.members.iter().map(|host| {
        let (id, name) = (host.id.as_str(), host.name.as_str());
        (id, name, host.address.to_string(), host.weight)
    }));
    let expected = [
        ("127.0.0.1:81", "127.0.0.1", "127.0.0.1:81", 1),
        ("App.internal:82", "app.internal", "10.0.0.7:82", 1),
        ("[::1]:83", "::1", "[::1]:83", 10_000),
        ("app.internal:84", "app.internal", "10.0.0.7:84", 0),
    ];
    let expected =
        expected.map(|(id, name, address, weight)| (id, name, address.to_owned(), weight));
    assert_eq!(found, expected);
}

#[test]
fn every_algorithm_of_the_registry_is_known_by_name() {
    for info in ALGORITHMS {
        assert_eq!(
            pool_with(&format!("algorithm: {}", info.name))
                .algorithm
                .info()
                .name,
            info.name
        );
        let hyphens = info.name.replace('_', "-");
        assert_eq!(
            pool_with(&format!("algorithm: {hyphens}"))
                .algorithm
                .info()
                .name,
            info.name
        );
        let defaults = info
            .options
            .iter()
            .map(|option| format!(", {}: {}", option.name, option.default));
        let map = format!(
            "algorithm: {{ name: {}{} }}",
            info.name,
            defaults.collect::<String>()
        );
        assert_eq!(pool_with(&map).algorithm.info().name, info.name);
    }
}

#[test]
fn a_key_has_six_sources() {
    let key = |key: &str| {
        let keys = format!("algorithm: {{ name: consistent_hash, key: \"{key}\" }}");
        pool_with(&keys).algorithm.key
    };
    assert_eq!(key("client_ip"), KeySource::ClientIp);
    assert_eq!(
        key("header:X-User"),
        KeySource::Header("x-user".parse().expect("a name"))
    );
    assert_eq!(
        key("cookie:Session"),
        KeySource::Cookie("Session".to_owned())
    );
    assert_eq!(key("query:user"), KeySource::Query("user".to_owned()));
    assert_eq!(key("path"), KeySource::Path);
    assert_eq!(key("uri"), KeySource::Uri);
}

#[test]
fn a_health_check_is_none_or_a_map() {
    assert_eq!(pool_with("health_check: none").health_check, None);
    let check = pool_with(
        "health_check: { type: http, method: HEAD, path: \"/ok?deep=1\", host: app.internal, expect: [200, \"301-302\"], \
         interval: 1m30s, timeout: 500ms, rise: 1, fall: 1, initial: up }",
    );
    let check = check.health_check.expect("a check");
    assert_eq!(
        check.probe,
        Probe::Http {
            method: http::Method::HEAD,
            path: "/ok?deep=1".parse().expect("a path"),
            host: Some("app.internal".to_owned()),
            expect: vec![(200, 200), (301, 302)],
        }
    );
    assert_eq!(check.interval, Duration::from_secs(90));
    assert_eq!(check.timeout, Duration::from_millis(500));
    assert_eq!((check.rise, check.fall, check.initial), (1, 1, Initial::Up));
    for (value, range) in [
        ("204", (204, 204)),
        ("200-299", (200, 299)),
        ("\"200-299\"", (200, 299)),
    ] {
        let check = pool_with(&format!("health_check: {{ type: http, expect: {value} }}"));
        match check.health_check.expect("a check").probe {
            Probe::Http { expect, .. } => assert_eq!(expect, [range]),
            _ => panic!("not an HTTP check"),
        }
    }
}

#[test]
fn tls_to_the_hosts_is_a_boolean_or_a_map() {
    let all_defaults = PoolTls {
        server_name: None,
        verify: true,
        min_version: TlsVersion::Tls12,
        ca: None,
        certificate: None,
        key: None,
    };
    assert_eq!(pool_with("tls: false").tls, None);
    assert_eq!(pool_with("tls: true").tls, Some(all_defaults.clone()));
    assert_eq!(pool_with("tls: {}").tls, Some(all_defaults));
    assert_eq!(
        pool_with("tls: { server_name: app.internal, verify: false, min_version: 1.3 }").tls,
        Some(PoolTls {
            server_name: Some("app.internal".to_owned()),
            verify: false,
            min_version: TlsVersion::Tls13,
            ca: None,
            certificate: None,
            key: None,
        })
    );
}

#[test]
fn policies_have_two_values_each() {
    let pool = pool_with("host_header: upstream, when_all_down: try_all");
    assert_eq!(pool.host_header, HostHeader::Upstream);
    assert_eq!(pool.when_all_down, WhenAllDown::TryAll);
    for (word, version) in [
        ("v1", Some(ProxyProtocolVersion::V1)),
        ("v2", Some(ProxyProtocolVersion::V2)),
        ("none", None),
    ] {
        let pool = pool_with(&format!("proxy_protocol: {word}"));
        assert_eq!(pool.proxy_protocol, version);
    }
    let pool = pool_with("host_header: preserve, when_all_down: error");
    assert_eq!(pool.host_header, HostHeader::Preserve);
    assert_eq!(pool.when_all_down, WhenAllDown::Error);
}

#[test]
fn top_level_sections() {
    let config = parse(&with_top(
        "server: { threads: 3, grace_period: 0s }\ntrusted_proxies: [10.0.0.0/8, \"::1\", 192.0.2.1]\n\
         limits: { max_in_flight: 1000, head: 8KiB, target: 2000, fields: 200, body: 10 MiB }\n\
         headers: { underscores: pass, via: edge-1 }\ntimeouts: { connect: 1s, read: 2m, write: 1h30m, idle: 24h, \
         client_keepalive: 1ms, tunnel: 1day }\nhalf_close: serve",
    ));
    assert_eq!(config.half_close, HalfClose::Serve);
    assert_eq!(config.server.threads, 3);
    assert_eq!(config.server.grace_period, Duration::ZERO);
    let networks = Vec::from_iter(config.trusted_proxies.iter().map(ToString::to_string));
    assert_eq!(networks, ["10.0.0.0/8", "::1/128", "192.0.2.1/32"]);
    let limits = config.limits;
    assert_eq!(limits.max_in_flight, Some(1_000));
    assert_eq!((limits.head, limits.target), (8_192, 2_000));
    assert_eq!((limits.fields, limits.body), (200, Some(10 << 20)));
    assert_eq!(config.headers.underscores, Underscores::Pass);
    assert_eq!(config.headers.via.as_deref(), Some("edge-1"));
    assert_eq!(parse(&with_top("headers: { via: none }")).headers.via, None);
    assert_eq!(config.timeouts.read, Duration::from_secs(120));
    assert_eq!(config.timeouts.write, Duration::from_secs(5_400));
    assert_eq!(config.timeouts.client_keepalive, Duration::from_millis(1));
    assert_eq!(config.timeouts.tunnel, Duration::from_secs(86_400));
}

#[test]
fn upgrades_are_a_list_that_may_be_empty() {
    let upgrades = |line: &str| {
        let config = parse(&with_top(line));
        Vec::from_iter(config.upgrades.iter().map(ToString::to_string))
    };
    assert_eq!(
        upgrades("upgrades: [WebSocket, tcp, SPDY/3.1]"),
        ["WebSocket", "tcp", "SPDY/3.1"]
    );
    assert_eq!(upgrades("upgrades: tcp"), ["tcp"]);
    assert!(upgrades("upgrades: []").is_empty());
}

#[test]
fn limits_rates_and_access_lists() {
    let config = parse(
        "listeners: [{ address: \"0.0.0.0:80\", allow: [10.0.0.0/8], deny: [10.1.0.0/16, \"::1\"] }]
limits: { max_connections: 7, max_connections_per_client: 3, max_requests_per_connection: 0, min_body_rate: 100, rate: { requests: 10 } }
routes: [{ pool: web, allow: [192.0.2.1], rate: { requests: 5, burst: 9, key: \"header:X-Key\" } }]
pools: { web: { hosts: [\"127.0.0.1:1\"] } }
",
    );
    let access = &config.listeners[0].access;
    assert_eq!(config.listeners[0].proxy_protocol, None);
    assert_eq!(access.allow.len(), 1);
    assert_eq!(access.deny.len(), 2);
    let limits = &config.limits;
    assert_eq!(limits.max_connections, Some(7));
    assert_eq!(limits.max_connections_per_client, Some(3));
    assert_eq!(limits.max_requests_per_connection, None);
    assert_eq!(limits.min_body_rate, Some(100));
    let rate = |requests: u64, burst, key| {
        Some(Rate {
            thousandths: std::num::NonZeroU64::new(requests * 1_000).expect("above 0"),
            per: Period::Second,
            burst: std::num::NonZeroU32::new(burst).expect("above 0"),
            key,
        })
    };
    assert_eq!(limits.rate, rate(10, 10, RateKey::ClientIp));
    let route = &config.routes[0];
    assert_eq!(
        route.rate,
        rate(5, 9, RateKey::Header("x-key".parse().expect("a name")))
    );
    assert!(route.access.permits("192.0.2.1".parse().ok()));
    assert!(!route.access.permits("192.0.2.2".parse().ok()));
    let auto = parse(&with_top("limits: { max_connections: auto }"));
    assert_eq!(auto.limits.max_connections, None);
}
