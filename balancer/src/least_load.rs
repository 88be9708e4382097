//! Least load: the host with the fewest requests in flight by weight.
//!
//! **How.** Each pick finds the minimum of in-flight/weight and counts the request there with a compare-and-swap: if
//! the count has changed meanwhile, the search starts over. Recent failures count as requests in flight, and a slow
//! host's load is multiplied by its slowness (see [the formula](super)). Ties are broken randomly, in proportion to the
//! weights. Hosts are divided into groups of [`GROUP_SIZE`]; each group has a hint, a lower bound of its least load, so
//! a pick scans the hints and then one group.
//!
//! **Cost.** √n rather than n: at 10,000 hosts, 157 hints and one group. The end of a request lowers its group's hint,
//! one atomic operation. 32 bytes a host.
//!
//! **Bound.** Among hosts that neither fail nor are slow, none gets a request while another has a lower load. One host
//! that is ten times slower than seven others gets about half a percent of the requests. Joining the shortest queue
//! minimizes waiting for equal hosts (Winston 1977, Weber 1978).
//!
//! **When.** One balancer in front of its hosts, long or uneven requests. **When not.** Several balancers share the
//! hosts: each sees only its own requests, so they herd, and [`p2c`](super::p2c) degrades more gently.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};

use super::core::{
    Algorithm, BalancerError, CandidateReason, DryRun, DynPicker, Host, HostStats, LoadModel,
    NoTrace, Options, PerHostMap, PerHostState, PickRequest, PickTrace, Picker, Rng, Slot, scale,
};
use super::registry::AlgorithmInfo;

pub(super) const INFO: AlgorithmInfo = AlgorithmInfo {
    name: "least_load",
    summary: "the host with the fewest requests in flight by weight",
    keyed: false,
    options: &[],
    build,
};

/// The size of a group. Near the square root of the largest pools; usual pools have a single group and need no hints.
const GROUP_SIZE: usize = 64;

/// One in this many picks scans a random group and lowers its hint if that is too high. Hints are exact for one thread
/// and healthy hosts. Without this review they would miss a request that ends through another balancer sharing the live
/// state, or during a change of the membership, and a load that falls because failures fade or a host is no longer
/// slow.
const REVIEW_INTERVAL: u64 = 16;

fn build(options: &Options) -> Result<Box<dyn Algorithm>, BalancerError> {
    Ok(Box::new(LeastLoad {
        rng: Arc::new(Rng::new(options.configured_seed())),
        group_slots: PerHostMap::default(),
        groups: Mutex::default(),
    }))
}

#[derive(Debug)]
struct LeastLoad {
    rng: Arc<Rng>,
    group_slots: PerHostMap<GroupSlot>,
    groups: Mutex<Vec<Arc<Group>>>,
}

/// Hosts that share a hint.
#[derive(Debug)]
struct Group {
    /// A lower bound of the group's least load. SeqCst throughout: a release changes the count and then lowers the
    /// hint, a raise changes the hint and then reads the counts again, so at least one of them sees the other.
    hint: AtomicU64,
}

/// A host's slot in a group. While it lives, no other host takes it.
#[derive(Debug)]
struct GroupSlot(Arc<Group>);

impl PerHostState for GroupSlot {
    fn on_release(&self, host: &Host, in_flight: u64) {
        self.0.lower(load(in_flight, host.weight()), &NoTrace);
    }
}

impl Group {
    fn lower(&self, load: u64, trace: &impl PickTrace) {
        // Most releases leave the hint unchanged; reading first keeps the cache line shared.
        if load < trace.load(&self.hint, Ordering::SeqCst) {
            trace.fetch_min(&self.hint, load, Ordering::SeqCst);
        }
    }
}

/// In-flight by weight as the bits of an `f64`, which sort like the numbers. Equal fractions give equal bits; different
/// fractions differ by at least 1/10,000², so they give different bits up to 2^26 requests.
fn load(in_flight: u64, weight: u32) -> u64 {
    if weight == 0 {
        return u64::MAX;
    }
    (in_flight as f64 / f64::from(weight)).to_bits()
}

impl Algorithm for LeastLoad {
    fn build_picker(&self, slots: &Arc<[Arc<Slot>]>) -> Box<dyn DynPicker> {
        let mut groups: Vec<GroupView> = Vec::new();
        let mut by_group = std::collections::HashMap::new();
        for (position, slot) in slots.iter().enumerate() {
            let group_slot = self.group_slots.find(slot.host.id());
            let group_slot = group_slot
                .expect("a slot holds its place in a group, which was remembered at joining");
            let index = *by_group
                .entry(Arc::as_ptr(&group_slot.0))
                .or_insert_with(|| {
                    groups.push(GroupView {
                        group: Arc::clone(&group_slot.0),
                        members: Vec::new(),
                        weight: 0,
                    });
                    groups.len() - 1
                });
            groups[index].weight += u64::from(slot.host.weight());
            groups[index].members.push(GroupMember {
                stats: Arc::clone(slot.stats()),
                weight: slot.host.weight(),
                limit: slot.limit(),
                position,
            });
        }
        groups.iter().for_each(GroupView::renew_hint);
        Box::new(LeastLoadPicker {
            rng: Arc::clone(&self.rng),
            groups: groups.into(),
            slots: Arc::clone(slots),
        })
    }

