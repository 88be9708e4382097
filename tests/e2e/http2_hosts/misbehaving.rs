//! Hosts of HTTP/2 that refuse, reset or flood.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use h2::Reason;
use http::{HeaderMap, Response};

use super::{echo, h2c};
use crate::support::http2::{
    CONTINUATION, DATA, END_HEADERS, GOAWAY, HEADERS, PING, RST_STREAM, SETTINGS, frame,
};
use crate::support::http2_backend::{Http2Backend, RawHost};
use crate::support::{Ballast, Client, LISTEN, SOON, Setup, get, resident, wait_until};

fn pool_of(hosts: &[std::net::SocketAddr]) -> Setup {
    let setup = Setup::of(&[]).pool("protocol: h2c");
    hosts.iter().fold(setup, |setup, host| setup.host(*host))
}

#[test]
fn what_a_host_has_not_processed_is_sent_again_whatever_its_method() {
    let refused = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&refused);
    let host = Http2Backend::start(move |mut stream| {
        let is_first = count.fetch_add(1, Ordering::SeqCst) == 0;
        async move {
            if is_first {
                return stream.respond.send_reset(Reason::REFUSED_STREAM);
            }
            let body = stream.read().await;
            stream.answer(200, body, HeaderMap::new());
        }
    });
    let ballast = h2c(&[&host]).start();
    let response = Client::connect(ballast.address()).post("/", b"once");
    assert_eq!((response.status, response.text().as_str()), (200, "once"));
    assert_eq!(refused.load(Ordering::SeqCst), 2);
}

#[test]
fn a_reset_in_the_middle_is_not_sent_again_unless_idempotent() {
    let host = Http2Backend::start(|mut stream| async move {
        stream.respond.send_reset(Reason::INTERNAL_ERROR);
    });
    let other = echo();
    let ballast = h2c(&[&host, &other]).pool("ejection: none").start();
    let mut statuses = Vec::new();
    for _ in 0..2 {
        statuses.push(Client::connect(ballast.address()).post("/", b"once").status);
    }
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 502]);
    for _ in 0..2 {
        assert_eq!(get(ballast.address(), "/").status, 200);
    }
}

#[test]
fn a_response_that_is_cut_off_reaches_the_client_cut_off() {
    let host = Http2Backend::start(|mut stream| async move {
        let mut sender = stream
            .respond
            .send_response(Response::new(()), false)
            .expect("sent");
        sender.send_data("half".into(), false).expect("sent");
        tokio::time::sleep(Duration::from_millis(20)).await;
        sender.send_reset(Reason::INTERNAL_ERROR);
    });
    let ballast = h2c(&[&host]).start();
    let mut client = Client::connect(ballast.address());
    let error = client
        .request("GET / HTTP/1.1\r\nHost: test\r\n\r\n")
        .expect_err("no end");
    assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof, "{error}");
}

#[test]
fn goaway_ends_no_request() {
    // The first connection answers one request and takes another; the third it has not processed.
    let taken = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&taken);
    let address = RawHost::start(move |mut host, number| {
        if number > 1 {
            while let Some(stream) = host.next_request() {
                host.answer(stream);
            }
            return;
        }
        let mut requests = || {
            let stream = host.next_request()?;
            count.fetch_add(1, Ordering::SeqCst);
            Some(stream)
        };
        let Some(first) = requests() else { return };
        host.answer(first);
        let mut requests = || {
            let stream = host.next_request()?;
            count.fetch_add(1, Ordering::SeqCst);
            Some(stream)
        };
        let (Some(second), Some(_)) = (requests(), requests()) else {
            return;
        };
        let last = [second.to_be_bytes(), 0_u32.to_be_bytes()].concat();
        host.send(&frame(GOAWAY, 0, 0, &last));
        host.answer(second);
        host.wait_for_end(SOON);
    });
    let ballast = pool_of(&[address]).start();
    let mut posts = Vec::new();
    for number in 1..=3 {
        let address = ballast.address();
        posts.push(std::thread::spawn(move || {
            Client::connect(address).post("/", b"x").status
        }));
        wait_until(SOON, "the request", || {
            taken.load(Ordering::SeqCst) == number
        });
        if number == 1 {
            let first = posts.remove(0);
            assert_eq!(first.join().expect("no panic"), 200);
        }
    }
    for post in posts {
        assert_eq!(post.join().expect("no panic"), 200);
    }
    assert_eq!(get(ballast.address(), "/").status, 200);
    assert!(ballast.log_with(&["Fail to proxy"]).is_empty());
}

#[test]
fn a_host_of_http_1_is_told_apart() {
    let host = crate::support::Backend::start_new("old");
    let ballast = Setup::of(&[&host])
        .pool("protocol: h2c")
        .pool("retries: none")
        .start();
    assert_eq!(get(ballast.address(), "/").status, 502);
    assert_eq!(get(ballast.address(), "/").status, 502);
}

#[test]
fn floods_of_a_host_are_bounded() {
    let ended = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&ended);
    let address = RawHost::start(move |mut host, number| {
        let Some(stream) = host.next_request() else {
            return;
        };
        let (kind, payload): (u8, Vec<u8>) = match number {
            1 => (PING, vec![0; 8]),
            2 => (SETTINGS, vec![0, 4, 0, 0, 255, 255]),
            // Fields without end.
            3 => (
                CONTINUATION,
                [&[0, 100][..], &[b'a'; 100], &[100], &[b'b'; 100]].concat(),
            ),
            // Empty data without end.
            4 => (DATA, Vec::new()),
            _ => (RST_STREAM, vec![0; 4]),
        };
        match kind {
            CONTINUATION => drop(host.send(&frame(HEADERS, 0, stream, &[0x88]))),
            DATA => drop(host.send(&frame(HEADERS, END_HEADERS, stream, &[0x88]))),
            _ => {}
        }
        let on = if matches!(kind, PING | SETTINGS) {
            0
        } else {
            stream
        };
        let flood = frame(kind, 0, on, &payload).repeat(1_000);
        // The host only sends and does not read.
        for _ in 0..200 {
            if !host.send(&flood) {
                break;
            }
        }
        count.fetch_add(1, Ordering::SeqCst);
    });
    let other = echo();
    let ballast = Ballast::start(&format!(
        "listeners: [\"{LISTEN}\"]\nroutes: [{{ path: /flood, pool: bad }}, {{ pool: good }}]\npools:\n  \
         bad: {{ hosts: [\"{address}\"], protocol: h2c, health_check: none, timeouts: {{ read: 1s }} }}\n  \
         good: {{ hosts: [\"{}\"], protocol: h2c, health_check: none }}\n",
        other.address()
    ));
    let before = resident(ballast.pid());
    for number in 1..=5 {
        let mut client = Client::connect(ballast.address());
        client
            .send("GET /flood HTTP/1.1\r\nHost: test\r\n\r\n")
            .expect("sent");
        // Others are served meanwhile.
        assert_eq!(get(ballast.address(), "/").status, 200, "flood {number}");
        let _ = client.read_response(false);
        wait_until(SOON, "the end of the flood", || {
            ended.load(Ordering::SeqCst) >= number
        });
    }
    let grown = resident(ballast.pid()).saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes");
}
