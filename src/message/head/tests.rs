use http::HeaderName;

use super::*;
use crate::message::FieldsView;
use crate::message::fuzz;

const MANY: usize = 100;

/// Reads `bytes` in one piece.
fn whole(kind: MessageKind, bytes: &[u8]) -> (MessageHead, Result<HeadProgress, HeadError>) {
    let mut head = MessageHead::default();
    let outcome = head.read(kind, bytes, MANY);
    (head, outcome)
}

/// The fields as `name: value`.
fn fields_of(head: &MessageHead, bytes: &[u8]) -> Vec<String> {
    let fields = head.fields(bytes).map(|HeaderField { name, value }| {
        let (name, value) = (name.escape_ascii(), value.escape_ascii());
        format!("{name}: {value}")
    });
    fields.collect()
}

#[test]
fn the_parts_of_a_request_are_where_they_were_sent() {
    let bytes =
        b"\r\nPOST /a<b>\"`\xc3\xa9?{q} HTTP/1.0\r\nHost: a\r\nX-Y:\t b c \t\r\nx-y:\r\n\r\nbody";
    let (mut head, outcome) = whole(MessageKind::Request, bytes);
    assert_eq!(outcome, Ok(HeadProgress::Complete(bytes.len() - 4)));
    assert_eq!(head.method(bytes), b"POST");
    assert_eq!(head.target(bytes), b"/a<b>\"`\xc3\xa9?{q}");
    assert_eq!(head.version(), HeadVersion::Http10);
    assert_eq!(fields_of(&head, bytes), ["Host: a", "X-Y: b c", "x-y: "]);
    assert_eq!(head.len(), 3);
    assert_eq!(head.get(bytes, "host"), Some(&b"a"[..]));
    assert_eq!(head.get(bytes, "hos"), None);
    let view = FieldsView::Parsed(&head, bytes);
    assert_eq!(
        Vec::from_iter(view.get_all(&HeaderName::from_static("x-y"))),
        [&b"b c"[..], b""]
    );
    head.remove(bytes, |name| name.eq_ignore_ascii_case(b"x-y"));
    assert_eq!(fields_of(&head, bytes), ["Host: a"]);
    assert_eq!((head.len(), head.get(bytes, "x-y")), (1, None));
}

#[test]
fn the_parts_of_a_response_are_where_they_were_sent() {
    let bytes = b"HTTP/1.1 404 Not here\r\nA : b\r\nContent-Length: 0\r\n\r\n";
    let (head, outcome) = whole(MessageKind::Response, bytes);
    assert_eq!(outcome, Ok(HeadProgress::Complete(bytes.len())));
    assert_eq!((head.status(), head.version()), (404, HeadVersion::Http11));
    assert_eq!(head.reason(bytes), b"Not here");
    assert_eq!(fields_of(&head, bytes), ["A: b", "Content-Length: 0"]);
}

const OK: fn(usize) -> Result<HeadProgress, HeadError> =
    |length| Ok(HeadProgress::Complete(length));
const BAD: Result<HeadProgress, HeadError> = Err(HeadError::Malformed);

/// Also compares with Pingora's session, and with the head read in pieces.
fn assert_read(
    kind: MessageKind,
    bytes: &[u8],
    expected: Result<HeadProgress, HeadError>,
    fields: &[&str],
) {
    let (head, outcome) = whole(kind, bytes);
    assert_eq!(outcome, expected, "{}", bytes.escape_ascii());
    if outcome.is_ok() {
        assert_eq!(fields_of(&head, bytes), fields, "{}", bytes.escape_ascii());
    }
    fuzz::heads(bytes);
}

/// A received field line, and the parsed field; `None` if the head is refused.
type Case<'a> = (&'a [u8], Option<&'a [&'a str]>);

