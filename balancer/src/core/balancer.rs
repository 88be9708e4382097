//! The balancer: its members, and an algorithm that picks among them.

mod explain;
mod membership;
mod select;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::cursor::Cursor;
use super::error::BalancerError;
use super::explanation::Explanation;
use super::host::{Host, HostId};
use super::joining::Joining;
use super::lease::Lease;
use super::member::Member;
use super::options::Options;
use super::pick::Mark;
use super::pool_stats::PoolStats;
use super::rng::Sequence;
use super::selection::Selection;
use super::slow_start::SlowStartOptions;
use super::snapshot_cell::SnapshotCell;
use crate::Algorithm;
use membership::Departed;

pub(super) use membership::Snapshot;

/// Chooses a host for each request and counts the requests on it.
///
/// All methods may be called from any thread at any time. [`balance_host`](Balancer::balance_host), [`lease`](Balancer::lease),
/// [`inc`](Balancer::inc) and [`done`](Balancer::done) of a member never block. The methods that change the membership rebuild
/// what the algorithm needs, in a time that grows with the number of hosts, and then replace it in one step: call them off
/// the path of requests, and [`set_hosts`](Balancer::set_hosts) for many hosts at once.
pub struct Balancer {
    algorithm: Algorithm,
    pool: Arc<PoolStats>,
    slow_start: Option<SlowStartOptions>,
    sequence: Sequence,
    snapshot: SnapshotCell,
    /// Held by writers from reading the old snapshot to storing the new one, so changes are applied one after the other
    /// and none is lost.
    departed: Mutex<Departed>,
}

impl Balancer {
    /// A balancer of `hosts`. None of them is in slow start.
    ///
    /// # Errors
    /// [`BalancerError::InvalidOption`] for `algorithm` or `options`; [`BalancerError::AlreadyAdded`] names a host given
    /// twice.
    pub fn new(
        algorithm: impl Into<Algorithm>,
        hosts: impl IntoIterator<Item = Arc<Host>>,
        options: &Options,
    ) -> Result<Self, BalancerError> {
        let algorithm = algorithm.into();
        algorithm.strategy().check()?;
        let slow_start = options.checked_slow_start()?;
        let counts_all = algorithm.strategy().counts_all();
        let balancer = Balancer {
            slow_start: slow_start.filter(|_| !algorithm.info().hashes()),
            pool: Arc::new(PoolStats::new(options.configured_clock(), counts_all)),
            sequence: Sequence::new(options.configured_seed()),
            snapshot: SnapshotCell::default(),
            departed: Mutex::default(),
            algorithm,
        };
        balancer.set_hosts(hosts.into_iter().map(Joining::from))?;
        Ok(balancer)
    }

    /// The algorithm with its options.
    pub fn algorithm(&self) -> &Algorithm {
        &self.algorithm
    }

    /// The members, in the order of joining.
    pub fn hosts(&self) -> Vec<Arc<Host>> {
        let snapshot = self.snapshot.load();
        let members = snapshot.joined.iter();
        members.map(|member| Arc::clone(&member.host)).collect()
    }

    /// Makes `host` a member. If a host of its identity has left, it continues with the live state of that one: what is in
    /// flight there still counts.
    ///
    /// # Errors
    /// [`BalancerError::AlreadyAdded`] if a member has its identity.
    pub fn add_host(&self, host: Arc<Host>) -> Result<(), BalancerError> {
        let mut departed = self.writer();
        let old = self.snapshot.load();
        if old.by_id.contains_key(host.id()) {
            return Err(BalancerError::AlreadyAdded(host.id().clone()));
        }
        let member = departed.member(host, &old, &self.pool);
        let joined = old.joined.iter().cloned().chain([member]).collect();
        self.replace(&mut departed, &old, joined);
        Ok(())
    }

    /// Removes a member. Requests in flight on the host continue, and their leases stay valid.
    ///
    /// # Errors
    /// [`BalancerError::UnknownHost`] if no member has this identity.
    pub fn remove_host(&self, id: &HostId) -> Result<(), BalancerError> {
        let mut departed = self.writer();
        let old = self.snapshot.load();
        if !old.by_id.contains_key(id) {
            return Err(BalancerError::UnknownHost(id.clone()));
        }
        let staying = old.joined.iter().filter(|member| member.host.id() != id);
        let joined = staying.cloned().collect();
        self.replace(&mut departed, &old, joined);
        Ok(())
    }

    /// Replaces the membership in one step: the hosts that are not among `hosts` leave, those that are not members join, and
    /// those with another address, weight or limit change, with their live state. What is built of the hosts is built once.
    ///
    /// A host may begin slow start in the same step ([`Joining::slow_start`]); no pick sees it before.
    ///
    /// # Errors
    /// [`BalancerError::AlreadyAdded`] if two of the hosts have the same identity; nothing has changed then.
    pub fn set_hosts(&self, hosts: impl IntoIterator<Item = Joining>) -> Result<(), BalancerError> {
        let mut departed = self.writer();
        let old = self.snapshot.load();
        let hosts = Vec::from_iter(hosts);
        let mut ids = std::collections::HashSet::with_capacity(hosts.len());
        if let Some(twice) = hosts.iter().find(|joining| !ids.insert(joining.host.id())) {
            return Err(BalancerError::AlreadyAdded(twice.host.id().clone()));
        }
        let members = hosts.iter().map(|joining| {
            let member = departed.member(Arc::clone(&joining.host), &old, &self.pool);
            if let Some(elapsed) = joining.slow_start {
                self.ramp(&member, elapsed);
            }
            member
        });
        let joined = Vec::from_iter(members);
        self.replace(&mut departed, &old, joined);
        Ok(())
    }

