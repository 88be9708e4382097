//! One request as the choosers see it: what is asked for, and what holds for the hosts at this moment.

use std::net::IpAddr;

use super::clock::Clock;
use super::conditions::Conditions;
use super::host::{Host, HostId};
use super::live::Live;
use super::seat::Seat;
use super::selection::Selection;
use super::slow_start::Ramp;

/// A [`Selection`] with whatever else decides whether a host may be chosen. Made anew for each pick.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Request<'a> {
    selection: Selection<'a>,
    conditions: &'a Conditions,
    clock: &'a Clock,
    /// Whether a host of the arrangement has a limit.
    limited: bool,
    /// The position that was chosen before and held back.
    skipped: Option<usize>,
    ramp: Option<Ramp>,
}

impl<'a> Request<'a> {
    pub(super) fn new(
        selection: Selection<'a>,
        conditions: &'a Conditions,
        clock: &'a Clock,
        limited: bool,
        ramp: Option<Ramp>,
    ) -> Self {
        Request {
            selection,
            conditions,
            clock,
            limited,
            skipped: None,
            ramp,
        }
    }

    /// The same request, with the host at `position` out of the choice.
    pub(super) fn skip(self, position: Option<usize>) -> Self {
        Request {
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

    /// Whether any host may be chosen, so that none needs to be looked at.
    pub(crate) fn takes_any(&self) -> bool {
        !self.limited && self.skipped.is_none() && !self.is_retry()
    }

    /// Whether it has tried hosts before.
    pub(crate) fn is_retry(&self) -> bool {
        !self.selection.tried_hosts().is_empty()
    }

    /// Whether a host was chosen for it that is starting slowly, and passed over.
    pub(crate) fn was_held_back(&self) -> bool {
        self.skipped.is_some()
    }

    /// Whether the host at `position` may be chosen: not tried, not full and not passed over.
    pub(crate) fn may_take(&self, position: usize, seat: &Seat) -> bool {
        self.skipped != Some(position)
            && !(self.limited && seat.is_full())
            && !self.has_tried(&seat.host)
    }

    fn has_tried(&self, host: &Host) -> bool {
        self.tried_hosts().contains(host.id())
    }

    fn tried_hosts(&self) -> &'a [HostId] {
        self.selection.tried_hosts()
    }

    /// The share of its load that a host takes: below 1 while it starts slowly.
    pub(crate) fn share(&self, seat: &Seat) -> f64 {
        self.ramp.map_or(1.0, |ramp| ramp.share(seat.ramp()))
    }

    /// How hosts compare at this moment.
    pub(crate) fn scales(&self) -> Scales {
        Scales {
            failing: self.conditions.failing(self.clock),
            usual: self.conditions.usual_latency(),
            ramp: self.ramp,
        }
    }
}

/// A slow host's load counts more, but not more than this many times as much: what was measured once may be over.
const MOST_SLOWNESS: f64 = 10.0;

/// How much slower than usual a host may be at no cost. Averages of equal hosts differ by chance.
const FREE_SLOWNESS: f64 = 1.5;

/// Weighs the load of hosts against each other.
///
/// ```text
/// load = (in flight + recent failures) / weight × slowness / share
/// ```
/// A failed request counts like one that runs, fading within seconds, so a host that fails fast does not look idle. The
/// slowness of a host is its mean latency relative to that of the balancer, and 1 if it is not remarkable. The share is
/// that of a slow start. An idle host without failures has the load 0 whatever its slowness, so nobody starves.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scales {
    /// The time, if a host has failed lately.
    failing: Option<u64>,
    /// The balancer's mean latency in nanoseconds; infinite if there is none.
    usual: f64,
    ramp: Option<Ramp>,
}

impl Scales {
    /// The load of a host of `weight` on which `in_flight` requests run.
    pub(crate) fn load(&self, live: &Live, in_flight: u64, weight: u32, seat: &Seat) -> f64 {
        let mut requests = in_flight as f64;
        if let Some(now) = self.failing {
            requests += live.failures(now);
        }
        // Not `clamp`: if every answer took no time at all, this is not a number, and `max` makes it 1.
        let slowness = (live.mean_latency() / (self.usual * FREE_SLOWNESS)).max(1.0);
        let load = requests / f64::from(weight) * slowness.min(MOST_SLOWNESS);
        match self.ramp {
            None => load,
            Some(ramp) => load / ramp.share(seat.ramp()),
        }
    }
}
