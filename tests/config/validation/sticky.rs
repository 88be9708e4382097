//! `sticky` of a pool.

use crate::{pool_error, pool_with};

#[test]
fn sticky() {
    for (value, expected) in [
        (
            "yes",
            ": `yes` is neither `none` nor a map; did you mean `{ cookie: ballast }`?",
        ),
        (
            "{ ttl: 1h }",
            ": `cookie` is missing; write it as in `cookie: ballast`",
        ),
        (
            "{ cookie: \"a b\" }",
            ".cookie: `a b` is not the name of a cookie",
        ),
        (
            "{ cookie: __Host-a }",
            ".cookie: browsers take `__Host-a` with `Secure` only; set `secure: true`",
        ),
        (
            "{ cookie: a, same_site: none }",
            ".same_site: browsers take `SameSite=None` with `Secure` only; set `secure: true`",
        ),
        (
            "{ cookie: a, same_site: Lax }",
            ".same_site: `Lax` is not one of `strict`, `lax`, `none`; did you mean `lax`?",
        ),
        (
            "{ cookie: a, ttl: 999ms }",
            ".ttl: `999ms` is shorter than 1s",
        ),
        (
            "{ cookie: a, http_only: maybe }",
            ".http_only: `maybe` is not one of `true`, `false`",
        ),
        (
            "{ cookie: a, secret_file: s.key }",
            ".secret_file: cannot read `s.key`: entity not found",
        ),
    ] {
        let line = pool_error(&format!("sticky: {value}"));
        assert_eq!(line, format!("pools.web.sticky{expected}"));
    }
    assert_eq!(pool_with("sticky: none").sticky, None);
    let sticky = pool_with("sticky: { cookie: __Host-a, secure: true, same_site: none }").sticky;
    let sticky = sticky.expect("sticky");
    assert_eq!(sticky.cookie, "__Host-a");
    assert_eq!(sticky.ttl.as_secs(), 3600);
    assert!(sticky.http_only && sticky.secret_file.is_none());
}
