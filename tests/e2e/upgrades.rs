//! Upgrades of a connection, and the tunnels that follow: every byte arrives, the end of each side is passed on, and
//! no tunnel stays counted.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::http2::Secure;
use crate::support::{
    Authority, Backend, Ballast, Client, Framing, Head, LISTEN, Next, Reply, SOON, Setup, Wire,
    get, resident, wait_for, wait_until,
};

const TCP: &str = "upgrades: [websocket, tcp]";
const LOG: &str = "access_log: { path: access.log, format: json }";
/// Selects the engine, for tests in which Pingora behaves differently.
const BY_ENGINE: &str = "server: { http1: engine }";

/// Each combination of an encrypted or plain client connection and host connection.
const TLS_COMBINATIONS: [(bool, bool); 4] =
    [(false, false), (true, false), (false, true), (true, true)];

fn ask(protocol: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n\r\n")
}

fn switch(protocol: &str) -> String {
    format!("HTTP/1.1 101 Fine\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n\r\n")
}

/// A host that switches on request and then echoes all bytes. It responds to other requests as usual.
fn echo() -> Reply {
    Reply::script(|head: &Head, wire: &mut Wire| {
        wire.read_body(head.framing().unwrap_or(Framing::Length(0)))?;
        let Some(protocol) = head.get("upgrade") else {
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
            return Ok(Next::Keep);
        };
        wire.send(switch(protocol))?;
        loop {
            let bytes = wire.read_some(usize::MAX)?;
            if bytes.is_empty() {
                return Ok(Next::Close);
            }
            wire.send(bytes)?;
        }
    })
}

fn read_exactly(wire: &mut Wire, count: usize) -> Vec<u8> {
    wire.read_body(Framing::Length(count)).expect("all of it")
}

/// A client with an open tunnel.
fn tunnel(ballast: &Ballast) -> Client {
    let mut client = Client::connect(ballast.address());
    client.send(ask("tcp")).expect("sent");
    assert_eq!(client.read_head().expect("a head").0, 101);
    client
}

/// A host that takes one connection, switches to `tcp`, and then runs `talk`.
fn host<T: Send + 'static>(
    talk: impl FnOnce(TcpStream) -> io::Result<T> + Send + 'static,
) -> (SocketAddr, JoinHandle<io::Result<T>>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let address = listener.local_addr().expect("the socket is bound");
    let host_thread = thread::spawn(move || {
        let (mut stream, _) = listener.accept()?;
        stream.set_read_timeout(Some(SOON))?;
        stream.set_write_timeout(Some(SOON))?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte)?;
            head.push(byte[0]);
        }
        stream.write_all(switch("tcp").as_bytes())?;
        talk(stream)
    });
    (address, host_thread)
}

fn setup(address: SocketAddr) -> Setup {
    Setup::of(&[]).host(address).top(TCP).top(LOG)
}

/// The access log's line of a response with this status.
fn line(ballast: &Ballast, status: u16) -> Value {
    wait_for(SOON, "a line in the log", || {
        let text = std::fs::read_to_string(ballast.path("access.log")).ok()?;
        let lines = text
            .split_inclusive('\n')
            .filter(|line| line.ends_with('\n'));
        let mut lines = lines.map(|line| serde_json::from_str(line).expect("JSON"));
        lines.find(|line: &Value| line["status"] == json!(status))
    })
}

#[test]
fn bytes_sent_with_a_head_arrive() {
    // More bytes than the process examines of what a client sends ahead.
    let early_bytes = vec![b'a'; 100_000];
    for (client_tls, host_tls) in TLS_COMBINATIONS {
        let backend = match host_tls {
            true => Backend::start_tls("a", Authority::new("any").issue(&["app.test"]).server()),
            false => Backend::start_new("a"),
        };
        let length = early_bytes.len();
        backend.set(Reply::script(move |_, wire| {
            wire.send(switch("tcp") + "welcome")?;
            let bytes = wire.read_body(Framing::Length(length))?;
            wire.send(bytes)?;
            while !wire.read_some(1_024)?.is_empty() {}
            Ok(Next::Close)
        }));
        let secure = client_tls.then(Secure::new);
        let mut setup = Setup::of(&[&backend]).top(TCP);
        if host_tls {
            setup = setup.pool("tls: { verify: false }");
        }
        if let Some(secure) = &secure {
            setup = setup.top(&secure.listeners());
        }
        let ballast = setup.start();
        for early_bytes in [&early_bytes[..], &early_bytes[..1]] {
            let mut client = match &secure {
                Some(secure) => {
                    let config = secure.offering(&["http/1.1"]);
                    Client::tls(ballast.address(), "test", config).expect("connected")
                }
                None => Client::connect(ballast.address()),
            };
            client
                .send([ask("tcp").as_bytes(), early_bytes].concat())
                .expect("sent");
            assert_eq!(client.read_head().expect("a head").0, 101);
            assert_eq!(read_exactly(client.wire(), 7), b"welcome");
            let rest = vec![b'b'; length - early_bytes.len()];
            client.send(&rest).expect("sent");
            let back = read_exactly(client.wire(), length);
            assert!(
                back == [early_bytes, &rest].concat(),
                "{client_tls} {host_tls}"
            );
        }
        wait_until(SOON, "the tunnels end", || backend.open_connections() == 0);
    }
}

