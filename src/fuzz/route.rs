//! Which pool a request goes to.

use crate::config::{Access, Retry, Route};
use crate::route::Router;

/// Routes as lines `HOST PATH` with `-` for none, an empty line, then the request's authority and path.
fn find(input: &[u8]) {
    let mut lines = input.split(|byte| *byte == b'\n');
    let routes = lines.by_ref().take_while(|line| !line.is_empty());
    let mut routes = Vec::from_iter(routes.enumerate().map(|(pool, line)| route(pool, line)));
    let authority = lines.next().unwrap_or_default();
    let path = lines.next().unwrap_or_default();
    let found = Router::new(&routes).find(authority, path);

    // Said once more, without a byte of what it is compared with.
    let name = name(authority);
    let expected = routes.iter().position(|route| {
        let host = route.host.as_ref();
        let host = host.is_none_or(|host| match host.strip_prefix('*') {
            Some(parent) => name.len() > parent.len() && name.ends_with(parent),
            None => name == *host,
        });
        host && route.path.as_ref().is_none_or(|begin| below(path, begin))
    });
    assert_eq!(found, expected);

    // Neither capitals nor a port make another host of it.
    let again = Router::new(&routes);
    assert_eq!(again.find(&authority.to_ascii_uppercase(), path), found);
    if !authority.contains(&b':') || authority.ends_with(b"]") {
        let with_port = [authority, b":8080"].concat();
        assert_eq!(again.find(&with_port, path), found);
    }
    // A route at the end takes what is left and nothing else.
    let last = routes.len();
    routes.push(Route {
        host: None,
        path: None,
        ..route(last, b"")
    });
    let all = Router::new(&routes).find(authority, path);
    assert_eq!(all, found.or(Some(last)));
}

/// As the configuration's reader would have it: lower case, and ASCII.
fn route(pool: usize, line: &[u8]) -> Route {
    let line = line.escape_ascii().to_string();
    let (host, path) = line.split_once(' ').unwrap_or((&line, "-"));
    let said = |text: &str| (text != "-").then(|| text.to_owned());
    Route {
        host: said(&host.to_ascii_lowercase()),
        path: said(path),
        pool,
        retry: Retry::Idempotent,
        access: Access::default(),
        rate: None,
    }
}

/// The name in an authority, each byte a character.
fn name(authority: &[u8]) -> String {
    let text: String = authority.iter().map(|&byte| char::from(byte)).collect();
    let text = text.to_ascii_lowercase();
    let bracket = text.rfind(']').map_or(0, |at| at + 1);
    let end = text[bracket..].rfind(':').map(|at| bracket + at);
    text[..end.unwrap_or(text.len())].to_owned()
}

/// Whether `path` is `begin` or continues it with another segment; segment by segment.
fn below(path: &[u8], begin: &str) -> bool {
    let mut path = path.split(|byte| *byte == b'/');
    let mut begin = begin.as_bytes().split(|byte| *byte == b'/').peekable();
    while let Some(wanted) = begin.next() {
        // `/v1/` ends in an empty segment: whatever stands there is below it.
        let is_open = wanted.is_empty() && begin.peek().is_none();
        match path.next() {
            None => return false,
            Some(_) if is_open => return true,
            Some(segment) if segment != wanted => return false,
            Some(_) => {}
        }
    }
    true
}

#[test]
fn fuzz_route() {
    const WORDS: &[&str] = &[
        "api.example.com",
        "*.example.com",
        ".example.com",
        "EXAMPLE",
        "[::1]",
        "]:",
        ":80",
        " /v1/",
        " /",
        "/v1",
        "/x",
        " -",
        "\n\n",
        "- -\n",
    ];
    super::run("route", WORDS, find);
}
