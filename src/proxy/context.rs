//! What is known of one request from phase to phase.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderValue, StatusCode};
use pingora::Error;
use pingora::http::RequestHeader;
use pingora::proxy::Session;

use super::client::{self, Gate};
use super::demand::{Demand, is_repeatable};
use super::failure::Sent;
use super::forwarded::Origin;
use super::site::Site;
use super::traffic::Presence;
use crate::balancer::{BalancerError, HostId};
use crate::config::Retry;
use crate::pool::{Account, Claim, Failure, Lease, Outcome, Pool};
use crate::record::{Attempt, Ending, Reason, Trace};

/// One request. Dropping it ends every count that the request holds, so it does not matter how the request ends.
#[derive(Debug)]
pub struct RequestContext {
    pub(super) presence: Presence,
    pub(super) site: Arc<Site>,
    /// Index into the site's pools; set by the route.
    pub(super) pool: usize,
    /// Whether a route was found.
    pub(super) routed: bool,
    /// What may be sent again; set by the route.
    pub(super) retry: Retry,
    /// `None` before the first filter, and for connections without an IP address.
    pub(super) origin: Option<Origin>,
    /// The id that all attempts share.
    pub(super) id: Option<HeaderValue>,
    /// Its place in a trace; `None` without `tracing`.
    pub(super) trace: Option<Trace>,
    /// The request in the pool's budget for retries, from the first attempt on; `None` if there are none.
    pub(super) account: Option<Account>,
    /// The host that the client's cookie keeps it with; `None` if the answer is to bring it a new one.
    pub(super) kept_with: Option<HostId>,
    /// When the head had been read.
    pub(super) began: Instant,
    /// Attempts made.
    pub(super) attempts: Vec<Attempt>,
    /// How long the request waited in line.
    pub(super) queued: Duration,
    /// What the answer that we gave ourselves says of the request.
    pub(super) refused: Option<Ending>,
    /// Whether the client left while a host was connected to.
    pub(super) left: bool,
    /// Whether the observers have heard of the request.
    pub(super) told: bool,
    /// Hosts that failed this request.
    pub(super) tried: Vec<HostId>,
    /// The host of the running attempt.
    pub(super) lease: Option<Lease>,
    /// The host of the next one, once the running one has been given up.
    pub(super) next: Option<Lease>,
    /// When the running attempt began, or when the client had sent it all.
    pub(super) started: Instant,
    /// The head of the host's answer in the running attempt.
    pub(super) head: Option<Head>,
    /// Whether the host has answered a request for an upgrade with something else.
    pub(super) upgrade_refused: bool,
    /// How long the client had been waited for when the request's body began.
    pub(super) waited: Duration,
    /// Bytes of the request's body that the running attempt has got.
    pub(super) body: u64,
    /// The client's connection; `None` if other requests share it.
    pub(super) gate: Option<Arc<Gate>>,
}

/// Why a request has no host.
#[derive(Debug)]
pub(super) enum NotLeased {
    /// None could be had.
    Refused(BalancerError),
    /// The client left while the request waited for one.
    Left(Box<Error>),
}

impl From<BalancerError> for NotLeased {
    fn from(error: BalancerError) -> Self {
        NotLeased::Refused(error)
    }
}

/// The head of a host's answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head {
    /// From the begin of the attempt.
    pub(super) after: Duration,
    /// A 5xx is the host's failure.
    pub(super) outcome: Outcome,
}

impl RequestContext {
    pub(super) fn new(site: Arc<Site>, presence: Presence) -> Self {
        let now = Instant::now();
        RequestContext {
            presence,
            site,
            pool: 0,
            routed: false,
            retry: Retry::default(),
            origin: None,
            id: None,
            trace: None,
            account: None,
            kept_with: None,
            began: now,
            attempts: Vec::new(),
            queued: Duration::ZERO,
            refused: None,
            left: false,
            told: false,
            tried: Vec::new(),
            lease: None,
            next: None,
            started: now,
            head: None,
            upgrade_refused: false,
            waited: Duration::ZERO,
            body: 0,
            gate: None,
        }
    }

    pub(super) fn pool(&self) -> &Arc<Pool> {
        &self.site.pools[self.pool]
    }

    /// Notes that an attempt begins.
    pub(super) fn begin_attempt(&mut self) {
        self.started = Instant::now();
        self.head = None;
        self.upgrade_refused = false;
        self.body = 0;
        if let Some(lease) = &self.lease {
            let host = lease.member().host();
            let mut attempt = Attempt::begin(host, lease.position(), lease.why(), self.started);
            attempt.span = self.trace.map(|_| Trace::new_span());
            self.attempts.push(attempt);
        }
        if self.account.is_none() {
            self.account = self.pool().budget().map(|budget| budget.enter());
        }
    }

