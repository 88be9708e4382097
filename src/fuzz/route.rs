//! Fuzz target: routing.

use http::{HeaderMap, HeaderValue, Method};

use crate::config::{
    Ambiguous, FieldName, PathPattern, PoolRef, RegexPattern, RequestConditions, Route, RouteMatch,
    ValuePattern,
};
use crate::message::FieldsView;
use crate::route::{Router, RoutingInput};

/// Routes as lines `HOST PATH` with `-` for none, an empty line, then the request's authority and path, and a line with
/// its method and the values of its header fields. `PATH` may be `=PATH` or `~REGEX`, and ` POST` and ` X=VALUE` may
/// follow.
fn find(input: &[u8]) {
    let mut lines = input.split(|byte| *byte == b'\n');
    let routes = lines.by_ref().take_while(|line| !line.is_empty());
    let mut routes = Vec::from_iter(routes.enumerate().map(|(pool, line)| route(pool, line)));
    let authority = lines.next().unwrap_or_default();
    let path = lines.next().unwrap_or_default();
    let mut words = lines.next().unwrap_or_default().split(|byte| *byte == b' ');
    let method = Method::from_bytes(words.next().unwrap_or_default()).unwrap_or_default();
    let values = words.filter_map(|value| HeaderValue::from_bytes(value).ok());
    let fields = HeaderMap::from_iter(values.map(|value| (field().name, value)));
    let request = RoutingInput {
        method: &method,
        authority,
        path,
        query: b"",
        fields: FieldsView::Map(&fields),
        client: None,
    };
    let router = Router::new(&routes, Ambiguous::Pass);
    let find = |path: &[u8]| {
        let found = router.find(RoutingInput { path, ..request });
        found.unwrap_or_default()
    };
    let found = find(path);

    // A second, simpler implementation as the model.
    let name = name(authority);
    let sent = normal(path);
    let expected = routes.iter().position(|route| {
        let conditions = &route.matches.conditions;
        let host = conditions.host.as_ref();
        let host = host.is_none_or(|host| match host.strip_prefix('*') {
            Some(parent) => name.len() > parent.len() && name.ends_with(parent),
            None => name == *host,
        });
        let path = conditions.path.as_ref().is_none_or(|pattern| {
            sent.as_ref().is_some_and(|path| match pattern {
                PathPattern::Prefix(begin) => is_below(path, begin),
                PathPattern::Exact(exact) => path == exact.as_bytes(),
                PathPattern::Regex(regex) => has(path, regex.text()),
            })
        });
        let mut headers = conditions.headers.iter();
        host && path
            && (conditions.methods.is_empty() || conditions.methods[0] == method)
            && headers.all(|(_, pattern)| match pattern {
                ValuePattern::Exact(text) => fields.values().any(|value| *value == text.as_str()),
                ValuePattern::Any => !fields.is_empty(),
                ValuePattern::Regex(_) => false,
            })
    });
    // The model covers neither IPv6 addresses nor percent-encoded names.
    if !name.contains(['[', '%']) && sent.is_some() {
        assert_eq!(found, expected);
    }
    // Many routes are found by a table. The further ones do not match.
    let mut many = routes.clone();
    let further = || {
        let mut route = Route::to_pool(pool(0));
        route.matches.conditions.methods = vec![Method::TRACE];
        route
    };
    many.resize_with(routes.len() + 20, further);
    if method != Method::TRACE {
        let many = Router::new(&many, Ambiguous::Pass);
        assert_eq!(many.find(request), Ok(found));
    }

    // All spellings of the path go to the same route.
    for spelling in spellings(path) {
        let escaped = spelling.escape_ascii().to_string();
        assert_eq!(find(&spelling), found, "{escaped}");
    }
    // Upper case, a port and a trailing dot do not change the host.
    let same = |authority: &[u8]| {
        let again = router.find(RoutingInput {
            authority,
            ..request
        });
        let again = again.unwrap_or_default();
        assert_eq!(again, found, "{}", authority.escape_ascii());
    };
    same(&authority.to_ascii_uppercase());
    if !authority.contains(&b':') || authority.ends_with(b"]") {
        same(&[authority, b":8080"].concat());
        if !authority.ends_with(b"]") {
            same(&[authority, b"."].concat());
            same(&[authority, b".:80"].concat());
        }
    }
    // A catch-all route at the end gets the unmatched requests only.
    let last = routes.len();
    routes.push(Route::to_pool(pool(last)));
    let all = Router::new(&routes, Ambiguous::Pass).find(request);
    assert_eq!(all, Ok(found.or(Some(last))));
}

/// Whether a regular expression of the fuzz target, which is a text after `^`, before `$`, both or neither, matches.
fn has(path: &[u8], regex: &str) -> bool {
    let begin = regex.strip_prefix('^');
    let text = begin.unwrap_or(regex);
    let end = text.strip_suffix('$');
    let text = end.unwrap_or(text).as_bytes();
    match (begin, end) {
        (Some(_), Some(_)) => path == text,
        (Some(_), None) => path.starts_with(text),
        (None, Some(_)) => path.ends_with(text),
        (None, None) => (0..=path.len()).any(|at| path[at..].starts_with(text)),
    }
}

