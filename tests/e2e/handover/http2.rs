//! Handovers while clients send requests over HTTP/2.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::runtime::Builder;

use super::{Service, is_gone};
use crate::support::http2::{Secure, complete_response, request};
use crate::support::{Backend, SOON, Setup, wait_until};

/// Sends requests until stopped, and reconnects when a connection takes no more requests. Returns the reasons of all
/// failures.
async fn ask(
    secure: Arc<Secure>,
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
) -> Vec<String> {
    let mut failed = Vec::new();
    let (mut sender, _) = secure.open(address).await;
    while !stop.load(Ordering::Relaxed) {
        let opened = match sender.clone().ready().await {
            Ok(mut ready) => ready.send_request(request("GET", "/"), true),
            Err(error) => Err(error),
        };
        let Ok((response, _)) = opened else {
            // No bytes of the request have been sent.
            (sender, _) = secure.open(address).await;
            continue;
        };
        match complete_response(response).await {
            Ok(response) if response.status == 200 => {}
            Ok(response) => failed.push(response.status.to_string()),
            Err(error) => failed.push(error.to_string()),
        }
        done.fetch_add(1, Ordering::Relaxed);
    }
    failed
}

#[test]
fn handovers_fail_no_stream() {
    let backend = Backend::start_new("a");
    let secure = Arc::new(Secure::new());
    let setup = Setup::of(&[&backend]).top(&secure.listeners());
    let service = Service::start(&setup);
    let address = service.ballast.address();
    let (stop, done) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU64::new(0)),
    );
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let (secure, stop, done) = (secure.clone(), stop.clone(), done.clone());
            runtime.spawn(ask(secure, address, stop, done))
        })
        .collect();
    let mut before = Vec::new();
    for _ in 0..3 {
        let answered = done.load(Ordering::Relaxed);
        wait_until(SOON, "requests get responses", || {
            done.load(Ordering::Relaxed) > answered + 100
        });
        before.push(service.hand_over());
    }
    wait_until(SOON, "every predecessor is gone", || {
        before.iter().copied().all(is_gone)
    });
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        let failed = runtime.block_on(client).expect("a client does not panic");
        assert_eq!(failed, Vec::<String>::new());
    }
    println!("{} requests, none failed", done.load(Ordering::Relaxed));
}
