//! Which pool of a split gets a request.

use std::net::IpAddr;

use super::hash_key::{self, DerivedKey};
use crate::config::{KeySource, PoolShare};
use crate::message::RequestView;
use crate::thread_random::thread_random;

/// Where requests with this key are within the whole: 64 uniform bits. The same in every process and every version, and
/// unrelated to the hash by which a pool chooses its host.
fn position_of(key: &[u8]) -> u64 {
    let digest = ring::digest::digest(&ring::digest::SHA256, key);
    let mut bytes = digest.as_ref().iter();
    (0..8).fold(0, |bits, _| {
        bits << 8 | u64::from(bytes.next().copied().unwrap_or_default())
    })
}

/// The pool at `position`, as an index into `shares`. Each pool has a range of positions in proportion to its weight,
/// in their order; one of weight 0 has none.
fn at_position(shares: &[PoolShare], position: u64) -> usize {
    let sum: u64 = shares.iter().map(|share| u64::from(share.weight)).sum();
    let mut point = (u128::from(position) * u128::from(sum)) >> 64;
    for (index, share) in shares.iter().enumerate() {
        match point.checked_sub(share.weight.into()) {
            Some(rest) => point = rest,
            None => return index,
        }
    }
    // Only a split whose weights are all 0 gets here, which the configuration refuses.
    0
}

/// The pool that the key of a request says, as an index into `shares`, with the key. `None`: the request has no key.
pub(crate) fn by_key(
    shares: &[PoolShare],
    source: &KeySource,
    request: RequestView<'_>,
    client: Option<IpAddr>,
) -> Option<(usize, Vec<u8>)> {
    let (position, key) = keyed(source, request, client, |key| {
        (position_of(key), key.to_vec())
    })?;
    Some((at_position(shares, position), key))
}

/// Chooses a pool for a request, as an index into `shares`.
pub(crate) fn choose(
    shares: &[PoolShare],
    source: Option<&KeySource>,
    request: RequestView<'_>,
    client: Option<IpAddr>,
) -> usize {
    let position = source.and_then(|source| keyed(source, request, client, position_of));
    at_position(shares, position.unwrap_or_else(thread_random))
}

/// What `with` makes of the request's key.
fn keyed<T>(
    source: &KeySource,
    request: RequestView<'_>,
    client: Option<IpAddr>,
    with: impl FnOnce(&[u8]) -> T,
) -> Option<T> {
    let derived = DerivedKey::of(source, request, client);
    hash_key::extract(source, request, derived.as_ref()).map(with)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::PoolRef;

    fn shares(weights: &[u32]) -> Vec<PoolShare> {
        let shares = weights
            .iter()
            .enumerate()
            .map(|(index, &weight)| PoolShare {
                pool: PoolRef {
                    name: index.to_string(),
                    index,
                },
                weight,
            });
        shares.collect()
    }

    #[test]
    fn keys_keep_their_pool_except_for_those_that_the_shares_differ_by() {
        let (before, after) = (shares(&[95, 5]), shares(&[90, 10]));
        let mut moved = 0;
        for key in 0..20_000_u32 {
            let position = position_of(&key.to_be_bytes());
            let (old, new) = (
                at_position(&before, position),
                at_position(&after, position),
            );
            assert!(old == new || (old, new) == (0, 1), "{key}: {old} to {new}");
            moved += usize::from(old != new);
        }
        // 5 % of them, with a standard deviation of 31.
        assert!((850..1_150).contains(&moved), "{moved}");
        // Known values: another version must not move clients.
        let pools =
            ["alice", "bob", "carol", "dave"].map(|name| position_of(name.as_bytes()) >> 60);
        assert_eq!(pools, [2, 8, 4, 6]);
    }

    proptest! {
        /// Evenly spread positions reach each pool in proportion to its weight, to within one position; and the two
        /// ends of the whole are the first and the last pool with a weight.
        #[test]
        fn shares_follow_the_weights(
            weights in proptest::collection::vec(0_u32..=10_000, 1..8)
                .prop_filter("a weight above 0", |weights| weights.iter().any(|weight| *weight > 0)),
        ) {
            const STEPS: u64 = 4_096;
            let shares = shares(&weights);
            let mut counts = vec![0_u64; weights.len()];
            for step in 0..STEPS {
                let position = (u64::MAX / STEPS) * step + u64::MAX / STEPS / 2;
                counts[at_position(&shares, position)] += 1;
            }
            let sum: u32 = weights.iter().sum();
            for (weight, count) in weights.iter().zip(&counts) {
                let expected = f64::from(*weight) / f64::from(sum) * STEPS as f64;
                prop_assert!((*count as f64 - expected).abs() <= 1.5, "{counts:?}");
                prop_assert!(*weight > 0 || *count == 0);
            }
            let weighted = |weight: &u32| *weight > 0;
            prop_assert_eq!(Some(at_position(&shares, 0)), weights.iter().position(weighted));
            let last = weights.iter().rposition(weighted);
            prop_assert_eq!(Some(at_position(&shares, u64::MAX)), last);
        }

        /// Between two pools, exactly the positions between the old and the new border move.
        #[test]
        fn a_change_of_weights_moves_one_way_only(old in 0_u32..=100, new in 0_u32..=100, position: u64) {
            let pool = |weight| at_position(&shares(&[100 - weight, weight]), position);
            let (before, after) = (pool(old), pool(new));
            let keeps_order = if old <= new { before <= after } else { before >= after };
            prop_assert!(keeps_order, "{old} to {new}: {before} to {after}");
        }
    }
}
