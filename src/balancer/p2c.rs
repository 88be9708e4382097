//! Power of two choices: draw two hosts, take the one with less to do.
//!
//! **How.** Two distinct hosts are drawn by weight, whatever the request's key, and compared by their load:
//! - `in_flight` (default): requests in flight divided by weight. Recent failures count as requests in flight, and the
//!   load of a remarkably slow host counts several times (see [the formula](super)).
//! - `peak_ewma`: average latency × (in flight + 1) ÷ weight ÷ share of successes. The latency average is Finagle's
//!   Peak-EWMA: it jumps up with a slow answer and decays towards faster ones; success is averaged as in tsf-go, so a
//!   host that fails fast does not look fast. A host without a sample yet takes one request and then waits for its
//!   answer. Whoever loses a comparison after [`FORCED_AFTER`] without a request gets this one, so nobody starves.
//!
//! On a tie the first draw stands, which is as random as the draw and keeps idle hosts in proportion to their weights.
//!
//! **Cost.** One or two random draws and two counters read; `peak_ewma` reads the clock as well, and so does `in_flight`
//! while a failure is recent.
//!
//! **Bound.** The busiest of n equal hosts is above the mean by ln ln n / ln 2 + O(1), however many requests there are
//! (Berenbrink, Czumaj, Steger, Vöcking, "Balanced Allocations: The Heavily Loaded Case", 2000); n = 100 and m = 10,000
//! give at most 104. Old information makes it worse only gently (Mitzenmacher, 2000).
//!
//! **When.** The default: almost as good as [`least_load`](super::least_load), and still good when several balancers
//! share the hosts. `peak_ewma` when hosts differ in speed. **When not.** When a client must return to its host.

use std::sync::Arc;
use std::time::Duration;

