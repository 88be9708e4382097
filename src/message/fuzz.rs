//! Fuzz targets for heads and chunked bodies: the result does not depend on how the input is split, and whatever is
//! accepted here is read the same way by Pingora's sessions.

use std::collections::HashMap;
use std::io::Cursor;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use http::HeaderMap;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use pingora::protocols::http::v1::{client, server};

use super::chunked::{self, ChunkedDecoder, DecodedPiece};
use super::framing::{self, ContentLength, TransferCoding};
use super::head::{HeadError, HeadProgress, HeadVersion, HeaderField, MAX_FIELDS, MessageHead};
use super::request_line_scanner::RequestLineScanner;
use super::{FieldsView, Malformed};
use crate::fuzz;

/// `MessageHead::read_request` or `read_response`.
type Read = fn(&mut MessageHead, &[u8], usize) -> Result<HeadProgress, HeadError>;

/// Checks an input as the head of a request and of a response.
pub(super) fn heads(input: &[u8]) {
    for read in [
        MessageHead::read_request as Read,
        MessageHead::read_response,
    ] {
        for max_fields in [2, MAX_FIELDS] {
            assert_same_in_pieces(read, input, max_fields);
        }
    }
    assert_requests_agree(input);
    assert_responses_agree(input);
}

/// All readable parts of a head.
fn parts(head: &MessageHead, bytes: &[u8]) -> impl PartialEq + std::fmt::Debug {
    let fields = head.fields(bytes);
    let fields = fields.map(|HeaderField { name, value }| (name.to_owned(), value.to_owned()));
    (
        (head.method(bytes).to_owned(), head.target(bytes).to_owned()),
        (head.version(), head.status(), head.reason(bytes).to_owned()),
        Vec::from_iter(fields),
    )
}

/// Checks that splitting the input does not change the result, and that a reused head keeps nothing of its previous
/// message.
fn assert_same_in_pieces(read: Read, input: &[u8], max_fields: usize) {
    let mut head = MessageHead::default();
    let whole = read(&mut head, input, max_fields);
    let mut used = MessageHead::default();
    let before = b"GET /before HTTP/1.0\r\nA: b\r\nC: d\r\n\r\n";
    read(&mut used, before, max_fields).ok();
    for step in [1, 7, 64] {
        let lengths = (1..=input.len()).step_by(step).chain([input.len()]);
        let mut outcomes = lengths.map(|length| read(&mut used, &input[..length], max_fields));
        let outcome = outcomes.find(|outcome| *outcome != Ok(HeadProgress::Partial));
        match outcome {
            Some(outcome) => assert_eq!(outcome, whole, "in pieces of {step}"),
            // Some invalid heads are only recognised once their end has arrived.
            None if whole.is_err() => {
                let ended = [input, b"x\r\n\r\n"].concat();
                assert_eq!(read(&mut used, &ended, max_fields), whole, "{step}");
            }
            None => assert_eq!(whole, Ok(HeadProgress::Partial), "in pieces of {step}"),
        }
        match whole {
            Ok(HeadProgress::Complete(length)) => {
                let bytes = &input[..length];
                assert_eq!(parts(&used, bytes), parts(&head, bytes));
            }
            _ => used.clear(),
        }
    }
}

