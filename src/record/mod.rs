//! What is told of a request once it has ended: one [`RequestRecord`] for each, whatever became of it.
//!
//! The proxy makes it; whoever counts, writes or exports requests is an [`Observer`].

mod attempt;
mod debug_line;
mod termination_reason;
mod trace_context;

use std::fmt::Debug;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderName, Version, header};

use crate::message::RequestView;
use crate::pool::Pool;

pub use attempt::{Attempt, AttemptOutcome};
pub(crate) use debug_line::DebugLine;
pub use termination_reason::TerminationReason;
pub use trace_context::TraceContext;
pub(crate) use trace_context::{TRACEPARENT, hex_u128, random_u128};

/// Takes in how requests went.
pub trait Observer: Debug + Send + Sync {
    /// A request has ended. Called once for each, on the thread that served it: it must neither wait nor do much.
    fn on_request_end(&self, record: &RequestRecord<'_>);

    /// The process ends: what is still on its way should get there by then. Blocks until it has.
    fn flush(&self, _by: Instant) {}
}

/// A request that has ended.
#[derive(Debug)]
pub struct RequestRecord<'a> {
    /// Its head; `None` where none came whole, or where it was lost in a panic.
    pub request: Option<RequestView<'a>>,
    /// What there is to say of it in numbers.
    pub summary: RequestSummary,
    /// Its pool with its number in the site; `None` if it never had one.
    pub pool: Option<(usize, &'a Arc<Pool>)>,
    /// What was tried, in order; the last one is what the client has its answer from, if it is from a host.
    pub attempts: &'a [Attempt],
    /// The id that its attempts carried.
    pub id: Option<&'a [u8]>,
}

/// What there is to say of a request that has ended in numbers: what observers keep of it as it is.
#[derive(Debug, Clone, Copy)]
pub struct RequestSummary {
    /// Who sent it, as far as trusted proxies say; `None` where that is not known.
    pub client: Option<IpAddr>,
    /// Whether the client's connection was encrypted.
    pub tls: bool,
    /// The version of HTTP that it came in; `None` without a head.
    pub version: Option<Version>,
    /// When its head had been read; without a head, when that began.
    pub began: Instant,
    /// From then until it ended.
    pub duration: Duration,
    /// How long it waited in line for a host.
    pub queued: Duration,
    /// The status that the client got; `None` if it got none.
    pub status: Option<u16>,
    /// Bytes of its body.
    pub received: u64,
    /// Bytes of the answer's body.
    pub sent: u64,
    /// What ended it.
    pub termination: TerminationReason,
    /// Its place in a trace; `None` without `tracing`.
    pub trace: Option<TraceContext>,
}

impl RequestSummary {
    /// Whether the client got a 5xx, or no whole answer, through no fault of its own.
    pub fn is_failure(&self) -> bool {
        self.status.is_some_and(|status| status >= 500) || self.termination.is_server_fault()
    }
}

impl<'a> RequestRecord<'a> {
    /// A request of which no head was had that a proxy could go by: when it began, who sent it, and the status and the
    /// bytes of the body that `client` got for it. It ends now.
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
                received: 0,
                sent,
                termination,
                trace: None,
            },
            pool: None,
            attempts: &[],
            id: None,
        }
    }

    /// The first field of this name in its head.
    pub fn field(&self, name: &HeaderName) -> Option<&'a [u8]> {
        self.request?.get(name)
    }

    /// The client's Host, or the authority of HTTP/2.
    pub fn authority(&self) -> Option<&'a [u8]> {
        self.request?
            .authority
            .or_else(|| self.field(&header::HOST))
    }

    /// The attempt whose answer the client got, or the last one that failed; `None` if there was none.
    pub fn last_attempt(&self) -> Option<&Attempt> {
        self.attempts.last()
    }
}
