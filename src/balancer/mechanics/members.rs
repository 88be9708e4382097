//! Membership, the atomically swapped snapshot and counting: what every balancer shares.

mod choice;
mod explain;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::chooser::{Algorithm, Chooser};
use super::conditions::Conditions;
use super::error::BalancerError;
use super::explanation::Explanation;
use super::host::{Host, HostId};
use super::lease::Lease;
use super::options::Options;
use super::published::Published;
use super::rng::Rng;
use super::seat::Seat;
use super::selection::Selection;
use super::slow_start::SlowStart;
use super::turn::Turn;
use crate::balancer::Balancer;

/// The hosts of a balancer at one moment and how to choose among them. Never changed, only replaced as a whole, so
/// list and chooser cannot disagree.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    /// Every member by identity, those of weight 0 included.
    by_id: HashMap<HostId, Arc<Seat>>,
    /// Members in the order of joining; a chooser's positions count only those of weight above 0.
    joined: Vec<Arc<Seat>>,
    /// Present unless no member can take requests.
    choice: Option<Choice>,
}

#[derive(Debug)]
struct Choice {
    seats: Arc<[Arc<Seat>]>,
    chooser: Box<dyn Chooser>,
    /// Whether a host has a limit; if not, none needs to be looked at.
    limited: bool,
}

/// A balancer: members, and an algorithm that chooses among them.
///
/// Readers load the snapshot, which takes no lock. Writers (`add_host`, `remove_host`) hold `departed` from reading the
/// old snapshot to storing the new one, so changes are applied one after the other and none is lost.
#[derive(Debug)]
pub(crate) struct Members {
    algorithm: Box<dyn Algorithm>,
    conditions: Arc<Conditions>,
    slow_start: Option<SlowStart>,
    /// For holding back hosts that start slowly.
    rng: Rng,
    snapshot: Published,
    /// Hosts that left while requests ran on them, so that `done` still finds them.
    departed: Mutex<HashMap<HostId, Arc<Seat>>>,
}

impl Members {
    pub(crate) fn new(
        algorithm: Box<dyn Algorithm>,
        options: &Options,
        hosts: impl IntoIterator<Item = Arc<Host>>,
    ) -> Result<Self, BalancerError> {
        let slow_start = options.given_slow_start()?;
        let members = Members {
            slow_start: slow_start.filter(|_| algorithm.starts_slowly()),
            algorithm,
            conditions: Arc::new(Conditions::new(options.given_clock().clone())),
            // Another sequence than the algorithm's, which would otherwise repeat each of its draws.
            rng: Rng::new(options.given_seed().map(|seed| !seed)),
            snapshot: Published::default(),
            departed: Mutex::default(),
        };
        let mut joined = Vec::new();
        let mut ids = std::collections::HashSet::new();
        for host in hosts {
            if !ids.insert(host.id().clone()) {
                return Err(BalancerError::AlreadyAdded(host.id().clone()));
            }
            joined.push(members.seat(host));
        }
        members.publish(joined);
        members
            .snapshot
            .load()
            .joined
            .iter()
            .for_each(|seat| seat.joined());
        Ok(members)
    }

    fn seat(&self, host: Arc<Host>) -> Arc<Seat> {
        let ledger = self.algorithm.ledger(&host);
        Arc::new(Seat::new(host, ledger, Arc::clone(&self.conditions)))
    }

    fn member(&self, id: &HostId) -> Result<Arc<Seat>, BalancerError> {
        let seat = self
            .snapshot
            .read(|snapshot| snapshot.by_id.get(id).cloned());
        seat.ok_or_else(|| BalancerError::UnknownHost(id.clone()))
    }

