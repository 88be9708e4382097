//! `admin`.

use crate::{only_message, parse, with_top};

#[test]
fn the_address_is_not_one_of_the_listeners() {
    assert_eq!(
        only_message(&with_top("admin: { address: \"127.0.0.1:8080\" }")),
        "admin.address: `127.0.0.1:8080` is the address of listeners[0] already"
    );
    assert_eq!(
        only_message(&with_top("admin: { address: localhost:9901 }")),
        "admin.address: `localhost:9901` is not an IP address with a port; did you mean `127.0.0.1:9901`?"
    );
    let admin = parse(&with_top("admin: { address: \"[::1]:9901\" }")).admin;
    assert_eq!(admin.address, Some("[::1]:9901".parse().expect("right")));
}

#[test]
fn hosts_and_readiness() {
    for (keys, expected) in [
        (
            "hosts: [\"a.example:80\"]",
            "admin.hosts[0]: `a.example:80` is not a host name without port; IP addresses need not be listed",
        ),
        (
            "ready: { usable: some }",
            "admin.ready.usable: `some` is not a whole number from 0 to 18446744073709551615",
        ),
    ] {
        assert_eq!(
            only_message(&with_top(&format!("admin: {{ {keys} }}"))),
            expected
        );
    }
    let admin = parse(&with_top(
        "admin: { hosts: [Lb.Internal], ready: { usable: 2 } }",
    ))
    .admin;
    assert_eq!((&*admin.hosts[0], admin.ready.usable), ("lb.internal", 2));
}
