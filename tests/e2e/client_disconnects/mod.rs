//! A client that disconnects ends its request at any stage: its slot and its host connection are free at once, the
//! request does not count as a failure of the host, and it is recorded as `client_gone`.

mod kinds;

use std::time::Duration;

use serde_json::{Value, json};

use kinds::{Disconnect, DisconnectingClient, HTTP2, KINDS, PLAIN, TLS};

use crate::support::http2::Secure;
use crate::support::{
    Backend, Ballast, Client, FullHost, Head, LISTEN, Next, Reply, SOON, Setup, Wire, get,
    wait_for, wait_until,
};

/// The longest time until Ballast notices a disconnect on a busy machine. Every timeout of these tests is longer.
const NOTICED: Duration = Duration::from_secs(9);

const GET: &str = "GET / HTTP/1.1\r\nHost: test\r\n\r\n";
const QUEUE_OF_ONE: &str = "limits: { max_in_flight: 1, queue: 1, queue_timeout: 50s }";

/// One failure ejects, so that a counted failure shows.
const STRICT: &str = "ejection: { consecutive: 1, base: 1m }";

/// Ballast with a log and with the listener that this kind of client needs.
struct Proxy {
    ballast: Ballast,
    secure: Option<Secure>,
}

impl Proxy {
    fn start(setup: Setup, kind: Disconnect) -> Self {
        let secure = (!PLAIN.contains(&kind)).then(Secure::new);
        let setup = setup.top("access_log: { path: access.log, format: json }");
        let setup = match &secure {
            Some(secure) => setup.top(&secure.listeners()),
            None => setup.top(&format!("listeners: [\"{LISTEN}\"]")),
        };
        Proxy {
            ballast: setup.start(),
            secure,
        }
    }

    fn client(&self, kind: Disconnect) -> DisconnectingClient {
        DisconnectingClient::connect(self.ballast.address(), self.secure.as_ref(), kind)
    }

    /// The termination reasons in the log so far.
    fn termination_reasons(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.ballast.path("access.log")).unwrap_or_default();
        let lines = text.lines().map(|line| {
            let line: Value = serde_json::from_str(line).expect("a line of JSON");
            line["ending"].clone()
        });
        lines.collect()
    }

    fn has_logged(&self, reason: &str) -> bool {
        self.termination_reasons().contains(&json!(reason))
    }

    fn queue_length_is(&self, count: usize) -> bool {
        let status = self.ballast.command(&["status"]).stdout;
        match count {
            0 => !status.contains(" waiting"),
            count => status.contains(&format!("{count} waiting")),
        }
    }

    /// Asserts that the request is recorded once, as `client_gone`, and that no host is ejected.
    #[track_caller]
    fn assert_recorded(&self, kind: Disconnect) {
        wait_until(NOTICED, &format!("{kind:?} is recorded"), || {
            !self.termination_reasons().is_empty()
        });
        let disconnects = self.termination_reasons();
        let disconnects = disconnects
            .iter()
            .filter(|reason| **reason == "client_gone");
        assert_eq!(disconnects.count(), 1, "{kind:?}");
        assert!(self.ballast.log_with(&["ejected"]).is_empty(), "{kind:?}");
    }
}

#[track_caller]
fn wait_until_host_is_released(host: &Backend, kind: Disconnect) {
    wait_until(
        NOTICED,
        &format!("the host is released after {kind:?}"),
        || host.open_connections() == 0,
    );
}

