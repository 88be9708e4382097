//! The default HTTP/1.1 implementation of the tests: `BALLAST_TEST_HTTP1=pingora` replaces the engine.

use std::borrow::Cow;

/// A configuration with the `server.http1` that the environment asks for, unless the configuration sets one.
pub(crate) fn in_requested_mode(yaml: &str) -> Cow<'_, str> {
    match std::env::var("BALLAST_TEST_HTTP1") {
        Ok(mode) if !yaml.contains("http1:") => Cow::Owned(with_http1(yaml, &mode)),
        _ => Cow::Borrowed(yaml),
    }
}

/// The lines of the configuration keep their numbers where possible.
fn with_http1(yaml: &str, mode: &str) -> String {
    let section = yaml
        .match_indices("server:")
        .find(|(at, _)| yaml[..*at].is_empty() || yaml[..*at].ends_with('\n'));
    let Some((at, key)) = section else {
        return format!("{}\nserver: {{ http1: {mode} }}\n", yaml.trim_end());
    };
    let (before, after) = yaml.split_at(at + key.len());
    let (line, rest) = after.split_once('\n').unwrap_or((after, ""));
    if let Some(keys) = line.trim_start().strip_prefix('{') {
        return format!("{before} {{ http1: {mode}, {}\n{rest}", keys.trim_start());
    }
    let indentation = rest.len() - rest.trim_start_matches(' ').len();
    let indentation = " ".repeat(indentation.max(1));
    format!("{before}{line}\n{indentation}http1: {mode}\n{rest}")
}

#[test]
fn a_configuration_without_a_mode_gets_the_one_of_the_environment() {
    let with = |yaml| with_http1(yaml, "pingora");
    assert_eq!(
        with("pools: {}\n"),
        "pools: {}\nserver: { http1: pingora }\n"
    );
    assert_eq!(
        with("a: 1\nserver: { threads: 1 }\nb: 2\n"),
        "a: 1\nserver: { http1: pingora, threads: 1 }\nb: 2\n"
    );
    assert_eq!(with("server: {}\n"), "server: { http1: pingora, }\n");
    assert_eq!(
        with("server:\n  threads: 1\n"),
        "server:\n  http1: pingora\n  threads: 1\n"
    );
    assert_eq!(with("server:\nb: 2\n"), "server:\n http1: pingora\nb: 2\n");
}
