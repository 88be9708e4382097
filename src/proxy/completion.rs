//! Completion of a request: it is counted in its pool and reported to the observers, exactly once.

use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Instant;

use log::{debug, error};
use pingora::Error;

use super::active_config::ActiveConfig;
use super::context::RequestContext;
use super::failure;
use super::forwarding::request_id::RequestId;
use crate::message::RequestView;
use crate::pool::{CountedRequest, Failure};
use crate::record::{AttemptOutcome, DebugLine, RequestRecord, RequestSummary, TerminationReason};

/// What the proxy and the client have exchanged.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Transferred<'a> {
    pub(crate) request: RequestView<'a>,
    /// Whether the client's connection is encrypted.
    pub(crate) tls: bool,
    /// The status sent to the client, if any.
    pub(crate) status: Option<u16>,
    /// Bytes of the request's body.
    pub(crate) received: u64,
    /// Bytes of the response's body.
    pub(crate) sent: u64,
}

impl RequestContext {
    /// Records how the running attempt ended, unless that is already recorded.
    pub(crate) fn end_attempt(&mut self, reason: AttemptOutcome) {
        if let Some(attempt) = self.attempts.last_mut() {
            attempt.end(reason);
        }
    }

    /// How the last attempt failed, if it did.
    fn last_failure(&self) -> Option<Failure> {
        match self.attempts.last()?.outcome {
            AttemptOutcome::Failed(failure) => Some(failure),
            _ => None,
        }
    }

    /// The status sent to the client, for a request whose session no longer exists.
    fn status_without_session(&self) -> Option<u16> {
        let response_started = self.response_started.as_ref()?;
        match response_started.load(Ordering::Relaxed) {
            true => self.attempts.last()?.status,
            // The response that the panic guard sends.
            false => thread::panicking().then_some(500),
        }
    }

    /// Counts the request in its pool and reports it to the observers. Only the first call has an effect.
    pub(crate) fn report(&mut self, passed: Option<Transferred<'_>>, error: Option<&Error>) {
        if std::mem::replace(&mut self.is_reported, true) {
            return;
        }
        let termination = match (self.refused, error, passed) {
            (Some(termination), _, _) => termination,
            _ if self.has_client_left => TerminationReason::ClientGone,
            (None, Some(error), _) => failure::termination_for(error, self.last_failure()),
            (None, None, Some(_)) => TerminationReason::Complete,
            (None, None, None) => TerminationReason::Internal,
        };
        self.end_attempt(match termination {
            TerminationReason::Complete => AttemptOutcome::Ok,
            TerminationReason::Internal => AttemptOutcome::Internal,
            _ => AttemptOutcome::Client,
        });
        let status = match passed {
            Some(passed) => passed.status,
            None => self.status_without_session(),
        };
        let record = RequestRecord {
            request: passed.map(|passed| passed.request),
            summary: RequestSummary {
                client: self.origin.and_then(|origin| origin.client),
                tls: passed.is_some_and(|passed| passed.tls),
                version: passed.map(|passed| passed.request.version),
                began: self.began,
                duration: self.began.elapsed(),
                queued: self.queued,
                status,
                grpc_status: self.grpc.as_ref().and_then(|call| call.status()),
                received: passed.map_or(0, |passed| passed.received),
                sent: passed.map_or(0, |passed| passed.sent),
                termination,
                trace: self.trace,
            },
            pool: self.has_pool.then(|| (self.pool, self.pool())),
            attempts: &self.attempts,
            id: self.id.as_ref().map(RequestId::as_bytes),
            verification: self.verification(),
        };
        if let Some((_, pool)) = record.pool {
            let summary = &record.summary;
            pool.counters().count(CountedRequest {
                status: summary.status,
                is_failure: summary.is_failure(),
                attempts: record.attempts.len(),
                received: summary.received,
                sent: summary.sent,
            });
        }
        if let (Some((_, pool)), Some(status)) = (record.pool, record.summary.grpc_status) {
            pool.counters().count_grpc(status);
        }
        debug!("{}", DebugLine(&record));
        for observer in &self.active.observers {
            observer.on_request_end(&record);
        }
    }
}

/// Reports a request that was rejected before the proxy had a context for it: its client and whether the connection
/// used TLS, when it began, and the status and body size of the response.
pub(crate) fn report_early_error(
    active: &ActiveConfig,
    (client, tls): (Option<IpAddr>, bool),
    began: Instant,
    status: Option<u16>,
    sent: usize,
    termination: TerminationReason,
) {
    let record = RequestRecord::without_head(began, client, tls, status, sent as u64, termination);
    debug!("{}", DebugLine(&record));
    for observer in &active.observers {
        observer.on_request_end(&record);
    }
}

impl Drop for RequestContext {
    fn drop(&mut self) {
        // After a panic, or if the connection ended in mid-request, there is no session left to report from.
        self.report(None, None);
        if thread::panicking() {
            let id = self
                .id
                .as_ref()
                .map_or("none yet".into(), |id| format!("{id:?}"));
            let count = self.in_flight.note_panic();
            error!("a panic ended a request (id: {id}); panics so far: {count}");
        }
    }
}
