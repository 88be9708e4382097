//! A connection of HTTP/2: which streams it may open, and when it ends.
//!
//! Pingora has a loop like this one. It waits for the preface without end, closes an idle connection without a word, has
//! no number of requests after which a connection ends, and serves every stream that is opened and reset at once.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use arc_swap::ArcSwap;
use bytes::Bytes;
use h2::Reason;
use http::StatusCode;
use log::debug;
use pingora::apps::HttpServerApp;
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::{
    H2Accept, H2Options, HttpSession, default_h2_options, handshake,
};
use pingora::protocols::{
    Digest, GetProxyDigest, GetSocketDigest, GetTimingDigest, Ssl, Stream as Socket,
};
use pingora::server::ShutdownWatch;
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;

use super::exchange::Exchange;
use super::gate::{Cut, Gate};
use super::headless::tell;
use super::parting::part;
use super::stream::Client;
use super::upload_windows::{self, Windows};
use crate::alarm::Alarm;
use crate::proxy::Site;
use crate::proxy::answer::LINGER;
use crate::proxy::traffic::{Presence, Traffic};
use crate::record::Ending;

/// Streams that a client may have open at once.
const MAX_STREAMS: usize = 100;

/// Bytes of an answer that wait on a stream for the client to read.
const SEND_BUFFER: usize = 32 << 10;

/// How many streams may end without an answer, through the client, before the connection does; each answer makes up for
/// one. A browser that leaves a page resets as many as it has open.
const PATIENCE: usize = MAX_STREAMS;

/// Requests that are served at once: those of the open streams, and of as many that were reset and have not ended yet.
const MAX_REQUESTS: usize = 2 * MAX_STREAMS;

/// A connection that is being served.
pub(super) struct Connection<A> {
    app: Arc<A>,
    site: Arc<ArcSwap<Site>>,
    traffic: Arc<Traffic>,
    /// The deadlines of the socket.
    gate: Arc<Gate>,
    shutdown: ShutdownWatch,
    /// The requests that are being served; each tells whether it was answered.
    streams: JoinSet<bool>,
    windows: Windows,
    /// Streams that were opened so far.
    opened: u64,
    /// See [`PATIENCE`].
    patience: usize,
    /// Since when there is no stream.
    quiet_since: Instant,
    leaving: Leaving,
    /// While the process stops, it waits for this connection.
    presence: Option<Presence>,
    alarm: Alarm,
}

/// Whether the client has been told that the connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leaving {
    No,
    /// What it asks for it still gets, as long as it may not know.
    InPeace(Instant),
    /// It has done what it must not; from when on it gets nothing more.
    AtOnce(Instant),
}

/// What happens on a connection.
enum Event {
    /// The process stops.
    Stopping,
    /// A stream has ended.
    Ended(Result<bool, JoinError>),
    /// A stream is opened.
    Accepted(Box<H2Accept>),
    /// The client has been too slow with a head, or has sent too much that brings no request forward.
    Late,
    /// Uploads make progress.
    Progress,
    /// There has been no stream for a while.
    Quiet,
    /// The same, but for what the client has not read yet.
    Unread,
}

type Http2 = h2::server::Connection<Socket, Bytes>;

