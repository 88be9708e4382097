//! The defaults of all keys.

use std::sync::Arc;
use std::time::Duration;

use ballast::config::{
    Access, AccessLog, Admin, AdminMetrics, Ambiguous, Authentication, CertificateMode,
    ClientIdentity, Compression, ContentCoding, Ejection, ErrorPages, Failures, HalfClose,
    HeaderEdits, Headers, HostHeader, HostMetrics, Http1, Initial, KeySource, Limits, LogFormat,
    LogTarget, Page, PathRewrite, PoolLimits, PoolRef, PoolTimeouts, Probe, Ready,
    RequestConditions, Retries, Retry, Route, RouteAction, RouteLimits, RouteMatch, RouteTimeouts,
    Server, SlowStart, Timeouts, Underscores, WhenAllDown,
};

use crate::{parse, pool_with, with_top};

#[test]
fn every_key_has_its_default() {
    let config = parse(&with_top(""));
    assert!(config.include.is_empty());
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    assert_eq!(
        config.server,
        Server {
            threads: cores,
            http1: Http1::Engine,
            grace_period: Duration::from_secs(30),
            drain_delay: Duration::ZERO,
            certificate_check: Some(Duration::from_secs(10)),
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
    assert_eq!(
        config.admin,
        Admin {
            address: None,
            token_file: None,
            hosts: Vec::new(),
            ready: Ready { usable: 0 },
            metrics: AdminMetrics {
                hosts: HostMetrics::Auto
            },
        }
    );
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
            max_handshakes: Some(10_000),
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
            client_identity: ClientIdentity::default(),
        }
    );
    assert_eq!(config.paths.ambiguous, Ambiguous::Auto);
    assert!(config.trusted_proxies.is_empty());
    assert_eq!(config.half_close, HalfClose::Abort);
    assert_eq!(config.upgrades, [Arc::from("websocket")]);
    assert_eq!(config.access_log, None);
    assert_eq!(config.compression, None);
    let compression = parse(&with_top("compression: true")).compression;
    let compression = compression.expect("it is on");
    assert_eq!(compression, Compression::default());
    assert_eq!(
        compression.algorithms,
        [
            ContentCoding::Zstd,
            ContentCoding::Brotli,
            ContentCoding::Gzip
        ]
    );
    assert_eq!(compression.min_size, 1024);
    let has = |essence: &[u8]| compression.types.iter().any(|known| known.matches(essence));
    assert!(has(b"text/html") && has(b"application/ld+json") && has(b"image/svg+xml"));
    assert!(!has(b"text/event-stream") && !has(b"image/png") && !has(b"application/zip"));
    assert_eq!(config.listeners[0].mode, None);
    assert_eq!(config.listeners[0].tls, None);
    let catch_all = Route {
        matches: RouteMatch {
            conditions: RequestConditions {
                host: None,
                path: None,
                methods: Vec::new(),
                headers: Vec::new(),
                query: Vec::new(),
                cookies: Vec::new(),
                client: Vec::new(),
            },
            not: None,
        },
        action: RouteAction {
            pool: Some(PoolRef {
                name: "web".to_owned(),
                index: 0,
            }),
            pools: None,
            split_by: None,
            redirect: None,
            respond: None,
        },
        rewrite: PathRewrite::default(),
        request_headers: HeaderEdits::default(),
        response_headers: HeaderEdits::default(),
        security_headers: false,
        compression: None,
        errors: ErrorPages::default(),
        retry: Retry::Idempotent,
        retries: None,
        mirror: None,
        timeouts: RouteTimeouts::default(),
        limits: RouteLimits {
            body: None,
            max_in_flight: None,
        },
        access: Access::default(),
        authentication: Authentication::default(),
        client_certificate: CertificateMode::Optional,
        rate: None,
    };
    assert_eq!(config.routes, [catch_all]);
    assert_eq!(config.errors, ErrorPages::default());

    let [pool] = config.pools.as_slice() else {
        panic!("{:#?}", config.pools);
    };
    assert_eq!(pool.name, "web");
    assert_eq!(pool.algorithm.info().name, "p2c");
    assert_eq!(pool.algorithm.key, KeySource::ClientIp);
    assert_eq!(pool.members[0].weight, 1);
    assert_eq!(pool.host_header, HostHeader::Preserve);
    assert_eq!(pool.when_all_down, WhenAllDown::Error);
    assert_eq!(pool.proxy_protocol, None);
    assert_eq!(
        pool.retries,
        Some(Retries {
            attempts: 2,
            statuses: vec![(502, 502), (503, 503), (504, 504)],
            budget: 20,
            min: 3,
            deadline: Duration::from_secs(10),
        })
    );
    assert_eq!(pool.sticky, None);
    assert_eq!(
        pool.timeouts,
        PoolTimeouts {
            connect: None,
            read: None,
            write: None,
            idle: None,
            tunnel: None,
        }
    );
    assert_eq!(pool.tls, None);
    assert_eq!(pool.maintenance, None);
    let maintenance = pool_with("maintenance: true").maintenance;
    let maintenance = maintenance.expect("it is on");
    assert_eq!(maintenance.message, "the service is under maintenance");
    assert_eq!(maintenance.page, Page::default());
    assert_eq!(maintenance.retry_after, Duration::from_secs(300));
    assert_eq!(maintenance.allow, []);
    let check = pool.health_check.as_ref().expect("a check");
    assert_eq!(check.probe, Probe::Tcp);
    assert_eq!(check.interval, Duration::from_secs(2));
    assert_eq!(check.timeout, Duration::from_secs(1));
    assert_eq!((check.rise, check.fall), (2, 3));
    assert_eq!(check.initial, Initial::Unknown);
    let seconds = Duration::from_secs;
    assert_eq!(
        pool.ejection,
        Some(Ejection {
            failures: Failures {
                connect: true,
                timeout: true,
                reset: true,
                malformed: true,
                statuses: vec![(500, 500), (502, 504), (520, 529)],
            },
            consecutive: Some(5),
            rate: Some(50),
            window: seconds(10),
            min_requests: 20,
            base: seconds(10),
            max: seconds(300),
            max_ejected: 50,
        })
    );
    assert_eq!(
        pool.limits,
        PoolLimits {
            max_in_flight: None,
            queue: 128,
            queue_timeout: seconds(1),
        }
    );
    assert_eq!(
        pool.slow_start,
        Some(SlowStart {
            window: seconds(10),
            floor: 10,
        })
    );
    assert_eq!(pool.members[0].max_in_flight, None);
    assert!(!pool.members[0].backup);
}

