//! Maglev: a look-up table that maps each key to a host, as evenly as can be.
//!
//! **How.** The table of Google's Maglev: each host has a preference for every entry, a permutation that depends on its
//! identity alone; hosts take turns, each takes the entry it prefers most of those that are left, until the table is full.
//! A host of weight w has w turns where one of weight 1 has one. A key belongs to the entry of its hash. If that host has
//! failed the request or is full, the next entries are tried, which are other hosts in an order that depends on the key.
//!
//! **Cost.** One hash and one access to the table, at any number of hosts: less than a ring. The table has 65,537 entries, a
//! prime, and ten times as many from 1,009 hosts on, where nearly all keys move once: 4 bytes each. A change of the membership
//! builds it anew: 1 to 3 ms, ten times as long for the larger one.
//!
//! **Bound.** With equal weights the hosts own the same number of entries, to within one; with different weights each owns
//! its share of the turns. A host that joins or leaves moves its own share of the keys and a few of the others': with 65,537
//! entries and a hundred hosts about as many again (Eisenbud and others, "Maglev: A Fast and Reliable Software Network Load
//! Balancer", NSDI 2016). The table depends on the hosts' identities and weights only, not on their order.
//!
//! **When.** Keys that must be spread evenly: a ring's busiest host of a hundred has a fifth more than the mean. **When not.**
//! Every key that moves is expensive: [`consistent_hash`](super::consistent_hash) moves the least, and agrees with nginx.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::core::{
    Before, Hashed, Info, Member, Picker, Strategy, Walk, WalkPicker, hash, mix, scale,
};
use crate::{BalancerError, Fallback};

/// The numbers of entries, all primes: a step of any size then visits every entry.
const SIZES: [u64; 3] = [65_537, 655_373, 5_000_011];

/// So many entries each host has at least, on average, where the largest table has so many.
const ENTRIES_PER_HOST: u64 = 65;

/// The algorithm `maglev`.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct Maglev {
    /// What picks for requests without a key.
    pub fallback: Fallback,
}

impl Maglev {
    pub(crate) const INFO: Info = Info {
        name: "maglev",
        summary: "the host that the key belongs to in an evenly divided table",
        hashes: Hashed::Key,
        options: &[Fallback::OPTION],
    };
}

impl Strategy for Maglev {
    fn set(&mut self, option: &str, value: &str) -> Option<Result<(), BalancerError>> {
        self.fallback.set(option, value)
    }

    fn build(&self, members: &[Arc<Member>], _: Option<&Before<'_>>) -> Box<dyn Picker> {
        Box::new(WalkPicker(Table(table(members))))
    }

    fn fallback(&self) -> Option<&Fallback> {
        Some(&self.fallback)
    }
}

/// The position that owns each entry.
#[derive(Debug)]
struct Table(Box<[u32]>);

impl Walk for Table {
    /// The owners of the entries from that of `key` on.
    #[inline]
    fn walk(&self, key: &[u8]) -> impl Iterator<Item = usize> {
        let Table(owners) = self;
        let hash = mix(u64::from(crc32fast::hash(key)));
        let (first, _) = scale(hash, owners.len() as u64);
        let (before, after) = owners.split_at(first as usize);
        after.iter().chain(before).map(|&owner| owner as usize)
    }
}

/// A host's preferences: first + step × n, for n from 0 on, modulo the size.
struct Preferences {
    next: u64,
    step: u64,
}

impl Preferences {
    fn of(member: &Member, size: u64) -> Self {
        let hash = hash(member.host.id().as_str().as_bytes());
        Preferences {
            next: scale(hash, size).0,
            step: 1 + scale(mix(hash), size - 1).0,
        }
    }

    /// The entry preferred most of those that are free.
    fn take(&mut self, table: &mut [u32]) -> usize {
        loop {
            let entry = self.next;
            self.next += self.step;
            if self.next >= table.len() as u64 {
                self.next -= table.len() as u64;
            }
            if table[entry as usize] == FREE {
                return entry as usize;
            }
        }
    }
}

const FREE: u32 = u32::MAX;

/// The owner of each entry.
fn table(members: &[Arc<Member>]) -> Box<[u32]> {
    let wanted = ENTRIES_PER_HOST * members.len() as u64;
    let size = SIZES.into_iter().find(|size| *size >= wanted);
    let size = size.unwrap_or(SIZES[SIZES.len() - 1]);
    // In the order of their ids, so that it does not matter in which they joined.
    let mut order: Vec<usize> = (0..members.len()).collect();
    order.sort_unstable_by_key(|&position| members[position].host.id());
    let preferences = order.iter();
    let mut preferences =
        Vec::from_iter(preferences.map(|&position| Preferences::of(&members[position], size)));
    let mut table = vec![FREE; size as usize].into_boxed_slice();
    let mut take = |index: usize| {
        let entry = preferences[index].take(&mut table);
        table[entry] = order[index] as u32;
    };
    let mut classes: BTreeMap<u32, Class> = BTreeMap::new();
    for (index, &position) in order.iter().enumerate() {
        let class = classes.entry(members[position].weight).or_default();
        class.indices.push(index);
    }
    let heaviest = classes.keys().next_back().copied().unwrap_or(1);
    let mut left = size as usize;
    while left > 0 {
        // The heaviest hosts have a turn in every round, one of half their weight in every other one, and so on.
        for (weight, class) in classes.iter_mut().rev() {
            class.credit += weight;
            if class.credit >= heaviest {
                class.credit -= heaviest;
                class
                    .indices
                    .iter()
                    .take(left)
                    .for_each(|&index| take(index));
                left -= class.indices.len().min(left);
            }
        }
    }
    table
}

/// The hosts of one weight.
#[derive(Default)]
struct Class {
    indices: Vec<usize>,
    /// What is left of its weight in the rounds so far, below that of the heaviest.
    credit: u32,
}
