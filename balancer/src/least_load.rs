//! Least load: the host with the fewest requests in flight by weight.
//!
//! **How.** Each pick finds the minimum of in-flight/weight and counts the request there with a compare-and-swap: if
//! the count has changed meanwhile, the search starts over. Recent failures count as requests in flight, and a slow
//! host's load is multiplied by its slowness (see [the formula](crate#loads)). Ties are broken at random. Hosts are divided into
//! cohorts of 64; each has a hint, a lower bound of its least load, so a pick looks at the hints and then at one cohort.
//!
//! If the weights differ, a host of weight w is taken for w places, and requests fill all places before any gets a second
//! one, and so on. A free place is drawn, and the request goes to the least loaded of the hosts that have the same weight as
//! the one with that place. So every place gets the same share, however many requests are in flight
//! ([weights](crate#weights)). In larger pools those of one cohort are compared, the better by its hint of two drawn by weight.
//!
//! **Cost.** √n rather than n: at 10,000 hosts, 157 hints and one cohort. The end of a request lowers its cohort's hint,
//! one atomic operation. With different weights, three looks at up to 64 hosts.
//!
//! **Bound.** Among hosts of equal weight that neither fail nor are slow, none gets a request while another has a lower load.
//! With different weights this holds among those of each weight, and none gets one while another has a whole request less
//! for each unit of its weight: ⌊in-flight/weight⌋ of the picked host is the least. (In pools of more than 64 hosts, of those
//! that are compared.) One host that is ten times slower than seven others gets about half a percent of the requests.
//! Joining the shortest queue minimizes waiting for equal hosts (Winston 1977, Weber 1978).
//!
//! **When.** One balancer in front of its hosts, long or uneven requests. **When not.** Several balancers share the
//! hosts: each sees only its own requests, so they herd, and [`p2c`](super::p2c) degrades more gently.

mod groups;

use std::sync::Arc;

use crate::core::{
    Before, CandidateReason, Hashed, Hosts, Info, LoadModel, Member, Pick, Picker, Ranked, Rng,
    Strategy, Trace, mix, scale, unit,
};
use groups::{Entry, Groups, Hints};

/// One in this many picks looks at a random group and lowers its hint if that is too high. Hints are exact for one thread
/// and healthy hosts. Without this review they would miss a request that ends through another balancer sharing the live
/// state, or during a change of the membership, and a load that falls because failures fade or a host is no longer
/// slow.
const REVIEW_INTERVAL: u64 = 16;

/// The algorithm `least_load`. It has no options.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct LeastLoad {}

impl LeastLoad {
    pub(crate) const INFO: Info = Info {
        name: "least_load",
        summary: "the host with the fewest requests in flight by weight",
        hashes: Hashed::Nothing,
        options: &[],
    };
}

impl Strategy for LeastLoad {
    fn build(&self, members: &[Arc<Member>], _: Option<&Before<'_>>) -> Box<dyn Picker> {
        Box::new(LeastLoadPicker {
            groups: Groups::new(members),
            is_equal: members.iter().all(|it| it.weight == members[0].weight),
        })
    }
}

#[derive(Debug)]
struct LeastLoadPicker {
    groups: Groups,
    is_equal: bool,
}

/// The best host so far.
#[derive(Debug, Clone, Copy)]
struct Best {
    load: f64,
    position: u32,
    in_flight: u64,
}

impl Picker for LeastLoadPicker {
    fn pick(&self, hosts: &Hosts<'_>, rng: &Rng<'_>, trace: Trace<'_>) -> Option<Pick> {
        let search = Search {
            hosts,
            model: hosts.load_model(),
            bits: rng.bits(),
        };
        let mut best = None;
        if self.groups.len() > 1 && !hosts.is_narrowed() {
            let hints = self.groups.hints(trace);
            best = match self.is_equal {
                true => search.by_hints(&self.groups, &hints),
                false => {
                    let drawn = self.groups.draw(rng.bits(), &hints);
                    search.by_place(self.groups.entries(drawn).iter())
                }
            };
        }
        let best = best.or_else(|| {
            let all = self.groups.all().iter();
            match self.is_equal {
                true => search.least(all).0,
                false => search.by_place(all),
            }
        })?;
        Some(Pick {
            seen: Some(best.in_flight),
            ..Pick::at(best.position as usize)
        })
    }

