//! Power of two choices: draw two hosts, pick the less loaded one.
//!
//! **How.** Two distinct hosts are drawn by weight and compared by their load:
//! - `in_flight` (default): requests in flight divided by weight. Recent failures count as requests in flight, and a
//!   slow host's load is multiplied by its slowness (see [the formula](super)).
//! - `peak_ewma`: average latency × (in flight + 1) ÷ weight ÷ share of successes. The latency average is Finagle's
//!   Peak-EWMA: it jumps up with a slow response and decays towards faster ones; success is averaged as in tsf-go, so a
//!   host that fails fast does not look fast. A host without a sample gets one request, and no second one until it has
//!   responded. A host that loses a comparison after [`FORCED_AFTER`] without a request gets this one, so no host
//!   starves.
//!
//! On a tie the first draw wins, so idle hosts get requests in proportion to their weights.
//!
//! **Cost.** One or two random draws and two atomic loads; `peak_ewma` also reads the clock, as does `in_flight` after
//! a recent failure.
//!
//! **Bound.** The busiest of n equal hosts exceeds the mean by ln ln n / ln 2 + O(1), however many requests there are
//! (Berenbrink, Czumaj, Steger, Vöcking, "Balanced Allocations: The Heavily Loaded Case", 2000); n = 100 and m = 10,000
//! give at most 104. Stale information degrades it only gently (Mitzenmacher, 2000).
//!
//! **When.** The default: almost as good as [`least_load`](super::least_load), and still good if several balancers
//! share the hosts. `peak_ewma` if hosts differ in speed. **When not.** A client must return to its host.

use std::sync::Arc;
use std::time::Duration;

use super::core::{
    Algorithm, AliasTable, BalancerError, CandidateReason, Clock, DryRun, DynPicker, HostStats,
    LoadModel, Options, PickRequest, PickTrace, Picker, Rng, Slot, invalid,
};
use super::registry::{AlgorithmInfo, OptionInfo};

pub(super) const INFO: AlgorithmInfo = AlgorithmInfo {
    name: "p2c",
    summary: "the less loaded of two hosts drawn by weight",
    keyed: false,
    options: &[OptionInfo {
        name: "load",
        default: "in_flight",
        help: "what is compared: in_flight, or peak_ewma (latency and success as well)",
    }],
    build,
};

/// How long a host may lose every comparison before it gets a request anyway (tsf-go, go-kratos).
const FORCED_AFTER: Duration = Duration::from_secs(3);

/// The assumed latency, in nanoseconds, of a host whose first response is outstanding: above any real one, so that the
/// host gets no second request before it has responded to the first.
const UNKNOWN_LATENCY: f64 = 1e15;

/// Draws for a second host before the next position is taken: if one host has nearly all the weight, drawing another
/// one is unlikely.
const SECOND_DRAWS: usize = 4;

/// Pairs to draw before the exact scan takes over, if the request does not accept every host.
const QUICK_PAIRS: usize = 4;

fn build(options: &Options) -> Result<Box<dyn Algorithm>, BalancerError> {
    let load = match options.text("load") {
        None | Some("in_flight") => LoadMetric::InFlight,
        Some("peak_ewma") => LoadMetric::PeakEwma(options.configured_clock().clone()),
        Some(other) => return Err(invalid("load", other, "in_flight or peak_ewma")),
    };
    Ok(Box::new(P2c {
        shared: Arc::new(P2cShared {
            load,
            rng: Rng::new(options.configured_seed()),
        }),
    }))
}

#[derive(Debug)]
enum LoadMetric {
    InFlight,
    PeakEwma(Clock),
}

#[derive(Debug)]
struct P2cShared {
    load: LoadMetric,
    rng: Rng,
}

#[derive(Debug)]
struct P2c {
    shared: Arc<P2cShared>,
}

#[derive(Debug)]
struct P2cPicker {
    shared: Arc<P2cShared>,
    alias: AliasTable,
    slots: Arc<[Arc<Slot>]>,
}

impl Algorithm for P2c {
    fn build_picker(&self, slots: &Arc<[Arc<Slot>]>) -> Box<dyn DynPicker> {
        Box::new(P2cPicker {
            shared: Arc::clone(&self.shared),
            alias: AliasTable::new(slots),
            slots: Arc::clone(slots),
        })
    }
}

impl Picker for P2cPicker {
    fn pick<T: PickTrace>(&self, request: &PickRequest<'_>, trace: &T) -> Option<usize> {
        let (first, second) = if request.accepts_any() {
            self.pair(trace)
        } else {
            self.pair_among(request, trace)?
        };
        trace.visit(first);
        trace.visit(second);
        Some(match &self.shared.load {
            _ if first == second => first,
            LoadMetric::InFlight => self.by_load(first, second, request.load_model(), trace),
            LoadMetric::PeakEwma(clock) => self.by_ewma(first, second, clock.now(), request, trace),
        })
    }

