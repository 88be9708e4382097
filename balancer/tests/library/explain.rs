//! An explanation predicts the next pick and changes nothing.

use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use ballast_balancer::{
    ALGORITHMS, Balancer, BalancerError, CandidateReason, Clock, Explanation, Host, HostId, Lease,
    Options, Selection,
};
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

use super::{build_with, by_weight, hosts, outcome, seeded, weighted};

/// Runs `test` for each algorithm with its options.
fn for_each_algorithm(test: impl Fn(&'static str)) {
    for info in ALGORITHMS {
        test(info.name);
    }
    test("p2c(load=peak_ewma)");
    test("bounded(factor=1)");
    test("ip_hash(fallback=round_robin)");
    test("consistent_hash(fallback=least_load)");
    test("maglev(fallback=least_time)");
}

/// A balancer with requests in flight. Two scenarios of the same seed stay equal under the same operations.
struct Scenario {
    clock: Clock,
    balancer: Balancer,
    hosts: Vec<Arc<Host>>,
    leases: Vec<Lease>,
    rng: SmallRng,
}

impl Scenario {
    fn new(name: &str, seed: u64) -> Self {
        let rng = &mut SmallRng::seed_from_u64(seed);
        let n = *[1, 2, 3, 7, 20, 150].choose(rng).expect("sizes");
        let limited = rng.gen_bool(0.5);
        let hosts: Vec<Arc<Host>> = (0..n)
            .map(|i| {
                let weight = *[0, 1, 1, 1, 2, 5].choose(rng).expect("weights");
                let limit = limited
                    .then(|| rng.gen_range(1..4))
                    .and_then(NonZeroU64::new);
                Arc::new(weighted(i, weight).with_max_in_flight(limit))
            })
            .collect();
        let clock = Clock::manual();
        let options = Options::new().seed(seed).clock(clock.clone());
        let options = options.slow_start(Duration::from_secs(10), 0.1);
        let balancer = build_with(name, hosts.iter().cloned(), &options).expect("a balancer");
        Scenario {
            clock,
            balancer,
            hosts,
            leases: Vec::new(),
            rng: rng.clone(),
        }
    }

    /// Performs a random operation, then picks a host; `inspect` sees the balancer before the pick.
    fn step(
        &mut self,
        inspect: impl Fn(&Balancer, &Selection<'_>),
    ) -> (Result<HostId, BalancerError>, Vec<HostId>) {
        let rng = &mut self.rng;
        let id = self.hosts.choose(rng).expect("hosts").id().clone();
        match rng.gen_range(0..20) {
            0 => self
                .clock
                .advance(Duration::from_millis(rng.gen_range(0..5_000))),
            1 => self
                .balancer
                .begin_slow_start(&id, Duration::ZERO)
                .expect("a member"),
            2 => self.balancer.inc(&id).expect("a member"),
            3 => self.balancer.done(&id).expect("a member"),
            4..12 if !self.leases.is_empty() => {
                let lease = self.leases.swap_remove(rng.gen_range(0..self.leases.len()));
                let latency = Duration::from_millis(rng.gen_range(1..200));
                lease.finish(outcome(latency, rng.gen_bool(0.8)));
            }
            _ => {}
        }
        let tried: Vec<HostId> = match rng.gen_bool(0.3) {
            true => (0..rng.gen_range(0..4))
                .filter_map(|_| self.hosts.choose(rng))
                .map(|host| host.id().clone())
                .collect(),
            false => Vec::new(),
        };
        let key = rng.r#gen::<u32>().to_le_bytes();
        let mut request = Selection::new().tried(&tried);
        if rng.gen_bool(0.8) {
            request = request.key(&key).client(IpAddr::V4(Ipv4Addr::from(key)));
        }
        inspect(&self.balancer, &request);
        let found = match rng.gen_bool(0.5) {
            true => self.balancer.balance_host(&request).map(|h| h.id().clone()),
            false => self.balancer.lease(&request).map(|lease| {
                let id = lease.host().id().clone();
                self.leases.push(lease);
                id
            }),
        };
        (found, tried)
    }

    fn in_flight(&self) -> Vec<u64> {
        self.hosts.iter().map(|host| host.in_flight()).collect()
    }
}

/// The invariants of every explanation.
#[track_caller]
fn assert_invariants(explained: &Explanation, hosts: &[Arc<Host>], what: &str) {
    let candidates = &explained.candidates;
    let mut ids: Vec<&HostId> = candidates.iter().map(|c| c.host.id()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(
        (ids.len(), candidates.len()),
        (hosts.len(), hosts.len()),
        "{what}"
    );
    let taken: Vec<&HostId> = candidates
        .iter()
        .filter(|candidate| candidate.reason == CandidateReason::Taken)
        .map(|candidate| candidate.host.id())
        .collect();
    assert_eq!(
        taken,
        explained
            .outcome
            .as_ref()
            .ok()
            .into_iter()
            .collect::<Vec<_>>(),
        "{what}"
    );
    for candidate in candidates {
        let limit = candidate
            .host
            .max_in_flight()
            .map_or(u64::MAX, NonZeroU64::get);
        assert_eq!(
            candidate.host.weight() == 0,
            candidate.reason == CandidateReason::NoWeight,
            "{what}"
        );
        let is_full = candidate.in_flight >= limit && candidate.host.weight() > 0;
        assert_eq!(
            is_full,
            candidate.reason == CandidateReason::Full,
            "{what}: {candidate:?}"
        );
    }
}

#[test]
fn an_explanation_predicts_the_next_pick_and_changes_nothing() {
    for_each_algorithm(|name| {
        for seed in 0..40 {
            let what = format!("{name}, seed {seed}");
            let mut observed = Scenario::new(name, seed);
            let mut untouched = Scenario::new(name, seed);
            for step in 0..150 {
                let hosts = observed.hosts.clone();
                let explanations = std::cell::RefCell::new(Vec::new());
                let (found, tried) = observed.step(|balancer, request| {
                    let before: Vec<u64> = hosts.iter().map(|host| host.in_flight()).collect();
                    for _ in 0..step % 3 {
                        let explained = balancer.explain(request);
                        assert_invariants(&explained, &hosts, &what);
                        explanations.borrow_mut().push(explained);
                    }
                    let after: Vec<u64> = hosts.iter().map(|host| host.in_flight()).collect();
                    assert_eq!(before, after, "{what}");
                });
                for explained in explanations.take() {
                    assert_eq!(
                        explained.outcome, found,
                        "{what}, step {step}: {explained:?}"
                    );
                    for candidate in &explained.candidates {
                        let is_tried = tried.contains(candidate.host.id());
                        assert!(
                            is_tried || candidate.reason != CandidateReason::Tried,
                            "{what}"
                        );
                    }
                }
                let (same, _) = untouched.step(|_, _| ());
                assert_eq!(found, same, "{what}, step {step}");
                assert_eq!(
                    observed.in_flight(),
                    untouched.in_flight(),
                    "{what}, step {step}"
                );
            }
        }
    });
}

#[test]
fn without_a_seed_the_explanation_is_a_possible_pick() {
    for_each_algorithm(|name| {
        let hosts = by_weight(&[1, 2, 0, 3]);
        let balancer =
            build_with(name, hosts.iter().cloned(), &Options::new()).expect("a balancer");
        for _ in 0..100 {
            let explained = balancer.explain(&Selection::new());
            assert_invariants(&explained, &hosts, name);
            assert!(explained.outcome.is_ok(), "{name}");
        }
    });
}

/// Identities and reasons in order.
fn reasons(balancer: &Balancer, request: &Selection<'_>) -> Vec<(HostId, CandidateReason)> {
    let candidates = balancer.explain(request).candidates.into_iter();
    candidates
        .map(|c| (c.host.id().clone(), c.reason))
        .collect()
}

#[test]
fn round_robin_lists_the_hosts_in_turn_order() {
    let hosts = hosts(4);
    let balancer = seeded("round_robin", &hosts, 1);
    for first in 0..9 {
        let expected = (0..4).map(|i| {
            let reason = if i == 0 {
                CandidateReason::Taken
            } else {
                CandidateReason::Turn
            };
            (hosts[(first + i) % 4].id().clone(), reason)
        });
        assert_eq!(
            reasons(&balancer, &Selection::new()),
            expected.collect::<Vec<_>>()
        );
        balancer.balance_host(&Selection::new()).expect("a host");
    }
}

#[test]
fn hashing_algorithms_list_the_hosts_in_retry_order() {
    for name in ["consistent_hash", "ip_hash", "maglev"] {
        let hosts = by_weight(&[1, 2, 3, 1, 1, 5]);
        let balancer = seeded(name, &hosts, 1);
        for number in 0..200u32 {
            let key = number.to_le_bytes();
            let request = Selection::new()
                .key(&key)
                .client(IpAddr::V4(Ipv4Addr::from(key)));
            let order: Vec<HostId> = reasons(&balancer, &request)
                .into_iter()
                .map(|c| c.0)
                .collect();
            for tried in 0..order.len() {
                let next = balancer.balance_host(&request.tried(&order[..tried]));
                assert_eq!(*next.expect("a host").id(), order[tried], "{name}");
            }
        }
    }
}

#[test]
fn the_loads_are_those_that_the_algorithm_compares() {
    let hosts = by_weight(&[1, 2, 1]);
    for (name, expected) in [("least_load", 1.0), ("p2c", 1.0)] {
        let balancer = seeded(name, &hosts, 1);
        let leases: Vec<_> = (0..4)
            .map(|_| balancer.lease(&Selection::new()).expect("a host"))
            .collect();
        let explained = balancer.explain(&Selection::new());
        let loads = explained.candidates.iter().map(|candidate| {
            let weight = f64::from(candidate.host.weight());
            assert_eq!(
                candidate.load,
                Some(candidate.in_flight as f64 / weight),
                "{name}"
            );
            candidate.load.unwrap_or_default() * weight
        });
        assert_eq!(loads.sum::<f64>(), 4.0 * expected, "{name}");
        if name == "least_load" {
            assert!(
                explained
                    .candidates
                    .is_sorted_by_key(|c| c.load.map(f64::to_bits))
            );
        }
        drop(leases);
    }
    let balancer = seeded("bounded", &hosts, 1);
    let request = Selection::new().key(b"hot");
    let leases: Vec<_> = (0..8)
        .map(|_| balancer.lease(&request).expect("a host"))
        .collect();
    let explained = balancer.explain(&request);
    for candidate in &explained.candidates {
        // Nine requests, including this one, and a total weight of four.
        let share = 9.0 / 4.0 * f64::from(candidate.host.weight());
        let load = candidate.load.expect("a load");
        assert!((load - candidate.in_flight as f64 / share).abs() < 1e-9);
        assert_eq!(
            load >= 1.25,
            candidate.reason == CandidateReason::Bound,
            "{candidate:?}"
        );
    }
    drop(leases);
}
