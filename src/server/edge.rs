//! The outermost layer around the proxy: how connections end when the process stops accepting.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pingora::apps::{HttpServerApp, HttpServerOptions, ReusedHttpStream};
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::H2Options;
use pingora::proxy::HttpProxy;
use pingora::server::ShutdownWatch;

use crate::proxy::Proxy;

/// How long connections without a request stay open after the last one was accepted. A request that is on its way, or
/// whose client has just connected, arrives within a round trip, or two with TLS; a busy client that keeps its connection
/// uses it within this time and hears `Connection: close`.
pub(super) const LAME_DUCK: Duration = Duration::from_secs(2);

/// The proxy, whose idle connections outlive its listeners by [`LAME_DUCK`]. Pingora would close them at once, and with
/// a reset where a request has arrived meanwhile.
pub(super) struct Edge(Arc<HttpProxy<Proxy>>);

impl Edge {
    pub(super) fn new(proxy: HttpProxy<Proxy>) -> Self {
        Edge(Arc::new(proxy))
    }
}

#[async_trait]
impl HttpServerApp for Edge {
    async fn process_new_http(
        self: &Arc<Self>,
        session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        self.0.process_new_http(session, shutdown).await
    }

    fn h2_options(&self) -> Option<H2Options> {
        self.0.h2_options()
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        self.0.server_options()
    }

    async fn http_cleanup(&self) {
        tokio::time::sleep(LAME_DUCK).await;
        self.0.http_cleanup().await;
    }
}
