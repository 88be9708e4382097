//! `mirror`: copies of a route's requests for another pool.

use super::Route;
use super::action::{PoolRef, pool};
use crate::config::document::Node;
use crate::config::hints::quote;
use crate::config::schema::{Reader, section, whole};
use crate::config::share::{Share, share};

/// Each copy in flight takes up to 200 KiB.
const MAX_IN_FLIGHT: usize = 100_000;

section! {
    /// Copies of a route's requests for another pool.
    pub struct Mirror: Eq {
        /// The name of the pool that gets the copies. They do not wait for longer than its timeouts `connect` and `read`
        /// together.
        pool: PoolRef { pool(), required "next" },
        /// How many of the requests are copied, each by itself at random.
        share: Share { share(), default "100%" },
        /// Copies in flight to the pool at the same time, those of other routes included; beyond it no copy is sent.
        max_in_flight: usize { whole(1..=MAX_IN_FLIGHT), default "100" },
    }
}

/// Reports a mirror that has nothing to copy, or that sends copies to a pool of the route.
pub(super) fn mirror_fits(route: &mut Route, map: &Node, reader: &mut Reader<'_>) {
    let Some(mirror) = &route.mirror else {
        return;
    };
    let mut pools = route.action.pools().peekable();
    if pools.peek().is_none() {
        let message =
            "there is nothing to copy; `mirror` belongs to a route with `pool` or `pools`";
        reader.problem_of_key(map, "mirror", message);
    } else if pools.any(|pool| *pool == mirror.pool) {
        let message = format!(
            "the pool {} gets the requests of this route already; name another one for their copies",
            quote(&mirror.pool.name)
        );
        reader.problem_of_key(map, "mirror", message);
    }
}
