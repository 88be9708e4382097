//! Wraps the proxy application: responds to requests that the proxy never saw or that panicked, and reports the former
//! to the observers.

use std::future::poll_fn;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use pingora::apps::{HttpServerApp, HttpServerOptions, ReusedHttpStream, ServerApp};
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::H2Options;
use pingora::protocols::{Digest, GetProxyDigest, GetSocketDigest, GetTimingDigest, Ssl};
use pingora::server::ShutdownWatch;
use tokio::io::{AsyncRead, AsyncWrite};

use super::connection_state::{AbortReason, RequestPhase};
use super::http2::{H2Connection, StreamServer};
use super::lingering_close::{close_abandoned, linger_and_close};
use super::stream::ClientStream;
use crate::engine::{ClientInfo, Engine};
use crate::proxy::completion::report_early_error;
use crate::proxy::local_message::LocalMessage;
use crate::proxy::local_response::LocalResponse;
use crate::proxy::{ActiveConfig, TrafficState};
use crate::record::TerminationReason;

/// An application whose requests may be aborted or may panic. The client gets an error response if it has none, and
/// other requests are not affected. Connections that are not a [`ClientStream`] pass through.
#[derive(Debug)]
pub struct PanicGuard<A> {
    app: Arc<A>,
    active: Arc<ArcSwap<ActiveConfig>>,
    traffic: Arc<TrafficState>,
}

impl<A: HttpServerApp + Send + Sync + 'static> PanicGuard<A> {
    /// Guards `app`, whose requests `traffic` counts. Requests that `app` never sees are reported to the observers of
    /// `active`.
    pub fn new(app: A, active: Arc<ArcSwap<ActiveConfig>>, traffic: Arc<TrafficState>) -> Self {
        PanicGuard {
            app: Arc::new(app),
            active,
            traffic,
        }
    }

    /// Responds to a `client` that speaks plain HTTP on a TLS port.
    pub async fn refuse_plain(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin,
        client: Option<IpAddr>,
    ) {
        let response = LocalResponse::NO_TLS;
        report_early_error(
            &self.active.load(),
            (client, false),
            Instant::now(),
            Some(response.status()),
            response.len(),
            response.termination(),
        );
        linger_and_close(stream, &LocalMessage::from(response).to_bytes()).await;
    }

    /// Serves a connection until it closes, with the protocol negotiated in the TLS handshake. Over HTTP/2 `engine` serves
    /// the requests that it can.
    pub async fn serve(
        self: &Arc<Self>,
        client: ClientStream,
        engine: Option<(Arc<Engine>, ClientInfo)>,
        shutdown: &ShutdownWatch,
    ) {
        if !client.is_http2() {
            self.process_new(Box::new(client), shutdown).await;
            return;
        }
        let digest = Digest {
            ssl_digest: client.get_ssl_digest(),
            timing_digest: client.get_timing_digest(),
            proxy_digest: client.get_proxy_digest(),
            socket_digest: client.get_socket_digest(),
        };
        let server = StreamServer {
            app: Arc::clone(&self.app),
            engine,
            active: Arc::clone(&self.active),
            peer: client.state().peer().clone(),
            digest: Arc::new(digest),
            shutdown: shutdown.clone(),
        };
        let state = Arc::clone(client.state());
        let connection = H2Connection::new(server, Arc::clone(&self.traffic), state);
        // The state of HTTP/2 would otherwise be a part of each connection of HTTP/1.1.
        Box::pin(connection.serve(client)).await;
    }
}

/// How the processing of one request ended.
enum RequestEnd {
    Done(Option<ReusedHttpStream>),
    Aborted(AbortReason),
    Panicked,
}

#[async_trait]
impl<A: HttpServerApp + Send + Sync + 'static> HttpServerApp for PanicGuard<A> {
    async fn process_new_http(
        self: &Arc<Self>,
        mut session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        let state = ClientStream::of(&session).map(|client| Arc::clone(client.state()));
        if let Some(state) = &state {
            if !state.begin_request() {
                session.shutdown().await;
                drop(session);
                close_abandoned(state, &[]).await;
                return None;
            }
            if state.request_count() == 1 && session.get_keepalive().is_some() {
                // In Pingora 0 means no timeout: the timeout for the first head is enforced by the client's stream.
                session.set_keepalive(Some(0));
            }
        }
        let mut request = self.app.process_new_http(session, shutdown);
        let Some(state) = state else {
            return request.await;
        };
        let end = poll_fn(|context| {
            // Unwinding drops the state of the request. What outlives it tolerates that: counts end when their guards
            // are dropped, and locks may ignore poisoning because they never expose half-written values.
            match catch_unwind(AssertUnwindSafe(|| request.as_mut().poll(context))) {
                Ok(Poll::Ready(reused)) => Poll::Ready(RequestEnd::Done(reused)),
                Ok(Poll::Pending) => match state.abort_reason() {
                    AbortReason::None => Poll::Pending,
                    why => Poll::Ready(RequestEnd::Aborted(why)),
                },
                Err(_) => Poll::Ready(RequestEnd::Panicked),
            }
        })
        .await;
        // Dropping the session returns the stream to the state.
        drop(request);
        let response = match end {
            RequestEnd::Done(None) => {
                // The client may have sent unread bytes, such as a request after `Connection: close`.
                close_abandoned(&state, &[]).await;
                return None;
            }
            RequestEnd::Done(reused) => return reused,
            RequestEnd::Aborted(AbortReason::MalformedHead) => LocalResponse::for_status(400),
            RequestEnd::Aborted(AbortReason::HeadTimeout) => LocalResponse::for_status(408),
            RequestEnd::Aborted(AbortReason::HeadTooLong) => LocalResponse::for_status(431),
            RequestEnd::Aborted(AbortReason::ClientGone) => {
                report_early_error(
                    &self.active.load(),
                    state.peer().address_and_tls(),
                    state.head_began(),
                    None,
                    0,
                    TerminationReason::ClientGone,
                );
                return None;
            }
            // No request was made on the connection.
            RequestEnd::Aborted(
                AbortReason::IdleTimeout | AbortReason::FrameFlood | AbortReason::None,
            ) => return None,
            RequestEnd::Panicked => LocalResponse::for_status(500),
        };
        if state.phase() != RequestPhase::AfterHead {
            // No request context exists that would report it.
            report_early_error(
                &self.active.load(),
                state.peer().address_and_tls(),
                state.head_began(),
                Some(response.status()),
                response.len(),
                response.termination(),
            );
        }
        if !state.has_response_started() {
            close_abandoned(&state, &LocalMessage::from(response).to_bytes()).await;
        }
        None
    }

    fn h2_options(&self) -> Option<H2Options> {
        self.app.h2_options()
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        self.app.server_options()
    }

    async fn http_cleanup(&self) {
        self.app.http_cleanup().await;
    }
}