    /// Picks a host for `request` without counting anything; see [`lease`](Balancer::lease).
    ///
    /// # Errors
    /// [`BalancerError::NoHosts`] if no member has a weight above 0; [`BalancerError::Busy`] if every host is at its limit.
    pub fn balance_host(&self, request: &Selection<'_>) -> Result<Arc<Host>, BalancerError> {
        let mark = |member: &Member, mark: Option<Mark>| mark.is_none_or(|it| it.write(member));
        let member = self.select(request, |member, pick| mark(member, pick.mark))?;
        Ok(Arc::clone(&member.host))
    }

    /// Counts one more request on a member, whatever its limit.
    ///
    /// # Errors
    /// [`BalancerError::UnknownHost`] if no member has this identity.
    pub fn inc(&self, id: &HostId) -> Result<(), BalancerError> {
        self.member(id)?.acquire();
        Ok(())
    }

    /// Counts one request less on a member, or on a host that has left; never below 0.
    ///
    /// # Errors
    /// [`BalancerError::UnknownHost`] if no member has this identity, and no host of it has left with requests in flight.
    pub fn done(&self, id: &HostId) -> Result<(), BalancerError> {
        let member = match self.member(id) {
            Ok(member) => member,
            Err(error) => self.writer().busy(id).ok_or(error)?,
        };
        member.release();
        Ok(())
    }

    /// Picks a host and counts the request on it, in one atomic step where the algorithm's bound depends on it. Dropping
    /// the lease ends the count.
    ///
    /// # Errors
    /// [`BalancerError::NoHosts`] if no member has a weight above 0; [`BalancerError::Busy`] if every host is at its limit.
    pub fn lease(&self, request: &Selection<'_>) -> Result<Lease, BalancerError> {
        let member = self.select(request, |member, pick| {
            let counted = member.try_acquire(pick.seen);
            let missed = counted && pick.mark.is_some_and(|mark| !mark.write(member));
            if missed {
                member.release();
            }
            counted && !missed
        })?;
        Ok(Lease::counted(member))
    }

    /// Counts a request on a member that was chosen elsewhere, as [`lease`](Balancer::lease) does for its pick.
    ///
    /// # Errors
    /// [`BalancerError::UnknownHost`] if no member has this identity; [`BalancerError::Busy`] if it is at its limit.
    pub fn lease_of(&self, id: &HostId) -> Result<Lease, BalancerError> {
        let member = self.member(id)?;
        match member.try_acquire(None) {
            true => Ok(Lease::counted(member)),
            false => Err(BalancerError::Busy),
        }
    }

    /// What [`lease`](Balancer::lease) would pick for `request` now, and why each member would be picked or not. It
    /// runs the same code, but counts nothing and takes neither turns nor the seeded random numbers. With
    /// [`Options::seed`], or an algorithm that is deterministic, the next lease has this outcome, unless something
    /// changes in between; otherwise this is one possible outcome.
    ///
    /// Takes time and memory in proportion to the number of members: not for the path of a request.
    pub fn explain(&self, request: &Selection<'_>) -> Explanation {
        self.explanation(request)
    }

    /// Starts the slow start of a member as if it had begun `elapsed` ago: its share rises from the floor to 1 within
    /// the window of [`Options::slow_start`]. Does nothing without such a window, nor with an algorithm that maps keys
    /// to hosts ([`AlgorithmInfo::hashes`](crate::AlgorithmInfo::hashes)).
    ///
    /// # Errors
    /// [`BalancerError::UnknownHost`] if no member has this identity.
    pub fn begin_slow_start(&self, id: &HostId, elapsed: Duration) -> Result<(), BalancerError> {
        self.ramp(&*self.member(id)?, elapsed);
        Ok(())
    }

    /// How long a member has been in slow start; `None` if it is not.
    pub fn slow_start_elapsed(&self, id: &HostId) -> Option<Duration> {
        let member = self.member(id).ok()?;
        let start = self.slow_start.as_ref()?;
        start.elapsed(self.pool.now(), member.ramp())
    }

    /// The position in the cycle, for algorithms in which hosts take turns. Another balancer continues from it with
    /// [`seek`](Balancer::seek).
    pub fn cursor(&self) -> Option<Cursor> {
        let snapshot = self.snapshot.load();
        let eligible = snapshot.eligible.as_ref()?;
        eligible
            .picker
            .cursor(&eligible.members, self.sequence.turn())
    }

    /// Continues from `cursor`. Does nothing if its host is not a member, or the algorithm has no turns.
    pub fn seek(&self, cursor: &Cursor) {
        let _departed = self.writer();
        self.continue_from(cursor);
    }

    fn ramp(&self, member: &Member, elapsed: Duration) {
        if let Some(start) = self.slow_start {
            let end = start.end(self.pool.now(), elapsed).unwrap_or(0);
            member.ramp_until(end);
            self.pool.ramp_until(end);
        }
    }

    fn member(&self, id: &HostId) -> Result<Arc<Member>, BalancerError> {
        let member = self
            .snapshot
            .read(|snapshot| snapshot.by_id.get(id).cloned());
        member.ok_or_else(|| BalancerError::UnknownHost(id.clone()))
    }

    fn writer(&self) -> MutexGuard<'_, Departed> {
        // A panic under the lock cannot leave half a change: the snapshot is stored in one step.
        self.departed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Balancer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Balancer")
            .field("algorithm", &self.algorithm)
            .field("hosts", &self.hosts())
            .finish()
    }
}

/// Members by identity.
type ById = HashMap<HostId, Arc<Member>>;
