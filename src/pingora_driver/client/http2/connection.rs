//! An HTTP/2 connection: which streams it may open, and when it closes.
//!
//! Pingora has a similar loop, with four shortcomings: it waits for the preface without a timeout, closes an idle
//! connection without GOAWAY, cannot limit the number of requests per connection, and starts a request for every
//! stream, even if the client resets it at once.

use std::future::poll_fn;
use std::mem;
use std::sync::Arc;
use std::task::Poll;

use arc_swap::ArcSwap;
use bytes::Bytes;
use h2::server::Builder;
use http::StatusCode;
use log::debug;
use pingora::apps::HttpServerApp;
use pingora::server::ShutdownWatch;
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;

use super::connection_lifetime::{ConnectionLifetime, MAX_WASTED_STREAMS, ShutdownState};
use super::extended_connect::is_offered;
use super::opened_stream::OpenedStream;
use super::stream_server::StreamServer;
use super::upload_windows::{self, UploadWindows};
use crate::deadline_timer::DeadlineTimer;
use crate::pingora_driver::client::connection_state::{AbortReason, ConnectionState};
use crate::pingora_driver::client::lingering_close::close_abandoned;
use crate::pingora_driver::client::stream::ClientStream;
use crate::proxy::ActiveConfig;
use crate::proxy::admission::traffic_state::{InFlightGuard, TrafficState};
use crate::proxy::completion::report_early_error;
use crate::record::TerminationReason;

/// Maximum number of streams that a client may have open at once.
pub(super) const MAX_STREAMS: usize = 100;

/// Maximum number of response bytes buffered per stream until the client reads them, in bytes.
const SEND_BUFFER: usize = 32 << 10;

/// Maximum number of requests in progress: one for each open stream, and as many again for streams that were reset
/// while their request is still being cleaned up.
const MAX_REQUESTS: usize = 2 * MAX_STREAMS;

/// An HTTP/2 connection being served.
pub(crate) struct H2Connection<A> {
    server: Arc<StreamServer<A>>,
    active: Arc<ArcSwap<ActiveConfig>>,
    traffic: Arc<TrafficState>,
    /// Holds the deadlines of the socket.
    state: Arc<ConnectionState>,
    shutdown: ShutdownWatch,
    /// The tasks that serve requests. Each returns whether the request got a response.
    streams: JoinSet<bool>,
    windows: UploadWindows,
    /// Number of streams opened so far.
    stream_count: u64,
    lifetime: ConnectionLifetime,
    /// Keeps the process running during shutdown until this connection has closed.
    in_flight: Option<InFlightGuard>,
    timer: DeadlineTimer,
}

/// An event on a connection.
enum ConnectionEvent {
    /// The process is shutting down.
    ProcessStopping,
    StreamEnded(Result<bool, JoinError>),
    /// Clients open several streams at once, and all that have arrived are one event.
    StreamsAccepted(Vec<OpenedStream>),
    /// A head was not complete in time, or the client sent too many frames that carry no request.
    Aborted,
    /// Uploads have progressed, so the windows may grow.
    UploadProgress,
    /// The connection has been without streams for the keep-alive timeout.
    Idle,
    /// As `Idle`, but the client has not yet read all response data.
    ResponseUnread,
}

type ServerConnection = h2::server::Connection<ClientStream, Bytes>;

