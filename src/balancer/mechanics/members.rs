//! Membership, the atomically swapped snapshot and counting: what every balancer shares.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::chooser::{Algorithm, Chooser};
use super::clock::Clock;
use super::error::BalancerError;
use super::host::{Host, HostId};
use super::lease::Lease;
use super::published::Published;
use super::seat::Seat;
use super::selection::Selection;
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
}

/// A balancer: members, and an algorithm that chooses among them.
///
/// Readers load the snapshot, which takes no lock. Writers (`add_host`, `remove_host`) hold `departed` from reading the
/// old snapshot to storing the new one, so changes are applied one after the other and none is lost.
#[derive(Debug)]
pub(crate) struct Members {
    algorithm: Box<dyn Algorithm>,
    clock: Clock,
    snapshot: Published,
    /// Hosts that left while requests ran on them, so that `done` still finds them.
    departed: Mutex<HashMap<HostId, Arc<Seat>>>,
}

impl Members {
    pub(crate) fn new(
        algorithm: Box<dyn Algorithm>,
        clock: Clock,
        hosts: impl IntoIterator<Item = Arc<Host>>,
    ) -> Result<Self, BalancerError> {
        let members = Members {
            algorithm,
            clock,
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
        Arc::new(Seat::new(host, ledger, self.clock.clone()))
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

    /// Chooses by `choose` and returns what sits there.
    fn choose(
        &self,
        request: &Selection<'_>,
        choose: impl Fn(&Choice, &Selection<'_>) -> Option<usize>,
    ) -> Result<Arc<Seat>, BalancerError> {
        loop {
            let chosen = self.snapshot.read(|snapshot| {
                let choice = snapshot.choice.as_ref().ok_or(BalancerError::NoHosts)?;
                let untried = snapshot.leaves_another(request);
                let request = if untried {
                    *request
                } else {
                    request.tried(&[])
                };
                let position = choose(choice, &request);
                Ok(position.map(|position| Arc::clone(&choice.seats[position])))
            });
            match chosen {
                Ok(Some(seat)) => return Ok(seat),
                // The chooser saw every host leave: a newer snapshot is there or will be in a moment.
                Ok(None) => std::hint::spin_loop(),
                Err(error) => return Err(error),
            }
        }
    }
}

impl Snapshot {
    /// Whether a host that can take requests is left that `request` has not tried.
    fn leaves_another(&self, request: &Selection<'_>) -> bool {
        let tried = request.tried_hosts();
        if tried.is_empty() {
            return true;
        }
        let here = tried
            .iter()
            .enumerate()
            .filter(|&(i, id)| !tried[..i].contains(id))
            .filter(|(_, id)| self.by_id.get(*id).is_some_and(|s| s.host.weight() > 0))
            .count();
        self.choice.as_ref().is_some_and(|c| here < c.seats.len())
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
        let seat = self.choose(request, |choice, request| choice.chooser.pick(request))?;
        Ok(Arc::clone(&seat.host))
    }

    fn inc(&self, id: &HostId) -> Result<(), BalancerError> {
        match self.snapshot.load().by_id.get(id) {
            Some(seat) => {
                seat.take();
                Ok(())
            }
            None => Err(BalancerError::UnknownHost(id.clone())),
        }
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
        let seat = self.choose(request, |choice, request| {
            choice.chooser.pick_and_count(request, &choice.seats)
        })?;
        Ok(Lease::counted(seat))
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
