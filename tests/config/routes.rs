//! Routes: what they match, and routes that cannot match any request.

use ballast::config::{Action, Config, KeySource, PoolRef, Retry, Route};

use crate::{errors, parse};

fn with_routes(routes: &str) -> String {
    format!(
        "listeners: [\"127.0.0.1:80\"]\nroutes: [{routes}]\npools:\n  web: {{ hosts: [\"127.0.0.1:1\"] }}\n  \
         api: {{ hosts: [\"127.0.0.1:2\"] }}\n"
    )
}

#[test]
fn routes_refer_to_pools_by_name() {
    let config = parse(&with_routes(
        "{ host: Api.Example.COM, path: /v1/, pool: api }, { host: \"*.example.com\", pool: api }, \
         { host: \"[::1]\", pool: api }, { pool: web }",
    ));
    let route = |host: Option<&str>, path: Option<&str>, (index, name): (usize, &str)| {
        let name = name.to_owned();
        let mut route = Route::to_pool(PoolRef { name, index });
        route.matches.host = host.map(str::to_owned);
        route.matches.path = path.map(str::to_owned);
        route
    };
    assert_eq!(
        config.routes,
        [
            route(Some("api.example.com"), Some("/v1/"), (1, "api")),
            route(Some("*.example.com"), None, (1, "api")),
            route(Some("[::1]"), None, (1, "api")),
            route(None, None, (0, "web")),
        ]
    );
}

#[test]
fn host_and_path_are_normalized() {
    let routes = parse(&with_routes(
        "{ host: \"[2001:DB8:0::1]\", path: \"/%61//./b\", pool: api }, { pool: web }",
    ))
    .routes;
    assert_eq!(routes[0].matches.host.as_deref(), Some("[2001:db8::1]"));
    assert_eq!(routes[0].matches.path.as_deref(), Some("/a/b"));
}

#[test]
fn retry_selects_the_methods() {
    let config = parse(&with_routes(
        "{ path: /v1/, pool: api, retry: any_method }, { pool: web, retry: idempotent }",
    ));
    let retries = config.routes.iter().map(|route| route.retry);
    assert_eq!(
        Vec::from_iter(retries),
        [Retry::AnyMethod, Retry::Idempotent]
    );
    assert_eq!(
        errors(&with_routes(
            "{ path: /v1/, pool: api, retry: all }, { pool: web }"
        ))[0],
        "b.yaml:2:42: routes[0].retry: `all` is not one of `idempotent`, `any_method`"
    );
}

#[test]
fn several_pools_need_routes_to_all_of_them() {
    let two = "listeners: [\"127.0.0.1:80\"]\npools:\n  web: { hosts: [\"127.0.0.1:1\"] }\n  api: { hosts: [\"127.0.0.1:2\"] }\n";
    assert_eq!(
        errors(two),
        [
            "b.yaml:1:1: routes: there is no route; with more than one pool, `routes` says which requests go where"
        ]
    );
    assert_eq!(
        errors(&with_routes("{ pool: web }")),
        ["b.yaml:5:8: pools.api: no route leads to the pool `api`"]
    );
}

#[test]
fn values_are_validated() {
    for (route, expected) in [
        (
            "{ host: a.org }",
            "b.yaml:2:10: routes[0]: a route needs one of `pool`, `pools`, `redirect` and `respond`; write it as in `pool: web`",
        ),
        (
            "{ pool: apu }",
            "b.yaml:2:18: routes[0].pool: there is no pool `apu`; did you mean `api`?",
        ),
        (
            "{ host: \"a.org:80\", pool: api }",
            "b.yaml:2:18: routes[0].host: `a.org:80` has a port, but routes match the name alone; did you mean `a.org`?",
        ),
        (
            "{ host: \"::1\", pool: api }",
            "b.yaml:2:18: routes[0].host: `::1` needs brackets; did you mean `[::1]`?",
        ),
        (
            "{ host: \"a.*.org\", pool: api }",
            "b.yaml:2:18: routes[0].host: `a.*.org` is not a host name such as `api.example.com` or `*.example.com`",
        ),
        (
            "{ path: v1, pool: api }",
            "b.yaml:2:18: routes[0].path: `v1` does not begin with `/`",
        ),
        (
            "{ path: \"/v1;a=1\", pool: api }",
            "b.yaml:2:18: routes[0].path: `/v1;a=1` has ';' in it, and paths are compared without that; did you mean `/v1`?",
        ),
        (
            "{ path: /v1%2fa, pool: api }",
            "b.yaml:2:18: routes[0].path: `/v1%2fa` is a path that hosts read in several ways",
        ),
        (
            "{ host: a.org., pool: api }",
            "b.yaml:2:18: routes[0].host: `a.org.` ends with a dot, and names are compared without it; did you mean `a.org`?",
        ),
        (
            "{ path: \"/v1?a\", pool: api }",
            "b.yaml:2:18: routes[0].path: `/v1?a` has '?' in it, which the path of a request never has",
        ),
    ] {
        assert_eq!(
            errors(&with_routes(&format!("{route}, {{ pool: web }}"))),
            [expected]
        );
    }
}

