//! gRPC: statuses, trailers, deadlines and streams, from clients without TLS to hosts without TLS.

mod tonic_peers;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::{Reason, SendStream};
use http::{HeaderMap, HeaderValue, Request, Response};

use crate::support::http2::{Http2, Http2Response};
use crate::support::http2_backend::{Http2Backend, Stream};
use crate::support::{Ballast, Client, DeadHost, LISTEN, SOON, Setup, free, wait_until};

/// The head of a call.
fn call(method: &str, fields: &[(&'static str, &'static str)]) -> Request<()> {
    let mut request = Request::builder()
        .method("POST")
        .uri(format!("http://test/shop.Orders/{method}"))
        .version(http::Version::HTTP_2)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .expect("a request");
    for (name, value) in fields {
        let value = HeaderValue::from_static(value);
        request.headers_mut().append(*name, value);
    }
    request
}

/// A message of gRPC.
fn message(bytes: &[u8]) -> Bytes {
    let length = u32::try_from(bytes.len()).expect("short").to_be_bytes();
    [&[0], &length[..], bytes].concat().into()
}

fn status(number: &'static str) -> HeaderMap {
    HeaderMap::from_iter([(
        http::HeaderName::from_static("grpc-status"),
        HeaderValue::from_static(number),
    )])
}

/// A pool of these hosts behind a listener without TLS.
fn setup(hosts: &[&Http2Backend]) -> Setup {
    let setup = Setup::of(&[]).pool("protocol: h2c").top(&format!(
        "listeners: [{{ address: \"{LISTEN}\", http2: cleartext }}]"
    ));
    hosts
        .iter()
        .fold(setup, |setup, host| setup.host(host.address()))
}

/// Sends a call with one message and returns the response and the status, wherever it is.
#[track_caller]
fn unary(client: &mut Http2, request: Request<()>) -> (Http2Response, u8) {
    let (response, mut sender) = client.open(request, false).expect("open");
    let _ = sender.send_data(message(b"question"), true);
    finish(client, response)
}

#[track_caller]
fn finish(client: &Http2, response: ResponseFuture) -> (Http2Response, u8) {
    let (response, trailers) = client.with_trailers(response);
    let mut fields = response.fields.clone();
    fields.extend(trailers.unwrap_or_default());
    let status = fields.get("grpc-status").expect("a status");
    let status = status.to_str().ok().and_then(|text| text.parse().ok());
    (response, status.expect("a number"))
}

/// A host whose statuses the path says: `/shop.Orders/14` ends with UNAVAILABLE.
fn host_of_statuses(in_trailers: bool) -> Http2Backend {
    Http2Backend::start(move |mut stream| async move {
        stream.read().await;
        let path = stream.request.uri().path().to_owned();
        let number = path.rsplit('/').next().unwrap_or_default();
        let number = HeaderValue::from_str(number).expect("a number");
        if in_trailers {
            let mut trailers = status("0");
            trailers.insert("grpc-status", number);
            return stream.answer(200, message(b"answer"), trailers);
        }
        let mut head = Response::new(());
        head.headers_mut().insert("grpc-status", number);
        let _ = stream.respond.send_response(head, true);
    })
}