#[test]
fn in_the_queue() {
    for kind in KINDS {
        let host = Backend::start_new("a");
        host.set(Reply::Hang);
        let setup = Setup::of(&[&host]).pool(QUEUE_OF_ONE).pool(STRICT);
        let proxy = Proxy::start(setup, kind);
        let mut first = proxy.client(kind);
        first.get();
        wait_until(SOON, "the first request runs", || host.requests() == 1);
        let mut client = proxy.client(kind);
        client.get();
        wait_until(SOON, "the client waits in the queue", || {
            proxy.queue_length_is(1)
        });
        let _connection = client.disconnect();
        proxy.assert_recorded(kind);
        wait_until(NOTICED, "its slot is free", || proxy.queue_length_is(0));
        // The next request gets the slot in the queue, and then the host.
        let mut next = proxy.client(kind);
        next.get();
        wait_until(SOON, "the next request waits in the queue", || {
            proxy.queue_length_is(1)
        });
        host.set(Reply::ok());
        let _connection = first.disconnect();
        next.expect_ok();
        assert_eq!(
            host.requests(),
            2,
            "{kind:?}: the request of the disconnected client never arrived"
        );
    }
}

#[test]
fn in_the_queue_during_an_upload() {
    for kind in KINDS {
        let host = Backend::start_new("a");
        host.set(Reply::Hang);
        let setup = Setup::of(&[&host]).pool(QUEUE_OF_ONE).pool(STRICT);
        let proxy = Proxy::start(setup, kind);
        let mut first = proxy.client(kind);
        first.get();
        wait_until(SOON, "the first request runs", || host.requests() == 1);
        let mut client = proxy.client(kind);
        client.begin_upload();
        wait_until(SOON, "the client waits in the queue", || {
            proxy.queue_length_is(1)
        });
        let _connection = client.disconnect();
        proxy.assert_recorded(kind);
        wait_until(NOTICED, "its slot is free", || proxy.queue_length_is(0));
        assert_eq!(host.requests(), 1, "{kind:?}");
    }
}

#[test]
fn while_connecting_to_a_host() {
    for kind in KINDS {
        let full = FullHost::new();
        // Over HTTP/2, Ballast notices when the attempt to connect has ended.
        let connect = if HTTP2.contains(&kind) { "2s" } else { "50s" };
        let setup = Setup::of(&[])
            .host(full.address())
            .top(&format!("timeouts: {{ connect: {connect} }}"))
            .pool("retries: none")
            .pool(STRICT);
        let proxy = Proxy::start(setup, kind);
        let mut client = proxy.client(kind);
        client.get();
        // No other limit could keep the slot taken.
        assert_eq!(client.status_within(Duration::from_secs(1)), None);
        let _connection = client.disconnect();
        proxy.assert_recorded(kind);
    }
}

#[test]
fn while_waiting_for_the_response() {
    for kind in KINDS {
        let host = Backend::start_new("a");
        host.set(Reply::Hang);
        let proxy = Proxy::start(Setup::of(&[&host]).pool(STRICT), kind);
        let mut client = proxy.client(kind);
        client.get();
        wait_until(SOON, "the request arrives", || host.requests() == 1);
        let _connection = client.disconnect();
        wait_until_host_is_released(&host, kind);
        proxy.assert_recorded(kind);
        assert_eq!(host.requests(), 1);
    }
}

#[test]
fn during_a_retry() {
    for kind in KINDS {
        let broken = Backend::start_new("a");
        broken.set(Reply::Reset);
        let full = FullHost::new();
        let connect = if HTTP2.contains(&kind) { "2s" } else { "50s" };
        let setup = Setup::of(&[&broken])
            .host(full.address())
            .top(&format!("timeouts: {{ connect: {connect} }}"))
            .pool("ejection: none");
        let proxy = Proxy::start(setup, kind);
        let mut client = proxy.client(kind);
        client.get();
        // Every second request begins with the host that fails it.
        while broken.requests() == 0 {
            assert_eq!(client.status_within(Duration::from_secs(1)), None);
            if broken.requests() == 0 {
                client = proxy.client(kind);
                client.get();
            }
        }
        let before = proxy.termination_reasons().len();
        let _connection = client.disconnect();
        wait_until(NOTICED, &format!("{kind:?} is recorded"), || {
            proxy.termination_reasons().len() > before && proxy.has_logged("client_gone")
        });
        assert_eq!(broken.requests(), 1, "{kind:?}");
    }
}