#[test]
fn a_shadowed_route_is_refused() {
    for (first, second) in [
        ("", "host: a.org, path: /v1"),
        ("path: /", "host: a.org"),
        ("path: /v1", "path: /v1/users"),
        ("host: a.org", "host: A.org, path: /v1"),
        ("host: \"*.a.org\"", "host: b.a.org"),
        ("host: \"*.a.org\"", "host: \"*.b.a.org\""),
        (
            "host: \"*.a.org\", path: /v1",
            "host: \"*.a.org\", path: /v1",
        ),
    ] {
        let separator = if first.is_empty() { "" } else { ", " };
        let routes = format!("{{ pool: web{separator}{first} }}, {{ pool: api, {second} }}");
        let column = 10 + routes.find("}, {").expect("two routes") + 3;
        let expected = format!(
            "b.yaml:2:{column}: routes[1]: no request gets here, because routes[0] matches all that this one \
             would match; put this one first or remove it"
        );
        assert_eq!(errors(&with_routes(&routes)), [expected]);
    }
}

#[test]
fn partly_overlapping_routes_are_accepted() {
    for (first, second) in [
        ("path: /v1", "host: a.org"),
        ("host: a.org", "path: /v1"),
        ("path: /v1/users", "path: /v1"),
        ("host: \"*.a.org\"", "host: a.org"),
        ("host: \"*.a.org\"", "host: ba.org"),
        ("host: \"*.b.a.org\"", "host: \"*.a.org\""),
        ("host: b.a.org", "host: \"*.a.org\""),
        ("host: a.org, path: /v1", "host: a.org"),
    ] {
        parse(&with_routes(&format!(
            "{{ pool: web, {first} }}, {{ pool: api, {second} }}"
        )));
    }
}

#[test]
fn a_split_names_pools_with_weights() {
    let config = parse(&with_routes(
        "{ pools: [{ pool: web, weight: 95 }, { pool: api, weight: 5 }], split_by: \"cookie:session\" }",
    ));
    let Action::Split(shares, key) = config.routes[0].action.get() else {
        panic!("{:?}", config.routes[0]);
    };
    let shares = shares.iter().map(|share| (share.pool.index, share.weight));
    assert_eq!(Vec::from_iter(shares), [(0, 95), (1, 5)]);
    assert_eq!(key, Some(&KeySource::Cookie("session".to_owned())));
    for (route, expected) in [
        (
            "{ pools: [] }",
            "routes[0].pools: there is no pool; write `[{ pool: web, weight: 95 }, { pool: next, weight: 5 }]`",
        ),
        (
            "{ pools: }",
            "routes[0].pools: there is no pool; write `[{ pool: web, weight: 95 }, { pool: next, weight: 5 }]`",
        ),
        (
            "{ pools: [{ pool: web, weight: 0 }, { pool: api, weight: 0 }] }",
            "routes[0].pools: all weights are 0; at least one pool has to get requests",
        ),
        (
            "{ pools: [{ pool: web }, { pool: api, weight: 10001 }] }",
            "routes[0].pools[1].weight: `10001` is not a whole number from 0 to 10000",
        ),
        (
            "{ pools: [{ pool: web }, { pool: web }, { pool: api }] }",
            "routes[0].pools[1].pool: the pool `web` is in pools[0] already; add the weights",
        ),
        (
            "{ pools: [{ pool: web }, { pool: api }], split_by: user }",
            "routes[0].split_by: `user` is not one of `client_ip`, `header:NAME`, `cookie:NAME`, `query:NAME`, `path`, `uri`",
        ),
        (
            "{ pool: web, pools: [{ pool: api }] }",
            "routes[0].pools: `pool` says what this route does already; a route does one thing",
        ),
        (
            "{ path: /a/, pool: web, split_by: client_ip }, { pool: api }",
            "routes[0].split_by: there is nothing to split; `split_by` belongs to a route with `pools`",
        ),
    ] {
        let errors = errors(&with_routes(route));
        assert!(errors[0].ends_with(expected), "{errors:#?}");
    }
}

