//! A panic in a filter ends only its own request: the client gets an error, every count that the request held is
//! released, and the panic is counted and logged.
//!
//! No request can make Ballast's own filters panic, so this test runs Ballast's proxy with one more filter, in this
//! process.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use ballast::config::Config;
use ballast::pingora_driver::{ClientStream, PanicGuard};
use ballast::pool::{HostRegistry, Pool};
use ballast::proxy::{ActiveConfig, Proxy, RequestContext, TrafficState};
use ballast::record::{Observer, TerminationReason};
use bytes::Bytes;
use log::{LevelFilter, Log, Metadata, Record};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::listeners::tls::TlsSettings;
use pingora::protocols::Stream;
use pingora::protocols::l4::stream::Stream as L4Stream;
use pingora::proxy::{ProxyHttp, Session, http_proxy};
use pingora::server::configuration::ServerConf;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, Result};
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore};
use tokio::sync::watch;
use tokio_rustls::TlsConnector;

/// Ballast's proxy, which panics in a filter if the path of the request demands it.
struct PanickingProxy(Proxy);

#[async_trait]
impl ProxyHttp for PanickingProxy {
    type CTX = RequestContext;

    fn new_ctx(&self) -> RequestContext {
        self.0.new_ctx()
    }

    async fn early_request_filter(
        &self,
        session: &mut Session,
        ctx: &mut RequestContext,
    ) -> Result<()> {
        self.0.early_request_filter(session, ctx).await
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
        assert!(
            request.uri.path() != "/panic",
            "the panic that the client requested"
        );
        self.0.upstream_request_filter(session, request, ctx).await
    }

    async fn upstream_response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut RequestContext,
    ) -> Result<()> {
        self.0
            .upstream_response_filter(session, response, ctx)
            .await
    }

    fn response_body_filter(
        &self,
        session: &mut Session,
        _body: &mut Option<Bytes>,
        _end_of_stream: bool,
        _ctx: &mut RequestContext,
    ) -> Result<Option<Duration>> {
        let path = session.req_header().uri.path();
        let begun = session.response_written().is_some();
        assert!(
            path != PANIC_IN_BODY || !begun,
            "the panic that the client requested"
        );
        Ok(None)
    }

    async fn logging(
        &self,
        session: &mut Session,
        error: Option<&Error>,
        ctx: &mut RequestContext,
    ) {
        self.0.logging(session, error, ctx).await;
    }
}

/// Records the log.
struct LogLines(Mutex<Vec<String>>);

static LINES: LogLines = LogLines(Mutex::new(Vec::new()));

impl Log for LogLines {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.push(format!("{} {}", record.level(), record.args()));
    }

    fn flush(&self) {}
}

/// Records the outcome of every request.
#[derive(Debug, Default)]
struct Outcomes(Mutex<Vec<(Option<u16>, TerminationReason, usize)>>);

impl Observer for Outcomes {
    fn on_request_end(&self, record: &ballast::record::RequestRecord<'_>) {
        let mut outcomes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        outcomes.push((
            record.summary.status,
            record.summary.termination,
            record.attempts.len(),
        ));
    }
}

impl Outcomes {
    fn take(&self) -> Vec<(Option<u16>, TerminationReason, usize)> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn logged(part: &str) -> usize {
    let lines = LINES.0.lock().unwrap_or_else(PoisonError::into_inner);
    lines.iter().filter(|line| line.contains(part)).count()
}

/// The path of a request that panics after the client has received a part of the response.
const PANIC_IN_BODY: &str = "/panic-in-body";

/// Whether the client has received the first part of such a response.
static CLIENT_HAS_FIRST_PART: AtomicBool = AtomicBool::new(false);

fn within_seconds(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while !condition() {
        assert!(Instant::now() < deadline, "{what}");
        thread::yield_now();
    }
}

/// Responds to every request on every connection with 200 until the test ends.
fn host() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            thread::spawn(move || {
                let mut buffer = [0; 4096];
                while stream.read(&mut buffer).is_ok_and(|read| read > 0) {
                    // More than the proxy collects before it writes.
                    let answer = format!(
                        "HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n{:o>59999}",
                        ""
                    );
                    let _ = stream.write_all(answer.as_bytes());
                    if buffer.starts_with(format!("GET {PANIC_IN_BODY} ").as_bytes()) {
                        within_seconds("the client has received a part", || {
                            CLIENT_HAS_FIRST_PART.swap(false, Ordering::SeqCst)
                        });
                    }
                    let _ = stream.write_all(b"k");
                }
            });
        }
    });
    address
}

