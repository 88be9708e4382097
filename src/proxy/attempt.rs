//! Attempts of a request: how each begins and ends, whose fault a failure is, and whether the request is retried.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorSource, ErrorType};

use super::context::{HostResponse, RequestContext};
use super::failure::{
    self, SentRequest, is_connection_broken, is_http2_end, is_http2_shutdown, is_unprocessed,
};
use crate::message::RequestView;
use crate::pool::{Failure, lacks_resources};
use crate::record::{Attempt, AttemptOutcome};

/// If writes to the client have waited this long in total, the host may have closed the connection because its response
/// was not read.
const UNREAD_LIMIT: Duration = Duration::from_secs(1);

/// How far an attempt had come when it failed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AttemptProgress {
    /// Whether the connection to the host was a reused one.
    pub(crate) reused: bool,
    pub(crate) sent: SentRequest,
    /// Whether the client has sent the whole request.
    pub(crate) is_request_complete: bool,
    /// Whether the request has no body.
    pub(crate) is_bodiless: bool,
    /// Total time that writes to the client have waited.
    pub(crate) write_wait: Duration,
}

impl RequestContext {
    /// Begins an attempt on the leased host and returns its peer.
    ///
    /// # Errors
    /// If that host has already failed this request.
    pub(crate) fn begin_at_host(&mut self) -> Result<&Arc<HttpPeer>, Box<Error>> {
        let lease = self.lease.as_ref();
        let host = lease.expect("leased before").member().host().id();
        if self.tried.contains(host) {
            self.lease = None;
            return Err(Error::explain(
                ErrorType::HTTPStatus(502),
                "every available host has failed this request",
            ));
        }
        self.begin_attempt();
        let lease = self.lease.as_ref();
        Ok(lease.expect("leased before").member().peer())
    }

    /// The client disconnected while the proxy was connecting to a host.
    pub(crate) fn client_left_while_connecting(&mut self) {
        // Pingora always attributes this error to the upstream, so the source of the error cannot say it.
        self.has_client_left = true;
        self.end_attempt(AttemptOutcome::Client);
        self.lease = None;
    }

    /// The deadline that the client has set was over while the proxy was connecting to a host, which is not to blame.
    pub(crate) fn deadline_passed(&mut self) {
        self.end_attempt(AttemptOutcome::Client);
        self.lease = None;
    }

    /// Ends an attempt that could not connect to its host. Returns whether the request is retried.
    pub(crate) fn connect_failed(&mut self, error: &Error) -> bool {
        let has_retried = self.attempts.iter().any(Attempt::is_stale);
        if is_http2_end(error) && !has_retried {
            // The host has ended the connection, shared with other requests, that this one should have joined.
            self.end_attempt(AttemptOutcome::Stale);
            self.lease = None;
            return self.has_another_attempt();
        }
        self.exclude_host();
        if lacks_resources(error) {
            self.end_attempt(AttemptOutcome::Resources);
            self.lease = None;
        }
        self.fail_attempt(Failure::Connect);
        // The host received nothing, so a retry needs neither a repeatable method nor a share of the retry budget.
        self.has_another_attempt() && self.pool().has_untried_host(&self.tried)
    }

    /// The attempt has a connection to its host.
    pub(crate) fn connected(&mut self, reused: bool) {
        if let Some(attempt) = self.attempts.last_mut() {
            attempt.connect_time = Some(match reused {
                // A reused connection took no time to open.
                true => Duration::ZERO,
                false => attempt.began.elapsed(),
            });
            attempt.reused = reused;
        }
        if !reused {
            self.discount_client_wait(self.attempt_started.elapsed());
        }
    }

    /// The host's response head has arrived. Not called for informational responses. `judged` is the status by which the
    /// host is judged.
    pub(crate) fn response_head_received(&mut self, status: u16, judged: u16) {
        let outcome = self.pool().outcome_of(judged);
        let now = Instant::now();
        self.host_response = Some(HostResponse {
            after: now - self.attempt_started,
            outcome,
        });
        if let Some(attempt) = self.attempts.last_mut() {
            attempt.first_byte = Some(now - attempt.began);
            attempt.status = Some(status);
        }
        if let Some(lease) = &mut self.lease {
            lease.response_started(outcome);
        }
    }

