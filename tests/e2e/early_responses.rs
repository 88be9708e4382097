//! Responses that come during an upload. Each one reaches the client, whatever the host does to its connection.
//!
//! The engine promises this. With `http1: pingora` an upload may still be cut before its response was read.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};

use crate::support::{
    Authority, Backend, Ballast, Client, LISTEN, Next, Reply, SOON, Setup, file, finish, peer,
    wait_until,
};

/// Number of uploads of each kind.
const TRIES: usize = 56;

/// Number of clients that upload at the same time.
const AT_ONCE: usize = 8;

/// Number of bytes in the body of each upload.
const BODY: usize = 20 << 20;

/// How many bytes of a body the host reads before it responds, in turn.
const READ: [usize; 4] = [0, 1, 100_000, 3_000_000];

const NAME: &str = "up.test";

/// The host's response. Its body shows that the response is whole.
const RESPONSE: &str = "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic\r\nConnection: close\r\n\
    Content-Length: 6\r\n\r\nno way";

/// A host that responds with 401 before it has read the whole body, and closes. The kernel then resets the
/// connection, because there are unread bytes.
fn refuse_uploads(backend: &Backend) {
    let turn = AtomicUsize::new(0);
    backend.set(Reply::script(move |_, wire| {
        let mut left = READ[turn.fetch_add(1, Ordering::Relaxed) % READ.len()];
        while left > 0 {
            let bytes = wire.read_some(left)?;
            if bytes.is_empty() {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            left -= bytes.len();
        }
        wire.send(RESPONSE)?;
        Ok(Next::Close)
    }));
}

fn refusing() -> Backend {
    let backend = Backend::start_new("a");
    refuse_uploads(&backend);
    backend
}

fn setup(backend: &Backend) -> Setup {
    Setup::of(&[backend]).top("server: { http1: engine }")
}

/// An upload with head and body.
fn request(chunked: bool) -> Vec<u8> {
    let framing = match chunked {
        true => "Transfer-Encoding: chunked".to_owned(),
        false => format!("Content-Length: {BODY}"),
    };
    let mut request = format!("POST / HTTP/1.1\r\nHost: {NAME}\r\n{framing}\r\n\r\n").into_bytes();
    let piece = [b'x'; 64 << 10];
    for _ in 0..BODY / piece.len() {
        if chunked {
            request.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        }
        request.extend_from_slice(&piece);
        if chunked {
            request.extend_from_slice(b"\r\n");
        }
    }
    if chunked {
        request.extend_from_slice(b"0\r\n\r\n");
    }
    request
}

/// Starts a process with a TLS listener.
fn secure(setup: Setup, authority: &Authority, folder: &Path) -> Ballast {
    let (certificate, key) = authority.issue(&[NAME]).write(folder, "up");
    let tls = format!(
        "{{ certificates: [{{ certificate: \"{}\", key: \"{}\" }}] }}",
        certificate.display(),
        key.display()
    );
    let listener = format!("listeners: [{{ address: \"{LISTEN}\", tls: {tls} }}]");
    setup.top(&listener).start()
}

/// A client that sends its body until the response has arrived, and reads whenever bytes are available.
struct Uploader {
    socket: TcpStream,
    tls: Option<ClientConnection>,
    response: Vec<u8>,
    /// Number of bytes of the request that the client has sent.
    sent: usize,
}

impl Uploader {
    fn connect(address: SocketAddr, tls: Option<Arc<ClientConfig>>) -> io::Result<Self> {
        let socket = TcpStream::connect(address)?;
        socket.set_nonblocking(true)?;
        let name = ServerName::try_from(NAME).map_err(io::Error::other)?;
        let tls = tls.map(|config| ClientConnection::new(config, name));
        Ok(Uploader {
            socket,
            tls: tls.transpose().map_err(io::Error::other)?,
            response: Vec::new(),
            sent: 0,
        })
    }

    /// Sends `request` until the response is whole. A write error counts as a failure: many clients give up then.
    fn upload(&mut self, request: &[u8]) -> io::Result<()> {
        let begin = Instant::now();
        while !self.response.ends_with(b"no way") {
            if let Err(error) = self.receive()
                && error.kind() != ErrorKind::WouldBlock
            {
                return Err(self.upload_error("reading", &error));
            }
            if begin.elapsed() > SOON {
                return Err(self.upload_error("waiting", &ErrorKind::TimedOut.into()));
            }
            let end = request.len().min(self.sent + (16 << 10));
            match self.send(&request[self.sent..end]) {
                Ok(count) if count > 0 => self.sent += count,
                Err(error) if error.kind() != ErrorKind::WouldBlock => {
                    return Err(self.upload_error("writing", &error));
                }
                // The proxy is slower than the client.
                _ => thread::sleep(Duration::from_micros(200)),
            }
        }
        match self.response.starts_with(b"HTTP/1.1 401 ") {
            true => Ok(()),
            false => Err(self.upload_error(
                "a response other than the 401",
                &ErrorKind::InvalidData.into(),
            )),
        }
    }

    fn upload_error(&self, what: &str, error: &io::Error) -> io::Error {
        let response = String::from_utf8_lossy(&self.response);
        let sent = self.sent;
        io::Error::other(format!(
            "{what} after {sent} bytes: {error}; got `{response}`"
        ))
    }

    fn receive(&mut self) -> io::Result<()> {
        let mut bytes = [0; 16 << 10];
        let count = match &mut self.tls {
            None => self.socket.read(&mut bytes)?,
            Some(tls) => {
                tls.read_tls(&mut self.socket)?;
                tls.process_new_packets().map_err(io::Error::other)?;
                tls.reader().read(&mut bytes)?
            }
        };
        match count {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            _ => {
                self.response.extend_from_slice(&bytes[..count]);
                Ok(())
            }
        }
    }

    /// Writes as much of `bytes` as the socket accepts.
    fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else {
            return match bytes {
                [] => Ok(0),
                bytes => self.socket.write(bytes),
            };
        };
        while tls.wants_write() {
            tls.write_tls(&mut self.socket)?;
        }
        match tls.is_handshaking() {
            true => Ok(0),
            false => tls.writer().write(bytes),
        }
    }
}

