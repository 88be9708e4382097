//! Round robin, smooth and exact: hosts take turns in proportion to their weights.
//!
//! **How.** A cycle of W picks (W is the sum of the weights after division by their common divisor) is computed once
//! per membership by nginx's smooth weighted round robin: each step raises every host by its weight, takes the highest
//! and lowers it by W. Weights 5, 1, 1 give a a b a c a a. A pick takes one ticket from a shared counter. Above
//! 65,536 picks, golden-ratio steps over the alias table of the weights replace the cycle, a low-discrepancy sequence:
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

mod smooth;

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use crate::core::{
    AliasTable, Before, CandidateReason, Cursor, GOLDEN, Hashed, Hosts, Info, Member, Pick, Picker,
    Ranked, Rng, Strategy, Trace,
};
use smooth::smooth;

/// The longest cycle that is stored: 256 KiB of memory a pool.
const MAX_CYCLE: u64 = 65_536;

/// Tickets that a retry draws before the weighted scan takes over.
const RETRY_TICKETS: usize = 8;

/// The algorithm `round_robin`. It has no options.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct RoundRobin {}

impl RoundRobin {
    pub(crate) const INFO: Info = Info {
        name: "round_robin",
        summary: "hosts take turns, smoothly by weight",
        hashes: Hashed::Nothing,
        options: &[],
    };
}

impl Strategy for RoundRobin {
    fn build(&self, members: &[Arc<Member>], before: Option<&Before<'_>>) -> Box<dyn Picker> {
        let alias = Arc::new(AliasTable::new(members));
        let mut picker = RoundRobinPicker {
            cycle: Cycle::of(&alias),
            alias,
            offset: 0,
        };
        if let Some((before, old)) = before.and_then(|before| Some((before, before.picker()?))) {
            picker.continue_from(members, before, old);
        }
        Box::new(picker)
    }
}

#[derive(Debug, Clone)]
struct RoundRobinPicker {
    alias: Arc<AliasTable>,
    cycle: Cycle,
    /// Added to the turn, so that the cycle starts with the host that is next.
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

impl Picker for RoundRobinPicker {
    fn pick(&self, hosts: &Hosts<'_>, rng: &Rng<'_>, trace: Trace<'_>) -> Option<Pick> {
        let next = || {
            let position = self.at(rng.turn());
            trace.visit(position);
            position
        };
        if hosts.accepts_any() {
            return Some(Pick::at(next()));
        }
        // The turn of a host that is full or held back goes to a random host, not to its successor.
        let tickets = match (hosts.was_held_back(), hosts.is_retry()) {
            (true, _) => 0,
            (false, false) => 1,
            (false, true) => RETRY_TICKETS,
        };
        let mut turns = (0..tickets).map(|_| next());
        let position = turns.find(|&position| hosts.accepts(position));
        let position = position.or_else(|| self.alias.draw(hosts, rng, trace));
        position.map(Pick::at)
    }

    fn rank(&self, _: &Hosts<'_>, turn: u64, chosen: Option<usize>) -> Vec<Ranked> {
        let reason = match chosen == Some(self.at(turn)) {
            true => CandidateReason::Turn,
            // The host whose turn it was could not be picked, so the pick was random.
            false => CandidateReason::NotDrawn,
        };
        let steps = match &self.cycle {
            Cycle::Equal(n) => *n,
            Cycle::Weighted(cycle) => cycle.len() as u64,
            Cycle::GoldenRatio => MAX_CYCLE,
        };
        let upcoming = (1..=steps).map(|step| self.at(turn.wrapping_add(step)));
        let positions = chosen.into_iter().chain(upcoming);
        positions
            .map(|position| Ranked::new(position, None, reason))
            .collect()
    }

    fn cursor(&self, members: &[Arc<Member>], turn: u64) -> Option<Cursor> {
        let cycle = self.cycle.positions()?;
        let step = (turn.wrapping_add(self.offset) % cycle.len() as u64) as usize;
        let position = cycle[step];
        let had = cycle[..step].iter();
        Some(Cursor {
            host: members[position as usize].host.id().clone(),
            taken: had.filter(|&&had| had == position).count(),
        })
    }

    fn sought(
        &self,
        members: &[Arc<Member>],
        turn: u64,
        cursor: &Cursor,
    ) -> Option<Box<dyn Picker>> {
        let mut members = (0u32..).zip(members);
        let (position, _) = members.find(|(_, member)| *member.host.id() == cursor.host)?;
        let mut sought = self.clone();
        sought.begin_with(position, cursor.taken, turn, &self.cycle.positions()?);
        Some(Box::new(sought))
    }
}

impl RoundRobinPicker {
    fn at(&self, turn: u64) -> usize {
        let step = turn.wrapping_add(self.offset);
        match &self.cycle {
            Cycle::Equal(n) => (step % n) as usize,
            Cycle::Weighted(cycle) => cycle[(step % cycle.len() as u64) as usize] as usize,
            Cycle::GoldenRatio => self.alias.at(step.wrapping_mul(GOLDEN)),
        }
    }

    /// Sets the offset so that the next turn is that of the host whose turn it was before, or of the first one after it
    /// that is still a member, at the same of its turns.
    fn continue_from(&mut self, members: &[Arc<Member>], before: &Before<'_>, old: &Self) {
        let own_cycle = self.cycle.clone();
        let (Some(cycle), Some(old_cycle)) = (own_cycle.positions(), old.cycle.positions()) else {
            self.offset = old.offset;
            return;
        };
        let here: HashMap<_, u32> = members
            .iter()
            .map(|member| member.host.id())
            .zip(0..)
            .collect();
        let old_step = (before.turn.wrapping_add(old.offset) % old_cycle.len() as u64) as usize;
        let (had, coming) = old_cycle.split_at(old_step);
        let next = coming.iter().chain(had).find_map(|&then| {
            let now = here.get(before.members[then as usize].host.id())?;
            Some((then, *now))
        });
        if let Some((then, now)) = next {
            let taken = had.iter().filter(|&&position| position == then).count();
            self.begin_with(now, taken, before.turn, &cycle);
        }
    }

    /// Sets the offset so that the next turn is that of `position`, which has had `taken` turns in `cycle`.
    fn begin_with(&mut self, position: u32, taken: usize, turn: u64, cycle: &[u32]) {
        let own_turns = (0u64..).zip(cycle).filter(|&(_, &other)| other == position);
        // The host may have fewer turns now than it has already had; then its last turn is next.
        if let Some((start, _)) = own_turns.take(taken.saturating_add(1)).last() {
            let period = cycle.len() as u64;
            self.offset = (start + period - turn % period) % period;
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
        match weights.iter().sum::<u64>() {
            0..=MAX_CYCLE => Cycle::Weighted(smooth(&weights).into()),
            _ => Cycle::GoldenRatio,
        }
    }
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}
