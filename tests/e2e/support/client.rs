//! A blocking HTTP/1.1 client that shows what a library hides: pieces, aborts, half-closes, and which connection was
//! used.

use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use socket2::{Domain, SockRef, Socket, Type};

use super::wait::SOON;
use super::wire::{Framing, Head, Stream, Wire};

/// The longest time for a single read or write of a test.
const PATIENCE: Duration = Duration::from_secs(50);

/// A complete response.
#[derive(Debug, Clone)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) head: Head,
    pub(crate) body: Vec<u8>,
}

impl Response {
    /// The name of the [`Backend`](super::Backend) that responded; empty if the proxy did.
    pub(crate) fn backend(&self) -> &str {
        self.head.get("x-backend").unwrap_or_default()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A client's connection.
pub(crate) struct Client {
    wire: Wire,
    socket: TcpStream,
    /// The address for a reconnect, if the client can reconnect.
    origin: Option<(IpAddr, SocketAddr)>,
    /// Whether the last response said that the connection ends.
    ends: bool,
}

impl Client {
    #[track_caller]
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Client::try_connect(address).expect("the listener accepts connections")
    }

    pub(crate) fn try_connect(address: SocketAddr) -> io::Result<Self> {
        Client::from_ip(Ipv4Addr::LOCALHOST.into(), address)
    }

    /// Connects from a chosen source address, such as 127.0.0.7.
    pub(crate) fn from_ip(source: IpAddr, address: SocketAddr) -> io::Result<Self> {
        let socket = connect(source, address)?;
        let mut client = Client::over(socket.try_clone()?, socket);
        client.origin = Some((source, address));
        Ok(client)
    }

    /// A connection on which something has been sent already.
    pub(crate) fn of(socket: TcpStream) -> Self {
        let stream = socket.try_clone().expect("a socket");
        Client::over(stream, socket)
    }

    /// Connects to a Unix socket.
    pub(crate) fn try_unix(path: &Path) -> io::Result<Self> {
        let socket = UnixStream::connect(path)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        // A TCP stream reads, writes and shuts down by the same system calls.
        Ok(Client::of(TcpStream::from(OwnedFd::from(socket))))
    }

    /// Connects with TLS, asking for `name`. The handshake happens with the first bytes.
    pub(crate) fn tls(
        address: SocketAddr,
        name: &str,
        config: Arc<rustls::ClientConfig>,
    ) -> io::Result<Self> {
        Client::tls_after(b"", address, name, config)
    }

    /// The same, with bytes before the handshake.
    pub(crate) fn tls_after(
        first: &[u8],
        address: SocketAddr,
        name: &str,
        config: Arc<rustls::ClientConfig>,
    ) -> io::Result<Self> {
        let mut socket = connect(Ipv4Addr::LOCALHOST.into(), address)?;
        socket.write_all(first)?;
        let name = ServerName::try_from(name.to_owned()).expect("tests use valid names");
        let session = rustls::ClientConnection::new(config, name).map_err(io::Error::other)?;
        let stream = rustls::StreamOwned::new(session, socket.try_clone()?);
        Ok(Client::over(stream, socket))
    }

    /// The address from which it has connected.
    pub(crate) fn local_address(&self) -> SocketAddr {
        self.socket.local_addr().expect("the socket is open")
    }

    fn over(stream: impl Stream + 'static, socket: TcpStream) -> Self {
        Client {
            wire: Wire::new(stream),
            socket,
            origin: None,
            ends: false,
        }
    }

    /// Reconnects if the last response ended the connection, as every client does for its next request.
    fn reconnect_if_closed(&mut self) {
        if let (true, Some((source, address))) = (self.ends, self.origin) {
            *self = Client::from_ip(source, address).expect("the listener accepts connections");
        }
    }

    /// GET without further fields; panics if no complete response comes.
    #[track_caller]
    pub(crate) fn get(&mut self, path: &str) -> Response {
        self.get_with(path, "")
    }

    /// GET with further fields, each ended by CR LF.
    #[track_caller]
    pub(crate) fn get_with(&mut self, path: &str, fields: &str) -> Response {
        self.reconnect_if_closed();
        self.request(format!("GET {path} HTTP/1.1\r\nHost: test\r\n{fields}\r\n"))
            .expect("a complete response")
    }

    /// POST of a body of known length.
    #[track_caller]
    pub(crate) fn post(&mut self, path: &str, body: &[u8]) -> Response {
        self.reconnect_if_closed();
        self.try_post(path, body).expect("a complete response")
    }

    pub(crate) fn try_post(&mut self, path: &str, body: &[u8]) -> io::Result<Response> {
        let mut request = format!(
            "POST {path} HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n",
            body.len()
        )
        .into_bytes();
        request.extend_from_slice(body);
        self.request(request)
    }

    /// Sends a request unchanged and reads its response.
    pub(crate) fn request(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<Response> {
        let bytes = bytes.as_ref();
        self.wire.send(bytes)?;
        self.read_response(bytes.starts_with(b"HEAD "))
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.wire.send(bytes)
    }

    pub(crate) fn send_chunk(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.wire.send_chunk(bytes)
    }

    /// The next final response; interim ones (1xx other than 101) are skipped.
    pub(crate) fn read_response(&mut self, to_head: bool) -> io::Result<Response> {
        let (status, head) = self.read_head()?;
        let framing = match status {
            101 | 204 | 304 => Framing::Length(0),
            _ if to_head => Framing::Length(0),
            _ => head.framing().unwrap_or(Framing::UntilClose),
        };
        let body = self.wire.read_body(framing)?;
        self.ends = head.has_token("connection", "close");
        Ok(Response { status, head, body })
    }

    /// The head of the next final response; the caller reads its body from [`wire`](Self::wire).
    pub(crate) fn read_head(&mut self) -> io::Result<(u16, Head)> {
        loop {
            let head = self.wire.read_head()?.ok_or_else(|| {
                io::Error::new(io::ErrorKind::UnexpectedEof, "closed without a response")
            })?;
            let status: u16 = head.word(1).parse().map_err(io::Error::other)?;
            if status == 101 || status >= 200 {
                return Ok((status, head));
            }
        }
    }

    pub(crate) fn wire(&mut self) -> &mut Wire {
        &mut self.wire
    }

    /// Ends the sending side and continues to read.
    pub(crate) fn finish_sending(&self) {
        self.socket
            .shutdown(Shutdown::Write)
            .expect("the socket is open");
    }

    /// Resets the connection.
    pub(crate) fn abort(self) {
        // Without this option the close would be orderly.
        SockRef::from(&self.socket)
            .set_linger(Some(Duration::ZERO))
            .expect("the socket is open");
    }

    /// Whether the other side ends the connection within `time` without sending any more bytes.
    pub(crate) fn is_closed_within(&mut self, time: Duration) -> bool {
        self.set_read_timeout(time);
        let closed = match self.wire.read_some(1) {
            Ok(bytes) => bytes.is_empty(),
            Err(error) => !matches!(
                error.kind(),
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
            ),
        };
        self.set_read_timeout(PATIENCE);
        closed
    }

    /// Sets the timeout of reads.
    pub(crate) fn set_read_timeout(&self, time: Duration) {
        self.socket
            .set_read_timeout(Some(time))
            .expect("the timeout is not zero");
    }
}

/// GET on a new connection.
#[track_caller]
pub(crate) fn get(address: SocketAddr, path: &str) -> Response {
    Client::connect(address).get(path)
}

fn connect(source: IpAddr, address: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if source != IpAddr::V4(Ipv4Addr::LOCALHOST) {
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    socket.connect_timeout(&address.into(), SOON)?;
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}
