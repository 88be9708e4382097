//! What is known of one request from phase to phase.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::StatusCode;
use pingora::Error;

use super::client::Gate;
use super::demand::{Demand, is_repeatable};
use super::failure::Sent;
use super::forwarded::Origin;
use super::request_id::RequestId;
use super::site::Site;
use super::traffic::Presence;
use crate::balancer::{BalancerError, HostId};
use crate::config::Retry;
use crate::message::RequestView;
use crate::pool::{Account, Claim, Failure, Lease, Outcome, Pool};
use crate::record::{Attempt, Ending, Reason, Trace};

/// One request. Dropping it ends every count that the request holds, so it does not matter how the request ends.
#[derive(Debug)]
pub struct RequestContext {
    pub(crate) presence: Presence,
    pub(crate) site: Arc<Site>,
    /// Index into the site's pools; set by the route.
    pub(crate) pool: usize,
    /// Whether a route was found.
    pub(crate) routed: bool,
    /// What may be sent again; set by the route.
    pub(crate) retry: Retry,
    /// `None` before the first filter, and for connections without an IP address.
    pub(crate) origin: Option<Origin>,
    /// The id that all attempts share.
    pub(crate) id: Option<RequestId>,
    /// Its place in a trace; `None` without `tracing`.
    pub(crate) trace: Option<Trace>,
    /// What it asks to upgrade its connection to.
    pub(crate) upgrade: Option<Arc<str>>,
    /// The request in the pool's budget for retries, from the first attempt on; `None` if there are none.
    pub(crate) account: Option<Account>,
    /// The host that the client's cookie keeps it with; `None` if the answer is to bring it a new one.
    pub(crate) kept_with: Option<HostId>,
    /// When the head had been read.
    pub(crate) began: Instant,
    /// Attempts made.
    pub(crate) attempts: Vec<Attempt>,
    /// How long the request waited in line.
    pub(crate) queued: Duration,
    /// What the answer that we gave ourselves says of the request.
    pub(crate) refused: Option<Ending>,
    /// Whether the client left while a host was connected to.
    pub(crate) left: bool,
    /// Whether the observers have heard of the request.
    pub(crate) told: bool,
    /// Hosts that failed this request.
    pub(crate) tried: Vec<HostId>,
    /// The host of the running attempt.
    pub(crate) lease: Option<Lease>,
    /// The host of the next one, once the running one has been given up.
    pub(crate) next: Option<Lease>,
    /// When the running attempt began, or when the client had sent it all.
    pub(crate) started: Instant,
    /// The head of the host's answer in the running attempt.
    pub(crate) head: Option<Head>,
    /// Whether the host has answered a request for an upgrade with something else.
    pub(crate) upgrade_refused: bool,
    /// How long the client had been waited for when the request's body began.
    pub(crate) waited: Duration,
    /// Bytes of the request's body that the running attempt has got.
    pub(crate) body: u64,
    /// The client's connection; `None` if other requests share it.
    pub(crate) gate: Option<Arc<Gate>>,
}

