//! Handovers while clients send requests.

use std::io;
use std::net::SocketAddr;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::{Service, is_gone};
use crate::support::{Backend, Client, Connections, Load, SOON, Setup, get, long, wait_until};

/// An upload in pieces over `time`; returns the status of the response.
fn upload(address: SocketAddr, length: usize, time: Duration) -> JoinHandle<io::Result<u16>> {
    const PIECES: usize = 40;
    thread::spawn(move || {
        let mut client = Client::try_connect(address)?;
        client.send(format!(
            "POST /upload HTTP/1.1\r\nHost: test\r\nContent-Length: {length}\r\n\r\n"
        ))?;
        let body = vec![b'x'; length];
        for piece in body.chunks(length.div_ceil(PIECES)) {
            client.send(piece)?;
            thread::sleep(time / PIECES as u32);
        }
        Ok(client.read_response(false)?.status)
    })
}

#[test]
fn handovers_in_a_row_fail_no_request() {
    let backends = ["a", "b"].map(Backend::start_new);
    let service =
        Service::start(&Setup::of(&[&backends[0], &backends[1]]).health("{ interval: 1s }"));
    let address = service.ballast.address();
    // Other tests run at the same time as the short form.
    let pace = Duration::from_millis(if long() { 0 } else { 20 });
    let kept = Load::start_paced(address, 64, Connections::Kept, pace);
    let fresh = Load::start_paced(address, 4, Connections::OnePerRequest, pace / 4);
    let (times, megabytes, pause) = match long() {
        true => (20, 10, Duration::from_secs(2)),
        false => (4, 2, Duration::ZERO),
    };
    let mut before = Vec::new();
    let mut uploads = Vec::new();
    for number in 0..times {
        if number % (times / 4) == 0 {
            let upload = || upload(address, megabytes << 20, Duration::from_secs(4));
            uploads.extend((0..10).map(|_| upload()));
        }
        before.push(service.hand_over());
        thread::sleep(pause);
    }
    for upload in uploads {
        let status = upload.join().expect("an upload does not panic");
        assert_eq!(status.expect("every upload gets a response"), 200);
    }
    fresh.stop().assert_all_ok("a connection per request");
    kept.stop().assert_all_ok("connections kept");
    wait_until(SOON, "every predecessor is gone", || {
        before.iter().copied().all(is_gone)
    });
}

#[test]
fn a_successor_killed_at_any_moment_costs_no_request() {
    let backend = Backend::start_new("a");
    let service = Service::start(&Setup::of(&[&backend]).health("{ interval: 1s }"));
    let address = service.ballast.address();
    let start = Instant::now();
    service.hand_over();
    let whole = start.elapsed();
    let pace = Duration::from_millis(5);
    let kept = Load::start_paced(address, 8, Connections::Kept, pace);
    let fresh = Load::start_paced(address, 2, Connections::OnePerRequest, pace);
    let mut random = SmallRng::seed_from_u64(1);
    let mut killed = 0;
    for _ in 0..if long() { 20 } else { 4 } {
        let (before, known) = (service.serving(), service.successors().len());
        service.signal(Signal::SIGQUIT);
        let moment = whole.mul_f64(random.r#gen());
        wait_until(SOON, "a successor is started", || {
            service.successors().len() > known
        });
        thread::sleep(moment);
        let successor = service.successors()[known];
        // The successor reads what the predecessor wrote before it was stopped; the predecessor writes no more.
        kill(successor, Signal::SIGSTOP).expect("the process has not been waited for");
        thread::sleep(Duration::from_millis(200));
        let handed_over = service.ballast.log_with(&["handed over: "]).len();
        if handed_over + service.failures() > known {
            kill(successor, Signal::SIGCONT).expect("the successor serves");
            wait_until(SOON, "the successor serves", || {
                service.serving() == successor
            });
            continue;
        }
        kill(successor, Signal::SIGKILL).expect("the process has not been waited for");
        killed += 1;
        wait_until(SOON, "the process is gone", || is_gone(successor));
        assert_eq!(service.serving(), before);
        assert_eq!(get(address, "/").status, 200);
        wait_until(SOON, "the failure is reported", || {
            service.failures() == killed
        });
    }
    assert!(killed > 0, "no successor was killed in time");
    service.hand_over();
    fresh.stop().assert_all_ok("a connection per request");
    kept.stop().assert_all_ok("connections kept");
}

#[test]
fn a_predecessor_killed_at_any_moment_leaves_no_gap() {
    let backend = Backend::start_new("a");
    let setup = Setup::of(&[&backend]).health("{ interval: 1s }");
    let mut random = SmallRng::seed_from_u64(2);
    for _ in 0..if long() { 20 } else { 4 } {
        let mut service = Service::start(&setup);
        let address = service.ballast.address();
        let before = service.serving();
        service.signal(Signal::SIGQUIT);
        service.ballast.wait_for_log(&["started the successor"]);
        thread::sleep(Duration::from_millis(random.gen_range(0..150)));
        kill(before, Signal::SIGKILL).expect("the process still drains");
        service.ballast.wait_exit(SOON);
        let responses = || {
            let response = Client::try_connect(address)
                .and_then(|mut client| client.request("GET / HTTP/1.1\r\nHost: test\r\n\r\n"));
            response.is_ok_and(|response| response.status == 200)
        };
        if service.serving() != before {
            assert!(responses(), "the sockets had been sent");
        }
        wait_until(SOON, "the successor responds", responses);
        wait_until(SOON, "the successor serves", || service.serving() != before);
    }
}
