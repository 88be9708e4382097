//! `health_check` of a pool.

use crate::pool_error;

#[test]
fn health_checks() {
    for (value, expected) in [
        (
            "off",
            ": `off` is neither `none` nor a map; did you mean `none`?",
        ),
        (
            "http",
            ": `http` is neither `none` nor a map; did you mean `{ type: http }`?",
        ),
        (
            "{ type: htpp }",
            ".type: `htpp` is not one of `tcp`, `http`, `grpc`; did you mean `http`?",
        ),
        (
            "{ path: / }",
            ".path: `path` belongs to an HTTP check; did you mean `type: http`?",
        ),
        (
            "{ interval: 0s }",
            ".interval: `0s` is not above 0; write a time such as `500ms` or `2s`",
        ),
        (
            "{ interval: 1s, timeout: 2s }",
            ".timeout: the timeout of 2s is longer than the interval of 1s; a check must end before the next begins",
        ),
        (
            "{ interval: 500ms }",
            ".interval: the timeout of 1s is longer than the interval of 500ms; a check must end before the next begins",
        ),
        (
            "{ rise: 0 }",
            ".rise: `0` is not a whole number from 1 to 1000",
        ),
        (
            "{ fall: 0 }",
            ".fall: `0` is not a whole number from 1 to 1000",
        ),
        (
            "{ initial: down }",
            ".initial: `down` is not one of `unknown`, `up`",
        ),
        (
            "{ type: http, method: get }",
            ".method: `get` is not in capital letters; did you mean `GET`?",
        ),
        (
            "{ type: http, method: CONNECT }",
            ".method: `CONNECT` is not a method for a check",
        ),
        (
            "{ type: http, path: healthz }",
            ".path: `healthz` does not begin with `/`",
        ),
        (
            "{ type: http, path: \"/a b\" }",
            ".path: `/a b` is not a path: invalid uri character",
        ),
        (
            "{ type: http, host: \"a b\" }",
            ".host: `a b` is not a host name",
        ),
        (
            "{ type: http, expect: [] }",
            ".expect: no status is expected, so no host could ever be healthy",
        ),
        (
            "{ type: http, expect: 99 }",
            ".expect: `99` is neither a status from 100 to 599 nor a range such as `200-299`",
        ),
        (
            "{ type: http, expect: [200, \"500-600\"] }",
            ".expect[1]: `500-600` is neither a status from 100 to 599 nor a range such as `200-299`",
        ),
        (
            "{ type: http, expect: 299-200 }",
            ".expect: `299-200` is empty; did you mean `200-299`?",
        ),
    ] {
        let line = pool_error(&format!("health_check: {value}"));
        assert_eq!(line, format!("pools.web.health_check{expected}"));
    }
}