#[test]
fn during_the_response() {
    for kind in KINDS {
        let host = Backend::start_new("a");
        host.set(Reply::script(|_, wire| {
            // More than Ballast collects before it writes.
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")?;
            wire.send("x".repeat(50_000))?;
            while !wire.read_some(1_024)?.is_empty() {}
            Ok(Next::Close)
        }));
        let proxy = Proxy::start(Setup::of(&[&host]).pool(STRICT), kind);
        let mut client = proxy.client(kind);
        client.get();
        assert_eq!(client.status(), Some(200), "{kind:?}");
        let _connection = client.disconnect();
        wait_until_host_is_released(&host, kind);
        proxy.assert_recorded(kind);
    }
}

#[test]
fn during_an_unread_response() {
    for kind in PLAIN.into_iter().chain(TLS) {
        let host = Backend::start_new("a");
        host.set(Reply::ok().body(vec![b'x'; 40 << 20]));
        let proxy = Proxy::start(Setup::of(&[&host]).pool(STRICT), kind);
        let mut client = proxy.client(kind);
        client.get();
        assert_eq!(client.status(), Some(200), "{kind:?}");
        let _connection = client.disconnect();
        wait_until_host_is_released(&host, kind);
        proxy.assert_recorded(kind);
    }
}

#[test]
fn during_an_upload() {
    for kind in KINDS {
        let host = Backend::start_new("a");
        host.set(Reply::Hang);
        let proxy = Proxy::start(Setup::of(&[&host]).pool(STRICT), kind);
        let mut client = proxy.client(kind);
        client.begin_upload();
        wait_until(SOON, "the request arrives", || host.requests() == 1);
        let _connection = client.disconnect();
        wait_until_host_is_released(&host, kind);
        proxy.assert_recorded(kind);
    }
}

