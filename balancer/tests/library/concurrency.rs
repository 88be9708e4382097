//! The guarantees of the library under eight and sixteen threads.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use ballast_balancer::{ALGORITHMS, Selection, build};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::{by_weight, hosts, weighted};

const THREADS: u64 = 8;

#[test]
fn a_hundred_thousand_operations_by_eight_threads_leave_nothing_in_flight() {
    for info in ALGORITHMS {
        let name = info.name;
        let all = hosts(80);
        let balancer = build(name, all.clone()).expect("a balancer");
        thread::scope(|scope| {
            for thread in 0..THREADS {
                let (all, balancer) = (&all, &balancer);
                scope.spawn(move || {
                    let rng = &mut SmallRng::seed_from_u64(thread);
                    let mut leases = Vec::new();
                    for _ in 0..100_000 / THREADS {
                        // Hosts 0 to 9 stay, so that there is always a host to choose.
                        let host = &all[rng.gen_range(10..all.len())];
                        match rng.gen_range(0..100) {
                            0 => drop(balancer.remove_host(host.id())),
                            1 => {
                                let weight = rng.gen_range(0..4);
                                let host = host.with_weight(weight).expect("a weight in range");
                                drop(balancer.add_host(Arc::new(host)));
                            }
                            2..52 => {
                                let key: [u8; 2] = rng.r#gen();
                                let client = IpAddr::V4(Ipv4Addr::from_bits(rng.r#gen()));
                                let mut request = Selection::new();
                                if rng.gen_bool(0.8) {
                                    request = request.key(&key).client(client);
                                }
                                leases
                                    .push(balancer.lease(&request).expect("eligible hosts remain"));
                            }
                            _ if leases.is_empty() => {}
                            _ => drop(leases.swap_remove(rng.gen_range(0..leases.len()))),
                        }
                    }
                });
            }
        });
        for host in all {
            assert_eq!(host.in_flight(), 0, "{name}: {host:?}");
        }
    }
}

#[test]
fn round_robin_is_exact_to_one_request_per_host() {
    let weights = [5, 1, 1, 3];
    let all = by_weight(&weights);
    let balancer = build("round_robin", all.clone()).expect("a balancer");
    let counts: Vec<AtomicU64> = all.iter().map(|_| AtomicU64::new(0)).collect();
    const EACH: u64 = 10_001;
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for _ in 0..EACH {
                    let chosen = balancer.balance_host(&Selection::new()).expect("a host");
                    let position = all.iter().position(|host| host.id() == chosen.id());
                    counts[position.expect("one of ours")].fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    let m = THREADS * EACH;
    for (count, weight) in counts.iter().zip(weights) {
        let count = count.load(Ordering::Relaxed);
        let (rounds, rest) = (m / 10, m % 10);
        let least = rounds * u64::from(weight);
        let most = least + rest.min(u64::from(weight));
        assert!(
            (least..=most).contains(&count),
            "{count} of {m} for weight {weight}"
        );
    }
}

#[test]
fn bounded_loads_are_never_exceeded_by_sixteen_threads() {
    const THREADS: u64 = 16;
    const EACH: u64 = 500;
    let weights = [1, 1, 2, 4, 1, 1, 3, 1, 1, 5];
    let all = by_weight(&weights);
    let total_weight = u64::from(weights.iter().sum::<u32>());
    let balancer = build("bounded", all.clone()).expect("a balancer");
    // A request is added here before it is placed, so this is never less than the number that a pick may have counted.
    let placed = AtomicU64::new(0);
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (all, balancer, placed) = (&all, &balancer, &placed);
            scope.spawn(move || {
                let rng = &mut SmallRng::seed_from_u64(thread);
                let mut leases = Vec::new();
                for _ in 0..EACH {
                    placed.fetch_add(1, Ordering::SeqCst);
                    // Few keys, so that hosts fill up all the time.
                    let key = [rng.gen_range(0..4u8)];
                    leases.push(balancer.lease(&Selection::new().key(&key)).expect("a host"));
                    // The loads are read first: m can only have grown since.
                    let loads: Vec<u64> = all.iter().map(|host| host.in_flight()).collect();
                    let m = placed.load(Ordering::SeqCst);
                    for (host, load) in all.iter().zip(loads) {
                        let share = 1.25 * (m * u64::from(host.weight())) as f64;
                        let capacity = (share / total_weight as f64).ceil() as u64;
                        assert!(
                            load <= capacity,
                            "{host:?} has {load} of {m}, over {capacity}"
                        );
                    }
                }
                // No thread releases a lease before all have placed everything.
                leases
            });
        }
    });
    assert!(all.iter().all(|host| host.in_flight() == 0));
}

#[test]
fn bounded_keeps_its_total_while_busy_hosts_are_removed_and_added() {
    let all = hosts(4);
    let balancer = build("bounded", all.clone()).expect("a balancer");
    thread::scope(|scope| {
        for thread in 0..4u64 {
            let balancer = &balancer;
            scope.spawn(move || {
                let rng = &mut SmallRng::seed_from_u64(thread);
                let mut leases = Vec::new();
                for _ in 0..20_000 {
                    if leases.len() < 20 && rng.gen_bool(0.5) {
                        let key = rng.r#gen::<[u8; 2]>();
                        leases.push(balancer.lease(&Selection::new().key(&key)).expect("a host"));
                    } else if !leases.is_empty() {
                        drop(leases.swap_remove(rng.gen_range(0..leases.len())));
                    }
                }
            });
        }
        scope.spawn(|| {
            for _ in 0..5_000 {
                balancer.remove_host(all[3].id()).expect("a member");
                balancer.add_host(Arc::clone(&all[3])).expect("no member");
            }
        });
    });
    // A total that had drifted upwards would now let a hot key accumulate on its first host; one that had drifted
    // downwards would not.
    let request = Selection::new().key(b"hot");
    let leases: Vec<_> = (0..8)
        .map(|_| balancer.lease(&request).expect("a host"))
        .collect();
    let mut loads: Vec<u64> = all.iter().map(|host| host.in_flight()).collect();
    loads.sort_unstable();
    assert_eq!(loads.iter().sum::<u64>(), 8);
    assert!(loads[3] <= 3, "{loads:?}: above the capacity of 3");
    drop(leases);
}

#[test]
fn least_load_finds_the_minimum_after_concurrent_use() {
    let all: Vec<_> = (0..300).map(|i| weighted(i, 1 + i as u32 % 3)).collect();
    let balancer = build("least_load", all.clone()).expect("a balancer");
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let balancer = &balancer;
            scope.spawn(move || {
                let rng = &mut SmallRng::seed_from_u64(thread);
                let mut leases = Vec::new();
                for _ in 0..20_000 {
                    if leases.len() < 200 && rng.gen_bool(0.55) {
                        leases.push(balancer.lease(&Selection::new()).expect("a host"));
                    } else if !leases.is_empty() {
                        drop(leases.swap_remove(rng.gen_range(0..leases.len())));
                    }
                }
            });
        }
    });
    // The concurrent phase is over: 1,200 requests fill 600 units of weight to two each.
    let leases: Vec<_> = (0..1_200)
        .map(|_| balancer.lease(&Selection::new()).expect("a host"))
        .collect();
    for host in &all {
        let full = u64::from(2 * host.weight());
        assert!(host.in_flight().abs_diff(full) <= 1, "{host:?}");
    }
    drop(leases);
}
