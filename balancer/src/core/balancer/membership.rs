//! Changes of the membership: each replaces the snapshot as a whole.

use std::sync::Arc;

use super::{Balancer, ById};
use crate::core::cursor::Cursor;
use crate::core::host::{Host, HostId};
use crate::core::member::Member;
use crate::core::pick::{Before, Picker, Strategy};
use crate::core::pool_stats::PoolStats;

/// Idle hosts that have left and are remembered, so that their latency, failures and the like return with them.
const MAX_DEPARTED: usize = 1_024;

/// The hosts of a balancer at one time, and how to pick one. It is never changed, only replaced as a whole, so list and
/// picker cannot disagree.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    /// All members, including those of weight 0.
    pub(super) by_id: ById,
    /// Members in the order of joining. A picker's positions count only members of a weight above 0.
    pub(super) joined: Vec<Arc<Member>>,
    /// `None` if no member can take requests.
    pub(super) eligible: Option<Eligible>,
}

/// The members of a weight above 0, and the pickers for them.
#[derive(Debug)]
pub(super) struct Eligible {
    pub(super) members: Box<[Arc<Member>]>,
    pub(super) picker: Box<dyn Picker>,
    /// Picks for requests that lack what the algorithm hashes.
    pub(super) fallback: Option<Box<dyn Picker>>,
    /// Whether any host has a limit; if not, limits are not checked.
    pub(super) limited: bool,
}

/// Hosts that have left: those with requests in flight, so that `done` still finds them, and some others.
#[derive(Debug, Default)]
pub(super) struct Departed(ById);

impl Departed {
    /// The member for `host`, with the live state that the balancer knows of its identity.
    pub(super) fn member(
        &self,
        host: Arc<Host>,
        old: &Snapshot,
        pool: &Arc<PoolStats>,
    ) -> Arc<Member> {
        let known = old.by_id.get(host.id()).or_else(|| self.0.get(host.id()));
        match known {
            Some(known) if known.is(&host) => Arc::clone(known),
            Some(known) => Arc::new(known.renewed(host)),
            None => Arc::new(Member::new(host, pool)),
        }
    }

    /// The host of this identity, if it has left with requests in flight.
    pub(super) fn busy(&self, id: &HostId) -> Option<Arc<Member>> {
        let member = self.0.get(id)?;
        (member.in_flight() > 0).then(|| Arc::clone(member))
    }
}

impl Balancer {
    /// Makes `joined` the membership. The caller has held `departed` since it read `old`.
    pub(super) fn replace(
        &self,
        departed: &mut Departed,
        old: &Snapshot,
        joined: Vec<Arc<Member>>,
    ) {
        let by_id = joined
            .iter()
            .map(|member| (member.host.id().clone(), Arc::clone(member)));
        let by_id: ById = by_id.collect();
        let leaving = old.joined.iter();
        let leaving = leaving.filter(|member| !by_id.contains_key(member.host.id()));
        let leaving = Vec::from_iter(leaving.cloned());
        let members: Box<[Arc<Member>]> = joined
            .iter()
            .filter(|member| member.weight > 0)
            .cloned()
            .collect();
        let eligible = (!members.is_empty()).then(|| self.build(members, old.eligible.as_ref()));
        departed.0.retain(|id, _| !by_id.contains_key(id));
        self.snapshot.publish(Snapshot {
            by_id,
            joined: joined.clone(),
            eligible,
        });
        // Only now: a pick from the old snapshot would find that the last host has gone, and the new one not there yet.
        for member in &joined {
            member.count_in_total(member.weight > 0);
        }
        for member in &leaving {
            member.count_in_total(false);
            member.ramp_until(0);
        }
        if departed.0.len() + leaving.len() > MAX_DEPARTED {
            departed.0.retain(|_, member| member.in_flight() > 0);
        }
        let leaving = leaving.into_iter();
        departed
            .0
            .extend(leaving.map(|member| (member.host.id().clone(), member)));
    }

    fn build(&self, members: Box<[Arc<Member>]>, old: Option<&Eligible>) -> Eligible {
        let built = |strategy: &dyn Strategy, picker: Option<&dyn Picker>| {
            let before = old.zip(picker).map(|(old, picker)| Before {
                members: &old.members,
                picker,
                turn: self.sequence.turn(),
            });
            strategy.build(&members, before.as_ref())
        };
        let strategy = self.algorithm.strategy();
        let fallback = strategy.fallback().map(|fallback| {
            let old = old.and_then(|old| old.fallback.as_deref());
            built(fallback.strategy(), old)
        });
        Eligible {
            picker: built(strategy, old.map(|old| &*old.picker)),
            fallback,
            limited: members.iter().any(|member| member.limit != u64::MAX),
            members,
        }
    }

    /// Replaces the picker by one that continues from `cursor`. The caller is the only writer.
    pub(super) fn continue_from(&self, cursor: &Cursor) {
        let old = self.snapshot.load();
        let Some(eligible) = &old.eligible else {
            return;
        };
        let turn = self.sequence.turn();
        let sought = eligible.picker.sought(&eligible.members, turn, cursor);
        if let Some(picker) = sought {
            self.snapshot.publish(Snapshot {
                by_id: old.by_id.clone(),
                joined: old.joined.clone(),
                eligible: Some(Eligible {
                    picker,
                    fallback: None,
                    members: eligible.members.clone(),
                    limited: eligible.limited,
                }),
            });
        }
    }
}