/// Compares with Pingora's session behind the request line scanner, which is how the Pingora driver reads requests.
fn assert_requests_agree(input: &[u8]) {
    let mut head = MessageHead::default();
    let ours = head.read_request(input, MAX_FIELDS);
    if ours == Ok(HeadProgress::Partial) {
        return;
    }
    let mut line = RequestLineScanner::START;
    let Ok((length, needs_escape)) = line.take(input) else {
        return assert_eq!(ours, Err(HeadError::Malformed));
    };
    let (line, rest) = input.split_at(length);
    let line = match needs_escape {
        true => RequestLineScanner::START.escaped(line),
        false => line.to_owned(),
    };
    let stream = Cursor::new([&line, rest].concat());
    let mut session = server::HttpSession::new(Box::new(stream));
    let theirs = poll_now(session.read_request());
    let length = match ours {
        Ok(HeadProgress::Complete(length)) => length,
        Err(HeadError::FragmentInTarget) => return,
        _ => return assert!(!matches!(theirs, Ok(Some(_))), "only Pingora accepts it"),
    };
    match theirs {
        Ok(Some(read)) => {
            assert_eq!(read + input.len(), length + line.len() + rest.len());
            let request = session.req_header();
            assert_eq!(request.method.as_str().as_bytes(), head.method(input));
            assert_eq!(request.version, version(head.version()));
            if !needs_escape {
                assert_eq!(request.raw_path(), head.target(input));
            }
            assert_fields_agree(&head, input, &request.headers);
        }
        // Pingora also validates Host, Content-Length and similar fields, which this module leaves to its callers.
        _ => {
            let target = head.target(input);
            // The `http` crate accepts no longer targets.
            let is_plain = target.starts_with(b"/") && target.len() < usize::from(u16::MAX);
            let validated = ["host", "content-length", "transfer-encoding"];
            assert!(
                !is_plain || validated.iter().any(|name| head.get(input, name).is_some()),
                "only Pingora refuses it"
            );
        }
    }
}

fn assert_responses_agree(input: &[u8]) {
    let mut head = MessageHead::default();
    let ours = head.read_response(input, MAX_FIELDS);
    if ours == Ok(HeadProgress::Partial) {
        return;
    }
    let mut session = client::HttpSession::new(Box::new(Cursor::new(input.to_owned())));
    let theirs = poll_now(session.read_response());
    let Ok(HeadProgress::Complete(length)) = ours else {
        return assert!(theirs.is_err(), "only Pingora accepts it");
    };
    match theirs {
        Ok(read) => {
            assert_eq!(read, length);
            let response = session.resp_header().expect("it was read");
            assert_eq!(response.status, head.status());
            assert_eq!(response.version, version(head.version()));
            let reason = response.get_reason_phrase().unwrap_or_default();
            assert_eq!(reason.as_bytes(), head.reason(input));
            assert_fields_agree(&head, input, &response.headers);
        }
        Err(_) => {
            let fields = FieldsView::Parsed(&head, input);
            let lengths = framing::content_length(fields.get_all(&CONTENT_LENGTH));
            assert_eq!(lengths, ContentLength::Invalid, "only Pingora refuses it");
        }
    }
}

fn version(version: HeadVersion) -> http::Version {
    match version {
        HeadVersion::Http10 => http::Version::HTTP_10,
        HeadVersion::Http11 => http::Version::HTTP_11,
    }
}

/// Checks that both have the same fields, except Content-Length beside Transfer-Encoding, which Pingora removes.
fn assert_fields_agree(head: &MessageHead, bytes: &[u8], theirs: &HeaderMap) {
    let fields = FieldsView::Parsed(head, bytes);
    let mut count = 0;
    for name in theirs.keys() {
        let theirs = theirs.get_all(name).iter().map(|value| value.as_bytes());
        let theirs = Vec::from_iter(theirs);
        let ours = Vec::from_iter(fields.get_all(name));
        assert_eq!(ours, theirs, "{name}");
        assert_eq!(head.get(bytes, name.as_str()), ours.first().copied());
        count += ours.len();
    }
    if framing::transfer_coding(fields.get_all(&TRANSFER_ENCODING)) != TransferCoding::Absent {
        count += fields.get_all(&CONTENT_LENGTH).count();
    }
    assert_eq!(count, head.len());
    assert_removed_are_gone(head, bytes);
}

