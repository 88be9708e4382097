//! WebSocket connections pass, and stay open as long as one side sends.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use tungstenite::handshake::derive_accept_key;
use tungstenite::protocol::Role;
use tungstenite::{Message, WebSocket};

use crate::support::{
    Authority, Backend, Client, DeadHost, Head, Next, Reply, SOON, Setup, Wire, get, wait_until,
};

#[test]
fn messages_pass_both_ways() {
    let backend = Backend::start_new("a");
    backend.set(echo());
    let ballast = Setup::of(&[&backend]).start();
    let mut socket = open(ballast.address());
    for length in [0, 1, 200, 70_000, 1_000_000] {
        let text = "x".repeat(length);
        socket.send(Message::text(text.clone())).expect("sent");
        let echoed = socket.read().expect("echoed");
        assert!(echoed == Message::text(text), "{length} bytes");
    }
    let seen = backend.last().head;
    assert_eq!(seen.start, "GET /chat HTTP/1.1");
    assert!(seen.has_token("upgrade", "websocket"));
    assert_eq!(seen.all("x-forwarded-for"), ["127.0.0.1"]);
    socket.close(None).expect("sent");
    while socket.read().is_ok() {}
    wait_until(SOON, "the host's side ends too", || {
        backend.open_connections() == 0
    });
    backend.set(Reply::ok());
    assert_eq!(get(ballast.address(), "/").status, 200);
}

#[test]
fn a_host_that_responds_within_microseconds_gets_its_tunnel() {
    // Pingora alone ends one in fifty of these tunnels at once (cloudflare/pingora#946).
    let backend = Backend::start_new("a");
    backend.set(echo());
    let ballast = Setup::of(&[&backend]).start();
    for number in 0..200 {
        let mut socket = open(ballast.address());
        let text = Message::text(number.to_string());
        socket.send(text.clone()).expect("sent");
        let echoed = socket.read();
        assert!(
            echoed.as_ref().is_ok_and(|echoed| *echoed == text),
            "tunnel {number}: {echoed:?}"
        );
    }
}

#[test]
fn a_tunnel_goes_to_another_host_when_the_first_cannot_be_reached() {
    let backend = Backend::start_new("a");
    backend.set(echo());
    let ballast = Setup::of(&[&backend])
        .host(DeadHost::new().address())
        .start();
    for _ in 0..4 {
        let mut socket = open(ballast.address());
        socket.send(Message::text("x")).expect("sent");
        assert_eq!(socket.read().expect("echoed"), Message::text("x"));
    }
}

#[test]
fn tunnels_reach_tls_hosts() {
    let authority = Authority::new("any");
    let backend = Backend::start_tls("a", authority.issue(&["app.test"]).server());
    backend.set(echo());
    let ballast = Setup::of(&[&backend])
        .pool("tls: { verify: false }")
        .start();
    for _ in 0..20 {
        let mut socket = open(ballast.address());
        let text = Message::text("x".repeat(100_000));
        socket.send(text.clone()).expect("sent");
        assert!(socket.read().is_ok_and(|echoed| echoed == text));
    }
}

#[test]
fn a_refused_upgrade_is_an_ordinary_response() {
    let backend = Backend::start_new("a");
    backend.set(Reply::status(403));
    let ballast = Setup::of(&[&backend]).start();
    let mut client = Client::connect(ballast.address());
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    for _ in 0..20 {
        assert_eq!(client.get_with("/chat", upgrade).status, 403);
        assert_eq!(client.get("/").status, 403);
    }
}

#[test]
fn a_tunnel_stays_open_while_one_side_sends() {
    let backend = Backend::start_new("a");
    let ballast = Setup::of(&[&backend])
        .top("timeouts: { tunnel: 3s, read: 2s, client_keepalive: 2s }")
        .start();

    // Only the host sends.
    backend.set(upgraded(|socket| {
        for _ in 0..15 {
            socket
                .send(Message::text("tick"))
                .map_err(io::Error::other)?;
            std::thread::sleep(Duration::from_millis(300));
        }
        // The host is silent until the other side closes.
        while socket.read().is_ok() {}
        Ok(())
    }));
    let mut socket = open(ballast.address());
    for tick in 0..15 {
        assert_eq!(
            socket
                .read()
                .unwrap_or_else(|error| panic!("tick {tick}: {error}")),
            Message::text("tick")
        );
    }
    let silent_since = Instant::now();
    socket.read().expect_err("both are silent");
    let lasted = silent_since.elapsed();
    assert!(lasted > Duration::from_secs(2), "{lasted:?}");
    assert!(lasted < SOON, "{lasted:?}");

    // Only the client sends.
    backend.set(upgraded(|socket| {
        for _ in 0..15 {
            socket.read().map_err(io::Error::other)?;
        }
        socket.send(Message::text("all")).map_err(io::Error::other)
    }));
    let mut socket = open(ballast.address());
    for tock in 0..15 {
        socket
            .send(Message::text("tock"))
            .unwrap_or_else(|error| panic!("tock {tock}: {error}"));
        std::thread::sleep(Duration::from_millis(300));
    }
    assert_eq!(socket.read().expect("counted"), Message::text("all"));
}

#[test]
fn request_timeouts_do_not_apply_to_tunnels() {
    let backend = Backend::start_new("a");
    backend.set(echo());
    let ballast = Setup::of(&[&backend])
        .top("timeouts: { read: 1s, write: 1s, idle: 1s, client_keepalive: 1s }")
        .start();
    let mut socket = open(ballast.address());
    std::thread::sleep(Duration::from_secs(4));
    socket.send(Message::text("still here")).expect("sent");
    assert_eq!(socket.read().expect("echoed"), Message::text("still here"));
}

