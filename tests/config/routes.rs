//! Routes: what they match, and routes that cannot match any request.

use std::time::{Duration, Instant};

use ballast::config::{Action, Config, KeySource, PathPattern, PoolRef, Retry, Route};
use serde_json::json;

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
        let conditions = &mut route.matches.conditions;
        conditions.host = host.map(str::to_owned);
        conditions.path = path.map(|path| PathPattern::Prefix(path.to_owned()));
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
    let conditions = &routes[0].matches.conditions;
    assert_eq!(conditions.host.as_deref(), Some("[2001:db8::1]"));
    let path = PathPattern::Prefix("/a/b".to_owned());
    assert_eq!(conditions.path, Some(path));
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
        (
            "{ path: /v1/*, pool: api }",
            "b.yaml:2:18: routes[0].path: `/v1/*` has a `*`, but a path is a prefix of whole segments already; did you mean `/v1/`?",
        ),
        (
            "{ path: = v1, pool: api }",
            "b.yaml:2:18: routes[0].path: `v1` does not begin with `/`",
        ),
        (
            "{ path: \"~* [.]PHP$\", pool: api }",
            "b.yaml:2:18: routes[0].path: `~*` is nginx's form for expressions without case; write `~ (?i)[.]PHP$`",
        ),
        (
            "{ path: ^~ /v1, pool: api }",
            "b.yaml:2:18: routes[0].path: `^~` is nginx's form, but the first route that matches counts here, whatever its path; write `/v1`",
        ),
        (
            "{ path: ~ (a, pool: api }",
            "b.yaml:2:18: routes[0].path: `(a` is not a regular expression: unclosed group",
        ),
        (
            "{ path: \"~ a{999}{999}\", pool: api }",
            "b.yaml:2:18: routes[0].path: the regular expression `a{999}{999}` takes more than 64 KiB of memory",
        ),
        (
            "{ path: \"~ \", pool: api }",
            "b.yaml:2:18: routes[0].path: the regular expression after `~` is missing",
        ),
        (
            "{ path: ~, pool: api }",
            "b.yaml:2:12: routes[0].path: a value is missing here; write one or leave the key out",
        ),
        (
            "{ methods: [GET, post], pool: api }",
            "b.yaml:2:27: routes[0].methods[1]: `post` is not a method of HTTP, where case counts; did you mean `POST`?",
        ),
        (
            "{ headers: { Host: a.org }, pool: api }",
            "b.yaml:2:23: routes[0].headers.Host: the host of a request is matched by `host`",
        ),
        (
            "{ headers: { X-A: }, pool: api }",
            "b.yaml:2:23: routes[0].headers.X-A: a value is missing here; write one or leave the key out",
        ),
        (
            "{ headers: { X-A: = 1 }, pool: api }",
            "b.yaml:2:28: routes[0].headers.X-A: `= 1` is not how values are written; did you mean `1`?",
        ),
        (
            "{ query: { a: \"~ [\" }, pool: api }",
            "b.yaml:2:24: routes[0].query.a: `[` is not a regular expression: unclosed character class",
        ),
        (
            "{ cookies: { \"a b\": 1 }, pool: api }",
            "b.yaml:2:23: routes[0].cookies.a b: `a b` is not the name of a cookie",
        ),
        (
            "{ client: 10.0.0.1/8, pool: api }",
            "b.yaml:2:20: routes[0].client: `10.0.0.1/8` has bits set after its prefix; did you mean `10.0.0.0/8`?",
        ),
        (
            "{ not: { hots: a.org }, pool: api }",
            "b.yaml:2:19: routes[0].not: unknown key `hots`, expected one of `host`, `path`, `methods`, `headers`, `query`, `cookies`, `client`; did you mean `host`?",
        ),
        (
            "{ not: [{ host: a.org }, {}], pool: api }",
            "b.yaml:2:35: routes[0].not[1]: every request fits an empty map, so no request would get here; write a key",
        ),
        (
            "{ not: [], pool: api }",
            "b.yaml:2:17: routes[0].not: there is nothing in `not`; write a map with at least one key or leave it out",
        ),
        (
            "{ path: /v1/, not: { path: /v1 }, pool: api }",
            "b.yaml:2:10: routes[0]: no request gets here, because `not` has all that this route would match; change one of them",
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
        ("path: /v1", "path: = /v1"),
        ("path: = /v1", "path: = /v1"),
        ("path: ~ ^/v1", "path: ~ ^/v1"),
        ("", "path: ~ ^/v1"),
        ("methods: [GET, POST]", "methods: POST, host: a.org"),
        ("headers: { X-A: \"*\" }", "headers: { X-B: 1, x-a: ~ ^1 }"),
        ("query: { a: ~ ^1 }", "query: { a: 12 }"),
        ("cookies: { a: 1 }", "cookies: { a: 1 }, path: /v1"),
        (
            "client: [10.0.0.0/8, 11.0.0.0/8]",
            "client: [10.1.0.0/16, 11.0.0.1]",
        ),
        ("not: { path: /v1/x }", "path: /v2, not: { path: /v1 }"),
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
        ("path: = /v1", "path: /v1"),
        ("path: ~ ^/v1", "path: /v1"),
        ("path: ~ ^/v", "path: ~ ^/v1"),
        ("methods: GET", "methods: [GET, POST]"),
        ("headers: { X-A: 1 }", "headers: { X-A: \"*\" }"),
        ("query: { a: 1 }", "cookies: { a: 1 }"),
        ("client: 10.1.0.0/16", "client: 10.0.0.0/8"),
        ("not: { path: /v1 }", ""),
        ("not: { path: /v1 }", "not: { path: /v1/x }"),
        ("path: /v1/users", "path: /v1"),
        ("host: \"*.a.org\"", "host: a.org"),
        ("host: \"*.a.org\"", "host: ba.org"),
        ("host: \"*.b.a.org\"", "host: \"*.a.org\""),
        ("host: b.a.org", "host: \"*.a.org\""),
        ("host: a.org, path: /v1", "host: a.org"),
    ] {
        let comma = if second.is_empty() { "" } else { ", " };
        parse(&with_routes(&format!(
            "{{ pool: web, {first} }}, {{ pool: api{comma}{second} }}"
        )));
    }
}