impl<A: HttpServerApp + Send + Sync + 'static> H2Connection<A> {
    /// The connection with this state, whose streams `server` serves.
    pub(crate) fn new(
        server: StreamServer<A>,
        traffic: Arc<TrafficState>,
        state: Arc<ConnectionState>,
    ) -> Self {
        H2Connection {
            windows: UploadWindows::new(Arc::clone(&traffic)),
            active: Arc::clone(&server.active),
            shutdown: server.shutdown.clone(),
            server: Arc::new(server),
            traffic,
            state,
            streams: JoinSet::new(),
            stream_count: 0,
            lifetime: ConnectionLifetime::new(),
            in_flight: None,
            timer: DeadlineTimer::default(),
        }
    }

    /// Serves `client` until the connection closes.
    pub(crate) async fn serve(mut self, client: ClientStream) {
        let options = options(&self.active.load());
        let opened = tokio::select! {
            biased;
            opened = options.handshake(client) => opened,
            () = aborted(&self.state, false) => return debug!("no HTTP/2 preface in time"),
        };
        match opened {
            Ok(mut connection) => {
                while let Some(event) = self.next_event(&mut connection).await {
                    let before = self.lifetime.shutdown_state();
                    self.handle(event);
                    self.windows.adjust(|before, now| {
                        if now.stream != before.stream
                            && connection.set_initial_window_size(now.stream).is_err()
                        {
                            // The client has not yet acknowledged the previous SETTINGS frame.
                            return false;
                        }
                        connection.set_target_window_size(now.connection);
                        true
                    });
                    match self.lifetime.shutdown_state() {
                        state if state == before => {}
                        ShutdownState::Running => {}
                        ShutdownState::Graceful(_) => connection.graceful_shutdown(),
                        ShutdownState::Abrupt(_) => {
                            connection.abrupt_shutdown(h2::Reason::ENHANCE_YOUR_CALM);
                        }
                    }
                }
                // The socket remains in the state.
                self.state.abort(AbortReason::ClientGone);
            }
            Err(error) => debug!("{error}"),
        }
        close_abandoned(&self.state, &[]).await;
        // The tasks detect the disconnect themselves and end normally.
        self.streams.detach_all();
    }

    /// Waits for the next event. `None`: the connection has closed.
    async fn next_event(&mut self, connection: &mut ServerConnection) -> Option<ConnectionEvent> {
        let keepalive = self.active.load().timeouts.client_keepalive;
        let idle_deadline = self.lifetime.idle_deadline(keepalive);
        let is_abrupt = self.lifetime.is_shutting_down_abruptly();
        let is_idle = is_abrupt || self.streams.is_empty();
        let event = tokio::select! {
            biased;
            () = wait_for_shutdown(&mut self.shutdown), if self.in_flight.is_none() => ConnectionEvent::ProcessStopping,
            Some(ended) = self.streams.join_next() => ConnectionEvent::StreamEnded(ended),
            accepted = accept_ready(connection) => match accepted? {
                Ok(streams) => ConnectionEvent::StreamsAccepted(streams),
                Err(error) => {
                    debug!("{error}");
                    return None;
                }
            },
            () = aborted(&self.state, is_abrupt) => ConnectionEvent::Aborted,
            () = self.windows.due() => ConnectionEvent::UploadProgress,
            () = sleep_until_deadline(&mut self.timer, idle_deadline), if is_idle => ConnectionEvent::Idle,
        };
        match event {
            // Response data of the last stream waits for the client to read it. The socket has its own write timeout.
            ConnectionEvent::Idle if connection.has_streams() && !is_abrupt => {
                Some(ConnectionEvent::ResponseUnread)
            }
            // The client has been sent GOAWAY and has not closed the connection.
            ConnectionEvent::Idle if self.lifetime.shutdown_state() != ShutdownState::Running => {
                None
            }
            event => Some(event),
        }
    }

    fn handle(&mut self, event: ConnectionEvent) {
        match event {
            ConnectionEvent::ProcessStopping => {
                self.in_flight = Some(self.traffic.enter());
                self.lifetime.shut_down_gracefully();
            }
            ConnectionEvent::StreamEnded(answered) => {
                let mut ended = Some(answered);
                while let Some(answered) = ended {
                    let is_last = self.streams.is_empty();
                    self.lifetime
                        .note_stream_end(answered.unwrap_or(true), is_last);
                    ended = self.streams.try_join_next();
                }
            }
            ConnectionEvent::StreamsAccepted(streams) => {
                streams.into_iter().for_each(|stream| self.accept(stream));
            }
            ConnectionEvent::Aborted => {
                match self.state.abort_reason() {
                    AbortReason::FrameFlood => {
                        debug!("a client sends too many frames that carry no request")
                    }
                    _ => self.report_head_timeout(),
                }
                self.lifetime.shut_down_abruptly();
            }
            ConnectionEvent::UploadProgress => {}
            ConnectionEvent::ResponseUnread => self.lifetime.restart_idle_time(),
            ConnectionEvent::Idle => self.lifetime.shut_down_gracefully(),
        }
    }

    /// Serves a request in its own task, so that a panic affects only this request.
    fn accept(&mut self, mut stream: OpenedStream) {
        if self.lifetime.is_shutting_down_abruptly() {
            return;
        }
        self.stream_count += 1;
        // Earlier streams were reset, and their requests have not been cleaned up yet.
        let is_crowded = self.streams.len() >= MAX_REQUESTS;
        let has_seen_goaway = self.lifetime.has_client_seen_goaway();
        if is_crowded || has_seen_goaway {
            stream.refuse();
            return self.lifetime.note_wasted_stream();
        }
        let active = self.active.load();
        if let Some((status, termination)) = stream.refusal(&active) {
            return self.reject_stream(stream, status, termination);
        }
        if self.streams.len() as u64 >= self.traffic.max_streams_per_connection() {
            let status = StatusCode::SERVICE_UNAVAILABLE;
            return self.reject_stream(stream, status, TerminationReason::Overloaded);
        }
        if stream.has_body() {
            let upload = self.windows.upload();
            stream.track_upload(Box::new(move |bytes| upload.progressed(bytes)));
        }
        let max_requests = active.limits.max_requests_per_connection;
        if max_requests.is_some_and(|max_requests| self.stream_count >= max_requests) {
            self.lifetime.shut_down_gracefully();
        }
        let end_timeout = active.timeouts.read;
        let server = Arc::clone(&self.server);
        self.streams
            .spawn(async move { server.serve(stream, end_timeout).await });
    }

    /// Responds to a stream without passing it to the proxy, and reports the request.
    fn reject_stream(
        &self,
        stream: OpenedStream,
        status: StatusCode,
        termination: TerminationReason,
    ) {
        stream.respond_with_status(status);
        report_early_error(
            &self.active.load(),
            self.state.peer().address_and_tls(),
            std::time::Instant::now(),
            Some(status.as_u16()),
            0,
            termination,
        );
    }

    /// Reports a head that was not complete in time. There is no stream to send a response on.
    fn report_head_timeout(&self) {
        let active = self.active.load();
        let now = std::time::Instant::now();
        let began = now.checked_sub(active.timeouts.client_head).unwrap_or(now);
        report_early_error(
            &active,
            self.state.peer().address_and_tls(),
            began,
            None,
            0,
            TerminationReason::ClientTimeout,
        );
    }
}

