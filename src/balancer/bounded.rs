//! Consistent hashing with bounded loads: a key keeps its host until that host is full, then moves on along the ring.
//!
//! **How.** The ring of [`consistent_hash`](super::consistent_hash), and for each host a capacity of ⌈c·m·w_i/W⌉
//! requests, where m counts every request in flight, this one included. The first host clockwise with room gets the
//! request. Room is checked and taken in one atomic step, so no number of threads exceeds the capacity; m follows
//! exactly when a busy host leaves or returns.
//!
//! **Cost.** As the ring, and a few more points when hosts are full: about 1.09 at c = 1.25, 1.9 at c = 1.05.
//!
//! **Bound.** No host has more than ⌈c·m·w_i/W⌉ requests, so one hot key spreads over at least n/c hosts. A change of
//! the membership moves O(1/(c−1)²) requests (Mirrokni, Thorup, Zadimoghaddam, "Consistent Hashing with Bounded Loads",
//! SODA 2018). Only a retry may exceed the bound, when every host with room has failed it, a request that finds those
//! with room at the limit of their own, and one without a key, for which `fallback` chooses.
//!
//! **When.** Caches with hot keys. `factor` near 1 balances better, a larger one keeps keys at home more often.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::mechanics::{
    Algorithm, BalancerError, Choose, Chooser, Earnest, Fallback, HasKey, Host, Ledger, Ledgers,
    Mode, Options, Reason, Rehearsal, Request, Ring, RingKeeper, Seat,
};
use super::registry::{AlgorithmInfo, OptionInfo};

pub(super) const INFO: AlgorithmInfo = AlgorithmInfo {
    name: "bounded",
    summary: "the ring of consistent_hash, but no host above its share by more than a factor",
    keyed: true,
    options: &[
        OptionInfo {
            name: "factor",
            default: "1.25",
            help: "a host's capacity relative to its share of the requests in flight: 1 to 100",
        },
        Fallback::OPTION,
    ],
    build,
};

/// The factor is kept as an integer of this many parts, so that capacities are compared exactly.
const PARTS: f64 = 1e6;

/// Points that are looked at before the emptiest host is taken. At the tightest factor of 1 a walk along a full ring
/// would otherwise be as long as the ring; at 1.25 not one in a thousand needs more than ten.
const LONGEST_WALK: usize = 256;

/// The bit that marks the account of a host that has left.
const LEFT: u64 = 1 << 63;

fn build(options: &Options) -> Result<Box<dyn Algorithm>, BalancerError> {
    let fits = |factor: &f64| (1.0..=100.0).contains(factor);
    let factor = options.parse("factor", 1.25, "a number from 1 to 100", fits)?;
    Ok(Box::new(Bounded {
        factor: (factor * PARTS).round() as u64,
        keeper: RingKeeper::default(),
        total: Arc::default(),
        accounts: Ledgers::default(),
        fallback: Fallback::from_options(options)?,
    }))
}

#[derive(Debug)]
struct Bounded {
    /// c in parts of [`PARTS`].
    factor: u64,
    keeper: RingKeeper,
    total: Arc<AtomicU64>,
    accounts: Ledgers<Account>,
    fallback: Fallback,
}

/// The requests that this balancer has running on one host.
#[derive(Debug)]
struct Account {
    /// Their number, with [`LEFT`] set while the host is no member.
    running: AtomicU64,
    /// The requests on all members. Each change of `running` that happens without [`LEFT`] is repeated here: a request
    /// that comes is added first, one that ends is taken off last, so the total holds every request that is on its way.
    total: Arc<AtomicU64>,
    /// What the fallback keeps, which must hear of every end of a request.
    fallback: Option<Arc<dyn Ledger>>,
}

impl Account {
    /// Counts a request that `total` holds already, if `room` for one more than the given number is left.
    fn reserve(&self, room: impl Fn(u64) -> bool) -> bool {
        self.running
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |running| {
                (running & LEFT == 0 && room(running)).then_some(running + 1)
            })
            .is_ok()
    }

    /// Gives a reservation back; `total` holds the request still, or again if the host has left since.
    fn cancel(&self) {
        if self.running.fetch_sub(1, Ordering::SeqCst) & LEFT != 0 {
            self.total.fetch_add(1, Ordering::SeqCst);
        }
    }
}

impl Ledger for Account {
    fn took(&self) {
        self.total.fetch_add(1, Ordering::SeqCst);
        if self.running.fetch_add(1, Ordering::SeqCst) & LEFT != 0 {
            self.total.fetch_sub(1, Ordering::SeqCst);
        }
    }

    fn returned(&self, host: &Host, in_flight: u64) {
        let before = self
            .running
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |running| {
                (running & !LEFT > 0).then(|| running - 1)
            });
        if before.is_ok_and(|running| running & LEFT == 0) {
            self.total.fetch_sub(1, Ordering::SeqCst);
        }
        if let Some(ledger) = &self.fallback {
            ledger.returned(host, in_flight);
        }
    }

    fn joined(&self) {
        let running = self.running.fetch_and(!LEFT, Ordering::SeqCst);
        if running & LEFT != 0 {
            self.total.fetch_add(running & !LEFT, Ordering::SeqCst);
        }
    }

    fn left(&self) {
        let running = self.running.fetch_or(LEFT, Ordering::SeqCst);
        if running & LEFT == 0 {
            self.total.fetch_sub(running, Ordering::SeqCst);
        }
    }
}

