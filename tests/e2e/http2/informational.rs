//! Informational responses of hosts over HTTP/2.

use std::future::poll_fn;
use std::process::Command;
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::ResponseFuture;

use super::with_field;
use crate::support::http2::{HEADERS, Http2, RST_STREAM, RawHttp2, Secure, frame, request};
use crate::support::{Backend, Next, Reply, SOON, Setup, resident, wait_until};

/// The bytes that many responses may cost for a while.
const SOME_MEMORY: u64 = 8 << 20;

/// Sends 100, reads the body, and responds.
fn continuing() -> Reply {
    Reply::script(|head, wire| {
        if head.get("expect").is_some() {
            wire.send("HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        wire.read_body(head.framing().expect("a body is announced"))?;
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone")?;
        Ok(Next::Keep)
    })
}

/// The next informational response: its status, and the value of Link.
fn next(client: &Http2, response: &mut ResponseFuture) -> Option<(u16, String)> {
    let next = client.block_on(poll_fn(|context| response.poll_informational(context)));
    let next = next?.expect("no reset");
    let link = next.headers().get("link");
    let link = link.map(|link| String::from_utf8_lossy(link.as_bytes()).into_owned());
    Some((next.status().as_u16(), link.unwrap_or_default()))
}

#[test]
fn a_client_that_expects_it_gets_100_from_the_host() {
    let backend = Backend::start_new("a");
    backend.set(continuing());
    let secure = Secure::new();
    let ballast = Setup::of(&[&backend]).top(&secure.listeners()).start();
    let mut client = secure.connect(ballast.address());
    let expecting = with_field(request("POST", "/"), "expect", "100-continue");
    let (mut response, mut body) = client.open(expecting, false).expect("a stream");
    assert_eq!(next(&client, &mut response), Some((100, String::new())));
    body.send_data(Bytes::from_static(b"body"), true)
        .expect("sent");
    let response = client.wait_for_response(response).expect("a response");
    assert_eq!((response.status, &*response.body), (200, &b"done"[..]));
    assert_eq!(backend.last().head.get("expect"), Some("100-continue"));
}

#[test]
fn curl_does_not_wait_for_100() {
    let backend = Backend::start_new("a");
    backend.set(continuing());
    let secure = Secure::new();
    let ballast = Setup::of(&[&backend]).top(&secure.listeners()).start();
    let curl = |waits: &str| {
        let address = ballast.address();
        Command::new("curl")
            .args(["-sk", "--http2", "-H", "Expect: 100-continue", "-d", "body"])
            .args(["--expect100-timeout", waits, "-w", " %{http_version}"])
            .arg(format!("https://{address}/"))
            .output()
            .expect("curl runs")
    };
    let start = Instant::now();
    let output = curl("30");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "done 2");
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
}

#[test]
fn early_hints_come_before_the_response_and_without_connection_fields() {
    let backend = Backend::start_new("a");
    backend.set(Reply::script(|_, wire| {
        wire.send("HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\nConnection: X-Own\r\nX-Own: 1\r\nKeep-Alive: timeout=5\r\n\r\n")?;
        // The rest comes only when the hints have been received.
        wire.send("HTTP/1.1 103 Early Hints\r\nLink: </b.css>\r\n\r\n")?;
        std::thread::sleep(Duration::from_millis(50));
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
        Ok(Next::Keep)
    }));
    let secure = Secure::new();
    let ballast = Setup::of(&[&backend]).top(&secure.listeners()).start();
    let mut client = secure.connect(ballast.address());
    for _ in 0..2 {
        let (mut response, _) = client.open(request("GET", "/"), true).expect("a stream");
        for link in ["</a.css>", "</b.css>"] {
            let hints = next(&client, &mut response);
            assert_eq!(hints, Some((103, link.to_owned())));
        }
        let response = client.wait_for_response(response).expect("a response");
        assert_eq!((response.status, &*response.body), (200, &b"ok"[..]));
    }
}

#[test]
fn a_retry_is_possible_after_early_hints() {
    let backends = ["a", "b"].map(Backend::start_new);
    for backend in &backends {
        backend.set(Reply::script(|_, wire| {
            wire.send("HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n")?;
            wire.send("HTTP/1.1 503 Test\r\nContent-Length: 2\r\n\r\nno")?;
            Ok(Next::Keep)
        }));
    }
    let secure = Secure::new();
    let ballast = Setup::of(&backends.each_ref())
        .pool("retries: { attempts: 2, statuses: [503], min: 100 }")
        .top(&secure.listeners())
        .start();
    let mut client = secure.connect(ballast.address());
    assert_eq!(client.get("/").status, 503);
    assert_eq!(backends.each_ref().map(Backend::requests), [1, 1]);
}

#[test]
fn a_flood_of_hints_uses_no_memory_and_does_not_hide_the_response() {
    const HINTS: usize = 5_000;
    let backend = Backend::start_new("a");
    backend.set(Reply::script(|_, wire| {
        let hints = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n".repeat(100);
        for _ in 0..HINTS / 100 {
            wire.send(&hints)?;
        }
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone")?;
        Ok(Next::Keep)
    }));
    let secure = Secure::new();
    let ballast = Setup::of(&[&backend]).top(&secure.listeners()).start();
    let flood = || {
        let mut raw = secure.raw(ballast.address(), &[]);
        for stream in [1, 3, 5] {
            raw.get(stream, &[]);
        }
        let mut hints = 0;
        let mut responses = 0;
        while responses < 3 {
            // 200 is the 8th entry of the static table.
            match raw.wait_for(HEADERS).payload[0] {
                0x88 => responses += 1,
                _ => hints += 1,
            }
        }
        assert!((3..3 * 300).contains(&hints), "{hints}");
    };
    // A process that has just started takes memory for the first requests, whatever they are.
    flood();
    let before = resident(ballast.pid());
    flood();
    let grown = resident(ballast.pid()).saturating_sub(before);
    assert!(grown < SOME_MEMORY, "{grown}");
}

#[test]
fn a_client_that_resets_after_hints_disturbs_no_other() {
    let backend = Backend::start_new("a");
    backend.set(Reply::script(|_, wire| {
        loop {
            wire.send("HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n")?;
            std::thread::sleep(Duration::from_millis(1));
        }
    }));
    let secure = Secure::new();
    let ballast = Setup::of(&[&backend]).top(&secure.listeners()).start();
    let mut raw = secure.raw(ballast.address(), &[]);
    let cancel = |raw: &mut RawHttp2, stream| {
        raw.send(&frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()))
            .expect("sent");
    };
    for stream in [1, 3, 5, 7] {
        raw.get(stream, &[]);
        raw.wait_for(HEADERS);
        cancel(&mut raw, stream);
    }
    wait_until(SOON, "the hosts are released", || {
        backend.open_connections() == 0
    });
    backend.set(Reply::ok());
    raw.get(9, &[]);
    while raw.wait_for(HEADERS).stream != 9 {}
    assert!(ballast.log_with(&["panicked"]).is_empty());
}
