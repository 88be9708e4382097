//! WebSockets over HTTP/2 by extended CONNECT, RFC 8441.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Mutex, mpsc};
use std::thread::{self, JoinHandle};

use http::Request;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tungstenite::handshake::derive_accept_key;
use tungstenite::protocol::Role;
use tungstenite::{Message, WebSocket};

use crate::support::http2::{Http2, Secure};
use crate::support::http2_tunnel::{Http2Tunnel, connect};
use crate::support::{
    Authority, Backend, Ballast, Client, Framing, LISTEN, Next, Reply, SOON, Setup, wait_for,
    wait_until,
};
use crate::websocket::echo;

const LOG: &str = "access_log: { path: access.log, format: json }";

fn open(client: &mut Http2) -> WebSocket<Http2Tunnel> {
    let tunnel = Http2Tunnel::open(client, "/chat");
    WebSocket::from_raw_socket(tunnel, Role::Client, None)
}

fn echoes(socket: &mut WebSocket<impl Read + Write>, text: &str) {
    socket.send(Message::text(text)).expect("sent");
    let echoed = socket.read().expect("echoed");
    assert!(echoed == Message::text(text), "{} bytes", text.len());
}

/// The access log's line of a tunnel.
fn line(ballast: &Ballast) -> Value {
    wait_for(SOON, "a line in the log", || {
        let text = std::fs::read_to_string(ballast.path("access.log")).ok()?;
        let lines = text
            .split_inclusive('\n')
            .filter(|line| line.ends_with('\n'));
        let mut lines = lines.map(|line| serde_json::from_str(line).expect("JSON"));
        lines.find(|line: &Value| line["status"] == json!(101))
    })
}

/// The head of a host's 101.
fn switch(key: &str) -> String {
    format!(
        "HTTP/1.1 101 Fine\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {}\r\nSec-WebSocket-Protocol: chat\r\n\r\n",
        derive_accept_key(key.as_bytes())
    )
}

/// A host that takes one connection, switches, and then runs `talk`.
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
        let head = String::from_utf8_lossy(&head);
        let mut fields = head.lines().filter_map(|line| line.split_once(": "));
        let key = fields.find(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-key"));
        let (_, key) = key.expect("a WebSocket is asked for");
        stream.write_all(switch(key).as_bytes())?;
        talk(stream)
    });
    (address, host_thread)
}

/// A host that switches and then reads to the client's end.
fn silent() -> Reply {
    Reply::script(|head, wire| {
        wire.send(switch(head.get("sec-websocket-key").unwrap_or_default()))?;
        while !wire.read_some(1_024)?.is_empty() {}
        Ok(Next::Close)
    })
}

#[test]
fn messages_pass_both_ways_beside_requests() {
    let backend = Backend::start_new("a");
    let secure = Secure::new();
    for plain in [false, true] {
        let listeners = match plain {
            true => format!("listeners: [{{ address: \"{LISTEN}\", http2: cleartext }}]"),
            false => secure.listeners(),
        };
        let ballast = Setup::of(&[&backend]).top(&listeners).top(LOG).start();
        let address = ballast.address();
        let mut client = match plain {
            true => Http2::connect_plain(address),
            false => secure.connect(address),
        };
        backend.set(echo());
        let mut sockets = [open(&mut client), open(&mut client)];
        for length in [0, 1, 200, 70_000, 1_000_000] {
            for socket in &mut sockets {
                echoes(socket, &"x".repeat(length));
            }
        }
        let seen = backend.last().head;
        assert_eq!(seen.start, "GET /chat HTTP/1.1");
        assert!(seen.has_token("upgrade", "websocket") && seen.has_token("connection", "upgrade"));
        assert_eq!(seen.all("host"), ["test"]);
        assert_eq!(seen.all("via"), ["2.0 ballast"]);
        assert_eq!(seen.all("sec-websocket-version"), ["13"]);
        backend.set(Reply::ok());
        assert_eq!(client.get("/").status, 200);
        let [mut closed, mut other] = sockets;
        closed.close(None).expect("sent");
        while closed.read().is_ok() {}
        closed.get_mut().finish_sending();
        let line = line(&ballast);
        assert_eq!(
            ["method", "target", "version", "ending"].map(|name| &line[name]),
            ["GET", "/chat", "HTTP/2.0", "complete"]
        );
        assert!(line["sent"].as_u64() > Some(1_000_000), "{line}");
        assert!(line["received"].as_u64() > Some(1_000_000), "{line}");
        echoes(&mut other, "still open");
    }
}

