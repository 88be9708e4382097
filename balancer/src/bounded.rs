//! Consistent hashing with bounded loads: a key keeps its host until that host is full, then moves on along the ring.
//!
//! **How.** The ring of [`consistent_hash`](super::consistent_hash), and for each host a capacity of ⌈c·m·w_i/W⌉
//! requests, where m is the number of requests in flight, including this one. The first host clockwise with room gets
//! the request. The check and the count are one atomic step, so no number of threads exceeds the capacity; m stays
//! exact when a busy host leaves or returns.
//!
//! **Cost.** As the ring, and more points while hosts are full: about 1.09 at c = 1.25, 1.9 at c = 1.05.
//!
//! **Bound.** No host has more than ⌈c·m·w_i/W⌉ requests, so one hot key spreads over at least n/c hosts. A change of
//! the membership moves O(1/(c−1)²) requests (Mirrokni, Thorup, Zadimoghaddam, "Consistent Hashing with Bounded Loads",
//! SODA 2018). Three kinds of requests may exceed the bound: a retry, if every host with room has failed it; a request
//! for which every host with room is at its own limit; and a request without a key, for which the `fallback` picks.
//!
//! **When.** Caches with hot keys. A `factor` near 1 balances better, a larger one keeps more keys on their host.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::core::{
    Algorithm, BalancerError, CandidateReason, DryRun, DynPicker, Fallback, HasKey, Host, NoTrace,
    Options, PerHostMap, PerHostState, PickRequest, PickTrace, Picker, Ring, RingBuilder, Slot,
};
use super::registry::{AlgorithmInfo, OptionInfo};

pub(super) const INFO: AlgorithmInfo = AlgorithmInfo {
    name: "bounded",
    summary: "the ring of consistent_hash, but no host above its share by more than a factor",
    keyed: true,
    options: &[
        OptionInfo {
            name: "factor",
            default: "1.25",
            help: "a host's capacity relative to its share of the requests in flight: 1 to 100",
        },
        Fallback::OPTION,
    ],
    build,
};

/// The factor is stored as an integer in this unit, so that capacities are compared exactly.
const FACTOR_SCALE: f64 = 1e6;

/// Points to visit before the least loaded host is taken. At the tightest factor of 1, a walk along a full ring would
/// otherwise visit the whole ring; at 1.25, less than one in a thousand needs more than ten points.
const MAX_WALK: usize = 256;

/// The bit that marks a host that has left.
const DEPARTED: u64 = 1 << 63;

fn build(options: &Options) -> Result<Box<dyn Algorithm>, BalancerError> {
    let fits = |factor: &f64| (1.0..=100.0).contains(factor);
    let factor = options.parse("factor", 1.25, "a number from 1 to 100", fits)?;
    Ok(Box::new(Bounded {
        factor: (factor * FACTOR_SCALE).round() as u64,
        ring_builder: RingBuilder::default(),
        total: Arc::default(),
        host_loads: PerHostMap::default(),
        fallback: Fallback::from_options(options)?,
    }))
}

#[derive(Debug)]
struct Bounded {
    /// c in units of 1 / [`FACTOR_SCALE`].
    factor: u64,
    ring_builder: RingBuilder,
    total: Arc<AtomicU64>,
    host_loads: PerHostMap<HostLoad>,
    fallback: Fallback,
}

/// The requests of this balancer in flight on one host.
#[derive(Debug)]
struct HostLoad {
    /// The number of requests, with [`DEPARTED`] set while the host is not a member.
    running: AtomicU64,
    /// The requests on all members. Each change of `running` without [`DEPARTED`] is repeated here: a new request is
    /// added here first, a finished one subtracted last, so the total is never below the sum of the members' counts.
    total: Arc<AtomicU64>,
    /// The fallback's state, which must see every end of a request.
    fallback: Option<Arc<dyn PerHostState>>,
}