    /// Whether one more attempt would be within the pool's number and time.
    pub(super) fn has_another_attempt(&self) -> bool {
        self.account.as_ref().is_some_and(|account| {
            let policy = account.policy();
            let first = self.attempts.first();
            self.attempts.len() <= policy.attempts
                && first.is_some_and(|first| first.began.elapsed() < policy.deadline)
        })
    }

    /// Whether the pool's budget has a retry left for a request that a host may have got.
    pub(super) fn pay_for_retry(&mut self) -> bool {
        self.account.as_mut().is_some_and(Account::retry)
    }

    /// Whether an answer is none that the client should see while another host can give a better one.
    pub(super) fn is_failure(&self, status: StatusCode) -> bool {
        let account = self.account.as_ref();
        account.is_some_and(|account| account.policy().names(status.as_u16()))
    }

    /// The request after it has gone out.
    pub(super) fn sent(&self, session: &Session) -> Sent {
        Sent {
            repeatable: is_repeatable(session.req_header(), self.retry),
            replayable: !session.as_ref().retry_buffer_truncated(),
            answered: session.response_written().is_some(),
        }
    }

    /// Leases a host for the next attempt: one that has not failed this request while there is such a one. Waits in line
    /// while every host is full, as long as the client is there.
    pub(super) async fn lease_host(&mut self, session: &mut Session) -> Result<(), NotLeased> {
        let request = session.req_header();
        let demand = self.demand(request);
        let claim = demand.claim();
        let wanted = claim.as_ref().map(|claim| &claim.host);
        let (pool, repeatable) = (self.pool(), demand.could_go_again());
        let lease = match pool.lease_at_once(&demand.selection(), wanted, repeatable) {
            Err(BalancerError::Busy) if pool.has_room_in_line() => {
                // The session is read from meanwhile.
                let request = request.clone();
                let demand = self.demand(&request);
                let selection = demand.selection();
                let joined = Instant::now();
                let turn = tokio::select! {
                    biased;
                    left = client::left(session.as_downstream_mut()) => Err(NotLeased::Left(left)),
                    lease = pool.lease_in_turn(&selection, wanted, repeatable) => Ok(lease?),
                };
                let time = joined.elapsed();
                self.queued += time;
                self.client_was_not_asked(time);
                turn?
            }
            leased => leased?,
        };
        self.lease = Some(lease);
        if let Some(Claim { host, ages: false }) = claim {
            self.kept_with = Some(host);
        }
        Ok(())
    }

    /// The client was read from for so long only to see it leave, which says nothing about the rate of its body.
    pub(super) fn client_was_not_asked(&mut self, time: Duration) {
        self.waited = self.waited.saturating_add(time);
    }

    /// Leases a host that has not failed this request, for an attempt in place of the running one. `false`: there is none
    /// that could have the request at once.
    pub(super) fn lease_another(&mut self, request: &RequestHeader) -> bool {
        let demand = self.demand(request);
        let pool = self.pool();
        let leased = pool.lease(&demand.selection(), demand.could_go_again());
        let untried = |lease: &Lease| !self.tried.contains(lease.member().host().id());
        self.next = leased.ok().filter(untried);
        self.next.is_some()
    }

    /// What decides on the host of the next attempt.
    fn demand<'a>(&'a self, request: &'a RequestHeader) -> Demand<'a> {
        let client = self.origin.map(|origin| origin.client);
        let (attempts, tried) = (self.attempts.len(), &self.tried);
        Demand::new(request, self.pool(), client, attempts, tried, self.retry)
    }

    /// Ends the attempt as the host's failure.
    pub(super) fn fail(&mut self, failure: Failure) {
        self.end_attempt(Reason::Failed(failure));
        if let Some(lease) = self.lease.take() {
            lease.observe(self.started.elapsed(), Outcome::Failure(failure));
        }
    }

    /// Ends the attempt. What the host answered, if anything, is taken in.
    pub(super) fn finish(&mut self) {
        if let Some(head) = self.head {
            self.end_attempt(match head.outcome {
                Outcome::Success => Reason::Ok,
                Outcome::Failure(failure) => Reason::Failed(failure),
            });
        }
        if let (Some(lease), Some(head)) = (self.lease.take(), self.head) {
            lease.observe(head.after, head.outcome);
        }
    }
}
