//! HTTP/2 clients over TLS: one that follows the protocol, and one that sends the frames it is given.

use std::io::ErrorKind::{TimedOut, WouldBlock};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

use super::ballast::LISTEN;
use super::client::Client;
use super::tls::Authority;
use super::wait::wait_until;

/// The longest wait for a single response or frame.
const PATIENCE: Duration = Duration::from_secs(50);

/// A TLS listener for the name `test`, and the authority that clients trust.
pub(crate) struct Secure {
    authority: Authority,
    folder: tempfile::TempDir,
    further: String,
}

impl Secure {
    pub(crate) fn new() -> Self {
        Secure::with("")
    }

    /// The same with further keys of the listener's `tls`, such as `http2: false`.
    pub(crate) fn with(further: &str) -> Self {
        Secure {
            authority: Authority::new("authority"),
            folder: tempfile::tempdir().expect("a temporary folder can be made"),
            further: further.to_owned(),
        }
    }

    /// The line that sets the listener.
    pub(crate) fn listeners(&self) -> String {
        let (chain, key) = self
            .authority
            .issue(&["test", "127.0.0.1"])
            .write(self.folder.path(), "test");
        format!(
            "listeners: [{{ address: \"{LISTEN}\", tls: {{ certificates: [{{ certificate: \"{}\", key: \"{}\" }}], {} }} }}]",
            chain.display(),
            key.display(),
            self.further
        )
    }

    /// The TLS settings of a client that offers these protocols.
    pub(crate) fn offering(&self, protocols: &[&str]) -> Arc<rustls::ClientConfig> {
        let mut config = (*self.authority.client()).clone();
        config.alpn_protocols = protocols
            .iter()
            .map(|protocol| protocol.as_bytes().to_vec())
            .collect();
        Arc::new(config)
    }

    /// The protocol that a listener chooses, if any.
    pub(crate) fn chosen(&self, address: SocketAddr, protocols: &[&str]) -> Option<Vec<u8>> {
        let runtime = runtime();
        let stream = runtime.block_on(connect(address, self.offering(protocols)));
        stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec)
    }

    pub(crate) fn connect(&self, address: SocketAddr) -> Http2 {
        Http2::connect(address, self.offering(&["h2"]))
    }

    /// A connection in the current runtime, with the task that ends with it.
    pub(crate) async fn open(
        &self,
        address: SocketAddr,
    ) -> (SendRequest<Bytes>, JoinHandle<Result<(), h2::Error>>) {
        open(address, self.offering(&["h2"])).await
    }

    /// A connection on which nothing has been sent yet.
    pub(crate) fn silent(&self, address: SocketAddr) -> RawHttp2 {
        let client = Client::tls(address, "test", self.offering(&["h2"])).expect("connected");
        RawHttp2 {
            client,
            received: Vec::new(),
        }
    }

    /// A connection on which the preface and these settings have been sent.
    pub(crate) fn raw(&self, address: SocketAddr, settings: &[(u16, u32)]) -> RawHttp2 {
        let mut raw = self.silent(address);
        raw.begin(settings);
        raw
    }
}

/// One connection, many requests.
pub(crate) struct Http2 {
    runtime: Runtime,
    sender: SendRequest<Bytes>,
    driver: JoinHandle<Result<(), h2::Error>>,
}

/// A complete response.
#[derive(Debug)]
pub(crate) struct Http2Response {
    pub(crate) status: u16,
    pub(crate) fields: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Http2Response {
    pub(crate) fn field(&self, name: &str) -> &str {
        let value = self.fields.get(name).map(|value| value.to_str());
        value.and_then(Result::ok).unwrap_or_default()
    }
}

/// A request for https://test with this path.
pub(crate) fn request(method: &str, path: &str) -> Request<()> {
    let request = Request::builder()
        .method(method)
        .uri(format!("https://test{path}"))
        .version(http::Version::HTTP_2);
    request.body(()).expect("tests send valid requests")
}

impl Http2 {
    /// A connection without TLS, with prior knowledge.
    pub(crate) fn connect_plain(address: SocketAddr) -> Self {
        let runtime = runtime();
        let (sender, driver) = runtime.block_on(async {
            let socket = TcpStream::connect(address).await.expect("accepted");
            socket.set_nodelay(true).expect("a socket");
            let connected = h2::client::handshake(socket).await;
            let (sender, connection) = connected.expect("the preface is sent");
            (sender, tokio::spawn(connection))
        });
        Http2 {
            runtime,
            sender,
            driver,
        }
    }

