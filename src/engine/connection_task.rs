//! The task of a client connection: reads one request after the other and serves it.

use std::cell::RefCell;
use std::future::poll_fn;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Poll;

use pingora::Result;
use pingora::http::RequestHeader;
use tokio::time::Instant;

use super::buffer::SMALL_SIZE;
use super::client_connection::ClientConnection;
use super::client_peer::ClientPeer;
use super::client_transport::ClientTransport;
use super::exchange::{Exchange, RequestBuffers};
use super::free_list::FreeList;
use super::{Engine, StreamOutcome, UnservedConnection};
use crate::message::head::{HeadError, HeadProgress, MAX_FIELDS};
use crate::message::http2_preface::begins_http2;
use crate::proxy::completion::report_early_error;
use crate::proxy::local_message::LocalMessage;
use crate::proxy::local_response::{LINGER, LocalResponse};
use crate::record::TerminationReason;

thread_local! {
    static FREE_BUFFERS: RefCell<FreeList<Box<RequestBuffers>>> = const { RefCell::new(FreeList::new()) };
}

/// The state of a client connection's task.
pub(super) struct ConnectionTask<'e> {
    engine: &'e Engine,
    client: ClientConnection,
    peer: ClientPeer,
    began: Instant,
    /// Requests served so far.
    requests: u64,
}

/// What a read for the next request head found.
enum NextRequest {
    /// A complete head of this length.
    Ready(usize),
    /// A complete head of this length that is refused with this response.
    Refused(usize, LocalResponse),
    /// HTTP/2 with prior knowledge.
    Http2,
    /// Malformed bytes, or a head that is too large or too slow; there is no request to report.
    Invalid(LocalResponse),
    /// No bytes: the client closed, the idle timeout expired, or the process shuts down.
    Closed,
    /// The client disconnected in the middle of a head.
    Aborted,
}

/// What happens to the connection after a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AfterRequest {
    /// The connection stays open for the next request.
    KeepAlive,
    /// Lingering close: unread bytes may still arrive.
    LingeringClose,
    /// Immediate close: the client has received everything and has sent no unread bytes.
    Close,
    /// The connection is dropped without a proper end.
    Abort,
    /// Pingora serves the request, whose head is unread again, and all that follow.
    HandOver,
}

impl<'e> ConnectionTask<'e> {
    pub(super) fn new(engine: &'e Engine, transport: ClientTransport, peer: ClientPeer) -> Self {
        ConnectionTask {
            engine,
            client: ClientConnection::new(transport),
            peer,
            began: Instant::now(),
            requests: 0,
        }
    }

    /// Serves the connection until it closes, or until a request needs Pingora.
    pub(super) async fn serve(mut self) -> Option<UnservedConnection> {
        let engine = self.engine;
        let mut registered = None;
        poll_fn(|context| {
            registered = Some(engine.idle_closer.register(context.waker()));
            Poll::Ready(())
        })
        .await;
        loop {
            let (buffers, next, began) = self.read_head().await;
            let after = match next {
                NextRequest::Closed => AfterRequest::LingeringClose,
                NextRequest::Aborted => {
                    self.report_without_head(began, None, TerminationReason::ClientGone);
                    AfterRequest::Abort
                }
                NextRequest::Http2 => return self.hand_over(true),
                NextRequest::Invalid(response) => {
                    self.report_without_head(began, Some(response), response.termination());
                    self.send(response).await;
                    AfterRequest::LingeringClose
                }
                NextRequest::Ready(length) => {
                    self.run_exchange(buffers, None, (length, began), None)
                        .await
                }
                NextRequest::Refused(length, response) => {
                    self.run_exchange(buffers, None, (length, began), Some(response))
                        .await
                }
            };
            match after {
                AfterRequest::KeepAlive => self.requests += 1,
                AfterRequest::LingeringClose => {
                    self.client.lingering_close().await;
                    return None;
                }
                AfterRequest::Close => {
                    self.client.send_close_notify().await;
                    return None;
                }
                AfterRequest::Abort => return None,
                AfterRequest::HandOver => return self.hand_over(false),
            }
        }
    }

