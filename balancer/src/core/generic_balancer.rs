//! The parts that every balancer shares: membership, the atomically swapped snapshot and counting.

mod explain;
mod select;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::cursor::Cursor;
use super::error::BalancerError;
use super::explanation::Explanation;
use super::host::{Host, HostId};
use super::lease::Lease;
use super::options::Options;
use super::picker::{Algorithm, DynPicker};
use super::pool_stats::PoolStats;
use super::rng::Rng;
use super::selection::Selection;
use super::slot::Slot;
use super::slow_start::SlowStartOptions;
use super::snapshot_cell::SnapshotCell;
use crate::Balancer;

/// The hosts of a balancer at one time, and how to pick one. It is never changed, only replaced as a whole, so list and
/// picker cannot disagree.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    /// All members by identity, including those of weight 0.
    by_id: HashMap<HostId, Arc<Slot>>,
    /// Members in the order of joining. A picker's positions count only members of a weight above 0.
    joined: Vec<Arc<Slot>>,
    /// `None` if no member can take requests.
    eligible: Option<EligibleHosts>,
}

/// The members of a weight above 0, and the picker for them.
#[derive(Debug)]
struct EligibleHosts {
    slots: Arc<[Arc<Slot>]>,
    picker: Box<dyn DynPicker>,
    /// Whether any host has a limit; if not, limits are not checked.
    limited: bool,
}

/// A balancer: members, and an algorithm that picks among them.
///
/// Readers load the snapshot, which takes no lock. Writers (`add_host`, `remove_host`) hold `departed` from reading the
/// old snapshot to storing the new one, so changes are applied one after the other and none is lost.
#[derive(Debug)]
pub(crate) struct GenericBalancer {
    algorithm: Box<dyn Algorithm>,
    pool_stats: Arc<PoolStats>,
    slow_start: Option<SlowStartOptions>,
    /// Decides whether a host in slow start keeps a request.
    rng: Rng,
    snapshot: SnapshotCell,
    /// Hosts that were removed with requests in flight, so that `done` still finds them.
    departed: Mutex<HashMap<HostId, Arc<Slot>>>,
}

impl GenericBalancer {
    pub(crate) fn new(
        algorithm: Box<dyn Algorithm>,
        options: &Options,
        hosts: impl IntoIterator<Item = Arc<Host>>,
    ) -> Result<Self, BalancerError> {
        let slow_start = options.configured_slow_start()?;
        let balancer = GenericBalancer {
            slow_start: slow_start.filter(|_| algorithm.starts_slowly()),
            algorithm,
            pool_stats: Arc::new(PoolStats::new(options.configured_clock().clone())),
            // A different sequence from the algorithm's, which would otherwise repeat each of its draws.
            rng: Rng::new(options.configured_seed().map(|seed| !seed)),
            snapshot: SnapshotCell::default(),
            departed: Mutex::default(),
        };
        let mut joined = Vec::new();
        let mut ids = HashSet::new();
        for host in hosts {
            if !ids.insert(host.id().clone()) {
                return Err(BalancerError::AlreadyAdded(host.id().clone()));
            }
            joined.push(balancer.slot(host));
        }
        balancer.publish(joined);
        balancer
            .snapshot
            .load()
            .joined
            .iter()
            .for_each(|slot| slot.on_join());
        Ok(balancer)
    }

    fn slot(&self, host: Arc<Host>) -> Arc<Slot> {
        let per_host_state = self.algorithm.per_host_state(&host);
        Arc::new(Slot::new(
            host,
            per_host_state,
            Arc::clone(&self.pool_stats),
        ))
    }

    fn member(&self, id: &HostId) -> Result<Arc<Slot>, BalancerError> {
        let slot = self
            .snapshot
            .read(|snapshot| snapshot.by_id.get(id).cloned());
        slot.ok_or_else(|| BalancerError::UnknownHost(id.clone()))
    }

    fn writer(&self) -> MutexGuard<'_, HashMap<HostId, Arc<Slot>>> {
        // A panic under the lock cannot leave half a change: the snapshot is stored in one step.
        self.departed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the number of hosts that were no members.
    fn add_all(&self, hosts: &[Arc<Host>]) -> usize {
        let mut departed = self.writer();
        let old = self.snapshot.load();
        let mut added = Vec::with_capacity(hosts.len());
        let mut ids = HashSet::with_capacity(hosts.len());
        for host in hosts {
            if !old.by_id.contains_key(host.id()) && ids.insert(host.id()) {
                departed.remove(host.id());
                added.push(self.slot(Arc::clone(host)));
            }
        }
        if !added.is_empty() {
            self.publish(old.joined.iter().chain(&added).cloned().collect());
            added.iter().for_each(|slot| slot.on_join());
        }
        added.len()
    }

