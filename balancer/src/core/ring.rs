//! The ketama ring, point for point the one of nginx's `hash KEY consistent`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::host::HostId;
use super::slot::Slot;

/// Points per unit of weight, as in nginx and libketama. The share of one of n hosts then has a standard deviation of
/// 1/√160 ≈ 8 % of its mean.
const POINTS_PER_WEIGHT: u64 = 160;

/// A ring with more points than this is thinned: 8 bytes a point and 4 a bucket make 40 MiB at most. 10,000 hosts of
/// weight 1 have 1.6 million.
const MAX_POINTS: u64 = 1 << 22;

/// A cache line holds eight points: half a line is scanned on average, and the index stays small enough for the cache.
const POINTS_PER_BUCKET: usize = 4;

/// A point of the ring and the position of the slot that owns the arc before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Point {
    hash: u32,
    position: u32,
}

/// Hashes in ascending order, each with its owner, and an index by the hash's leading bits: a look-up costs two memory
/// accesses on average instead of a binary search.
#[derive(Debug)]
pub(crate) struct Ring {
    points: Vec<Point>,
    /// For each value of the leading bits, the first point that is not below it.
    buckets: Vec<u32>,
    /// The number of bits to shift a hash right to get its leading bits.
    shift: u32,
}

impl Ring {
    fn new(points: Vec<Point>) -> Self {
        let buckets = (points.len() / POINTS_PER_BUCKET).next_power_of_two();
        let bits = buckets
            .trailing_zeros()
            .clamp(1, MAX_POINTS.trailing_zeros());
        let shift = u32::BITS - bits;
        let mut buckets = Vec::with_capacity(1 << bits);
        let mut first = 0;
        for leading in 0..1u32 << bits {
            while first < points.len() && points[first].hash < leading << shift {
                first += 1;
            }
            buckets.push(first as u32);
        }
        Ring {
            points,
            buckets,
            shift,
        }
    }

    /// The owners clockwise from `key`, once around the ring, each as often as it has points.
    pub(crate) fn walk(&self, key: &[u8]) -> impl Iterator<Item = usize> {
        let hash = crc32fast::hash(key);
        let mut first = self.buckets[(hash >> self.shift) as usize] as usize;
        while first < self.points.len() && self.points[first].hash < hash {
            first += 1;
        }
        let (before, after) = self.points.split_at(first);
        after
            .iter()
            .chain(before)
            .map(|point| point.position as usize)
    }
}

/// Builds each ring from the previous one, so that a change costs one pass instead of a sort.
#[derive(Debug, Default)]
pub(crate) struct RingBuilder {
    previous: Mutex<Option<PreviousRing>>,
}

#[derive(Debug)]
struct PreviousRing {
    ring: Arc<Ring>,
    slots: Arc<[Arc<Slot>]>,
    halvings: u32,
}

impl RingBuilder {
    /// The ring of `slots`. It depends on their ids and weights only, not on their order or the previous ring.
    pub(crate) fn ring(&self, slots: &Arc<[Arc<Slot>]>) -> Arc<Ring> {
        let mut last = self.previous.lock().unwrap_or_else(PoisonError::into_inner);
        let halvings = halvings(slots);
        let (kept, known) = match last.as_ref() {
            Some(last) if last.halvings == halvings => carried_points(last, slots),
            _ => (Vec::new(), vec![false; slots.len()]),
        };
        let mut added = Vec::new();
        for (position, _) in known.iter().enumerate().filter(|(_, known)| !**known) {
            let host = &slots[position].host;
            let count = points_of(host.weight(), halvings);
            added.extend(chain(host.id(), count).map(|hash| Point {
                hash,
                position: position as u32,
            }));
        }
        let order = |point: &Point| (point.hash, slots[point.position as usize].host.id());
        added.sort_unstable_by(|a, b| order(a).cmp(&order(b)));
        let ring = Arc::new(Ring::new(merge(kept, added, |a, b| order(a) <= order(b))));
        *last = Some(PreviousRing {
            ring: Arc::clone(&ring),
            slots: Arc::clone(slots),
            halvings,
        });
        ring
    }
}

/// The points of `last` whose hosts are still members with the same weight, moved to their new positions, and a flag
/// for each of these positions.
fn carried_points(last: &PreviousRing, slots: &[Arc<Slot>]) -> (Vec<Point>, Vec<bool>) {
    let now: HashMap<&HostId, usize> = slots
        .iter()
        .enumerate()
        .map(|(position, slot)| (slot.host.id(), position))
        .collect();
    let mut known = vec![false; slots.len()];
    let moved: Vec<Option<u32>> = last
        .slots
        .iter()
        .map(|old| {
            let position = *now.get(old.host.id())?;
            (slots[position].host.weight() == old.host.weight()).then(|| {
                known[position] = true;
                position as u32
            })
        })
        .collect();
    let points = last.ring.points.iter().filter_map(|point| {
        moved[point.position as usize].map(|position| Point { position, ..*point })
    });
    (points.collect(), known)
}

