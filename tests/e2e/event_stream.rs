//! The parts of the dashboard, tested without a browser: the files of the page, the stream of events, the history.

use std::net::SocketAddr;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::{
    Backend, Ballast, Client, Connections, Framing, Load, Response, SOON, Setup, free, wait_for,
    wait_until,
};

fn with_admin(backend: &Backend) -> (Ballast, SocketAddr) {
    let admin = free();
    let setup = Setup::of(&[backend]).top(&format!("admin: {{ address: \"{admin}\" }}"));
    let ballast = setup.start();
    wait_until(SOON, "the admin listener listens", || {
        Client::try_connect(admin).is_ok()
    });
    (ballast, admin)
}

fn get_from(admin: SocketAddr, path: &str) -> Response {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {admin}\r\n\r\n");
    let response = Client::connect(admin).request(request);
    response.expect("a complete response")
}

/// An open stream, and the text that has arrived on it.
struct Stream {
    client: Client,
    status: u16,
    text: String,
}

impl Stream {
    fn open(admin: SocketAddr) -> Self {
        let mut client = Client::connect(admin);
        let request = format!("GET /api/v1/stream HTTP/1.1\r\nHost: {admin}\r\n\r\n");
        client.send(request).expect("the listener reads");
        let (status, head) = client.read_head().expect("a head");
        if status == 200 {
            assert_eq!(head.get("content-type"), Some("text/event-stream"));
        }
        Stream {
            client,
            status,
            text: String::new(),
        }
    }

    /// Returns the data of the next event with this name.
    #[track_caller]
    fn next(&mut self, name: &str) -> Value {
        loop {
            while let Some((event, rest)) = self.text.split_once("\n\n") {
                let data = event.strip_prefix(&format!("event: {name}\ndata: "));
                let data = data.map(|data| serde_json::from_str(data).expect("JSON"));
                self.text = rest.to_owned();
                if let Some(data) = data {
                    return data;
                }
            }
            let piece = self.client.wire().read_some(1 << 16).expect("more to come");
            assert!(!piece.is_empty(), "the stream has ended before `{name}`");
            self.text.push_str(&String::from_utf8_lossy(&piece));
        }
    }
}

#[test]
fn the_content_security_policy_allows_only_own_files() {
    let backend = Backend::start_new("a");
    let (_ballast, admin) = with_admin(&backend);
    let page = get_from(admin, "/").text();
    let is_file = |part: &&str| {
        [".css", ".js", ".svg"]
            .iter()
            .any(|end| part.ends_with(end))
    };
    let mut files: Vec<&str> = page.split('"').filter(is_file).collect();
    files.sort_unstable();
    files.dedup();
    assert_eq!(files.len(), 7, "{files:?}");
    for path in files.into_iter().chain(["/"]) {
        let response = get_from(admin, path);
        assert_eq!(response.status, 200, "{path}");
        let policy = response.head.get("content-security-policy");
        let policy = policy.unwrap_or_default();
        for part in [
            "default-src 'none'",
            "script-src 'self'",
            "frame-ancestors 'none'",
        ] {
            assert!(policy.contains(part), "{path}: {policy}");
        }
        assert!(!policy.contains("unsafe"), "{path}: {policy}");
        assert_eq!(
            response.head.get("x-content-type-options"),
            Some("nosniff"),
            "{path}"
        );
        assert_eq!(
            response.head.get("referrer-policy"),
            Some("no-referrer"),
            "{path}"
        );
        let text = response.text();
        for foreign in ["http://", "https://", "innerHTML", "style=", "onclick"] {
            let found = text.replace("http://www.w3.org/2000/svg", "");
            assert!(!found.contains(foreign), "{path} has {foreign}");
        }
    }
}

