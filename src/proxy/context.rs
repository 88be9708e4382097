//! The state of one request, shared by all phases.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use http::StatusCode;
use pingora::Error;

use super::active_config::ActiveConfig;
use super::admission::traffic_state::InFlightGuard;
use super::authentication::AuthenticatedClient;
use super::compression::Compressor;
use super::failure::SentRequest;
use super::forwarding::request_id::RequestId;
use super::forwarding::x_forwarded::ClientOrigin;
use super::grpc::GrpcCall;
use super::mirror::RequestCopy;
use super::request_limits::RequestLimits;
use super::selection::input::{RetryRules, SelectionInput, is_repeatable};
use crate::client_certificate::ClientVerification;
use crate::config::{Retry, Timeouts};
use crate::message::RequestView;
use crate::pool::{Affinity, Failure, Outcome, Pool, PoolLease, RetryHandle};
use crate::record::{Attempt, AttemptOutcome, TerminationReason, TraceContext};
use ballast_balancer::{BalancerError, HostId};

/// One request. Dropping it releases everything the request holds, however the request ends.
#[derive(Debug)]
pub struct RequestContext {
    pub(crate) in_flight: InFlightGuard,
    pub(crate) active: Arc<ActiveConfig>,
    /// The route that has matched, as an index into the routes of `active`.
    pub(crate) route: Option<usize>,
    /// Index into the pools of `active`; set once the route is known.
    pub(crate) pool: usize,
    /// What the request may take, as an index into the request limits of `active`.
    pub(crate) limits: usize,
    /// Whether the route leads to a pool.
    pub(crate) has_pool: bool,
    /// Which requests may be retried; set once the route is known.
    pub(crate) retry: Retry,
    /// `None` before the first filter, and for connections without an IP address.
    pub(crate) origin: Option<ClientOrigin>,
    /// The request id, the same for all attempts.
    pub(crate) id: Option<RequestId>,
    /// The trace context. `None`: tracing is off.
    pub(crate) trace: Option<TraceContext>,
    /// The protocol to which the request asks to upgrade the connection.
    pub(crate) upgrade: Option<Arc<str>>,
    /// Who the client is, if its listener or its route asks for that.
    pub(crate) authenticated: Option<Box<AuthenticatedClient>>,
    /// Set if the request is a call of gRPC.
    pub(crate) grpc: Option<Box<GrpcCall>>,
    /// The request's handle on its pool's retry budget, from the first attempt on. `None`: the pool does not retry.
    pub(crate) retry_handle: Option<RetryHandle>,
    /// The host named by the client's affinity cookie. `None`: the response must set a new cookie.
    pub(crate) affinity_host: Option<HostId>,
    /// When the request's head was complete.
    pub(crate) began: Instant,
    /// All attempts so far; the last one may be running.
    pub(crate) attempts: Vec<Attempt>,
    /// How long the request has waited in the queue of its pool.
    pub(crate) queued: Duration,
    /// Set if the proxy itself responded: why the request ended there.
    pub(crate) refused: Option<TerminationReason>,
    /// Whether the client disconnected while the proxy was connecting to a host.
    pub(crate) has_client_left: bool,
    /// Whether the request has been reported to the observers.
    pub(crate) is_reported: bool,
    /// Hosts that have failed this request.
    pub(crate) tried: Vec<HostId>,
    /// The lease on the host of the running attempt.
    pub(crate) lease: Option<PoolLease>,
    /// The lease for the next attempt, once the running one has been given up.
    pub(crate) next_lease: Option<PoolLease>,
    /// When the running attempt began, or when the client had sent the whole request, if that was later.
    pub(crate) attempt_started: Instant,
    /// The host's response head in the running attempt.
    pub(crate) host_response: Option<HostResponse>,
    /// Whether each further part of the host's response has a deadline of its own. Set by the Pingora driver.
    pub(crate) has_response_deadline: bool,
    /// Time that reads from the client had waited before the request's body began. The body rate does not count it.
    pub(crate) client_wait: Duration,
    /// Bytes of the request's body passed on in the running attempt.
    pub(crate) body_bytes: u64,
    /// The copy of the request for another pool, until it is sent. `None`: the request is not copied.
    pub(crate) copy: Option<Box<RequestCopy>>,
    /// Compresses the body of the host's response. `None`: the body passes unchanged.
    pub(crate) compressor: Option<Box<Compressor>>,
    /// Whether any bytes of a response have been sent to the client. Set by the Pingora driver, which may lose the
    /// session before the request is reported.
    pub(crate) response_started: Option<Arc<AtomicBool>>,
}