#[test]
fn a_tunnel_begins_with_200_and_the_fields_of_the_handshake_that_concern_the_client() {
    let backend = Backend::start_new("a");
    backend.set(silent());
    let secure = Secure::new();
    let ballast = Setup::of(&[&backend]).top(&secure.listeners()).start();
    let mut client = secure.connect(ballast.address());
    let tunnel = Http2Tunnel::open(&mut client, "/");
    assert_eq!(tunnel.fields["sec-websocket-protocol"], "chat");
    for internal in [
        "sec-websocket-accept",
        "connection",
        "upgrade",
        "content-length",
    ] {
        assert!(!tunnel.fields.contains_key(internal), "{internal}");
    }
}

#[test]
fn tunnels_open_at_hosts_that_respond_within_microseconds_and_over_tls() {
    let secure = Secure::new();
    let tls = Authority::new("any").issue(&["app.test"]).server();
    for (backend, pool) in [
        (Backend::start_new("a"), ""),
        (Backend::start_tls("a", tls), "tls: { verify: false }"),
    ] {
        backend.set(echo());
        let ballast = Setup::of(&[&backend])
            .top(&secure.listeners())
            .pool(pool)
            .start();
        let mut client = secure.connect(ballast.address());
        for number in 0..30 {
            echoes(&mut open(&mut client), &number.to_string());
        }
    }
}

#[test]
fn other_responses_are_no_tunnels() {
    let backend = Backend::start_new("a");
    let secure = Secure::new();
    let ballast = Setup::of(&[&backend])
        .top(&secure.listeners())
        .top("routes: [{ path: /fixed, respond: { status: 200, body: fixed } }, { pool: web }]")
        .pool("ejection: { consecutive: 1 }")
        .start();
    let mut client = secure.connect(ballast.address());
    client.wait_for_extended_connect();
    for (status, expected) in [
        (403, 403),
        (302, 302),
        (426, 426),
        (503, 503),
        (200, 501),
        (204, 501),
    ] {
        backend.set(Reply::status(status));
        let refused = Http2Tunnel::ask(&mut client, connect("websocket", "/"));
        assert_eq!(refused.err(), Some(expected), "{status}");
    }
    let refused = Http2Tunnel::ask(&mut client, connect("websocket", "/fixed"));
    assert_eq!(refused.err(), Some(501));
    // No host is blamed for what it refuses. It is for a handshake that it does not know.
    assert!(ballast.log_with(&["ejected"]).is_empty());
    for accept in ["", "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"] {
        backend.set(Reply::script(move |_, wire| {
            wire.send(format!(
                "HTTP/1.1 101 Fine\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n{accept}\r\n"
            ))?;
            while !wire.read_some(1_024)?.is_empty() {}
            Ok(Next::Close)
        }));
        let refused = Http2Tunnel::ask(&mut client, connect("websocket", "/"));
        assert_eq!(refused.err(), Some(502), "{accept}");
    }
}

