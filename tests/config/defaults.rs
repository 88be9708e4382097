//! What holds where nothing is said.

use std::time::Duration;

use ballast::config::{
    Access, Admin, Headers, HostHeader, Initial, KeySource, Limits, Probe, Route, Server, Timeouts,
    Underscores, WhenAllDown,
};

use crate::{parse, pool_with, with_top};

#[test]
fn everything_left_out_has_its_default() {
    let config = parse(&with_top(""));
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    assert_eq!(
        config.server,
        Server {
            threads: cores,
            grace_period: Duration::from_secs(30),
            drain_delay: Duration::ZERO,
            pid_file: None,
            control_socket: None,
            upgrade_socket: None,
        }
    );
    assert_eq!(
        config.timeouts,
        Timeouts {
            connect: Duration::from_secs(3),
            read: Duration::from_secs(60),
            write: Duration::from_secs(60),
            idle: Duration::from_secs(60),
            client_head: Duration::from_secs(10),
            client_keepalive: Duration::from_secs(75),
            tunnel: Duration::from_secs(3600),
        }
    );
    assert_eq!(config.admin, Admin { address: None });
    assert_eq!(
        config.limits,
        Limits {
            max_in_flight: None,
            head: 32 * 1024,
            target: 16 * 1024,
            fields: 100,
            body: None,
            max_connections: None,
            max_connections_per_client: None,
            max_requests_per_connection: Some(1000),
            min_body_rate: None,
            rate: None,
        }
    );
    assert_eq!(config.listeners[0].access, Access::default());
    assert_eq!(
        config.headers,
        Headers {
            underscores: Underscores::Drop,
            via: Some("ballast".to_owned()),
        }
    );
    assert!(config.trusted_proxies.is_empty());
    assert_eq!(config.listeners[0].tls, None);
    let everything = Route {
        host: None,
        path: None,
        pool: 0,
        access: Access::default(),
        rate: None,
    };
    assert_eq!(config.routes, [everything]);

    let [pool] = config.pools.as_slice() else {
        panic!("{:#?}", config.pools);
    };
    assert_eq!(pool.name, "web");
    assert_eq!(pool.algorithm.info.name, "p2c");
    assert_eq!(pool.algorithm.key, KeySource::ClientIp);
    assert_eq!(pool.hosts[0].weight, 1);
    assert_eq!(pool.host_header, HostHeader::Preserve);
    assert_eq!(pool.when_all_down, WhenAllDown::Error);
    assert_eq!(pool.tls, None);
    let check = pool.health_check.as_ref().expect("a check");
    assert_eq!(check.probe, Probe::Tcp);
    assert_eq!(check.interval, Duration::from_secs(2));
    assert_eq!(check.timeout, Duration::from_secs(1));
    assert_eq!((check.rise, check.fall), (2, 3));
    assert_eq!(check.initial, Initial::Unknown);
}

#[test]
fn an_http_check_asks_for_the_root() {
    let check = pool_with("health_check: { type: http }").health_check;
    assert_eq!(
        check.expect("a check").probe,
        Probe::Http {
            method: http::Method::GET,
            path: "/".parse().expect("a path"),
            host: None,
            expect: vec![(200, 399)],
        }
    );
}

#[test]
fn empty_sections_are_as_good_as_none() {
    let config = parse(&with_top(
        "server:\nadmin:\ntimeouts: {}\nlimits:\ntrusted_proxies:\nroutes: []",
    ));
    assert_eq!(config.timeouts.connect, Duration::from_secs(3));
    assert_eq!(config.routes.len(), 1);
}
