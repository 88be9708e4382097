//! How many keys get another server when the hosts, the weights or the algorithm of a balancer change.
//!
//! A server is known by its address here: a key that stays on a host whose address has changed has moved, and one whose
//! host is only spelled differently has not.

use std::collections::HashMap;

use std::sync::Arc;

use crate::{Algorithm, Balancer, BalancerError, Host, HostAddress, Options, Selection};

/// Two balancers with the same keys, and how many of the keys that were sampled get another server from the second one.
///
/// The standard error of the share of n samples is at most 0.5 / √n: half a percent for 10,000.
#[derive(Debug)]
pub struct KeyMovement {
    before: Balancer,
    after: Balancer,
    minimum: f64,
    sampled: u64,
    moved: u64,
}

/// Hosts with an algorithm and its options.
#[derive(Debug, Clone, Copy)]
pub struct KeyMapping<'a> {
    /// The algorithm.
    pub algorithm: &'a Algorithm,
    /// The identity, the address and the weight of each host.
    pub hosts: &'a [(&'a str, HostAddress, u32)],
}

impl KeyMovement {
    /// Builds both balancers, of hosts that have nothing in flight and no limits.
    ///
    /// # Errors
    /// Those of [`Balancer::new`], and [`BalancerError::WeightOutOfRange`].
    pub fn new(before: KeyMapping<'_>, after: KeyMapping<'_>) -> Result<Self, BalancerError> {
        Ok(KeyMovement {
            minimum: minimum(before.hosts, after.hosts),
            before: before.build()?,
            after: after.build()?,
            sampled: 0,
            moved: 0,
        })
    }

    /// Samples one key. The same request may have another key for the second balancer.
    ///
    /// # Errors
    /// [`BalancerError::NoHosts`] if one of the two has no host of a weight above 0.
    pub fn sample(
        &mut self,
        before: &Selection<'_>,
        after: &Selection<'_>,
    ) -> Result<(), BalancerError> {
        let old = self.before.balance_host(before)?;
        let new = self.after.balance_host(after)?;
        self.sampled += 1;
        self.moved += u64::from(old.address() != new.address());
        Ok(())
    }

    /// The number of keys sampled so far.
    pub fn sampled(&self) -> u64 {
        self.sampled
    }

    /// The share of the sampled keys that move, from 0 to 1; 0 before the first sample.
    pub fn moved(&self) -> f64 {
        match self.sampled {
            0 => 0.0,
            sampled => self.moved as f64 / sampled as f64,
        }
    }

    /// The least share of the keys, from 0 to 1, that must move if each server has exactly its share by weight, before and
    /// after: Σ max(0, share before − share after). An algorithm whose shares are uneven, such as a ring, may move somewhat
    /// less.
    pub fn minimum(&self) -> f64 {
        self.minimum
    }
}

impl KeyMapping<'_> {
    fn build(&self) -> Result<Balancer, BalancerError> {
        let hosts = self.hosts.iter().map(|(id, address, weight)| {
            let host = Host::named(*id, address.clone()).with_weight(*weight)?;
            Ok(Arc::new(host))
        });
        let hosts = hosts.collect::<Result<Vec<_>, BalancerError>>()?;
        Balancer::new(self.algorithm.clone(), hosts, &Options::new())
    }
}

fn minimum(before: &[(&str, HostAddress, u32)], after: &[(&str, HostAddress, u32)]) -> f64 {
    let (before, after) = (shares(before), shares(after));
    let excess = before.iter().map(|(address, share)| {
        let remaining = after.get(address).copied().unwrap_or(0.0);
        (share - remaining).max(0.0)
    });
    excess.sum()
}

/// The share of each server by weight; none if all weights are 0.
fn shares(hosts: &[(&str, HostAddress, u32)]) -> HashMap<HostAddress, f64> {
    let total: f64 = hosts.iter().map(|&(_, _, weight)| f64::from(weight)).sum();
    let mut shares = HashMap::new();
    for (_, address, weight) in hosts.iter().filter(|(_, _, weight)| *weight > 0) {
        *shares.entry(address.clone()).or_insert(0.0) += f64::from(*weight) / total;
    }
    shares
}

#[cfg(test)]
mod tests;
