use std::sync::Arc;

use ballast_balancer::{Lease, Selection};

use super::{SEEDS, by_weight, counts, host, hosts, seeded};

#[test]
fn ties_are_spread_at_random() {
    for seed in SEEDS {
        let all = hosts(10);
        let counts = counts(&seeded("least_load", &all, seed), &all, 10_000);
        assert!(
            counts.iter().all(|&count| count <= 1_500),
            "seed {seed}: {counts:?}"
        );
        assert!(
            counts.iter().all(|&count| count >= 800),
            "seed {seed}: {counts:?}"
        );
    }
}

#[test]
fn ties_are_spread_over_many_groups() {
    let all = hosts(1_000);
    let counts = counts(&seeded("least_load", &all, 1), &all, 100_000);
    assert!(
        counts.iter().all(|&count| (50..=160).contains(&count)),
        "{counts:?}"
    );
}

#[test]
fn loads_are_equal_for_any_number_of_hosts() {
    for n in [1, 2, 10, 63, 64, 65, 130, 1_000] {
        let all = hosts(n);
        let balancer = seeded("least_load", &all, 1);
        let mut leases: Vec<Lease> = Vec::new();
        for round in 1..4 {
            for _ in 0..n {
                leases.push(balancer.lease(&Selection::new()).expect("a host"));
            }
            assert!(all.iter().all(|host| host.in_flight() == round), "n = {n}");
        }
        // Requests end on a few hosts: exactly those hosts are chosen next.
        let free: Vec<_> = (0..n).step_by(7).map(|i| Arc::clone(&all[i])).collect();
        leases.retain(|lease| !free.iter().any(|host| host.id() == lease.host().id()));
        for _ in 0..3 * free.len() {
            leases.push(balancer.lease(&Selection::new()).expect("a host"));
        }
        assert!(
            all.iter().all(|host| host.in_flight() == 3),
            "n = {n}: {all:?}"
        );
    }
}

#[test]
fn loads_follow_the_weights_exactly() {
    let weights = [1, 2, 3, 4, 10, 7];
    let all = by_weight(&weights);
    let balancer = seeded("least_load", &all, 1);
    let m = 5 * weights.iter().sum::<u32>();
    let leases: Vec<Lease> = (0..m)
        .map(|_| balancer.lease(&Selection::new()).expect("a host"))
        .collect();
    for (host, weight) in all.iter().zip(weights) {
        assert_eq!(host.in_flight(), u64::from(5 * weight), "{host:?}");
    }
    drop(leases);
}

#[test]
fn a_readded_host_is_chosen_once_its_old_requests_end() {
    let all = hosts(200);
    let balancer = seeded("least_load", &all, 1);
    let mut leases: Vec<Lease> = (0..400)
        .map(|_| balancer.lease(&Selection::new()).expect("a host"))
        .collect();
    balancer.remove_host(all[150].id()).expect("a member");
    balancer.add_host(host(300)).expect("no member");
    balancer.add_host(Arc::clone(&all[150])).expect("no member");
    // The new host first, then the host with one request less.
    for _ in 0..2 {
        let lease = balancer.lease(&Selection::new()).expect("a host");
        assert_eq!(lease.host().id(), host(300).id());
        leases.push(lease);
    }
    leases.retain(|lease| lease.host().id() != all[150].id());
    assert_eq!(all[150].in_flight(), 0);
    for _ in 0..2 {
        let lease = balancer.lease(&Selection::new()).expect("a host");
        assert_eq!(lease.host().id(), all[150].id());
        leases.push(lease);
    }
}
