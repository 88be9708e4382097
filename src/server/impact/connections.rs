//! Which connections of clients a reload ends.

use super::Comparison;
use crate::admin::{ConnectionPlan, RemovedListener};

pub(super) fn connection_plan(comparison: &Comparison<'_>) -> ConnectionPlan {
    let Comparison {
        before,
        after,
        changes,
        live,
    } = comparison;
    // The process ends once its successor serves, and its connections with it. In place none ends.
    if changes.in_new_process.is_empty() {
        return ConnectionPlan::default();
    }
    let mut removed = Vec::from_iter(before.listeners.iter().map(|listener| &listener.address));
    removed.retain(|address| {
        let mut listeners = after.listeners.iter();
        !listeners.any(|listener| listener.address == **address)
    });
    let removed_listeners = removed.into_iter().map(|address| RemovedListener {
        address: address.to_string(),
        open: live.map(|live| live.connections.of_listener(address)),
    });
    // The drain of this process is bounded by its own grace period, not by that of the new file.
    let grace_period = before.server.grace_period.as_millis();
    ConnectionPlan {
        all_end: true,
        grace_period_ms: Some(u64::try_from(grace_period).unwrap_or(u64::MAX)),
        open: live.map(|live| live.connections.open()),
        in_flight: live.map(|live| live.traffic.present()),
        tunnels: live.map(|live| live.traffic.tunnels()),
        removed_listeners: removed_listeners.collect(),
    }
}
