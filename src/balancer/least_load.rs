//! Least load: the host with the fewest requests in flight by weight.
//!
//! **How.** Every pick finds the minimum of in-flight/weight and counts the request on it in one atomic step: if another
//! thread was faster, the search begins again. Recent failures count as requests in flight, and the load of a remarkably
//! slow host counts several times (see [the formula](super)). Among equals chance decides, in proportion to the weights.
//! Hosts stand in groups of [`GROUP`]; each group has a hint, a number not above its least load, so a pick looks at the
//! hints and then into one group.
//!
//! **Cost.** √n rather than n: at 10,000 hosts 157 hints and one group. A request's end lowers its group's hint, one
//! atomic operation. 32 bytes a host.
//!
//! **Bound.** Among hosts that neither fail nor are slow, none ever gets a request while another has less to do. One that
//! is ten times slower than seven others gets about half a percent of the requests. Joining the shortest queue minimises waiting for
//! equal hosts (Winston 1977, Weber 1978).
//!
//! **When.** One balancer in front of its hosts, long or uneven requests. **When not.** Several balancers that share the
//! hosts: each sees only its own requests, they herd, and [`p2c`](super::p2c) degrades more gently.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};

use super::mechanics::{
    Algorithm, BalancerError, Choose, Chooser, Earnest, Host, Ledger, Ledgers, Live, Mode, Options,
    Reason, Rehearsal, Request, Rng, Scales, Seat, scale,
};
use super::registry::AlgorithmInfo;

pub(super) const INFO: AlgorithmInfo = AlgorithmInfo {
    name: "least_load",
    summary: "the host with the fewest requests in flight by weight",
    keyed: false,
    options: &[],
    build,
};

/// Hosts in a group. Near the square root of the largest pools, and a single group for the usual ones, which then need
/// no hints at all.
const GROUP: usize = 64;

/// One in this many picks looks into a group that its hint does not recommend, and lowers the hint if it is too high.
/// Hints are exact for one thread and healthy hosts; a request that ends on a host whose live state is shared with
/// another balancer, or in the very moment in which the membership changes, is not heard of otherwise, nor is a load that
/// falls because failures fade or slowness is over.
const REVIEW: u64 = 16;

fn build(options: &Options) -> Result<Box<dyn Algorithm>, BalancerError> {
    Ok(Box::new(LeastLoad {
        rng: Arc::new(Rng::new(options.given_seed())),
        places: Ledgers::default(),
        groups: Mutex::default(),
    }))
}

#[derive(Debug)]
struct LeastLoad {
    rng: Arc<Rng>,
    places: Ledgers<Place>,
    groups: Mutex<Vec<Arc<Group>>>,
}

/// Hosts that share a hint.
#[derive(Debug)]
struct Group {
    /// Not above the least load of the group. SeqCst throughout: a release changes the count and then lowers the hint, a
    /// raise changes the hint and then reads the counts again, so one of them sees the other.
    hint: AtomicU64,
}

/// A host's place in a group. While it lives, no other host takes it.
#[derive(Debug)]
struct Place(Arc<Group>);

impl Ledger for Place {
    fn returned(&self, host: &Host, in_flight: u64) {
        self.0.lower(load(in_flight, host.weight()), &Earnest);
    }
}

impl Group {
    fn lower(&self, load: u64, mode: &impl Mode) {
        // Most ends of a request leave the hint where it is; reading first keeps the cache line shared.
        if load < mode.load(&self.hint, Ordering::SeqCst) {
            mode.fetch_min(&self.hint, load, Ordering::SeqCst);
        }
    }
}

/// In-flight by weight as the bits of an `f64`, which are in the order of the numbers. Equal fractions give equal bits
/// and different ones, which differ by at least 1/10,000², different bits up to 2^26 requests.
fn load(in_flight: u64, weight: u32) -> u64 {
    if weight == 0 {
        return u64::MAX;
    }
    (in_flight as f64 / f64::from(weight)).to_bits()
}

