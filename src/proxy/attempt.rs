//! What becomes of a request whose attempt fails: whose fault it was, and whether another attempt follows.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorSource, ErrorType};

use super::context::{Head, RequestContext};
use super::failure::{self, Sent, is_break};
use crate::message::RequestView;
use crate::pool::{Failure, lacks_resources};
use crate::record::Reason;

/// A host whose answer a client has not read for so long in all may have given it up for that.
const PATIENCE: Duration = Duration::from_secs(1);

/// How far an exchange had come when its attempt failed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Progress {
    /// Whether the connection had been used before.
    pub(crate) reused: bool,
    pub(crate) sent: Sent,
    /// Whether the client has sent all of the request.
    pub(crate) whole: bool,
    /// Whether the request has no body.
    pub(crate) bodiless: bool,
    /// How long writes to the client have waited for it.
    pub(crate) stalled: Duration,
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
    pub(crate) fn left_while_connecting(&mut self) {
        // Pingora makes the error the host's, whatever is said of it.
        self.left = true;
        self.end_attempt(Reason::Client);
        self.lease = None;
    }

    /// No connection to the host could be made. Whether another attempt follows.
    pub(crate) fn connect_failed(&mut self, error: &Error) -> bool {
        self.exclude_host();
        if lacks_resources(error) {
            self.end_attempt(Reason::Resources);
            self.lease = None;
        }
        self.fail(Failure::Connect);
        // Nothing was sent, so neither the method nor the budget matters.
        self.has_another_attempt() && self.pool().has_another(&self.tried)
    }

    /// There is a connection to the host.
    pub(crate) fn connected(&mut self, reused: bool) {
        if let Some(attempt) = self.attempts.last_mut() {
            attempt.connected = Some(match reused {
                // It was there.
                true => Duration::ZERO,
                false => attempt.began.elapsed(),
            });
            attempt.reused = reused;
        }
        if !reused {
            self.client_was_not_asked(self.started.elapsed());
        }
    }

    /// The head of the host's answer has come, one that is no interim one.
    pub(crate) fn answered(&mut self, status: u16) {
        let outcome = self.pool().outcome_of(status);
        let now = Instant::now();
        self.head = Some(Head {
            after: now - self.started,
            outcome,
        });
        if let Some(attempt) = self.attempts.last_mut() {
            attempt.answered = Some(now - attempt.began);
            attempt.status = Some(status);
        }
        if let Some(lease) = &mut self.lease {
            lease.answered(outcome);
        }
    }

    /// Gives the running attempt up for another one at another host, if that may be.
    pub(crate) fn give_up(&mut self, request: RequestView<'_>, sent: Sent) -> bool {
        if !(self.has_another_attempt() && sent.may_go_again()) {
            return false;
        }
        self.exclude_host();
        let again = self.lease_another(request) && self.pay_for_retry();
        if !again {
            self.next = None;
        }
        again
    }

    /// The attempt has failed with `error` behind the connection's making. Whether another one follows.
    pub(crate) fn attempt_failed(
        &mut self,
        error: &Error,
        request: RequestView<'_>,
        progress: Progress,
    ) -> bool {
        let Progress { reused, sent, .. } = progress;
        let attempt = self.attempts.last();
        if attempt.is_some_and(|attempt| attempt.status == Some(101)) {
            self.tunnel_failed(error);
            return false;
        }
        if *error.esource() != ErrorSource::Upstream {
            self.end_attempt(match error.esource() {
                ErrorSource::Downstream => Reason::Client,
                _ => Reason::Internal,
            });
            self.lease = None;
            return false;
        }
        if let Some(next) = self.next.take() {
            self.finish();
            self.lease = Some(next);
            return true;
        }
        let again = self.has_another_attempt()
            && is_break(error)
            && self.head.is_none()
            && sent.may_go_again()
            && {
                self.exclude_host();
                // A host may close an idle connection at any time, which says nothing against a fresh one to it.
                let elsewhere = self.pool().has_another(&self.tried);
                if !elsewhere && reused {
                    self.tried.pop();
                }
                elsewhere || reused
            }
            && self.pay_for_retry();
        let failure = failure::of_host(error);
        if reused && failure == Failure::Reset && self.head.is_none() {
            // As above: not the host's failure.
            self.end_attempt(Reason::Stale);
            self.lease = None;
        } else if is_of_request(request, error, failure, progress) {
            self.end_attempt(Reason::Failed(failure));
            self.lease = None;
        }
        self.fail(failure);
        again
    }

    /// The tunnel that the attempt had become has ended with `error`. The host has answered well before; many end their
    /// tunnels in no other way, so that it is not blamed.
    pub(crate) fn tunnel_failed(&mut self, error: &Error) {
        self.end_attempt(match error.esource() {
            ErrorSource::Upstream => Reason::Failed(failure::of_host(error)),
            ErrorSource::Downstream => Reason::Client,
            _ => Reason::Internal,
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
fn is_of_request(
    request: RequestView<'_>,
    error: &Error,
    failure: Failure,
    progress: Progress,
) -> bool {
    let Progress {
        whole, bodiless, ..
    } = progress;
    // A host may refuse an upload by closing the connection.
    let cut = failure == Failure::Reset
        && (!whole || *error.etype() == ErrorType::WriteError && !bodiless);
    let unread =
        failure == Failure::Reset && progress.sent.answered && progress.stalled >= PATIENCE;
    cut || unread || !failure::is_ordinary(request)
}
