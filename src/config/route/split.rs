//! `pools` of a route: requests split among several pools.

use super::action::{PoolRef, pool};
use crate::config::document::Node;
use crate::config::hints::quote;
use crate::config::schema::{Kind, List, Reader, list, map_of, section, whole};

/// A ten-thousandth is the least share that can be written.
const MAX_WEIGHT: u32 = 10_000;
/// Every request is compared with all pools of its route.
const MAX_SHARES: usize = 64;

section! {
    /// A pool and its share of a route's requests.
    pub struct PoolShare: Eq {
        /// The name of the pool.
        pool: PoolRef { pool(), required "web" },
        /// Its part of the sum of all weights. 0: it gets no requests.
        weight: u32 { whole(0..=MAX_WEIGHT), default "1" },
    }
}

/// The value of `pools`.
pub(super) fn shares() -> List<impl Kind<Value = PoolShare>> {
    list("pools", map_of::<PoolShare>())
        .up_to(MAX_SHARES)
        .not_empty(
            "there is no pool; write `[{ pool: web, weight: 95 }, { pool: next, weight: 5 }]`",
        )
        .checked(weights_add_up)
}

fn weights_add_up(node: &Node, shares: &[(usize, PoolShare)], reader: &mut Reader<'_>) {
    for (position, (index, share)) in shares.iter().enumerate() {
        let mut earlier = shares[..position].iter();
        if let Some((first, _)) = earlier.find(|(_, earlier)| earlier.pool == share.pool)
            && let Some(element) = node.elements().get(*index)
        {
            let name = quote(&share.pool.name);
            let message = format!("the pool {name} is in pools[{first}] already; add the weights");
            reader.in_element(*index, |reader| {
                reader.problem_of_key(element, "pool", message);
            });
        }
    }
    let is_complete = shares.len() == node.elements().len() && !shares.is_empty();
    if is_complete && shares.iter().all(|(_, share)| share.weight == 0) {
        reader.problem(
            node,
            "all weights are 0; at least one pool has to get requests",
        );
    }
}