impl Algorithm for Bounded {
    fn arrange(&self, seats: &Arc<[Arc<Seat>]>) -> Box<dyn Chooser> {
        let account = |seat: &Arc<Seat>| {
            let found = self.accounts.find(seat.host.id());
            found.expect("a seat holds its account, which was remembered when the host joined")
        };
        let accounts: Box<[Arc<Account>]> = seats.iter().map(account).collect();
        let rooms = Rooms {
            factor: self.factor,
            weights: seats.iter().map(|s| u64::from(s.host.weight())).sum(),
            ring: self.keeper.ring(seats),
            total: Arc::clone(&self.total),
            accounts,
            seats: Arc::clone(seats),
        };
        self.fallback.beside(rooms, seats)
    }

    fn starts_slowly(&self) -> bool {
        false
    }

    fn ledger(&self, host: &Arc<Host>) -> Option<Arc<dyn Ledger>> {
        if let Some(account) = self.accounts.find(host.id()) {
            return Some(account);
        }
        let account = Arc::new(Account {
            running: AtomicU64::new(LEFT),
            total: Arc::clone(&self.total),
            fallback: self.fallback.ledger(host),
        });
        self.accounts.remember(host.id(), &account);
        Some(account)
    }
}

#[derive(Debug)]
struct Rooms {
    factor: u64,
    /// W.
    weights: u64,
    ring: Arc<Ring>,
    total: Arc<AtomicU64>,
    accounts: Box<[Arc<Account>]>,
    seats: Arc<[Arc<Seat>]>,
}

impl HasKey for Rooms {
    fn has_key(&self, request: &Request<'_>) -> bool {
        request.hash_key().is_some()
    }
}

impl Choose for Rooms {
    fn choose<M: Mode>(&self, request: &Request<'_>, mode: &M) -> Option<usize> {
        let total = self.total.load(Ordering::SeqCst) + 1;
        let fits = |position: usize| {
            let running = self.accounts[position].running.load(Ordering::SeqCst);
            let room = running & LEFT == 0 && self.has_room(position, running, total);
            if !room {
                mode.passes(position, Reason::Bound);
            }
            room
        };
        self.along_the_ring(request, fits, mode)
            .or_else(|| self.emptiest(request))
    }

    fn rank(&self, request: &Request<'_>, _: Option<usize>, rehearsal: &Rehearsal) {
        let total = self.total.load(Ordering::SeqCst) + 1;
        for position in self.ring.walk(request.hash_key().unwrap_or_default()) {
            let running = self.accounts[position].running.load(Ordering::SeqCst) & !LEFT;
            let share = total as f64 * f64::from(self.seats[position].host.weight());
            let load = running as f64 * self.weights as f64 / share;
            let reason = match self.has_room(position, running, total) {
                true => Reason::Ring,
                false => Reason::Bound,
            };
            if !rehearsal.ranks(position, Some(load), reason) {
                break;
            }
        }
    }

    fn choose_and_count(&self, request: &Request<'_>, seats: &[Arc<Seat>]) -> Option<usize> {
        self.total.fetch_add(1, Ordering::SeqCst);
        let reserve = |position: usize| {
            // Read anew at each host: the requests that filled it since have made room elsewhere.
            let total = self.total.load(Ordering::SeqCst);
            self.accounts[position].reserve(|running| self.has_room(position, running, total))
                && self.count(position, seats)
        };
        let along = self.along_the_ring(request, reserve, &Earnest);
        let chosen = along.or_else(|| {
            self.emptiest(request).filter(|&position| {
                self.accounts[position].reserve(|_| true) && self.count(position, seats)
            })
        });
        if chosen.is_none() {
            self.total.fetch_sub(1, Ordering::SeqCst);
        }
        chosen
    }
}

impl Rooms {
    /// Whether `running` < c·m·w/W, which for integers is `running` + 1 ≤ ⌈c·m·w/W⌉.
    fn has_room(&self, position: usize, running: u64, total: u64) -> bool {
        let weight = self.seats[position].host.weight();
        let capacity = u128::from(self.factor) * u128::from(total) * u128::from(weight);
        u128::from(running) * u128::from(self.weights) * (PARTS as u128) < capacity
    }

    /// Counts on the host a request that its account has reserved, and gives the reservation back if the host is full.
    fn count(&self, position: usize, seats: &[Arc<Seat>]) -> bool {
        let seat = &seats[position];
        let room = seat.live().inc_below(seat.limit());
        if !room {
            self.accounts[position].cancel();
        }
        room
    }

    /// The first host clockwise that `request` may take and for which `take` holds.
    fn along_the_ring(
        &self,
        request: &Request<'_>,
        take: impl Fn(usize) -> bool,
        mode: &impl Mode,
    ) -> Option<usize> {
        self.ring
            .walk(request.hash_key()?)
            .take(LONGEST_WALK)
            .inspect(|&position| mode.sees(position))
            .find(|&p| request.may_take(p, &self.seats[p]) && take(p))
    }

    /// The host with the fewest requests by weight among those that `request` may take. If that are all, it has room: its
    /// load by weight is at most the mean, and a capacity is above the mean.
    fn emptiest(&self, request: &Request<'_>) -> Option<usize> {
        let load = |position: usize| {
            let running = self.accounts[position].running.load(Ordering::SeqCst);
            let weight = self.seats[position].host.weight();
            (running & LEFT == 0).then(|| running as f64 / f64::from(weight))
        };
        (0..self.seats.len())
            .filter(|&position| request.may_take(position, &self.seats[position]))
            .filter_map(|position| Some((load(position)?, position)))
            .min_by(|a, b| a.0.total_cmp(&b.0))
            .map(|(_, position)| position)
    }
}