/// Serves `app` in this process until the test ends, with TLS if configured.
fn serve(
    app: PanickingProxy,
    active: Arc<ArcSwap<ActiveConfig>>,
    traffic: Arc<TrafficState>,
    tls: Option<TlsSettings>,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    listener.set_nonblocking(true).expect("a socket");
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.expect("a runtime").block_on(async {
            let app = http_proxy(&Arc::new(ServerConf::default()), app);
            let app = Arc::new(PanicGuard::new(app, Arc::clone(&active), traffic));
            let (_running, shutdown) = watch::channel(false);
            let tls = tls.map(TlsSettings::build);
            let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
            while let Ok((connection, _)) = listener.accept().await {
                let (app, shutdown) = (Arc::clone(&app), shutdown.clone());
                let stream = L4Stream::from(connection);
                let stream: Stream = match &tls {
                    None => Box::new(stream),
                    Some(tls) => Box::new(tls.tls_handshake(stream).await.expect("a handshake")),
                };
                let client = ClientStream::new(stream, Arc::clone(&active), None);
                tokio::spawn(async move { app.serve(client, None, &shutdown).await });
            }
        });
    });
    address
}

fn request(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("the proxy listens");
    stream
        .set_read_timeout(Some(Duration::from_secs(5)))
        .expect("a timeout");
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: x\r\nX-Request-Id: id-7\r\nConnection: close\r\n\r\n"
    );
    stream
        .write_all(request.as_bytes())
        .expect("the proxy reads");
    let mut answer = vec![0];
    if stream.read_exact(&mut answer).is_ok() {
        CLIENT_HAS_FIRST_PART.store(path == PANIC_IN_BODY, Ordering::SeqCst);
    }
    // A reset is also an acceptable end here.
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8(answer).expect("text")
}

/// A proxy in this process, and the record of its requests.
struct RunningProxy {
    address: SocketAddr,
    traffic: Arc<TrafficState>,
    pool: Arc<Pool>,
    outcomes: Arc<Outcomes>,
}

impl RunningProxy {
    fn is_idle(&self) -> bool {
        self.traffic.present() == 0 && self.pool.members()[0].host().in_flight() == 0
    }
}

/// Starts the proxy, with TLS if configured.
fn start(tls: Option<TlsSettings>) -> RunningProxy {
    let host = host();
    let text = format!(
        "listeners: [\"127.0.0.1:1\"]\nlimits: {{ max_in_flight: 1 }}\n\
         pools: {{ web: {{ algorithm: bounded, hosts: [\"{host}\"], health_check: none }} }}\n"
    );
    let config = Config::parse(&text, Path::new("panic.yaml")).expect("a configuration");
    let mut active = ActiveConfig::new(&config, &mut HostRegistry::new()).expect("a configuration");
    let outcomes = Arc::new(Outcomes::default());
    active.observers = vec![Arc::clone(&outcomes) as Arc<dyn Observer>];
    let pool = Arc::clone(&active.pools[0]);
    pool.begin();
    let traffic = Arc::new(TrafficState::default());
    let active = Arc::new(ArcSwap::from_pointee(active));
    let proxy = Proxy::new(Arc::clone(&active), Arc::clone(&traffic));
    let address = serve(PanickingProxy(proxy), active, Arc::clone(&traffic), tls);
    RunningProxy {
        address,
        traffic,
        pool,
        outcomes,
    }
}

