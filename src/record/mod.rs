//! Describes finished requests: one [`RequestRecord`] each, however the request ended.
//!
//! The proxy creates the record. Metrics, access log, traces and history are [`Observer`]s.

mod attempt;
mod debug_line;
mod hex_id;
mod termination_reason;
mod trace_context;

use std::fmt::Debug;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderName, Version, header};

use crate::client_certificate::ClientVerification;
use crate::grpc_status::GrpcStatus;
use crate::message::RequestView;
use crate::pool::Pool;

pub use attempt::{Attempt, AttemptOutcome};
pub(crate) use debug_line::DebugLine;
pub(crate) use hex_id::{hex_u128, random_u128};
pub use termination_reason::TerminationReason;
pub(crate) use trace_context::TRACEPARENT;
pub use trace_context::TraceContext;

/// Receives the records of finished requests.
pub trait Observer: Debug + Send + Sync {
    /// Called once for each request when it has ended, on the thread that served it. Implementations must not block and
    /// must be cheap.
    fn on_request_end(&self, record: &RequestRecord<'_>);

    /// Called when the process exits. Blocks until all data is delivered, at the latest until `deadline`.
    fn flush(&self, _deadline: Instant) {}
}

/// A finished request.
#[derive(Debug)]
pub struct RequestRecord<'a> {
    /// The request head; `None` if no whole head arrived, or if it was lost in a panic.
    pub request: Option<RequestView<'a>>,
    /// The numbers of the request.
    pub summary: RequestSummary,
    /// The request's pool and its index in the active configuration; `None` if no pool was chosen.
    pub pool: Option<(usize, &'a Arc<Pool>)>,
    /// The attempts in order. The last one is the source of the client's response, if a host sent it.
    pub attempts: &'a [Attempt],
    /// The request id that was sent to the hosts.
    pub id: Option<&'a [u8]>,
    /// What the listener knows of the client's certificate. `None`: it asks for none.
    pub verification: Option<&'a ClientVerification>,
}

/// The numbers of a finished request, which observers can keep as they are.
#[derive(Debug, Clone, Copy)]
pub struct RequestSummary {
    /// The client's address, taken from trusted proxies where they forward it; `None` if unknown.
    pub client: Option<IpAddr>,
    /// Whether the client's connection used TLS.
    pub tls: bool,
    /// The HTTP version; `None` without a head.
    pub version: Option<Version>,
    /// When the head was read completely; without a complete head, when the head began to arrive.
    pub began: Instant,
    /// The time from `began` to the end.
    pub duration: Duration,
    /// How long the request waited in the queue for a host.
    pub queued: Duration,
    /// The status that the client received; `None` if it received no response.
    pub status: Option<u16>,
    /// How a call of gRPC ended for the client; `None` for other requests, and for a call without a status.
    pub grpc_status: Option<GrpcStatus>,
    /// Bytes of the request body.
    pub received: u64,
    /// Bytes of the response body.
    pub sent: u64,
    /// Why the request ended.
    pub termination: TerminationReason,
    /// The request's trace context; `None` without `tracing`.
    pub trace: Option<TraceContext>,
}

impl RequestSummary {
    /// Whether the client received a 5xx or such a status of gRPC, or an incomplete response that was not the client's fault.
    pub fn is_failure(&self) -> bool {
        self.status.is_some_and(|status| status >= 500)
            || self.grpc_status.is_some_and(GrpcStatus::is_failure)
            || self.termination.is_server_fault()
    }
}

impl<'a> RequestRecord<'a> {
    /// A request without a usable head, which ends now. `status` and `sent` describe the response that the client
    /// received.
    pub fn without_head(
        began: Instant,
        client: Option<IpAddr>,
        tls: bool,
        status: Option<u16>,
        sent: u64,
        termination: TerminationReason,
    ) -> Self {
        RequestRecord {
            request: None,
            summary: RequestSummary {
                client,
                tls,
                version: None,
                began,
                duration: began.elapsed(),
                queued: Duration::ZERO,
                status,
                grpc_status: None,
                received: 0,
                sent,
                termination,
                trace: None,
            },
            pool: None,
            attempts: &[],
            id: None,
            verification: None,
        }
    }

    /// The value of the first header field with this name.
    pub fn field(&self, name: &HeaderName) -> Option<&'a [u8]> {
        self.request?.get(name)
    }

    /// The Host field, or the authority of an absolute target or of HTTP/2.
    pub fn authority(&self) -> Option<&'a [u8]> {
        self.request?
            .authority
            .or_else(|| self.field(&header::HOST))
    }

    /// The attempt whose response the client received, or the last failed one; `None` without attempts.
    pub fn last_attempt(&self) -> Option<&Attempt> {
        self.attempts.last()
    }
}
