use std::sync::Arc;

use ballast_balancer::{Balancer, Host, Selection};
use proptest::prelude::*;

use super::{by_weight, host, hosts, seeded};

/// The positions of the next `m` picks.
fn sequence(balancer: &Balancer, hosts: &[Arc<Host>], m: usize) -> Vec<usize> {
    let next = |_| {
        let chosen = super::pick(balancer, Selection::new());
        hosts
            .iter()
            .position(|host| *host.id() == chosen)
            .expect("one of ours")
    };
    (0..m).map(next).collect()
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[test]
fn weights_5_1_1_are_interleaved() {
    let all = by_weight(&[5, 1, 1]);
    let found = sequence(&seeded("round_robin", &all, 1), &all, 7);
    assert_eq!(found, [0, 0, 1, 0, 2, 0, 0]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_window_holds_exactly_the_weights(
        weights in proptest::collection::vec(1u32..60, 1..12),
        factor in 1u32..50,
        start in 0usize..100,
    ) {
        let weights: Vec<u32> = weights.iter().map(|weight| weight * factor).collect();
        let divisor = weights.iter().fold(0, |a, &b| gcd(a, b));
        let window: u32 = weights.iter().sum::<u32>() / divisor;
        let all = by_weight(&weights);
        let found = sequence(&seeded("round_robin", &all, 1), &all, start + 2 * window as usize);
        for at in [start, start + window as usize / 2, start + window as usize] {
            let window = &found[at..at + window as usize];
            for (position, weight) in weights.iter().enumerate() {
                let count = window.iter().filter(|&&p| p == position).count();
                prop_assert_eq!(count as u32, weight / divisor);
            }
        }
    }
}

#[test]
fn the_longest_exact_cycle_is_exact() {
    let weights = [10_000, 10_000, 10_000, 10_000, 10_000, 10_000, 5_535, 1];
    assert_eq!(weights.iter().sum::<u32>(), 65_536);
    let all = by_weight(&weights);
    let balancer = seeded("round_robin", &all, 1);
    sequence(&balancer, &all, 1_000);
    let counts = super::counts(&balancer, &all, 65_536);
    assert_eq!(counts, weights.map(|weight| weight as usize));
}

#[test]
fn beyond_the_longest_cycle_shares_are_within_one_percent() {
    let weights = [
        10_000, 9_999, 9_998, 9_997, 9_000, 7_001, 5_003, 10_000, 101,
    ];
    let total: u32 = weights.iter().sum();
    assert!(total > 65_536);
    let all = by_weight(&weights);
    let counts = super::counts(&seeded("round_robin", &all, 1), &all, total as usize);
    for (count, weight) in counts.into_iter().zip(weights) {
        let slack = (f64::from(weight) * 0.01).max(2.0);
        assert!(
            (count as f64 - f64::from(weight)).abs() <= slack,
            "{count} for {weight}"
        );
    }
}

#[test]
fn a_membership_change_keeps_the_turn() {
    let all = hosts(6);
    let balancer = seeded("round_robin", &all[..5], 1);
    assert_eq!(sequence(&balancer, &all, 3), [0, 1, 2]);
    balancer.add_host(host(5)).expect("no member");
    assert_eq!(sequence(&balancer, &all, 4), [3, 4, 5, 0]);
    // If the next host is removed, the one after it follows, and no host is repeated.
    balancer.remove_host(all[1].id()).expect("a member");
    assert_eq!(sequence(&balancer, &all, 6), [2, 3, 4, 5, 0, 2]);
    balancer.remove_host(all[0].id()).expect("a member");
    assert_eq!(sequence(&balancer, &all, 3), [3, 4, 5]);
}

#[test]
fn a_flapping_host_does_not_favour_the_first_host() {
    let all = hosts(5);
    let balancer = seeded("round_robin", &all, 1);
    let mut counts = [0usize; 5];
    for _ in 0..1_000 {
        balancer.remove_host(all[4].id()).expect("a member");
        balancer.add_host(host(4)).expect("no member");
        for position in sequence(&balancer, &all, 3) {
            counts[position] += 1;
        }
    }
    let (least, most) = (counts[..4].iter().min(), counts[..4].iter().max());
    assert!(
        most.expect("hosts") - least.expect("hosts") <= 1,
        "{counts:?}"
    );
}

#[test]
fn retries_of_a_failing_host_spread_over_all_others() {
    let all = hosts(5);
    let balancer = seeded("round_robin", &all, 1);
    let failing = [all[2].id().clone()];
    let mut counts = [0usize; 5];
    for _ in 0..10_000 {
        let mut position = sequence(&balancer, &all, 1)[0];
        if position == 2 {
            let request = Selection::new().tried(&failing);
            let second = super::pick(&balancer, request);
            position = all
                .iter()
                .position(|host| *host.id() == second)
                .expect("one of ours");
        }
        counts[position] += 1;
    }
    assert_eq!(counts[2], 0);
    for count in [counts[0], counts[1], counts[3], counts[4]] {
        assert!((2_400..=2_600).contains(&count), "{counts:?}");
    }
}

#[test]
fn another_balancer_continues_from_the_cursor() {
    for weights in [vec![1, 1, 1, 1], vec![5, 1, 1], vec![3, 2, 7]] {
        let all = by_weight(&weights);
        let cycle: u32 = weights.iter().sum();
        for picks in 0..2 * cycle as usize {
            let before = seeded("round_robin", &all, 1);
            sequence(&before, &all, picks);
            let after = seeded("round_robin", &[], 1);
            all.iter()
                .for_each(|host| after.add_host(Arc::clone(host)).unwrap());
            sequence(&after, &all, 3);
            after.seek(&before.cursor().expect("hosts take turns"));
            assert_eq!(
                sequence(&after, &all, 20),
                sequence(&before, &all, 20),
                "{weights:?} after {picks}"
            );
        }
    }
}

#[test]
fn a_cursor_at_an_unknown_host_is_ignored() {
    let all = hosts(3);
    let balancer = seeded("round_robin", &all, 1);
    sequence(&balancer, &all, 1);
    let cursor = seeded("round_robin", &[host(9)], 1).cursor();
    balancer.seek(&cursor.expect("hosts take turns"));
    assert_eq!(sequence(&balancer, &all, 3), [1, 2, 0]);
}
