//! Round robin, smooth and exact: hosts take turns in proportion to their weights.
//!
//! **How.** A cycle of W picks (W is the sum of the weights after division by their common divisor) is computed once
//! per membership by nginx's smooth weighted round robin: each step raises every host by its weight, takes the highest
//! and lowers it by W. Weights 5, 1, 1 give a a b a c a a. A pick takes one ticket from a shared counter. Above
//! [`MAX_CYCLE`], golden-ratio steps over the alias table of the weights replace the cycle, a low-discrepancy sequence:
//! memory stays bounded, and shares converge to w_i/W like (log m)/m.
//!
//! **Cost.** One shared atomic addition and one look-up; 4 bytes a step of the cycle.
//!
//! **Bound.** Any W consecutive tickets hold host i exactly w_i times, under any number of threads. After a change of
//! the membership, the host whose turn it was is still next. A retry draws further tickets instead of taking the next
//! host, so the successor of a failing host gets no double load.
//!
//! **When.** Equal requests on equal hosts, and tests. **When not.** Hosts differ in speed: the queue of a slow host
//! grows without bound. [`p2c`](super::p2c) and [`least_load`](super::least_load) avoid it.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::core::{
    Algorithm, AliasTable, BalancerError, CandidateReason, Cursor, DryRun, DynPicker, HostId,
    Options, PickRequest, PickTrace, Picker, Rng, Slot,
};
use super::registry::AlgorithmInfo;

pub(super) const INFO: AlgorithmInfo = AlgorithmInfo {
    name: "round_robin",
    summary: "hosts take turns, smoothly by weight",
    keyed: false,
    options: &[],
    build,
};

/// The longest cycle that is stored: 256 KiB of memory a pool.
const MAX_CYCLE: u64 = 65_536;

/// 2^64 divided by the golden ratio: multiples of it modulo 2^64 are spread as evenly as any sequence can be (Knuth,
/// The Art of Computer Programming 3, section 6.4).
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// Tickets that a retry draws before the weighted scan takes over.
const RETRY_TICKETS: usize = 8;

fn build(options: &Options) -> Result<Box<dyn Algorithm>, BalancerError> {
    Ok(Box::new(RoundRobin {
        shared: Arc::new(RoundRobinShared {
            ticket: AtomicU64::new(0),
            rng: Rng::new(options.configured_seed()),
        }),
        last: Mutex::new(None),
    }))
}

#[derive(Debug)]
struct RoundRobin {
    shared: Arc<RoundRobinShared>,
    /// The previous picker, from which the next one continues.
    last: Mutex<Option<RoundRobinPicker>>,
}

#[derive(Debug)]
struct RoundRobinShared {
    /// The number of the next pick, across all memberships.
    ticket: AtomicU64,
    rng: Rng,
}

#[derive(Debug, Clone)]
struct RoundRobinPicker {
    shared: Arc<RoundRobinShared>,
    slots: Arc<[Arc<Slot>]>,
    alias: Arc<AliasTable>,
    cycle: Cycle,
    /// Added to the ticket, so that the cycle starts with the host whose turn it is.
    offset: u64,
}

#[derive(Debug, Clone)]
enum Cycle {
    /// Equal weights: the positions in order.
    Equal(u64),
    /// The positions of one cycle.
    Weighted(Arc<[u32]>),
    /// Golden-ratio steps over the alias table.
    GoldenRatio,
}

impl Algorithm for RoundRobin {
    fn build_picker(&self, slots: &Arc<[Arc<Slot>]>) -> Box<dyn DynPicker> {
        let alias = Arc::new(AliasTable::new(slots));
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let mut picker = RoundRobinPicker {
            shared: Arc::clone(&self.shared),
            cycle: Cycle::of(&alias),
            slots: Arc::clone(slots),
            alias,
            offset: 0,
        };
        if let Some(before) = last.as_ref() {
            picker.continue_from(before);
        }
        *last = Some(picker.clone());
        Box::new(picker)
    }

    fn cursor(&self) -> Option<Cursor> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.as_ref()?.cursor()
    }

    fn seek(&self, cursor: &Cursor) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = last.as_mut() {
            last.seek(cursor);
        }
    }
}

