//! Random: each request goes to a host drawn by weight.
//!
//! **Cost.** One draw and one table look-up (Walker's alias method), at any number of hosts. No shared state, so
//! threads never wait for each other.
//!
//! **Bound.** Host i gets the share w_i/W. With m requests on n hosts the busiest has m/n + √(2(m/n) ln n) for large m
//! (Raab and Steger, "Balls into Bins", 1998): at n = 10 and m = 1,000 about 116 instead of 100.
//!
//! **When.** Many balancers share the hosts and do not know of each other, or all requests cost the same. **When not.**
//! This process sees most of the traffic: [`p2c`](super::p2c) is as cheap, and its gap does not grow with m.

use std::sync::Arc;

use super::core::{
    Algorithm, AliasTable, BalancerError, CandidateReason, DryRun, DynPicker, Options, PickRequest,
    PickTrace, Picker, Rng, Slot,
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
        rng: Arc::new(Rng::new(options.configured_seed())),
    }))
}

#[derive(Debug)]
struct Random {
    rng: Arc<Rng>,
}

#[derive(Debug)]
struct RandomPicker {
    rng: Arc<Rng>,
    alias: AliasTable,
    slots: Arc<[Arc<Slot>]>,
}

impl Algorithm for Random {
    fn build_picker(&self, slots: &Arc<[Arc<Slot>]>) -> Box<dyn DynPicker> {
        Box::new(RandomPicker {
            rng: Arc::clone(&self.rng),
            alias: AliasTable::new(slots),
            slots: Arc::clone(slots),
        })
    }
}

impl Picker for RandomPicker {
    fn pick<T: PickTrace>(&self, request: &PickRequest<'_>, trace: &T) -> Option<usize> {
        self.alias.draw(&self.rng, request, &self.slots, trace)
    }

    fn rank(&self, _: &PickRequest<'_>, chosen: Option<usize>, dry_run: &DryRun) {
        let others = 0..self.slots.len();
        for position in chosen.into_iter().chain(others) {
            dry_run.rank(position, None, CandidateReason::NotDrawn);
        }
    }
}