    fn writer(&self) -> MutexGuard<'_, HashMap<HostId, Arc<Seat>>> {
        // A panic while the lock was held cannot have left half a change: the snapshot is stored in one step.
        self.departed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self, joined: Vec<Arc<Seat>>) {
        let seats: Arc<[Arc<Seat>]> = joined
            .iter()
            .filter(|seat| seat.host.weight() > 0)
            .cloned()
            .collect();
        let choice = (!seats.is_empty()).then(|| Choice {
            chooser: self.algorithm.arrange(&seats),
            limited: seats.iter().any(|seat| seat.limit() != u64::MAX),
            seats,
        });
        self.snapshot.publish(Snapshot {
            by_id: joined
                .iter()
                .map(|seat| (seat.host.id().clone(), Arc::clone(seat)))
                .collect(),
            joined,
            choice,
        });
    }
}

impl Balancer for Members {
    fn add_host(&self, host: Arc<Host>) -> Result<(), BalancerError> {
        let mut departed = self.writer();
        let old = self.snapshot.load();
        if old.by_id.contains_key(host.id()) {
            return Err(BalancerError::AlreadyAdded(host.id().clone()));
        }
        departed.remove(host.id());
        let newcomer = self.seat(host);
        let mut joined = old.joined.clone();
        joined.push(Arc::clone(&newcomer));
        self.publish(joined);
        newcomer.joined();
        Ok(())
    }

    fn remove_host(&self, id: &HostId) -> Result<(), BalancerError> {
        let mut departed = self.writer();
        let old = self.snapshot.load();
        let Some(leaver) = old.by_id.get(id) else {
            return Err(BalancerError::UnknownHost(id.clone()));
        };
        leaver.left();
        let joined = old.joined.iter().filter(|seat| seat.host.id() != id);
        self.publish(joined.cloned().collect());
        departed.retain(|_, seat| seat.host.in_flight() > 0);
        departed.insert(id.clone(), Arc::clone(leaver));
        Ok(())
    }

    fn balance_host(&self, request: &Selection<'_>) -> Result<Arc<Host>, BalancerError> {
        let seat = self.choose(
            request,
            |choice, request| choice.chooser.pick(request),
            |_| true,
        )?;
        Ok(Arc::clone(&seat.host))
    }

    fn inc(&self, id: &HostId) -> Result<(), BalancerError> {
        self.member(id)?.take();
        Ok(())
    }

    fn done(&self, id: &HostId) -> Result<(), BalancerError> {
        if let Some(seat) = self.snapshot.load().by_id.get(id) {
            seat.release();
            return Ok(());
        }
        match self.writer().get(id) {
            Some(seat) => {
                seat.release();
                Ok(())
            }
            None => Err(BalancerError::UnknownHost(id.clone())),
        }
    }

    fn lease(&self, request: &Selection<'_>) -> Result<Lease, BalancerError> {
        let seat = self.choose(
            request,
            |choice, request| choice.chooser.pick_and_count(request, &choice.seats),
            Seat::take_if_room,
        )?;
        Ok(Lease::counted(seat))
    }

    fn lease_of(&self, id: &HostId) -> Result<Lease, BalancerError> {
        let seat = self.member(id)?;
        if seat.take_if_room() {
            Ok(Lease::counted(seat))
        } else {
            Err(BalancerError::Busy)
        }
    }

    fn explain(&self, request: &Selection<'_>) -> Explanation {
        self.explanation(request)
    }

    fn ramp(&self, id: &HostId, elapsed: Duration) -> Result<(), BalancerError> {
        let seat = self.member(id)?;
        if let Some(start) = self.slow_start {
            let end = start.end(self.conditions.now(), elapsed).unwrap_or(0);
            seat.ramp_until(end);
            self.conditions.ramp_until(end);
        }
        Ok(())
    }

    fn ramping(&self, id: &HostId) -> Option<Duration> {
        let seat = self.member(id).ok()?;
        let start = self.slow_start.as_ref()?;
        start.elapsed(self.conditions.now(), seat.ramp())
    }

    fn turn(&self) -> Option<Turn> {
        let _writer = self.writer();
        self.algorithm.turn()
    }

    fn resume(&self, turn: &Turn) {
        let _writer = self.writer();
        self.algorithm.resume(turn);
        self.publish(self.snapshot.load().joined.clone());
    }
}
