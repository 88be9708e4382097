//! Groups of hosts, each with a hint of its least load.

use std::cell::Cell;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use crate::core::{Cohort, HostStats, Member, Trace, scale};

/// The size of a group. Near the square root of the largest pools; usual pools have a single group and need no hints.
const GROUP_SIZE: usize = 64;

/// The members by cohort.
#[derive(Debug)]
pub(super) struct Groups {
    entries: Box<[Entry]>,
    groups: Box<[Group]>,
}

/// What is compared of a member: side by side in memory, because a pick looks at many.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) stats: Arc<HostStats>,
    pub(super) limit: u64,
    pub(super) weight: u32,
    pub(super) position: u32,
}

#[derive(Debug)]
struct Group {
    cohort: Arc<Cohort>,
    /// The indices of its entries.
    entries: Range<usize>,
    /// The sum of the members' weights.
    weight: u64,
}

/// The hints of the groups. Those of an explanation are a copy.
#[derive(Debug)]
pub(super) enum Hints<'a> {
    Shared(&'a Groups),
    Copied(&'a Groups, Vec<Cell<f64>>),
}

impl Groups {
    /// Groups of `members`. A host stays in its cohort for good: requests that end lower the hint there. One that joins goes
    /// to the first cohort with room.
    pub(super) fn new(members: &[Arc<Member>]) -> Self {
        let mut groups: Vec<(Arc<Cohort>, Vec<usize>)> = Vec::new();
        let mut by_cohort = HashMap::new();
        // Those that have a cohort first, so that it is known how many it has.
        let (known, new): (Vec<_>, Vec<_>) =
            (0..members.len()).partition(|&position| members[position].has_cohort());
        let mut with_room = 0;
        for position in known.into_iter().chain(new) {
            let cohort = members[position].cohort(|| {
                let is_full = |(_, positions): &(_, Vec<_>)| positions.len() >= GROUP_SIZE;
                while groups.get(with_room).is_some_and(is_full) {
                    with_room += 1;
                }
                let group = groups.get(with_room);
                group.map_or_else(Arc::default, |(cohort, _)| Arc::clone(cohort))
            });
            let group = *by_cohort.entry(Arc::as_ptr(cohort)).or_insert_with(|| {
                groups.push((Arc::clone(cohort), Vec::new()));
                groups.len() - 1
            });
            groups[group].1.push(position);
        }
        let mut entries = Vec::with_capacity(members.len());
        let groups = groups.into_iter().map(|(cohort, positions)| {
            let first = entries.len();
            entries.extend(positions.into_iter().map(|position| {
                let member = &members[position];
                Entry {
                    stats: Arc::clone(&member.stats),
                    limit: member.limit,
                    weight: member.weight,
                    position: position as u32,
                }
            }));
            let own = &entries[first..];
            // The other factors of a load only raise it.
            let load = |entry: &Entry| entry.stats.in_flight() as f64 / f64::from(entry.weight);
            cohort.reset(f64::INFINITY);
            cohort.lower(own.iter().map(load).fold(f64::INFINITY, f64::min));
            Group {
                cohort,
                weight: own.iter().map(|entry| u64::from(entry.weight)).sum(),
                entries: first..entries.len(),
            }
        });
        let groups = groups.collect();
        Groups {
            groups,
            entries: entries.into(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.groups.len()
    }

    /// All hosts.
    pub(super) fn all(&self) -> &[Entry] {
        &self.entries
    }

    /// The hosts of a group.
    pub(super) fn entries(&self, group: usize) -> &[Entry] {
        &self.entries[self.groups[group].entries.clone()]
    }

    /// Of two groups drawn by weight, the one with the lower hint.
    pub(super) fn draw(&self, bits: u64, hints: &Hints<'_>) -> usize {
        let total = self.groups.iter().map(|group| group.weight).sum();
        let (first, bits) = scale(bits, total);
        let (second, _) = scale(bits, total);
        let [first, second] = [first, second].map(|mut rest| {
            let drawn = self.groups.iter().position(|group| {
                let is_here = rest < group.weight;
                rest = rest.saturating_sub(group.weight);
                is_here
            });
            drawn.unwrap_or(0)
        });
        match hints.get(second) < hints.get(first) {
            true => second,
            false => first,
        }
    }

    /// A group with the lowest hint, drawn by weight, and the hint.
    #[inline]
    fn lowest(&self, bits: u64, hint: impl Fn(usize, &Group) -> f64) -> (usize, f64) {
        // Numbers that are not negative sort like their bits, which are compared faster.
        let hint = |index, group: &Group| hint(index, group).to_bits();
        let (mut lowest, mut weight) = (f64::INFINITY.to_bits(), 0);
        for (index, group) in self.groups.iter().enumerate() {
            let found = hint(index, group);
            if found < lowest {
                (lowest, weight) = (found, group.weight);
            } else if found == lowest {
                weight += group.weight;
            }
        }
        let (mut remaining, _) = scale(bits, weight);
        let mut drawn = 0;
        for (index, group) in self.groups.iter().enumerate() {
            // Another thread may have raised one in between: then the last one will do.
            if hint(index, group) == lowest {
                drawn = index;
                if remaining < group.weight {
                    break;
                }
                remaining -= group.weight;
            }
        }
        (drawn, f64::from_bits(lowest))
    }

    pub(super) fn hints(&self, trace: Trace<'_>) -> Hints<'_> {
        if !trace.is_explanation() {
            return Hints::Shared(self);
        }
        let hints = self
            .groups
            .iter()
            .map(|group| Cell::new(group.cohort.least()));
        Hints::Copied(self, hints.collect())
    }
}

impl Hints<'_> {
    fn get(&self, group: usize) -> f64 {
        match self {
            Hints::Shared(groups) => groups.groups[group].cohort.least(),
            Hints::Copied(_, hints) => hints[group].get(),
        }
    }

    /// A group with the lowest hint, drawn by weight, and the hint.
    pub(super) fn lowest(&self, bits: u64) -> (usize, f64) {
        match self {
            Hints::Shared(groups) => groups.lowest(bits, |_, group| group.cohort.least()),
            Hints::Copied(groups, hints) => groups.lowest(bits, |index, _| hints[index].get()),
        }
    }

    pub(super) fn lower(&self, group: usize, load: f64) {
        match self {
            Hints::Shared(groups) => groups.groups[group].cohort.lower(load),
            Hints::Copied(_, hints) => hints[group].set(hints[group].get().min(load)),
        }
    }

    /// Replaces the hint if it is still `seen`.
    pub(super) fn raise(&self, group: usize, seen: f64, load: f64) -> bool {
        match self {
            Hints::Shared(groups) => groups.groups[group].cohort.raise(seen, load),
            Hints::Copied(_, hints) => {
                hints[group].set(load);
                true
            }
        }
    }
}
