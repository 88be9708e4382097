//! Consistent hashing with bounded loads: a key keeps its host until that host is full, then moves on along the ring.
//!
//! **How.** The ring of [`consistent_hash`](super::consistent_hash), and for each host a capacity of ⌈c·m·w_i/W⌉
//! requests, where m is the number of requests in flight, including this one. The first host clockwise with room gets
//! the request. The count is one atomic step that fails if the host has got or lost a request since the check, so no number
//! of threads exceeds the capacity; m stays exact when a busy host leaves or returns.
//!
//! **Cost.** As the ring, and more points while hosts are full: about 1.09 at c = 1.25, 1.9 at c = 1.05.
//!
//! **Bound.** No host gets a request with which it has more than ⌈c·m·w_i/W⌉, so one hot key spreads over at least n/c
//! hosts. That holds when the request is assigned: a host keeps what it has when others end theirs, or when it joins with
//! more. A change of the membership moves O(1/(c−1)²) requests (Mirrokni, Thorup, Zadimoghaddam, "Consistent Hashing with
//! Bounded Loads", SODA 2018). Three kinds of requests may exceed the bound: a retry, if every host with room has failed it; a request
//! for which every host with room is at its own limit; and a request without a key, for which the `fallback` picks.
//!
//! **When.** Caches with hot keys. A `factor` near 1 balances better, a larger one keeps more keys on their host.

use std::sync::Arc;

use crate::core::{
    Before, CandidateReason, Hashed, Hosts, Info, Member, OptionInfo, Pick, Picker, Ranked, Ring,
    Rng, Strategy, Trace, distinct, invalid, parse_into,
};
use crate::{BalancerError, Fallback};

/// The factor is stored as an integer in this unit, so that capacities are compared exactly.
const FACTOR_SCALE: f64 = 1e6;

/// Points to visit before the least loaded host is taken. At the tightest factor of 1, a walk along a full ring would
/// otherwise visit the whole ring; at 1.25, less than one in a thousand needs more than ten points.
const MAX_WALK: usize = 256;

/// The algorithm `bounded`.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Bounded {
    /// The most requests on a host, relative to its share of those in flight: 1 to 100.
    pub factor: f64,
    /// What picks for requests without a key.
    pub fallback: Fallback,
}

impl Default for Bounded {
    fn default() -> Self {
        Bounded {
            factor: 1.25,
            fallback: Fallback::default(),
        }
    }
}

impl Bounded {
    pub(crate) const INFO: Info = Info {
        name: "bounded",
        summary: "the ring of consistent_hash, but no host above its share by more than a factor",
        hashes: Hashed::Key,
        options: &[
            OptionInfo {
                name: "factor",
                default: "1.25",
                help: "a host's capacity relative to its share of the requests in flight: 1 to 100",
            },
            Fallback::OPTION,
        ],
    };
}

const EXPECTED: &str = "a number from 1 to 100";

fn fits(factor: &f64) -> bool {
    (1.0..=100.0).contains(factor)
}

impl Strategy for Bounded {
    fn set(&mut self, option: &str, value: &str) -> Option<Result<(), BalancerError>> {
        match option {
            "factor" => Some(parse_into(&mut self.factor, option, value, EXPECTED, fits)),
            _ => self.fallback.set(option, value),
        }
    }

    fn check(&self) -> Result<(), BalancerError> {
        match fits(&self.factor) {
            true => Ok(()),
            false => Err(invalid("factor", self.factor, EXPECTED)),
        }
    }

    fn build(&self, members: &[Arc<Member>], before: Option<&Before<'_>>) -> Box<dyn Picker> {
        let before = before.and_then(|before| before.picker::<BoundedPicker>());
        Box::new(BoundedPicker {
            factor: (self.factor * FACTOR_SCALE).round() as u64,
            total_weight: members.iter().map(|member| u64::from(member.weight)).sum(),
            ring: Ring::new(members, before.map(|before| &before.ring)),
        })
    }

    fn fallback(&self) -> Option<&Fallback> {
        Some(&self.fallback)
    }

    fn counts_all(&self) -> bool {
        true
    }
}

#[derive(Debug)]
struct BoundedPicker {
    /// c in units of 1 / [`FACTOR_SCALE`].
    factor: u64,
    /// W, the sum of the weights.
    total_weight: u64,
    ring: Ring,
}

impl Picker for BoundedPicker {
    fn pick(&self, hosts: &Hosts<'_>, _: &Rng<'_>, trace: Trace<'_>) -> Option<Pick> {
        let total = hosts.in_flight_on_all() + 1;
        let fits = |position: usize| {
            let running = hosts.member(position).running();
            let has_room = self.has_room(hosts.member(position), running, total);
            if !has_room {
                trace.reject(position, CandidateReason::Bound);
            }
            has_room.then_some((running, position))
        };
        let walk = self.ring.clockwise(hosts.key()?).take(MAX_WALK);
        let mut walk = walk.inspect(|&position| trace.visit(position));
        let chosen = walk.find_map(|position| fits(position).filter(|_| hosts.accepts(position)));
        let (running, position) = chosen.or_else(|| self.least_loaded(hosts))?;
        Some(Pick {
            // If requests have come in between, the host may have no room any more.
            seen: Some(running),
            ..Pick::at(position)
        })
    }

    fn rank(&self, hosts: &Hosts<'_>, _: u64, _: Option<usize>) -> Vec<Ranked> {
        let total = hosts.in_flight_on_all() + 1;
        let walk = self.ring.clockwise(hosts.key().unwrap_or_default());
        let ranked = distinct(walk, hosts.len()).into_iter().map(|position| {
            let member = hosts.member(position);
            let running = member.running();
            let share = total as f64 * f64::from(member.weight) / self.total_weight as f64;
            let reason = match self.has_room(member, running, total) {
                true => CandidateReason::Ring,
                false => CandidateReason::Bound,
            };
            Ranked::new(position, Some(running as f64 / share), reason)
        });
        ranked.collect()
    }

    fn has_key(&self, hosts: &Hosts<'_>) -> bool {
        hosts.key().is_some()
    }
}

impl BoundedPicker {
    /// Whether `running` < c·m·w/W, which for integers is `running` + 1 ≤ ⌈c·m·w/W⌉.
    fn has_room(&self, member: &Member, running: u64, total: u64) -> bool {
        let capacity = u128::from(self.factor) * u128::from(total) * u128::from(member.weight);
        u128::from(running) * u128::from(self.total_weight) * (FACTOR_SCALE as u128) < capacity
    }

    /// The host with the fewest requests by weight among those that accept the request. If all do, this one has room: its
    /// load by weight is at most the mean, and a capacity is above the mean.
    fn least_loaded(&self, hosts: &Hosts<'_>) -> Option<(u64, usize)> {
        let load = |position: usize| {
            let running = hosts.member(position).running();
            let load = running as f64 / f64::from(hosts.member(position).weight);
            (load, running, position)
        };
        (0..hosts.len())
            .filter(|&position| hosts.accepts(position))
            .map(load)
            .min_by(|a, b| a.0.total_cmp(&b.0))
            .map(|(_, running, position)| (running, position))
    }
}