    /// Gives up the running attempt in favour of another host, if one is available and the retry policy permits it.
    pub(crate) fn abandon_attempt(&mut self, request: RequestView<'_>, sent: SentRequest) -> bool {
        if !(self.has_another_attempt() && sent.can_resend()) {
            return false;
        }
        self.exclude_host();
        let retries = self.lease_next(request) && self.pay_for_retry();
        if !retries {
            self.next_lease = None;
        }
        retries
    }

    /// Ends an attempt that failed with `error` after the connection was established. Returns whether the request is
    /// retried.
    pub(crate) fn attempt_failed(
        &mut self,
        error: &Error,
        request: RequestView<'_>,
        progress: AttemptProgress,
    ) -> bool {
        let AttemptProgress { reused, sent, .. } = progress;
        let attempt = self.attempts.last();
        if attempt.is_some_and(|attempt| attempt.status == Some(101)) {
            self.tunnel_failed(error);
            return false;
        }
        if *error.esource() != ErrorSource::Upstream {
            self.end_attempt(match error.esource() {
                ErrorSource::Downstream => AttemptOutcome::Client,
                _ => AttemptOutcome::Internal,
            });
            self.lease = None;
            return false;
        }
        if let Some(next) = self.next_lease.take() {
            self.finish_attempt();
            self.lease = Some(next);
            return true;
        }
        let is_unprocessed = is_unprocessed(error);
        let can_resend = match is_unprocessed {
            true => sent.replayable && !sent.answered,
            false => is_connection_broken(error) && sent.can_resend(),
        };
        let retries = self.has_another_attempt()
            && self.host_response.is_none()
            && can_resend
            && {
                self.exclude_host();
                // A host may close an idle connection at any time, so this is no evidence against a new connection to
                // the same host.
                let may_ask_again = reused || is_unprocessed;
                let has_other_host = self.pool().has_untried_host(&self.tried);
                if !has_other_host && may_ask_again {
                    self.tried.pop();
                }
                has_other_host || may_ask_again
            }
            && (is_unprocessed || self.pay_for_retry());
        let failure = failure::host_failure(error);
        if is_http2_shutdown(error) && self.host_response.is_none() {
            // The host closes the connection in an orderly way, and the request came too late for it.
            self.end_attempt(AttemptOutcome::Stale);
            self.lease = None;
        } else if reused && failure == Failure::Reset && self.host_response.is_none() {
            // The host closed an idle connection (see above), which is not counted as its failure.
            self.end_attempt(AttemptOutcome::Stale);
            self.lease = None;
        } else if is_caused_by_request(request, error, failure, progress) {
            self.end_attempt(AttemptOutcome::Failed(failure));
            self.lease = None;
        }
        self.fail_attempt(failure);
        retries
    }

    /// Ends an attempt that became a tunnel. The host is not blamed for `error`: it has answered successfully before,
    /// and many hosts close their tunnels in exactly this way.
    pub(crate) fn tunnel_failed(&mut self, error: &Error) {
        self.end_attempt(match error.esource() {
            ErrorSource::Upstream => AttemptOutcome::Failed(failure::host_failure(error)),
            ErrorSource::Downstream => AttemptOutcome::Client,
            _ => AttemptOutcome::Internal,
        });
        self.release_host();
    }

    /// Excludes the host of the running attempt from further attempts of this request.
    fn exclude_host(&mut self) {
        if let Some(lease) = &self.lease {
            self.tried.push(lease.member().host().id().clone());
        }
    }
}

/// Whether the failure may be the client's doing, by the kind of its request or by how it behaved. The host is then not
/// blamed.
fn is_caused_by_request(
    request: RequestView<'_>,
    error: &Error,
    failure: Failure,
    progress: AttemptProgress,
) -> bool {
    let AttemptProgress {
        is_request_complete,
        is_bodiless,
        ..
    } = progress;
    // A host may reject an upload by closing the connection.
    let is_upload_refused = failure == Failure::Reset
        && (!is_request_complete || *error.etype() == ErrorType::WriteError && !is_bodiless);
    let is_unread =
        failure == Failure::Reset && progress.sent.answered && progress.write_wait >= UNREAD_LIMIT;
    is_upload_refused || is_unread || !failure::is_common_request(request)
}