#[test]
fn only_configured_protocols_are_upgraded_to() {
    let backend = Backend::start_new("a");
    backend.set(echo());
    let get = "GET / HTTP/1.1\r\nHost: test\r\n";
    let post = "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 2\r\n";
    // Each case: the configuration, the request, the protocol that it asks for, and the protocol that the host sees.
    for (key, request, asked, expected) in [
        ("", get, "WebSocket", Some("websocket")),
        ("", get, "tcp", None),
        ("upgrades: [tcp, SPDY/3.1]", get, "TCP", Some("tcp")),
        ("upgrades: [tcp, SPDY/3.1]", post, "tcp", Some("tcp")),
        (
            "upgrades: [tcp, SPDY/3.1]",
            post,
            "spdy/3.1",
            Some("SPDY/3.1"),
        ),
        ("upgrades: [tcp, SPDY/3.1]", get, "SPDY", None),
        ("upgrades: [tcp, SPDY/3.1]", get, "tcp, SPDY/3.1", None),
        ("upgrades: [tcp, SPDY/3.1]", get, "websocket", None),
        ("upgrades: []", get, "websocket", None),
    ] {
        let ballast = Setup::of(&[&backend]).top(key).start();
        let mut client = Client::connect(ballast.address());
        let body = if request == post { "hi" } else { "" };
        let fields = format!("Connection: X-Y, keep-alive, Upgrade\r\nX-Y: 1\r\nUpgrade: {asked}");
        let request = format!("{request}{fields}\r\n\r\n{body}");
        let response = client.request(&request).expect("a response");
        let seen = backend.last().head;
        let fields = (seen.all("upgrade"), seen.all("x-y").len());
        match expected {
            Some(protocol) => {
                assert_eq!(response.status, 101, "{key} {request}");
                assert_eq!(fields, (vec![protocol], 0), "{key} {request}");
                assert_eq!(seen.all("connection"), ["upgrade"], "{key} {request}");
                assert_eq!(response.head.all("upgrade"), [protocol]);
                client.send("through").expect("sent");
                assert_eq!(read_exactly(client.wire(), 7), b"through");
            }
            None => {
                assert_eq!(response.text(), "ok", "{key} {request}");
                assert_eq!(fields, (vec![], 0), "{key} {request}");
                assert!(!seen.has_token("connection", "upgrade"), "{key} {request}");
                assert_eq!(client.get("/").status, 200);
            }
        }
    }
}

#[test]
fn a_reload_changes_upgrades_and_keeps_running_tunnels() {
    let backend = Backend::start_new("a");
    backend.set(echo());
    let listen = format!("listeners: [\"{LISTEN}\"]");
    let setup = Setup::of(&[&backend]).top(&listen);
    let ballast = setup.clone().top(TCP).start();
    let mut old = tunnel(&ballast);
    let line = ballast.reload_by_sighup(&setup.clone().top("upgrades: [websocket]").yaml());
    assert!(line.contains("upgrades changed"), "{line}");
    let mut client = Client::connect(ballast.address());
    assert_eq!(
        client
            .request(ask("tcp"))
            .expect("a complete response")
            .text(),
        "ok"
    );
    old.send("still here").expect("sent");
    assert_eq!(read_exactly(old.wire(), 10), b"still here");
}