/// Checks that removed fields are invisible and that all others stay unchanged.
fn assert_removed_are_gone(head: &MessageHead, bytes: &[u8]) {
    let mut names = HashMap::<Vec<u8>, usize>::new();
    for field in head.fields(bytes) {
        *names.entry(field.name.to_ascii_lowercase()).or_default() += 1;
    }
    for (removed, count) in &names {
        let mut less = MessageHead::default();
        let read = match head.status() {
            0 => MessageHead::read_request as Read,
            _ => MessageHead::read_response,
        };
        read(&mut less, bytes, MAX_FIELDS).expect("it was read before");
        less.remove(bytes, |name| name.eq_ignore_ascii_case(removed));
        let is_removed = |field: &HeaderField<'_>| field.name.eq_ignore_ascii_case(removed);
        assert!(!less.fields(bytes).any(|field| is_removed(&field)));
        let name = std::str::from_utf8(removed).expect("a token");
        assert_eq!(less.get(bytes, name), None);
        assert_eq!(less.len(), head.len() - count);
        let others = head.fields(bytes).filter(|field| !is_removed(field));
        assert!(less.fields(bytes).eq(others));
    }
}

/// The output of a future that is ready at once.
fn poll_now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(outcome) => outcome,
        Poll::Pending => panic!("it waits"),
    }
}

/// Decodes a body in pieces of `size` bytes: its data, its length, and whether it is complete.
fn decoded(input: &[u8], size: usize) -> Result<(Vec<u8>, usize, bool), Malformed> {
    let (mut chunks, mut checked) = (ChunkedDecoder::default(), ChunkedDecoder::default());
    let (mut data, mut length) = (Vec::new(), 0);
    for mut piece in input.chunks(size) {
        let taken = checked.take(piece);
        let before = length;
        while !piece.is_empty() && !chunks.is_finished() {
            let DecodedPiece {
                consumed,
                data: range,
            } = chunks.next_data(piece).inspect_err(|error| {
                assert_eq!(taken, Err(*error), "both ways report the same error");
            })?;
            assert!(consumed > 0 && range.end <= consumed);
            data.extend_from_slice(&piece[range]);
            piece = &piece[consumed..];
            length += consumed;
        }
        assert_eq!(taken, Ok(length - before));
    }
    assert_eq!(checked.is_finished(), chunks.is_finished());
    Ok((data, length, chunks.is_finished()))
}

/// Decodes the input as a chunked body; then encodes it as chunks and decodes those.
fn bodies(input: &[u8]) {
    let whole = decoded(input, input.len().max(1));
    for size in [1, 2, 3, 7, 64] {
        assert_eq!(decoded(input, size), whole, "in pieces of {size}");
    }
    if let Ok((data, length, true)) = &whole {
        assert!(data.len() + 5 <= *length, "the last chunk is no data");
    }
    for size in [1, 15, 16, 4_096] {
        let mut body = Vec::new();
        for data in input.chunks(size) {
            chunked::write_chunk_start(&mut body, data.len());
            body.extend_from_slice(data);
            body.extend_from_slice(chunked::CHUNK_END);
        }
        body.extend_from_slice(chunked::LAST_CHUNK);
        let length = body.len();
        body.extend_from_slice(b"GET / HTTP/1.1\r\n");
        for pieces in [1, 5, body.len()] {
            let expected = (input.to_owned(), length, true);
            assert_eq!(decoded(&body, pieces), Ok(expected), "{size}, {pieces}");
        }
    }
}

#[test]
fn fuzz_head() {
    const WORDS: &[&str] = &[
        "GET / HTTP/1.1\r\n",
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.0 ",
        " 204\r\n",
        "\r\n\r\n",
        "\r\n",
        "\r",
        "\n\n",
        "\r\n ",
        "\n\t",
        " :",
        ":",
        "Host: a\r\n",
        "Content-Length: 5\r\n",
        "Transfer-Encoding: chunked\r\n",
        "A:\r\n",
        "A: b\r\n",
        "\0",
        "\u{e9}",
        "#",
        "<",
        "?\"",
        "HTTP/2.0",
    ];
    fuzz::run("head", WORDS, heads);
}

#[test]
fn fuzz_chunks() {
    const WORDS: &[&str] = &[
        "0\r\n\r\n",
        "5\r\nhello\r\n",
        "\r\n",
        "\n",
        ";a=b",
        "; a=\"b\"",
        "0",
        "ffffffffffffffff",
        "X-Trailer: a\r\n",
        "X: \0",
        "\t",
    ];
    fuzz::run("chunks", WORDS, bodies);
}