impl Picker for RoundRobinPicker {
    fn pick<T: PickTrace>(&self, request: &PickRequest<'_>, trace: &T) -> Option<usize> {
        let next = || {
            let ticket = trace.fetch_add(&self.shared.ticket, 1, Ordering::Relaxed);
            let position = self.at(ticket);
            trace.visit(position);
            position
        };
        if request.accepts_any() {
            return Some(next());
        }
        // The turn of a host that is full or held back goes to a random host, not to its successor.
        let tickets = match (request.was_held_back(), request.is_retry()) {
            (true, _) => 0,
            (false, false) => 1,
            (false, true) => RETRY_TICKETS,
        };
        (0..tickets)
            .map(|_| next())
            .find(|&position| request.accepts(position, &self.slots[position]))
            .or_else(|| {
                self.alias
                    .draw(&self.shared.rng, request, &self.slots, trace)
            })
    }

    fn rank(&self, _: &PickRequest<'_>, chosen: Option<usize>, dry_run: &DryRun) {
        let ticket = dry_run.load(&self.shared.ticket, Ordering::Relaxed);
        let reason = match chosen == Some(self.at(ticket.wrapping_sub(1))) {
            true => CandidateReason::Turn,
            // The host whose turn it was could not be picked, so the pick was random.
            false => CandidateReason::NotDrawn,
        };
        let steps = match &self.cycle {
            Cycle::Equal(n) => *n,
            Cycle::Weighted(cycle) => cycle.len() as u64,
            Cycle::GoldenRatio => MAX_CYCLE,
        };
        let upcoming = (0..steps).map(|step| self.at(ticket.wrapping_add(step)));
        for position in chosen.into_iter().chain(upcoming) {
            if !dry_run.rank(position, None, reason) {
                break;
            }
        }
    }
}

impl RoundRobinPicker {
    fn at(&self, ticket: u64) -> usize {
        let step = ticket.wrapping_add(self.offset);
        match &self.cycle {
            Cycle::Equal(n) => (step % n) as usize,
            Cycle::Weighted(cycle) => cycle[(step % cycle.len() as u64) as usize] as usize,
            Cycle::GoldenRatio => self.alias.at(step.wrapping_mul(GOLDEN)),
        }
    }

    /// Sets the offset so that the next ticket goes to the host whose turn it was in `before`, or to the first host
    /// after it that is still a member, at the same of its turns.
    fn continue_from(&mut self, before: &RoundRobinPicker) {
        let ticket = self.shared.ticket.load(Ordering::Relaxed);
        let own_cycle = self.cycle.clone();
        let (Some(cycle), Some(old_cycle)) = (own_cycle.positions(), before.cycle.positions())
        else {
            self.offset = before.offset;
            return;
        };
        let here: HashMap<&HostId, u32> = (0u32..)
            .zip(self.slots.iter())
            .map(|(position, slot)| (slot.host.id(), position))
            .collect();
        let old_step = (ticket.wrapping_add(before.offset) % old_cycle.len() as u64) as usize;
        let (had, coming) = old_cycle.split_at(old_step);
        let Some((then, now)) = coming.iter().chain(had).find_map(|&then| {
            let now = here.get(before.slots[then as usize].host.id())?;
            Some((then, *now))
        }) else {
            return;
        };
        let taken = had.iter().filter(|&&position| position == then).count();
        self.begin_with(now, taken, &cycle);
    }

    fn cursor(&self) -> Option<Cursor> {
        let cycle = self.cycle.positions()?;
        let ticket = self.shared.ticket.load(Ordering::Relaxed);
        let step = (ticket.wrapping_add(self.offset) % cycle.len() as u64) as usize;
        let position = cycle[step];
        let had = cycle[..step].iter();
        Some(Cursor {
            host: self.slots[position as usize].host.id().clone(),
            taken: had.filter(|&&had| had == position).count(),
        })
    }

    fn seek(&mut self, cursor: &Cursor) {
        let mut slots = (0u32..).zip(self.slots.iter());
        let position = slots.find(|(_, slot)| *slot.host.id() == cursor.host);
        if let Some((position, _)) = position
            && let Some(cycle) = self.cycle.clone().positions()
        {
            self.begin_with(position, cursor.taken, &cycle);
        }
    }

