//! `compression`, at the top level and of routes.

use ballast::config::ContentCoding;

use crate::{only_message, parse, with_top};

#[test]
fn compression() {
    for (value, expected) in [
        (
            "on",
            ": `on` is neither `false` nor `true` nor a map; did you mean `true`?",
        ),
        (
            "none",
            ": `none` is neither `false` nor `true` nor a map; did you mean `false`?",
        ),
        ("gzip", ": `gzip` is neither `false` nor `true` nor a map"),
        (
            "",
            ": a value is missing here; write one or leave the key out",
        ),
        (
            "{ level: 5 }",
            ": unknown key `level`, expected one of `algorithms`, `types`, `min_size`",
        ),
        (
            "{ gzip_types: text/html }",
            ": unknown key `gzip_types`, expected one of `algorithms`, `types`, `min_size`; did you mean `types`?",
        ),
        (
            "{ algorithms: [gzip, brotli] }",
            ".algorithms[1]: `brotli` is not one of `zstd`, `br`, `gzip`; did you mean `br`?",
        ),
        (
            "{ algorithms: deflate }",
            ".algorithms: `deflate` is not one of `zstd`, `br`, `gzip`; did you mean `gzip`?",
        ),
        (
            "{ algorithms: [gzip, br, gzip] }",
            ".algorithms[2]: `gzip` is there twice",
        ),
        (
            "{ algorithms: [] }",
            ".algorithms: there is no algorithm; `compression: false` turns compression off",
        ),
        (
            "{ types: [] }",
            ".types: there is no type; `compression: false` turns compression off",
        ),
        (
            "{ types: [text/html, Text/HTML] }",
            ".types[1]: `text/html` is there twice",
        ),
        (
            "{ types: [html] }",
            ".types[0]: `html` is not a media type such as `text/html`, `text/*` or `application/*+json`",
        ),
        (
            "{ types: [\"text/html; charset=utf-8\"] }",
            ".types[0]: `text/html; charset=utf-8` has parameters; types are compared without them",
        ),
        (
            "{ types: [\"*/*\"] }",
            ".types[0]: `*/*` includes images and videos, which are compressed already; name the types",
        ),
        (
            "{ min_size: 1k }",
            ".min_size: `1k` is not a number of bytes such as `512`, `32KiB` or `10MiB`; did you mean `1KiB`?",
        ),
    ] {
        let line = only_message(&with_top(&format!("compression: {value}")));
        assert_eq!(line, format!("compression{expected}"));
        if !value.is_empty() {
            let route = format!("routes:\n- {{ pool: web, compression: {value} }}");
            let line = only_message(&with_top(&route));
            assert_eq!(line, format!("routes[0].compression{expected}"));
        }
    }
    let line = only_message(&with_top("gzip: true"));
    assert!(line.ends_with("did you mean `compression`?"), "{line}");
}

#[test]
fn what_a_route_leaves_out_is_from_above() {
    let effective = |top: &str, route: &str| {
        let route = match route {
            "" => String::new(),
            route => format!(", compression: {route}"),
        };
        let routes = format!("routes: [{{ pool: web{route} }}]");
        let config = parse(&with_top(&format!("compression: {top}\n{routes}")));
        let compression = config.response_compression(&config.routes[0])?;
        Some((compression.algorithms, compression.min_size))
    };
    let all = vec![
        ContentCoding::Zstd,
        ContentCoding::Brotli,
        ContentCoding::Gzip,
    ];
    let (br, gzip) = (vec![ContentCoding::Brotli], vec![ContentCoding::Gzip]);
    assert_eq!(effective("false", ""), None);
    assert_eq!(effective("true", ""), Some((all.clone(), 1024)));
    assert_eq!(effective("true", "false"), None);
    assert_eq!(effective("false", "true"), Some((all.clone(), 1024)));
    assert_eq!(effective("{}", "{ min_size: 0 }"), Some((all, 0)));
    let top = "{ algorithms: br, min_size: 7 }";
    assert_eq!(effective(top, "true"), Some((br, 7)));
    assert_eq!(effective(top, "{ algorithms: gzip }"), Some((gzip, 7)));
}