#[test]
fn row_36_a_panic_in_a_filter_releases_what_the_request_held() {
    let started = start(None);
    let RunningProxy {
        address,
        ref traffic,
        ref outcomes,
        ..
    } = started;
    log::set_logger(&LINES).expect("the only logger");
    log::set_max_level(LevelFilter::Info);

    for round in 1..=3 {
        let answer = request(address, "/panic");
        assert!(answer.starts_with("HTTP/1.1 500 "), "{answer}");
        assert!(answer.contains("\r\nConnection: close\r\n"), "{answer}");
        // If a part of a response may have been sent, a second response must not follow.
        let answer = request(address, PANIC_IN_BODY);
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert!(answer.ends_with('o'), "{answer}");
        assert_eq!(traffic.panics(), 2 * round);
        let line = format!(
            "ERROR a panic ended a request (id: \"id-7\"); panics so far: {}",
            2 * round
        );
        assert_eq!(logged(&line), 1);
        within_seconds("the request is no longer counted", || started.is_idle());
        // With capacity for only one request, this one is served because the panic released the capacity.
        let answer = request(address, "/");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        within_seconds("the last request has ended", || traffic.present() == 0);
        let expected = [
            (Some(500), TerminationReason::Internal, 1),
            (Some(200), TerminationReason::Internal, 1),
            (Some(200), TerminationReason::Complete, 1),
        ];
        assert_eq!(outcomes.take(), expected, "each request is reported once");
    }
}

/// The one certificate of a listener.
#[derive(Debug)]
struct SingleCertificate(Arc<CertifiedKey>);

impl ResolvesServerCert for SingleCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

/// The TLS settings of a listener that offers HTTP/2, and of a client that asks for it.
fn tls() -> (TlsSettings, Arc<ClientConfig>) {
    let made = rcgen::generate_simple_self_signed(["x".to_owned()]).expect("a certificate");
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
    let key = any_supported_type(&key).expect("a key");
    let chain = vec![made.cert.der().clone()];
    let mut settings = TlsSettings::intermediate("", "").expect("settings");
    settings.set_cert_resolver(Arc::new(SingleCertificate(Arc::new(CertifiedKey::new(
        chain.clone(),
        key,
    )))));
    settings.enable_h2();
    let mut roots = RootCertStore::empty();
    roots.add(chain[0].clone()).expect("a certificate");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider knows TLS 1.2 and 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    (settings, Arc::new(config))
}

#[test]
fn a_panic_in_a_stream_ends_no_other() {
    let (settings, config) = tls();
    let started = start(Some(settings));
    let address = started.address;
    let requests = async {
        let socket = tokio::net::TcpStream::connect(address).await;
        let name = ServerName::try_from("x").expect("a name");
        let stream = TlsConnector::from(config)
            .connect(name, socket.expect("the proxy listens"))
            .await;
        let connected = h2::client::handshake(stream.expect("a handshake")).await;
        let (mut sender, connection) = connected.expect("HTTP/2");
        tokio::spawn(connection);
        let mut status = async |path: &str| {
            let request = http::Request::get(format!("https://x{path}")).body(());
            let opened = sender.send_request(request.expect("a request"), true);
            let (head, mut body) = opened.expect("a stream").0.await?.into_parts();
            while let Some(more) = body.data().await {
                CLIENT_HAS_FIRST_PART.store(path == PANIC_IN_BODY, Ordering::SeqCst);
                body.flow_control().release_capacity(more?.len())?;
            }
            Ok::<_, h2::Error>(head.status.as_u16())
        };
        for _ in 0..3 {
            assert_eq!(status("/panic").await.expect("an answer"), 500);
            let error = status(PANIC_IN_BODY)
                .await
                .expect_err("the rest is missing");
            assert_eq!(error.reason(), Some(h2::Reason::INTERNAL_ERROR));
            assert_eq!(status("/").await.expect("an answer"), 200);
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build();
    let finished = runtime
        .expect("a runtime")
        .block_on(async { tokio::time::timeout(Duration::from_secs(20), requests).await });
    finished.expect("answers in time");
    within_seconds("no request is counted any longer", || started.is_idle());
    assert_eq!(started.traffic.panics(), 6);
    let expected = [
        (Some(500), TerminationReason::Internal, 1),
        (Some(200), TerminationReason::Internal, 1),
        (Some(200), TerminationReason::Complete, 1),
    ];
    assert_eq!(started.outcomes.take(), [expected; 3].concat());
}