    /// Connects as this client, which offers HTTP/2.
    pub(crate) fn connect(address: SocketAddr, client: Arc<rustls::ClientConfig>) -> Self {
        let runtime = runtime();
        let (sender, driver) = runtime.block_on(open(address, client));
        Http2 {
            runtime,
            sender,
            driver,
        }
    }

    #[track_caller]
    pub(crate) fn get(&mut self, path: &str) -> Http2Response {
        self.ask(request("GET", path)).expect("a complete response")
    }

    /// Sends a request without a body.
    pub(crate) fn ask(&mut self, request: Request<()>) -> Result<Http2Response, h2::Error> {
        let (response, _) = self.open(request, true)?;
        self.wait_for_response(response)
    }

    /// Sends a request with a body, as fast as the peer takes it.
    pub(crate) fn post(&mut self, path: &str, body: &[u8]) -> Result<Http2Response, h2::Error> {
        let (response, mut stream) = self.open(request("POST", path), false)?;
        let body = Bytes::copy_from_slice(body);
        // The response may come before the end of the body, and end it.
        let upload = self
            .runtime
            .spawn(async move { upload(&mut stream, body).await });
        let response = self.wait_for_response(response);
        upload.abort();
        response
    }

    /// Begins a request.
    pub(crate) fn open(
        &mut self,
        request: Request<()>,
        end: bool,
    ) -> Result<(ResponseFuture, SendStream<Bytes>), h2::Error> {
        let sender = &mut self.sender;
        self.runtime
            .block_on(std::future::poll_fn(|context| sender.poll_ready(context)))?;
        sender.send_request(request, end)
    }

    /// Waits for a complete response.
    pub(crate) fn wait_for_response(
        &self,
        response: ResponseFuture,
    ) -> Result<Http2Response, h2::Error> {
        self.runtime.block_on(async {
            let whole = tokio::time::timeout(PATIENCE, complete_response(response));
            whole.await.expect("a response or an error in time")
        })
    }

    /// Waits for a complete response and its trailers.
    #[track_caller]
    pub(crate) fn with_trailers(
        &self,
        response: ResponseFuture,
    ) -> (Http2Response, Option<HeaderMap>) {
        let whole = self.runtime.block_on(async {
            let whole = async {
                let (head, mut body) = response.await?.into_parts();
                let response = Http2Response {
                    status: head.status.as_u16(),
                    fields: head.headers,
                    body: read(&mut body).await?,
                };
                Ok::<_, h2::Error>((response, body.trailers().await?))
            };
            tokio::time::timeout(PATIENCE, whole).await
        });
        let whole = whole.expect("a response or an error in time");
        whole.expect("a complete response")
    }

    /// Waits for complete responses that come in parallel.
    pub(crate) fn all(
        &self,
        responses: impl IntoIterator<Item = ResponseFuture>,
    ) -> Vec<Result<Http2Response, h2::Error>> {
        let responses = responses.into_iter();
        let tasks: Vec<_> = responses
            .map(|response| self.runtime.spawn(complete_response(response)))
            .collect();
        let joined = tasks.into_iter().map(|task| {
            let joined = self
                .runtime
                .block_on(async { tokio::time::timeout(PATIENCE, task).await });
            let joined = joined.expect("a response or an error in time");
            joined.expect("a client does not panic")
        });
        joined.collect()
    }

    /// Waits until the other side has said that it serves extended CONNECT.
    pub(crate) fn wait_for_extended_connect(&self) {
        wait_until(PATIENCE, "extended CONNECT is offered", || {
            self.sender.is_extended_connect_protocol_enabled()
        });
    }

    /// Whether the other side serves extended CONNECT, as far as it has told.
    pub(crate) fn has_extended_connect(&self) -> bool {
        self.sender.is_extended_connect_protocol_enabled()
    }

    pub(crate) fn handle(&self) -> Handle {
        self.runtime.handle().clone()
    }

