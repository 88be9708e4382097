//! `algorithm` of a pool.

use crate::pool_error;

#[test]
fn algorithms() {
    for (value, expected) in [
        (
            "{ key: path }",
            "pools.web.algorithm: `name` is missing, the algorithm's name",
        ),
        (
            "{ name: p2c, lod: peak_ewma }",
            "pools.web.algorithm.lod: `p2c` has no option `lod`; it has load; did you mean `load`?",
        ),
        (
            "{ name: bounded, factor: 0.5 }",
            "pools.web.algorithm.factor: `factor` is `0.5`, expected a number from 1 to 100",
        ),
        (
            "{ name: random, key: path }",
            "pools.web.algorithm.key: `random` takes no key, so `path` has no effect",
        ),
        (
            "{ name: ip_hash, key: path }",
            "pools.web.algorithm.key: `ip_hash` takes no key, so `path` has no effect",
        ),
    ] {
        assert_eq!(pool_error(&format!("algorithm: {value}")), expected);
    }
    let one_of =
        "is not one of `client_ip`, `header:NAME`, `cookie:NAME`, `query:NAME`, `path`, `uri`";
    for (key, expected) in [
        (
            "client-ip",
            format!("`client-ip` {one_of}; did you mean `client_ip`?"),
        ),
        ("user", format!("`user` {one_of}")),
        (
            "header",
            "`header` needs a name, as in `header:NAME`".to_owned(),
        ),
        (
            "header:X User",
            "`header:X User` does not name a header field".to_owned(),
        ),
        (
            "\"header:\"",
            "`header:` does not name a header field".to_owned(),
        ),
        (
            "\"cookie:a=b\"",
            "`cookie:a=b` does not name a cookie".to_owned(),
        ),
        (
            "\"query:\"",
            "`query:` does not name a query parameter".to_owned(),
        ),
        (
            "path:/v1",
            "`path:/v1` takes no name; did you mean `path`?".to_owned(),
        ),
    ] {
        let line = pool_error(&format!(
            "algorithm: {{ name: consistent_hash, key: {key} }}"
        ));
        assert_eq!(line, format!("pools.web.algorithm.key: {expected}"));
    }
}