/// Lines that are the same in requests and responses.
const FIELDS: &[Case<'_>] = &[
    (b"", Some(&[])),
    (b"A: b\r\n", Some(&["A: b"])),
    (b"A:b\r\n", Some(&["A: b"])),
    (b"A: \t b \t\r\n", Some(&["A: b"])),
    (b"A:\r\n", Some(&["A: "])),
    (b"A: \t\r\n", Some(&["A: "])),
    (b"A: b\nC: d\r\n", Some(&["A: b", "C: d"])),
    (
        b"a!#$%&'*+-.^_`|~1: b\r\n",
        Some(&["a!#$%&\\'*+-.^_`|~1: b"]),
    ),
    (b"A: \x80\xff\tb\r\n", Some(&["A: \\x80\\xff\\tb"])),
    (b"A: b:c\r\n", Some(&["A: b:c"])),
    (b": b\r\n", None),
    (b"A\r\n", None),
    (b"A b: c\r\n", None),
    (b"A(: b\r\n", None),
    (b"A\xe9: b\r\n", None),
    (b"A\0: b\r\n", None),
    (b"A: b\0c\r\n", None),
    (b"A: b\rc\r\n", None),
    (b"A: b\r\r\n", None),
    (b"A: \x01\r\n", None),
    (b"A: \x7f\r\n", None),
    (b" A: b\r\n", None),
    (b"\tA: b\r\n", None),
    (b"\r \r\n", None),
];

/// Lines that only hosts may send.
const LENIENT: &[Case<'_>] = &[
    (b"A : b\r\n", Some(&["A: b"])),
    (b"A \t: b\r\n", Some(&["A: b"])),
    (b"A: b\r\n c\r\n", Some(&["A: b c"])),
    (
        b"A: b \r\n\t  c\n d\r\nE: f\r\n",
        Some(&["A: b c d", "E: f"]),
    ),
    (b"A:\r\n b\r\n", Some(&["A: b"])),
    (b"A: b\r\n \r\n", Some(&["A: b"])),
    (b"A: b\r\n \r\n\tc\r\n", Some(&["A: b c"])),
    (b"A:\r\n \r\n", Some(&["A: "])),
];

#[test]
fn fields_are_read_and_refused_as_pingora_does() {
    for (kind, line) in [
        (MessageKind::Request, "GET / HTTP/1.1\r\n"),
        (MessageKind::Response, "HTTP/1.1 200 OK\r\n"),
    ] {
        let cases = FIELDS.iter().chain(LENIENT);
        for (index, (lines, fields)) in cases.enumerate() {
            let lenient = index >= FIELDS.len();
            let bytes = [line.as_bytes(), lines, b"\r\n"].concat();
            match fields.filter(|_| !lenient || kind == MessageKind::Response) {
                Some(fields) => assert_read(kind, &bytes, OK(bytes.len()), fields),
                None => assert_read(kind, &bytes, BAD, &[]),
            }
        }
    }
}

#[test]
fn first_lines_are_read_and_refused_as_pingora_does() {
    for line in [
        "GET / HTTP/1.1\r\n",
        "GET / HTTP/1.0\n",
        "\r\n\n\r\nGET * HTTP/1.1\r\n",
        "a!#$%&'*+-.^_`|~1 / HTTP/1.1\r\n",
        "GET http://a.example/ HTTP/1.1\r\n",
        "GET /\u{e9}<>\"`{}|\\^[]%zz HTTP/1.1\r\n",
    ] {
        let head = [line, "\r\n"].concat();
        assert_read(MessageKind::Request, head.as_bytes(), OK(head.len()), &[]);
    }
    for line in [
        &b"GET / HTTP/2.0\r\n"[..],
        b"GET / HTTP/1.2\r\n",
        b"GET / http/1.1\r\n",
        b"GET / HTTP/1.10\r\n",
        b"GET  / HTTP/1.1\r\n",
        b"GET  HTTP/1.1\r\n",
        b"GET /\r\n",
        b" GET / HTTP/1.1\r\n",
        b"G<T / HTTP/1.1\r\n",
        b"GET\t/ HTTP/1.1\r\n",
        b"GET /\x7f HTTP/1.1\r\n",
        b"GET /\0 HTTP/1.1\r\n",
        b"GET / HTTP/1.1\r\r\n",
        b"\rGET / HTTP/1.1\r\n",
        // Not UTF-8 and not escaped: Pingora refuses such a target.
        b"GET /\xe9 HTTP/1.1\r\n",
    ] {
        assert_read(MessageKind::Request, &[line, b"\r\n"].concat(), BAD, &[]);
    }
    for (line, status, reason) in [
        ("HTTP/1.1 200 OK\r\n", 200, "OK"),
        ("HTTP/1.0 999 a b\tc\n", 999, "a b\tc"),
        ("\r\n\nHTTP/1.1 100 \r\n", 100, ""),
        ("HTTP/1.1 204\r\n", 204, ""),
        ("HTTP/1.1 200 \u{e9}\r\n", 200, ""),
    ] {
        let head = [line, "\r\n"].concat();
        assert_read(MessageKind::Response, head.as_bytes(), OK(head.len()), &[]);
        let (read, _) = whole(MessageKind::Response, head.as_bytes());
        assert_eq!(
            (read.status(), read.reason(head.as_bytes())),
            (status, reason.as_bytes())
        );
    }
    for line in [
        "HTTP/1.1 099 No\r\n",
        "HTTP/1.1 20 No\r\n",
        "HTTP/1.1 2000 No\r\n",
        "HTTP/1.1  200 OK\r\n",
        "HTTP/1.1\t200 OK\r\n",
        "HTTP/1.1 200 \0\r\n",
        "HTTP/1.1 200 a\rb\r\n",
        "HTTP/2 200\r\n",
        "HTTP/1.2 200 OK\r\n",
        "ICY 200 OK\r\n",
        " HTTP/1.1 200 OK\r\n",
        "\rHTTP/1.1 200 OK\r\n",
    ] {
        assert_read(
            MessageKind::Response,
            [line, "\r\n"].concat().as_bytes(),
            BAD,
            &[],
        );
    }
}

