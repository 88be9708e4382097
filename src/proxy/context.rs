//! What is known of one request from phase to phase.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::StatusCode;
use pingora::Error;

use super::active_config::ActiveConfig;
use super::admission::traffic_state::InFlightGuard;
use super::failure::SentRequest;
use super::forwarding::request_id::RequestId;
use super::forwarding::x_forwarded::ClientOrigin;
use super::selection::input::{SelectionInput, is_repeatable};
use crate::balancer::{BalancerError, HostId};
use crate::config::Retry;
use crate::message::RequestView;
use crate::pingora_driver::client::ConnectionState;
use crate::pool::{Affinity, Failure, Outcome, Pool, PoolLease, RetryHandle};
use crate::record::{Attempt, AttemptOutcome, TerminationReason, TraceContext};

/// One request. Dropping it ends every count that the request holds, so it does not matter how the request ends.
#[derive(Debug)]
pub struct RequestContext {
    pub(crate) in_flight: InFlightGuard,
    pub(crate) active: Arc<ActiveConfig>,
    /// Index into the site's pools; set by the route.
    pub(crate) pool: usize,
    /// Whether a route was found.
    pub(crate) has_route: bool,
    /// What may be sent again; set by the route.
    pub(crate) retry: Retry,
    /// `None` before the first filter, and for connections without an IP address.
    pub(crate) origin: Option<ClientOrigin>,
    /// The id that all attempts share.
    pub(crate) id: Option<RequestId>,
    /// Its place in a trace; `None` without `tracing`.
    pub(crate) trace: Option<TraceContext>,
    /// What it asks to upgrade its connection to.
    pub(crate) upgrade: Option<Arc<str>>,
    /// The request in the pool's budget for retries, from the first attempt on; `None` if there are none.
    pub(crate) account: Option<RetryHandle>,
    /// The host that the client's cookie keeps it with; `None` if the answer is to bring it a new one.
    pub(crate) affinity_host: Option<HostId>,
    /// When the head had been read.
    pub(crate) began: Instant,
    /// Attempts made.
    pub(crate) attempts: Vec<Attempt>,
    /// How long the request waited in line.
    pub(crate) queued: Duration,
    /// What the answer that we gave ourselves says of the request.
    pub(crate) refused: Option<TerminationReason>,
    /// Whether the client left while a host was connected to.
    pub(crate) has_client_left: bool,
    /// Whether the observers have heard of the request.
    pub(crate) is_reported: bool,
    /// Hosts that failed this request.
    pub(crate) tried: Vec<HostId>,
    /// The host of the running attempt.
    pub(crate) lease: Option<PoolLease>,
    /// The host of the next one, once the running one has been given up.
    pub(crate) next_lease: Option<PoolLease>,
    /// When the running attempt began, or when the client had sent it all.
    pub(crate) attempt_started: Instant,
    /// The head of the host's answer in the running attempt.
    pub(crate) host_response: Option<HostResponse>,
    /// Whether the host has answered a request for an upgrade with something else.
    pub(crate) upgrade_refused: bool,
    /// How long the client had been waited for when the request's body began.
    pub(crate) client_wait: Duration,
    /// Bytes of the request's body that the running attempt has got.
    pub(crate) body_bytes: u64,
    /// The client's connection; `None` if other requests share it.
    pub(crate) connection_state: Option<Arc<ConnectionState>>,
}

/// Why a request has no host.
#[derive(Debug)]
pub(crate) enum LeaseError {
    /// None could be had.
    Refused(BalancerError),
    /// The client left while the request waited for one.
    ClientLeft(Box<Error>),
}

impl From<BalancerError> for LeaseError {
    fn from(error: BalancerError) -> Self {
        LeaseError::Refused(error)
    }
}

/// The head of a host's answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HostResponse {
    /// From the begin of the attempt.
    pub(crate) after: Duration,
    /// A 5xx is the host's failure.
    pub(crate) outcome: Outcome,
}

impl RequestContext {
    /// A request whose head had been read by `now`.
    pub(crate) fn new(active: Arc<ActiveConfig>, in_flight: InFlightGuard, now: Instant) -> Self {
        RequestContext {
            in_flight,
            active,
            pool: 0,
            has_route: false,
            retry: Retry::default(),
            origin: None,
            id: None,
            trace: None,
            upgrade: None,
            account: None,
            affinity_host: None,
            began: now,
            attempts: Vec::new(),
            queued: Duration::ZERO,
            refused: None,
            has_client_left: false,
            is_reported: false,
            tried: Vec::new(),
            lease: None,
            next_lease: None,
            attempt_started: now,
            host_response: None,
            upgrade_refused: false,
            client_wait: Duration::ZERO,
            body_bytes: 0,
            connection_state: None,
        }
    }

    pub(crate) fn pool(&self) -> &Arc<Pool> {
        &self.active.pools[self.pool]
    }

    /// Notes that an attempt begins.
    pub(crate) fn begin_attempt(&mut self) {
        self.attempt_started = Instant::now();
        self.host_response = None;
        self.upgrade_refused = false;
        self.body_bytes = 0;
        if let Some(lease) = &self.lease {
            let host = lease.member().host();
            let mut attempt =
                Attempt::begin(host, lease.position(), lease.reason(), self.attempt_started);
            attempt.span = self.trace.map(|_| TraceContext::new_span());
            self.attempts.push(attempt);
        }
        if self.account.is_none() {
            self.account = self.pool().budget().map(|budget| budget.begin_request());
        }
    }