    /// Sets the offset so that the next ticket goes to `position`, which has had `taken` turns in `cycle`.
    fn begin_with(&mut self, position: u32, taken: usize, cycle: &[u32]) {
        let own_turns = (0u64..).zip(cycle).filter(|&(_, &other)| other == position);
        // The host may have fewer turns now than it has already had; then its last turn is next.
        if let Some((start, _)) = own_turns.take(taken.saturating_add(1)).last() {
            let ticket = self.shared.ticket.load(Ordering::Relaxed);
            let period = cycle.len() as u64;
            self.offset = (start + period - ticket % period) % period;
        }
    }
}

impl Cycle {
    /// The positions of one cycle, if the order repeats.
    fn positions(&self) -> Option<Cow<'_, [u32]>> {
        match self {
            Cycle::Equal(n) => Some((0..*n as u32).collect()),
            Cycle::Weighted(cycle) => Some(Cow::Borrowed(cycle)),
            Cycle::GoldenRatio => None,
        }
    }

    fn of(alias: &AliasTable) -> Self {
        if alias.is_equal() {
            return Cycle::Equal(alias.len() as u64);
        }
        let weights = alias.weights();
        let divisor = weights
            .iter()
            .fold(0, |divisor, &weight| gcd(divisor, weight));
        let weights: Vec<u64> = weights.iter().map(|&w| u64::from(w / divisor)).collect();
        if weights.iter().sum::<u64>() > MAX_CYCLE {
            return Cycle::GoldenRatio;
        }
        Cycle::Weighted(smooth(&weights).into())
    }
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Positions of equal weight. They are picked in order, so only the next one can have the highest value.
struct WeightClass {
    weight: i64,
    positions: Vec<u32>,
    next: usize,
    round: i64,
}

/// One cycle of nginx's smooth weighted round robin.
///
/// After t steps, a host that was picked c times has the value t·w − c·W; the highest is picked, the first among
/// equals. Hosts of equal weight differ only in c, so one candidate of each class is compared: W × (different weights)
/// steps instead of W × n.
fn smooth(weights: &[u64]) -> Vec<u32> {
    let total: u64 = weights.iter().sum();
    let mut by_weight: HashMap<u64, WeightClass> = HashMap::new();
    for (position, &weight) in weights.iter().enumerate() {
        let class = by_weight.entry(weight).or_insert_with(|| WeightClass {
            weight: weight as i64,
            positions: Vec::new(),
            next: 0,
            round: 0,
        });
        class.positions.push(position as u32);
    }
    let mut classes: Vec<WeightClass> = by_weight.into_values().collect();
    (1..=total as i64)
        .filter_map(|step| {
            let class = classes.iter_mut().max_by_key(|class| {
                let standing = step * class.weight - class.round * total as i64;
                (standing, std::cmp::Reverse(class.positions[class.next]))
            })?;
            let position = class.positions[class.next];
            class.next += 1;
            if class.next == class.positions.len() {
                class.next = 0;
                class.round += 1;
            }
            Some(position)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// nginx's algorithm as nginx implements it, with n comparisons a step.
    fn nginx(weights: &[u64]) -> Vec<u32> {
        let total: i64 = weights.iter().map(|&w| w as i64).sum();
        let mut current = vec![0i64; weights.len()];
        (0..total)
            .map(|_| {
                let mut best = 0;
                for i in 0..current.len() {
                    current[i] += weights[i] as i64;
                    if current[i] > current[best] {
                        best = i;
                    }
                }
                current[best] -= total;
                best as u32
            })
            .collect()
    }

    #[test]
    fn weights_5_1_1_are_interleaved_as_by_nginx() {
        assert_eq!(smooth(&[5, 1, 1]), [0, 0, 1, 0, 2, 0, 0]);
    }

    proptest::proptest! {
        #[test]
        fn classes_give_the_same_cycle_as_nginx(weights in proptest::collection::vec(1u64..50, 1..40)) {
            proptest::prop_assert_eq!(smooth(&weights), nginx(&weights));
        }
    }
}
