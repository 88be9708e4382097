//! The request rate of each client: the generic cell rate algorithm (ITU-T I.371) over a table of fixed size.
//!
//! The state of a client is a single time, its theoretical arrival time: when the client would have sent its last
//! request if it had kept to its rate exactly. A time in the past carries no information, so the table evicts such
//! clients first and loses nothing. A crate (governor, pingora-limits) would save the few lines of arithmetic, but has
//! either an unbounded number of keys or an estimate that makes unrelated clients share a count.

use std::array;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::config::{Rate, RateKey, RouteMatch};
use crate::message::RequestView;

/// Sets in the table. Each has its own lock.
const SETS: usize = 16_384;

/// Clients in a set: 131,072 in all, in 2.2 MiB.
const WAYS: usize = 8;

/// What counts as one client: an IPv4 address, or the /64 network of an IPv6 address, which is what a subscriber is
/// assigned.
pub fn client_network(address: IpAddr) -> IpAddr {
    const NETWORK: u128 = !0 << 64;
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from(u128::from(address) & NETWORK).into(),
        v4 => v4,
    }
}

/// What a rate applies to. A reload may reorder routes; each route keeps its own counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum RateScope<'a> {
    /// All requests.
    All,
    /// The requests of one route. What it matches identifies it: of several routes that match the same, only the first
    /// ever gets a request.
    Route(&'a RouteMatch),
}

/// The rate state of all clients.
#[derive(Debug)]
pub(crate) struct RateLimiter {
    /// Seeded at random, so that an attacker cannot choose keys that collide in one set.
    hasher: RandomState,
    begin: Instant,
    sets: Box<[Mutex<[RateEntry; WAYS]>]>,
}

#[derive(Debug, Clone, Copy, Default)]
struct RateEntry {
    hash: u64,
    /// The theoretical arrival time, in nanoseconds since `begin`.
    arrival: u64,
}

impl Default for RateLimiter {
    fn default() -> Self {
        let sets = (0..SETS).map(|_| Mutex::new(array::from_fn(|_| RateEntry::default())));
        RateLimiter {
            hasher: RandomState::new(),
            begin: Instant::now(),
            sets: sets.collect(),
        }
    }
}

impl RateLimiter {
    /// Counts a request against the rate of `scope`. The error is the time after which the client may retry.
    pub(crate) fn check(
        &self,
        scope: RateScope<'_>,
        rate: &Rate,
        client: Option<IpAddr>,
        request: RequestView<'_>,
    ) -> Result<(), Duration> {
        let value = match &rate.key {
            RateKey::ClientIp => None,
            RateKey::Header(name) => request.get(name),
        };
        let hash = match value {
            Some(value) => self.hasher.hash_one((scope, value)),
            None => self.hasher.hash_one((scope, client.map(client_network))),
        };
        self.spend(hash, rate, self.begin.elapsed())
    }