#[test]
fn what_a_pool_or_a_route_leaves_out_comes_from_above() {
    let config = parse(
        "listeners: [\"127.0.0.1:80\"]\ntimeouts: { read: 1s, write: 2s }\nlimits: { body: 1KiB }\nroutes:\n\
         - { path: /a/, pool: web, timeouts: { write: 3s }, limits: { body: 0, max_in_flight: 7 }, retries: none }\n\
         - { path: /b/, pool: web, retries: { attempts: 1 }, limits: { body: 2KiB } }\n- { pool: web }\n\
         pools:\n  web: { hosts: [\"127.0.0.1:1\"], timeouts: { read: 4s, tunnel: 5s }, retries: { deadline: 6s } }\n",
    );
    let (pool, routes) = (&config.pools[0], &config.routes);
    let times = |route: &Route| {
        let timeouts = config.request_timeouts(route, Some(pool));
        [
            timeouts.connect,
            timeouts.read,
            timeouts.write,
            timeouts.tunnel,
        ]
        .map(|time| time.as_secs())
    };
    assert_eq!(times(&routes[0]), [3, 4, 3, 5]);
    assert_eq!(times(&routes[2]), [3, 4, 2, 5]);
    let bodies = routes.iter().map(|route| config.body_limit(route));
    assert_eq!(Vec::from_iter(bodies), [None, Some(2048), Some(1024)]);
    assert_eq!(routes[0].limits.max_in_flight, Some(7));
    let retries = routes.iter().map(|route| {
        let retries = Config::request_retries(route, pool)?;
        Some((retries.attempts, retries.deadline.as_secs()))
    });
    assert_eq!(Vec::from_iter(retries), [None, Some((1, 6)), Some((2, 6))]);
}

#[test]
fn values_of_routes_are_checked_as_those_above() {
    for (route, expected) in [
        (
            "{ pool: web, timeouts: { read: 5 } }",
            "routes[0].timeouts.read: `5` has no unit; write `5s` for seconds or `5ms` for milliseconds",
        ),
        (
            "{ pool: web, timeouts: { idle: 5s } }",
            "routes[0].timeouts: unknown key `idle`, expected one of `connect`, `read`, `write`, `tunnel`",
        ),
        (
            "{ pool: web, timeouts: { read: } }",
            "routes[0].timeouts.read: a value is missing here; write one or leave the key out",
        ),
        (
            "{ pool: web, limits: { body: 10m } }",
            "routes[0].limits.body: `10m` is not a number of bytes such as `512`, `32KiB` or `10MiB`; did you mean `10MiB`?",
        ),
        (
            "{ pool: web, retries: 3 }",
            "routes[0].retries: `3` is neither `none` nor a map; did you mean `{ attempts: 3 }`?",
        ),
        (
            "{ pool: web, retries: { budget: 5% } }",
            "routes[0].retries: unknown key `budget`, expected one of `attempts`, `statuses`, `deadline`",
        ),
    ] {
        let errors = errors(&with_routes(&format!(
            "{route}, {{ path: /x/, pool: api }}"
        )));
        assert!(errors[0].ends_with(expected), "{errors:#?}");
    }
    let text = "listeners: [\"127.0.0.1:80\"]\nroutes: [{ pool: web, retries: { attempts: 1 } }]\n\
                pools: { web: { hosts: [\"127.0.0.1:1\"], retries: none } }\n";
    assert_eq!(
        errors(text),
        [
            "b.yaml:2:32: routes[0].retries: the pool `web` has `retries: none`, so there is no budget; give the pool retries \
             and take them from the other routes with `retries: none`"
        ]
    );
}

#[test]
fn rates_have_a_short_form() {
    let rate = |text: &str| {
        let route = format!("{{ path: /a/, pool: api, rate: {text} }}, {{ pool: web }}");
        let config = parse(&with_routes(&route));
        let rate = config.routes[0].rate.clone().expect("a rate");
        (rate.interval(), rate.burst.get(), rate.to_string())
    };
    let second = 1_000_000_000;
    let shown = |text: &str| text.to_owned();
    assert_eq!(
        rate("5/min"),
        (12 * second, 1, shown("5/min, burst 1, by client_ip"))
    );
    assert_eq!(
        rate("0.5/s"),
        (2 * second, 1, shown("0.5/s, burst 1, by client_ip"))
    );
    assert_eq!(
        rate("100/s"),
        (second / 100, 100, shown("100/s, burst 100, by client_ip"))
    );
    assert_eq!(
        rate("9000/h"),
        (second * 2 / 5, 3, shown("9000/h, burst 3, by client_ip"))
    );
    let map = "{ requests: 90, per: min, burst: 9, key: \"header:X-Key\" }";
    let by_key = shown("90/min, burst 9, by header:x-key");
    assert_eq!(rate(map), (60 * second / 90, 9, by_key.clone()));
    let map = "{ requests: 90/min, burst: 9, key: \"header:X-Key\" }";
    assert_eq!(rate(map), (60 * second / 90, 9, by_key));
}
