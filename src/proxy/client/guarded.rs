//! What stands around the proxy: it answers where the proxy was not asked, or has failed, and tells the observers of
//! requests that the proxy never had.

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
use pingora::server::ShutdownWatch;
use tokio::io::{AsyncRead, AsyncWrite};

use super::connection::Connection;
use super::gate::{Cut, Peer, Phase};
use super::headless::tell;
use super::parting::{close, part};
use super::stream::Client;
use crate::proxy::answer::Answer;
use crate::proxy::{Site, Traffic};
use crate::record::Ending;

/// An application whose requests may be cut and may panic: the client gets an answer if it has got none, and nobody
/// else notices. Connections that are no [`Client`] pass through.
#[derive(Debug)]
pub struct Guarded<A> {
    app: Arc<A>,
    site: Arc<ArcSwap<Site>>,
    traffic: Arc<Traffic>,
}

impl<A: HttpServerApp + Send + Sync + 'static> Guarded<A> {
    /// Guards `app`, whose requests `traffic` counts. What it does not get is told to the observers of `site`.
    pub fn new(app: A, site: Arc<ArcSwap<Site>>, traffic: Arc<Traffic>) -> Self {
        Guarded {
            app: Arc::new(app),
            site,
            traffic,
        }
    }

    /// Answers a `client` that speaks HTTP without TLS where TLS is spoken.
    pub async fn refuse_plain(&self, stream: impl AsyncRead + AsyncWrite + Unpin, client: IpAddr) {
        let answer = Answer::NO_TLS;
        let peer = Peer {
            address: Some(client),
            tls: false,
        };
        let status = Some(answer.status());
        tell(
            &self.site.load(),
            (peer, Instant::now()),
            status,
            answer.len(),
            answer.ending(),
        );
        close(stream, &answer.to_bytes()).await;
    }

    /// Serves a connection until its end, in the protocol that was agreed on in the TLS handshake.
    pub async fn serve(self: &Arc<Self>, client: Client, shutdown: &ShutdownWatch) {
        if !client.is_shared() {
            self.process_new(Box::new(client), shutdown).await;
            return;
        }
        let connection = Connection::new(
            Arc::clone(&self.app),
            Arc::clone(&self.site),
            Arc::clone(&self.traffic),
            Arc::clone(client.gate()),
            shutdown.clone(),
        );
        connection.serve(client).await;
    }
}

/// How the work on one request ended.
enum End {
    Done(Option<ReusedHttpStream>),
    Cut(Cut),
    Panic,
}

#[async_trait]
impl<A: HttpServerApp + Send + Sync + 'static> HttpServerApp for Guarded<A> {
    async fn process_new_http(
        self: &Arc<Self>,
        mut session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        let gate = Client::of(&session).map(|client| Arc::clone(client.gate()));
        if let Some(gate) = &gate {
            if !gate.await_request() {
                session.shutdown().await;
                drop(session);
                part(gate, &[]).await;
                return None;
            }
            if gate.requests() == 1 && session.get_keepalive().is_some() {
                // Without end as far as Pingora is concerned: the time of the first head is the client's.
                session.set_keepalive(Some(0));
            }
        }
        let mut request = self.app.process_new_http(session, shutdown);
        let Some(gate) = gate else {
            return request.await;
        };
        let end = poll_fn(|context| {
            // What a panic leaves behind is dropped, and what outlives it is made for that: counts that end by being
            // dropped, and locks whose poison is ignored because nothing under them can be half done.
            match catch_unwind(AssertUnwindSafe(|| request.as_mut().poll(context))) {
                Ok(Poll::Ready(reused)) => Poll::Ready(End::Done(reused)),
                Ok(Poll::Pending) => match gate.why_cut() {
                    Cut::None => Poll::Pending,
                    why => Poll::Ready(End::Cut(why)),
                },
                Err(_) => Poll::Ready(End::Panic),
            }
        })
        .await;
        // The stream comes back with it.
        drop(request);
        let answer = match end {
            End::Done(None) => {
                // The client may have sent more than was read, such as a request behind `Connection: close`.
                part(&gate, &[]).await;
                return None;
            }
            End::Done(reused) => return reused,
            End::Cut(Cut::BadHead) => Answer::to_failure(400),
            End::Cut(Cut::Late) => Answer::to_failure(408),
            End::Cut(Cut::TooLong) => Answer::to_failure(431),
            End::Cut(Cut::Gone) => {
                let who = (gate.peer(), gate.head_began());
                tell(&self.site.load(), who, None, 0, Ending::ClientGone);
                return None;
            }
            // A connection on which nothing was asked for.
            End::Cut(Cut::Silent | Cut::Flood | Cut::None) => return None,
            End::Panic => Answer::to_failure(500),
        };
        if gate.phase() != Phase::Open {
            // There is no context that would tell.
            tell(
                &self.site.load(),
                (gate.peer(), gate.head_began()),
                Some(answer.status()),
                answer.len(),
                answer.ending(),
            );
        }
        if !gate.has_sent() {
            part(&gate, &answer.to_bytes()).await;
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