#[test]
fn a_101_that_does_not_match_the_request_gets_502() {
    let backend = Backend::start_new("a");
    let ballast = Setup::of(&[&backend])
        .top(TCP)
        .top(LOG)
        .pool("retries: none")
        .pool("ejection: none")
        .start();
    let unfinished = format!("POST {}", &ask("tcp")["GET ".len()..])
        .replace("\r\n\r\n", "\r\nContent-Length: 9\r\n\r\nhalf");
    for (request, response) in [
        (
            ask("tcp"),
            "HTTP/1.1 101 Fine\r\nConnection: Upgrade\r\n\r\n".to_owned(),
        ),
        (ask("tcp"), switch("websocket")),
        (ask("tcp"), switch("tcp, websocket")),
        (ask("tcp"), switch("tcp\r\nUpgrade: tcp")),
        (ask("tcp"), switch("tcp").replace("1.1 101", "1.0 101")),
        (ask("foo"), switch("foo")),
        // The host sends this response before the request is complete.
        (unfinished, switch("tcp")),
    ] {
        let sent = response.clone();
        backend.set(Reply::script(move |_, wire| {
            wire.send(&sent)?;
            while !wire.read_some(1_024)?.is_empty() {}
            Ok(Next::Close)
        }));
        let mut client = Client::connect(ballast.address());
        let status = client.request(&request).expect("a response").status;
        assert_eq!(status, 502, "{request} {response}");
        assert!(client.is_closed_within(SOON));
        wait_until(SOON, "the host is released", || {
            backend.open_connections() == 0
        });
    }
    assert_eq!(line(&ballast, 502)["ending"], json!("host_malformed"));
}

#[test]
fn both_directions_may_be_full_without_a_deadlock() {
    const MUCH: usize = 8 << 20;
    let (address, host_thread) = host(|mut stream| {
        // The host reads nothing until the client has taken all these bytes.
        stream.write_all(&vec![b'd'; MUCH])?;
        let mut bytes = vec![0; MUCH];
        stream.read_exact(&mut bytes)?;
        Ok(bytes.iter().all(|byte| *byte == b'u'))
    });
    // Pingora reads nothing from a host while a write to it waits.
    let ballast = setup(address).top(BY_ENGINE).start();
    let mut client = TcpStream::connect(ballast.address()).expect("connected");
    client.set_read_timeout(Some(SOON)).expect("not zero");
    client.write_all(ask("tcp").as_bytes()).expect("sent");
    let mut head = vec![0; 15];
    client.read_exact(&mut head).expect("a head");
    assert_eq!(head, b"HTTP/1.1 101 Fi");
    let mut sending = client.try_clone().expect("cloned");
    let sent = thread::spawn(move || sending.write_all(&vec![b'u'; MUCH]));
    let (mut got, mut piece) = (0, [0; 9_999]);
    while got < MUCH {
        let count = client.read(&mut piece).expect("more");
        assert!(count > 0, "{got} bytes of {MUCH}");
        got += piece[..count].iter().filter(|byte| **byte == b'd').count();
        // At first the client reads more slowly than the host sends.
        if got < MUCH / 16 {
            thread::sleep(Duration::from_millis(2));
        }
    }
    sent.join().expect("no panic").expect("taken");
    assert!(host_thread.join().expect("no panic").expect("all of it"));
    drop(client);
    let line = line(&ballast, 101);
    assert_eq!(
        (&line["status"], &line["ending"]),
        (&json!(101), &json!("complete"))
    );
    assert_eq!(
        (&line["received"], &line["sent"]),
        (&json!(MUCH), &json!(MUCH))
    );
}

#[test]
fn a_client_half_close_is_forwarded_and_the_host_may_continue() {
    let (address, host_thread) = host(|mut stream| {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes)?;
        stream.write_all(b"all of it: ")?;
        stream.write_all(&bytes)?;
        Ok(())
    });
    let ballast = setup(address).top(BY_ENGINE).start();
    let mut client = tunnel(&ballast);
    client.send("input").expect("sent");
    client.finish_sending();
    let response = client.wire().read_body(Framing::UntilClose).expect("all");
    assert_eq!(response, b"all of it: input");
    host_thread
        .join()
        .expect("no panic")
        .expect("the host could continue");
    assert_eq!(line(&ballast, 101)["ending"], json!("complete"));
}

#[test]
fn a_host_half_close_is_forwarded_and_the_client_may_continue() {
    let (address, host_thread) = host(|mut stream| {
        stream.write_all(b"that is all")?;
        stream.shutdown(Shutdown::Write)?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes)?;
        Ok(bytes)
    });
    let ballast = setup(address).top(BY_ENGINE).start();
    let mut client = tunnel(&ballast);
    let all = client.wire().read_body(Framing::UntilClose).expect("all");
    assert_eq!(all, b"that is all");
    client.send("thanks").expect("sent");
    client.finish_sending();
    assert_eq!(
        host_thread.join().expect("no panic").expect("more"),
        b"thanks"
    );
    assert_eq!(line(&ballast, 101)["ending"], json!("complete"));
}