    /// Waits for anything that happens on the connection.
    pub(crate) fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(async {
            let done = tokio::time::timeout(PATIENCE, future).await;
            done.expect("it happens in time")
        })
    }

    /// Waits for the connection's end.
    pub(crate) fn end(self) -> Result<(), h2::Error> {
        let Http2 {
            runtime,
            sender,
            driver,
        } = self;
        // Dropping the last sender would end the connection.
        let ended = runtime.block_on(async { tokio::time::timeout(PATIENCE, driver).await });
        drop(sender);
        let ended = ended.expect("the connection ends in time");
        ended.expect("the connection does not panic")
    }
}

pub(crate) async fn complete_response(
    response: ResponseFuture,
) -> Result<Http2Response, h2::Error> {
    let (head, mut body) = response.await?.into_parts();
    Ok(Http2Response {
        status: head.status.as_u16(),
        fields: head.headers,
        body: read(&mut body).await?,
    })
}

async fn read(body: &mut RecvStream) -> Result<Vec<u8>, h2::Error> {
    let mut bytes = Vec::new();
    while let Some(more) = body.data().await {
        let more = more?;
        body.flow_control().release_capacity(more.len())?;
        bytes.extend(more);
    }
    Ok(bytes)
}

async fn upload(stream: &mut SendStream<Bytes>, mut body: Bytes) -> Result<(), h2::Error> {
    while !body.is_empty() {
        stream.reserve_capacity(body.len());
        let capacity = std::future::poll_fn(|context| stream.poll_capacity(context)).await;
        let Some(capacity) = capacity else {
            return Ok(());
        };
        let piece = body.split_to(capacity?.min(body.len()));
        stream.send_data(piece, false)?;
    }
    stream.send_data(Bytes::new(), true)
}

async fn open(
    address: SocketAddr,
    client: Arc<rustls::ClientConfig>,
) -> (SendRequest<Bytes>, JoinHandle<Result<(), h2::Error>>) {
    let stream = connect(address, client).await;
    let connected = h2::client::handshake(stream).await;
    let (sender, connection) = connected.expect("the preface is sent");
    (sender, tokio::spawn(connection))
}

async fn connect(
    address: SocketAddr,
    config: Arc<rustls::ClientConfig>,
) -> tokio_rustls::client::TlsStream<TcpStream> {
    let socket = TcpStream::connect(address)
        .await
        .expect("the listener accepts");
    socket.set_nodelay(true).expect("a socket");
    let name = ServerName::try_from("test").expect("a name");
    let handshake = TlsConnector::from(config).connect(name, socket).await;
    handshake.expect("the handshake succeeds")
}

pub(crate) fn runtime() -> Runtime {
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build();
    runtime.expect("a runtime can be made")
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// The names of settings.
pub(crate) const INITIAL_WINDOW_SIZE: u16 = 4;

/// Reasons for the end of a stream or a connection.
pub(crate) const NO_ERROR: u32 = 0;
pub(crate) const PROTOCOL_ERROR: u32 = 1;
pub(crate) const REFUSED_STREAM: u32 = 7;
pub(crate) const ENHANCE_YOUR_CALM: u32 = 11;

/// A received frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// The reason why the stream or the connection ends.
    pub(crate) fn reason(&self) -> u32 {
        let end = match self.kind {
            GOAWAY => 8,
            _ => 4,
        };
        let reason = self.payload.get(end - 4..end);
        let reason = reason.and_then(|bytes| bytes.try_into().ok());
        u32::from_be_bytes(reason.expect("a frame with a reason"))
    }
}

/// A connection whose frames the test makes itself.
pub(crate) struct RawHttp2 {
    client: Client,
    received: Vec<u8>,
}

/// The bytes of a frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, length @ ..] = u32::try_from(payload.len())
        .expect("a small frame")
        .to_be_bytes();
    let mut frame = length.to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// The fields of GET https://test/ and further ones, each as a literal.
pub(crate) fn fields(further: &[(&str, &str)]) -> Vec<u8> {
    // The static table has :method GET, :scheme https, :path / and the name :authority.
    let mut block = vec![0x82, 0x87, 0x84, 0x01, 4];
    block.extend(b"test");
    for (name, value) in further {
        block.push(0);
        for text in [name, value] {
            block.push(
                u8::try_from(text.len())
                    .ok()
                    .filter(|n| *n < 127)
                    .expect("short"),
            );
            block.extend(text.as_bytes());
        }
    }
    block
}