    /// Returns the number of hosts that were members.
    fn remove_all(&self, ids: &[HostId]) -> usize {
        let mut departed = self.writer();
        let old = self.snapshot.load();
        let ids: HashSet<_> = ids.iter().collect();
        let leaves = |slot: &&Arc<Slot>| ids.contains(slot.host.id());
        let removed = Vec::from_iter(old.joined.iter().filter(leaves));
        if !removed.is_empty() {
            removed.iter().for_each(|slot| slot.on_leave());
            let joined = old.joined.iter().filter(|slot| !leaves(slot));
            self.publish(joined.cloned().collect());
            departed.retain(|_, slot| slot.host.in_flight() > 0);
            let removed = removed.iter();
            departed.extend(removed.map(|slot| (slot.host.id().clone(), Arc::clone(slot))));
        }
        removed.len()
    }

    fn publish(&self, joined: Vec<Arc<Slot>>) {
        let slots: Arc<[Arc<Slot>]> = joined
            .iter()
            .filter(|slot| slot.host.weight() > 0)
            .cloned()
            .collect();
        let eligible = (!slots.is_empty()).then(|| EligibleHosts {
            picker: self.algorithm.build_picker(&slots),
            limited: slots.iter().any(|slot| slot.limit() != u64::MAX),
            slots,
        });
        self.snapshot.publish(Snapshot {
            by_id: joined
                .iter()
                .map(|slot| (slot.host.id().clone(), Arc::clone(slot)))
                .collect(),
            joined,
            eligible,
        });
    }
}

impl Balancer for GenericBalancer {
    fn add_host(&self, host: Arc<Host>) -> Result<(), BalancerError> {
        match self.add_all(std::slice::from_ref(&host)) {
            0 => Err(BalancerError::AlreadyAdded(host.id().clone())),
            _ => Ok(()),
        }
    }

    fn add_hosts(&self, hosts: &[Arc<Host>]) {
        self.add_all(hosts);
    }

    fn remove_host(&self, id: &HostId) -> Result<(), BalancerError> {
        match self.remove_all(std::slice::from_ref(id)) {
            0 => Err(BalancerError::UnknownHost(id.clone())),
            _ => Ok(()),
        }
    }

    fn remove_hosts(&self, ids: &[HostId]) {
        self.remove_all(ids);
    }

    fn balance_host(&self, request: &Selection<'_>) -> Result<Arc<Host>, BalancerError> {
        let slot = self.select(
            request,
            |eligible, request| eligible.picker.dyn_pick(request),
            |_| true,
        )?;
        Ok(Arc::clone(&slot.host))
    }

    fn inc(&self, id: &HostId) -> Result<(), BalancerError> {
        self.member(id)?.acquire();
        Ok(())
    }

    fn done(&self, id: &HostId) -> Result<(), BalancerError> {
        if let Some(slot) = self.snapshot.load().by_id.get(id) {
            slot.release();
            return Ok(());
        }
        match self.writer().get(id) {
            Some(slot) => {
                slot.release();
                Ok(())
            }
            None => Err(BalancerError::UnknownHost(id.clone())),
        }
    }

    fn lease(&self, request: &Selection<'_>) -> Result<Lease, BalancerError> {
        let slot = self.select(
            request,
            |eligible, request| eligible.picker.dyn_pick_and_count(request, &eligible.slots),
            Slot::try_acquire,
        )?;
        Ok(Lease::counted(slot))
    }

    fn lease_of(&self, id: &HostId) -> Result<Lease, BalancerError> {
        let slot = self.member(id)?;
        if slot.try_acquire() {
            Ok(Lease::counted(slot))
        } else {
            Err(BalancerError::Busy)
        }
    }

    fn explain(&self, request: &Selection<'_>) -> Explanation {
        self.explanation(request)
    }

    fn begin_slow_start(&self, id: &HostId, elapsed: Duration) -> Result<(), BalancerError> {
        let slot = self.member(id)?;
        if let Some(start) = self.slow_start {
            let end = start.end(self.pool_stats.now(), elapsed).unwrap_or(0);
            slot.ramp_until(end);
            self.pool_stats.ramp_until(end);
        }
        Ok(())
    }

    fn slow_start_elapsed(&self, id: &HostId) -> Option<Duration> {
        let slot = self.member(id).ok()?;
        let start = self.slow_start.as_ref()?;
        start.elapsed(self.pool_stats.now(), slot.ramp())
    }

    fn cursor(&self) -> Option<Cursor> {
        let _writer = self.writer();
        self.algorithm.cursor()
    }

    fn seek(&self, cursor: &Cursor) {
        let _writer = self.writer();
        self.algorithm.seek(cursor);
        self.publish(self.snapshot.load().joined.clone());
    }
}
