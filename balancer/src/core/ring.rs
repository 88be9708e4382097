//! The ketama ring, point for point the one of nginx's `hash KEY consistent`.

use std::collections::HashMap;
use std::sync::Arc;

use super::host::HostId;
use super::member::Member;

/// Points per unit of weight, as in nginx and libketama. The share of one of n hosts then has a standard deviation of
/// 1/√160 ≈ 8 % of its mean.
const POINTS_PER_WEIGHT: u64 = 160;

/// A ring with more points than this is thinned: 8 bytes a point and 4 a bucket make 40 MiB at most. 10,000 hosts of
/// weight 1 have 1.6 million.
const MAX_POINTS: u64 = 1 << 22;

/// A cache line holds eight points: half a line is scanned on average, and the index stays small enough for the cache.
const POINTS_PER_BUCKET: usize = 4;

/// A point of the ring and the index of the host that owns the arc before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Point {
    hash: u32,
    owner: u32,
}

/// Hashes in ascending order, each with its owner, and an index by the hash's leading bits: a look-up costs two memory
/// accesses on average instead of a binary search.
#[derive(Debug)]
struct Points {
    points: Vec<Point>,
    /// For each value of the leading bits, the first point that is not below it.
    buckets: Vec<u32>,
    /// The number of bits to shift a hash right to get its leading bits.
    shift: u32,
    /// The hosts that own points, with their weights.
    owners: Vec<(HostId, u32)>,
    halvings: u32,
}

/// The ring of some hosts. It depends on their ids and weights only, not on their order or what was there before.
///
/// The points may have owners that are no members any more: they are passed over, as if they were not there. So a host that
/// leaves for a while costs no rebuilding.
#[derive(Debug)]
pub(crate) struct Ring {
    points: Arc<Points>,
    /// The position of each owner, or [`ABSENT`].
    positions: Box<[u32]>,
}

/// The position of an owner that is no member.
const ABSENT: u32 = u32::MAX;

impl Ring {
    /// The ring of `members`, made from the one before if there is one: a change costs one pass instead of a sort.
    pub(crate) fn new(members: &[Arc<Member>], before: Option<&Ring>) -> Self {
        let halvings = halvings(members);
        let before = before.map(|before| &before.points);
        let before = before.filter(|points| points.halvings == halvings);
        let Some(before) = before else {
            return Ring::build(members, halvings, None);
        };
        let here: HashMap<&HostId, u32> = (0..)
            .zip(members)
            .map(|(position, member)| (member.host.id(), position))
            .collect();
        let position = |(id, weight): &(HostId, u32)| {
            let position = *here.get(id)?;
            (members[position as usize].weight == *weight).then_some(position)
        };
        let positions: Vec<Option<u32>> = before.owners.iter().map(position).collect();
        let known = positions.iter().flatten().count();
        if known == members.len() && known * 2 > before.owners.len() {
            let positions = positions.into_iter();
            return Ring {
                points: Arc::clone(before),
                positions: positions.map(|it| it.unwrap_or(ABSENT)).collect(),
            };
        }
        Ring::build(members, halvings, Some((before, positions)))
    }

    fn build(
        members: &[Arc<Member>],
        halvings: u32,
        before: Option<(&Arc<Points>, Vec<Option<u32>>)>,
    ) -> Self {
        let mut is_known = vec![false; members.len()];
        let mut kept = Vec::new();
        if let Some((before, positions)) = before {
            for position in positions.iter().flatten() {
                is_known[*position as usize] = true;
            }
            let points = before.points.iter();
            kept.extend(points.filter_map(|point| {
                positions[point.owner as usize].map(|owner| Point { owner, ..*point })
            }));
        }
        let mut added = Vec::new();
        for (member, owner) in members.iter().zip(0..) {
            if !is_known[owner as usize] {
                let count = points_of(member.weight, halvings);
                let hashes = chain(member.host.id(), count);
                added.extend(hashes.map(|hash| Point { hash, owner }));
            }
        }
        // The hashes first: the ids are elsewhere in memory, and hardly ever needed.
        let order = |a: &Point, b: &Point| {
            let id = |point: &Point| members[point.owner as usize].host.id();
            a.hash.cmp(&b.hash).then_with(|| id(a).cmp(id(b)))
        };
        added.sort_unstable_by(order);
        let owners = members.iter();
        let owners = owners.map(|member| (member.host.id().clone(), member.weight));
        Ring {
            points: Arc::new(Points::new(
                merge(kept, added, |a, b| order(a, b).is_le()),
                owners.collect(),
                halvings,
            )),
            positions: (0..members.len() as u32).collect(),
        }
    }

