//! Paths that HTTP/1.1 accepts are accepted; other paths get a status and not a reset.

use std::process::Command;

use crate::admin::with_admin;
use crate::support::http2::{
    END_HEADERS, END_STREAM, HEADERS, RawHttp2, Secure, fields, fields_of, frame,
};
use crate::support::{Backend, Client, SOON, Setup, finish, peer};

const OK: u8 = 0x88;
const BAD_REQUEST: u8 = 0x8c;

/// Sends a field block; returns the status of the response, as the first octet of its field block encodes it.
#[track_caller]
fn ask(raw: &mut RawHttp2, stream: u32, block: &[u8]) -> u8 {
    let head = frame(HEADERS, END_HEADERS | END_STREAM, stream, block);
    raw.send(&head).expect("sent");
    loop {
        let frame = raw.next(SOON).expect("a response");
        if frame.stream == stream && frame.kind != 0 {
            assert_eq!(frame.kind, HEADERS, "{frame:?}");
            return frame.payload[0];
        }
    }
}

#[test]
fn unusual_paths_that_other_proxies_pass_reach_the_host() {
    let backend = Backend::start_new("a");
    let secure = Secure::new();
    let ballast = Setup::of(&[&backend]).top(&secure.listeners()).start();
    let mut raw = secure.raw(ballast.address(), &[]);
    let mut stream = 1;
    for (sent, got) in [
        ("/a\"b", "/a\"b"),
        ("/a<b>", "/a%3Cb%3E"),
        ("/a`b", "/a%60b"),
        ("/{a}|^\\", "/{a}|^\\"),
        ("/?q=\"<>`{|}^", "/?q=%22%3C%3E`{|}^"),
        ("/caf\u{e9}", "/caf\u{e9}"),
        ("/%3C%23", "/%3C%23"),
    ] {
        for kept in [false, true] {
            let block = fields_of(sent.as_bytes(), kept, &[]);
            assert_eq!(ask(&mut raw, stream, &block), OK, "{sent}");
            assert_eq!(backend.last().head.word(1), got, "{sent}");
            stream += 2;
        }
        // The path in the table, with the bytes after it.
        let mut again = vec![0x82, 0x87, 0x80 | 62];
        again.extend(&fields(&[])[3..]);
        assert_eq!(ask(&mut raw, stream, &again), OK, "{sent}, again");
        assert_eq!(backend.last().head.word(1), got, "{sent}, again");
        let head = backend.last().head;
        let from_proxy = head
            .fields
            .iter()
            .filter(|it| it.0.contains("ballast-path"));
        assert_eq!(from_proxy.count(), 0);
        stream += 2;
    }
    assert_eq!(ask(&mut raw, stream, &fields_of(b"/\xff<", true, &[])), OK);
    assert_eq!(backend.last().head.word(1), "/%FF%3C");
}

#[test]
fn invalid_paths_get_400_and_the_connection_stays() {
    let backend = Backend::start_new("a");
    let secure = Secure::new();
    let (setup, admin) = with_admin(Setup::of(&[&backend]).top(&secure.listeners()));
    let ballast = setup.start();
    let mut raw = secure.raw(ballast.address(), &[]);
    let mut stream = 1;
    for bad in [
        &b"/a#b"[..],
        b"/a?b#",
        b"#",
        b"/a b",
        b"/a\tb",
        b"/a\0",
        b"/a\x01",
        b"/a\x7f",
        b"/<\r\nx: y",
        b"a",
        b"http://test/",
        b"?a",
    ] {
        for kept in [false, true] {
            let block = fields_of(bad, kept, &[]);
            assert_eq!(
                ask(&mut raw, stream, &block),
                BAD_REQUEST,
                "{}",
                bad.escape_ascii()
            );
            stream += 2;
        }
    }
    assert_eq!(backend.requests(), 0);
    assert_eq!(ask(&mut raw, stream, &fields(&[])), OK);
    let request = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let scrape = Client::connect(admin).request(request);
    let text = scrape.expect("a complete response").text();
    let line = text
        .lines()
        .find(|line| line.starts_with("ballast_rejects_total") && line.contains("\"bad_request\""));
    let count = line.and_then(|line| line.rsplit(' ').next());
    assert_eq!(count, Some("24"), "{line:?}");
    assert!(ballast.log_with(&["ERROR"]).is_empty());
}

#[test]
fn huffman_coded_paths_of_curl_pass() {
    let Some(curl) = peer("curl") else { return };
    let backend = Backend::start_new("a");
    let secure = Secure::new();
    let ballast = Setup::of(&[&backend]).top(&secure.listeners()).start();
    let mut command = Command::new(&curl);
    command
        .args([
            "--http2",
            "--insecure",
            "--silent",
            "--globoff",
            "--output",
            "/dev/null",
        ])
        .args(["--write-out", "%{http_version} %{response_code}\n"])
        .arg(format!("https://{}/a<b>?c=\"<`", ballast.address()));
    assert_eq!(finish(command).stdout, "2 200\n");
    assert_eq!(backend.last().head.word(1), "/a%3Cb%3E?c=%22%3C`");
}
