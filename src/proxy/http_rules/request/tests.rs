use http::header::CONTENT_LENGTH;
use pingora::http::RequestHeader;

use super::*;

const LIMITS: Limits = Limits {
    max_in_flight: None,
    head: 1_000,
    target: 100,
    fields: 5,
    body: Some(10),
    max_connections: None,
    max_connections_per_client: None,
    max_handshakes: None,
    max_requests_per_connection: None,
    min_body_rate: None,
    rate: None,
};

/// The status of the response to a request, 0 if the request is valid, and whether the connection stays open.
fn verdict(line: &str, fields: &[(&'static str, &str)]) -> (u16, bool) {
    let words: Vec<&str> = line.split(' ').collect();
    let mut request = RequestHeader::build(words[0], words[1].as_bytes(), None).unwrap();
    request.set_version(match words[2] {
        "HTTP/1.0" => Version::HTTP_10,
        _ => Version::HTTP_11,
    });
    let mut raw = format!("{line}\r\n");
    for (name, value) in fields {
        request.append_header(*name, *value).unwrap();
        raw.push_str(&format!("{name}: {value}\r\n"));
    }
    raw.push_str("\r\n");
    if request.headers.contains_key("transfer-encoding") {
        request.remove_header(&CONTENT_LENGTH);
    }
    match validate_request((&request).into(), Some(raw.as_bytes()), &LIMITS) {
        Ok(_) => (0, true),
        Err((response, connection)) => (response.status(), connection == Persistence::KeepAlive),
    }
}

fn status(line: &str, fields: &[(&'static str, &str)]) -> u16 {
    verdict(line, fields).0
}

#[test]
fn a_target_has_one_of_three_forms() {
    let host = [("Host", "a")];
    for (line, expected) in [
        ("GET / HTTP/1.1", 0),
        ("GET //c//d?x=/../y HTTP/1.1", 0),
        ("GET /%00%0d?%23 HTTP/1.1", 0),
        ("OPTIONS * HTTP/1.1", 0),
        ("GET http://a/ HTTP/1.1", 0),
        ("GET HTTPS://a HTTP/1.1", 0),
        ("OPTIONS http://a HTTP/1.1", 0),
        ("GET * HTTP/1.1", 400),
        ("OPTIONS ** HTTP/1.1", 400),
        ("OPTIONS *?x HTTP/1.1", 400),
        ("GET a HTTP/1.1", 400),
        ("GET a:80 HTTP/1.1", 400),
        ("GET :80/c HTTP/1.1", 400),
        ("GET ?x HTTP/1.1", 400),
        ("GET http:a HTTP/1.1", 400),
        ("GET http:/a HTTP/1.1", 400),
        ("GET http:// HTTP/1.1", 400),
        ("GET http://a,b/ HTTP/1.1", 400),
        ("GET http://u@a/ HTTP/1.1", 400),
        ("GET gopher://a/ HTTP/1.1", 400),
        ("GET ws://a/ HTTP/1.1", 400),
        ("GET mailto:a HTTP/1.1", 400),
        ("GET /c#d HTTP/1.1", 400),
        ("GET /c# HTTP/1.1", 400),
        ("GET http://a/#d HTTP/1.1", 400),
        ("G#T / HTTP/1.1", 0),
    ] {
        assert_eq!(status(line, &host), expected, "{line}");
    }
}

#[test]
fn http_1_1_needs_one_valid_host() {
    let get = |fields: &[(&'static str, &str)]| status("GET / HTTP/1.1", fields);
    assert_eq!(get(&[("Host", "a")]), 0);
    assert_eq!(get(&[("Host", "")]), 0);
    assert_eq!(get(&[]), 400);
    assert_eq!(get(&[("Host", "a/b")]), 400);
    assert_eq!(get(&[("Host", "a"), ("Host", "a")]), 400);
    assert_eq!(status("GET / HTTP/1.0", &[]), 0);
    assert_eq!(status("GET / HTTP/1.0", &[("Host", "a b")]), 400);
    assert_eq!(status("GET http://a/ HTTP/1.1", &[]), 400);
    assert_eq!(status("GET http://a/ HTTP/1.1", &[("Host", "")]), 400);
    assert_eq!(status("GET http://a/ HTTP/1.0", &[]), 0);
}

#[test]
fn a_body_has_one_framing() {
    let post = |version: &str, fields: &[(&'static str, &str)]| {
        let mut all = vec![("Host", "a")];
        all.extend_from_slice(fields);
        status(&format!("POST / {version}"), &all)
    };
    let chunked = ("Transfer-Encoding", "chunked");
    assert_eq!(post("HTTP/1.1", &[chunked]), 0);
    assert_eq!(post("HTTP/1.1", &[("Content-Length", "5")]), 0);
    assert_eq!(post("HTTP/1.1", &[("Content-Length", "5, 5")]), 0);
    assert_eq!(post("HTTP/1.0", &[chunked]), 400);
    for length in [("Content-Length", "5"), ("content-LENGTH", "0")] {
        assert_eq!(post("HTTP/1.1", &[chunked, length]), 400);
        assert_eq!(post("HTTP/1.1", &[length, chunked]), 400);
    }
    let gzip = ("Transfer-Encoding", "gzip, chunked");
    assert_eq!(post("HTTP/1.1", &[gzip]), 501);
    assert_eq!(post("HTTP/1.1", &[chunked, chunked]), 501);
    assert_eq!(post("HTTP/1.1", &[("Content-Length", "5, 6")]), 400);
    assert_eq!(post("HTTP/1.1", &[("X-Content-Length", "5"), chunked]), 0);
}

#[test]
fn each_limit_has_its_own_status() {
    let get = |path: &str, fields: &[(&'static str, &str)]| {
        let mut all = vec![("Host", "a")];
        all.extend_from_slice(fields);
        status(&format!("GET {path} HTTP/1.1"), &all)
    };
    assert_eq!(get(&format!("/{}", "a".repeat(99)), &[]), 0);
    assert_eq!(get(&format!("/{}", "a".repeat(100)), &[]), 414);
    assert_eq!(get("/", &[("X", &"a".repeat(900))]), 0);
    assert_eq!(get("/", &[("X", &"a".repeat(1_000))]), 431);
    assert_eq!(get("/", &[("X", "a"); 4]), 0);
    assert_eq!(get("/", &[("X", "a"); 5]), 431);
    assert_eq!(get("/", &[("Content-Length", "10")]), 0);
    assert_eq!(get("/", &[("Content-Length", "11")]), 413);
}

#[test]
fn connect_trace_and_final_options_get_a_local_response() {
    let check = |method: &str, value: &str| {
        let fields = [("Host", "a"), ("Max-Forwards", value)];
        verdict(&format!("{method} / HTTP/1.1"), &fields)
    };
    assert_eq!(check("TRACE", "5"), (405, true));
    assert_eq!(check("OPTIONS", "0"), (200, true));
    assert_eq!(check("OPTIONS", "000"), (200, true));
    assert_eq!(check("OPTIONS", "1").0, 0);
    assert_eq!(
        verdict("CONNECT a:443 HTTP/1.1", &[("Host", "a:443")]),
        (405, false)
    );
    for bad in ["", "-1", "+1", "a", "1 1", "0x1"] {
        assert_eq!(check("OPTIONS", bad), (400, false), "{bad}");
    }
    assert_eq!(check("GET", "0").0, 0);
}

#[test]
fn max_forwards_decreases_and_via_grows() {
    let received = |count: &str| {
        let mut request = RequestHeader::build("OPTIONS", b"/", None).unwrap();
        request.set_version(Version::HTTP_10);
        request.insert_header("Max-Forwards", count).unwrap();
        request.insert_header("Via", "1.1 first").unwrap();
        request
    };
    let via = Via::new("ballast");
    for (count, remaining) in [
        ("1", "0"),
        ("10", "9"),
        ("007", "6"),
        ("99999999999999999999999999", "9223372036854775806"),
    ] {
        let received = received(count);
        let mut request = received.clone();
        set_request_hop_fields((&received).into(), None, &mut request, Some(&via)).unwrap();
        assert_eq!(request.headers["max-forwards"], remaining);
        let hops: Vec<_> = request.headers.get_all("via").iter().collect();
        assert_eq!(hops, ["1.1 first", "1.0 ballast"]);
    }
}

#[test]
fn close_counts_in_any_connection_field() {
    let closes = |values: &[&str]| {
        let mut request = RequestHeader::build("GET", b"/", None).unwrap();
        for value in values {
            request.append_header("Connection", *value).unwrap();
        }
        has_connection_close((&request).into())
    };
    assert!(closes(&["keep-alive", "x, Close"]));
    assert!(!closes(&["keep-alive", "closed"]));
    assert!(!closes(&[]));
}

#[test]
fn an_upgrade_needs_the_protocol_and_the_connection_option() {
    let allowed = ["websocket", "SPDY/3.1"].map(Arc::from);
    let check = |method: &str, version, fields: &[(&'static str, &str)]| {
        let mut request = RequestHeader::build(method, b"/", None).expect("a request");
        request.set_version(version);
        for (name, value) in fields {
            request.append_header(*name, *value).expect("a field");
        }
        requested_upgrade((&request).into(), &allowed).map(ToString::to_string)
    };
    let (websocket, connection) = (
        ("Upgrade", "WebSocket"),
        ("Connection", "keep-alive, Upgrade"),
    );
    let spdy = ("Upgrade", "spdy/3.1");
    let two = [
        ("Connection", "close"),
        ("Connection", "upgrade"),
        websocket,
    ];
    let http11 = Version::HTTP_11;
    for (method, version, fields, expected) in [
        (
            "GET",
            http11,
            &[websocket, connection][..],
            Some("websocket"),
        ),
        ("GET", http11, &two, Some("websocket")),
        ("GET", http11, &[spdy, connection], Some("SPDY/3.1")),
        ("POST", http11, &[spdy, connection], Some("SPDY/3.1")),
        ("POST", http11, &[websocket, connection], None),
        ("HEAD", http11, &[spdy, connection], None),
        ("GET", Version::HTTP_10, &[websocket, connection], None),
        (
            "GET",
            Version::HTTP_2,
            &[websocket, connection],
            Some("websocket"),
        ),
        ("GET", http11, &[websocket], None),
        ("GET", http11, &[connection], None),
        ("GET", http11, &[("Upgrade", "h2c"), connection], None),
        ("GET", http11, &[("Upgrade", "SPDY"), connection], None),
        (
            "GET",
            http11,
            &[("Upgrade", "SPDY/3.1, websocket"), connection],
            None,
        ),
        ("GET", http11, &[spdy, websocket, connection], None),
        (
            "GET",
            http11,
            &[websocket, ("Connection", "keep-alive")],
            None,
        ),
        (
            "GET",
            http11,
            &[websocket, ("Connection", "upgraded")],
            None,
        ),
    ] {
        let forwarded = check(method, version, fields);
        assert_eq!(
            forwarded.as_deref(),
            expected,
            "{method} {version:?} {fields:?}"
        );
    }
}

#[test]
fn a_host_gets_only_the_requested_upgrade() {
    let mut request = RequestHeader::build("GET", b"/", None).expect("a request");
    for (name, value) in [("Connection", "keep-alive, Upgrade"), ("Upgrade", "x")] {
        request.append_header(name, value).expect("a field");
    }
    let received = request.clone();
    set_request_hop_fields((&received).into(), Some("tcp"), &mut request, None).expect("passed on");
    let values = |name: &str| Vec::from_iter(request.headers.get_all(name));
    assert_eq!(values("connection"), ["upgrade"]);
    assert_eq!(values("upgrade"), ["tcp"]);
}