    fn rank(&self, hosts: &Hosts<'_>, _: u64, chosen: Option<usize>) -> Vec<Ranked> {
        let model = hosts.load_model();
        let load =
            |position| model.load(hosts.member(position), hosts.member(position).in_flight());
        let taken = chosen.map_or(0.0, load);
        let ranked = (0..hosts.len()).map(|position| {
            let reason = match load(position) > taken {
                true => CandidateReason::Loaded,
                false => CandidateReason::NotDrawn,
            };
            Ranked::new(position, Some(load(position)), reason)
        });
        let mut ranked = Vec::from_iter(ranked);
        ranked.sort_by(|a, b| a.load.unwrap_or(0.0).total_cmp(&b.load.unwrap_or(0.0)));
        ranked
    }
}

/// One search for the least loaded host.
struct Search<'a> {
    hosts: &'a Hosts<'a>,
    model: LoadModel<'a>,
    bits: u64,
}

impl Search<'_> {
    /// Searches the groups, those with the lowest hints first. `None` if all hosts seem to be full: only a look at all
    /// hosts is certain.
    fn by_hints(&self, groups: &Groups, hints: &Hints<'_>) -> Option<Best> {
        let (review, bits) = scale(self.bits, REVIEW_INTERVAL);
        let least = |group| self.least(groups.entries(group).iter());
        if review == 0 {
            let (group, _) = scale(bits, groups.len() as u64);
            hints.lower(group as usize, least(group as usize).1);
        }
        let mut best: Option<Best> = None;
        loop {
            let (group, hint) = hints.lowest(bits);
            if hint == f64::INFINITY || best.is_some_and(|best| best.load <= hint) {
                return best;
            }
            let (found, load) = least(group);
            if load > hint && hints.raise(group, hint, load) {
                // A request may have ended between the search and the raise, and found the hint low enough.
                hints.lower(group, least(group).1);
            }
            best = match (best, found) {
                (Some(best), Some(found)) if found.load < best.load => Some(found),
                (best, found) => best.or(found),
            };
        }
    }

    /// The least loaded host, drawn among several, and the load; infinite if all are full.
    #[inline]
    fn least<'e>(&self, entries: impl Iterator<Item = &'e Entry> + Clone) -> (Option<Best>, f64) {
        let (mut least, mut found, mut ties) = (f64::INFINITY, None, 0u64);
        for (entry, in_flight, load) in self.loads(entries.clone()) {
            if load < least {
                (least, found, ties) = (load, Some((entry, in_flight)), 1);
            } else if load == least {
                ties += 1;
            }
        }
        let best = |(entry, in_flight): (&Entry, u64)| Best {
            load: least,
            position: entry.position,
            in_flight,
        };
        if ties > 1 {
            let (drawn, _) = scale(mix(self.bits), ties);
            let mut alike = self.loads(entries).filter(|(_, _, load)| *load == least);
            // If the counts have changed meanwhile, the first will do.
            if let Some((entry, in_flight, _)) = alike.nth(drawn as usize) {
                found = Some((entry, in_flight));
            }
        }
        (found.map(best), least)
    }

    /// The least loaded of the hosts that have the weight of one whose free place is drawn.
    fn by_place<'e>(&self, entries: impl Iterator<Item = &'e Entry> + Clone) -> Option<Best> {
        let (mut round, mut total) = (f64::INFINITY, 0.0);
        let places = |entry: &Entry, load: f64, round: f64| {
            // None is free in this round if the number is negative.
            ((round + 1.0 - load) * f64::from(entry.weight)).max(0.0)
        };
        for (entry, _, load) in self.loads(entries.clone()) {
            if load < round {
                (round, total) = (load.floor(), 0.0);
            }
            total += places(entry, load, round);
        }
        let mut remaining = unit(self.bits) * total;
        let mut loads = self.loads(entries.clone());
        let drawn = loads.find(|(entry, _, load)| {
            remaining -= places(entry, *load, round);
            remaining < 0.0
        });
        // If the counts have changed meanwhile, any will do.
        let drawn = drawn.or_else(|| self.loads(entries.clone()).next());
        let weight = drawn.map(|(entry, _, _)| entry.weight)?;
        self.least(entries.filter(move |entry| entry.weight == weight))
            .0
    }

    /// Hosts that may be picked, with requests in flight and load.
    #[inline]
    fn loads<'e>(
        &self,
        entries: impl Iterator<Item = &'e Entry>,
    ) -> impl Iterator<Item = (&'e Entry, u64, f64)> {
        let is_narrowed = self.hosts.is_narrowed();
        entries.filter_map(move |entry| {
            let position = entry.position as usize;
            let in_flight = entry.stats.in_flight();
            if in_flight >= entry.limit || is_narrowed && !self.hosts.accepts(position) {
                return None;
            }
            let member = || self.hosts.member(position);
            let load = self
                .model
                .load_of(&entry.stats, entry.weight, in_flight, member);
            Some((entry, in_flight, load))
        })
    }
}