impl<A: HttpServerApp + Send + Sync + 'static> Connection<A> {
    pub(super) fn new(
        app: Arc<A>,
        site: Arc<ArcSwap<Site>>,
        traffic: Arc<Traffic>,
        gate: Arc<Gate>,
        shutdown: ShutdownWatch,
    ) -> Self {
        Connection {
            windows: Windows::new(Arc::clone(&traffic)),
            app,
            site,
            traffic,
            gate,
            shutdown,
            streams: JoinSet::new(),
            opened: 0,
            patience: PATIENCE,
            quiet_since: Instant::now(),
            leaving: Leaving::No,
            presence: None,
            alarm: Alarm::default(),
        }
    }

    /// Serves `client` until its end.
    pub(super) async fn serve(mut self, client: Client) {
        let digest = Arc::new(Digest {
            ssl_digest: client.get_ssl_digest(),
            timing_digest: client.get_timing_digest(),
            proxy_digest: client.get_proxy_digest(),
            socket_digest: client.get_socket_digest(),
        });
        let options = options(&self.site.load());
        let opened = tokio::select! {
            biased;
            opened = handshake(Box::new(client), Some(options)) => opened,
            () = cut(&self.gate, false) => return debug!("no HTTP/2 preface in time"),
        };
        match opened {
            Ok(mut connection) => {
                while let Some(event) = self.next(&mut connection, &digest).await {
                    let before = self.leaving;
                    self.take(event);
                    self.windows.adjust(|before, now| {
                        if now.stream != before.stream
                            && connection.set_initial_window_size(now.stream).is_err()
                        {
                            // The client has not confirmed the last change.
                            return false;
                        }
                        connection.set_target_window_size(now.connection);
                        true
                    });
                    match self.leaving {
                        leaving if leaving == before => {}
                        Leaving::No => {}
                        Leaving::InPeace(_) => connection.graceful_shutdown(),
                        Leaving::AtOnce(_) => {
                            connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
                        }
                    }
                }
                // The socket is left in the gate.
                self.gate.cut(Cut::Gone);
            }
            Err(error) => debug!("{error}"),
        }
        part(&self.gate, &[]).await;
        // They see that the client has gone, and end as they would otherwise.
        self.streams.detach_all();
    }

    /// Waits for what happens next; `None`: the connection has ended.
    async fn next(&mut self, connection: &mut Http2, digest: &Arc<Digest>) -> Option<Event> {
        let quiet_by = self.quiet_by();
        let is_cut = self.is_leaving_at_once();
        let is_quiet = is_cut || self.streams.is_empty();
        let event = tokio::select! {
            biased;
            () = stopping(&mut self.shutdown), if self.presence.is_none() => Event::Stopping,
            Some(ended) = self.streams.join_next() => Event::Ended(ended),
            accepted = HttpSession::from_h2_conn(connection, Arc::clone(digest)) => match accepted {
                Ok(accepted) => Event::Accepted(Box::new(accepted?)),
                Err(error) => {
                    debug!("{error}");
                    return None;
                }
            },
            () = cut(&self.gate, is_cut) => Event::Late,
            () = self.windows.due() => Event::Progress,
            () = ring(&mut self.alarm, quiet_by), if is_quiet => Event::Quiet,
        };
        match event {
            // What was written for the last stream waits for the client to read; the socket has its own deadline.
            Event::Quiet if connection.has_streams() && !is_cut => Some(Event::Unread),
            // It has been told, and does not go by itself.
            Event::Quiet if self.leaving != Leaving::No => None,
            event => Some(event),
        }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Stopping => {
                self.presence = Some(self.traffic.enter());
                self.leave_in_peace();
            }
            Event::Ended(answered) => self.stream_ended(answered.unwrap_or(true)),
            Event::Accepted(accepted) => match *accepted {
                H2Accept::Session(session) => self.accept(session),
                H2Accept::Rejected => self.stream_was_wasted(),
            },
            Event::Late => {
                match self.gate.why_cut() {
                    Cut::Flood => debug!(
                        "a client floods its connection with frames that bring no request forward"
                    ),
                    _ => self.tell_late(),
                }
                self.leave_at_once();
            }
            Event::Progress => {}
            Event::Unread => self.quiet_since = Instant::now(),
            Event::Quiet => self.leave_in_peace(),
        }
    }

    /// Serves a request in a task of its own, where a panic ends nothing else.
    fn accept(&mut self, session: HttpSession) {
        if self.is_leaving_at_once() {
            return;
        }
        self.opened += 1;
        let mut exchange = Exchange::new(session, self.gate.peer());
        // Those before were reset, and what was begun for them has not ended.
        let is_crowded = self.streams.len() >= MAX_REQUESTS;
        let knows = matches!(self.leaving, Leaving::InPeace(since) if since.elapsed() > LINGER);
        if is_crowded || knows {
            exchange.refuse();
            return self.stream_was_wasted();
        }
        let site = self.site.load();
        if !exchange.is_well_formed() {
            let status = StatusCode::BAD_REQUEST;
            exchange.dismiss(status);
            let status = Some(status.as_u16());
            let who = (self.gate.peer(), std::time::Instant::now());
            return tell(&site, who, status, 0, Ending::BadRequest);
        }
        if exchange.request().headers.len() > site.limits.fields {
            // A few bytes make many fields: they are kept no longer than it takes to count them.
            let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
            exchange.dismiss(status);
            let status = Some(status.as_u16());
            let who = (self.gate.peer(), std::time::Instant::now());
            return tell(&site, who, status, 0, Ending::TooLarge);
        }
        if self.streams.len() as u64 >= self.traffic.affordable_each() {
            let status = StatusCode::SERVICE_UNAVAILABLE;
            exchange.dismiss(status);
            let status = Some(status.as_u16());
            let who = (self.gate.peer(), std::time::Instant::now());
            return tell(&site, who, status, 0, Ending::Overloaded);
        }
        if exchange.has_body() {
            exchange.uploads(self.windows.upload());
        }
        let most = site.limits.max_requests_per_connection;
        if most.is_some_and(|most| self.opened >= most) {
            self.leave_in_peace();
        }
        let (app, shutdown) = (Arc::clone(&self.app), self.shutdown.clone());
        let gate = Arc::clone(exchange.gate());
        let late = site.timeouts.read;
        let shared = Arc::clone(&self.site);
        let began = std::time::Instant::now();
        self.streams.spawn(async move {
            if exchange.owes_end()
                && let Err(ending) = exchange.await_end(late).await
            {
                let status = exchange.give_up(ending);
                tell(&shared.load(), (gate.peer(), began), status, 0, ending);
                return status.is_some();
            }
            let session = ServerSession::new_custom(Box::new(exchange));
            app.process_new_http(session, &shutdown).await;
            gate.has_sent()
        });
    }

    /// A head has been begun and not ended within its time; there is no stream that an answer could go to.
    fn tell_late(&self) {
        let site = self.site.load();
        let now = std::time::Instant::now();
        let began = now.checked_sub(site.timeouts.client_head).unwrap_or(now);
        tell(
            &site,
            (self.gate.peer(), began),
            None,
            0,
            Ending::ClientTimeout,
        );
    }

    fn stream_ended(&mut self, answered: bool) {
        if self.streams.is_empty() {
            self.quiet_since = Instant::now();
        }
        if answered {
            self.patience = PATIENCE.min(self.patience + 1);
        } else {
            self.stream_was_wasted();
        }
    }

    fn stream_was_wasted(&mut self) {
        self.patience = self.patience.saturating_sub(1);
        if self.patience == 0 {
            self.leave_at_once();
        }
    }

    fn leave_in_peace(&mut self) {
        if self.leaving == Leaving::No {
            let now = Instant::now();
            self.leaving = Leaving::InPeace(now);
            self.quiet_since = now;
        }
    }

    fn leave_at_once(&mut self) {
        if !self.is_leaving_at_once() {
            self.leaving = Leaving::AtOnce(Instant::now());
        }
    }

    fn is_leaving_at_once(&self) -> bool {
        matches!(self.leaving, Leaving::AtOnce(_))
    }

    /// When a connection on which nothing happens goes one step further towards its end.
    fn quiet_by(&self) -> Instant {
        match self.leaving {
            Leaving::No => self.quiet_since + self.site.load().timeouts.client_keepalive,
            Leaving::InPeace(_) => self.quiet_since + LINGER,
            Leaving::AtOnce(since) => since + LINGER,
        }
    }
}

