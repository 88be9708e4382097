//! `max_in_flight`: no pick exceeds the limit of a host, and no pick fails while a host has capacity.

use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::thread;

use ballast_balancer::{ALGORITHMS, BalancerError, Host, HostId, Lease, Selection, build};
use proptest::prelude::*;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::{by_weight, host, hosts, pick, seeded};

/// `host` with a limit; 0 means no limit.
fn limited(host: &Host, limit: u64) -> Arc<Host> {
    Arc::new(host.with_max_in_flight(NonZeroU64::new(limit)))
}

fn all_limited(hosts: &[Arc<Host>], limit: u64) -> Vec<Arc<Host>> {
    hosts.iter().map(|host| limited(host, limit)).collect()
}

/// A request with or without the key that some algorithms use.
fn request(keyed: bool, key: &[u8; 4]) -> Selection<'_> {
    let client = IpAddr::V4(Ipv4Addr::from(*key));
    match keyed {
        true => Selection::new().key(key).client(client),
        false => Selection::new(),
    }
}

fn for_each_algorithm(test: impl Fn(&'static str, bool)) {
    for info in ALGORITHMS {
        test(info.name, false);
        test(info.name, true);
    }
}

#[test]
fn a_change_of_weight_keeps_the_limit() {
    let plain = host(1);
    assert_eq!(plain.max_in_flight(), None);
    let limit = NonZeroU64::new(7);
    let limited = plain.with_max_in_flight(limit);
    assert_eq!(limited.max_in_flight(), limit);
    let heavier = limited.with_weight(3).expect("a weight in range");
    assert_eq!((heavier.max_in_flight(), heavier.weight()), (limit, 3));
    let free = heavier.with_max_in_flight(None);
    assert_eq!((free.max_in_flight(), free.weight()), (None, 3));
    let lease = build("random", [Arc::new(limited)])
        .and_then(|balancer| balancer.lease(&Selection::new()))
        .expect("a host");
    assert_eq!((plain.in_flight(), free.in_flight()), (1, 1));
    drop(lease);
}

#[test]
fn other_hosts_are_chosen_until_all_are_full() {
    for_each_algorithm(|name, keyed| {
        // 130 hosts are three groups of least_load.
        for n in [1, 3, 130] {
            let all = all_limited(&hosts(n), 2);
            let balancer = build(name, all.clone()).expect("a balancer");
            let request = request(keyed, &[1, 2, 3, 4]);
            let mut leases: Vec<Lease> = (0..2 * n)
                .map(|i| {
                    balancer
                        .lease(&request)
                        .unwrap_or_else(|error| panic!("{name}, {i} of {n}: {error}"))
                })
                .collect();
            assert!(all.iter().all(|host| host.in_flight() == 2), "{name}");
            for error in [
                balancer.lease(&request).err(),
                balancer.balance_host(&request).err(),
                balancer.lease_of(all[0].id()).err(),
            ] {
                assert_eq!(error, Some(BalancerError::Busy), "{name}");
            }
            // A host with capacity again is found, whatever its position.
            let freed = leases.swap_remove(n / 2).host().id().clone();
            assert_eq!(pick(&balancer, request), freed, "{name}");
            let lease = balancer.lease(&request).expect("capacity for one");
            assert_eq!(*lease.host().id(), freed, "{name}");
            // `inc` counts regardless of the limit, and the end of a request above the limit frees no capacity.
            balancer.inc(&freed).expect("a member");
            drop(lease);
            assert_eq!(balancer.lease(&request).err(), Some(BalancerError::Busy));
            balancer.done(&freed).expect("a request of it runs");
            assert!(balancer.lease(&request).is_ok(), "{name}");
        }
    });
}

#[test]
fn busy_is_not_no_hosts() {
    for_each_algorithm(|name, keyed| {
        let request = request(keyed, &[1, 2, 3, 4]);
        let only = limited(&host(1), 1);
        let idle = by_weight(&[0]);
        let balancer = build(name, [Arc::clone(&only), Arc::clone(&idle[0])]);
        let balancer = balancer.expect("a balancer");
        let lease = balancer.lease(&request).expect("a host");
        assert_eq!(
            balancer.lease(&request).err(),
            Some(BalancerError::Busy),
            "{name}"
        );
        balancer.remove_host(only.id()).expect("a member");
        assert_eq!(
            balancer.lease(&request).err(),
            Some(BalancerError::NoHosts),
            "{name}"
        );
        drop(lease);
    });
}

#[test]
fn a_tried_host_is_not_chosen_again_while_an_untried_one_is_full() {
    for_each_algorithm(|name, keyed| {
        let request = request(keyed, &[1, 2, 3, 4]);
        let all = all_limited(&hosts(2), 1);
        let balancer = build(name, all.clone()).expect("a balancer");
        let lease = balancer
            .lease_of(all[0].id())
            .expect("a member with capacity");
        let tried = [all[1].id().clone()];
        assert_eq!(
            balancer.lease(&request.tried(&tried)).err(),
            Some(BalancerError::Busy),
            "{name}"
        );
        // Once every host has been tried, those with capacity are chosen again.
        let tried: Vec<HostId> = all.iter().map(|host| host.id().clone()).collect();
        assert_eq!(
            pick(&balancer, request.tried(&tried)),
            *all[1].id(),
            "{name}"
        );
        drop(lease);
    });
}

#[test]
fn lease_of_counts_like_any_other_lease() {
    for_each_algorithm(|name, _| {
        let all = hosts(2);
        let balancer = build(name, all.clone()).expect("a balancer");
        let lease = balancer.lease_of(all[1].id()).expect("a member");
        assert_eq!(lease.host().id(), all[1].id(), "{name}");
        assert_eq!((all[0].in_flight(), all[1].in_flight()), (0, 1), "{name}");
        drop(lease);
        assert_eq!(all[1].in_flight(), 0, "{name}");
        let unknown = host(9);
        assert_eq!(
            balancer.lease_of(unknown.id()).err(),
            Some(BalancerError::UnknownHost(unknown.id().clone())),
            "{name}"
        );
    });
}

#[test]
fn requests_of_a_full_host_go_to_the_next_hosts_on_the_ring() {
    for n in [5, 300] {
        let all = all_limited(&hosts(n), 1);
        let balancer = build("consistent_hash", all.clone()).expect("a balancer");
        for key in 0..50u32 {
            let key = key.to_be_bytes();
            let request = Selection::new().key(&key);
            let mut order = Vec::new();
            let mut tried = Vec::new();
            // A retry goes to the owner that the key would have without the tried hosts.
            for _ in 0..5 {
                let next = pick(&balancer, request.tried(&tried));
                order.push(next.clone());
                tried.push(next);
            }
            let leases: Vec<Lease> = (0..5)
                .map(|_| balancer.lease(&request).expect("a host"))
                .collect();
            let chosen: Vec<HostId> = leases.iter().map(|l| l.host().id().clone()).collect();
            assert_eq!(chosen, order);
        }
    }
}

#[test]
fn the_load_of_a_full_host_spreads_over_all_others() {
    for name in ["random", "round_robin"] {
        let mut all = hosts(5);
        all[2] = limited(&all[2], 1);
        let balancer = seeded(name, &all, 1);
        let _full = balancer.lease_of(all[2].id()).expect("a member");
        let counts = super::counts(&balancer, &all, 10_000);
        assert_eq!(counts[2], 0, "{name}");
        for count in [counts[0], counts[1], counts[3], counts[4]] {
            assert!((2_300..=2_700).contains(&count), "{name}: {counts:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_lease_fails_only_when_all_are_full(
        limits in proptest::collection::vec(0u64..4, 1..12),
        weights in proptest::collection::vec(1u32..5, 12),
        algorithm in 0..ALGORITHMS.len(),
        steps in proptest::collection::vec((any::<[u8; 4]>(), any::<bool>(), 0u8..3), 1..120),
    ) {
        let name = ALGORITHMS[algorithm].name;
        let hosts = by_weight(&weights[..limits.len()]);
        let all: Vec<_> = hosts.iter().zip(&limits).map(|(host, &limit)| limited(host, limit)).collect();
        let balancer = seeded(name, &all, 1);
        let mut leases: Vec<Lease> = Vec::new();
        for (key, keyed, step) in steps {
            if step == 0 && !leases.is_empty() {
                drop(leases.swap_remove(usize::from(key[0]) % leases.len()));
                continue;
            }
            let has_capacity = all.iter().any(|host| {
                host.max_in_flight().is_none_or(|limit| host.in_flight() < limit.get())
            });
            match balancer.lease(&request(keyed, &key)) {
                Ok(lease) => leases.push(lease),
                Err(error) => {
                    prop_assert_eq!(error, BalancerError::Busy);
                    prop_assert!(!has_capacity, "{} had capacity", name);
                }
            }
            for host in &all {
                let above = host.max_in_flight().is_some_and(|limit| host.in_flight() > limit.get());
                prop_assert!(!above, "{}: {:?}", name, host);
            }
        }
    }
}

#[test]
fn sixteen_threads_never_exceed_a_limit() {
    const THREADS: u64 = 16;
    const EACH: u32 = 3_000;
    const LIMIT: u64 = 3;
    for_each_algorithm(|name, keyed| {
        let all = all_limited(&hosts(10), LIMIT);
        let balancer = build(name, all.clone()).expect("a balancer");
        thread::scope(|scope| {
            for thread in 0..THREADS {
                let (all, balancer) = (&all, &balancer);
                scope.spawn(move || {
                    let rng = &mut SmallRng::seed_from_u64(thread);
                    let mut leases: Vec<Lease> = Vec::new();
                    for _ in 0..EACH {
                        // 16 threads with up to 3 leases would hold 48 requests; the limits allow 30.
                        if leases.len() == 3 || !leases.is_empty() && rng.gen_bool(0.4) {
                            drop(leases.swap_remove(rng.gen_range(0..leases.len())));
                            continue;
                        }
                        let key = rng.gen_range(0..4u32).to_be_bytes();
                        match balancer.lease(&request(keyed, &key)) {
                            Ok(lease) => leases.push(lease),
                            Err(error) => assert_eq!(error, BalancerError::Busy, "{name}"),
                        }
                        for host in all {
                            assert!(host.in_flight() <= LIMIT, "{name}: {host:?}");
                        }
                    }
                });
            }
        });
        assert!(all.iter().all(|host| host.in_flight() == 0), "{name}");
        // No capacity was lost: exactly as many requests succeed as the limits allow.
        let leases: Vec<_> = (0..40)
            .filter_map(|_| balancer.lease(&request(keyed, &[0; 4])).ok())
            .collect();
        assert_eq!(leases.len() as u64, 10 * LIMIT, "{name}");
    });
}
