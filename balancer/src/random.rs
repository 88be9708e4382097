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

use crate::core::{
    AliasTable, Before, Hashed, Hosts, Info, Member, Pick, Picker, Rng, Strategy, Trace,
};

/// The algorithm `random`. It has no options.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct Random {}

impl Random {
    pub(crate) const INFO: Info = Info {
        name: "random",
        summary: "a host drawn by weight",
        hashes: Hashed::Nothing,
        options: &[],
    };
}

impl Strategy for Random {
    fn build(&self, members: &[Arc<Member>], _: Option<&Before<'_>>) -> Box<dyn Picker> {
        Box::new(RandomPicker(AliasTable::new(members)))
    }
}

#[derive(Debug)]
struct RandomPicker(AliasTable);

impl Picker for RandomPicker {
    fn pick(&self, hosts: &Hosts<'_>, rng: &Rng<'_>, trace: Trace<'_>) -> Option<Pick> {
        self.0.draw(hosts, rng, trace).map(Pick::at)
    }
}