/// Asserts that every upload gets the response. Returns the mean number of bytes that a client had sent by then.
fn assert_all_get_the_response(
    address: SocketAddr,
    tls: Option<&Arc<ClientConfig>>,
    chunked: bool,
) -> usize {
    let request = request(chunked);
    let upload = || {
        let mut uploader = Uploader::connect(address, tls.cloned())?;
        uploader.upload(&request)?;
        Ok(uploader.sent)
    };
    let outcomes = thread::scope(|scope| {
        let many = || Vec::from_iter((0..TRIES / AT_ONCE).map(|_| upload()));
        let clients = Vec::from_iter((0..AT_ONCE).map(|_| scope.spawn(many)));
        let outcomes = clients
            .into_iter()
            .map(|client| client.join().expect("no panic"));
        Vec::from_iter(outcomes.flatten())
    });
    assert_eq!(outcomes.len(), TRIES);
    let failed =
        Vec::from_iter(outcomes.iter().filter_map(|outcome: &io::Result<usize>| {
            outcome.as_ref().err().map(ToString::to_string)
        }));
    let count = failed.len();
    assert!(
        count == 0,
        "{count} of {TRIES}, chunked {chunked}: {failed:#?}"
    );
    outcomes.iter().flatten().sum::<usize>() / TRIES
}

#[test]
fn each_of_56_uploads_of_20_mb_gets_the_401_over_tcp() {
    let backend = refusing();
    let ballast = setup(&backend).start();
    for chunked in [false, true] {
        let sent = assert_all_get_the_response(ballast.address(), None, chunked);
        println!("chunked {chunked}: {sent} bytes were sent each");
    }
    assert_eq!(backend.requests(), 2 * TRIES as u64);
}

#[test]
fn each_of_56_uploads_of_20_mb_gets_the_401_over_tls() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let authority = Authority::new("early");
    let backend = refusing();
    let ballast = secure(setup(&backend), &authority, folder.path());
    for chunked in [false, true] {
        let sent =
            assert_all_get_the_response(ballast.address(), Some(&authority.client()), chunked);
        println!("chunked {chunked}: {sent} bytes were sent each");
    }
    assert_eq!(backend.requests(), 2 * TRIES as u64);
}

#[test]
fn each_of_56_uploads_of_20_mb_gets_the_401_of_a_tls_host() {
    let authority = Authority::new("the host's");
    let backend = Backend::start_tls("a", authority.issue(&[NAME]).server());
    refuse_uploads(&backend);
    let ballast = setup(&backend).pool("tls: { verify: false }").start();
    for chunked in [false, true] {
        let sent = assert_all_get_the_response(ballast.address(), None, chunked);
        println!("chunked {chunked}: {sent} bytes were sent each");
    }
    assert_eq!(backend.requests(), 2 * TRIES as u64);
}

/// The host responds and resets while the last bytes of the body are on their way to it. The proxy has read these
/// bytes and never sends them.
#[test]
fn the_rest_of_a_body_is_not_parsed_as_a_request() {
    const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: up.test\r\n\r\n";
    for close in [Next::Reset, Next::Close] {
        let backend = Backend::start_new("a");
        let ballast = setup(&backend).start();
        let (release, released) = mpsc::channel::<()>();
        let released = Mutex::new(released);
        backend.set(Reply::script(move |head, wire| {
            if head.word(0) == "POST" {
                let waited = released.lock().map(|released| released.recv_timeout(SOON));
                assert!(matches!(waited, Ok(Ok(()))), "the body was never sent");
                wire.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")?;
                return Ok(close);
            }
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnext")?;
            Ok(Next::Keep)
        }));
        let mut client = Client::connect(ballast.address());
        let length = SMUGGLED.len();
        let head = format!("POST / HTTP/1.1\r\nHost: {NAME}\r\nContent-Length: {length}\r\n\r\n");
        client.send(head).expect("sent");
        wait_until(SOON, "the host has the head", || backend.requests() == 1);
        // The body, the response and the end of the host's connection are all there when the process continues.
        ballast.signal(Signal::SIGSTOP);
        client.send(SMUGGLED).expect("sent");
        release.send(()).expect("the host waits for it");
        wait_until(SOON, "the host is done", || backend.open_connections() == 0);
        ballast.signal(Signal::SIGCONT);
        let response = client.read_response(false).expect("a complete response");
        assert_eq!(response.status, 200);
        let next = client.get("/next");
        assert_eq!((next.status, next.text()), (200, "next".to_owned()));
        assert_eq!(backend.requests(), 2);
        assert_eq!(backend.last().head.word(1), "/next");
    }
}

