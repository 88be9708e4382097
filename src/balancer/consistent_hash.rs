//! Consistent hashing on a ring: a key keeps its host while hosts come and go.
//!
//! **How.** The ketama ring of nginx's `hash KEY consistent`, point for point: 160 points × weight a host, so nginx and
//! Ballast send a key to the same host when the lists of `host:port` are the same. A key belongs to the first point
//! clockwise of its CRC-32. A host that leaves gives its arcs to their successors and gets exactly them back; one that is
//! full gives on single requests in the same way.
//!
//! **Cost.** One CRC-32 and about two memory accesses; 9 bytes a point.
//!
//! **Bound.** Adding one of n hosts moves 1/(n+1) of the keys, all of them to the new host. A host's share has a
//! standard deviation of 1/√160 ≈ 8 %; the busiest of 10 has about 1.13 times the mean, of 100 about 1.21 times
//! (Karger and others, "Consistent Hashing and Random Trees", 1997, for the idea).
//!
//! **When.** Caches, and whatever is faster where the key was before. **When not.** A hot key is one hot host:
//! [`bounded`](super::bounded) spreads it. Requests without a key go where `fallback` says.

use std::sync::Arc;

use super::mechanics::{
    Algorithm, BalancerError, Choose, Chooser, Fallback, HasKey, Host, Ledger, Mode, Options,
    Reason, Rehearsal, Request, Ring, RingKeeper, Seat,
};
use super::registry::AlgorithmInfo;

pub(super) const INFO: AlgorithmInfo = AlgorithmInfo {
    name: "consistent_hash",
    summary: "the host that the key belongs to on a ketama ring, as in nginx",
    keyed: true,
    options: &[Fallback::OPTION],
    build,
};

/// Points that are looked at before it is asked whether there is anybody to be found: a walk once around is 160 times as
/// long as the list of hosts.
const SHORT_WALK: usize = 256;

fn build(options: &Options) -> Result<Box<dyn Algorithm>, BalancerError> {
    Ok(Box::new(ConsistentHash {
        keeper: RingKeeper::default(),
        fallback: Fallback::from_options(options)?,
    }))
}

#[derive(Debug)]
struct ConsistentHash {
    keeper: RingKeeper,
    fallback: Fallback,
}

#[derive(Debug)]
struct Owners {
    ring: Arc<Ring>,
    seats: Arc<[Arc<Seat>]>,
}

impl Algorithm for ConsistentHash {
    fn arrange(&self, seats: &Arc<[Arc<Seat>]>) -> Box<dyn Chooser> {
        let owners = Owners {
            ring: self.keeper.ring(seats),
            seats: Arc::clone(seats),
        };
        self.fallback.beside(owners, seats)
    }

    fn starts_slowly(&self) -> bool {
        false
    }

    fn ledger(&self, host: &Arc<Host>) -> Option<Arc<dyn Ledger>> {
        self.fallback.ledger(host)
    }
}

impl HasKey for Owners {
    fn has_key(&self, request: &Request<'_>) -> bool {
        request.hash_key().is_some()
    }
}

impl Choose for Owners {
    fn choose<M: Mode>(&self, request: &Request<'_>, mode: &M) -> Option<usize> {
        let walk = self.ring.walk(request.hash_key()?);
        let mut walk = walk.inspect(|&position| mode.sees(position));
        let fits = |position: &usize| request.may_take(*position, &self.seats[*position]);
        walk.by_ref().take(SHORT_WALK).find(fits).or_else(|| {
            let left = (0..self.seats.len()).any(|position| fits(&position));
            left.then(|| walk.find(fits)).flatten()
        })
    }

    fn rank(&self, request: &Request<'_>, _: Option<usize>, rehearsal: &Rehearsal) {
        for position in self.ring.walk(request.hash_key().unwrap_or_default()) {
            if !rehearsal.ranks(position, None, Reason::Ring) {
                break;
            }
        }
    }
}
