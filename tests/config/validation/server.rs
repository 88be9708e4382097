//! `server`.

use crate::{only_message, parse, with_top};

#[test]
fn paths_and_drain_delay() {
    let error = |keys: &str| only_message(&with_top(&format!("server: {{ {keys} }}")));
    assert_eq!(
        error("pid_file: run/"),
        "server.pid_file: `run/` is not the path of a file"
    );
    assert_eq!(
        error("control_socket: /a, upgrade_socket: /a"),
        "server.upgrade_socket: this is the path of server.control_socket already"
    );
    let long = "x".repeat(107);
    assert!(
        error(&format!("control_socket: /{long}"))
            .ends_with("has 108 bytes; the path of a socket may have 107")
    );
    assert_eq!(
        error("drain_delay: 10"),
        "server.drain_delay: `10` has no unit; write `10s` for seconds or `10ms` for milliseconds"
    );
    let server = parse(&with_top(
        "server: { pid_file: run/b.pid, control_socket: /s/b.sock, drain_delay: 1500ms }",
    ))
    .server;
    assert_eq!(server.pid_file, Some("run/b.pid".into()));
    assert_eq!(server.control_socket, Some("/s/b.sock".into()));
    assert_eq!(server.drain_delay, std::time::Duration::from_millis(1500));
}