/// The fields of a request with this path, which the table keeps if `kept`, and further fields.
pub(crate) fn fields_of(path: &[u8], kept: bool, further: &[(&str, &str)]) -> Vec<u8> {
    let mut block = vec![0x82, 0x87, if kept { 0x44 } else { 0x04 }];
    let length = u8::try_from(path.len()).ok().filter(|n| *n < 127);
    block.push(length.expect("short"));
    block.extend(path);
    // Without the fields that `fields` begins with, except for the authority.
    block.extend(&fields(further)[3..]);
    block
}

impl RawHttp2 {
    /// A connection without TLS on which the preface and these settings have been sent.
    pub(crate) fn plain(address: SocketAddr, settings: &[(u16, u32)]) -> Self {
        let mut raw = RawHttp2 {
            client: Client::connect(address),
            received: Vec::new(),
        };
        raw.begin(settings);
        raw
    }

    fn begin(&mut self, settings: &[(u16, u32)]) {
        let settings = settings.iter().flat_map(|(name, value)| {
            let (name, value) = (name.to_be_bytes(), value.to_be_bytes());
            name.into_iter().chain(value)
        });
        let mut start = PREFACE.to_vec();
        start.extend(frame(SETTINGS, 0, 0, &Vec::from_iter(settings)));
        self.send(&start).expect("the listener reads");
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.client.send(bytes)
    }

    /// Sends a request without a body.
    pub(crate) fn get(&mut self, stream: u32, further: &[(&str, &str)]) {
        let head = frame(HEADERS, END_HEADERS | END_STREAM, stream, &fields(further));
        self.send(&head).expect("the listener reads");
    }

    /// The next frame; `None` if the connection has ended or no frame has come within `time`.
    pub(crate) fn next(&mut self, time: Duration) -> Option<Frame> {
        let deadline = Instant::now() + time;
        loop {
            if let [high, middle, low, kind, flags, a, b, c, d, rest @ ..] = &*self.received {
                let length = u32::from_be_bytes([0, *high, *middle, *low]) as usize;
                if rest.len() >= length {
                    let frame = Frame {
                        kind: *kind,
                        flags: *flags,
                        stream: u32::from_be_bytes([*a, *b, *c, *d]),
                        payload: rest[..length].to_vec(),
                    };
                    self.received.drain(..9 + length);
                    return Some(frame);
                }
            }
            let left = deadline.checked_duration_since(Instant::now())?;
            self.client
                .set_read_timeout(left.max(Duration::from_millis(1)));
            match self.client.wire().read_some(64 << 10) {
                Ok(bytes) if !bytes.is_empty() => self.received.extend(bytes),
                // The kernel may wake the thread slightly early, which is not the deadline.
                Err(error) if matches!(error.kind(), WouldBlock | TimedOut) => {}
                _ => return None,
            }
        }
    }

    /// Waits for a frame of this kind; acknowledges pings and settings like any client.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, kind: u8) -> Frame {
        self.find(kind, PATIENCE).expect("a frame of this kind")
    }

    /// The next frame of this kind within `time`.
    pub(crate) fn find(&mut self, kind: u8, time: Duration) -> Option<Frame> {
        let deadline = Instant::now() + time;
        loop {
            let left = deadline.checked_duration_since(Instant::now())?;
            let came = self.next(left)?;
            if matches!(came.kind, PING | SETTINGS) && came.flags == 0 {
                let payload: &[u8] = if came.kind == PING {
                    &came.payload
                } else {
                    &[]
                };
                // The connection may have closed meanwhile.
                let _ = self.send(&frame(came.kind, 1, 0, payload));
            }
            if came.kind == kind {
                return Some(came);
            }
        }
    }

    /// Whether the other side ends the connection within `time`, whatever it sends before.
    pub(crate) fn ends_within(&mut self, time: Duration) -> bool {
        let deadline = Instant::now() + time;
        while self
            .next(deadline.saturating_duration_since(Instant::now()))
            .is_some()
        {}
        Instant::now() < deadline
    }
}
