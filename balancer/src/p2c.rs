//! Power of two choices: draw two hosts, pick the less loaded one.
//!
//! **How.** A host is drawn by weight and another one of the rest at random, and both are compared by their load:
//! - `in_flight` (default): requests in flight divided by weight. Recent failures count as requests in flight, and a
//!   slow host's load is multiplied by its slowness (see [the formula](crate#loads)).
//! - `peak_ewma`: average latency × (in flight + 1) ÷ weight ÷ share of successes. The latency average is Finagle's
//!   Peak-EWMA: it jumps up with a slow response and decays towards faster ones; success is averaged as in tsf-go, so a
//!   host that fails fast does not look fast. A host without a sample gets one request, and no second one until it has
//!   responded. A host that loses a comparison after 3 s without a request gets this one, so no host starves.
//!
//! The first draw wins a tie. Two hosts of different weight are taken for as many places as their weights say, as with
//! [`least_load`](super::least_load), and one of the free places is drawn (with `peak_ewma` in favour of the faster host).
//! The pair of i and j is drawn with a probability proportional to wᵢ + wⱼ, and i of it in proportion to wᵢ: so idle hosts get
//! requests exactly by their weights ([weights](crate#weights)).
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

use crate::BalancerError;
use crate::core::{
    AliasTable, Before, CandidateReason, Hashed, Hosts, Info, Mark, Member, OptionInfo, Pick,
    Picker, Ranked, Rng, Strategy, Trace, invalid, unit,
};

/// How long a host may lose every comparison before it gets a request anyway (tsf-go, go-kratos).
const FORCED_AFTER: Duration = Duration::from_secs(3);

/// The assumed latency, in nanoseconds, of a host whose first response is outstanding: above any real one, so that the
/// host gets no second request before it has responded to the first.
const UNKNOWN_LATENCY: f64 = 1e15;

/// Pairs to draw before the exact scan takes over, if not every host accepts the request.
const QUICK_PAIRS: usize = 4;

/// The algorithm `p2c`.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct P2c {
    /// What is compared.
    pub load: Load,
}

/// What [`P2c`] compares.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Load {
    /// Requests in flight by weight.
    #[default]
    InFlight,
    /// Latency and success as well.
    PeakEwma,
}

impl P2c {
    pub(crate) const INFO: Info = Info {
        name: "p2c",
        summary: "the less loaded of two random hosts, by weight",
        hashes: Hashed::Nothing,
        options: &[OptionInfo {
            name: "load",
            default: "in_flight",
            help: "what is compared: in_flight, or peak_ewma (latency and success as well)",
        }],
    };
}

impl Strategy for P2c {
    fn set(&mut self, option: &str, value: &str) -> Option<Result<(), BalancerError>> {
        if option != "load" {
            return None;
        }
        self.load = match value {
            "in_flight" => Load::InFlight,
            "peak_ewma" => Load::PeakEwma,
            _ => return Some(Err(invalid(option, value, "in_flight or peak_ewma"))),
        };
        Some(Ok(()))
    }

    fn build(&self, members: &[Arc<Member>], _: Option<&Before<'_>>) -> Box<dyn Picker> {
        Box::new(P2cPicker {
            load: self.load,
            alias: AliasTable::new(members),
        })
    }
}

#[derive(Debug)]
struct P2cPicker {
    load: Load,
    alias: AliasTable,
}

impl Picker for P2cPicker {
    fn pick(&self, hosts: &Hosts<'_>, rng: &Rng<'_>, trace: Trace<'_>) -> Option<Pick> {
        let (first, second) = if hosts.accepts_any() {
            self.pair(rng)
        } else {
            self.pair_among(hosts, rng, trace)?
        };
        trace.visit(first);
        trace.visit(second);
        if first == second && self.load == Load::InFlight {
            return Some(Pick::at(first));
        }
        let (winner, loser) = match self.prefers_second(first, second, hosts, rng) {
            true => (second, first),
            false => (first, second),
        };
        match self.load {
            Load::InFlight => {
                trace.reject(loser, CandidateReason::Loaded);
                Some(Pick::at(winner))
            }
            Load::PeakEwma => Some(force(winner, loser, hosts, trace)),
        }
    }

    fn rank(&self, hosts: &Hosts<'_>, _: u64, _: Option<usize>) -> Vec<Ranked> {
        let ranked = (0..hosts.len()).map(|position| {
            let load = self.load(hosts, hosts.member(position));
            Ranked::new(position, Some(load), CandidateReason::NotDrawn)
        });
        ranked.collect()
    }
}

