//! The demo's hosts: servers within the process that say who they are, and stop for a while when they are asked to.

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

/// How long a host rests that was asked to stop: long enough to see it go.
const PAUSE: Duration = Duration::from_secs(30);

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 1024;

/// Starts the hosts, each with a name, on ports that the system chooses and a thread that runs until the process ends.
///
/// # Errors
/// If there is no port or no thread left.
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

/// Serves, and rests whenever it is asked to stop.
async fn run_host(name: &'static str, address: SocketAddr, mut listener: tokio::net::TcpListener) {
    loop {
        serve_until_stopped(name, address, listener).await;
        listener = match pause(address).await {
            Ok(listener) => listener,
            Err(error) => {
                error!("the demo's host {name} does not come back: {error}");
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
    // Never changes: the hosts end with the process.
    let (_running, shutdown) = watch::channel(false);
    // Dropped in the end, and every connection with it.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((connection, _)) = accepted else { continue };
                // Head and body are two writes; the second must not wait for the first to be acknowledged. Where that
                // cannot be had it is slower.
                let _ = connection.set_nodelay(true);
                let shutdown = shutdown.clone();
                let host = Arc::new(DemoHost { name, address, stops: AtomicBool::new(false) });
                connections.spawn(async move {
                    let stream: Stream = Box::new(L4Stream::from(connection));
                    host.process_new(stream, &shutdown).await;
                    host.stops.load(Ordering::Relaxed)
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

/// Refuses connections for a while, and listens again. The port stays taken, so that nobody else gets it meanwhile.
async fn pause(address: SocketAddr) -> io::Result<tokio::net::TcpListener> {
    let socket = TcpSocket::new_v4()?;
    // Connections of before may still be on their way out.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    sleep(PAUSE).await;
    socket.listen(BACKLOG)
}

/// One connection of a host that says who it is.
struct DemoHost {
    name: &'static str,
    address: SocketAddr,
    /// Whether it has been asked to stop, over this connection.
    stops: AtomicBool,
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
                field("x-forwarded-for").unwrap_or("nobody"),
                field("x-request-id").unwrap_or("none"),
            ),
        }
    }
}

#[async_trait]
impl ServeHttp for DemoHost {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        // The body is part of the request, and the connection goes on after it.
        let read_whole = session.drain_request_body().await.is_ok();
        let body = self.describe_request(session);
        let request = session.req_header();
        let (to_head, stops) = (
            request.method == Method::HEAD,
            request.method == Method::POST && request.uri.path() == "/stop",
        );
        if !read_whole || stops {
            session.set_keepalive(None);
        }
        self.stops.store(stops, Ordering::Relaxed);
        let mut response = Response::new(Vec::new());
        let fields = response.headers_mut();
        fields.insert(
            header::CONTENT_TYPE,
            header::HeaderValue::from_static("text/plain"),
        );
        fields.insert(header::CONTENT_LENGTH, body.len().into());
        if !to_head {
            *response.body_mut() = body.into_bytes();
        }
        response
    }
}