#[test]
fn during_a_tunnel() {
    for kind in PLAIN.into_iter().chain(TLS) {
        let host = Backend::start_new("a");
        host.set(tunnel());
        let proxy = Proxy::start(Setup::of(&[&host]).pool(STRICT), kind);
        let mut client = proxy.client(kind);
        client.send(
            "GET / HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        );
        assert_eq!(client.status(), Some(101), "{kind:?}");
        let _connection = client.disconnect();
        wait_until_host_is_released(&host, kind);
        wait_until(NOTICED, "the request is logged", || {
            proxy.termination_reasons().len() == 1
        });
        // Tunnels normally end with an orderly close.
        assert!(
            proxy.has_logged("client_gone") || proxy.has_logged("complete"),
            "{kind:?}: {:?}",
            proxy.termination_reasons()
        );
        assert!(proxy.ballast.log_with(&["ejected"]).is_empty(), "{kind:?}");
    }
}

#[test]
fn with_pipelined_requests() {
    for kind in PLAIN {
        let host = Backend::start_new("a");
        host.set(Reply::Hang);
        let proxy = Proxy::start(Setup::of(&[&host]).pool(STRICT), kind);
        let mut client = proxy.client(kind);
        client.send(&GET.repeat(50));
        wait_until(SOON, "the first request arrives", || host.requests() == 1);
        let _connection = client.disconnect();
        wait_until_host_is_released(&host, kind);
        proxy.assert_recorded(kind);
        assert_eq!(host.requests(), 1, "{kind:?}");
    }
}

#[test]
fn a_disconnected_client_readmits_no_host_and_uses_no_retry_budget() {
    let (good, bad) = (Backend::start_new("good"), Backend::start_new("bad"));
    let ejection = "ejection: { consecutive: 1, base: 1s, rate: 0% }";
    let setup = Setup::of(&[&good, &bad])
        .pool(ejection)
        .pool("retries: none");
    let proxy = Proxy::start(setup.pool("slow_start: none"), Disconnect::Fin);
    let address = proxy.ballast.address();
    bad.set(Reply::status(500));
    wait_until(SOON, "the host is ejected", || {
        get(address, "/");
        !proxy.ballast.log_with(&["is ejected for"]).is_empty()
    });
    bad.set(Reply::Hang);
    let before = bad.requests();
    let client = wait_for(SOON, "a probing request", || {
        let mut client = proxy.client(Disconnect::Fin);
        client.get();
        let response = client.status_within(Duration::from_secs(1));
        (response.is_none() && bad.requests() > before).then_some(client)
    });
    let _connection = client.disconnect();
    wait_until(NOTICED, "the disconnect is recorded", || {
        proxy.has_logged("client_gone")
    });
    let has_logged = |part: &str| !proxy.ballast.log_with(&[part]).is_empty();
    assert!(!has_logged("stays ejected") && !has_logged("is no longer ejected"));
    // Another request has to bring the host back.
    bad.set(Reply::ok());
    wait_until(SOON, "the host is readmitted", || {
        get(address, "/");
        has_logged("is no longer ejected")
    });
}

#[test]
fn other_clients_are_still_served() {
    let host = Backend::start_new("a");
    host.set(Reply::ok().after(Duration::from_millis(50)));
    let proxy = Proxy::start(Setup::of(&[&host]), Disconnect::Fin);
    let address = proxy.ballast.address();
    let mut kept = Client::connect(address);
    for _ in 0..5 {
        assert_eq!(kept.get("/").status, 200);
        assert_eq!(kept.get_with("/", "Connection: close\r\n").status, 200);
        let mut old = Client::connect(address);
        let response = old
            .request("GET / HTTP/1.0\r\n\r\n")
            .expect("a complete response");
        assert_eq!((response.status, response.text().as_str()), (200, "a\n"));
    }
    let mut pipelining = Client::connect(address);
    pipelining.send(GET.repeat(100)).expect("sent");
    for _ in 0..100 {
        assert_eq!(
            pipelining
                .read_response(false)
                .expect("a complete response")
                .status,
            200
        );
    }
    assert!(
        proxy
            .termination_reasons()
            .iter()
            .all(|reason| reason == "complete")
    );
}

#[test]
fn half_close_serve_keeps_half_closed_clients() {
    let host = Backend::start_new("a");
    let setup = Setup::of(&[&host]).pool(QUEUE_OF_ONE);
    let serve = setup.clone().top("half_close: serve");
    let proxy = Proxy::start(setup, Disconnect::Fin);
    host.set(Reply::Hang);
    let half = || {
        let mut client = Client::connect(proxy.ballast.address());
        client.send(GET).expect("sent");
        client.finish_sending();
        client
    };
    assert!(half().is_closed_within(NOTICED));
    // With an in-place reload, which also applies to existing connections.
    let log = "access_log: { path: access.log, format: json }";
    let listen = format!("listeners: [\"{LISTEN}\"]");
    let line = proxy
        .ballast
        .reload_by_sighup(&serve.top(log).top(&listen).yaml());
    assert!(line.contains("half_close changed"), "{line}");
    host.set(Reply::ok().after(Duration::from_millis(200)));
    let (mut first, mut second) = (half(), half());
    for client in [&mut first, &mut second] {
        assert_eq!(
            client
                .read_response(false)
                .expect("a complete response")
                .text(),
            "a\n"
        );
        assert!(client.is_closed_within(SOON));
    }
    // A reset counts as a disconnect.
    host.set(Reply::Hang);
    let before = host.requests();
    let mut broken = proxy.client(Disconnect::Reset);
    broken.get();
    wait_until(SOON, "the request arrives", || host.requests() > before);
    let _connection = broken.disconnect();
    wait_until_host_is_released(&host, Disconnect::Reset);
}

fn tunnel() -> Reply {
    Reply::script(|_: &Head, wire: &mut Wire| {
        wire.send(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        )?;
        while !wire.read_some(1_024)?.is_empty() {}
        Ok(Next::Close)
    })
}