#[test]
fn too_many_fields_and_a_fragment_leave_the_request_line_readable() {
    let bytes = b"GET /a HTTP/1.1\r\nA: b\r\nC: d\r\n\r\n";
    let mut head = MessageHead::default();
    assert_eq!(head.read_request(bytes, 2), OK(bytes.len()));
    assert_eq!(head.read_request(bytes, 1), Err(HeadError::TooManyFields));
    assert_eq!(
        (head.method(bytes), head.target(bytes)),
        (&b"GET"[..], &b"/a"[..])
    );
    assert_eq!(head.len(), 0);
    let bytes = b"GET /a#b HTTP/1.1\r\nA: b\r\n\r\n";
    assert_eq!(
        head.read_request(bytes, 2),
        Err(HeadError::FragmentInTarget)
    );
    assert_eq!(head.target(bytes), b"/a#b");
    assert_eq!(fields_of(&head, bytes), ["A: b"]);
    // More fields than Pingora accepts are too many, whatever the limit.
    let many = ["GET / HTTP/1.1\r\n", &"A: b\r\n".repeat(257), "\r\n"].concat();
    let outcome = head.read_request(many.as_bytes(), 1_000);
    assert_eq!(outcome, Err(HeadError::TooManyFields));
}

#[test]
fn the_longest_name_is_that_of_the_http_crate() {
    for (length, accepted) in [(65_535, true), (65_536, false)] {
        let head = ["HTTP/1.1 200 OK\r\n", &"a".repeat(length), ": b\r\n\r\n"].concat();
        let (_, outcome) = whole(MessageKind::Response, head.as_bytes());
        assert_eq!(outcome.is_ok(), accepted, "{length}");
        let name = http::HeaderName::from_bytes("a".repeat(length).as_bytes());
        assert_eq!(name.is_ok(), accepted, "{length}");
    }
}

#[test]
fn an_invalid_head_is_refused_before_its_end() {
    for (kind, bytes) in [
        (MessageKind::Request, &b"\x16\x03\x01\x02"[..]),
        (MessageKind::Request, b"G<T"),
        (MessageKind::Request, b"GET / HTTP/1.1\r\nA : b\r\n"),
        (MessageKind::Response, b"SSH-2.0-x\r\n"),
        (MessageKind::Response, b"HTTP/1.1 200 OK\r\nA(: b"),
    ] {
        let (_, outcome) = whole(kind, bytes);
        assert_eq!(outcome, BAD, "{}", bytes.escape_ascii());
    }
}

