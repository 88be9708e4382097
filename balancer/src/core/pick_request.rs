//! The input of a pick: the request, and the state of the balancer that applies to it.

use std::net::IpAddr;

use super::explanation::CandidateReason;
use super::host_stats::HostStats;
use super::pool_stats::PoolStats;
use super::selection::Selection;
use super::slot::Slot;
use super::slow_start::Ramp;

/// A [`Selection`] with everything else that decides whether a host is accepted. Made for each pick.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PickRequest<'a> {
    selection: &'a Selection<'a>,
    pool_stats: &'a PoolStats,
    /// Whether any host has a limit.
    limited: bool,
    /// The position that was picked before and held back.
    skipped: Option<usize>,
    ramp: Option<Ramp<'a>>,
}

impl<'a> PickRequest<'a> {
    pub(super) fn new(
        selection: &'a Selection<'a>,
        pool_stats: &'a PoolStats,
        limited: bool,
        ramp: Option<Ramp<'a>>,
    ) -> Self {
        PickRequest {
            selection,
            pool_stats,
            limited,
            skipped: None,
            ramp,
        }
    }

    /// The same request, but it does not accept the host at `position`.
    pub(super) fn skip(self, position: Option<usize>) -> Self {
        PickRequest {
            skipped: position,
            ..self
        }
    }

    pub(crate) fn hash_key(&self) -> Option<&'a [u8]> {
        self.selection.hash_key()
    }

    pub(crate) fn client_address(&self) -> Option<IpAddr> {
        self.selection.client_address()
    }

    /// Whether the request accepts every host, so that none needs to be checked.
    pub(crate) fn accepts_any(&self) -> bool {
        !self.limited && self.skipped.is_none() && !self.is_retry()
    }

    /// Whether the request has tried hosts before.
    pub(crate) fn is_retry(&self) -> bool {
        !self.selection.tried_hosts().is_empty()
    }

    /// Whether a host in slow start was picked for the request and held back.
    pub(crate) fn was_held_back(&self) -> bool {
        self.skipped.is_some()
    }

    /// Whether the host at `position` may be picked: not tried, not full and not held back.
    pub(crate) fn accepts(&self, position: usize, slot: &Slot) -> bool {
        self.rejection(position, slot).is_none()
    }

    /// Why the host at `position` may not be picked; `None` if it may.
    pub(super) fn rejection(&self, position: usize, slot: &Slot) -> Option<CandidateReason> {
        if self.skipped == Some(position) {
            Some(CandidateReason::Starting)
        } else if self.limited && slot.is_full() {
            Some(CandidateReason::Full)
        } else if self.selection.tried_hosts().contains(slot.host.id()) {
            Some(CandidateReason::Tried)
        } else {
            None
        }
    }

    /// Whether any host is in slow start.
    pub(super) fn has_slow_start(&self) -> bool {
        self.ramp.is_some()
    }

    /// The share of its load that a host takes: below 1 in slow start.
    pub(crate) fn share(&self, slot: &Slot) -> f64 {
        self.ramp.map_or(1.0, |ramp| ramp.share(slot.ramp()))
    }

    /// The formula for comparing hosts, with its current parameters.
    pub(crate) fn load_model(&self) -> LoadModel<'a> {
        LoadModel {
            failing: self.pool_stats.failing(),
            inverse_slow_latency: 1.0 / (self.pool_stats.mean_latency() * TOLERATED_SLOWNESS),
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
    /// The load of a host of `weight` with `in_flight` requests. The usual host, of weight 1 and neither slow nor
    /// failing, needs no division: that would take as long as all the rest.
    #[inline]
    pub(crate) fn load(&self, stats: &HostStats, in_flight: u64, weight: u32, slot: &Slot) -> f64 {
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
            load /= ramp.share(slot.ramp());
        }
        load
    }
}