    fn per_host_state(&self, host: &Arc<Host>) -> Option<Arc<dyn PerHostState>> {
        if let Some(group_slot) = self.group_slots.find(host.id()) {
            return Some(group_slot);
        }
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        // The list holds one reference, each slot and each picker another. A picker that is still in use makes a group
        // look fuller than it is, which only creates one more group.
        let free = groups
            .iter()
            .find(|group| Arc::strong_count(group) <= GROUP_SIZE);
        let group = free.cloned().unwrap_or_else(|| {
            let group = Arc::new(Group {
                hint: AtomicU64::new(0),
            });
            groups.push(Arc::clone(&group));
            group
        });
        let group_slot = Arc::new(GroupSlot(group));
        self.group_slots.insert(host.id(), &group_slot);
        Some(group_slot)
    }
}

#[derive(Debug)]
struct LeastLoadPicker {
    rng: Arc<Rng>,
    groups: Box<[GroupView]>,
    slots: Arc<[Arc<Slot>]>,
}

/// A group as seen by one picker.
#[derive(Debug)]
struct GroupView {
    group: Arc<Group>,
    members: Vec<GroupMember>,
    /// The sum of the members' weights.
    weight: u64,
}

#[derive(Debug)]
struct GroupMember {
    stats: Arc<HostStats>,
    weight: u32,
    /// The most requests in flight.
    limit: u64,
    position: usize,
}

impl GroupMember {
    /// The load with `in_flight` requests.
    fn load(&self, in_flight: u64, slots: &[Arc<Slot>], load_model: LoadModel<'_>) -> f64 {
        let slot = &slots[self.position];
        load_model.load(&self.stats, in_flight, self.weight, slot)
    }
}

/// The member that a search found, and its count at that time.
struct LeastLoaded<'a> {
    member: &'a GroupMember,
    in_flight: u64,
}

impl Picker for LeastLoadPicker {
    fn pick<T: PickTrace>(&self, request: &PickRequest<'_>, trace: &T) -> Option<usize> {
        self.find(request, trace).map(|found| found.member.position)
    }

    fn rank(&self, request: &PickRequest<'_>, chosen: Option<usize>, dry_run: &DryRun) {
        let load_model = request.load_model();
        let members = self.groups.iter().flat_map(|view| &view.members);
        let mut ranked: Vec<(f64, usize)> = members
            .map(|member| {
                let load = member.load(member.stats.in_flight(), &self.slots, load_model);
                (load, member.position)
            })
            .collect();
        ranked.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        let taken = ranked
            .iter()
            .find(|(_, position)| chosen == Some(*position));
        let taken = taken.map_or(0.0, |(load, _)| *load);
        for &(load, position) in &ranked {
            let reason = match load > taken {
                true => CandidateReason::Loaded,
                false => CandidateReason::NotDrawn,
            };
            dry_run.rank(position, Some(load), reason);
        }
    }

    fn pick_and_count(&self, request: &PickRequest<'_>, _: &[Arc<Slot>]) -> Option<usize> {
        loop {
            let found = self.find(request, &NoTrace)?;
            if found.member.stats.inc_if_unchanged(found.in_flight) {
                return Some(found.member.position);
            }
        }
    }
}

