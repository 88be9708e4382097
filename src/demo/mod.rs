//! The demo: three hosts within the process, and a configuration that balances over them.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::{io, thread};

use async_trait::async_trait;
use http::{Method, Response, header};
use pingora::apps::ServerApp;
use pingora::apps::http_app::ServeHttp;
use pingora::protocols::Stream;
use pingora::protocols::http::ServerSession;
use pingora::protocols::l4::stream::Stream as L4Stream;
use tokio::sync::watch;

use crate::config::{Config, ConfigErrors};

const NAMES: [&str; 3] = ["red", "green", "blue"];

/// What to try, for people.
pub const GUIDE: &str = "\
ballast demo: three hosts, red, green and blue, behind http://127.0.0.1:8080

  curl 127.0.0.1:8080                                      again and again: they take turns
  for i in 1 2 3 4 5 6 7 8 9; do curl -s 127.0.0.1:8080; done     three each
  curl -i 127.0.0.1:8080/any/path                          what a host is told about you
  wrk -c 64 -d 5 http://127.0.0.1:8080/                    under load

Ctrl-C ends it.";

/// Starts the hosts, on ports that the system chooses and a thread that runs until the process ends.
///
/// # Errors
/// If there is no port or no thread left.
pub fn start_hosts() -> io::Result<Vec<SocketAddr>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut addresses = Vec::new();
    for name in NAMES {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        addresses.push(listener.local_addr()?);
        let _inside = runtime.enter();
        let listener = tokio::net::TcpListener::from_std(listener)?;
        runtime.spawn(serve(Arc::new(DemoHost { name }), listener));
    }
    thread::Builder::new()
        .name("demo hosts".to_owned())
        .spawn(move || runtime.block_on(std::future::pending::<()>()))?;
    Ok(addresses)
}

/// The demo's configuration: a file like any other.
///
/// # Errors
/// If `hosts` is empty.
pub fn config(hosts: &[SocketAddr]) -> Result<Config, ConfigErrors> {
    let hosts: Vec<_> = hosts.iter().map(|host| format!("\"{host}\"")).collect();
    let text = format!(
        "listeners: [\"127.0.0.1:8080\"]\n\
         pools:\n  \
           demo:\n    \
             algorithm: round_robin\n    \
             hosts: [{}]\n",
        hosts.join(", ")
    );
    Config::parse(&text, Path::new("demo"))
}

async fn serve(host: Arc<DemoHost>, listener: tokio::net::TcpListener) {
    // Never changes: the hosts end with the process.
    let (_running, shutdown) = watch::channel(false);
    while let Ok((connection, _)) = listener.accept().await {
        let (host, shutdown) = (Arc::clone(&host), shutdown.clone());
        tokio::spawn(async move {
            let stream: Stream = Box::new(L4Stream::from(connection));
            host.process_new(stream, &shutdown).await
        });
    }
}

/// A host that says who it is.
struct DemoHost {
    name: &'static str,
}

#[async_trait]
impl ServeHttp for DemoHost {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        // The body is part of the request, and the connection goes on after it.
        let read_whole = session.drain_request_body().await.is_ok();
        if !read_whole {
            session.set_keepalive(None);
        }
        let request = session.req_header();
        let told = |name| {
            request
                .headers
                .get(name)
                .and_then(|value| value.to_str().ok())
        };
        let body = match request.uri.path() {
            "/" => format!("{}\n", self.name),
            path => format!(
                "{}: {} {path} for {} with id {}\n",
                self.name,
                request.method,
                told("x-forwarded-for").unwrap_or("nobody"),
                told("x-request-id").unwrap_or("none"),
            ),
        };
        let mut response = Response::new(Vec::new());
        let fields = response.headers_mut();
        fields.insert(
            header::CONTENT_TYPE,
            header::HeaderValue::from_static("text/plain"),
        );
        fields.insert(header::CONTENT_LENGTH, body.len().into());
        if request.method != Method::HEAD {
            *response.body_mut() = body.into_bytes();
        }
        response
    }
}