#[test]
fn a_silent_client_is_closed_after_the_read_timeout_once_the_host_has_ended() {
    let (address, host_thread) = host(|mut stream| {
        stream.shutdown(Shutdown::Write)?;
        stream.read_to_end(&mut Vec::new())
    });
    let ballast = setup(address)
        .top(BY_ENGINE)
        .top("timeouts: { tunnel: 5m, read: 1s }")
        .start();
    let mut client = tunnel(&ballast);
    let all = client.wire().read_body(Framing::UntilClose);
    assert!(all.expect("an end").is_empty());
    host_thread
        .join()
        .expect("no panic")
        .expect("the host sees the end");
    assert_eq!(line(&ballast, 101)["ending"], json!("client_timeout"));
}

#[test]
fn a_broken_tunnel_is_logged_and_no_longer_counted() {
    // Which side breaks the tunnel, and how the log reports it.
    for (who, expected) in [
        ("client", "client_gone"),
        ("host", "host_reset"),
        ("nobody", "client_timeout"),
    ] {
        let hosts = ["a", "b"].map(Backend::start_new);
        let script = Reply::script(move |_, wire| {
            wire.send(switch("tcp"))?;
            wire.read_body(Framing::Length(5))?;
            if who == "host" {
                return Ok(Next::Reset);
            }
            while !wire.read_some(1_024)?.is_empty() {}
            Ok(Next::Close)
        });
        for host in &hosts {
            host.set(script.clone());
        }
        let ballast = Setup::of(&hosts.each_ref())
            .top(TCP)
            .top(LOG)
            .top("timeouts: { tunnel: 2s }")
            .top("limits: { max_in_flight: 1 }")
            .pool("limits: { max_in_flight: 1, queue: 0 }")
            .pool("ejection: { consecutive: 1, base: 1m }")
            .start();
        let mut client = tunnel(&ballast);
        assert_eq!(
            get(ballast.address(), "/").status,
            503,
            "{who}: the tunnel counts"
        );
        client.send("hello").expect("sent");
        match who {
            "client" => client.abort(),
            _ => assert!(client.is_closed_within(SOON), "{who}"),
        }
        let logged = line(&ballast, 101);
        assert_eq!(
            (&logged["status"], &logged["ending"], &logged["received"]),
            (&json!(101), &json!(expected), &json!(5)),
            "{who}"
        );
        for host in &hosts {
            host.set(Reply::ok());
        }
        for place in ["one", "the other"] {
            wait_until(SOON, place, || get(ballast.address(), "/").status == 200);
        }
        assert!(ballast.log_with(&["ejected"]).is_empty(), "{who}");
    }
}

#[test]
fn a_stopping_process_waits_for_its_tunnels_for_the_grace_period() {
    for (grace, ends) in [("50s", true), ("1s", false)] {
        let backend = Backend::start_new("a");
        backend.set(echo());
        let mut ballast = Setup::of(&[&backend])
            .top(TCP)
            .top(&format!("server: {{ grace_period: {grace} }}"))
            .start();
        let mut client = tunnel(&ballast);
        ballast.signal(Signal::SIGTERM);
        wait_until(SOON, "the process no longer listens", || {
            Client::try_connect(ballast.address()).is_err()
        });
        if ends {
            client.send("still here").expect("sent");
            assert_eq!(read_exactly(client.wire(), 10), b"still here");
            drop(client);
        }
        assert_eq!(ballast.wait_exit(SOON).code(), Some(0), "{grace}");
    }
}

#[test]
fn idle_tunnels_hold_no_buffers() {
    const TUNNELS: usize = 500;
    let backend = Backend::start_new("a");
    backend.set(echo());
    let ballast = Setup::of(&[&backend]).top(TCP).top(BY_ENGINE).start();
    let bytes = vec![b'x'; 100_000];
    let open = || {
        let mut client = tunnel(&ballast);
        client.send(&bytes).expect("sent");
        assert!(read_exactly(client.wire(), bytes.len()) == bytes);
        client
    };
    // The first tunnels make the process allocate what it needs for concurrent tunnels, so that the test does not
    // measure it.
    let first = Vec::from_iter((0..20).map(|_| open()));
    let before = resident(ballast.pid());
    let tunnels = Vec::from_iter((0..TUNNELS).map(|_| open()));
    let each = resident(ballast.pid()).saturating_sub(before) / TUNNELS as u64;
    println!("{each} bytes for an idle tunnel");
    assert!(each < 16 << 10, "{each} bytes for an idle tunnel");
    drop((first, tunnels));
}
