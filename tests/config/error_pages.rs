//! `errors`, and `maintenance` of a pool.

use std::time::Duration;

use crate::{errors, only_message, parse, pool_error, pool_with, with_top};

#[test]
fn the_first_entry_with_a_status_has_its_page() {
    let config = parse(&with_top(
        "errors: { 503: { body: one }, 502-504: { body: some, type: text/html }, \"400 - 599\": { body: \"{message}\" } }",
    ));
    let text = |status| {
        let page = config.errors.find(status).and_then(|page| page.text());
        page.map(|text| text.text())
    };
    assert_eq!(text(503), Some("one"));
    assert_eq!(text(502), Some("some"));
    assert_eq!(text(504), Some("some"));
    assert_eq!(text(404), Some("{message}"));
    assert_eq!(text(399), None);
    let routes = "routes: [{ pool: web, errors: { 429: { body: slow } } }]";
    let config = parse(&with_top(routes));
    assert!(config.routes[0].errors.find(429).is_some());
    assert!(config.errors.find(429).is_none());
}

#[test]
fn wrong_pages_are_refused() {
    for (pages, expected) in [
        (
            "302: { body: x }",
            "errors.302: `302` is not an error; there are pages for the statuses from 400 to 599",
        ),
        (
            "5xx: { body: x }",
            "errors.5xx: `5xx` is not a status; did you mean `500-599`?",
        ),
        (
            "504-502: { body: x }",
            "errors.504-502: `504-502` is empty; did you mean `502-504`?",
        ),
        (
            "404: { type: text/html }",
            "errors.404.type: there is neither `body` nor `file` that has this type",
        ),
        (
            "404: {}",
            "errors.404: a page needs `body` or `file`; write it as in `{ file: /etc/ballast/503.html }`",
        ),
        (
            "404: /srv/404.html",
            "errors.404: expected a map, found `/srv/404.html`; write it as in `{ file: /etc/ballast/503.html }`",
        ),
        (
            "500-599: { body: x }, 503: { body: y }",
            "errors.503: no response gets this page, because `500-599` before it has the same status; put this one first or \
             remove it",
        ),
        (
            "503: { body: \"{mesage}\" }",
            "errors.503.body: `{mesage}` is not a variable that can stand here, which are {client_ip}, {host}, {message}, \
             {method}, {path}, {pool}, {query}, {request_id}, {scheme}, {status}, {uri} (`\\{mesage}` is a text); did you mean \
             `message`?",
        ),
        (
            "503: { file: none.html }",
            "errors.503.file: cannot read `none.html`: entity not found",
        ),
    ] {
        assert_eq!(
            only_message(&with_top(&format!("errors: {{ {pages} }}"))),
            expected
        );
    }
    let all = "errors: { 99: { body: x }, 503: { bdy: x } }";
    assert_eq!(errors(&with_top(all)).len(), 3);
}

#[test]
fn maintenance_is_a_boolean_or_a_map() {
    assert_eq!(pool_with("maintenance: false").maintenance, None);
    let maintenance = pool_with(
        "maintenance: { message: back soon, page: { body: \"<p>{message}\", type: text/html }, retry_after: 1h, \
         allow: 10.0.0.0/8 }",
    );
    let maintenance = maintenance.maintenance.expect("it is on");
    assert_eq!(maintenance.message, "back soon");
    assert_eq!(maintenance.retry_after, Duration::from_secs(3600));
    let permits = |client: &str| maintenance.permits(client.parse().expect("an address"));
    assert!(permits("10.1.2.3") && permits("::ffff:10.1.2.3"));
    assert!(!permits("192.0.2.1"));
    for (value, expected) in [
        (
            "on",
            ": `on` is neither `false` nor `true` nor a map; did you mean `true`?",
        ),
        (
            "{ message: \" \" }",
            ".message: the text is empty; clients would not know what they wait for",
        ),
        (
            "{ message: \"one\\ntwo\" }",
            ".message: `one\\ntwo` has '\\n' in it, but it is one line; `page` may have more",
        ),
        (
            "{ retry_after: 300 }",
            ".retry_after: `300` has no unit; write `300s` for seconds or `300ms` for milliseconds",
        ),
        (
            "{ allow: [me] }",
            ".allow[0]: `me` is neither a network such as `10.0.0.0/8` nor an address",
        ),
        (
            "",
            ": a value is missing here; write one or leave the key out",
        ),
    ] {
        let error = pool_error(&format!("maintenance: {value}"));
        assert_eq!(error, format!("pools.web.maintenance{expected}"));
    }
}