impl LeastLoadPicker {
    fn find(&self, request: &PickRequest<'_>, trace: &impl PickTrace) -> Option<LeastLoaded<'_>> {
        let load_model = request.load_model();
        if request.is_retry() || request.was_held_back() {
            return self.find_among(request, load_model, trace);
        }
        if let [only] = &*self.groups {
            let least = only.least(&self.slots, load_model, self.rng.draw(trace));
            return least.map(|(_, found)| found);
        }
        loop {
            let (review, bits) = scale(self.rng.draw(trace), REVIEW_INTERVAL);
            if review == 0 {
                let (group, _) = scale(self.rng.draw(trace), self.groups.len() as u64);
                self.groups[group as usize].lower_hint(&self.slots, load_model, trace);
            }
            let (hint, view) = self.lowest_group(bits, trace)?;
            match view.least(&self.slots, load_model, self.rng.draw(trace)) {
                Some((least, found)) if least <= hint => return Some(found),
                Some((least, _)) => view.raise_hint(hint, least, &self.slots, load_model, trace),
                // The group is full, and by its hints so are the others: only a scan of all hosts is certain.
                None if hint == u64::MAX => return self.find_among(request, load_model, trace),
                None => view.raise_hint(hint, u64::MAX, &self.slots, load_model, trace),
            }
        }
    }

    /// The lowest hint, and a group that has it, drawn by weight.
    fn lowest_group(&self, bits: u64, trace: &impl PickTrace) -> Option<(u64, &GroupView)> {
        let (mut lowest, mut weight) = (u64::MAX, 0);
        for view in &self.groups {
            let hint = trace.load(&view.group.hint, Ordering::SeqCst);
            if hint < lowest {
                (lowest, weight) = (hint, 0);
            }
            if hint == lowest {
                weight += view.weight;
            }
        }
        let (mut remaining, _) = scale(bits, weight);
        let mut chosen = None;
        for view in &self.groups {
            if trace.load(&view.group.hint, Ordering::SeqCst) == lowest {
                chosen = Some((lowest, view));
                if remaining < view.weight {
                    break;
                }
                remaining -= view.weight;
            }
        }
        // Another thread may have raised the last of these hints in between.
        chosen.or_else(|| self.groups.first().map(|view| (u64::MAX, view)))
    }

    /// The least loaded host that `request` accepts, in linear time.
    fn find_among(
        &self,
        request: &PickRequest<'_>,
        load_model: LoadModel<'_>,
        trace: &impl PickTrace,
    ) -> Option<LeastLoaded<'_>> {
        let fits = |member: &&GroupMember| {
            let position = member.position;
            request.accepts(position, &self.slots[position])
        };
        let members = self.groups.iter().flat_map(|view| &view.members);
        let bits = self.rng.draw(trace);
        let drawn = draw_least(members.filter(fits), &self.slots, load_model, bits);
        drawn.map(|(_, found)| found)
    }
}

impl GroupView {
    /// The least load of the group and a host with that load; `None` if all are full.
    fn least(
        &self,
        slots: &[Arc<Slot>],
        load_model: LoadModel<'_>,
        bits: u64,
    ) -> Option<(u64, LeastLoaded<'_>)> {
        draw_least(self.members.iter(), slots, load_model, bits)
    }

    /// Resets the hint after the members of the group have changed.
    fn renew_hint(&self) {
        let loads = self.members.iter().map(|member| {
            // The other factors of a load only raise it.
            load(member.stats.in_flight(), member.weight)
        });
        self.group.hint.store(u64::MAX, Ordering::SeqCst);
        self.group.lower(loads.min().unwrap_or(u64::MAX), &NoTrace);
    }

    /// Replaces the hint `seen`, which turned out to be too low.
    fn raise_hint(
        &self,
        seen: u64,
        least: u64,
        slots: &[Arc<Slot>],
        load_model: LoadModel<'_>,
        trace: &impl PickTrace,
    ) {
        if trace.compare_exchange(&self.group.hint, seen, least, Ordering::SeqCst) {
            // A request may have ended between the search and the raise, and found the hint low enough.
            self.lower_hint(slots, load_model, trace);
        }
    }

    fn lower_hint(&self, slots: &[Arc<Slot>], load_model: LoadModel<'_>, trace: &impl PickTrace) {
        if let Some((least, _)) = self.least(slots, load_model, 0) {
            self.group.lower(least, trace);
        }
    }
}

/// The least load among `members` with room, and a member with that load, drawn by weight.
fn draw_least<'a>(
    members: impl Iterator<Item = &'a GroupMember> + Clone,
    slots: &[Arc<Slot>],
    load_model: LoadModel<'_>,
    bits: u64,
) -> Option<(u64, LeastLoaded<'a>)> {
    let read = |member: &'a GroupMember| {
        let in_flight = member.stats.in_flight();
        let load = member.load(in_flight, slots, load_model);
        // A full host is not below any other, and so is never chosen.
        let load = if in_flight < member.limit {
            load.to_bits()
        } else {
            u64::MAX
        };
        (load, LeastLoaded { member, in_flight })
    };
    let (mut lowest, mut weight, mut chosen) = (u64::MAX, 0, None);
    for (load, found) in members.clone().map(read) {
        if load < lowest {
            (lowest, weight) = (load, u64::from(found.member.weight));
            chosen = Some((load, found));
        } else if load == lowest {
            weight += u64::from(found.member.weight);
        }
    }
    // No member has room, or a single one has the least load.
    let (_, first) = chosen.as_ref()?;
    if weight == u64::from(first.member.weight) {
        return chosen;
    }
    let (mut remaining, _) = scale(bits, weight);
    for (load, found) in members.map(read) {
        if load == lowest {
            let weight = u64::from(found.member.weight);
            if remaining < weight {
                return Some((load, found));
            }
            remaining -= weight;
        }
    }
    // The counts have changed meanwhile: the first of the former equals will do.
    chosen
}