fn merge(a: Vec<Point>, b: Vec<Point>, in_order: impl Fn(&Point, &Point) -> bool) -> Vec<Point> {
    let mut merged = Vec::with_capacity(a.len() + b.len());
    let (mut a, mut b) = (a.into_iter().peekable(), b.into_iter().peekable());
    while let (Some(x), Some(y)) = (a.peek(), b.peek()) {
        let next = if in_order(x, y) { a.next() } else { b.next() };
        merged.extend(next);
    }
    merged.extend(a);
    merged.extend(b);
    merged
}

/// How often the number of points of every host is halved to fit all into [`MAX_POINTS`]. A host keeps the first points
/// of its chain, so a thinner ring is a subset of the full one. Only a change of this number moves keys between hosts
/// that stay.
fn halvings(slots: &[Arc<Slot>]) -> u32 {
    let total = |halvings| -> u64 {
        slots
            .iter()
            .map(|slot| points_of(slot.host.weight(), halvings))
            .sum()
    };
    (0..u32::BITS)
        .find(|&halvings| total(halvings) <= MAX_POINTS)
        // More hosts than points: one point for each is the minimum.
        .unwrap_or(u32::BITS)
}

fn points_of(weight: u32, halvings: u32) -> u64 {
    ((u64::from(weight) * POINTS_PER_WEIGHT) >> halvings).max(1)
}

/// The chain of hashes for a host, as in nginx (`ngx_http_upstream_hash_module.c`) and Cache::Memcached::Fast: each is
/// the CRC-32 of HOST, a zero byte, PORT and the four little-endian bytes of the previous hash, which is 0 for the
/// first.
fn chain(id: &HostId, count: u64) -> impl Iterator<Item = u32> {
    let (name, port) = split(id.as_str());
    let mut base = crc32fast::Hasher::new();
    base.update(name.as_bytes());
    base.update(&[0]);
    base.update(port.as_bytes());
    let mut previous = 0u32;
    (0..count).map(move |_| {
        let mut hasher = base.clone();
        hasher.update(&previous.to_le_bytes());
        previous = hasher.finalize();
        previous
    })
}

/// HOST and PORT as nginx splits a server's name: at the last colon if only digits follow it.
fn split(id: &str) -> (&str, &str) {
    match id.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => (host, port),
        _ => (id, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::super::pool_stats::PoolStats;
    use super::*;
    use crate::{Clock, Host};

    fn slots(hosts: &[(&str, u32)]) -> Arc<[Arc<Slot>]> {
        let slot = |&(id, weight): &(&str, u32)| {
            let host = Host::named(id, "127.0.0.1:1".parse().expect("an address"));
            let host = Arc::new(host.with_weight(weight).expect("a weight in range"));
            Arc::new(Slot::new(
                host,
                None,
                Arc::new(PoolStats::new(Clock::manual())),
            ))
        };
        hosts.iter().map(slot).collect()
    }

    fn owners(ring: &Ring, slots: &[Arc<Slot>]) -> Vec<(u32, String)> {
        let owner = |point: &Point| {
            let id = slots[point.position as usize].host.id();
            (point.hash, id.to_string())
        };
        ring.points.iter().map(owner).collect()
    }

    proptest::proptest! {
        #[test]
        fn a_ring_built_stepwise_equals_one_built_at_once(
            steps in proptest::collection::vec((0usize..8, 0u32..4), 1..30),
        ) {
            let names = ["a:1", "b:1", "c:1", "d:2", "e:2", "f", "[::1]:80", "h:80"];
            let ring_builder = RingBuilder::default();
            let mut members: Vec<(&str, u32)> = vec![("z:9", 1)];
            for (name, weight) in steps {
                members.retain(|(member, _)| *member != names[name]);
                if weight > 0 {
                    members.insert(members.len() / 2, (names[name], weight));
                }
                let slots = slots(&members);
                let grown = ring_builder.ring(&slots);
                let fresh = RingBuilder::default().ring(&slots);
                proptest::prop_assert_eq!(owners(&grown, &slots), owners(&fresh, &slots));
                proptest::prop_assert_eq!(grown.points.len() as u64, members.iter().map(|(_, w)| u64::from(*w) * 160).sum::<u64>());
            }
        }

        #[test]
        fn a_walk_begins_at_the_first_point_not_below_the_hash(key: [u8; 6]) {
            let slots = slots(&[("a:1", 1), ("b:1", 2), ("c:1", 1)]);
            let ring = RingBuilder::default().ring(&slots);
            let hash = crc32fast::hash(&key);
            let expected = ring.points.iter().find(|p| p.hash >= hash).unwrap_or(&ring.points[0]);
            proptest::prop_assert_eq!(ring.walk(&key).next(), Some(expected.position as usize));
            proptest::prop_assert_eq!(ring.walk(&key).count(), ring.points.len());
        }
    }

    #[test]
    fn the_ring_is_bounded_for_any_weights() {
        let names: Vec<String> = (0..2_000).map(|i| format!("h{i}:80")).collect();
        let hosts: Vec<(&str, u32)> = names.iter().map(|name| (name.as_str(), 10_000)).collect();
        let ring = RingBuilder::default().ring(&slots(&hosts));
        assert!(
            ring.points.len() as u64 <= MAX_POINTS,
            "{} points",
            ring.points.len()
        );
        assert!(
            ring.points.len() as u64 > MAX_POINTS / 3,
            "{} points",
            ring.points.len()
        );
    }
}