/// Picks the winner of a comparison, or the loser if it has waited for too long.
fn force(winner: usize, loser: usize, hosts: &Hosts<'_>, trace: Trace<'_>) -> Pick {
    let now = hosts.now();
    let before = hosts.member(loser).stats.last_chosen();
    let is_forced = now.saturating_sub(before) > FORCED_AFTER.as_nanos() as u64 && winner != loser;
    let (picked, other, reason) = match is_forced {
        true => (loser, winner, CandidateReason::Turn),
        false => (winner, loser, CandidateReason::Loaded),
    };
    trace.reject(other, reason);
    Pick {
        mark: Some(Mark {
            instead_of: is_forced.then_some(before),
            now,
        }),
        ..Pick::at(picked)
    }
}

impl P2cPicker {
    /// Two distinct positions, one drawn by weight and one of the others; twice the same if there is only one.
    #[inline]
    fn pair(&self, rng: &Rng<'_>) -> (usize, usize) {
        let n = self.alias.len();
        if n == 1 {
            return (0, 0);
        }
        let first = self.alias.at(rng.bits());
        let second = rng.below(n as u64 - 1) as usize;
        (first, second + usize::from(second >= first))
    }

    /// Two positions that accept the request, in linear time if few do; twice the same if only one does.
    #[cold]
    fn pair_among(
        &self,
        hosts: &Hosts<'_>,
        rng: &Rng<'_>,
        trace: Trace<'_>,
    ) -> Option<(usize, usize)> {
        let fits = |position: usize| {
            trace.visit(position);
            hosts.accepts(position)
        };
        let quick = (0..QUICK_PAIRS).map(|_| self.pair(rng));
        let mut fitting = quick.filter(|&(first, second)| fits(first) && fits(second));
        fitting.next().or_else(|| {
            let first = self
                .alias
                .draw_from(rng, |position| hosts.accepts(position))?;
            let others = || {
                let others = (0..hosts.len()).filter(|&position| position != first);
                others.filter(|&position| hosts.accepts(position))
            };
            let drawn = rng.below(others().count() as u64);
            Some((first, others().nth(drawn as usize).unwrap_or(first)))
        })
    }

    #[inline]
    fn prefers_second(
        &self,
        first: usize,
        second: usize,
        hosts: &Hosts<'_>,
        rng: &Rng<'_>,
    ) -> bool {
        let (first, second) = (hosts.member(first), hosts.member(second));
        if first.weight == second.weight {
            return self.load(hosts, second) < self.load(hosts, first);
        }
        let model = hosts.load_model();
        let load = |member: &Member| model.load(member, member.in_flight());
        let round = load(first).min(load(second)).floor();
        let places = |member: &Member| {
            // None is free in this round if the number is negative.
            let free = (round + 1.0 - load(member)).max(0.0) * f64::from(member.weight);
            match self.load {
                Load::InFlight => free,
                Load::PeakEwma => free * speed(member, hosts),
            }
        };
        let (of_first, of_second) = (places(first), places(second));
        unit(rng.bits()) * (of_first + of_second) >= of_first && of_second > 0.0
    }

    /// What is compared.
    #[inline]
    fn load(&self, hosts: &Hosts<'_>, member: &Member) -> f64 {
        let in_flight = member.in_flight();
        if self.load == Load::InFlight {
            return hosts.load_model().load(member, in_flight);
        }
        let latency = match member.stats.latency() {
            Some(nanos) => nanos as f64,
            None if in_flight == 0 => 0.0,
            None => UNKNOWN_LATENCY,
        };
        // Avoids 0 / 0: a host that has only failed costs more than any other, however short its queue.
        let success = member.stats.success().max(f64::MIN_POSITIVE);
        let requests = (in_flight + 1) as f64 / f64::from(member.weight);
        latency * requests / success / hosts.share(member)
    }
}

/// How fast a host is, relative to others: successes by latency. One without a sample is average until it has a request.
fn speed(member: &Member, hosts: &Hosts<'_>) -> f64 {
    let mean = hosts.mean_latency();
    let latency = match member.stats.latency() {
        Some(nanos) => nanos as f64,
        // Before the first response of any host all are alike.
        None if mean.is_infinite() => 1.0,
        None if member.in_flight() == 0 => mean,
        None => UNKNOWN_LATENCY,
    };
    member.stats.success().max(f64::MIN_POSITIVE) / latency.max(1.0)
}
