use std::sync::Arc;

use ballast_balancer::{Lease, Options, Selection, build};
use proptest::prelude::*;

use super::{build_with, by_weight, host, hosts, pick};

#[test]
fn a_hot_key_spreads_over_several_hosts() {
    let all = hosts(10);
    let balancer = build("bounded", all.clone()).expect("a balancer");
    let ring_host = pick(&balancer, Selection::new().key(b"hot"));
    let leases: Vec<Lease> = (0..100)
        .map(|_| {
            balancer
                .lease(&Selection::new().key(b"hot"))
                .expect("a host")
        })
        .collect();
    let busiest = all.iter().map(|host| host.in_flight()).max();
    assert_eq!(busiest, Some(13));
    assert_eq!(
        all.iter()
            .find(|host| *host.id() == ring_host)
            .map(|host| host.in_flight()),
        Some(13)
    );
    assert!(
        all.iter().filter(|host| host.in_flight() > 0).count() >= 8,
        "{all:?}"
    );
    drop(leases);
}

#[test]
fn below_capacity_keys_stay_on_their_ring_host() {
    let all = hosts(10);
    let (bounded, ring) = (
        build("bounded", all.clone()),
        build("consistent_hash", all.clone()),
    );
    let (bounded, ring) = (bounded.expect("a balancer"), ring.expect("a balancer"));
    for key in 0..1_000u32 {
        let key = key.to_le_bytes();
        let request = Selection::new().key(&key);
        let lease = bounded.lease(&request).expect("a host");
        assert_eq!(*lease.host().id(), pick(&ring, request));
    }
}

#[test]
fn the_total_counts_the_requests_of_members_only() {
    let all = hosts(2);
    let balancer = build("bounded", all.clone()).expect("a balancer");
    let request = Selection::new().key(b"k");
    let before: Vec<Lease> = (0..10)
        .map(|_| balancer.lease(&request).expect("a host"))
        .collect();
    let (busy, other) = if all[0].in_flight() > all[1].in_flight() {
        (0, 1)
    } else {
        (1, 0)
    };
    assert_eq!((all[busy].in_flight(), all[other].in_flight()), (7, 3));
    balancer.remove_host(all[busy].id()).expect("a member");
    balancer.add_host(host(5)).expect("no member");
    // m is 3 again, not 10: with the next request the capacity is ceil(1.25 · 4 / 2) = 3.
    let next = balancer.lease(&request).expect("a host");
    assert_ne!(next.host().id(), all[other].id());
    balancer
        .add_host(Arc::clone(&all[busy]))
        .expect("no member");
    // m is 11 with the 7 that are still in flight there: the capacity is ceil(1.25 · 12 / 3) = 5, and 7 is above it.
    let after = balancer.lease(&request).expect("a host");
    assert_ne!(after.host().id(), all[busy].id());
    drop((before, next, after));
    assert!(all.iter().all(|host| host.in_flight() == 0));
}

#[test]
fn the_factor_is_between_1_and_100() {
    for bad in ["0.99", "0", "-1", "NaN", "inf", "101", "1.2.5"] {
        let algorithm = format!("bounded(factor={bad})");
        let error = build_with(&algorithm, hosts(2), &Options::new()).expect_err("no such factor");
        let expected = format!("`factor` is `{bad}`, expected a number from 1 to 100");
        assert_eq!(error.to_string(), expected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_host_is_above_its_capacity(
        weights in proptest::collection::vec(1u32..20, 1..15),
        keys in proptest::collection::vec(0u8..5, 1..300),
        percent in 100u64..300,
    ) {
        let all = by_weight(&weights);
        let algorithm = format!("bounded(factor={})", percent as f64 / 100.0);
        let balancer = build_with(&algorithm, all.iter().cloned(), &Options::new()).expect("a balancer");
        let total_weight: u64 = weights.iter().map(|&weight| u64::from(weight)).sum();
        let mut leases = Vec::new();
        for (m, key) in (1u64..).zip(&keys) {
            let lease = balancer.lease(&Selection::new().key(&[*key])).expect("a host");
            let host = lease.host();
            // ceil(c·m·w/W) in integers.
            let capacity = (percent * m * u64::from(host.weight())).div_ceil(100 * total_weight);
            prop_assert!(host.in_flight() <= capacity, "{:?} above {}", host, capacity);
            leases.push(lease);
        }
    }
}
