//! A host that reads a PROXY header at the beginning of each connection, and says in its responses what it has read.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;

use proxy_header::{ParseConfig, ProxyHeader};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use socket2::SockRef;

use crate::support::{Framing, HEALTH_PATH, Head, Wire, free};

/// What follows the header on a connection.
#[derive(Clone)]
enum Then {
    /// HTTP/1.1. Responses are the number of the connection and what its header says.
    Http1,
    /// The same over TLS.
    Tls(Arc<ServerConfig>),
    /// HTTP/1.1, of which no request gets a response.
    Silence,
    /// What a server at this address answers.
    Relay(SocketAddr),
}

/// A host whose connections begin with a PROXY header. It stops when dropped.
pub(crate) struct ProxiedHost {
    address: SocketAddr,
    listener: TcpListener,
    shared: Arc<Shared>,
}

struct Shared {
    then: Then,
    headers: Mutex<Vec<String>>,
    sockets: Mutex<Vec<TcpStream>>,
    open: AtomicUsize,
}

impl ProxiedHost {
    pub(crate) fn http1() -> Self {
        ProxiedHost::start(Then::Http1)
    }

    pub(crate) fn tls(config: Arc<ServerConfig>) -> Self {
        ProxiedHost::start(Then::Tls(config))
    }

    pub(crate) fn silent() -> Self {
        ProxiedHost::start(Then::Silence)
    }

    pub(crate) fn before(server: SocketAddr) -> Self {
        ProxiedHost::start(Then::Relay(server))
    }

