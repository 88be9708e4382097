//! The hosts of the demo: servers inside the process that respond with their name, and stop for a while on request.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use std::{io, thread};

use async_trait::async_trait;
use http::{Method, Response, header};
use log::error;
use pingora::apps::ServerApp;
use pingora::apps::http_app::ServeHttp;
use pingora::protocols::Stream;
use pingora::protocols::http::ServerSession;
use pingora::protocols::l4::stream::Stream as L4Stream;
use tokio::net::TcpSocket;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

const NAMES: [&str; 3] = ["red", "green", "blue"];

/// How long a stopped host stays down: long enough to see it fail its checks.
const PAUSE: Duration = Duration::from_secs(30);

/// The listen backlog: connections that may wait to be accepted.
const BACKLOG: u32 = 1024;

/// Starts the hosts on free ports, in a thread that runs until the process ends. Returns their names and addresses.
///
/// # Errors
/// A port or the thread cannot be had.
pub fn start() -> io::Result<Vec<(&'static str, SocketAddr)>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut hosts = Vec::new();
    for name in NAMES {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        hosts.push((name, address));
        let _inside = runtime.enter();
        let listener = tokio::net::TcpListener::from_std(listener)?;
        runtime.spawn(run_host(name, address, listener));
    }
    thread::Builder::new()
        .name("demo hosts".to_owned())
        .spawn(move || runtime.block_on(std::future::pending::<()>()))?;
    Ok(hosts)
}

/// Serves, and pauses after each request to stop.
async fn run_host(name: &'static str, address: SocketAddr, mut listener: tokio::net::TcpListener) {
    loop {
        serve_until_stopped(name, address, listener).await;
        listener = match pause(address).await {
            Ok(listener) => listener,
            Err(error) => {
                error!("the demo host {name} cannot listen again: {error}");
                return;
            }
        }
    }
}

async fn serve_until_stopped(
    name: &'static str,
    address: SocketAddr,
    listener: tokio::net::TcpListener,
) {
    // Never signals: the hosts end with the process.
    let (_shutdown_sender, shutdown) = watch::channel(false);
    // Dropped on return, which closes every connection.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((connection, _)) = accepted else { continue };
                // Head and body are two writes: without TCP_NODELAY the second would wait for an acknowledgement of
                // the first. A failure only costs speed.
                let _ = connection.set_nodelay(true);
                let shutdown = shutdown.clone();
                let host = Arc::new(DemoHost { name, address, is_stopping: AtomicBool::new(false) });
                connections.spawn(async move {
                    let stream: Stream = Box::new(L4Stream::from(connection));
                    host.process_new(stream, &shutdown).await;
                    host.is_stopping.load(Ordering::Relaxed)
                });
            }
            Some(ended) = connections.join_next() => {
                if matches!(ended, Ok(true)) {
                    return;
                }
            }
        }
    }
}

/// Refuses connections for [`PAUSE`], then listens again. The port stays bound, so that no other process can take it.
async fn pause(address: SocketAddr) -> io::Result<tokio::net::TcpListener> {
    let socket = TcpSocket::new_v4()?;
    // Closed connections may still be in TIME_WAIT.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    sleep(PAUSE).await;
    socket.listen(BACKLOG)
}

/// A host, as the handler of one connection.
struct DemoHost {
    name: &'static str,
    address: SocketAddr,
    /// Whether a request on this connection has asked the host to stop.
    is_stopping: AtomicBool,
}

impl DemoHost {
    fn describe_request(&self, session: &ServerSession) -> String {
        let request = session.req_header();
        let field = |name| {
            let value = request.headers.get(name)?;
            value.to_str().ok()
        };
        let (name, method) = (self.name, &request.method);
        match request.uri.path() {
            "/" => format!("{name}\n"),
            "/stop" if method == Method::POST => {
                format!(
                    "{name} at {} stops for {} seconds\n",
                    self.address,
                    PAUSE.as_secs()
                )
            }
            path => format!(
                "{name}: {method} {path} for {} with id {}\n",
                field("x-forwarded-for").unwrap_or("an unknown client"),
                field("x-request-id").unwrap_or("none"),
            ),
        }
    }
}

#[async_trait]
impl ServeHttp for DemoHost {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        // The connection is kept alive, so the body must be read before the next request.
        let is_body_read = session.drain_request_body().await.is_ok();
        let body = self.describe_request(session);
        let request = session.req_header();
        let (is_head_request, is_stop_request) = (
            request.method == Method::HEAD,
            request.method == Method::POST && request.uri.path() == "/stop",
        );
        if !is_body_read || is_stop_request {
            session.set_keepalive(None);
        }
        self.is_stopping.store(is_stop_request, Ordering::Relaxed);
        let mut response = Response::new(Vec::new());
        let fields = response.headers_mut();
        fields.insert(
            header::CONTENT_TYPE,
            header::HeaderValue::from_static("text/plain"),
        );
        fields.insert(header::CONTENT_LENGTH, body.len().into());
        if !is_head_request {
            *response.body_mut() = body.into_bytes();
        }
        response
    }
}