impl HostLoad {
    /// Counts a request that is already in `total`, if `room` holds for the current number.
    fn reserve(&self, room: impl Fn(u64) -> bool) -> bool {
        self.running
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |running| {
                (running & DEPARTED == 0 && room(running)).then_some(running + 1)
            })
            .is_ok()
    }

    /// Undoes a reservation. `total` still holds the request; it is added again if the host left in between.
    fn cancel(&self) {
        if self.running.fetch_sub(1, Ordering::SeqCst) & DEPARTED != 0 {
            self.total.fetch_add(1, Ordering::SeqCst);
        }
    }
}

impl PerHostState for HostLoad {
    fn on_acquire(&self) {
        self.total.fetch_add(1, Ordering::SeqCst);
        if self.running.fetch_add(1, Ordering::SeqCst) & DEPARTED != 0 {
            self.total.fetch_sub(1, Ordering::SeqCst);
        }
    }

    fn on_release(&self, host: &Host, in_flight: u64) {
        let before = self
            .running
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |running| {
                (running & !DEPARTED > 0).then(|| running - 1)
            });
        if before.is_ok_and(|running| running & DEPARTED == 0) {
            self.total.fetch_sub(1, Ordering::SeqCst);
        }
        if let Some(per_host_state) = &self.fallback {
            per_host_state.on_release(host, in_flight);
        }
    }

    fn on_join(&self) {
        let running = self.running.fetch_and(!DEPARTED, Ordering::SeqCst);
        if running & DEPARTED != 0 {
            self.total.fetch_add(running & !DEPARTED, Ordering::SeqCst);
        }
    }

    fn on_leave(&self) {
        let running = self.running.fetch_or(DEPARTED, Ordering::SeqCst);
        if running & DEPARTED == 0 {
            self.total.fetch_sub(running, Ordering::SeqCst);
        }
    }
}

impl Algorithm for Bounded {
    fn build_picker(&self, slots: &Arc<[Arc<Slot>]>) -> Box<dyn DynPicker> {
        let host_load = |slot: &Arc<Slot>| {
            let found = self.host_loads.find(slot.host.id());
            found.expect("a slot holds its load, which was remembered when the host joined")
        };
        let host_loads: Box<[Arc<HostLoad>]> = slots.iter().map(host_load).collect();
        let picker = BoundedPicker {
            factor: self.factor,
            total_weight: slots.iter().map(|s| u64::from(s.host.weight())).sum(),
            ring: self.ring_builder.ring(slots),
            total: Arc::clone(&self.total),
            host_loads,
            slots: Arc::clone(slots),
        };
        self.fallback.with_fallback(picker, slots)
    }

    fn starts_slowly(&self) -> bool {
        false
    }

    fn per_host_state(&self, host: &Arc<Host>) -> Option<Arc<dyn PerHostState>> {
        if let Some(host_load) = self.host_loads.find(host.id()) {
            return Some(host_load);
        }
        let host_load = Arc::new(HostLoad {
            running: AtomicU64::new(DEPARTED),
            total: Arc::clone(&self.total),
            fallback: self.fallback.per_host_state(host),
        });
        self.host_loads.insert(host.id(), &host_load);
        Some(host_load)
    }
}

#[derive(Debug)]
struct BoundedPicker {
    factor: u64,
    /// W, the sum of the weights.
    total_weight: u64,
    ring: Arc<Ring>,
    total: Arc<AtomicU64>,
    host_loads: Box<[Arc<HostLoad>]>,
    slots: Arc<[Arc<Slot>]>,
}

impl HasKey for BoundedPicker {
    fn has_key(&self, request: &PickRequest<'_>) -> bool {
        request.hash_key().is_some()
    }
}

