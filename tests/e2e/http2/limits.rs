//! How much of the process many streams may use: descriptors, and memory for bytes that hosts have not taken.

use std::time::Duration;

use bytes::Bytes;

use crate::support::http2::{
    DATA, END_HEADERS, HEADERS, INITIAL_WINDOW_SIZE, SETTINGS, Secure, fields, frame, request,
};
use crate::support::{Backend, Ballast, Reply, SOON, Setup, wait_until};

/// The initial window of a stream.
const WINDOW: usize = 65_535;

#[test]
fn streams_without_file_descriptors_get_503_and_others_are_served() {
    let backend = Backend::start_new("a");
    let secure = Secure::new();
    let yaml = Setup::of(&[&backend]).top(&secure.listeners()).yaml();
    let limited = "ulimit -n 256; exec \"$0\" \"$@\"";
    let ballast = Ballast::spawn_with_wrapper(&yaml, &["sh", "-c", limited]);
    wait_until(SOON, "the listener is open", || ballast.listens());
    backend.set(Reply::ok().after(Duration::from_secs(2)));
    let mut clients = Vec::from_iter((0..6).map(|_| secure.connect(ballast.address())));
    let pending: Vec<_> = clients
        .iter_mut()
        .map(|client| {
            let open = |_| client.open(request("GET", "/"), true).expect("opened").0;
            Vec::from_iter((0..90).map(open))
        })
        .collect();
    // While these are served, one more client can connect.
    let mut another = secure.connect(ballast.address());
    let (mut served, mut refused) = (0, 0);
    for (client, pending) in clients.iter().zip(pending) {
        for response in client.all(pending) {
            let response = response.expect("a response, not a reset");
            match response.status {
                200 => served += 1,
                503 => {
                    refused += 1;
                    assert_eq!(response.field("retry-after"), "1");
                }
                other => panic!("{other}"),
            }
        }
    }
    assert!(
        served > 0 && refused > 0,
        "{served} served, {refused} refused"
    );
    backend.set(Reply::ok());
    assert_eq!(another.get("/").status, 200);
    for problem in ["descriptor", "is down", "ejected", "panicked"] {
        let lines = ballast.log_with(&[problem]);
        assert!(lines.is_empty(), "{lines:?}");
    }
}

#[test]
fn the_upload_window_grows_with_use() {
    let backend = Backend::start_new("a");
    let secure = Secure::new();
    let ballast = Setup::of(&[&backend]).top(&secure.listeners()).start();
    let mut raw = secure.raw(ballast.address(), &[]);
    let mut block = fields(&[]);
    block[0] = 0x83;
    raw.send(&frame(HEADERS, END_HEADERS, 1, &block))
        .expect("sent");
    let piece = [0; 13_107];
    for _ in 0..WINDOW / piece.len() {
        raw.send(&frame(DATA, 0, 1, &piece)).expect("sent");
    }
    let window = |payload: &[u8]| {
        payload.chunks(6).find_map(|setting| {
            let (name, value) = setting.split_at(2);
            let is_initial_window = name == INITIAL_WINDOW_SIZE.to_be_bytes();
            is_initial_window.then(|| {
                value
                    .iter()
                    .fold(0, |sum, byte| sum << 8 | usize::from(*byte))
            })
        })
    };
    let mut grown = None;
    wait_until(SOON, "the window is larger", || {
        let settings = raw.find(SETTINGS, SOON).expect("settings");
        grown = window(&settings.payload).filter(|size| *size > WINDOW);
        grown.is_some()
    });
    assert_eq!(grown, Some(2 * WINDOW));
}

#[test]
fn queued_uploads_leave_the_window_to_others() {
    let busy = Backend::start_new("busy");
    let backend = Backend::start_new("a");
    let secure = Secure::new();
    let ballast = Ballast::start(&format!(
        "{}
routes: [{{ path: /wait, pool: full }}, {{ pool: web }}]
pools:
  full: {{ health_check: none, hosts: [\"{}\"], limits: {{ max_in_flight: 1, queue_timeout: 30s }} }}
  web: {{ health_check: none, hosts: [\"{}\"] }}
",
        secure.listeners(),
        busy.address(),
        backend.address()
    ));
    busy.set(Reply::Hang);
    let mut client = secure.connect(ballast.address());
    let _first = client.open(request("GET", "/wait"), true).expect("opened");
    wait_until(SOON, "the host is busy", || busy.requests() == 1);
    // The proxy reads no bodies of requests that wait in the queue.
    let waiting: Vec<_> = (0..8)
        .map(|_| {
            let opened = client.open(request("POST", "/wait"), false);
            let (response, mut stream) = opened.expect("opened");
            let body = Bytes::from(vec![0; WINDOW]);
            stream.send_data(body, false).expect("sent");
            (response, stream)
        })
        .collect();
    let body = vec![b'x'; 1 << 20];
    let response = client.post("/upload", &body).expect("a response");
    assert_eq!(response.status, 200);
    assert_eq!(backend.last().body.len(), body.len());
    drop(waiting);
}
