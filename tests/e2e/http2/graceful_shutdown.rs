//! The end of a process as HTTP/2 clients see it.

use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::support::http2::{
    DATA, END_STREAM, GOAWAY, HEADERS, INITIAL_WINDOW_SIZE, NO_ERROR, Secure, WINDOW_UPDATE, frame,
    request,
};
use crate::support::{Backend, Reply, SOON, Setup, wait_until};

#[test]
fn sigterm_finishes_streams_and_sends_goaway() {
    let backend = Backend::start_new("a");
    backend.set(
        Reply::ok()
            .body(vec![b'x'; 4 << 20])
            .after(Duration::from_secs(1)),
    );
    let secure = Secure::new();
    let mut ballast = Setup::of(&[&backend]).top(&secure.listeners()).start();
    let mut client = secure.connect(ballast.address());
    let open: Vec<_> = (0..10)
        .map(|_| client.open(request("GET", "/"), true).expect("a stream").0)
        .collect();
    let mut beside = secure.raw(ballast.address(), &[]);
    beside.get(1, &[]);
    wait_until(SOON, "the requests have arrived", || {
        backend.requests() == 11
    });
    ballast.signal(Signal::SIGTERM);
    assert_eq!(beside.wait_for(GOAWAY).reason(), NO_ERROR);
    assert_eq!(beside.wait_for(HEADERS).stream, 1);
    drop(beside);
    for response in client.all(open) {
        let response = response.expect("a complete response");
        assert_eq!((response.status, response.body.len()), (200, 4 << 20));
    }
    client.end().expect("an end without an error");
    assert_eq!(ballast.wait_exit(SOON).code(), Some(0));
}

#[test]
fn a_process_waits_until_clients_have_read_their_responses() {
    const LENGTH: usize = 20 << 20;
    let backend = Backend::start_new("a");
    backend.set(Reply::ok().body(vec![b'x'; LENGTH]));
    let secure = Secure::new();
    let mut ballast = Setup::of(&[&backend]).top(&secure.listeners()).start();
    let mut raw = secure.raw(ballast.address(), &[(INITIAL_WINDOW_SIZE, (1 << 31) - 1)]);
    raw.send(&frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0, 0, 0]))
        .expect("sent");
    raw.get(1, &[]);
    raw.wait_for(HEADERS);
    ballast.signal(Signal::SIGTERM);
    let mut read = 0;
    loop {
        let data = raw.wait_for(DATA);
        read += data.payload.len();
        if data.flags & END_STREAM != 0 {
            break;
        }
        // Slower than the process would like to end.
        thread::sleep(Duration::from_millis(4) * (data.payload.len() as u32 >> 14));
    }
    assert_eq!(read, LENGTH);
    assert_eq!(ballast.wait_exit(SOON).code(), Some(0));
}