    /// Whether one more attempt would be within the pool's number and time.
    pub(crate) fn has_another_attempt(&self) -> bool {
        self.account.as_ref().is_some_and(|account| {
            let policy = account.policy();
            let first = self.attempts.first();
            self.attempts.len() <= policy.attempts
                && first.is_some_and(|first| first.began.elapsed() < policy.deadline)
        })
    }

    /// Whether the pool's budget has a retry left for a request that a host may have got.
    pub(crate) fn pay_for_retry(&mut self) -> bool {
        self.account.as_mut().is_some_and(RetryHandle::retry)
    }

    /// Whether an answer is none that the client should see while another host can give a better one.
    pub(crate) fn is_retryable_status(&self, status: StatusCode) -> bool {
        let account = self.account.as_ref();
        account.is_some_and(|account| account.policy().includes(status.as_u16()))
    }

    /// The request after it has gone out. `replayable`: what has been read of its body can be sent again; `answered`: the
    /// client has got a part of an answer.
    pub(crate) fn sent_request(
        &self,
        request: RequestView<'_>,
        replayable: bool,
        answered: bool,
    ) -> SentRequest {
        SentRequest {
            repeatable: is_repeatable(request, self.retry),
            replayable,
            answered,
        }
    }

    /// Leases a host for the next attempt: one that has not failed this request while there is such a one.
    ///
    /// # Errors
    /// [`BalancerError::Busy`] if every host is full, or others wait in line.
    pub(crate) fn try_lease(&mut self, request: RequestView<'_>) -> Result<(), BalancerError> {
        let input = self.selection_input(request);
        let affinity = input.affinity();
        let wanted = affinity.as_ref().map(|affinity| &affinity.host);
        let pool = self.pool();
        let lease = pool.try_lease(&input.selection(), wanted, input.can_be_retried())?;
        self.accept_lease(lease, affinity);
        Ok(())
    }

    /// Waits in line for a host, until `left` tells that the client has left.
    pub(crate) async fn lease_queued(
        &mut self,
        request: RequestView<'_>,
        left: impl Future<Output = Box<Error>>,
    ) -> Result<(), LeaseError> {
        let input = self.selection_input(request);
        let affinity = input.affinity();
        let wanted = affinity.as_ref().map(|affinity| &affinity.host);
        let selection = input.selection();
        let joined = Instant::now();
        let turn = tokio::select! {
            biased;
            left = left => Err(LeaseError::ClientLeft(left)),
            lease = self.pool().lease_queued(&selection, wanted, input.can_be_retried()) => Ok(lease),
        };
        let time = joined.elapsed();
        self.queued += time;
        self.discount_client_wait(time);
        self.accept_lease(turn??, affinity);
        Ok(())
    }

    fn accept_lease(&mut self, lease: PoolLease, affinity: Option<Affinity>) {
        self.lease = Some(lease);
        if let Some(Affinity {
            host,
            needs_renewal: false,
        }) = affinity
        {
            self.affinity_host = Some(host);
        }
    }

    /// The client was read from for so long only to see it leave, which says nothing about the rate of its body.
    pub(crate) fn discount_client_wait(&mut self, time: Duration) {
        self.client_wait = self.client_wait.saturating_add(time);
    }

    /// Leases a host that has not failed this request, for an attempt in place of the running one. `false`: there is none
    /// that could have the request at once.
    pub(crate) fn lease_next(&mut self, request: RequestView<'_>) -> bool {
        let input = self.selection_input(request);
        let pool = self.pool();
        let leased = pool.lease(&input.selection(), input.can_be_retried());
        let untried = |lease: &PoolLease| !self.tried.contains(lease.member().host().id());
        self.next_lease = leased.ok().filter(untried);
        self.next_lease.is_some()
    }

    /// What decides on the host of the next attempt.
    fn selection_input<'a>(&'a self, request: RequestView<'a>) -> SelectionInput<'a> {
        let client = self.origin.map(|origin| origin.client);
        let (attempts, tried) = (self.attempts.len(), &self.tried);
        SelectionInput::new(request, self.pool(), client, attempts, tried, self.retry)
    }

    /// Ends the attempt as the host's failure.
    pub(crate) fn fail_attempt(&mut self, failure: Failure) {
        self.end_attempt(AttemptOutcome::Failed(failure));
        if let Some(lease) = self.lease.take() {
            lease.observe(self.attempt_started.elapsed(), Outcome::Failure(failure));
        }
    }

    /// The host has done its part: its place is free. The attempt goes on until the client has the answer.
    pub(crate) fn release_host(&mut self) {
        if let (Some(lease), Some(head)) = (self.lease.take(), self.host_response) {
            lease.observe(head.after, head.outcome);
        }
    }

    /// Ends the attempt. What the host answered, if anything, is taken in.
    pub(crate) fn finish_attempt(&mut self) {
        if let Some(head) = self.host_response {
            self.end_attempt(match head.outcome {
                Outcome::Success => AttemptOutcome::Ok,
                Outcome::Failure(failure) => AttemptOutcome::Failed(failure),
            });
        }
        self.release_host();
    }
}
