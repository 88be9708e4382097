//! Weighted random draws in constant time.

use std::sync::Arc;

use super::hosts::Hosts;
use super::member::Member;
use super::rng::{Rng, scale};
use super::trace::Trace;

/// Draws a position with a probability proportional to its weight, in constant time and 16 bytes a host.
///
/// Walker's alias method in Vose's construction (IEEE Trans. Softw. Eng. 17(9), 1991), in integers, so shares are exact
/// to the 2^-64 of the draw: each of the n columns holds W (the sum of weights) units, `keep` of them its own.
#[derive(Debug)]
pub(crate) struct AliasTable {
    columns: Columns,
    weights: Box<[u32]>,
}

#[derive(Debug)]
enum Columns {
    Equal(u64),
    Weighted {
        column: Box<[AliasColumn]>,
        total: u64,
    },
}

#[derive(Debug, Clone, Copy)]
struct AliasColumn {
    /// Units of the column that belong to its own position.
    keep: u64,
    /// The position that the rest belongs to.
    alias: u32,
}

/// Draws to try before the exact scan takes over, if not every host accepts the request.
const QUICK_DRAWS: usize = 4;

impl AliasTable {
    /// A table for `members`: at least one, each of a weight above 0.
    pub(crate) fn new(members: &[Arc<Member>]) -> Self {
        let weights: Box<[u32]> = members.iter().map(|member| member.weight).collect();
        let columns = if weights.iter().all(|&w| w == weights[0]) {
            Columns::Equal(weights.len() as u64)
        } else {
            vose(&weights)
        };
        AliasTable { columns, weights }
    }

    pub(crate) fn len(&self) -> usize {
        self.weights.len()
    }

    /// The weights by position.
    pub(crate) fn weights(&self) -> &[u32] {
        &self.weights
    }

    /// Whether all weights are the same.
    pub(crate) fn is_equal(&self) -> bool {
        matches!(self.columns, Columns::Equal(_))
    }

    /// The position for 64 uniform bits.
    pub(crate) fn at(&self, bits: u64) -> usize {
        match &self.columns {
            Columns::Equal(n) => scale(bits, *n).0 as usize,
            Columns::Weighted { column, total } => {
                let (position, rest) = scale(bits, column.len() as u64);
                let AliasColumn { keep, alias } = column[position as usize];
                if scale(rest, *total).0 < keep {
                    position as usize
                } else {
                    alias as usize
                }
            }
        }
    }

    /// Draws a position by weight among those that accept the request.
    #[inline]
    pub(crate) fn draw(&self, hosts: &Hosts<'_>, rng: &Rng<'_>, trace: Trace<'_>) -> Option<usize> {
        if hosts.accepts_any() {
            return Some(self.at(rng.bits()));
        }
        self.draw_among(hosts, rng, trace)
    }

    /// [`draw`](Self::draw) if not every host accepts the request. A separate function, to keep the usual draw small.
    #[cold]
    fn draw_among(&self, hosts: &Hosts<'_>, rng: &Rng<'_>, trace: Trace<'_>) -> Option<usize> {
        (0..QUICK_DRAWS)
            .map(|_| self.at(rng.bits()))
            .inspect(|&position| trace.visit(position))
            .find(|&position| hosts.accepts(position))
            .or_else(|| self.draw_from(rng, |position| hosts.accepts(position)))
    }

    /// Draws a position by weight among those for which `fits` holds, in linear time.
    #[cold]
    pub(crate) fn draw_from(&self, rng: &Rng<'_>, fits: impl Fn(usize) -> bool) -> Option<usize> {
        let weighted = || {
            (0..self.len())
                .filter(|&p| fits(p))
                .map(|p| (p, u64::from(self.weights[p])))
        };
        let total = weighted().map(|(_, weight)| weight).sum();
        let mut remaining = rng.below(total);
        weighted()
            .find(|&(_, weight)| {
                let here = remaining < weight;
                remaining = remaining.saturating_sub(weight);
                here
            })
            .map(|(position, _)| position)
    }
}

fn vose(weights: &[u32]) -> Columns {
    let n = weights.len() as u64;
    let total: u64 = weights.iter().map(|&w| u64::from(w)).sum();
    // In units of 1/(n·W), so that the mean column is exactly W. n·10,000 fits easily.
    let mut units: Vec<u64> = weights.iter().map(|&w| u64::from(w) * n).collect();
    let mut column: Vec<AliasColumn> = (0..weights.len())
        .map(|position| AliasColumn {
            keep: total,
            alias: position as u32,
        })
        .collect();
    let (mut small, mut large): (Vec<usize>, Vec<usize>) =
        (0..weights.len()).partition(|&position| units[position] < total);
    while let (Some(needy), Some(&donor)) = (small.pop(), large.last()) {
        column[needy] = AliasColumn {
            keep: units[needy],
            alias: donor as u32,
        };
        units[donor] -= total - units[needy];
        if units[donor] < total {
            large.pop();
            small.push(donor);
        }
    }
    Columns::Weighted {
        column: column.into(),
        total,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The units that each position owns, counted over the table.
    fn owned(weights: &[u32]) -> Vec<u64> {
        let mut owned = vec![0; weights.len()];
        match vose(weights) {
            Columns::Weighted { column, total } => {
                for (position, AliasColumn { keep, alias }) in column.iter().enumerate() {
                    owned[position] += keep;
                    owned[*alias as usize] += total - keep;
                }
            }
            Columns::Equal(_) => unreachable!("vose makes columns"),
        }
        owned
    }

    proptest::proptest! {
        #[test]
        fn a_position_owns_exactly_its_share(weights in proptest::collection::vec(1u32..=10_000, 1..200)) {
            let n = weights.len() as u64;
            let expected: Vec<u64> = weights.iter().map(|&w| u64::from(w) * n).collect();
            proptest::prop_assert_eq!(owned(&weights), expected);
        }
    }
}
