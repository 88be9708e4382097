//! `tracing`.

use std::time::Duration;

use ballast::config::{Config, Otlp, Share, Tracing};

use crate::{errors, only_message, parse, with_top};

fn tracing(value: &str) -> Tracing {
    parse(&with_top(&format!("tracing: {value}")))
        .tracing
        .expect("a tracing section")
}

fn otlp(value: &str) -> Otlp {
    tracing(&format!("{{ otlp: {value} }}"))
        .otlp
        .expect("an otlp section")
}

#[test]
fn tracing_is_off_by_default() {
    assert_eq!(parse(&with_top("")).tracing, None);
    let only_defaults = Tracing {
        sample: Share::of_percent(10.0),
        trust_clients: false,
        otlp: None,
    };
    assert_eq!(tracing("{}"), only_defaults);
    assert!(tracing("{ trust_clients: true }").trust_clients);
    assert_eq!(
        only_message(&with_top("tracing: { trust_clients: 1 }")),
        "tracing.trust_clients: `1` is not one of `true`, `false`"
    );
    let otlp = otlp("{ endpoint: \"http://127.0.0.1:4318\" }");
    assert_eq!(otlp.endpoint.to_string(), "http://127.0.0.1:4318/v1/traces");
    assert_eq!(
        (otlp.timeout, otlp.interval),
        (Duration::from_secs(5), Duration::from_secs(1))
    );
    assert_eq!((&*otlp.service, otlp.queue), ("ballast", 2048));
    assert!(otlp.headers.is_empty());
}

#[test]
fn shares_are_percentages() {
    for (value, percent) in [("0%", 0.0), ("0.5%", 0.5), ("100 %", 100.0)] {
        let sample = tracing(&format!("{{ sample: {value} }}")).sample;
        assert_eq!(sample, Share::of_percent(percent), "{value}");
    }
    for (value, expected) in [
        ("0.1", "`0.1` has no percent sign; write `0.1%`"),
        ("101%", "`101%` is not a share from 0% to 100%"),
        ("-1%", "`-1%` is not a share from 0% to 100%"),
        ("nan%", "`nan%` is not a share from 0% to 100%"),
    ] {
        let line = only_message(&with_top(&format!("tracing: {{ sample: {value} }}")));
        assert_eq!(line, format!("tracing.sample: {expected}"));
    }
}

#[test]
fn the_endpoint_is_a_url() {
    for (url, expected) in [
        ("https://Otel.example", "https://otel.example:443/v1/traces"),
        ("http://[::1]:4318/", "http://[::1]:4318/v1/traces"),
        ("http://a/otlp/", "http://a:80/otlp/v1/traces"),
        ("http://a:1/v1/traces", "http://a:1/v1/traces"),
    ] {
        let endpoint = otlp(&format!("{{ endpoint: \"{url}\" }}")).endpoint;
        assert_eq!(endpoint.to_string(), expected);
    }
    for url in [
        "127.0.0.1:4318",
        "/v1/traces",
        "http://",
        "http://a:0",
        "http://a:",
        "http://a:99999",
        "grpc://a:4317",
        "http://user:secret@a",
        "http://a/?key=secret",
        "",
    ] {
        let text = with_top(&format!("tracing: {{ otlp: {{ endpoint: \"{url}\" }} }}"));
        let line = only_message(&text);
        assert!(line.starts_with("tracing.otlp.endpoint: "), "{line}");
    }
    let line = only_message(&with_top("tracing: { otlp: {} }"));
    assert_eq!(
        line,
        "tracing.otlp: `endpoint` is missing; write it as in `endpoint: http://127.0.0.1:4318`"
    );
}

#[test]
fn header_values_are_not_shown_in_errors_or_debug_output() {
    let value = "{ endpoint: \"http://a\", headers: { Authorization: Bearer hush, x-a: 1 } }";
    let otlp = otlp(value);
    let headers = otlp.headers.iter();
    let headers = Vec::from_iter(headers.map(|(name, value)| (name.as_str(), value.as_bytes())));
    let expected: [(&str, &[u8]); 2] = [("authorization", b"Bearer hush"), ("x-a", b"1")];
    assert_eq!(headers, expected);
    assert!(!format!("{otlp:?}").contains("hush"));
    let lines = errors(&with_top(
        "tracing: { otlp: { endpoint: \"http://a\", headers: { \"a b\": x, Host: x, c: \"hu\\nsh\" } } }",
    ));
    assert_eq!(lines.len(), 3, "{lines:#?}");
    assert!(lines[0].contains("`a b` is not the name of a header field"));
    assert!(lines[1].contains("`Host` is set by the exporter itself"));
    assert!(!lines[2].contains("hu"), "{}", lines[2]);
}

#[test]
fn secret_fields_may_be_in_a_file() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let write = |name: &str, text: &str| {
        std::fs::write(directory.path().join(name), text).expect("a file");
        directory.path().join(name)
    };
    let file = write(
        "b.yaml",
        &with_top(
            "tracing: { otlp: { endpoint: \"http://a\", headers: { x-a: 1 }, headers_file: fields } }",
        ),
    );
    write("fields", "Authorization: Bearer a:b\r\n\nx-b: 2\n");
    let config = Config::load(&file).expect("a configuration");
    let otlp = config.tracing.as_ref().and_then(|it| it.otlp.as_ref());
    let fields = &otlp
        .and_then(|it| it.headers_file.as_ref())
        .expect("a file")
        .fields;
    assert_eq!(fields[0].1, "Bearer a:b");
    assert_eq!(fields[1].0.name, "x-b");
    assert!(!format!("{config:?}").contains("a:b"));
    assert!(!config.dump().to_string().contains("a:b"));
    for (text, expected) in [
        ("x-a: 1\nhush\n", "line 2 of `"),
        ("host: hush", "`host` is set by the exporter itself"),
    ] {
        write("fields", text);
        let told = Config::load(&file).expect_err("a wrong file").to_string();
        assert!(told.contains(expected), "{told}");
        assert!(!told.contains("hush"), "{told}");
    }
}