use super::mechanics::{
    Algorithm, Alias, BalancerError, Choose, Chooser, Clock, Live, Mode, Options, Reason,
    Rehearsal, Request, Rng, Scales, Seat, invalid,
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

/// How long a host may lose every comparison before it gets a request all the same (tsf-go, go-kratos).
const FORCED_AFTER: Duration = Duration::from_secs(3);

/// The latency, in nanoseconds, of a host that owes its very first answer: above any real one, so that the unknown host
/// is not given a second request before it answered the first.
const UNKNOWN_LATENCY: f64 = 1e15;

/// Draws for a second host before the next position is taken: with one host of nearly all the weight it is hard to draw
/// another.
const SECOND_DRAWS: usize = 4;

/// Pairs that may hold a host that is out of the choice before the exact scan takes over.
const QUICK_PAIRS: usize = 4;

fn build(options: &Options) -> Result<Box<dyn Algorithm>, BalancerError> {
    let load = match options.text("load") {
        None | Some("in_flight") => Load::InFlight,
        Some("peak_ewma") => Load::PeakEwma(options.given_clock().clone()),
        Some(other) => return Err(invalid("load", other, "in_flight or peak_ewma")),
    };
    Ok(Box::new(P2c {
        shared: Arc::new(Shared {
            load,
            rng: Rng::new(options.given_seed()),
        }),
    }))
}

#[derive(Debug)]
enum Load {
    InFlight,
    PeakEwma(Clock),
}

#[derive(Debug)]
struct Shared {
    load: Load,
    rng: Rng,
}

#[derive(Debug)]
struct P2c {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Pairs {
    shared: Arc<Shared>,
    alias: Alias,
    seats: Arc<[Arc<Seat>]>,
}

impl Algorithm for P2c {
    fn arrange(&self, seats: &Arc<[Arc<Seat>]>) -> Box<dyn Chooser> {
        Box::new(Pairs {
            shared: Arc::clone(&self.shared),
            alias: Alias::new(seats),
            seats: Arc::clone(seats),
        })
    }
}

impl Choose for Pairs {
    fn choose<M: Mode>(&self, request: &Request<'_>, mode: &M) -> Option<usize> {
        let (first, second) = if request.takes_any() {
            self.pair(mode)
        } else {
            self.pair_among(request, mode)?
        };
        mode.sees(first);
        mode.sees(second);
        Some(match &self.shared.load {
            _ if first == second => first,
            Load::InFlight => self.by_load(first, second, request.scales(), mode),
            Load::PeakEwma(clock) => self.by_ewma(first, second, clock.now(), request, mode),
        })
    }

    fn rank(&self, request: &Request<'_>, _: Option<usize>, rehearsal: &Rehearsal) {
        let scales = request.scales();
        for position in 0..self.seats.len() {
            let load = match &self.shared.load {
                Load::InFlight => self.load(position, scales),
                Load::PeakEwma(_) => self.cost(position, request),
            };
            rehearsal.ranks(position, Some(load), Reason::NotDrawn);
        }
    }
}

impl Pairs {
    /// Two distinct positions, the first by weight; the same twice if there is only one.
    fn pair(&self, mode: &impl Mode) -> (usize, usize) {
        let n = self.alias.len();
        let rng = &self.shared.rng;
        if n == 1 {
            return (0, 0);
        }
        let first = self.alias.at(rng.draw(mode));
        if self.alias.is_equal() {
            let second = rng.below(n as u64 - 1, mode) as usize;
            return (first, second + usize::from(second >= first));
        }
        let second = (0..SECOND_DRAWS)
            .map(|_| self.alias.at(rng.draw(mode)))
            .find(|&second| second != first);
        (first, second.unwrap_or((first + 1) % n))
    }

    /// Two positions that `request` may take, in linear time where most are out of the choice; the same twice if there is
    /// only one.
    fn pair_among(&self, request: &Request<'_>, mode: &impl Mode) -> Option<(usize, usize)> {
        let rng = &self.shared.rng;
        let fits = |position: usize| {
            mode.sees(position);
            request.may_take(position, &self.seats[position])
        };
        let quick = (0..QUICK_PAIRS).map(|_| self.pair(mode));
        let mut fitting = quick.filter(|&(first, second)| fits(first) && fits(second));
        fitting.next().or_else(|| {
            let fits = |position: usize| request.may_take(position, &self.seats[position]);
            let first = self.alias.draw_from(rng, fits, mode)?;
            let another = |position: usize| position != first && fits(position);
            let second = self.alias.draw_from(rng, another, mode);
            Some((first, second.unwrap_or(first)))
        })
    }

    fn by_load(&self, first: usize, second: usize, scales: Scales<'_>, mode: &impl Mode) -> usize {
        let load = |position: usize| {
            let load = self.load(position, scales);
            mode.weighs(position, load);
            load
        };
        let (winner, loser) = if load(second) < load(first) {
            (second, first)
        } else {
            (first, second)
        };
        mode.passes(loser, Reason::Loaded);
        winner
    }

    fn by_ewma(
        &self,
        first: usize,
        second: usize,
        now: u64,
        request: &Request<'_>,
        mode: &impl Mode,
    ) -> usize {
        let cost = |position: usize| {
            let cost = self.cost(position, request);
            mode.weighs(position, cost);
            cost
        };
        let (winner, loser) = if cost(second) < cost(first) {
            (second, first)
        } else {
            (first, second)
        };
        let neglected = self.seats[loser].live();
        let chosen = neglected.chosen(mode);
        let forced = now.saturating_sub(chosen) > FORCED_AFTER.as_nanos() as u64;
        if forced && neglected.claim(chosen, now, mode) {
            mode.passes(winner, Reason::Turn);
            return loser;
        }
        mode.passes(loser, Reason::Loaded);
        self.seats[winner].live().choose(now, mode);
        winner
    }

    fn load(&self, position: usize, scales: Scales<'_>) -> f64 {
        let seat = &self.seats[position];
        let live = seat.live();
        scales.load(live, live.in_flight(), self.alias.weights()[position], seat)
    }

    fn cost(&self, position: usize, request: &Request<'_>) -> f64 {
        let seat = &self.seats[position];
        peak_ewma(seat.live(), self.alias.weights()[position]) / request.share(seat)
    }
}

/// What one request more would cost on a host: expected nanoseconds by weight and by the chance of success.
fn peak_ewma(live: &Live, weight: u32) -> f64 {
    let in_flight = live.in_flight();
    let latency = match live.latency() {
        Some(nanos) => nanos as f64,
        None if in_flight == 0 => 0.0,
        None => UNKNOWN_LATENCY,
    };
    // Not 0 by 0: a host that only failed costs more than any other, however short its queue.
    latency * (in_flight + 1) as f64 / f64::from(weight) / live.success().max(f64::MIN_POSITIVE)
}
