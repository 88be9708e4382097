//! What becomes of a request whose attempt fails: whose fault it was, and whether another attempt follows.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorSource, ErrorType};

use super::context::{HostResponse, RequestContext};
use super::failure::{self, SentRequest, is_connection_broken};
use crate::message::RequestView;
use crate::pool::{Failure, lacks_resources};
use crate::record::AttemptOutcome;

/// A host whose answer a client has not read for so long in all may have given it up for that.
const UNREAD_LIMIT: Duration = Duration::from_secs(1);

/// How far an exchange had come when its attempt failed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AttemptProgress {
    /// Whether the connection had been used before.
    pub(crate) reused: bool,
    pub(crate) sent: SentRequest,
    /// Whether the client has sent all of the request.
    pub(crate) is_request_complete: bool,
    /// Whether the request has no body.
    pub(crate) is_bodiless: bool,
    /// How long writes to the client have waited for it.
    pub(crate) write_wait: Duration,
}

impl RequestContext {
    /// The first host, or the next one, is known: an attempt at it begins.
    ///
    /// # Errors
    /// If that host has failed this request.
    pub(crate) fn begin_at_host(&mut self) -> Result<&Arc<HttpPeer>, Box<Error>> {
        let lease = self.lease.as_ref();
        let host = lease.expect("leased before").member().host().id();
        if self.tried.contains(host) {
            self.lease = None;
            return Err(Error::explain(
                ErrorType::HTTPStatus(502),
                "every usable host has failed this request",
            ));
        }
        self.begin_attempt();
        let lease = self.lease.as_ref();
        Ok(lease.expect("leased before").member().peer())
    }

    /// The client left while a host was connected to.
    pub(crate) fn client_left_while_connecting(&mut self) {
        // Pingora makes the error the host's, whatever is said of it.
        self.has_client_left = true;
        self.end_attempt(AttemptOutcome::Client);
        self.lease = None;
    }

    /// No connection to the host could be made. Whether another attempt follows.
    pub(crate) fn connect_failed(&mut self, error: &Error) -> bool {
        self.exclude_host();
        if lacks_resources(error) {
            self.end_attempt(AttemptOutcome::Resources);
            self.lease = None;
        }
        self.fail_attempt(Failure::Connect);
        // Nothing was sent, so neither the method nor the budget matters.
        self.has_another_attempt() && self.pool().has_untried_host(&self.tried)
    }

    /// There is a connection to the host.
    pub(crate) fn connected(&mut self, reused: bool) {
        if let Some(attempt) = self.attempts.last_mut() {
            attempt.connect_time = Some(match reused {
                // It was there.
                true => Duration::ZERO,
                false => attempt.began.elapsed(),
            });
            attempt.reused = reused;
        }
        if !reused {
            self.discount_client_wait(self.attempt_started.elapsed());
        }
    }

    /// The head of the host's answer has come, one that is no interim one.
    pub(crate) fn response_head_received(&mut self, status: u16) {
        let outcome = self.pool().outcome_of(status);
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
            lease.answered(outcome);
        }
    }

    /// Gives the running attempt up for another one at another host, if that may be.
    pub(crate) fn abandon_attempt(&mut self, request: RequestView<'_>, sent: SentRequest) -> bool {
        if !(self.has_another_attempt() && sent.can_resend()) {
            return false;
        }
        self.exclude_host();
        let again = self.lease_next(request) && self.pay_for_retry();
        if !again {
            self.next_lease = None;
        }
        again
    }

    /// The attempt has failed with `error` behind the connection's making. Whether another one follows.
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
        let again = self.has_another_attempt()
            && is_connection_broken(error)
            && self.host_response.is_none()
            && sent.can_resend()
            && {
                self.exclude_host();
                // A host may close an idle connection at any time, which says nothing against a fresh one to it.
                let elsewhere = self.pool().has_untried_host(&self.tried);
                if !elsewhere && reused {
                    self.tried.pop();
                }
                elsewhere || reused
            }
            && self.pay_for_retry();
        let failure = failure::host_failure(error);
        if reused && failure == Failure::Reset && self.host_response.is_none() {
            // As above: not the host's failure.
            self.end_attempt(AttemptOutcome::Stale);
            self.lease = None;
        } else if is_caused_by_request(request, error, failure, progress) {
            self.end_attempt(AttemptOutcome::Failed(failure));
            self.lease = None;
        }
        self.fail_attempt(failure);
        again
    }

    /// The tunnel that the attempt had become has ended with `error`. The host has answered well before; many end their
    /// tunnels in no other way, so that it is not blamed.
    pub(crate) fn tunnel_failed(&mut self, error: &Error) {
        self.end_attempt(match error.esource() {
            ErrorSource::Upstream => AttemptOutcome::Failed(failure::host_failure(error)),
            ErrorSource::Downstream => AttemptOutcome::Client,
            _ => AttemptOutcome::Internal,
        });
        self.release_host();
    }

    /// Notes that the host of the running attempt failed this request.
    fn exclude_host(&mut self) {
        if let Some(lease) = &self.lease {
            self.tried.push(lease.member().host().id().clone());
        }
    }
}

/// Whether the client may have brought the failure about by what it asked for, or how. A host is not blamed for it then.
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
    // A host may refuse an upload by closing the connection.
    let cut = failure == Failure::Reset
        && (!is_request_complete || *error.etype() == ErrorType::WriteError && !is_bodiless);
    let unread =
        failure == Failure::Reset && progress.sent.answered && progress.write_wait >= UNREAD_LIMIT;
    cut || unread || !failure::is_common_request(request)
}