#[test]
fn the_stream_sends_updates_each_second_and_events_at_once() {
    let backend = Backend::start_new("a");
    let (ballast, admin) = with_admin(&backend);
    let mut stream = Stream::open(admin);
    let first = stream.next("status");
    assert_eq!(first["pid"], ballast.pid().as_raw());
    assert_eq!(
        first["pools"][0]["hosts"][0]["id"],
        backend.address().to_string()
    );
    assert_eq!(first["writable"], false);
    assert!(stream.next("sample")["web"]["t"].is_string());
    let second = stream.next("status");
    let time = |status: &Value| status["uptime_seconds"].as_f64().expect("a number");
    assert!(time(&second) - time(&first) > 0.5, "{first} and {second}");
    let host = backend.address().to_string();
    assert_eq!(ballast.command(&["drain", &host]).code, Some(0));
    let event = stream.next("event");
    assert_eq!(
        (&event["kind"], &event["host"]),
        (&"drained".into(), &host.into()),
        "{event}"
    );
    assert_eq!(
        stream.next("status")["pools"][0]["hosts"][0]["state"],
        "draining"
    );
}

#[test]
fn the_number_of_streams_is_limited() {
    let backend = Backend::start_new("a");
    let (_ballast, admin) = with_admin(&backend);
    let streams = Vec::from_iter((0..32).map(|_| Stream::open(admin)));
    assert!(streams.iter().all(|stream| stream.status == 200));
    assert_eq!(Stream::open(admin).status, 503);
    assert_eq!(get_from(admin, "/api/v1/status").status, 200);
    drop(streams);
    wait_for(SOON, "there is room again", || {
        (Stream::open(admin).status == 200).then_some(())
    });
}

#[test]
fn streams_end_with_their_process() {
    let backend = Backend::start_new("a");
    let (mut ballast, admin) = with_admin(&backend);
    let mut stream = Stream::open(admin);
    stream.next("status");
    ballast.signal(Signal::SIGTERM);
    // An open page does not delay the exit.
    ballast.wait_exit(SOON);
    let rest = stream.client.wire().read_body(Framing::UntilClose);
    assert!(
        rest.is_ok()
            || rest.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset)
    );
}

#[test]
fn the_history_has_rates_errors_and_latency() {
    let backend = Backend::start_new("a");
    let (ballast, admin) = with_admin(&backend);
    let load = Load::start(ballast.address(), 2, Connections::Kept);
    let newest = || {
        let history: Value =
            serde_json::from_slice(&get_from(admin, "/api/v1/history").body).ok()?;
        assert_eq!(history["interval_seconds"], 1.0);
        history["pools"]["web"].as_array()?.last().cloned()
    };
    let busy = wait_for(SOON, "a second with requests", || {
        newest().filter(|sample| sample["requests_per_second"].as_f64() > Some(10.0))
    });
    assert_eq!(busy["error_share"], 0.0);
    let millis = |key: &str| busy[key].as_f64().expect("a number");
    assert!(
        millis("p50_ms") > 0.0 && millis("p50_ms") <= millis("p99_ms"),
        "{busy}"
    );
    assert!(busy["responses"]["2xx"].as_f64() > Some(10.0), "{busy}");
    assert_eq!(busy["responses"]["5xx"], 0.0);
    assert_eq!(busy["retries_per_second"], 0.0);
    assert_eq!(busy["bytes_in_per_second"], 0);
    // The backend writes its name into each response.
    assert!(busy["bytes_out_per_second"].as_u64() > Some(10), "{busy}");
    let of_pool = |query: &str| get_from(admin, &format!("/api/v1/history{query}"));
    assert_eq!(of_pool("?pool=web").status, 200);
    assert_eq!(of_pool("?pool=nope").status, 404);
    let sent = load.stop();
    sent.assert_all_ok("load");
    wait_for(SOON, "a second of rest", || {
        newest().filter(|sample| sample["requests_per_second"] == 0.0 && sample["p50_ms"].is_null())
    });
    backend.stop();
    let mut client = Client::connect(ballast.address());
    assert!(client.post("/", b"twelve bytes").status >= 502);
    wait_for(SOON, "a second of errors", || {
        newest().filter(|sample| sample["error_share"] == 1.0)
    });
    let status: Value =
        serde_json::from_slice(&get_from(admin, "/api/v1/pools/web").body).expect("JSON");
    // The figures of the pool and of its host cover the same time.
    for of in [&status, &status["hosts"][0]] {
        assert!(of["last_minute"]["requests"].as_u64() > Some(10), "{of}");
        assert_eq!(of["last_minute"]["requests"], of["requests"], "{of}");
    }
}
