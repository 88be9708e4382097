//! What a reload does to the hosts of a pool that stays.

use std::collections::HashMap;

use super::pools::{PoolPair, hosts_of};
use crate::admin::{HostPlan, PlannedHost};
use crate::config::Host;
use crate::engine::Engine;
use crate::pool::{Member, Pool};
use ballast_balancer::HostId;

/// The hosts that come or change, in the order of the file, and then those that go.
pub(super) fn host_plans(pair: &PoolPair<'_>) -> Vec<HostPlan> {
    let (before, after) = (by_id(hosts_of(pair.before)), by_id(hosts_of(pair.after)));
    let coming = hosts_of(pair.after).iter().filter_map(|host| {
        match before.get(&host.id) {
            // A host of another address is another server.
            Some(old) if old.address == host.address => changed(pair, old, host),
            old => {
                let replaced = old.map(|old| removed(old, pair.live));
                Some(HostPlan {
                    after: Some(planned(host)),
                    starts_slowly: starts_slowly(pair, host),
                    ..replaced.unwrap_or_else(|| added(host))
                })
            }
        }
    });
    let going = hosts_of(pair.before)
        .iter()
        .filter(|host| !after.contains_key(&host.id));
    coming
        .chain(going.map(|host| removed(host, pair.live)))
        .collect()
}

/// A host that is new, in a pool that is.
pub(super) fn added(host: &Host) -> HostPlan {
    HostPlan {
        host: host.id.to_string(),
        before: None,
        after: Some(planned(host)),
        loses_state: false,
        starts_slowly: false,
        in_flight: None,
        kept_connections: None,
    }
}

/// A host that goes.
pub(super) fn removed(host: &Host, live: Option<&Pool>) -> HostPlan {
    let member = live.and_then(|pool| pool.member(&host.id));
    HostPlan {
        before: Some(planned(host)),
        after: None,
        loses_state: true,
        in_flight: member.map(|member| member.host().in_flight()),
        kept_connections: member
            .map(|member| Engine::idle_connections_to(member.peer()))
            .and_then(|count| u64::try_from(count).ok()),
        ..added(host)
    }
}

/// A server that stays; `None`: nothing changes.
fn changed(pair: &PoolPair<'_>, old: &Host, new: &Host) -> Option<HostPlan> {
    let (before, after) = (planned(old), planned(new));
    let returns = pair.is_out(old) && !pair.stays_out(old, new);
    (before != after || returns).then(|| HostPlan {
        before: Some(before),
        starts_slowly: returns && starts_slowly(pair, new),
        ..added(new)
    })
}

/// Whether a host that begins to serve would come to its share slowly.
fn starts_slowly(pair: &PoolPair<'_>, host: &Host) -> bool {
    let pool = pair.after;
    pool.slow_start.is_some() && !pool.algorithm.info().hashes() && host.weight > 0
}

fn planned(host: &Host) -> PlannedHost {
    PlannedHost {
        address: host.address.to_string(),
        weight: host.weight,
        backup: host.backup,
    }
}

/// Hosts by identity.
pub(super) fn by_id(hosts: &[Host]) -> HashMap<&HostId, &Host> {
    hosts.iter().map(|host| (&host.id, host)).collect()
}

impl PoolPair<'_> {
    /// Whether a host of the pool before gets requests only as the last resort, by its weight or by an operator.
    pub(super) fn is_out(&self, host: &Host) -> bool {
        host.weight == 0 || self.is_drained(host)
    }

    /// Whether a host of the pool after does, that was `old` in the pool before.
    pub(super) fn stays_out(&self, old: &Host, new: &Host) -> bool {
        // As the pool does it: an operator's drain holds until the host's weight is edited in the file.
        let is_edited = new
            .file_weight
            .is_some_and(|now| old.file_weight != Some(now));
        new.weight == 0 || (old.address == new.address && !is_edited && self.is_drained(old))
    }

    fn is_drained(&self, host: &Host) -> bool {
        let member = self.live.and_then(|pool| pool.member(&host.id));
        member.is_some_and(Member::is_drained)
    }
}