#[test]
fn actions_and_edits_are_validated() {
    for (route, expected) in [
        (
            "{ path: /a, pool: web, redirect: \"https://a/\" }",
            "b.yaml:2:43: routes[0].redirect: `pool` says what this route does already; a route does one thing",
        ),
        (
            "{ path: /a, redirect: example.com }",
            "b.yaml:2:32: routes[0].redirect: `example.com` is neither a URL such as `https://{host}{uri}` nor a path that begins with `/`",
        ),
        (
            "{ path: /a, redirect: { to: \"https://{hots}/\", status: 200 } }",
            "b.yaml:2:38: routes[0].redirect.to: `{hots}` is not a variable that can stand here, which are {client_ip}, {host}, {scheme}, {uri}, {path}, {query}, {method} (`\\{hots}` is a text); did you mean `host`?",
        ),
        (
            "{ path: /a, respond: { status: 204, body: no } }",
            "b.yaml:2:52: routes[0].respond.body: a response with status 204 has no body",
        ),
        (
            "{ path: /a, respond: { file: a, body: b } }",
            "b.yaml:2:39: routes[0].respond.file: cannot read `a`:",
        ),
        (
            "{ path: /a, respond: { status: 200, type: html, body: a } }",
            "b.yaml:2:52: routes[0].respond.type: `html` is not a media type such as `text/html`",
        ),
        (
            "{ path: /a, pool: api, strip_prefix: / }",
            "b.yaml:2:47: routes[0].strip_prefix: `/` is the beginning of every path",
        ),
        (
            "{ path: /a, pool: api, strip_prefix: /a, replace_path: /b }",
            "b.yaml:2:47: routes[0].strip_prefix: `replace_path` is the whole path; leave one of them out",
        ),
        (
            "{ path: /a, pool: api, request_headers: { set: { Content-Length: 1 } } }",
            "b.yaml:2:59: routes[0].request_headers.set.Content-Length: `Content-Length` says how a message is sent, and is the proxy's own",
        ),
        (
            "{ path: /a, pool: api, request_headers: { remove: [Host] } }",
            "b.yaml:2:61: routes[0].request_headers.remove[0]: a request has one `Host` field; change it with `set`",
        ),
        (
            "{ path: /a, pool: api, response_headers: { set: { \"X y\": 1 } } }",
            "b.yaml:2:60: routes[0].response_headers.set.X y: `X y` is not the name of a header field",
        ),
        (
            "{ path: /a, pool: api, response_headers: { set: { X-A: \"a\\nb\" } } }",
            "b.yaml:2:65: routes[0].response_headers.set.X-A: ",
        ),
    ] {
        let lines = errors(&with_routes(&format!(
            "{route}, {{ pool: api }}, {{ host: b, pool: web }}"
        )));
        assert!(
            lines.iter().any(|line| line.starts_with(expected)),
            "{route}\n{expected}\n{lines:#?}"
        );
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
fn copies_do_not_go_to_hosts_of_http_2() {
    let file = with_routes("{ pool: web, mirror: api }");
    let file = file.replace("127.0.0.1:2\"]", "127.0.0.1:2\"], protocol: h2c");
    assert_eq!(
        crate::only_message(&file),
        "routes[0].mirror: copies are sent over HTTP/1.1, and the hosts of the pool `api` speak HTTP/2; name a pool with \
         `protocol: http1`"
    );
}

#[test]
fn a_mirror_names_another_pool() {
    let mirror = |keys: &str| {
        let config = parse(&with_routes(&format!("{{ pool: web, mirror: {keys} }}")));
        let mirror = config.routes[0].mirror.clone().expect("a mirror");
        let share = mirror.share.to_string();
        (mirror.pool.index, share, mirror.max_in_flight)
    };
    assert_eq!(mirror("api"), (1, "100%".to_owned(), 100));
    let keys = "{ pool: api, share: 0.5%, max_in_flight: 7 }";
    assert_eq!(mirror(keys), (1, "0.5%".to_owned(), 7));
    for (route, expected) in [
        (
            "{ pool: web, mirror: web }, { path: /x, pool: api }",
            "routes[0].mirror: the pool `web` gets the requests of this route already; name another one for their copies",
        ),
        (
            "{ pools: [{ pool: web }, { pool: api }], mirror: { pool: api } }",
            "routes[0].mirror: the pool `api` gets the requests of this route already; name another one for their copies",
        ),
        (
            "{ path: /x, respond: 404, mirror: api }, { pool: web }",
            "routes[0].mirror: there is nothing to copy; `mirror` belongs to a route with `pool` or `pools`",
        ),
        (
            "{ pool: web, mirror: apo }",
            "routes[0].mirror: there is no pool `apo`; did you mean `api`?",
        ),
        (
            "{ pool: web, mirror: { share: 1% } }, { path: /x, pool: api }",
            "routes[0].mirror: `pool` is missing; write it as in `pool: next`",
        ),
        (
            "{ pool: web, mirror: { pool: api, share: 10 } }",
            "routes[0].mirror.share: `10` has no percent sign; write `10%`",
        ),
        (
            "{ pool: web, mirror: { pool: api, share: 101% } }",
            "routes[0].mirror.share: `101%` is not a share from 0% to 100%",
        ),
        (
            "{ pool: web, mirror: { pool: api, max_in_flight: 0 } }",
            "routes[0].mirror.max_in_flight: `0` is not a whole number from 1 to 100000",
        ),
    ] {
        let errors = errors(&with_routes(route));
        assert!(errors[0].ends_with(expected), "{errors:#?}");
    }
}

#[test]
fn conditions_are_dumped_as_they_are_written() {
    let written = "{ host: a.org, path: = /v1, methods: [GET], headers: { X-A: \"*\" }, query: { a b: ~ ^1 }, \
                   cookies: { c: 1 }, client: 10.0.0.0/8, not: { path: ~ x }, pool: api }, { pool: web }";
    let config = parse(&with_routes(written));
    let dumped = config.dump()["routes"][0].clone();
    assert_eq!(dumped["path"], "= /v1");
    assert_eq!(dumped["methods"], json!(["GET"]));
    assert_eq!(dumped["headers"], json!({ "X-A": "*" }));
    assert_eq!(dumped["query"], json!({ "a b": "~ ^1" }));
    assert_eq!(dumped["cookies"], json!({ "c": "1" }));
    assert_eq!(dumped["client"], json!(["10.0.0.0/8"]));
    assert_eq!(dumped["not"][0]["path"], "~ x");
    assert_eq!(
        config.routes[0].matches.to_string(),
        "a.org, = /v1, GET, header X-A: *, query a b: ~ ^1, cookie c: 1, client 10.0.0.0/8, not (~ x)"
    );
}

/// Thousands of routes are not compared pair by pair.
#[test]
fn twenty_thousand_routes_are_checked_soon() {
    let mut text = with_routes("");
    let end = text.find("]\npools").expect("the end of the routes");
    let routes = (0..19_999).map(|number| match number % 2 {
        0 => format!("{{host: h{number}.org, pool: web}},"),
        _ => format!("{{path: /p{number}/, pool: api}},"),
    });
    let last = "{host: h2.org, path: /p1/x, pool: api}";
    text.insert_str(end, &(String::from_iter(routes) + last));
    let begin = Instant::now();
    let lines = errors(&text);
    let told = "routes[19999]: no request gets here, because routes[1] matches";
    assert!(lines.len() == 1 && lines[0].contains(told), "{lines:?}");
    // On a busy machine; all pairs would take minutes.
    assert!(begin.elapsed() < Duration::from_secs(30));
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

#[test]
fn clients_tell_who_they_are_in_one_way() {
    let config = parse(&with_routes(
        "{ path: /a, pool: web, basic_auth: users }, \
         { path: /b, pool: web, basic_auth: { file: users, realm: staff } }, \
         { path: /c, pool: web, auth: { pool: api, path: \"/verify?a=b\", copy_headers: [Remote-User], timeout: 1s } }, \
         { path: /d, pool: web, auth: { url: \"https://Auth.Example\" } }, \
         { pool: web }",
    ));
    let ways = config.routes.iter().map(|route| &route.authentication);
    let ways = Vec::from_iter(ways.map(|way| (way.is_required(), way.to_string())));
    assert_eq!(
        ways,
        [
            (true, "basic_auth users".to_owned()),
            (true, "basic_auth users".to_owned()),
            (true, "auth pool api".to_owned()),
            (true, "auth https://auth.example:443/".to_owned()),
            (false, String::new()),
        ]
    );
    let shown = config.dump().to_string();
    assert!(
        !shown.contains("alice") && !shown.contains("$2y$"),
        "{shown}"
    );
    assert!(!format!("{config:?}").contains("alice"));
    for (way, expected) in [
        (
            "basic_auth: users, auth: { pool: api }",
            "auth: `basic_auth` says already who is let in; a route has one of `basic_auth` and `auth`",
        ),
        (
            "basic_auth: other",
            "basic_auth: cannot read `other`: entity not found",
        ),
        (
            "basic_auth: { file: users, realm: \"a\\nb\" }",
            "basic_auth.realm: `a\\nb` has '\\n' in it, which no header field may have",
        ),
        (
            "basic_auth: { realm: a }",
            "basic_auth: `file` is missing; write it as in `file: /etc/ballast/users`",
        ),
        (
            "auth: {}",
            "auth: `auth` needs `url` or `pool`; write it as in `url: http://127.0.0.1:9091/verify`",
        ),
        (
            "auth: { url: \"http://a\", pool: api }",
            "auth.pool: `url` says already where the service is; leave one of them out",
        ),
        (
            "auth: { url: \"http://a\", path: /x }",
            "auth.path: the path is that of `url`; `path` belongs to `pool`",
        ),
        (
            "auth: { pool: api, path: x }",
            "auth.path: `x` is not a path such as `/verify`",
        ),
        (
            "auth: { pool: apo }",
            "auth.pool: there is no pool `apo`; did you mean `api`?",
        ),
        (
            "auth: { url: auth }",
            "auth.url: `auth` is not a URL such as `http://127.0.0.1:9091/verify`",
        ),
        (
            "auth: { url: \"http://a:b@c\" }",
            "auth.url: `http://a:b@c` has a user; the service gets the Authorization of the client",
        ),
        (
            "auth: { url: \"http://a\", copy_headers: [X-Forwarded-User, X-Forwarded-For] }",
            "auth.copy_headers[1]: `X-Forwarded-For` says where a request comes from, and is the proxy's own",
        ),
        (
            "auth: { url: \"http://a\", copy_headers: [Content-Length] }",
            "auth.copy_headers[0]: `Content-Length` says how a message is sent, and is the proxy's own",
        ),
        (
            "auth: http://a",
            "auth: expected a map, found `http://a`; write it as in `{ url: http://127.0.0.1:9091/verify }`",
        ),
    ] {
        let errors = errors(&with_routes(&format!(
            "{{ path: /x/, pool: api }}, {{ pool: web, {way} }}"
        )));
        let expected = format!("routes[1].{expected}");
        assert!(errors[0].ends_with(&expected), "{errors:#?}\n{expected}");
    }
}

#[test]
fn fields_with_secrets_may_be_in_a_file() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let write = |name: &str, text: &str| {
        std::fs::write(directory.path().join(name), text).expect("a file");
        directory.path().join(name)
    };
    let routes = "{ path: /api/, pool: api, request_headers: { set_file: fields } }, { pool: web }";
    let file = write("b.yaml", &with_routes(routes));
    write("fields", "Authorization: Bearer hush\n\nx-b: {host}\n");
    let config = Config::load(&file).expect("a configuration");
    let edits = &config.routes[0].request_headers;
    assert!(!edits.is_empty());
    let fields = edits.set_file.iter().flat_map(|file| &file.fields);
    let fields = Vec::from_iter(fields.map(|(name, value)| (&*name.written, value.as_bytes())));
    let expected: [(&str, &[u8]); 2] = [("Authorization", b"Bearer hush"), ("x-b", b"{host}")];
    assert_eq!(fields, expected);
    assert!(!format!("{config:?}").contains("hush"));
    assert!(!config.dump().to_string().contains("hush"));
    for (text, expected) in [
        ("x-a: 1\nhush\n", "line 2 of `"),
        ("Content-Length: 5", "line 1 of `"),
        ("a b: hush", "`a b` is not the name of a header field"),
        ("x-a: hu\u{1}sh", "must have visible characters only"),
    ] {
        write("fields", text);
        let told = Config::load(&file).expect_err("a wrong file").to_string();
        assert!(
            told.contains("routes[0].request_headers.set_file"),
            "{told}"
        );
        assert!(told.contains(expected), "{told}");
        assert!(!told.contains("hush"), "{told}");
    }
}
