//! A panic in a filter ends that request and nothing else: every count that the request held is released.
//!
//! No request can make Ballast's own filters panic, so this proxy is Ballast's with one filter more, in this process.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use ballast::config::Config;
use ballast::pool::HostBook;
use ballast::proxy::{Proxy, RequestContext, Site, Traffic};
use pingora::Result;
use pingora::apps::ServerApp;
use pingora::http::RequestHeader;
use pingora::protocols::Stream;
use pingora::protocols::l4::stream::Stream as L4Stream;
use pingora::proxy::{ProxyHttp, Session, http_proxy};
use pingora::server::configuration::ServerConf;
use pingora::upstreams::peer::HttpPeer;
use tokio::sync::watch;

/// Ballast's proxy up to the choice of a host, and then a panic if the request asks for it.
struct Panicking(Proxy);

#[async_trait]
impl ProxyHttp for Panicking {
    type CTX = RequestContext;

    fn new_ctx(&self) -> RequestContext {
        self.0.new_ctx()
    }

    async fn request_filter(
        &self,
        session: &mut Session,
        ctx: &mut RequestContext,
    ) -> Result<bool> {
        self.0.request_filter(session, ctx).await
    }

    async fn proxy_upstream_filter(
        &self,
        session: &mut Session,
        ctx: &mut RequestContext,
    ) -> Result<bool> {
        self.0.proxy_upstream_filter(session, ctx).await
    }

    async fn upstream_peer(
        &self,
        session: &mut Session,
        ctx: &mut RequestContext,
    ) -> Result<Box<HttpPeer>> {
        self.0.upstream_peer(session, ctx).await
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        ctx: &mut RequestContext,
    ) -> Result<()> {
        assert!(request.uri.path() != "/panic", "as the client asked for");
        self.0.upstream_request_filter(session, request, ctx).await
    }
}

/// Answers every request on every connection with 200 until the test ends.
fn host() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            thread::spawn(move || {
                let mut buffer = [0; 4096];
                while stream.read(&mut buffer).is_ok_and(|read| read > 0) {
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
                }
            });
        }
    });
    address
}

/// Serves `app` in this process until the test ends.
fn serve(app: Panicking) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    listener.set_nonblocking(true).expect("a socket");
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.expect("a runtime").block_on(async {
            let app = Arc::new(http_proxy(&Arc::new(ServerConf::default()), app));
            let (_running, shutdown) = watch::channel(false);
            let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
            while let Ok((connection, _)) = listener.accept().await {
                let (app, shutdown) = (Arc::clone(&app), shutdown.clone());
                tokio::spawn(async move {
                    let stream: Stream = Box::new(L4Stream::from(connection));
                    app.process_new(stream, &shutdown).await
                });
            }
        });
    });
    address
}

fn ask(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("the proxy listens");
    stream
        .set_read_timeout(Some(Duration::from_secs(5)))
        .expect("a timeout");
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream
        .write_all(request.as_bytes())
        .expect("the proxy reads");
    let mut answer = String::new();
    // A reset is as good an end as any here.
    let _ = stream.read_to_string(&mut answer);
    answer
}

#[test]
fn a_panic_in_a_filter_releases_what_the_request_held() {
    let host = host();
    let text = format!(
        "listeners: [\"127.0.0.1:1\"]\nlimits: {{ max_in_flight: 1 }}\n\
         pools: {{ web: {{ algorithm: bounded, hosts: [\"{host}\"], health_check: none }} }}\n"
    );
    let config = Config::parse(&text, Path::new("panic.yaml")).expect("a configuration");
    let site = Site::new(&config, &mut HostBook::new()).expect("a site");
    let pool = Arc::clone(&site.pools[0]);
    pool.begin();
    let traffic = Arc::new(Traffic::default());
    let proxy = Proxy::new(Arc::new(ArcSwap::from_pointee(site)), Arc::clone(&traffic));
    let address = serve(Panicking(proxy));

    for _ in 0..3 {
        assert_eq!(ask(address, "/panic"), "", "a panic answers nothing");
        let deadline = Instant::now() + Duration::from_secs(5);
        while traffic.present() > 0 || pool.members()[0].host().in_flight() > 0 {
            assert!(Instant::now() < deadline, "the request is still counted");
            thread::yield_now();
        }
        // With room for one request only, this one is served because the panic gave its place back.
        let answer = ask(address, "/");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
}