#[test]
fn a_unary_call_has_its_trailers_and_its_status_in_log_and_metrics() {
    let (host, admin) = (host_of_statuses(true), free());
    let ballast = setup(&[&host])
        .top("access_log: { path: access.log }")
        .top(&format!("admin: {{ address: \"{admin}\" }}"))
        .start();
    let mut client = Http2::connect_plain(ballast.address());
    let (response, code) = unary(&mut client, call("0", &[]));
    assert_eq!((response.status, code), (200, 0));
    assert_eq!(response.body, message(b"answer"));
    assert_eq!(host.last().headers()["te"], "trailers");
    for number in ["5", "14", "99"] {
        assert_eq!(unary(&mut client, call(number, &[])).0.status, 200);
    }
    let lines = ballast.access_log(4);
    let logged = Vec::from_iter(lines.iter().map(|line| line["grpc_status"].as_u64()));
    assert_eq!(logged, [Some(0), Some(5), Some(14), Some(2)]);
    assert_eq!(lines[2]["ending"], "complete");
    assert_eq!(lines[2]["attempts"][0]["reason"], "status");
    let asked =
        Client::connect(admin).request(format!("GET /metrics HTTP/1.1\r\nHost: {admin}\r\n\r\n"));
    let metrics = asked.expect("a response").text();
    for line in [
        "ballast_grpc_requests_total{pool=\"web\",status=\"UNAVAILABLE\"} 1",
        "ballast_grpc_requests_total{pool=\"web\",status=\"ABORTED\"} 0",
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
}

#[test]
fn statuses_of_the_host_eject_it_and_those_of_the_client_do_not() {
    for in_trailers in [true, false] {
        let host = host_of_statuses(in_trailers);
        let other = host_of_statuses(in_trailers);
        let ballast = setup(&[&host, &other])
            .pool("ejection: { consecutive: 3, rate: 0%, base: 1m }")
            .pool("retries: none")
            .start();
        let mut client = Http2::connect_plain(ballast.address());
        for number in ["3", "5", "7", "16", "1"].iter().cycle().take(20) {
            unary(&mut client, call(number, &[]));
        }
        assert_eq!((host.streams(), other.streams()), (10, 10));
        // The client's own deadline.
        for _ in 0..10 {
            unary(&mut client, call("4", &[("grpc-timeout", "1H")]));
        }
        assert_eq!((host.streams(), other.streams()), (15, 15));
        while host.streams() + other.streams() < 36 {
            assert_eq!(unary(&mut client, call("14", &[])).1, 14);
        }
        ballast.wait_for_log(&["is ejected", "status 503"]);
    }
}

#[test]
fn an_unavailable_host_is_passed_over_where_the_route_permits_it() {
    let bad = host_of_statuses(false);
    let good = Http2Backend::start(|mut stream| async move {
        let asked = stream.read().await;
        stream.answer(200, asked, status("0"));
    });
    let ballast = setup(&[&bad, &good])
        .pool("ejection: none")
        .top("routes: [{ path: /shop.Orders/14, pool: web, retry: any_method }]")
        .start();
    let mut client = Http2::connect_plain(ballast.address());
    for _ in 0..4 {
        let (response, code) = unary(&mut client, call("14", &[]));
        assert_eq!((response.body, code), (message(b"question").to_vec(), 0));
    }
    assert!(bad.streams() > 0);
}

#[test]
fn what_the_proxy_answers_is_a_status_of_grpc() {
    let host = host_of_statuses(true);
    let dead = DeadHost::new();
    let ballast = Ballast::start(&format!(
        "listeners: [{{ address: \"{LISTEN}\", http2: cleartext }}]\nroutes:\n- {{ path: /shop.Orders/denied, pool: web, \
         deny: [127.0.0.1] }}\n- {{ path: /shop.Orders/5, pool: web, rate: 1/h }}\n\
         - {{ path: /shop.Orders/dead, pool: dead }}\n- {{ path: /shop.Orders/0, pool: web }}\npools:\n  \
         web: {{ hosts: [\"{}\"], protocol: h2c, health_check: none }}\n  \
         dead: {{ hosts: [\"{}\"], protocol: h2c, health_check: none }}\n\
         errors: {{ 400-599: {{ body: \"a page\" }} }}\n",
        host.address(),
        dead.address(),
    ));
    let mut client = Http2::connect_plain(ballast.address());
    assert_eq!(unary(&mut client, call("0", &[])).1, 0);
    assert_eq!(unary(&mut client, call("5", &[])).1, 5);
    for (method, expected, told) in [
        ("denied", 7, "not from this address"),
        ("5", 8, "too many requests"),
        ("dead", 14, "the host sent no valid response"),
        ("unknown", 12, "no route for this host and path"),
    ] {
        let (response, code) = unary(&mut client, call(method, &[]));
        assert_eq!((response.status, code), (200, expected), "{method}");
        assert_eq!(response.field("grpc-message"), told);
        assert_eq!(response.field("content-type"), "application/grpc");
        assert!(response.body.is_empty());
    }
    // Other requests get the page.
    assert_eq!(client.get("/unknown").body, b"a page");
}

#[test]
fn a_deadline_ends_the_call_and_is_not_held_against_the_host() {
    let reset = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&reset);
    let host = Http2Backend::start(move |mut stream| {
        let seen = Arc::clone(&seen);
        async move {
            if stream.request.headers().contains_key("x-quick") {
                return stream.answer(200, "", status("0"));
            }
            let ended = std::future::poll_fn(|context| stream.respond.poll_reset(context)).await;
            if ended.is_ok_and(|reason| reason == Reason::CANCEL) {
                seen.fetch_add(1, Ordering::SeqCst);
            }
        }
    });
    let ballast = setup(&[&host])
        .pool("ejection: { consecutive: 1 }")
        .top("access_log: { path: access.log }")
        .start();
    let mut client = Http2::connect_plain(ballast.address());
    let began = Instant::now();
    for number in 1..=2 {
        let (response, code) = unary(&mut client, call("slow", &[("grpc-timeout", "100m")]));
        assert_eq!((response.status, code), (200, 4));
        wait_until(SOON, "the host is told", || {
            reset.load(Ordering::SeqCst) == number
        });
    }
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(host.last().headers()["grpc-timeout"], "100m");
    let quick = call("quick", &[("grpc-timeout", "10S"), ("x-quick", "1")]);
    assert_eq!(unary(&mut client, quick).1, 0);
    let line = &ballast.access_log(3)[0];
    assert_eq!(
        (&line["ending"], &line["grpc_status"]),
        (&"deadline".into(), &4.into())
    );
    assert_eq!(host.connections(), 1, "the connection stays");
}