#[test]
fn a_head_in_single_bytes_is_parsed_only_a_few_times() {
    let fields = "A: 0123456789\r\n".repeat(90);
    let bytes = ["GET / HTTP/1.1\r\n", &fields, "\r\n"]
        .concat()
        .into_bytes();
    let mut head = MessageHead::default();
    let (mut parses, mut parsed) = (1, 0);
    for length in 1..bytes.len() {
        let outcome = head.read_request(&bytes[..length], MANY);
        assert_eq!(outcome, Ok(HeadProgress::Partial));
        parses += usize::from(head.scan.parsed != parsed);
        parsed = head.scan.parsed;
    }
    assert_eq!(head.read_request(&bytes, MANY), OK(bytes.len()));
    assert!(parses <= 13, "{parses}");
}

#[test]
fn an_abandoned_head_leaves_no_state() {
    let mut head = MessageHead::default();
    let partial = head.read_request(b"GET /long/target HTTP/1.1\r\nA: b", MANY);
    assert_eq!(partial, Ok(HeadProgress::Partial));
    head.clear();
    let bytes = b"GET / HTTP/1.1\r\n\r\n";
    assert_eq!(head.read_request(bytes, MANY), OK(bytes.len()));
    assert_eq!((head.len(), head.target(bytes)), (0, &b"/"[..]));
}

#[test]
fn a_head_is_read_without_allocating() {
    let request = b"GET / HTTP/1.1\r\nHost: a\r\nB: c\r\nD: e\r\n\r\n";
    let response = b"HTTP/1.1 200 OK\r\nA: b\r\nC: d\r\n e\r\n\r\n";
    let mut head = MessageHead::default();
    let mut read = || {
        assert!(head.read_request(request, MANY).is_ok());
        head.remove(request, |name| name == b"B");
        assert_eq!(head.get(request, "host"), Some(&b"a"[..]));
        assert!(head.read_response(response, MANY).is_ok());
        assert_eq!(head.get(response, "c"), Some(&b"d e"[..]));
    };
    read();
    let counted = allocation_counter::measure(read);
    assert_eq!(counted.count_total, 0);
}

/// The raw messages of the end-to-end corpus, which cover unusual input.
#[test]
fn the_corpus_is_read_as_pingora_reads_it() {
    for cases in [
        include_str!("../../../tests/e2e/corpus/requests.jsonl"),
        include_str!("../../../tests/e2e/corpus/answers.jsonl"),
    ] {
        for case in cases.lines() {
            let case: serde_json::Value = serde_json::from_str(case).expect("JSON");
            let raw = case["raw"].as_str().expect("a raw message");
            // Each character of the file stands for one byte.
            let raw = raw.chars().map(|octet| octet as u32 as u8);
            fuzz::heads(&Vec::from_iter(raw));
        }
    }
}

#[test]
fn a_field_is_written_as_received_or_in_the_usual_form() {
    let written = |field: &str| {
        let bytes = format!("HTTP/1.1 200 OK\r\nA: 1\r\n{field}\r\nZ:\r\n\r\n");
        let mut head = MessageHead::default();
        let read = head.read_response(bytes.as_bytes(), MAX_FIELDS);
        assert_eq!(read, Ok(HeadProgress::Complete(bytes.len())), "{field:?}");
        let mut fields = head.fields(bytes.as_bytes());
        let mut out = Vec::new();
        while let Some(line) = fields.next_line() {
            line.write(&mut out);
        }
        let out = String::from_utf8(out).expect("text");
        let field = out
            .strip_prefix("A: 1\r\n")
            .and_then(|rest| rest.strip_suffix("\r\nZ: \r\n"));
        field.expect("the other fields").to_owned()
    };
    for (received, expected) in [
        ("Name: value", "Name: value"),
        ("name:value", "name: value"),
        ("Name:\tvalue", "Name: value"),
        ("Name:  value", "Name: value"),
        ("Name: value \t", "Name: value"),
        ("Name: a: b", "Name: a: b"),
        ("Name: a\r\n b", "Name: a b"),
        ("Name: value\n", "Name: value"),
        ("Name: ", "Name: "),
    ] {
        let received = received.trim_end_matches('\n');
        assert_eq!(written(received), expected, "{received:?}");
    }
}