/// The streams that the client has opened, at least one; waits until there is one. `None`: the connection has closed.
async fn accept_ready(
    connection: &mut ServerConnection,
) -> Option<Result<Vec<OpenedStream>, h2::Error>> {
    let mut streams = Vec::new();
    poll_fn(|context| {
        while streams.len() < MAX_STREAMS {
            match connection.poll_accept(context) {
                Poll::Ready(Some(Ok((request, responder)))) => {
                    streams.push(OpenedStream::new(request, responder));
                }
                Poll::Pending if streams.is_empty() => return Poll::Pending,
                Poll::Ready(end) if streams.is_empty() => {
                    return Poll::Ready(end.map(|end| end.map(|_| Vec::new())));
                }
                // What has ended the connection comes again.
                _ => break,
            }
        }
        Poll::Ready(Some(Ok(mem::take(&mut streams))))
    })
    .await
}

/// Limits on what a client may send and make the proxy buffer, and whether it may ask for tunnels.
fn options(active: &ActiveConfig) -> Builder {
    let mut options = Builder::new();
    options
        .max_concurrent_streams(MAX_STREAMS as u32)
        .max_header_list_size(u32::try_from(active.limits.head).unwrap_or(u32::MAX))
        .initial_window_size(upload_windows::INITIAL_STREAM_WINDOW)
        .initial_connection_window_size(upload_windows::INITIAL_CONNECTION_WINDOW)
        .max_send_buffer_size(SEND_BUFFER)
        .max_local_error_reset_streams(Some(MAX_WASTED_STREAMS));
    if is_offered(&active.upgrades) {
        options.enable_connect_protocol();
    }
    options
}

/// Resolves when the socket has detected an expired deadline. It must be polled after the socket, in the same task,
/// when all heads received have been processed. `known`: it has resolved before.
async fn aborted(state: &ConnectionState, known: bool) {
    poll_fn(|_| {
        state.set_pending_heads(false);
        match state.abort_reason() {
            _ if known => Poll::Pending,
            AbortReason::None => Poll::Pending,
            _ => Poll::Ready(()),
        }
    })
    .await;
}

/// Resolves when the process shuts down.
async fn wait_for_shutdown(shutdown: &mut ShutdownWatch) {
    // The sender outlives all connections, except when the process exits.
    let _ = shutdown.wait_for(|stops| *stops).await;
}

async fn sleep_until_deadline(timer: &mut DeadlineTimer, time: Instant) {
    poll_fn(|context| match timer.has_elapsed(time, context) {
        true => Poll::Ready(()),
        false => Poll::Pending,
    })
    .await;
}