    /// The positions clockwise from `key`, once around the ring, each as often as it has points.
    #[inline]
    pub(crate) fn clockwise(&self, key: &[u8]) -> impl Iterator<Item = usize> {
        let Points { points, .. } = &*self.points;
        let (before, after) = points.split_at(self.points.first(crc32fast::hash(key)));
        let owners = after.iter().chain(before).map(|point| point.owner);
        let positions = owners.map(|owner| self.positions[owner as usize]);
        let present = positions.filter(|&position| position != ABSENT);
        present.map(|position| position as usize)
    }
}

impl Points {
    fn new(points: Vec<Point>, owners: Vec<(HostId, u32)>, halvings: u32) -> Self {
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
        Points {
            points,
            buckets,
            shift,
            owners,
            halvings,
        }
    }

    /// The index of the first point that is not below `hash`.
    fn first(&self, hash: u32) -> usize {
        let mut first = self.buckets[(hash >> self.shift) as usize] as usize;
        while first < self.points.len() && self.points[first].hash < hash {
            first += 1;
        }
        first
    }
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
fn halvings(members: &[Arc<Member>]) -> u32 {
    let total = |halvings| -> u64 {
        let points = members
            .iter()
            .map(|member| points_of(member.weight, halvings));
        points.sum()
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
    use super::super::member::members_of;
    use super::*;

    /// The points of members, each with its owner.
    fn owners(ring: &Ring) -> Vec<(u32, String)> {
        let points = ring.points.points.iter();
        let present = points.filter(|point| ring.positions[point.owner as usize] != ABSENT);
        let owner = |point: &Point| {
            let (id, _) = &ring.points.owners[point.owner as usize];
            (point.hash, id.to_string())
        };
        present.map(owner).collect()
    }

    proptest::proptest! {
        #[test]
        fn a_ring_built_stepwise_equals_one_built_at_once(
            steps in proptest::collection::vec((0usize..8, 0u32..4), 1..30),
            key: [u8; 4],
        ) {
            let names = ["a:1", "b:1", "c:1", "d:2", "e:2", "f", "[::1]:80", "h:80"];
            let mut hosts: Vec<(&str, u32)> = vec![("z:9", 1)];
            let mut grown: Option<Ring> = None;
            for (name, weight) in steps {
                hosts.retain(|(host, _)| *host != names[name]);
                if weight > 0 {
                    hosts.insert(hosts.len() / 2, (names[name], weight));
                }
                let members = members_of(&hosts);
                let ring = Ring::new(&members, grown.as_ref());
                let fresh = Ring::new(&members, None);
                proptest::prop_assert_eq!(owners(&ring), owners(&fresh));
                let points = hosts.iter().map(|(_, weight)| u64::from(*weight) * 160);
                proptest::prop_assert_eq!(owners(&ring).len() as u64, points.sum::<u64>());
                proptest::prop_assert!(ring.clockwise(&key).eq(fresh.clockwise(&key)));
                grown = Some(ring);
            }
        }

        #[test]
        fn a_walk_begins_at_the_first_point_not_below_the_hash(key: [u8; 6]) {
            let members = members_of(&[("a:1", 1), ("b:1", 2), ("c:1", 1)]);
            let ring = Ring::new(&members, None);
            let points = &ring.points.points;
            let hash = crc32fast::hash(&key);
            let expected = points.iter().find(|p| p.hash >= hash).unwrap_or(&points[0]);
            proptest::prop_assert_eq!(ring.clockwise(&key).next(), Some(expected.owner as usize));
            proptest::prop_assert_eq!(ring.clockwise(&key).count(), points.len());
        }
    }

    #[test]
    fn the_ring_is_bounded_for_any_weights() {
        let names: Vec<String> = (0..2_000).map(|i| format!("h{i}:80")).collect();
        let hosts: Vec<(&str, u32)> = names.iter().map(|name| (name.as_str(), 10_000)).collect();
        let points = Ring::new(&members_of(&hosts), None).points.points.len() as u64;
        assert!(points <= MAX_POINTS, "{points} points");
        assert!(points > MAX_POINTS / 3, "{points} points");
    }
}