/// How much a client may send, and make us keep.
fn options(site: &Site) -> H2Options {
    let mut options = default_h2_options();
    options
        .max_concurrent_streams(MAX_STREAMS as u32)
        .max_header_list_size(u32::try_from(site.limits.head).unwrap_or(u32::MAX))
        .initial_window_size(upload_windows::STREAM)
        .initial_connection_window_size(upload_windows::CONNECTION)
        .max_send_buffer_size(SEND_BUFFER)
        .max_local_error_reset_streams(Some(PATIENCE));
    options
}

/// Waits until the socket has found the client late. It is polled behind the socket, in the same task, when every head
/// that has come has been looked at. `known`: it has been found so before.
async fn cut(gate: &Gate, known: bool) {
    poll_fn(|_| {
        gate.set_full(false);
        match gate.why_cut() {
            _ if known => Poll::Pending,
            Cut::None => Poll::Pending,
            _ => Poll::Ready(()),
        }
    })
    .await;
}

/// Waits until the process stops.
async fn stopping(shutdown: &mut ShutdownWatch) {
    // Whoever says so outlives all connections, but for the end of the process.
    let _ = shutdown.wait_for(|stops| *stops).await;
}

async fn ring(alarm: &mut Alarm, time: Instant) {
    poll_fn(|context| match alarm.rings(time, context) {
        true => Poll::Ready(()),
        false => Poll::Pending,
    })
    .await;
}