    fn hand_over(self, is_http2: bool) -> Option<UnservedConnection> {
        match self.client.transport {
            ClientTransport::Socket(socket) => Some(UnservedConnection {
                received: self.client.inbound.filled().to_vec(),
                socket,
                is_http2,
            }),
            ClientTransport::Http2(_) => None,
        }
    }

    /// Serves the one request of a stream with this head.
    pub(super) async fn serve_stream(mut self, mut head: RequestHeader) -> StreamOutcome {
        let began = Instant::now();
        let after = self
            .run_exchange(take_buffers(), Some(&mut head), (0, began), None)
            .await;
        let has_responded = self.client.has_sent;
        let ClientTransport::Http2(mut stream) = self.client.transport else {
            return StreamOutcome::Served { has_responded };
        };
        match after {
            AfterRequest::HandOver => {
                return StreamOutcome::Unserved(Box::new(stream.into_request(head)));
            }
            AfterRequest::Abort => stream.reset(),
            _ => stream.shut_down(),
        }
        StreamOutcome::Served { has_responded }
    }

    /// Waits for the next head. Also returns when the head was complete or, if it is incomplete, when its first byte
    /// arrived.
    async fn read_head(&mut self) -> (Box<RequestBuffers>, NextRequest, Instant) {
        let engine = self.engine;
        let is_first = self.requests == 0;
        let idle_since = match is_first {
            true => self.began,
            false => Instant::now(),
        };
        let mut first_byte_at = is_first.then_some(self.began);
        let mut buffers: Option<Box<RequestBuffers>> = None;
        let (client, peer) = (&mut self.client, &self.peer.info);
        client.has_sent = false;
        let next = poll_fn(|context| {
            loop {
                if !client.inbound.is_empty() {
                    let bytes = client.inbound.filled();
                    let http2 = match bytes {
                        [b'P', ..] if is_first && engine.takes_cleartext_http2(peer) => {
                            begins_http2(bytes)
                        }
                        _ => Some(false),
                    };
                    if http2 == Some(true) {
                        return Poll::Ready(NextRequest::Http2);
                    }
                    let buffers = buffers.get_or_insert_with(take_buffers);
                    let parsed = match http2 {
                        None => Ok(HeadProgress::Partial),
                        Some(_) => buffers.head.read_request(bytes, MAX_FIELDS),
                    };
                    match parsed {
                        Ok(HeadProgress::Complete(length)) => {
                            return Poll::Ready(NextRequest::Ready(length));
                        }
                        Ok(HeadProgress::Partial) => {}
                        Err(HeadError::FragmentInTarget) => {
                            let length = bytes.len();
                            return Poll::Ready(NextRequest::Refused(
                                length,
                                LocalResponse::BAD_TARGET,
                            ));
                        }
                        Err(HeadError::TooManyFields) => {
                            return Poll::Ready(NextRequest::Invalid(
                                LocalResponse::TOO_MANY_FIELDS,
                            ));
                        }
                        Err(HeadError::Malformed) => {
                            return Poll::Ready(NextRequest::Invalid(LocalResponse::for_status(
                                400,
                            )));
                        }
                    }
                    let active = engine.active.load();
                    if bytes.len() >= active.limits.head {
                        return Poll::Ready(NextRequest::Invalid(LocalResponse::HEAD_TOO_LARGE));
                    }
                    let began = *first_byte_at.get_or_insert_with(Instant::now);
                    let deadline = began + active.timeouts.client_head;
                    match client.poll_read(context, SMALL_SIZE) {
                        Poll::Ready(Ok(1..)) => continue,
                        Poll::Ready(_) => return Poll::Ready(NextRequest::Aborted),
                        Poll::Pending if client.timer.has_elapsed(deadline, context) => {
                            return Poll::Ready(NextRequest::Invalid(LocalResponse::for_status(
                                408,
                            )));
                        }
                        Poll::Pending => return Poll::Pending,
                    }
                }
                match client.poll_read(context, SMALL_SIZE) {
                    Poll::Ready(Ok(1..)) => continue,
                    Poll::Ready(_) => return Poll::Ready(NextRequest::Closed),
                    Poll::Pending => {}
                }
                if engine.idle_closer.is_closing() {
                    return Poll::Ready(NextRequest::Closed);
                }
                let timeouts = engine.active.load().timeouts;
                let limit = match is_first {
                    true => timeouts.client_head,
                    false => timeouts.client_keepalive,
                };
                if client.timer.has_elapsed(idle_since + limit, context) {
                    return Poll::Ready(NextRequest::Closed);
                }
                return Poll::Pending;
            }
        })
        .await;
        let buffers = buffers.unwrap_or_else(take_buffers);
        let head_started = match next {
            NextRequest::Ready(_) | NextRequest::Refused(..) => None,
            _ => first_byte_at,
        };
        (buffers, next, head_started.unwrap_or_else(Instant::now))
    }

