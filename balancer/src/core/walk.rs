//! Algorithms in which the key determines an order of the hosts: the first that accepts the request gets it.

use std::fmt::Debug;

use super::explanation::CandidateReason;
use super::hosts::Hosts;
use super::pick::{Pick, Picker};
use super::rng::Rng;
use super::trace::{Ranked, Trace};

/// Steps to take before checking whether any host fits: a whole walk may be a hundred times as long as the list of hosts.
const SHORT_WALK: usize = 256;

/// An order of the hosts for each key.
pub(crate) trait Walk: Debug + Send + Sync + 'static {
    /// The positions in the order of `key`, each any number of times.
    fn walk(&self, key: &[u8]) -> impl Iterator<Item = usize>;
}

/// Picks the first host that accepts the request.
#[derive(Debug)]
pub(crate) struct WalkPicker<W>(pub(crate) W);

impl<W: Walk> Picker for WalkPicker<W> {
    fn pick(&self, hosts: &Hosts<'_>, _: &Rng<'_>, trace: Trace<'_>) -> Option<Pick> {
        let walk = self.0.walk(hosts.key()?);
        let mut walk = walk.inspect(|&position| trace.visit(position));
        if hosts.accepts_any() {
            return walk.next().map(Pick::at);
        }
        let fits = |position: &usize| hosts.accepts(*position);
        let position = walk.by_ref().take(SHORT_WALK).find(fits);
        let position = position.or_else(|| {
            let any = (0..hosts.len()).find(fits)?;
            // A walk may leave out hosts of hardly any weight.
            walk.find(fits).or(Some(any))
        });
        position.map(Pick::at)
    }

    fn rank(&self, hosts: &Hosts<'_>, _: u64, _: Option<usize>) -> Vec<Ranked> {
        let walk = self.0.walk(hosts.key().unwrap_or_default());
        let order = distinct(walk, hosts.len()).into_iter();
        order
            .map(|position| Ranked::new(position, None, CandidateReason::Ring))
            .collect()
    }

    fn has_key(&self, hosts: &Hosts<'_>) -> bool {
        hosts.key().is_some()
    }
}

/// The positions of a walk in the order of their first appearance, at most `len`.
pub(crate) fn distinct(walk: impl Iterator<Item = usize>, len: usize) -> Vec<usize> {
    let mut is_seen = vec![false; len];
    let first = walk.filter(|&position| !std::mem::replace(&mut is_seen[position], true));
    first.take(len).collect()
}