impl Algorithm for LeastLoad {
    fn arrange(&self, seats: &Arc<[Arc<Seat>]>) -> Box<dyn Chooser> {
        let mut groups: Vec<View> = Vec::new();
        let mut by_group = std::collections::HashMap::new();
        for (position, seat) in seats.iter().enumerate() {
            let place = self.places.find(seat.host.id());
            let place = place.expect("a seat holds its place, which was remembered at joining");
            let index = *by_group.entry(Arc::as_ptr(&place.0)).or_insert_with(|| {
                groups.push(View {
                    group: Arc::clone(&place.0),
                    members: Vec::new(),
                    weight: 0,
                });
                groups.len() - 1
            });
            groups[index].weight += u64::from(seat.host.weight());
            groups[index].members.push(Member {
                live: Arc::clone(seat.live()),
                weight: seat.host.weight(),
                limit: seat.limit(),
                position,
            });
        }
        groups.iter().for_each(View::renew_hint);
        Box::new(Queues {
            rng: Arc::clone(&self.rng),
            groups: groups.into(),
            seats: Arc::clone(seats),
        })
    }

    fn ledger(&self, host: &Arc<Host>) -> Option<Arc<dyn Ledger>> {
        if let Some(place) = self.places.find(host.id()) {
            return Some(place);
        }
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        // One reference is this list's, each other a place's or an arrangement's; an arrangement that is still in use
        // makes a group look fuller than it is, which only makes another group.
        let free = groups
            .iter()
            .find(|group| Arc::strong_count(group) <= GROUP);
        let group = free.cloned().unwrap_or_else(|| {
            let group = Arc::new(Group {
                hint: AtomicU64::new(0),
            });
            groups.push(Arc::clone(&group));
            group
        });
        let place = Arc::new(Place(group));
        self.places.remember(host.id(), &place);
        Some(place)
    }
}

#[derive(Debug)]
struct Queues {
    rng: Arc<Rng>,
    groups: Box<[View]>,
    seats: Arc<[Arc<Seat>]>,
}

/// A group as one arrangement sees it.
#[derive(Debug)]
struct View {
    group: Arc<Group>,
    members: Vec<Member>,
    /// The sum of the members' weights.
    weight: u64,
}

#[derive(Debug)]
struct Member {
    live: Arc<Live>,
    weight: u32,
    /// Requests that may run on it.
    limit: u64,
    position: usize,
}

impl Member {
    /// With `in_flight` requests.
    fn load(&self, in_flight: u64, seats: &[Arc<Seat>], scales: Scales<'_>) -> f64 {
        let seat = &seats[self.position];
        scales.load(&self.live, in_flight, self.weight, seat)
    }
}

/// The member that a search found, and the count that it had then.
struct Found<'a> {
    member: &'a Member,
    in_flight: u64,
}

impl Choose for Queues {
    fn choose<M: Mode>(&self, request: &Request<'_>, mode: &M) -> Option<usize> {
        self.find(request, mode).map(|found| found.member.position)
    }

    fn rank(&self, request: &Request<'_>, chosen: Option<usize>, rehearsal: &Rehearsal) {
        let scales = request.scales();
        let members = self.groups.iter().flat_map(|view| &view.members);
        let mut ranked: Vec<(f64, usize)> = members
            .map(|member| {
                let load = member.load(member.live.in_flight(), &self.seats, scales);
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
                true => Reason::Loaded,
                false => Reason::NotDrawn,
            };
            rehearsal.ranks(position, Some(load), reason);
        }
    }

    fn choose_and_count(&self, request: &Request<'_>, _: &[Arc<Seat>]) -> Option<usize> {
        loop {
            let found = self.find(request, &Earnest)?;
            if found.member.live.inc_from(found.in_flight) {
                return Some(found.member.position);
            }
        }
    }
}

