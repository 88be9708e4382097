//! Random: each request goes to a host drawn by weight.
//!
//! **Cost.** One draw and one table look-up (Walker's alias method), at any number of hosts. No shared state, so threads
//! never wait for each other.
//!
//! **Bound.** Host i gets the share w_i/W. With m requests on n hosts the busiest has m/n + √(2(m/n) ln n) for large m
//! (Raab and Steger, "Balls into Bins", 1998): at n = 10 and m = 1,000 about 116 instead of 100.
//!
//! **When.** Many balancers in front of the same hosts that know nothing of each other, or requests that cost all the
//! same. **When not.** Whenever this process sees most of the traffic: [`p2c`](super::p2c) is as cheap and its gap does
//! not grow with m.

use std::sync::Arc;

use super::mechanics::{
    Algorithm, Alias, BalancerError, Choose, Chooser, Mode, Options, Reason, Rehearsal, Request,
    Rng, Seat,
};
use super::registry::AlgorithmInfo;

pub(super) const INFO: AlgorithmInfo = AlgorithmInfo {
    name: "random",
    summary: "a host drawn by weight",
    keyed: false,
    options: &[],
    build,
};

fn build(options: &Options) -> Result<Box<dyn Algorithm>, BalancerError> {
    Ok(Box::new(Random {
        rng: Arc::new(Rng::new(options.given_seed())),
    }))
}

#[derive(Debug)]
struct Random {
    rng: Arc<Rng>,
}

#[derive(Debug)]
struct Draws {
    rng: Arc<Rng>,
    alias: Alias,
    seats: Arc<[Arc<Seat>]>,
}

impl Algorithm for Random {
    fn arrange(&self, seats: &Arc<[Arc<Seat>]>) -> Box<dyn Chooser> {
        Box::new(Draws {
            rng: Arc::clone(&self.rng),
            alias: Alias::new(seats),
            seats: Arc::clone(seats),
        })
    }
}

impl Choose for Draws {
    fn choose<M: Mode>(&self, request: &Request<'_>, mode: &M) -> Option<usize> {
        self.alias.draw(&self.rng, request, &self.seats, mode)
    }

    fn rank(&self, _: &Request<'_>, chosen: Option<usize>, rehearsal: &Rehearsal) {
        let others = 0..self.seats.len();
        for position in chosen.into_iter().chain(others) {
            rehearsal.ranks(position, None, Reason::NotDrawn);
        }
    }
}