#[test]
fn only_websockets_and_only_if_configured() {
    let backend = Backend::start_new("a");
    let secure = Secure::new();
    let setup = Setup::of(&[&backend]).top(&secure.listeners());
    let ballast = setup.start();
    let mut client = secure.connect(ballast.address());
    client.wait_for_extended_connect();
    let status = |client: &mut Http2, request: Request<()>| {
        client.ask(request).map(|response| response.status)
    };
    for (request, expected) in [
        (connect("connect-udp", "/"), 501),
        (
            super::with_field(connect("websocket", "/"), "content-length", "0"),
            400,
        ),
        (
            super::with_field(connect("websocket", "/"), "host", "other"),
            400,
        ),
    ] {
        let got = status(&mut client, request);
        assert_eq!(got.expect("a response"), expected);
    }
    let mut plain = Request::new(());
    *plain.method_mut() = http::Method::CONNECT;
    *plain.uri_mut() = "test:80".parse().expect("an authority");
    assert_eq!(status(&mut client, plain).expect("a response"), 405);
    assert_eq!(client.get("/").status, 200);
    assert_eq!(backend.requests(), 1);

    let ballast = setup.clone().top("upgrades: [tcp]").start();
    let mut client = secure.connect(ballast.address());
    assert_eq!(client.get("/").status, 200);
    assert!(!client.has_extended_connect());

    // Hosts of HTTP/2 are not asked for tunnels.
    let ballast = setup.pool("protocol: h2c").start();
    let mut client = secure.connect(ballast.address());
    client.wait_for_extended_connect();
    let refused = Http2Tunnel::ask(&mut client, connect("websocket", "/"));
    assert_eq!(refused.err(), Some(501));
}

#[test]
fn the_end_of_each_side_is_passed_on_and_the_other_may_continue() {
    let secure = Secure::new();
    // More bytes than any buffer on the way holds.
    const MUCH: usize = 3_000_000;
    let (address, host_thread) = host(|mut stream| {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes)?;
        stream.write_all(format!("all of it: {}", bytes.len()).as_bytes())
    });
    let ballast = Setup::of(&[])
        .host(address)
        .top(&secure.listeners())
        .top(LOG)
        .start();
    let mut client = secure.connect(ballast.address());
    let mut tunnel = Http2Tunnel::open(&mut client, "/");
    tunnel.write_all(&vec![b'x'; MUCH]).expect("sent");
    tunnel.finish_sending();
    let response = tunnel.read_all().expect("an end");
    assert_eq!(response, format!("all of it: {MUCH}").as_bytes());
    host_thread
        .join()
        .expect("no panic")
        .expect("the host could continue");
    let logged = line(&ballast);
    assert_eq!(
        (&logged["ending"], &logged["received"]),
        (&json!("complete"), &json!(MUCH))
    );

    let (address, host_thread) = host(|mut stream| {
        stream.write_all(b"that is all")?;
        stream.shutdown(Shutdown::Write)?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes)?;
        Ok(bytes)
    });
    let ballast = Setup::of(&[])
        .host(address)
        .top(&secure.listeners())
        .top(LOG)
        .start();
    let mut client = secure.connect(ballast.address());
    let mut tunnel = Http2Tunnel::open(&mut client, "/");
    assert_eq!(tunnel.read_all().expect("an end"), b"that is all");
    tunnel.write_all(b"thanks").expect("sent");
    tunnel.finish_sending();
    let received = host_thread.join().expect("no panic");
    assert_eq!(received.expect("more"), b"thanks");
    assert_eq!(line(&ballast)["ending"], "complete");
}

