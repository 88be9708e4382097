//! Health checks over HTTP/2.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use http::{HeaderMap, HeaderValue};

use super::h2c;
use crate::support::http2_backend::Http2Backend;
use crate::support::{SOON, get, wait_until};

#[test]
fn an_http_check_speaks_what_the_pool_speaks() {
    let host = Http2Backend::start(|stream| async move {
        let status = match stream.request.uri().path() {
            "/healthz" => 204,
            _ => 200,
        };
        stream.answer(status, "", HeaderMap::new());
    });
    let ballast = h2c(&[&host])
        .health(
            "{ type: http, path: /healthz, expect: 204, interval: 50ms, timeout: 50ms, rise: 1 }",
        )
        .start();
    wait_until(SOON, "a first check", || host.streams() > 0);
    let uri = host.last().uri().to_string();
    assert_eq!(uri, format!("http://{}/healthz", host.address()));
    wait_until(SOON, "the host serves", || {
        get(ballast.address(), "/").status == 200
    });
}

#[test]
fn a_grpc_check_asks_the_health_service() {
    let serving = Arc::new(AtomicU8::new(1));
    let state = Arc::clone(&serving);
    let host = Http2Backend::start(move |mut stream| {
        let state = state.load(Ordering::SeqCst);
        async move {
            let asked = stream.read().await;
            if stream.request.uri().path() != "/grpc.health.v1.Health/Check" {
                return stream.answer(200, "served", HeaderMap::new());
            }
            assert_eq!(asked, b"\0\0\0\0\x0d\x0a\x0bshop.Orders");
            let (message, status): (&[u8], _) = match state {
                // NOT_FOUND, as of a service that the host does not know.
                9 => (b"", "5"),
                _ => (&[0, 0, 0, 0, 2, 8, state], "0"),
            };
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", HeaderValue::from_static(status));
            stream.answer(200, message.to_vec(), trailers);
        }
    });
    let ballast = h2c(&[&host])
        .health(
            "{ type: grpc, service: shop.Orders, interval: 50ms, timeout: 50ms, rise: 1, fall: 1 }",
        )
        .start();
    let serves = || get(ballast.address(), "/").status == 200;
    wait_until(SOON, "the host serves", serves);
    for (answer, told) in [(2, "NOT_SERVING"), (9, "gRPC status NOT_FOUND")] {
        serving.store(answer, Ordering::SeqCst);
        wait_until(SOON, "the host is down", || !serves());
        ballast.wait_for_log(&["is down", told]);
        serving.store(1, Ordering::SeqCst);
        wait_until(SOON, "the host is back", serves);
    }
}
