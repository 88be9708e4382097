//! `listeners`.

use crate::only_message;

#[test]
fn a_listener_is_not_at_the_path_of_a_socket_of_the_process() {
    assert_eq!(
        only_message(
            "server: { control_socket: /run/a }\nlisteners: [\"127.0.0.1:80\", \"unix:/run/a\"]\npools: { web: { hosts: [\"127.0.0.1:1\"] } }\n"
        ),
        "server.control_socket: this is the path of listeners[1]"
    );
}

#[test]
fn listeners() {
    let listener = |text: &str| {
        only_message(&format!(
            "listeners: [{text}]\npools: {{ web: {{ hosts: [\"127.0.0.1:1\"] }} }}\n"
        ))
    };
    for (value, expected) in [
        (
            "8080",
            "listeners[0]: `8080` is not an IP address with a port; did you mean `0.0.0.0:8080`?",
        ),
        (
            "\":8080\"",
            "listeners[0]: `:8080` is not an IP address with a port; did you mean `0.0.0.0:8080`?",
        ),
        (
            "\"localhost:80\"",
            "listeners[0]: `localhost:80` is not an IP address with a port; did you mean `127.0.0.1:80`?",
        ),
        (
            "\"127.0.0.1\"",
            "listeners[0]: `127.0.0.1` has no port; write it as in `127.0.0.1:8080`",
        ),
        (
            "\"::1\"",
            "listeners[0]: `::1` has no port; write it as in `[::1]:8080`",
        ),
        (
            "\"1.2.3.4:99999\"",
            "listeners[0]: `1.2.3.4:99999` is not an IP address with a port such as `0.0.0.0:8080`",
        ),
        (
            "\"127.0.0.1:0\"",
            "listeners[0]: `127.0.0.1:0` has port 0; clients could not know the port",
        ),
        (
            "/run/ballast.sock",
            "listeners[0]: `/run/ballast.sock` is a path; did you mean the Unix socket `unix:/run/ballast.sock`?",
        ),
        (
            "\"unix:/run/a\", { address: \"unix:/run/a\" }",
            "listeners[1].address: `unix:/run/a` is the address of listeners[0] already",
        ),
        (
            "{ address: \"127.0.0.1:80\", mode: 0660 }",
            "listeners[0].mode: this is for Unix sockets, and this listener has an IP address",
        ),
        (
            "{ address: \"unix:/run/a\", mode: 0999 }",
            "listeners[0].mode: `0999` is not three octal digits, as in `0660`",
        ),
        (
            "{ address: \"unix:/run/a\", proxy_protocol: { trusted: [10.0.0.0/8] } }",
            "listeners[0].proxy_protocol: a Unix socket has no networks; `mode` of the listener says who may connect, so leave out `trusted`",
        ),
        (
            "{}",
            "listeners[0]: `address` is missing; write it as in `address: 0.0.0.0:8080`",
        ),
        (
            "\"[::1]:80\", \"[0:0::1]:80\"",
            "listeners[1]: `[::1]:80` is the address of listeners[0] already",
        ),
        (
            "\"127.0.0.1:80\", \"[::ffff:127.0.0.1]:80\"",
            "listeners[1]: `127.0.0.1:80` is the address of listeners[0] already",
        ),
        (
            "{ address: \"127.0.0.1:80\", tls: {} }",
            "listeners[0].tls.certificates: there is no certificate; TLS needs at least one",
        ),
        (
            "{ address: \"127.0.0.1:80\", http2: true }",
            "listeners[0].http2: `true` is not one of `off`, `cleartext`",
        ),
        (
            "{ address: \"127.0.0.1:80\", proxy_protocol: {} }",
            "listeners[0].proxy_protocol: `trusted` is missing; write it as in `trusted: [10.0.0.0/8]`",
        ),
        (
            "{ address: \"127.0.0.1:80\", proxy_protocol: { trusted: [all] } }",
            "listeners[0].proxy_protocol.trusted[0]: `all` is neither a network such as `10.0.0.0/8` nor an address",
        ),
    ] {
        assert_eq!(listener(value), expected);
    }
    let many = Vec::from_iter((1..=33).map(|port| format!("\"127.0.0.1:{port}\""))).join(", ");
    assert_eq!(
        listener(&many),
        "listeners: there are 33 listeners; the limit is 32"
    );
}