    fn rank(&self, request: &PickRequest<'_>, _: Option<usize>, dry_run: &DryRun) {
        let load_model = request.load_model();
        for position in 0..self.slots.len() {
            let load = match &self.shared.load {
                LoadMetric::InFlight => self.load(position, load_model),
                LoadMetric::PeakEwma(_) => self.cost(position, request),
            };
            dry_run.rank(position, Some(load), CandidateReason::NotDrawn);
        }
    }
}

impl P2cPicker {
    /// Two distinct positions, the first drawn by weight; twice the same if there is only one.
    fn pair(&self, trace: &impl PickTrace) -> (usize, usize) {
        let n = self.alias.len();
        let rng = &self.shared.rng;
        if n == 1 {
            return (0, 0);
        }
        let first = self.alias.at(rng.draw(trace));
        if self.alias.is_equal() {
            let second = rng.below(n as u64 - 1, trace) as usize;
            return (first, second + usize::from(second >= first));
        }
        let second = (0..SECOND_DRAWS)
            .map(|_| self.alias.at(rng.draw(trace)))
            .find(|&second| second != first);
        (first, second.unwrap_or((first + 1) % n))
    }

    /// Two positions that `request` accepts, in linear time if it accepts few; twice the same if it accepts only one.
    fn pair_among(
        &self,
        request: &PickRequest<'_>,
        trace: &impl PickTrace,
    ) -> Option<(usize, usize)> {
        let rng = &self.shared.rng;
        let fits = |position: usize| {
            trace.visit(position);
            request.accepts(position, &self.slots[position])
        };
        let quick = (0..QUICK_PAIRS).map(|_| self.pair(trace));
        let mut fitting = quick.filter(|&(first, second)| fits(first) && fits(second));
        fitting.next().or_else(|| {
            let fits = |position: usize| request.accepts(position, &self.slots[position]);
            let first = self.alias.draw_from(rng, fits, trace)?;
            let another = |position: usize| position != first && fits(position);
            let second = self.alias.draw_from(rng, another, trace);
            Some((first, second.unwrap_or(first)))
        })
    }

    fn by_load(
        &self,
        first: usize,
        second: usize,
        load_model: LoadModel<'_>,
        trace: &impl PickTrace,
    ) -> usize {
        let load = |position: usize| {
            let load = self.load(position, load_model);
            trace.record_load(position, load);
            load
        };
        let (winner, loser) = if load(second) < load(first) {
            (second, first)
        } else {
            (first, second)
        };
        trace.reject(loser, CandidateReason::Loaded);
        winner
    }

    fn by_ewma(
        &self,
        first: usize,
        second: usize,
        now: u64,
        request: &PickRequest<'_>,
        trace: &impl PickTrace,
    ) -> usize {
        let cost = |position: usize| {
            let cost = self.cost(position, request);
            trace.record_load(position, cost);
            cost
        };
        let (winner, loser) = if cost(second) < cost(first) {
            (second, first)
        } else {
            (first, second)
        };
        let neglected = self.slots[loser].stats();
        let chosen = neglected.last_chosen(trace);
        let forced = now.saturating_sub(chosen) > FORCED_AFTER.as_nanos() as u64;
        if forced && neglected.try_mark_chosen(chosen, now, trace) {
            trace.reject(winner, CandidateReason::Turn);
            return loser;
        }
        trace.reject(loser, CandidateReason::Loaded);
        self.slots[winner].stats().mark_chosen(now, trace);
        winner
    }

    fn load(&self, position: usize, load_model: LoadModel<'_>) -> f64 {
        let slot = &self.slots[position];
        let stats = slot.stats();
        load_model.load(
            stats,
            stats.in_flight(),
            self.alias.weights()[position],
            slot,
        )
    }

    fn cost(&self, position: usize, request: &PickRequest<'_>) -> f64 {
        let slot = &self.slots[position];
        peak_ewma(slot.stats(), self.alias.weights()[position]) / request.share(slot)
    }
}

/// The cost of one more request on a host: expected nanoseconds, divided by weight and by the share of successes.
fn peak_ewma(stats: &HostStats, weight: u32) -> f64 {
    let in_flight = stats.in_flight();
    let latency = match stats.latency() {
        Some(nanos) => nanos as f64,
        None if in_flight == 0 => 0.0,
        None => UNKNOWN_LATENCY,
    };
    // Avoids 0 / 0: a host that has only failed costs more than any other, however short its queue.
    latency * (in_flight + 1) as f64 / f64::from(weight) / stats.success().max(f64::MIN_POSITIVE)
}