impl Picker for BoundedPicker {
    fn pick<T: PickTrace>(&self, request: &PickRequest<'_>, trace: &T) -> Option<usize> {
        let total = self.total.load(Ordering::SeqCst) + 1;
        let fits = |position: usize| {
            let running = self.host_loads[position].running.load(Ordering::SeqCst);
            let room = running & DEPARTED == 0 && self.has_room(position, running, total);
            if !room {
                trace.reject(position, CandidateReason::Bound);
            }
            room
        };
        self.first_on_ring(request, fits, trace)
            .or_else(|| self.least_loaded(request))
    }

    fn rank(&self, request: &PickRequest<'_>, _: Option<usize>, dry_run: &DryRun) {
        let total = self.total.load(Ordering::SeqCst) + 1;
        for position in self.ring.walk(request.hash_key().unwrap_or_default()) {
            let running = self.host_loads[position].running.load(Ordering::SeqCst) & !DEPARTED;
            let share = total as f64 * f64::from(self.slots[position].host.weight());
            let load = running as f64 * self.total_weight as f64 / share;
            let reason = match self.has_room(position, running, total) {
                true => CandidateReason::Ring,
                false => CandidateReason::Bound,
            };
            if !dry_run.rank(position, Some(load), reason) {
                break;
            }
        }
    }

    fn pick_and_count(&self, request: &PickRequest<'_>, slots: &[Arc<Slot>]) -> Option<usize> {
        self.total.fetch_add(1, Ordering::SeqCst);
        let reserve = |position: usize| {
            // Read again for each host: requests that filled the previous host make room here.
            let total = self.total.load(Ordering::SeqCst);
            self.host_loads[position].reserve(|running| self.has_room(position, running, total))
                && self.count(position, slots)
        };
        let on_ring = self.first_on_ring(request, reserve, &NoTrace);
        let chosen = on_ring.or_else(|| {
            self.least_loaded(request).filter(|&position| {
                self.host_loads[position].reserve(|_| true) && self.count(position, slots)
            })
        });
        if chosen.is_none() {
            self.total.fetch_sub(1, Ordering::SeqCst);
        }
        chosen
    }
}

impl BoundedPicker {
    /// Whether `running` < c·m·w/W, which for integers is `running` + 1 ≤ ⌈c·m·w/W⌉.
    fn has_room(&self, position: usize, running: u64, total: u64) -> bool {
        let weight = self.slots[position].host.weight();
        let capacity = u128::from(self.factor) * u128::from(total) * u128::from(weight);
        u128::from(running) * u128::from(self.total_weight) * (FACTOR_SCALE as u128) < capacity
    }

    /// Counts a reserved request on the host, or undoes the reservation if the host is full.
    fn count(&self, position: usize, slots: &[Arc<Slot>]) -> bool {
        let slot = &slots[position];
        let room = slot.stats().inc_below(slot.limit());
        if !room {
            self.host_loads[position].cancel();
        }
        room
    }

    /// The first host clockwise that `request` accepts and for which `take` holds.
    fn first_on_ring(
        &self,
        request: &PickRequest<'_>,
        take: impl Fn(usize) -> bool,
        trace: &impl PickTrace,
    ) -> Option<usize> {
        self.ring
            .walk(request.hash_key()?)
            .take(MAX_WALK)
            .inspect(|&position| trace.visit(position))
            .find(|&p| request.accepts(p, &self.slots[p]) && take(p))
    }

    /// The host with the fewest requests by weight among those that `request` accepts. If it accepts all, this one has
    /// room: its load by weight is at most the mean, and a capacity is above the mean.
    fn least_loaded(&self, request: &PickRequest<'_>) -> Option<usize> {
        let load = |position: usize| {
            let running = self.host_loads[position].running.load(Ordering::SeqCst);
            let weight = self.slots[position].host.weight();
            (running & DEPARTED == 0).then(|| running as f64 / f64::from(weight))
        };
        (0..self.slots.len())
            .filter(|&position| request.accepts(position, &self.slots[position]))
            .filter_map(|position| Some((load(position)?, position)))
            .min_by(|a, b| a.0.total_cmp(&b.0))
            .map(|(_, position)| position)
    }
}
