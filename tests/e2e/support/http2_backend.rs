//! Hosts that speak HTTP/2: one whose requests a test answers, and one whose frames it makes itself.

use std::future::Future;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::{Builder, SendResponse};
use http::{HeaderMap, Request, Response};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;

use super::http2::{END_HEADERS, Frame, HEADERS, SETTINGS, frame, runtime};
use super::ports;
use super::wait::SOON;

/// A request on one of the connections, which are counted from 1.
pub(crate) struct Stream {
    pub(crate) request: Request<RecvStream>,
    pub(crate) respond: SendResponse<Bytes>,
    pub(crate) connection: u64,
}

type Answer = Pin<Box<dyn Future<Output = ()> + Send>>;
type Handler = Arc<dyn Fn(Stream) -> Answer + Send + Sync>;

/// What a backend has seen.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Connections accepted.
    pub(crate) connections: AtomicU64,
    /// Streams opened.
    pub(crate) streams: AtomicU64,
    /// The heads of the requests.
    pub(crate) heads: Mutex<Vec<Request<()>>>,
}

/// A server of HTTP/2. It stops when dropped.
pub(crate) struct Http2Backend {
    address: SocketAddr,
    seen: Arc<Seen>,
    _runtime: Runtime,
}

impl Http2Backend {
    /// A server without TLS that answers each stream with `handler`.
    pub(crate) fn start<F>(handler: impl Fn(Stream) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Http2Backend::with(Builder::new(), None, handler)
    }

    /// The same with settings of the protocol, and with TLS.
    pub(crate) fn with<F>(
        settings: Builder,
        tls: Option<Arc<rustls::ServerConfig>>,
        handler: impl Fn(Stream) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let handler: Handler = Arc::new(move |stream| Box::pin(handler(stream)));
        let address = ports::free();
        let runtime = runtime();
        let listener = runtime.block_on(tokio::net::TcpListener::bind(address));
        let listener = listener.expect("the port is free");
        let seen = Arc::<Seen>::default();
        let shared = Arc::clone(&seen);
        runtime.spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let number = shared.connections.fetch_add(1, Ordering::SeqCst) + 1;
                let (settings, tls) = (settings.clone(), tls.clone());
                let (handler, shared) = (Arc::clone(&handler), Arc::clone(&shared));
                tokio::spawn(async move {
                    match tls {
                        None => serve(socket, number, &settings, handler, shared).await,
                        Some(tls) => {
                            if let Ok(socket) = TlsAcceptor::from(tls).accept(socket).await {
                                serve(socket, number, &settings, handler, shared).await;
                            }
                        }
                    }
                });
            }
        });
        Http2Backend {
            address,
            seen,
            _runtime: runtime,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn connections(&self) -> u64 {
        self.seen.connections.load(Ordering::SeqCst)
    }

    pub(crate) fn streams(&self) -> u64 {
        self.seen.streams.load(Ordering::SeqCst)
    }

    /// The head of the last request.
    pub(crate) fn last(&self) -> Request<()> {
        let heads = self.seen.heads.lock().expect("no panic");
        heads.last().expect("a request").clone()
    }
}

async fn serve(
    socket: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    connection: u64,
    settings: &Builder,
    handler: Handler,
    seen: Arc<Seen>,
) {
    let Ok(mut opened) = settings.handshake::<_, Bytes>(socket).await else {
        return;
    };
    while let Some(Ok((request, respond))) = opened.accept().await {
        seen.streams.fetch_add(1, Ordering::SeqCst);
        let (parts, body) = request.into_parts();
        let head = Request::from_parts(parts.clone(), ());
        seen.heads.lock().expect("no panic").push(head);
        let request = Request::from_parts(parts, body);
        tokio::spawn(handler(Stream {
            request,
            respond,
            connection,
        }));
    }
}

impl Stream {
    /// Reads the whole body.
    pub(crate) async fn read(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while let Some(Ok(more)) = self.request.body_mut().data().await {
            let _ = self
                .request
                .body_mut()
                .flow_control()
                .release_capacity(more.len());
            bytes.extend(more);
        }
        bytes
    }

    /// Sends a response with this body and these trailers.
    pub(crate) fn answer(mut self, status: u16, body: impl Into<Bytes>, trailers: HeaderMap) {
        let head = Response::builder().status(status).body(());
        let head = head.expect("a response");
        // The client may have left.
        let Ok(mut sender) = self.respond.send_response(head, false) else {
            return;
        };
        let has_trailers = !trailers.is_empty();
        let _ = sender.send_data(body.into(), !has_trailers);
        if has_trailers {
            let _ = sender.send_trailers(trailers);
        }
    }
}

/// A connection to a host whose frames a test makes itself.
pub(crate) struct RawHost {
    socket: TcpStream,
}

impl RawHost {
    /// A host that serves each connection with `serve`, which gets its number, from 1. It ends with the process.
    pub(crate) fn start(serve: impl Fn(RawHost, u64) + Send + Sync + 'static) -> SocketAddr {
        let address = ports::free();
        let listener = TcpListener::bind(address).expect("the port is free");
        std::thread::spawn(move || {
            let serve = Arc::new(serve);
            for (number, socket) in (1..).zip(listener.incoming()) {
                let Ok(socket) = socket else { return };
                let serve = Arc::clone(&serve);
                std::thread::spawn(move || {
                    let _ = socket.set_read_timeout(Some(SOON));
                    let mut host = RawHost { socket };
                    let mut preface = [0; 24];
                    if host.socket.read_exact(&mut preface).is_ok() {
                        host.send(&frame(SETTINGS, 0, 0, &[]));
                        serve(host, number);
                    }
                });
            }
        });
        address
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) -> bool {
        self.socket.write_all(bytes).is_ok()
    }

    /// The next frame; acknowledges settings. `None`: the proxy has closed the connection.
    pub(crate) fn next(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.socket.read_exact(&mut head).ok()?;
        let [a, b, c, kind, flags, s @ ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        self.socket.read_exact(&mut payload).ok()?;
        if kind == SETTINGS && flags == 0 {
            self.send(&frame(SETTINGS, 1, 0, &[]));
        }
        Some(Frame {
            kind,
            flags,
            stream: u32::from_be_bytes(s),
            payload,
        })
    }

    /// The stream of the next request.
    pub(crate) fn next_request(&mut self) -> Option<u32> {
        loop {
            let frame = self.next()?;
            if frame.kind == HEADERS {
                return Some(frame.stream);
            }
        }
    }

    /// Responds with 200 and no body.
    pub(crate) fn answer(&mut self, stream: u32) {
        // The static table has `:status 200`.
        self.send(&frame(HEADERS, END_HEADERS | 1, stream, &[0x88]));
    }

    /// Waits until the proxy closes the connection.
    pub(crate) fn wait_for_end(&mut self, limit: Duration) {
        let _ = self.socket.set_read_timeout(Some(limit));
        while self.next().is_some() {}
    }
}
