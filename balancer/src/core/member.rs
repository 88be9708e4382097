//! A member of a balancer, where requests are counted.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use super::cohort::Cohort;
use super::host::Host;
use super::host_stats::HostStats;
use super::lease::Outcome;
use super::pool_stats::PoolStats;

/// The bit of [`Counts::running`] that marks a host which takes no requests: it has left, or its weight is 0.
const OUT: u64 = 1 << 63;

/// A host as a member of one balancer. What is picked and compared stands here, so that a pick touches one cache line
/// less.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) host: Arc<Host>,
    pub(crate) weight: u32,
    /// The most requests in flight that a pick allows; `u64::MAX` means no limit.
    pub(crate) limit: u64,
    pub(crate) stats: Arc<HostStats>,
    counts: Arc<Counts>,
    pool: Arc<PoolStats>,
}

/// What a balancer keeps for one identity: it stays when the host leaves and returns, or changes its weight.
#[derive(Debug)]
struct Counts {
    /// The requests of this balancer, with [`OUT`], if the algorithm needs their total.
    running: AtomicU64,
    /// When slow start ends, nanoseconds of the clock; 0 = not in slow start.
    ramp: AtomicU64,
    cohort: OnceLock<Arc<Cohort>>,
}

impl Member {
    /// A member that is not counted in the total yet.
    pub(super) fn new(host: Arc<Host>, pool: &Arc<PoolStats>) -> Self {
        let counts = Counts {
            running: AtomicU64::new(OUT),
            ramp: AtomicU64::new(0),
            cohort: OnceLock::new(),
        };
        Member::with_counts(host, Arc::new(counts), pool)
    }

    /// `host` as the member of the same identity that `self` is or was. It has the live state of `self`, whatever its own.
    pub(super) fn renewed(&self, host: Arc<Host>) -> Self {
        let host = match Arc::ptr_eq(host.stats(), &self.stats) {
            true => host,
            false => Arc::new(host.with_stats(&self.stats)),
        };
        Member::with_counts(host, Arc::clone(&self.counts), &self.pool)
    }

    fn with_counts(host: Arc<Host>, counts: Arc<Counts>, pool: &Arc<PoolStats>) -> Self {
        // The host may have recent failures from another balancer.
        pool.fail_until(host.stats().failing_until());
        Member {
            weight: host.weight(),
            limit: host.max_in_flight().map_or(u64::MAX, |limit| limit.get()),
            stats: Arc::clone(host.stats()),
            host,
            counts,
            pool: Arc::clone(pool),
        }
    }

    /// Whether `host` is no different from this member.
    pub(super) fn is(&self, host: &Arc<Host>) -> bool {
        Arc::ptr_eq(&self.host, host)
            || self.host.address() == host.address()
                && self.host.weight() == host.weight()
                && self.host.max_in_flight() == host.max_in_flight()
    }

    /// Records the outcome of a request that has just ended.
    pub(super) fn observe(&self, outcome: Outcome) {
        let now = self.pool.now();
        let Outcome { latency, succeeded } = outcome;
        self.stats.observe(now, latency, succeeded);
        if succeeded {
            self.pool.observe(now, latency);
        } else {
            self.pool.fail_until(self.stats.failing_until());
        }
    }

    /// Requests in flight on the host, those of other balancers with its live state included.
    #[inline]
    pub(crate) fn in_flight(&self) -> u64 {
        self.stats.in_flight()
    }

    /// Whether the host is at its limit of requests in flight.
    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.in_flight() >= self.limit
    }

    /// When slow start ends, nanoseconds of the clock; 0 = not in slow start.
    pub(super) fn ramp(&self) -> u64 {
        self.counts.ramp.load(Ordering::Relaxed)
    }

    /// Puts the host into slow start until `end`.
    pub(super) fn ramp_until(&self, end: u64) {
        self.counts.ramp.store(end, Ordering::Relaxed);
    }

    pub(crate) fn has_cohort(&self) -> bool {
        self.counts.cohort.get().is_some()
    }

    /// The cohort of the host, which `assign` chooses the first time.
    pub(crate) fn cohort(&self, assign: impl FnOnce() -> Arc<Cohort>) -> &Arc<Cohort> {
        self.counts.cohort.get_or_init(assign)
    }

    /// The requests of this balancer on the host, if it [counts all](super::Strategy::counts_all).
    pub(crate) fn running(&self) -> u64 {
        self.counts.running.load(Ordering::SeqCst) & !OUT
    }

    /// Includes the requests of the host in the total, or excludes them.
    pub(super) fn count_in_total(&self, included: bool) {
        let Some(total) = self.pool.total() else {
            return;
        };
        if included {
            let running = self.counts.running.fetch_and(!OUT, Ordering::SeqCst);
            if running & OUT != 0 {
                total.fetch_add(running & !OUT, Ordering::SeqCst);
            }
        } else {
            let running = self.counts.running.fetch_or(OUT, Ordering::SeqCst);
            if running & OUT == 0 {
                total.fetch_sub(running, Ordering::SeqCst);
            }
        }
    }

    /// Counts one more request, whatever the limit.
    pub(super) fn acquire(&self) {
        self.tally(None);
        self.stats.inc();
    }

    /// Counts one more request, if the host has room. With `seen` only if the number that the pick saw has not changed since.
    pub(super) fn try_acquire(&self, seen: Option<u64>) -> bool {
        if let (Some(seen), None) = (seen, self.pool.total()) {
            return self.stats.inc_if_unchanged(seen);
        }
        if !self.tally(seen) {
            return false;
        }
        let has_room = self.stats.inc_below(self.limit);
        if !has_room {
            self.untally();
        }
        has_room
    }

    /// Counts one request less. Does nothing if none is in flight.
    pub(super) fn release(&self) {
        let Some(in_flight) = self.stats.dec() else {
            return;
        };
        self.untally();
        if let Some(cohort) = self.counts.cohort.get() {
            match self.weight {
                0 => {}
                // A division takes as long as all the rest.
                1 => cohort.lower(in_flight as f64),
                weight => cohort.lower(in_flight as f64 / f64::from(weight)),
            }
        }
    }

    /// Adds a request to the total, if there is one, and to the host, with `seen` only if the host has so many. The total
    /// first, and back again: it is never below the sum of the members.
    fn tally(&self, seen: Option<u64>) -> bool {
        let Some(total) = self.pool.total() else {
            return true;
        };
        total.fetch_add(1, Ordering::SeqCst);
        let running = &self.counts.running;
        let before = running.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |running| {
            seen.is_none_or(|seen| running & !OUT == seen)
                .then_some(running + 1)
        });
        if before.is_err() || before.is_ok_and(|running| running & OUT != 0) {
            total.fetch_sub(1, Ordering::SeqCst);
        }
        before.is_ok()
    }

    fn untally(&self) {
        let Some(total) = self.pool.total() else {
            return;
        };
        let running = &self.counts.running;
        let before = running.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |running| {
            (running & !OUT > 0).then(|| running - 1)
        });
        if before.is_ok_and(|running| running & OUT == 0) {
            total.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

/// Members for tests, by identity and weight.
#[cfg(test)]
pub(crate) fn members_of(hosts: &[(&str, u32)]) -> Vec<Arc<Member>> {
    let pool = Arc::new(PoolStats::new(super::Clock::monotonic(), false));
    let member = |&(id, weight): &(&str, u32)| {
        let host = Host::named(id, "127.0.0.1:1".parse().expect("an address"));
        let host = Arc::new(host.with_weight(weight).expect("a weight in range"));
        Arc::new(Member::new(host, &pool))
    };
    hosts.iter().map(member).collect()
}