    fn start(then: Then) -> Self {
        let address = free();
        let listener = TcpListener::bind(address).expect("the port is free");
        let shared = Arc::new(Shared {
            then,
            headers: Mutex::default(),
            sockets: Mutex::default(),
            open: AtomicUsize::new(0),
        });
        let accepting = listener.try_clone().expect("a socket can be cloned");
        let accepted = Arc::clone(&shared);
        thread::spawn(move || {
            while let Ok((socket, _)) = accepting.accept() {
                let shared = Arc::clone(&accepted);
                let kept = socket.try_clone().expect("a socket can be cloned");
                lock(&shared.sockets).push(kept);
                shared.open.fetch_add(1, Ordering::SeqCst);
                thread::spawn(move || {
                    let _ = shared.serve(&socket);
                    let _ = socket.shutdown(Shutdown::Both);
                    shared.open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        ProxiedHost {
            address,
            listener,
            shared,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What the headers of all connections have said so far.
    pub(crate) fn headers(&self) -> Vec<String> {
        lock(&self.shared.headers).clone()
    }

    /// Connections that are open now.
    pub(crate) fn open(&self) -> usize {
        self.shared.open.load(Ordering::SeqCst)
    }

    /// Closes all connections.
    pub(crate) fn close_connections(&self) {
        for socket in lock(&self.shared.sockets).drain(..) {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for ProxiedHost {
    fn drop(&mut self) {
        let _ = SockRef::from(&self.listener).shutdown(Shutdown::Both);
        self.close_connections();
    }
}

impl Shared {
    fn serve(&self, socket: &TcpStream) -> io::Result<()> {
        let mut socket = socket.try_clone()?;
        let (header, rest) = read_header(&mut socket)?;
        let told = describe(&header);
        let number = {
            let mut headers = lock(&self.headers);
            headers.push(told.clone());
            headers.len()
        };
        match &self.then {
            Then::Http1 => respond(Wire::new(Prefixed(rest, socket)), number, &told),
            Then::Silence => Wire::new(socket).read_head().map(drop),
            Then::Tls(config) => {
                let session =
                    ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
                respond(Wire::new(StreamOwned::new(session, socket)), number, &told)
            }
            Then::Relay(server) => relay(socket, TcpStream::connect(server)?),
        }
    }
}

/// Answers requests; after an upgrade it returns what comes.
fn respond(mut wire: Wire, number: usize, told: &str) -> io::Result<()> {
    while let Some(head) = wire.read_head()? {
        wire.read_body(head.framing().unwrap_or(Framing::Length(0)))?;
        if head.get("upgrade").is_some() {
            wire.send("HTTP/1.1 101 Fine\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")?;
            let mut bytes = [0; 1_024];
            loop {
                match wire.read(&mut bytes)? {
                    0 => return Ok(()),
                    count => wire.send(&bytes[..count])?,
                }
            }
        }
        let body = format!("{number} {told}");
        let length = body.len();
        wire.send(format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}"
        ))?;
        if ends(&head) {
            return Ok(());
        }
    }
    Ok(())
}

fn ends(head: &Head) -> bool {
    head.word(1) == HEALTH_PATH || head.has_token("connection", "close")
}

fn relay(mut client: TcpStream, mut server: TcpStream) -> io::Result<()> {
    let (mut from, mut to) = (client.try_clone()?, server.try_clone()?);
    let upwards = thread::spawn(move || {
        let _ = io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Both);
    });
    let _ = io::copy(&mut server, &mut client);
    let _ = client.shutdown(Shutdown::Both);
    upwards.join().map_err(|_| io::Error::other("a panic"))
}

/// The header, and the bytes that are none if the connection begins otherwise.
fn read_header(socket: &mut TcpStream) -> io::Result<(Vec<u8>, Vec<u8>)> {
    let mut bytes = vec![0; 6];
    socket.read_exact(&mut bytes)?;
    if bytes == b"PROXY " {
        while !bytes.ends_with(b"\r\n") {
            let mut byte = [0];
            socket.read_exact(&mut byte)?;
            bytes.extend(byte);
        }
    } else if bytes == b"\r\n\r\n\0\r" {
        bytes.resize(16, 0);
        socket.read_exact(&mut bytes[6..])?;
        let length = u16::from_be_bytes([bytes[14], bytes[15]]);
        bytes.resize(16 + usize::from(length), 0);
        socket.read_exact(&mut bytes[16..])?;
    } else {
        return Ok((Vec::new(), bytes));
    }
    Ok((bytes, Vec::new()))
}

/// The content of a header in words.
fn describe(bytes: &[u8]) -> String {
    let version = match bytes.first() {
        None => return "none".to_owned(),
        Some(b'P') => "v1",
        Some(_) => "v2",
    };
    let (header, length) =
        ProxyHeader::parse(bytes, ParseConfig::default()).expect("a valid header");
    assert_eq!(length, bytes.len());
    let Some(address) = header.proxied_address() else {
        assert_eq!(header.tlvs().count(), 0);
        return format!("{version} no client");
    };
    let mut words = format!("{version} {} {}", address.source, address.destination);
    if let Some(alpn) = header.alpn() {
        words += &format!(" alpn={}", String::from_utf8_lossy(alpn));
    }
    if let Some(authority) = header.authority() {
        words += &format!(" authority={authority}");
    }
    if let Some(ssl) = header.ssl() {
        assert!(ssl.client_ssl());
        let [version, cipher] = [ssl.version(), ssl.cipher()].map(Option::unwrap_or_default);
        words += &format!(" {version} {cipher}");
        if ssl.client_cert_conn() && ssl.client_cert_sess() && ssl.verify() == 0 {
            words += &format!(" cn={}", ssl.cn().unwrap_or_default());
        } else {
            assert_ne!(ssl.verify(), 0);
        }
    }
    words
}

/// A socket of which some bytes have been read already.
struct Prefixed(Vec<u8>, TcpStream);

impl Read for Prefixed {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.0.is_empty() {
            return self.1.read(into);
        }
        let count = self.0.len().min(into.len());
        into[..count].copy_from_slice(&self.0[..count]);
        self.0.drain(..count);
        Ok(count)
    }
}

impl Write for Prefixed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.1.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.1.flush()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}