#[test]
fn a_closed_tunnel_is_no_longer_counted() {
    let backend = Backend::start_new("a");
    backend.set(echo());
    let ballast = Setup::of(&[&backend])
        .top("limits: { max_in_flight: 1 }")
        .start();
    for _ in 0..3 {
        let mut socket = open(ballast.address());
        socket.send(Message::text("x")).expect("sent");
        socket.read().expect("echoed");
        assert_eq!(get(ballast.address(), "/").status, 503, "a tunnel counts");
        drop(socket);
        backend.set(Reply::ok());
        wait_until(SOON, "the slot is free", || {
            get(ballast.address(), "/").status == 200
        });
        backend.set(echo());
    }
}

/// Opens a WebSocket through the proxy.
pub(crate) fn open(address: SocketAddr) -> WebSocket<TcpStream> {
    let stream = TcpStream::connect(address).expect("the listener accepts connections");
    stream
        .set_read_timeout(Some(SOON))
        .expect("the timeout is not zero");
    let (socket, response) =
        tungstenite::client(format!("ws://{address}/chat"), stream).expect("upgraded");
    assert_eq!(response.status(), 101);
    socket
}

pub(crate) fn echo() -> Reply {
    upgraded(|socket| {
        while let Ok(message) = socket.read() {
            if message.is_text() {
                socket.send(message).map_err(io::Error::other)?;
            }
        }
        Ok(())
    })
}

/// A host that agrees to the upgrade and then runs `talk`.
fn upgraded(
    talk: impl Fn(&mut WebSocket<&mut Wire>) -> io::Result<()> + Send + Sync + 'static,
) -> Reply {
    Reply::script(move |head: &Head, wire: &mut Wire| {
        let key = head.get("sec-websocket-key").unwrap_or_default();
        wire.send(format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Accept: {}\r\n\r\n",
            derive_accept_key(key.as_bytes())
        ))?;
        let mut socket = WebSocket::from_raw_socket(wire, Role::Server, None);
        talk(&mut socket)?;
        Ok(Next::Close)
    })
}

/// Requests with an `Upgrade` field that do not ask for a WebSocket.
const INVALID_UPGRADES: [&str; 7] = [
    "GET / HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: keep-alive\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: test\r\nUpgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: test\r\nUpgrade: TLS/1.0, websocket\r\nConnection: upgrade\r\n\r\n",
    "GET / HTTP/1.0\r\nHost: test\r\nUpgrade: websocket\r\nConnection: upgrade, keep-alive\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nContent-Length: 2\r\n\r\nhi",
    "HEAD / HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
];

#[test]
fn an_invalid_upgrade_is_an_ordinary_request() {
    let backend = Backend::start_new("a");
    let ballast = Setup::of(&[&backend])
        .top("timeouts: { read: 1s }")
        .pool("retries: none")
        .pool("ejection: none")
        .start();
    let ask = |request: &str| {
        let mut client = Client::connect(ballast.address());
        client.request(request).expect("a complete response").status
    };
    for _ in 0..5 {
        for request in INVALID_UPGRADES {
            assert_eq!(ask(request), 200, "{request}");
            let seen = backend.last().head;
            assert_eq!(seen.get("upgrade"), None, "{request}");
        }
    }
    // The requests share connections to the host. One may not be free again when the next request comes.
    assert!(backend.connections() <= 5, "{}", backend.connections());
    backend.set(Reply::Hang);
    for request in INVALID_UPGRADES {
        let start = Instant::now();
        assert_eq!(ask(request), 504, "{request}");
        assert!(start.elapsed() < SOON, "{request}");
    }
    // A host that switches nevertheless has made a mistake.
    backend.set(echo());
    for request in INVALID_UPGRADES {
        assert_eq!(ask(request), 502, "{request}");
    }
}

#[test]
fn request_deadlines_apply_after_a_refused_upgrade() {
    let backend = Backend::start_new("a");
    let ballast = Setup::of(&[&backend])
        .top("timeouts: { read: 2s }")
        .pool("ejection: none")
        .start();
    let upgrade = "GET / HTTP/1.1\r\nHost: test\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n\r\n";
    let send_upgrade = || {
        let mut client = Client::connect(ballast.address());
        client.send(upgrade).expect("sent");
        client.read_head().expect("a head");
        client
    };
    for framing in [
        "Content-Length: 100",
        "Transfer-Encoding: chunked",
        "X: until close",
    ] {
        backend.set(Reply::script(move |_, wire| {
            wire.send(format!(
                "HTTP/1.1 200 OK\r\n{framing}\r\n\r\n5\r\nbegun\r\n"
            ))?;
            while !wire.read_some(1_024)?.is_empty() {}
            Ok(Next::Close)
        }));
        let mut client = send_upgrade();
        let start = Instant::now();
        while client
            .wire()
            .read_some(1_024)
            .is_ok_and(|bytes| !bytes.is_empty())
        {}
        assert!(start.elapsed() < SOON, "{framing}");
        wait_until(SOON, "the host is released", || {
            backend.open_connections() == 0
        });
    }
    // The process does not cut a response that continues.
    backend.set(Reply::script(|_, wire| {
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n")?;
        for _ in 0..10 {
            std::thread::sleep(Duration::from_millis(300));
            wire.send("x")?;
        }
        Ok(Next::Keep)
    }));
    let mut client = Client::connect(ballast.address());
    let response = client.request(upgrade).expect("a complete response");
    assert_eq!(
        (response.status, response.text().as_str()),
        (200, "xxxxxxxxxx")
    );
    backend.set(Reply::ok());
    assert_eq!(client.get("/").status, 200);
}