#[test]
fn authentication_needs_a_file_or_a_service() {
    let route = |keys: &str| {
        let text = with_top(&format!("routes: [{{ pool: web, {keys} }}]"));
        parse(&text).routes.remove(0).authentication
    };
    let basic = route("basic_auth: users").basic_auth.expect("basic_auth");
    assert_eq!(basic.realm, "restricted");
    let auth = route("auth: { pool: web }").auth.expect("auth");
    assert_eq!((auth.url, auth.path), (None, None));
    assert_eq!(auth.timeout, Duration::from_secs(5));
    assert!(auth.copy_headers.is_empty());
}

#[test]
fn an_access_log_needs_only_a_path() {
    let access_log = |keys: &str| parse(&with_top(&format!("access_log: {{ {keys} }}"))).access_log;
    assert_eq!(
        access_log("path: logs/access"),
        Some(AccessLog {
            path: LogTarget::File("logs/access".into()),
            format: LogFormat::Json,
            sample: Vec::new(),
            buffer: 4 << 20,
        })
    );
    let stdout = access_log("path: \"-\", format: combined").expect("a log");
    assert_eq!(stdout.path, LogTarget::Stdout);
    assert_eq!(stdout.format, LogFormat::Combined);
}

#[test]
fn a_host_inherits_the_limit_of_its_pool() {
    let config = parse(
        "listeners: [\"127.0.0.1:80\"]
pools:
  web:
    hosts: [\"127.0.0.1:1\", { address: \"127.0.0.1:2\", max_in_flight: 3 }, { address: \"127.0.0.1:3\", max_in_flight: 0 }]
    limits: { max_in_flight: 7 }
",
    );
    let limits = config.pools[0]
        .members
        .iter()
        .map(|host| host.max_in_flight);
    assert_eq!(Vec::from_iter(limits), [Some(7), Some(3), None]);
}

#[test]
fn policies_can_be_turned_off() {
    assert_eq!(pool_with("ejection: none").ejection, None);
    assert_eq!(pool_with("slow_start: none").slow_start, None);
    let ejection = pool_with("ejection: { failures: [connect, 503], consecutive: 0, rate: 0% }");
    let ejection = ejection.ejection.expect("an ejection");
    assert_eq!((ejection.consecutive, ejection.rate), (None, None));
    assert_eq!(ejection.failures.statuses, [(503, 503)]);
    assert!(ejection.failures.connect && !ejection.failures.reset);
}

#[test]
fn an_http_check_requests_the_root_path() {
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
fn empty_sections_have_the_defaults() {
    let config = parse(&with_top(
        "server:\nadmin:\ntimeouts: {}\nlimits:\ntrusted_proxies:\nroutes: []",
    ));
    assert_eq!(config.timeouts.connect, Duration::from_secs(3));
    assert_eq!(config.routes.len(), 1);
}