#[test]
fn a_broken_or_silent_tunnel_is_logged_and_no_longer_counted() {
    let secure = Secure::new();
    // Who does what, and how the log reports it.
    for (who, expected) in [
        ("the client resets", "client_gone"),
        ("the client sends trailers", "client_gone"),
        ("the host resets", "host_reset"),
        ("both are silent", "client_timeout"),
        ("the host is silent after the client's end", "host_timeout"),
        (
            "the client is silent after the host's end",
            "client_timeout",
        ),
    ] {
        let backend = Backend::start_new("a");
        let (ends, end) = mpsc::channel::<()>();
        let end = Mutex::new(end);
        let silence = match who {
            "both are silent" => "timeouts: { tunnel: 300ms }",
            _ => "timeouts: { read: 300ms }",
        };
        let ballast = Setup::of(&[&backend])
            .top(&secure.listeners())
            .top(LOG)
            .top(silence)
            .top("limits: { max_in_flight: 1 }")
            .pool("ejection: { consecutive: 1, base: 1m }")
            .start();
        let mut client = secure.connect(ballast.address());
        backend.set(Reply::script(move |head, wire| {
            wire.send(switch(head.get("sec-websocket-key").unwrap_or_default()))?;
            wire.read_body(Framing::Length(5))?;
            wire.send("world")?;
            match who {
                "the host resets" => return Ok(Next::Reset),
                "the client is silent after the host's end" => return Ok(Next::Close),
                _ => {}
            }
            while !wire.read_some(1_024)?.is_empty() {}
            if who == "the host is silent after the client's end" {
                // The test drops the sender.
                let _ = end.lock().expect("no panic").recv();
            }
            Ok(Next::Close)
        }));
        let mut tunnel = Http2Tunnel::open(&mut client, "/");
        assert_eq!(client.get("/").status, 503, "{who}: the tunnel counts");
        tunnel.write_all(b"hello").expect("sent");
        // A reset may overtake the answer.
        let answer = tunnel.read_exact(&mut [0; 5]);
        assert!(answer.is_ok() || who == "the host resets", "{who}");
        match who {
            "the client resets" => tunnel.abort(),
            "the client sends trailers" => tunnel.send_trailers(),
            "the host is silent after the client's end" => tunnel.finish_sending(),
            _ => {}
        }
        if who == "the host resets" {
            assert_eq!(tunnel.read_all(), Err(h2::Reason::CANCEL));
        }
        let logged = line(&ballast);
        assert_eq!(
            (&logged["ending"], &logged["received"]),
            (&json!(expected), &json!(5)),
            "{who}"
        );
        backend.set(Reply::ok());
        wait_until(SOON, who, || client.get("/").status == 200);
        drop(ends);
        assert!(ballast.log_with(&["ejected"]).is_empty(), "{who}");
    }
}

#[test]
fn a_stopping_process_waits_for_its_tunnels() {
    let secure = Secure::new();
    let backend = Backend::start_new("a");
    backend.set(echo());
    let mut ballast = Setup::of(&[&backend])
        .top(&secure.listeners())
        .top("server: { grace_period: 50s }")
        .start();
    let mut client = secure.connect(ballast.address());
    let mut socket = open(&mut client);
    ballast.signal(Signal::SIGTERM);
    wait_until(SOON, "the process no longer listens", || {
        Client::try_connect(ballast.address()).is_err()
    });
    echoes(&mut socket, "still here");
    drop(socket);
    assert_eq!(ballast.wait_exit(SOON).code(), Some(0));
}

#[test]
fn what_clients_send_ahead_stops_no_other_stream() {
    let backend = Backend::start_new("a");
    backend.set(Reply::Hang);
    let secure = Secure::new();
    let ballast = Setup::of(&[&backend]).top(&secure.listeners()).start();
    let mut client = secure.connect(ballast.address());
    client.wait_for_extended_connect();
    let waiting = Vec::from_iter((0..6).map(|_| {
        let opened = client.open(connect("websocket", "/"), false);
        let (response, mut stream) = opened.expect("a stream");
        stream
            .send_data(vec![0; 65_535].into(), false)
            .expect("sent");
        (response, stream)
    }));
    wait_until(SOON, "the host is asked", || backend.requests() == 6);
    backend.set(Reply::ok());
    let response = client.post("/", &[b'x'; 300_000]).expect("a response");
    assert_eq!(response.status, 200);
    drop(waiting);
    wait_until(SOON, "the host is released", || {
        backend.open_connections() <= 1
    });
}
