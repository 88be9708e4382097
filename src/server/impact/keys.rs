//! The share of keys that get another server, sampled with the balancers of before and after.
//!
//! Hosts count as healthy whatever their checks say now: an outage is not what a reload changes, and it ends by itself.
//! Hosts that an operator drains count as drained for as long as the drain holds. Loads and limits of hosts do not count:
//! they move single requests, not keys.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use super::hosts::by_id;
use super::pools::{PoolPair, hosts_of};
use crate::address_text::AddressText;
use crate::admin::KeyPlan;
use crate::config::{Algorithm, Host, KeySource};
use ballast_balancer::{HostAddress, KeyMapping, KeyMovement, Selection};

/// Keys that are sampled for each pool. The standard error of the share is half a percent at most.
const SAMPLES: u64 = 10_000;

/// Keys between two looks at the clock; at least so many are sampled.
const BATCH: u64 = 256;

/// The time for all pools together, but for the balancers and the first [`BATCH`] of each pool. Most pools take
/// milliseconds; with `ip_hash`, which scores every host for every key, one of 10,000 hosts takes longer.
const TIME_LIMIT: Duration = Duration::from_secs(2);

/// The time that is left for sampling, shared fairly by the pools that are left.
#[derive(Debug)]
pub(super) struct KeyBudget {
    deadline: Instant,
    pools: u32,
}

impl KeyBudget {
    pub(super) fn for_pools(pools: usize, now: Instant) -> Self {
        KeyBudget {
            deadline: now + TIME_LIMIT,
            pools: u32::try_from(pools).unwrap_or(u32::MAX),
        }
    }

    /// When the sampling of the next pool has to end.
    pub(super) fn next_pool(&mut self, now: Instant) -> Instant {
        let share = self.deadline.saturating_duration_since(now) / self.pools.max(1);
        self.pools = self.pools.saturating_sub(1);
        now + share
    }
}

/// What becomes of the keys of a pool. Sampling ends at `deadline`.
pub(super) fn key_plan(pair: &PoolPair<'_>, deadline: Instant) -> KeyPlan {
    let is_bound = |algorithm: &Algorithm| algorithm.info().hashes();
    let plan = KeyPlan {
        bound_before: is_bound(&pair.before.algorithm),
        bound_after: is_bound(&pair.after.algorithm),
        sampled: 0,
        moved: None,
        minimum: None,
    };
    let movement = match plan.bound_before && plan.bound_after {
        true => measure(pair, deadline),
        false => None,
    };
    KeyPlan {
        sampled: movement.as_ref().map_or(0, KeyMovement::sampled),
        moved: movement.as_ref().map(KeyMovement::moved),
        minimum: movement.as_ref().map(KeyMovement::minimum),
        ..plan
    }
}

/// Samples keys. `None`: before or after there is no host.
fn measure(pair: &PoolPair<'_>, deadline: Instant) -> Option<KeyMovement> {
    let known = by_id(hosts_of(pair.before));
    let old = serving(hosts_of(pair.before), |host| pair.is_out(host));
    let new = serving(hosts_of(pair.after), |host| match known.get(&host.id) {
        Some(old) => pair.stays_out(old, host),
        None => host.weight == 0,
    });
    let mut movement = KeyMovement::new(
        mapping(&pair.before.algorithm, &old),
        mapping(&pair.after.algorithm, &new),
    )
    .ok()?;
    let [before, after] = [pair.before, pair.after].map(|pool| &pool.algorithm.key);
    for number in 0..SAMPLES {
        if number > 0 && number % BATCH == 0 && Instant::now() >= deadline {
            break;
        }
        let sample = Sample::new(number);
        let (old, new) = (sample.key(before), sample.key(after));
        let selection = Selection::new().client(sample.client);
        movement
            .sample(&selection.key(&old), &selection.key(&new))
            .ok()?;
    }
    Some(movement)
}

fn mapping<'a>(
    algorithm: &'a Algorithm,
    hosts: &'a [(&'a str, HostAddress, u32)],
) -> KeyMapping<'a> {
    KeyMapping {
        algorithm: &algorithm.typed,
        hosts,
    }
}

/// The hosts of the first tier that has any: primary hosts, then backups, then those that are out.
fn serving(hosts: &[Host], is_out: impl Fn(&Host) -> bool) -> Vec<(&str, HostAddress, u32)> {
    let tier = |host: &Host| {
        let is_out = is_out(host);
        (is_out, !is_out && host.backup)
    };
    let first = hosts.iter().map(tier).min();
    let serving = hosts.iter().filter(|host| Some(tier(host)) == first);
    let served = serving.map(|host| (host.id.as_str(), host.address.clone(), host.weight.max(1)));
    served.collect()
}

/// One of the requests that are sampled. All that may be hashed of it is independent of each other.
#[derive(Debug)]
struct Sample {
    number: u64,
    client: IpAddr,
}

impl Sample {
    fn new(number: u64) -> Self {
        let number = mix(number);
        // The upper half, so that it tells nothing of the keys that are made of the whole number.
        let client = Ipv4Addr::from((mix(number) >> 32) as u32);
        Sample {
            number,
            client: client.into(),
        }
    }

    /// What is hashed of it.
    fn key(&self, source: &KeySource) -> Vec<u8> {
        match source {
            KeySource::ClientIp => AddressText::new(self.client).as_bytes().to_vec(),
            other => format!("{other} {:016x}", self.number).into_bytes(),
        }
    }
}

/// A permutation of 64-bit numbers that spreads small ones over all: the finalizer of SplitMix64.
fn mix(number: u64) -> u64 {
    let mut bits = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}