    fn spend(&self, hash: u64, rate: &Rate, now: Duration) -> Result<(), Duration> {
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let interval = rate.interval();
        let allowance = interval.saturating_mul(rate.burst.get().into());
        let set = &self.sets[hash as usize % SETS];
        // An entry is always written as a whole, so a poisoned lock leaves nothing half-written.
        let mut known = set.lock().unwrap_or_else(PoisonError::into_inner);
        let position = known.iter().position(|known| known.hash == hash);
        let oldest = || (0..WAYS).min_by_key(|&index| known[index].arrival);
        let index = position.or_else(oldest).unwrap_or_default();
        let previous = position.map_or(0, |index| known[index].arrival);
        let arrival = previous.max(now).saturating_add(interval);
        match (arrival - now).checked_sub(allowance) {
            None | Some(0) => {
                known[index] = RateEntry { hash, arrival };
                Ok(())
            }
            Some(wait) => Err(Duration::from_nanos(wait)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::{NonZeroU32, NonZeroU64};

    use proptest::prelude::*;

    use super::*;
    use crate::config::Period;

    fn rate(requests: u32, burst: u32) -> Rate {
        Rate {
            thousandths: NonZeroU64::new(u64::from(requests) * 1_000).expect("above 0"),
            per: Period::Second,
            burst: NonZeroU32::new(burst).expect("above 0"),
            key: RateKey::ClientIp,
        }
    }

    #[test]
    fn a_burst_passes_and_then_one_request_per_interval() {
        let clients = RateLimiter::default();
        let rate = rate(10, 3);
        let second = Duration::from_secs(1);
        for _ in 0..3 {
            assert_eq!(clients.spend(7, &rate, second), Ok(()));
        }
        let wait = Duration::from_millis(100);
        assert_eq!(clients.spend(7, &rate, second), Err(wait));
        assert_eq!(clients.spend(8, &rate, second), Ok(()), "another client");
        assert_eq!(clients.spend(7, &rate, second + wait), Ok(()));
        assert_eq!(clients.spend(7, &rate, second + wait), Err(wait));
        // After an idle period the client has exactly one full burst again.
        let later = second * 100;
        let passed = (0..10).filter(|_| clients.spend(7, &rate, later).is_ok());
        assert_eq!(passed.count(), 3);
    }

    #[test]
    fn a_rate_may_be_slower_than_one_request_per_second() {
        let clients = RateLimiter::default();
        let rate = Rate {
            per: Period::Minute,
            ..rate(5, 1)
        };
        let (second, interval) = (Duration::from_secs(1), Duration::from_secs(12));
        assert_eq!(clients.spend(7, &rate, second), Ok(()));
        assert_eq!(clients.spend(7, &rate, second), Err(interval));
        let early = second + interval - Duration::from_nanos(1);
        assert_eq!(clients.spend(7, &rate, early), Err(Duration::from_nanos(1)));
        assert_eq!(clients.spend(7, &rate, second + interval), Ok(()));
    }

    #[test]
    fn a_million_clients_use_constant_memory_and_evict_no_active_client() {
        let clients = RateLimiter::default();
        let rate = rate(10, 100);
        let now = Duration::from_secs(1);
        for _ in 0..100 {
            assert_eq!(clients.spend(0, &rate, now), Ok(()));
        }
        for client in 1..1_000_000 {
            let hash = clients.hasher.hash_one(client);
            assert_eq!(clients.spend(hash, &rate, now), Ok(()));
        }
        assert!(clients.spend(0, &rate, now).is_err());
        assert_eq!(clients.sets.len(), SETS);
    }

    #[test]
    fn an_ipv6_client_is_a_network_of_64_bits() {
        let network = |text: &str| client_network(text.parse().expect("an address")).to_string();
        assert_eq!(network("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(network("192.0.2.1"), "192.0.2.1");
        assert_eq!(network("::ffff:192.0.2.1"), "192.0.2.1");
    }

    proptest! {
        /// In any time span, no more requests pass than the burst plus what the rate allows for that span.
        #[test]
        fn the_rate_holds_in_every_time_span(
            requests in 1_u32..1_000,
            burst in 1_u32..50,
            gaps in proptest::collection::vec(0_u64..20_000_000, 1..300),
        ) {
            let clients = RateLimiter::default();
            let rate = rate(requests, burst);
            let mut now = Duration::from_secs(1);
            let mut passed = Vec::new();
            for gap in gaps {
                now += Duration::from_nanos(gap);
                if clients.spend(1, &rate, now).is_ok() {
                    passed.push(now);
                }
            }
            for (index, &from) in passed.iter().enumerate() {
                for (count, &to) in passed[index..].iter().enumerate() {
                    // The interval is rounded down to whole nanoseconds.
                    let span = (to - from).as_secs_f64() * 1.001;
                    let limit = f64::from(burst) + span * f64::from(requests) + 1e-6;
                    prop_assert!((count + 1) as f64 <= limit + 1e-3);
                }
            }
        }
    }
}