/// Why a request got no lease.
#[derive(Debug)]
pub(crate) enum LeaseError {
    /// No host is available.
    Refused(BalancerError),
    /// The client disconnected while the request waited in the queue.
    ClientLeft(Box<Error>),
}

impl From<BalancerError> for LeaseError {
    fn from(error: BalancerError) -> Self {
        LeaseError::Refused(error)
    }
}

/// The host's response head, as far as it matters for the host's statistics.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HostResponse {
    /// Time from the start of the attempt.
    pub(crate) after: Duration,
    /// A 5xx status counts as a failure of the host.
    pub(crate) outcome: Outcome,
}

impl RequestContext {
    /// A request whose head was complete at `now`.
    pub(crate) fn new(active: Arc<ActiveConfig>, in_flight: InFlightGuard, now: Instant) -> Self {
        RequestContext {
            in_flight,
            active,
            route: None,
            pool: 0,
            limits: 0,
            has_pool: false,
            retry: Retry::default(),
            origin: None,
            id: None,
            trace: None,
            upgrade: None,
            authenticated: None,
            grpc: None,
            retry_handle: None,
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
            has_response_deadline: false,
            client_wait: Duration::ZERO,
            body_bytes: 0,
            copy: None,
            compressor: None,
            response_started: None,
        }
    }

    /// What the listener knows of the client's certificate. `None`: it asks for none.
    pub(crate) fn verification(&self) -> Option<&ClientVerification> {
        self.authenticated.as_ref()?.verification.as_deref()
    }

    /// What the request may take: by its route and pool, once they are known.
    pub(crate) fn limits(&self) -> &RequestLimits {
        &self.active.request_limits[self.limits]
    }

    /// The timeouts of the request: of its route and pool, once they are known.
    pub(crate) fn timeouts(&self) -> &Timeouts {
        &self.limits().timeouts
    }

    pub(crate) fn pool(&self) -> &Arc<Pool> {
        &self.active.pools[self.pool]
    }

    /// Records the start of an attempt on the leased host.
    pub(crate) fn begin_attempt(&mut self) {
        self.attempt_started = Instant::now();
        self.host_response = None;
        self.has_response_deadline = false;
        if let Some(call) = &mut self.grpc {
            call.forget_status();
        }
        self.body_bytes = 0;
        self.compressor = None;
        if let Some(lease) = &self.lease {
            let host = lease.member().host();
            let mut attempt =
                Attempt::begin(host, lease.position(), lease.reason(), self.attempt_started);
            attempt.span = self.trace.map(|_| TraceContext::new_span());
            self.attempts.push(attempt);
        }
        if self.retry_handle.is_none() {
            self.retry_handle = self.pool().budget().map(|budget| budget.begin_request());
        }
    }

    /// Counts the request as a tunnel. It may last for hours, so it no longer counts in the retry budget.
    pub(crate) fn begin_tunnel(&mut self) {
        self.retry_handle = None;
        self.in_flight.begin_tunnel();
    }

    /// Whether the retry policy permits one more attempt, by number and by time.
    pub(crate) fn has_another_attempt(&self) -> bool {
        let retries = self.limits().retries.as_ref();
        retries.is_some_and(|retries| {
            let first = self.attempts.first();
            self.retry_handle.is_some()
                && self.attempts.len() <= retries.attempts
                && first.is_some_and(|first| first.began.elapsed() < retries.deadline)
        })
    }

    /// Takes one retry from the pool's budget, needed if a host may have received the request. `false`: the budget is
    /// exhausted.
    pub(crate) fn pay_for_retry(&mut self) -> bool {
        self.retry_handle.as_mut().is_some_and(RetryHandle::retry)
    }

