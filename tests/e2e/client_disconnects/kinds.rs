//! Clients that disconnect in each of the possible ways.

use std::any::Any;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};
use socket2::SockRef;

use crate::support::SOON;
use crate::support::http2::{END_HEADERS, HEADERS, RST_STREAM, RawHttp2, Secure, fields, frame};

/// How a client disconnects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Disconnect {
    /// The client ends its sending side and continues to read.
    Fin,
    /// The client closes its socket.
    Close,
    /// The client resets the connection.
    Reset,
    /// The client sends a TLS close_notify and continues to read.
    TlsNotify,
    /// The client ends its sending side without a TLS close_notify.
    TlsFin,
    /// The client resets the connection under TLS.
    TlsReset,
    /// The client resets its HTTP/2 stream.
    StreamReset,
    /// The client closes its HTTP/2 connection.
    Http2Close,
}

pub(super) const PLAIN: [Disconnect; 3] = [Disconnect::Fin, Disconnect::Close, Disconnect::Reset];
pub(super) const TLS: [Disconnect; 3] = [
    Disconnect::TlsNotify,
    Disconnect::TlsFin,
    Disconnect::TlsReset,
];
pub(super) const HTTP2: [Disconnect; 2] = [Disconnect::StreamReset, Disconnect::Http2Close];
pub(super) const KINDS: [Disconnect; 8] = [
    Disconnect::Fin,
    Disconnect::Close,
    Disconnect::Reset,
    Disconnect::TlsNotify,
    Disconnect::TlsFin,
    Disconnect::TlsReset,
    Disconnect::StreamReset,
    Disconnect::Http2Close,
];

/// A client that is about to disconnect.
pub(super) struct DisconnectingClient {
    kind: Disconnect,
    wire: Wire,
}

enum Wire {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
    Http2(RawHttp2),
}

impl DisconnectingClient {
    pub(super) fn connect(address: SocketAddr, secure: Option<&Secure>, kind: Disconnect) -> Self {
        let connect = || {
            let socket = TcpStream::connect(address).expect("the listener accepts");
            socket
                .set_read_timeout(Some(SOON))
                .expect("the timeout is not zero");
            socket
        };
        let wire = match (kind, secure) {
            (Disconnect::StreamReset | Disconnect::Http2Close, Some(secure)) => {
                Wire::Http2(secure.raw(address, &[]))
            }
            (_, Some(secure)) => {
                let name = ServerName::try_from("test").expect("a name");
                let config = secure.offering(&["http/1.1"]);
                let session = ClientConnection::new(config, name).expect("a session");
                Wire::Tls(Box::new(StreamOwned::new(session, connect())))
            }
            (_, None) => Wire::Plain(connect()),
        };
        DisconnectingClient { kind, wire }
    }

    pub(super) fn get(&mut self) {
        match &mut self.wire {
            Wire::Http2(raw) => raw.get(1, &[]),
            _ => self.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n"),
        }
    }

    /// Begins a request whose body never ends.
    pub(super) fn begin_upload(&mut self) {
        match &mut self.wire {
            Wire::Http2(raw) => {
                let mut fields = fields(&[]);
                // :method POST
                fields[0] = 0x83;
                let mut bytes = frame(HEADERS, END_HEADERS, 1, &fields);
                bytes.extend(frame(0, 0, 1, b"begun"));
                raw.send(&bytes).expect("sent");
            }
            _ => self.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 1000000\r\n\r\nbegun"),
        }
    }

    pub(super) fn send(&mut self, bytes: &str) {
        let sent = match &mut self.wire {
            Wire::Plain(socket) => socket.write_all(bytes.as_bytes()),
            Wire::Tls(stream) => stream.write_all(bytes.as_bytes()),
            Wire::Http2(raw) => raw.send(bytes.as_bytes()),
        };
        sent.expect("the listener reads");
    }

    /// The status of the response, once its head has begun to arrive.
    pub(super) fn status(&mut self) -> Option<u16> {
        self.status_within(SOON)
    }

    pub(super) fn status_within(&mut self, time: Duration) -> Option<u16> {
        let mut start = [0; 12];
        let deadline = Instant::now() + time;
        let socket = match &mut self.wire {
            Wire::Http2(raw) => {
                let head = raw.find(HEADERS, time)?;
                return Some(match head.payload.first() {
                    // An entry of the static table.
                    Some(0x88) => 200,
                    _ => 503,
                });
            }
            Wire::Plain(socket) => &*socket,
            Wire::Tls(stream) => &stream.sock,
        };
        socket
            .set_read_timeout(Some(time))
            .expect("the timeout is not zero");
        let read = match &mut self.wire {
            Wire::Plain(socket) => socket.read_exact(&mut start),
            Wire::Tls(stream) => stream.read_exact(&mut start),
            Wire::Http2(_) => return None,
        };
        let text = std::str::from_utf8(&start[9..]).ok()?;
        assert!(read.is_err() || Instant::now() < deadline + SOON);
        read.ok().and(text.parse().ok())
    }

    /// Waits for a successful response.
    #[track_caller]
    pub(super) fn expect_ok(&mut self) {
        assert_eq!(self.status(), Some(200));
    }

    /// Disconnects. Returns what the client still holds open.
    pub(super) fn disconnect(self) -> Box<dyn Any> {
        match (self.wire, self.kind) {
            (Wire::Plain(socket), Disconnect::Fin) => {
                socket
                    .shutdown(Shutdown::Write)
                    .expect("the connection is open");
                Box::new(socket)
            }
            (Wire::Plain(socket), Disconnect::Reset) => reset(&socket),
            (Wire::Tls(mut stream), Disconnect::TlsNotify) => {
                stream.conn.send_close_notify();
                let _ = stream.conn.write_tls(&mut stream.sock);
                Box::new(stream)
            }
            (Wire::Tls(stream), Disconnect::TlsFin) => {
                stream
                    .sock
                    .shutdown(Shutdown::Write)
                    .expect("the connection is open");
                Box::new(stream)
            }
            (Wire::Tls(stream), Disconnect::TlsReset) => reset(&stream.sock),
            (Wire::Http2(mut raw), Disconnect::StreamReset) => {
                // CANCEL
                let cancel = frame(RST_STREAM, 0, 1, &[0, 0, 0, 8]);
                raw.send(&cancel).expect("sent");
                Box::new(raw)
            }
            (wire, _) => {
                drop(wire);
                Box::new(())
            }
        }
    }
}

/// The reset is sent when the socket is dropped.
fn reset(socket: &TcpStream) -> Box<dyn Any> {
    SockRef::from(socket)
        .set_linger(Some(Duration::ZERO))
        .expect("the connection is open");
    Box::new(())
}