/// Other spellings of a path that starts with a slash.
fn spellings(path: &[u8]) -> Vec<Vec<u8>> {
    if !path.starts_with(b"/") {
        return Vec::new();
    }
    let mut before = 0;
    let encoded = path.iter().enumerate().flat_map(|(at, &byte)| {
        // Leave encoded bytes as they are.
        let inside = path[at.saturating_sub(2)..at].contains(&b'%');
        match byte.is_ascii_alphanumeric() && !inside {
            true => format!("%{byte:02x}").into_bytes(),
            false => vec![byte],
        }
    });
    let doubled = path.iter().flat_map(|&byte| {
        // No empty segment before dots, which some hosts count.
        let twice = byte == b'/' && before == 1 && !path.contains(&b'.');
        before = 1;
        match twice {
            true => vec![b'/', b'/'],
            false => vec![byte],
        }
    });
    let parameters = path[1..].split(|byte| *byte == b'/').map(|segment| {
        let special = segment.is_empty() || segment.contains(&b'\\') || segment.contains(&b'.');
        match special {
            true => segment.to_vec(),
            false => [segment, b";a=1"].concat(),
        }
    });
    let parameters = parameters.fold(Vec::new(), |all, segment| {
        [&all[..], b"/", &segment].concat()
    });
    let parameters = if path.contains(&b'%') {
        path.to_vec()
    } else {
        parameters
    };
    let backslashes = path
        .iter()
        .map(|&byte| if byte == b'/' { b'\\' } else { byte });
    let backslashes = [b"/".to_vec(), Vec::from_iter(backslashes.skip(1))];
    vec![
        encoded.collect(),
        doubled.collect(),
        parameters,
        backslashes.concat(),
        [b"/.", path].concat(),
        [b"/x/..", path].concat(),
    ]
}

/// The segments of a path, normalized with a stack, each after a slash; `None` for a path that is ambiguous or not
/// ASCII.
fn normal(path: &[u8]) -> Option<Vec<u8>> {
    if !path.starts_with(b"/") {
        return Some(if path.is_empty() {
            b"/".to_vec()
        } else {
            path.to_vec()
        });
    }
    if path
        .iter()
        .any(|byte| !byte.is_ascii_graphic() || *byte == b'%')
    {
        return None;
    }
    let text = String::from_utf8_lossy(path).replace('\\', "/");
    let mut segments = Vec::new();
    let mut open = false;
    for segment in text[1..].split('/') {
        let name = segment.split(';').next().unwrap_or_default();
        open = matches!(name, "" | "." | "..");
        match name {
            "" | "." => {}
            ".." => drop(segments.pop()),
            name => segments.push(name),
        }
    }
    let mut normal: String = segments.iter().flat_map(|name| ["/", name]).collect();
    if open {
        normal.push('/');
    }
    Some(normal.into_bytes())
}

/// A route as the configuration would have it: lower case, and ASCII.
fn route(index: usize, line: &[u8]) -> Route {
    let line = line.escape_ascii().to_string();
    let mut words = line.split(' ');
    let mut given = || words.next().filter(|word| *word != "-");
    let mut conditions = RequestConditions {
        host: given().map(|host| match host.strip_prefix('*') {
            // Only a dot follows the star.
            Some(name) if !name.starts_with('.') => name.to_ascii_lowercase(),
            _ => host.to_ascii_lowercase(),
        }),
        path: given().map(|path| match path.split_at_checked(1) {
            Some(("=", path)) => PathPattern::Exact(path.to_owned()),
            Some(("~", regex)) => self::regex(regex),
            _ => PathPattern::Prefix(path.to_owned()),
        }),
        ..RequestConditions::default()
    };
    for word in words {
        match word.split_once('=') {
            Some((_, "*")) => conditions.headers.push((field(), ValuePattern::Any)),
            Some((_, text)) => {
                let pattern = ValuePattern::Exact(text.to_owned());
                conditions.headers.push((field(), pattern));
            }
            None => conditions.methods = vec![Method::POST],
        }
    }
    let mut route = Route::to_pool(pool(index));
    route.matches = RouteMatch {
        conditions,
        not: None,
    };
    route
}

/// An expression of letters, digits and slashes, anchored as in the line.
fn regex(line: &str) -> PathPattern {
    let mut text = line.replace(|c: char| !c.is_ascii_alphanumeric() && c != '/', "");
    if line.starts_with('^') {
        text.insert(0, '^');
    }
    if line.ends_with('$') && line.len() > 1 {
        text.push('$');
    }
    match RegexPattern::new(&text) {
        Ok(regex) => PathPattern::Regex(regex),
        // Without a character there is no expression.
        Err(_) => PathPattern::Exact(String::new()),
    }
}

/// The header field of the routes.
fn field() -> FieldName {
    FieldName {
        written: "X".to_owned(),
        name: http::HeaderName::from_static("x"),
    }
}

fn pool(index: usize) -> PoolRef {
    PoolRef {
        name: String::new(),
        index,
    }
}

/// The name in an authority, each byte as a character.
fn name(authority: &[u8]) -> String {
    let text: String = authority.iter().map(|&byte| char::from(byte)).collect();
    let text = text.to_ascii_lowercase();
    let bracket = text.rfind(']').map_or(0, |at| at + 1);
    let end = text[bracket..].rfind(':').map(|at| bracket + at);
    let name = &text[..end.unwrap_or(text.len())];
    name.trim_end_matches('.').to_owned()
}

/// Whether `path` equals `begin` or continues it with further segments.
fn is_below(path: &[u8], begin: &str) -> bool {
    let mut path = path.split(|byte| *byte == b'/');
    let mut begin = begin.as_bytes().split(|byte| *byte == b'/').peekable();
    while let Some(wanted) = begin.next() {
        // `/v1/` ends in an empty segment: anything there is below it.
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
        " =/v1",
        " =/v1/x",
        " ~/x",
        " ~^/v1",
        " ~/v1$",
        " POST",
        " X=*",
        " X=1",
        "POST 1",
        "\n\n",
        "- -\n",
        "/%61",
        "//",
        "/./",
        "/../",
        ";a=1",
        "\\",
        "%2f",
        "%2e",
    ];
    super::run("route", WORDS, find);
}
