//! `hosts` of a pool.

use crate::{only_message, with_pool};

#[test]
fn a_unix_socket_has_no_name_for_tls() {
    let problem =
        |tls: &str| only_message(&with_pool(&format!("hosts: [\"unix:/run/a\"], tls: {tls}")));
    assert_eq!(
        problem("true"),
        "pools.web.tls: the Unix socket `unix:/run/a` has no name for TLS; say which one its certificate has, with `server_name`"
    );
    assert_eq!(problem("{ verify: false }"), problem("true"));
}

#[test]
fn a_path_is_as_long_as_the_kernel_takes_it() {
    let path = "x".repeat(107);
    let message = only_message(&with_pool(&format!("hosts: [\"unix:/{path}\"]")));
    assert!(
        message.ends_with("has at most 107 bytes, and this one has 108"),
        "{message}"
    );
}

#[test]
fn hosts() {
    let host = |text: &str| only_message(&with_pool(&format!("hosts: [{text}]")));
    for (value, expected) in [
        (
            "\"127.0.0.1\"",
            "pools.web.hosts[0]: `127.0.0.1` has no port; did you mean `127.0.0.1:80`?",
        ),
        (
            "app.internal",
            "pools.web.hosts[0]: `app.internal` has no port; did you mean `app.internal:80`?",
        ),
        (
            "\"::1\"",
            "pools.web.hosts[0]: `::1` has no port; an IPv6 address with one is written as in `[::1]:80`",
        ),
        (
            "\"app.internal:0\"",
            "pools.web.hosts[0]: `app.internal:0` has port 0, where no host can listen",
        ),
        (
            "\"127.0.0.1:0\"",
            "pools.web.hosts[0]: `127.0.0.1:0` has port 0, where no host can listen",
        ),
        (
            "\"app.internal:http\"",
            "pools.web.hosts[0]: `app.internal:http` has no port from 1 to 65535 after its last colon",
        ),
        (
            "\"10.0.0.256:80\"",
            "pools.web.hosts[0]: `10.0.0.256:80` is not a `host:port`",
        ),
        (
            "\"a b:80\"",
            "pools.web.hosts[0]: `a b:80` is not a `host:port`",
        ),
        (
            "\"http://app.internal/\"",
            "pools.web.hosts[0]: `http://app.internal/` is a URL, but a host is `host:port`; leave out `http://` and give the port",
        ),
        (
            "\"http://app.internal:80\"",
            "pools.web.hosts[0]: `http://app.internal:80` is a URL, but a host is `host:port`; leave out `http://`",
        ),
        (
            "{ address: \"nope.internal:80\", resolve: once }",
            "pools.web.hosts[0].address: cannot resolve `nope.internal`: no such name",
        ),
        (
            "{ address: \"empty.internal:80\", resolve: once }",
            "pools.web.hosts[0].address: cannot resolve `empty.internal`: it has no address",
        ),
        (
            "/run/app.sock",
            "pools.web.hosts[0]: `/run/app.sock` is a path; did you mean the Unix socket `unix:/run/app.sock`?",
        ),
        (
            "\"unix:app.sock\"",
            "pools.web.hosts[0]: `unix:app.sock`: the path of a Unix socket is absolute, as in `unix:/run/app.sock`",
        ),
        (
            "{ address: \"unix:///run/app.sock\" }",
            "pools.web.hosts[0].address: `unix:///run/app.sock`: the address of a Unix socket is no URL; it has one slash, as in `unix:/run/app.sock`",
        ),
        (
            "\"unix:/run/a\", \"unix:/run/a\"",
            "pools.web.hosts[1]: `unix:/run/a` is hosts[0] of this pool already",
        ),
        (
            "{ weight: 2 }",
            "pools.web.hosts[0]: `address` is missing; write it as in `address: 127.0.0.1:8081`",
        ),
        (
            "{ address: \"127.0.0.1:1\", weight: -1 }",
            "pools.web.hosts[0].weight: `-1` is not a whole number from 0 to 10000",
        ),
        (
            "{ address: \"127.0.0.1:80\", name: \" \" }",
            "pools.web.hosts[0].name: a name has at least one character",
        ),
        (
            "{ address: \"127.0.0.1:80\", name: \"a\\tb\" }",
            "pools.web.hosts[0].name: `a\\tb` begins or ends with a space, or has a control character",
        ),
        (
            "{ address: \"127.0.0.1:80\", name: a }, { address: \"127.0.0.1:81\", name: a }",
            "pools.web.hosts[1].name: `a` is the name of hosts[0] already",
        ),
        (
            "{ address: \"127.0.0.1:1\", backup: maybe }",
            "pools.web.hosts[0].backup: `maybe` is not one of `true`, `false`",
        ),
        (
            "{ address: \"127.0.0.1:1\", max_in_flight: -1 }",
            "pools.web.hosts[0].max_in_flight: `-1` is not a whole number from 0 to 18446744073709551615",
        ),
        (
            "{ address: \"127.0.0.1:1\", weight: 0 }",
            "pools.web.hosts: no host of the pool can take requests: every weight is 0",
        ),
        (
            "\"app.internal:80\", { address: \"App.Internal:80\" }",
            "pools.web.hosts[1].address: `App.Internal:80` is hosts[0] of this pool already",
        ),
        (
            "\"[::1]:80\", \"[0::1]:80\"",
            "pools.web.hosts[1]: `[0::1]:80` is hosts[0] of this pool already",
        ),
    ] {
        assert_eq!(host(value), expected);
    }
    let long = "x".repeat(200);
    assert_eq!(
        host(&format!("\"{long}\\n!\"")),
        format!(
            "pools.web.hosts[0]: `{}…` is not a `host:port`",
            &long[..80]
        )
    );
}