    /// Serves a request. A panic ends only this request.
    async fn run_exchange(
        &mut self,
        mut buffers: Box<RequestBuffers>,
        http2: Option<&mut RequestHeader>,
        (length, began): (usize, Instant),
        refused: Option<LocalResponse>,
    ) -> AfterRequest {
        buffers.start(&self.client.inbound.filled()[..length]);
        let is_stream = http2.is_some();
        if is_stream {
            // A timer that is not made anew for each request costs next to nothing.
            mem::swap(&mut buffers.timer, &mut self.client.timer);
        }
        let end = {
            let exchange = Exchange {
                engine: self.engine,
                client: &mut self.client,
                peer: &self.peer,
                requests: self.requests,
                began: began.into_std(),
                length,
            };
            // Boxed, so that an idle connection does not reserve memory for a request.
            let mut running = Box::pin(exchange.run(&mut buffers, http2, refused));
            // The future is moved for each request, so it has to stay small; rarely used futures inside it are boxed.
            let size = size_of_val(&*running);
            debug_assert!(size <= 2_176, "{size} bytes");
            poll_fn(|context| {
                // Unwind safety: everything a panic leaves in an odd state is dropped. What outlives it is built for
                // that: counters that decrease on drop, locks whose poison is ignored, and the client's socket, which
                // is closed.
                match catch_unwind(AssertUnwindSafe(|| running.as_mut().poll(context))) {
                    Ok(Poll::Ready(end)) => Poll::Ready(Some(end)),
                    Ok(Poll::Pending) => Poll::Pending,
                    Err(_) => Poll::Ready(None),
                }
            })
            .await
        };
        match end {
            Some(end) => {
                if is_stream {
                    mem::swap(&mut buffers.timer, &mut self.client.timer);
                }
                put_buffers(buffers);
                end
            }
            None if self.client.has_sent => AfterRequest::Abort,
            None => {
                self.send(LocalResponse::for_status(500)).await;
                AfterRequest::LingeringClose
            }
        }
    }

    /// Reports a request without a complete head.
    fn report_without_head(
        &self,
        began: Instant,
        response: Option<LocalResponse>,
        termination: TerminationReason,
    ) {
        let status = response.map(|response| response.status());
        let sent = response.map_or(0, |response| response.len());
        let client = (
            self.peer.info.address.map(|address| address.ip()),
            self.peer.info.tls,
        );
        report_early_error(
            &self.engine.active.load(),
            client,
            began.into_std(),
            status,
            sent,
            termination,
        );
    }

    /// Sends a local response before the connection closes.
    async fn send(&mut self, response: LocalResponse) {
        let limit = self.engine.active.load().timeouts.write;
        let _: Result<()> = self
            .client
            .write_all(&LocalMessage::from(response).to_bytes(), limit.min(LINGER))
            .await;
    }
}

fn take_buffers() -> Box<RequestBuffers> {
    let reused = FREE_BUFFERS.try_with(|free| free.borrow_mut().take());
    reused.ok().flatten().unwrap_or_default()
}

fn put_buffers(mut buffers: Box<RequestBuffers>) {
    buffers.shrink();
    // Fails only while the thread ends; the buffers are then dropped.
    let _ = FREE_BUFFERS.try_with(|free| free.borrow_mut().put(buffers));
}

/// Drops buffers that this thread has not needed lately.
pub(super) fn trim() {
    FREE_BUFFERS.with(|free| free.borrow_mut().trim());
}
