//! Routes: what they match, and routes that cannot match any request.

use ballast::config::{PoolRef, Retry, Route};

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
            "b.yaml:2:10: routes[0]: a route needs one of `pool`, `redirect` and `respond`; write it as in `pool: web`",
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
            "b.yaml:2:38: routes[0].redirect.to: `{hots}` is not a variable that can stand here, which are {client_ip}, {host}, {scheme}, {uri}, {path}, {query}, {method}; did you mean `host`?",
        ),
        (
            "{ path: /a, respond: { status: 204, body: no } }",
            "b.yaml:2:52: routes[0].respond.body: a response with status 204 has no body",
        ),
        (
            "{ path: /a, respond: { file: a, body: b } }",
            "b.yaml:2:39: routes[0].respond.file: cannot use `a`:",
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