#[test]
fn the_timeouts_of_the_route_stay_below_a_longer_deadline() {
    let host = Http2Backend::start(|mut stream| async move {
        let _ = std::future::poll_fn(|context| stream.respond.poll_reset(context)).await;
    });
    let ballast = setup(&[&host]).pool("timeouts: { read: 200ms }").start();
    let mut client = Http2::connect_plain(ballast.address());
    let (_, code) = unary(&mut client, call("slow", &[("grpc-timeout", "1H")]));
    assert_eq!(code, 4);
}

/// Answers each message at once.
async fn echo_messages(mut stream: Stream) {
    let Ok(mut sender) = stream.respond.send_response(Response::new(()), false) else {
        return;
    };
    while let Some(Ok(data)) = stream.request.body_mut().data().await {
        let flow = stream.request.body_mut().flow_control();
        let _ = flow.release_capacity(data.len());
        let _ = sender.send_data(data, false);
    }
    let _ = sender.send_trailers(status("0"));
}

/// The next bytes of a response.
fn next(client: &Http2, body: &mut h2::RecvStream) -> Bytes {
    client.block_on(async {
        let data = body.data().await.expect("more").expect("no error");
        let _ = body.flow_control().release_capacity(data.len());
        data
    })
}

fn begin(client: &mut Http2, method: &str) -> (h2::RecvStream, SendStream<Bytes>) {
    let (response, sender) = client.open(call(method, &[]), false).expect("open");
    let response = client.block_on(response).expect("a head");
    (response.into_body(), sender)
}

#[test]
fn both_directions_stream_at_once() {
    let host = Http2Backend::start(echo_messages);
    // Shorter than the call: each direction keeps the other one alive, and a pause of both ends it.
    let ballast = setup(&[&host]).pool("timeouts: { read: 1s }").start();
    let mut client = Http2::connect_plain(ballast.address());
    let (mut body, mut sender) = begin(&mut client, "Chat");
    for number in 0..8_u8 {
        std::thread::sleep(Duration::from_millis(200));
        sender.send_data(message(&[number]), false).expect("sent");
        assert_eq!(next(&client, &mut body), message(&[number]));
    }
    sender.send_data(Bytes::new(), true).expect("sent");
    let trailers = client.block_on(async {
        assert!(body.data().await.is_none());
        body.trailers().await
    });
    assert_eq!(
        trailers.expect("no error").expect("trailers")["grpc-status"],
        "0"
    );
}

#[test]
fn a_host_may_send_while_the_client_is_silent() {
    let host = Http2Backend::start(|mut stream| async move {
        let Ok(mut sender) = stream.respond.send_response(Response::new(()), false) else {
            return;
        };
        for number in 0..7_u8 {
            tokio::time::sleep(Duration::from_millis(200)).await;
            let _ = sender.send_data(message(&[number]), false);
        }
        let _ = sender.send_trailers(status("0"));
    });
    let ballast = setup(&[&host]).pool("timeouts: { read: 1s }").start();
    let mut client = Http2::connect_plain(ballast.address());
    // One client has sent all, the other one keeps its side open.
    let (watched, _open) = client.open(call("Watch", &[]), false).expect("open");
    let (listed, mut sender) = client.open(call("List", &[]), false).expect("open");
    sender.send_data(message(b"all"), true).expect("sent");
    for response in [watched, listed] {
        let (response, code) = finish(&client, response);
        assert_eq!((response.body.len(), code), (7 * 6, 0));
    }
}

#[test]
fn an_upload_may_take_longer_than_the_timeout_of_the_answer() {
    let host = Http2Backend::start(|mut stream| async move {
        let received = stream.read().await;
        stream.answer(200, message(&[received.len() as u8]), status("0"));
    });
    let ballast = setup(&[&host]).pool("timeouts: { read: 1s }").start();
    let mut client = Http2::connect_plain(ballast.address());
    let (response, mut sender) = client.open(call("Upload", &[]), false).expect("open");
    for number in 0..4_u8 {
        sender.send_data(message(&[number]), false).expect("sent");
        // Each pause is shorter than the timeout, and all of them together are longer.
        std::thread::sleep(Duration::from_millis(300));
    }
    sender.send_data(Bytes::new(), true).expect("sent");
    let (response, code) = finish(&client, response);
    assert_eq!((response.body, code), (message(&[24]).to_vec(), 0));
}

#[test]
fn a_client_that_cancels_cancels_at_the_host() {
    let cancelled = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&cancelled);
    let host = Http2Backend::start(move |mut stream| {
        let seen = Arc::clone(&seen);
        async move {
            let _ = std::future::poll_fn(|context| stream.respond.poll_reset(context)).await;
            seen.fetch_add(1, Ordering::SeqCst);
        }
    });
    let ballast = setup(&[&host]).start();
    let mut client = Http2::connect_plain(ballast.address());
    let (response, mut sender) = client.open(call("Chat", &[]), false).expect("open");
    wait_until(SOON, "the call", || host.streams() == 1);
    sender.send_reset(Reason::CANCEL);
    drop(response);
    wait_until(SOON, "the host is told", || {
        cancelled.load(Ordering::SeqCst) == 1
    });
    assert_eq!(host.connections(), 1);
}