/// Why a request has no host.
#[derive(Debug)]
pub(crate) enum NotLeased {
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
pub(crate) struct Head {
    /// From the begin of the attempt.
    pub(crate) after: Duration,
    /// A 5xx is the host's failure.
    pub(crate) outcome: Outcome,
}

impl RequestContext {
    /// A request whose head had been read by `now`.
    pub(crate) fn new(site: Arc<Site>, presence: Presence, now: Instant) -> Self {
        RequestContext {
            presence,
            site,
            pool: 0,
            routed: false,
            retry: Retry::default(),
            origin: None,
            id: None,
            trace: None,
            upgrade: None,
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

    pub(crate) fn pool(&self) -> &Arc<Pool> {
        &self.site.pools[self.pool]
    }

    /// Notes that an attempt begins.
    pub(crate) fn begin_attempt(&mut self) {
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
        self.account.as_mut().is_some_and(Account::retry)
    }

    /// Whether an answer is none that the client should see while another host can give a better one.
    pub(crate) fn is_failure(&self, status: StatusCode) -> bool {
        let account = self.account.as_ref();
        account.is_some_and(|account| account.policy().includes(status.as_u16()))
    }

    /// The request after it has gone out. `replayable`: what has been read of its body can be sent again; `answered`: the
    /// client has got a part of an answer.
    pub(crate) fn sent(&self, request: RequestView<'_>, replayable: bool, answered: bool) -> Sent {
        Sent {
            repeatable: is_repeatable(request, self.retry),
            replayable,
            answered,
        }
    }

    /// Leases a host for the next attempt: one that has not failed this request while there is such a one.
    ///
    /// # Errors
    /// [`BalancerError::Busy`] if every host is full, or others wait in line.
    pub(crate) fn lease_at_once(&mut self, request: RequestView<'_>) -> Result<(), BalancerError> {
        let demand = self.demand(request);
        let claim = demand.claim();
        let wanted = claim.as_ref().map(|claim| &claim.host);
        let pool = self.pool();
        let lease = pool.lease_at_once(&demand.selection(), wanted, demand.could_go_again())?;
        self.leased(lease, claim);
        Ok(())
    }

    /// Waits in line for a host, until `left` tells that the client has left.
    pub(crate) async fn lease_in_turn(
        &mut self,
        request: RequestView<'_>,
        left: impl Future<Output = Box<Error>>,
    ) -> Result<(), NotLeased> {
        let demand = self.demand(request);
        let claim = demand.claim();
        let wanted = claim.as_ref().map(|claim| &claim.host);
        let selection = demand.selection();
        let joined = Instant::now();
        let turn = tokio::select! {
            biased;
            left = left => Err(NotLeased::Left(left)),
            lease = self.pool().lease_in_turn(&selection, wanted, demand.could_go_again()) => Ok(lease),
        };
        let time = joined.elapsed();
        self.queued += time;
        self.client_was_not_asked(time);
        self.leased(turn??, claim);
        Ok(())
    }

    fn leased(&mut self, lease: Lease, claim: Option<Claim>) {
        self.lease = Some(lease);
        if let Some(Claim { host, ages: false }) = claim {
            self.kept_with = Some(host);
        }
    }

    /// The client was read from for so long only to see it leave, which says nothing about the rate of its body.
    pub(crate) fn client_was_not_asked(&mut self, time: Duration) {
        self.waited = self.waited.saturating_add(time);
    }

    /// Leases a host that has not failed this request, for an attempt in place of the running one. `false`: there is none
    /// that could have the request at once.
    pub(crate) fn lease_another(&mut self, request: RequestView<'_>) -> bool {
        let demand = self.demand(request);
        let pool = self.pool();
        let leased = pool.lease(&demand.selection(), demand.could_go_again());
        let untried = |lease: &Lease| !self.tried.contains(lease.member().host().id());
        self.next = leased.ok().filter(untried);
        self.next.is_some()
    }

    /// What decides on the host of the next attempt.
    fn demand<'a>(&'a self, request: RequestView<'a>) -> Demand<'a> {
        let client = self.origin.map(|origin| origin.client);
        let (attempts, tried) = (self.attempts.len(), &self.tried);
        Demand::new(request, self.pool(), client, attempts, tried, self.retry)
    }

    /// Ends the attempt as the host's failure.
    pub(crate) fn fail(&mut self, failure: Failure) {
        self.end_attempt(Reason::Failed(failure));
        if let Some(lease) = self.lease.take() {
            lease.observe(self.started.elapsed(), Outcome::Failure(failure));
        }
    }

    /// The host has done its part: its place is free. The attempt goes on until the client has the answer.
    pub(crate) fn release_host(&mut self) {
        if let (Some(lease), Some(head)) = (self.lease.take(), self.head) {
            lease.observe(head.after, head.outcome);
        }
    }

    /// Ends the attempt. What the host answered, if anything, is taken in.
    pub(crate) fn finish(&mut self) {
        if let Some(head) = self.head {
            self.end_attempt(match head.outcome {
                Outcome::Success => Reason::Ok,
                Outcome::Failure(failure) => Reason::Failed(failure),
            });
        }
        self.release_host();
    }
}