    /// Whether the retry policy lists a status, so that the client should rather get the response of another host.
    pub(crate) fn is_retryable_status(&self, status: StatusCode) -> bool {
        let retries = self.limits().retries.as_ref();
        self.retry_handle.is_some()
            && retries.is_some_and(|retries| retries.includes(status.as_u16()))
    }

    /// What matters for resending the request. `replayable`: the body read so far is buffered; `answered`: the client
    /// has received part of a response.
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

    /// Leases a host for the next attempt, preferably one that has not failed this request.
    ///
    /// # Errors
    /// [`BalancerError::Busy`] if every host is at its limit, or other requests wait in the queue.
    pub(crate) fn try_lease(&mut self, request: RequestView<'_>) -> Result<(), BalancerError> {
        let input = self.selection_input(request);
        let affinity = input.affinity();
        let wanted = affinity.as_ref().map(|affinity| &affinity.host);
        let pool = self.pool();
        let lease = pool.try_lease(&input.selection(), wanted, input.can_be_retried())?;
        self.accept_lease(lease, affinity);
        Ok(())
    }

    /// Waits in the pool's queue for a host. `disconnect` resolves if the client disconnects meanwhile.
    pub(crate) async fn lease_queued(
        &mut self,
        request: RequestView<'_>,
        disconnect: impl Future<Output = Box<Error>>,
    ) -> Result<(), LeaseError> {
        let input = self.selection_input(request);
        let affinity = input.affinity();
        let wanted = affinity.as_ref().map(|affinity| &affinity.host);
        let selection = input.selection();
        let entered = Instant::now();
        let lease = tokio::select! {
            biased;
            error = disconnect => Err(LeaseError::ClientLeft(error)),
            lease = self.pool().lease_queued(&selection, wanted, input.can_be_retried()) => Ok(lease),
        };
        let waited = entered.elapsed();
        self.queued += waited;
        self.discount_client_wait(waited);
        self.accept_lease(lease??, affinity);
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

    /// Excludes `time` from the measurement of the body rate. The connection was only read to detect a disconnect.
    pub(crate) fn discount_client_wait(&mut self, time: Duration) {
        self.client_wait = self.client_wait.saturating_add(time);
    }

    /// Leases a host that has not failed this request, to replace the running attempt. `false`: no such host is
    /// available now.
    pub(crate) fn lease_next(&mut self, request: RequestView<'_>) -> bool {
        let input = self.selection_input(request);
        let pool = self.pool();
        let leased = pool.lease(&input.selection(), input.can_be_retried());
        let untried = |lease: &PoolLease| !self.tried.contains(lease.member().host().id());
        self.next_lease = leased.ok().filter(untried);
        self.next_lease.is_some()
    }

    /// The inputs for selecting the host of the next attempt.
    fn selection_input<'a>(&'a self, request: RequestView<'a>) -> SelectionInput<'a> {
        let client = self.origin.and_then(|origin| origin.client);
        let (attempts, tried) = (self.attempts.len(), &self.tried);
        let retries = self.limits().retries.as_ref();
        let retry = RetryRules {
            methods: self.retry,
            attempts: retries.map_or(0, |retries| retries.attempts),
        };
        SelectionInput::new(request, self.pool(), client, attempts, tried, retry)
    }

    /// Ends the attempt and counts a failure of the host.
    pub(crate) fn fail_attempt(&mut self, failure: Failure) {
        self.end_attempt(AttemptOutcome::Failed(failure));
        if let Some(lease) = self.lease.take() {
            lease.observe(self.attempt_started.elapsed(), Outcome::Failure(failure));
        }
    }

    /// Releases the host's slot as soon as the host has sent its response. The attempt goes on until the client has
    /// received it.
    pub(crate) fn release_host(&mut self) {
        if let (Some(lease), Some(head)) = (self.lease.take(), self.host_response) {
            lease.observe(head.after, head.outcome);
        }
    }

    /// Ends the attempt and counts the outcome of the host's response, if there was one.
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