impl Queues {
    fn find(&self, request: &Request<'_>, mode: &impl Mode) -> Option<Found<'_>> {
        let scales = request.scales();
        if request.is_retry() || request.was_held_back() {
            return self.find_among(request, scales, mode);
        }
        if let [only] = &*self.groups {
            let least = only.least(&self.seats, scales, self.rng.draw(mode));
            return least.map(|(_, found)| found);
        }
        loop {
            let (review, bits) = scale(self.rng.draw(mode), REVIEW);
            if review == 0 {
                let (group, _) = scale(self.rng.draw(mode), self.groups.len() as u64);
                self.groups[group as usize].lower_hint(&self.seats, scales, mode);
            }
            let (hint, view) = self.recommended(bits, mode)?;
            match view.least(&self.seats, scales, self.rng.draw(mode)) {
                Some((least, found)) if least <= hint => return Some(found),
                Some((least, _)) => view.raise_hint(hint, least, &self.seats, scales, mode),
                // Every host of the group is full, and the others are said to be: only the whole list is certain.
                None if hint == u64::MAX => return self.find_among(request, scales, mode),
                None => view.raise_hint(hint, u64::MAX, &self.seats, scales, mode),
            }
        }
    }

    /// The lowest hint, and of the groups that have it one drawn by weight.
    fn recommended(&self, bits: u64, mode: &impl Mode) -> Option<(u64, &View)> {
        let (mut lowest, mut weight) = (u64::MAX, 0);
        for view in &self.groups {
            let hint = mode.load(&view.group.hint, Ordering::SeqCst);
            if hint < lowest {
                (lowest, weight) = (hint, 0);
            }
            if hint == lowest {
                weight += view.weight;
            }
        }
        let (mut left, _) = scale(bits, weight);
        let mut chosen = None;
        for view in &self.groups {
            if mode.load(&view.group.hint, Ordering::SeqCst) == lowest {
                chosen = Some((lowest, view));
                if left < view.weight {
                    break;
                }
                left -= view.weight;
            }
        }
        // Another thread may have raised the last of them in between.
        chosen.or_else(|| self.groups.first().map(|view| (u64::MAX, view)))
    }

    /// The same among the hosts that `request` may take, in linear time.
    fn find_among(
        &self,
        request: &Request<'_>,
        scales: Scales<'_>,
        mode: &impl Mode,
    ) -> Option<Found<'_>> {
        let fits = |member: &&Member| {
            let position = member.position;
            request.may_take(position, &self.seats[position])
        };
        let members = self.groups.iter().flat_map(|view| &view.members);
        let bits = self.rng.draw(mode);
        let drawn = draw_least(members.filter(fits), &self.seats, scales, bits);
        drawn.map(|(_, found)| found)
    }
}

impl View {
    /// The least load of the group and a host that has it; `None` if all are full.
    fn least(
        &self,
        seats: &[Arc<Seat>],
        scales: Scales<'_>,
        bits: u64,
    ) -> Option<(u64, Found<'_>)> {
        draw_least(self.members.iter(), seats, scales, bits)
    }

    /// Sets the hint of a group that has got another set of members.
    fn renew_hint(&self) {
        let loads = self.members.iter().map(|member| {
            // What else weighs on a load only raises it.
            load(member.live.in_flight(), member.weight)
        });
        self.group.hint.store(u64::MAX, Ordering::SeqCst);
        self.group.lower(loads.min().unwrap_or(u64::MAX), &Earnest);
    }

    /// Replaces the hint `seen`, which turned out too low.
    fn raise_hint(
        &self,
        seen: u64,
        least: u64,
        seats: &[Arc<Seat>],
        scales: Scales<'_>,
        mode: &impl Mode,
    ) {
        if mode.compare_exchange(&self.group.hint, seen, least, Ordering::SeqCst) {
            // A request may have ended between the search and the raise, and found the hint low enough.
            self.lower_hint(seats, scales, mode);
        }
    }

    fn lower_hint(&self, seats: &[Arc<Seat>], scales: Scales<'_>, mode: &impl Mode) {
        if let Some((least, _)) = self.least(seats, scales, 0) {
            self.group.lower(least, mode);
        }
    }
}

/// The least load among `members` with room and, of those that have it, one drawn by weight.
fn draw_least<'a>(
    members: impl Iterator<Item = &'a Member> + Clone,
    seats: &[Arc<Seat>],
    scales: Scales<'_>,
    bits: u64,
) -> Option<(u64, Found<'a>)> {
    let read = |member: &'a Member| {
        let in_flight = member.live.in_flight();
        let load = member.load(in_flight, seats, scales);
        // A full host is not below any other, and so is never chosen.
        let load = if in_flight < member.limit {
            load.to_bits()
        } else {
            u64::MAX
        };
        (load, Found { member, in_flight })
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
    // None has room, or one is below all others.
    let (_, first) = chosen.as_ref()?;
    if weight == u64::from(first.member.weight) {
        return chosen;
    }
    let (mut left, _) = scale(bits, weight);
    for (load, found) in members.map(read) {
        if load == lowest {
            let weight = u64::from(found.member.weight);
            if left < weight {
                return Some((load, found));
            }
            left -= weight;
        }
    }
    // The counts have changed since: the first of the equals is as good.
    chosen
}