#[test]
fn a_client_that_reads_only_after_20_mb_gets_the_401() {
    let backend = refusing();
    let ballast = setup(&backend).start();
    for chunked in [false, true] {
        let request = request(chunked);
        for number in 0..READ.len() {
            let mut client = Client::connect(ballast.address());
            let response = client.request(&request);
            let response = response.unwrap_or_else(|error| panic!("{number}, {chunked}: {error}"));
            assert_eq!(
                (response.status, response.text()),
                (401, "no way".to_owned())
            );
        }
    }
}

#[test]
fn curl_reports_the_401_each_of_56_times() {
    let Some(curl) = peer("curl") else { return };
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let authority = Authority::new("early");
    let trusted = authority.write(folder.path(), "authority.crt");
    let backend = refusing();
    let body = file(folder.path(), "body", &"x".repeat(BODY));
    let ballast = setup(&backend).start();
    let behind_tls = secure(setup(&backend), &authority, folder.path());
    let ask = |number: usize| {
        let (scheme, address) = match number % 2 {
            0 => ("http", ballast.address()),
            _ => ("https", behind_tls.address()),
        };
        let mut command = Command::new(&curl);
        command
            .args(["--silent", "--show-error", "--http1.1", "--output"])
            .arg(folder.path().join(format!("response-{number}")))
            .args([
                "--write-out",
                "%{response_code} %{size_download}",
                "--cacert",
            ])
            .arg(&trusted)
            .args(["--resolve", &format!("{NAME}:{}:127.0.0.1", address.port())]);
        if (number / 2).is_multiple_of(2) {
            command.args(["--header", "Transfer-Encoding: chunked"]);
        }
        // By default curl waits for an interim response before it sends such a large body.
        if !(number / 4).is_multiple_of(4) {
            command.args(["--header", "Expect:"]);
        }
        command
            .arg("--upload-file")
            .arg(&body)
            .arg(format!("{scheme}://{NAME}:{}/", address.port()));
        let done = finish(command);
        (number, done.code, done.stdout, done.stderr)
    };
    thread::scope(|scope| {
        let some = |first: usize| Vec::from_iter((first..TRIES).step_by(AT_ONCE).map(ask));
        let clients = Vec::from_iter((0..AT_ONCE).map(|first| scope.spawn(move || some(first))));
        for client in clients {
            for (number, code, upload_error, error) in client.join().expect("no panic") {
                assert_eq!(
                    (code, &*upload_error),
                    (Some(0), "401 6"),
                    "{number}: {error}"
                );
            }
        }
    });
}

/// A client sends more bytes after a request with `Connection: close`. It still reads the whole response.
fn bytes_after_the_last_request_do_not_cut_its_response(http1: &str) {
    const RESPONSE: usize = 200_000;
    let backend = Backend::start_new("a");
    backend.set(Reply::ok().body(vec![b'x'; RESPONSE]));
    let server = format!("server: {{ http1: {http1} }}");
    let ballast = Setup::of(&[&backend]).top(&server).start();
    let trailing_bytes = format!(
        "GET /next HTTP/1.1\r\nHost: {NAME}\r\nX-A: {}",
        "a".repeat(150_000)
    );
    let request =
        format!("GET / HTTP/1.1\r\nHost: {NAME}\r\nConnection: close\r\n\r\n{trailing_bytes}");
    for number in 0..TRIES {
        let mut client = TcpStream::connect(ballast.address()).expect("connected");
        client.set_read_timeout(Some(SOON)).expect("a socket");
        let mut sending = client.try_clone().expect("a socket");
        let request = request.clone();
        // The connection may be cut while the client sends, but not before the client has the response.
        let sender = thread::spawn(move || sending.write_all(request.as_bytes()));
        let mut response = Vec::new();
        let read = client.read_to_end(&mut response);
        let head = response.windows(4).position(|end| end == b"\r\n\r\n");
        let body = head.map_or(0, |head| response.len() - head - 4);
        assert_eq!(body, RESPONSE, "{number}: {read:?}");
        drop(client);
        let _: io::Result<()> = sender.join().expect("no panic");
    }
    assert_eq!(backend.requests(), TRIES as u64);
}

#[test]
fn with_the_engine_bytes_after_the_last_request_do_not_cut_its_response() {
    bytes_after_the_last_request_do_not_cut_its_response("engine");
}

#[test]
fn with_pingora_bytes_after_the_last_request_do_not_cut_its_response() {
    bytes_after_the_last_request_do_not_cut_its_response("pingora");
}
