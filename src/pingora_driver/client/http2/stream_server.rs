//! Serves the request of one stream, in a task of its own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use pingora::apps::HttpServerApp;
use pingora::protocols::Digest;
use pingora::protocols::http::ServerSession;
use pingora::server::ShutdownWatch;

use super::h2_stream::H2Stream;
use super::opened_stream::OpenedStream;
use crate::engine::{ClientInfo, Engine, StreamOutcome};
use crate::pingora_driver::client::connection_state::DownstreamPeer;
use crate::proxy::ActiveConfig;
use crate::proxy::completion::report_early_error;

/// What serves the request of a stream.
pub(in crate::pingora_driver::client) struct StreamServer<A> {
    /// Serves the requests that the engine does not.
    pub(in crate::pingora_driver::client) app: Arc<A>,
    pub(in crate::pingora_driver::client) engine: Option<(Arc<Engine>, ClientInfo)>,
    pub(in crate::pingora_driver::client) active: Arc<ArcSwap<ActiveConfig>>,
    pub(in crate::pingora_driver::client) peer: DownstreamPeer,
    pub(in crate::pingora_driver::client) digest: Arc<Digest>,
    pub(in crate::pingora_driver::client) shutdown: ShutdownWatch,
}

impl<A: HttpServerApp + Send + Sync + 'static> StreamServer<A> {
    /// Serves the request, whose body must end within `end_timeout` if it is announced to be empty. Returns whether the
    /// client got a response, or a part of one.
    pub(super) async fn serve(&self, stream: OpenedStream, end_timeout: Duration) -> bool {
        let began = Instant::now();
        let mut request = match stream.into_request(end_timeout).await {
            Ok(request) => request,
            Err((stream, termination)) => {
                let status = stream.reject(termination);
                report_early_error(
                    &self.active.load(),
                    self.peer.address_and_tls(),
                    began,
                    status,
                    0,
                    termination,
                );
                return status.is_some();
            }
        };
        if let Some((engine, client)) = &self.engine {
            let connection = Arc::clone(&self.peer.proxied);
            match engine
                .serve_stream(request, client.clone(), connection)
                .await
            {
                StreamOutcome::Served { has_responded } => return has_responded,
                StreamOutcome::Unserved(unserved) => request = *unserved,
            }
        }
        let stream = H2Stream::new(request, self.peer.clone(), Arc::clone(&self.digest));
        let state = Arc::clone(stream.state());
        let session = ServerSession::new_custom(Box::new(stream));
        self.app.process_new_http(session, &self.shutdown).await;
        state.has_response_started()
    }
}

/// The last stream of a connection that has ended closes what only they could use.
impl<A> Drop for StreamServer<A> {
    fn drop(&mut self) {
        if self.engine.is_some() {
            Engine::close_connections_of(&self.peer.proxied);
        }
    }
}
