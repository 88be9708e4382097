//! What stands around the proxy: it answers where the proxy was not asked, or has failed.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::Poll;

use async_trait::async_trait;
use pingora::apps::{HttpServerApp, HttpServerOptions, ReusedHttpStream};
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::H2Options;
use pingora::server::ShutdownWatch;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::gate::{Cut, Gate};
use super::stream::Client;
use crate::proxy::answer::{self, Answer};

/// An application whose requests may be cut and may panic: the client gets an answer if it has got none, and nobody
/// else notices. Connections that are no [`Client`], and those of HTTP/2, pass through.
#[derive(Debug)]
pub struct Guarded<A>(Arc<A>);

impl<A> Guarded<A> {
    /// Guards `app`.
    pub fn new(app: A) -> Self {
        Guarded(Arc::new(app))
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
            gate.await_request();
            if gate.requests() == 1 && session.get_keepalive().is_some() {
                // Without end as far as Pingora is concerned: the time of the first head is the client's.
                session.set_keepalive(Some(0));
            }
        }
        let mut request = self.0.process_new_http(session, shutdown);
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
            End::Done(reused) => return reused,
            End::Cut(Cut::BadLine) => Answer::to_failure(400),
            End::Cut(Cut::Late) => Answer::to_failure(408),
            End::Cut(Cut::TooLong) => Answer::to_failure(431),
            End::Cut(_) => return None,
            End::Panic => Answer::to_failure(500),
        };
        if !gate.has_sent() {
            last_word(&gate, answer).await;
        }
        None
    }

    fn h2_options(&self) -> Option<H2Options> {
        self.0.h2_options()
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        self.0.server_options()
    }

    async fn http_cleanup(&self) {
        self.0.http_cleanup().await;
    }
}

/// Sends an answer and closes. What the client still sends is read and thrown away for a while, since it would find the
/// connection reset otherwise, perhaps before it has read the answer.
async fn last_word(gate: &Gate, answer: Answer) {
    let Some(mut stream) = gate.take_left() else {
        return;
    };
    let parting = async {
        stream.write_all(&answer.to_bytes()).await?;
        stream.shutdown().await?;
        let mut ignored = vec![0; 4_096];
        while stream.read(&mut ignored).await? > 0 {}
        std::io::Result::Ok(())
    };
    // A client that has gone does not need it, and one that stays gets no more time.
    let _ = timeout(answer::LINGER, parting).await;
}
