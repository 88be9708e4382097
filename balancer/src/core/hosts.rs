//! What a picker sees: the hosts that can take requests, the request, and the state of the balancer.

use std::net::IpAddr;
use std::sync::Arc;

use super::explanation::CandidateReason;
use super::host_stats::HostStats;
use super::member::Member;
use super::pool_stats::PoolStats;
use super::selection::Selection;
use super::slow_start::Ramp;

/// The members of a weight above 0, as candidates of one pick. Made for each pick.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hosts<'a> {
    pub(super) members: &'a [Arc<Member>],
    pub(super) selection: &'a Selection<'a>,
    pub(super) pool: &'a PoolStats,
    /// Whether any host has a limit.
    pub(super) limited: bool,
    /// The position that was picked before and held back.
    pub(super) skipped: Option<usize>,
    pub(super) ramp: Option<Ramp<'a>>,
}

impl<'a> Hosts<'a> {
    pub(crate) fn len(&self) -> usize {
        self.members.len()
    }

    #[inline]
    pub(crate) fn member(&self, position: usize) -> &'a Member {
        &self.members[position]
    }

    /// The key of the request.
    pub(crate) fn key(&self) -> Option<&'a [u8]> {
        self.selection.hash_key()
    }

    /// The address of the request's client.
    pub(crate) fn client(&self) -> Option<IpAddr> {
        self.selection.client_address()
    }

    /// Whether the request accepts every host, so that none needs to be checked.
    #[inline]
    pub(crate) fn accepts_any(&self) -> bool {
        !self.limited && !self.is_narrowed()
    }

    /// Whether the request has tried hosts, or one was held back.
    #[inline]
    pub(crate) fn is_narrowed(&self) -> bool {
        self.skipped.is_some() || self.is_retry()
    }

    /// Whether the request has tried hosts before.
    #[inline]
    pub(crate) fn is_retry(&self) -> bool {
        !self.selection.tried_hosts().is_empty()
    }

    /// Whether a host in slow start was picked for the request and held back.
    pub(crate) fn was_held_back(&self) -> bool {
        self.skipped.is_some()
    }

    /// Whether the host at `position` may be picked: not tried, not full and not held back.
    #[inline]
    pub(crate) fn accepts(&self, position: usize) -> bool {
        self.rejection(position).is_none()
    }

    /// Why the host at `position` may not be picked; `None` if it may.
    pub(super) fn rejection(&self, position: usize) -> Option<CandidateReason> {
        let member = self.member(position);
        if self.skipped == Some(position) {
            Some(CandidateReason::Starting)
        } else if self.limited && member.is_full() {
            Some(CandidateReason::Full)
        } else if self.selection.tried_hosts().contains(member.host.id()) {
            Some(CandidateReason::Tried)
        } else {
            None
        }
    }

    /// The share of its load that a host takes: below 1 in slow start.
    pub(crate) fn share(&self, member: &Member) -> f64 {
        self.ramp.map_or(1.0, |ramp| ramp.share(member.ramp()))
    }

    /// The current time in nanoseconds of the balancer's clock.
    pub(crate) fn now(&self) -> u64 {
        self.pool.now()
    }

    /// Requests in flight on all members, for algorithms that [count them](super::Strategy::counts_all).
    pub(crate) fn in_flight_on_all(&self) -> u64 {
        self.pool.in_flight()
    }

    /// The mean latency of all hosts in nanoseconds; infinite before the first response.
    pub(crate) fn mean_latency(&self) -> f64 {
        self.pool.mean_latency()
    }

    /// The formula for comparing hosts, with its current parameters.
    pub(crate) fn load_model(&self) -> LoadModel<'a> {
        LoadModel {
            failing: self.pool.failing(),
            inverse_slow_latency: 1.0 / (self.pool.mean_latency() * TOLERATED_SLOWNESS),
            ramp: self.ramp,
        }
    }
}

/// The maximum slowness factor: an old measurement must not exclude a host for long.
const MAX_SLOWNESS: f64 = 10.0;

/// How much slower than the mean a host may be without a penalty. Averages of equal hosts differ by chance.
const TOLERATED_SLOWNESS: f64 = 1.5;

/// Computes the load of a host for comparison with others.
///
/// ```text
/// load = (in flight + recent failures) / weight × slowness / share
/// ```
/// A failed request counts like one in flight and fades within seconds, so a host that fails fast does not look idle.
/// The slowness of a host is its mean latency relative to that of the balancer, and 1 while it is within tolerance. The
/// share is that of slow start. An idle host without failures has load 0 whatever its slowness, so no host starves.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LoadModel<'a> {
    /// The time, if any host has failed recently.
    failing: Option<u64>,
    /// 1 divided by the latency, in nanoseconds, from which a host is slow; 0 if no latency counts as slow.
    inverse_slow_latency: f64,
    ramp: Option<Ramp<'a>>,
}

impl LoadModel<'_> {
    /// The load of a member with `in_flight` requests.
    #[inline]
    pub(crate) fn load(&self, member: &Member, in_flight: u64) -> f64 {
        self.load_of(&member.stats, member.weight, in_flight, || member)
    }

    /// The load of a host with `in_flight` requests; `member` is asked only in slow start. The usual host, of weight 1 and
    /// neither slow nor failing, needs no division: that would take as long as all the rest.
    #[inline]
    pub(crate) fn load_of<'m>(
        &self,
        stats: &HostStats,
        weight: u32,
        in_flight: u64,
        member: impl FnOnce() -> &'m Member,
    ) -> f64 {
        let mut load = in_flight as f64;
        if let Some(now) = self.failing {
            load += stats.failures(now);
        }
        if weight != 1 {
            load /= f64::from(weight);
        }
        let slowness = stats.mean_latency() * self.inverse_slow_latency;
        // Also false for NaN, as when no response took any time.
        if slowness > 1.0 {
            load *= slowness.min(MAX_SLOWNESS);
        }
        if let Some(ramp) = self.ramp {
            load /= ramp.share(member().ramp());
        }
        load
    }

    /// Recent failures of the host, in requests in flight.
    pub(crate) fn failures(&self, member: &Member) -> f64 {
        self.failing.map_or(0.0, |now| member.stats.failures(now))
    }
}
