//! Least load: the host with the fewest requests in flight by weight.
//!
//! **How.** Every pick finds the minimum of in-flight/weight and counts the request on it in one atomic step: if another
//! thread was faster, the search begins again. Among equals chance decides, in proportion to the weights. Hosts stand
//! in groups of [`GROUP`]; each group has a hint, a number not above its least load, so a pick looks at the hints and
//! then into one group.
//!
//! **Cost.** √n rather than n: at 10,000 hosts 157 hints and one group. A request's end lowers its group's hint, one
//! atomic operation. 24 bytes a host.
//!
//! **Bound.** No host ever gets a request while another has less to do. Joining the shortest queue minimises waiting for
//! equal hosts (Winston 1977, Weber 1978).
//!
//! **When.** One balancer in front of its hosts, long or uneven requests. **When not.** Several balancers that share the
//! hosts: each sees only its own requests, they herd, and [`p2c`](super::p2c) degrades more gently.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};

use super::mechanics::{
    Algorithm, BalancerError, Chooser, Host, Ledger, Ledgers, Live, Options, Rng, Seat, Selection,
    scale,
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
/// Hints are exact for one thread; a request that ends on a host whose live state is shared with another balancer, or in
/// the very moment in which the membership changes, is not heard of otherwise.
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
        self.0.lower(load(in_flight, host.weight()));
    }
}

impl Group {
    fn lower(&self, load: u64) {
        // Most ends of a request leave the hint where it is; reading first keeps the cache line shared.
        if load < self.hint.load(Ordering::SeqCst) {
            self.hint.fetch_min(load, Ordering::SeqCst);
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
    position: usize,
}

/// The member that a search found, and the count that it had then.
struct Found<'a> {
    member: &'a Member,
    in_flight: u64,
}

impl Chooser for Queues {
    fn pick(&self, request: &Selection<'_>) -> Option<usize> {
        self.find(request).map(|found| found.member.position)
    }

    fn pick_and_count(&self, request: &Selection<'_>, _: &[Arc<Seat>]) -> Option<usize> {
        loop {
            let found = self.find(request)?;
            if found.member.live.inc_from(found.in_flight) {
                return Some(found.member.position);
            }
        }
    }
}

impl Queues {
    fn find(&self, request: &Selection<'_>) -> Option<Found<'_>> {
        if !request.tried_hosts().is_empty() {
            return self.find_untried(request);
        }
        if let [only] = &*self.groups {
            return only.least(self.rng.draw()).map(|(_, found)| found);
        }
        loop {
            let (review, bits) = scale(self.rng.draw(), REVIEW);
            if review == 0 {
                let (group, _) = scale(self.rng.draw(), self.groups.len() as u64);
                self.groups[group as usize].lower_hint();
            }
            let (hint, view) = self.recommended(bits)?;
            let (least, found) = view.least(self.rng.draw())?;
            if least <= hint {
                return Some(found);
            }
            view.raise_hint(hint, least);
        }
    }

    /// The lowest hint, and of the groups that have it one drawn by weight.
    fn recommended(&self, bits: u64) -> Option<(u64, &View)> {
        let (mut lowest, mut weight) = (u64::MAX, 0);
        for view in &self.groups {
            let hint = view.group.hint.load(Ordering::SeqCst);
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
            if view.group.hint.load(Ordering::SeqCst) == lowest {
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

    /// The same among the hosts that `request` has not tried, in linear time.
    fn find_untried(&self, request: &Selection<'_>) -> Option<Found<'_>> {
        let untried = |member: &&Member| !request.has_tried(&self.seats[member.position].host);
        let members = || {
            self.groups
                .iter()
                .flat_map(|view| &view.members)
                .filter(untried)
        };
        draw_least(members(), self.rng.draw()).map(|(_, found)| found)
    }
}

impl View {
    /// The least load of the group and a host that has it.
    fn least(&self, bits: u64) -> Option<(u64, Found<'_>)> {
        draw_least(self.members.iter(), bits)
    }

    /// Sets the hint of a group that has got another set of members.
    fn renew_hint(&self) {
        self.group.hint.store(u64::MAX, Ordering::SeqCst);
        self.lower_hint();
    }

    /// Replaces the hint `seen`, which turned out too low.
    fn raise_hint(&self, seen: u64, least: u64) {
        let hint = &self.group.hint;
        if hint
            .compare_exchange(seen, least, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok()
        {
            // A request may have ended between the search and the raise, and found the hint low enough.
            self.lower_hint();
        }
    }

    fn lower_hint(&self) {
        if let Some((least, _)) = self.least(0) {
            self.group.lower(least);
        }
    }
}

/// The least load among `members` and, of those that have it, one drawn by weight.
fn draw_least<'a>(
    members: impl Iterator<Item = &'a Member> + Clone,
    bits: u64,
) -> Option<(u64, Found<'a>)> {
    let read = |member: &'a Member| {
        let in_flight = member.live.in_flight();
        (load(in_flight, member.weight), Found { member, in_flight })
    };
    let (mut lowest, mut weight, mut chosen) = (u64::MAX, 0, None);
    for (load, found) in members.clone().map(read) {
        if load == lowest {
            weight += u64::from(found.member.weight);
        } else if load < lowest {
            (lowest, weight) = (load, u64::from(found.member.weight));
            chosen = Some((load, found));
        }
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
