//! The table of the paper: even, little disruption, independent of the order.

use std::collections::HashMap;
use std::sync::Arc;

use ballast_balancer::{Balancer, Host, HostId, Selection, build};

use super::{by_weight, hosts, pick};

const KEYS: u32 = 100_000;

fn owners(balancer: &Balancer) -> Vec<HostId> {
    let owner = |key: u32| pick(balancer, Selection::new().key(&key.to_le_bytes()));
    (0..KEYS).map(owner).collect()
}

fn balancer(hosts: &[Arc<Host>]) -> Balancer {
    build("maglev", hosts.iter().cloned()).expect("a balancer")
}

/// The share of the keys of each host, in the order of `hosts`.
fn shares(balancer: &Balancer, hosts: &[Arc<Host>]) -> Vec<f64> {
    let mut counts: HashMap<HostId, u32> = HashMap::new();
    for owner in owners(balancer) {
        *counts.entry(owner).or_default() += 1;
    }
    let count = |host: &Arc<Host>| counts.get(host.id()).copied().unwrap_or(0);
    hosts
        .iter()
        .map(|host| f64::from(count(host)) / f64::from(KEYS))
        .collect()
}

#[test]
fn the_busiest_of_a_hundred_hosts_has_hardly_more_than_the_mean() {
    let all = hosts(100);
    let shares = shares(&balancer(&all), &all);
    let most = shares.iter().copied().fold(0.0, f64::max) * 100.0;
    // The table is even to within one of 655 entries; what is left is the chance of 1,000 keys for each host.
    assert!(most < 1.12, "{most}");
}

#[test]
fn shares_follow_the_weights() {
    let weights = [1, 2, 3, 10, 100];
    let all = by_weight(&weights);
    for (share, weight) in shares(&balancer(&all), &all).into_iter().zip(weights) {
        let expected = f64::from(weight) / 116.0;
        assert!(
            (share / expected - 1.0).abs() < 0.1,
            "{weight}: {share} of {expected}"
        );
    }
}

#[test]
fn a_host_that_joins_or_leaves_moves_little_more_than_its_share() {
    for (n, most) in [(5, 1.1), (10, 1.15), (50, 1.3), (100, 1.8)] {
        let all = hosts(n + 1);
        let (small, large) = (owners(&balancer(&all[..n])), owners(&balancer(&all)));
        let moved = small
            .iter()
            .zip(&large)
            .filter(|(then, now)| then != now)
            .count();
        let minimum = large.iter().filter(|owner| **owner == *all[n].id()).count();
        let ratio = moved as f64 / minimum as f64;
        assert!((1.0..=most).contains(&ratio), "{n} hosts: {ratio}");
    }
}

#[test]
fn neither_order_nor_history_matters() {
    let mut all = hosts(20);
    let before = owners(&balancer(&all));
    all.reverse();
    assert_eq!(owners(&balancer(&all)), before);
    let grown = balancer(&all[..7]);
    for host in &all[7..] {
        grown.add_host(Arc::clone(host)).expect("no member");
    }
    assert_eq!(owners(&grown), before);
    grown.remove_host(all[3].id()).expect("a member");
    grown.add_host(Arc::clone(&all[3])).expect("no member");
    assert_eq!(owners(&grown), before);
}

#[test]
fn a_retry_goes_to_another_host_that_depends_on_the_key() {
    let all = hosts(10);
    let balancer = balancer(&all);
    let mut seconds: HashMap<HostId, u32> = HashMap::new();
    let mut of_first = 0;
    for key in 0..10_000u32 {
        let key = key.to_le_bytes();
        let first = pick(&balancer, Selection::new().key(&key));
        if first != *all[0].id() {
            continue;
        }
        of_first += 1;
        let tried = [first];
        let second = pick(&balancer, Selection::new().key(&key).tried(&tried));
        assert_ne!(second, tried[0]);
        *seconds.entry(second).or_default() += 1;
    }
    // The keys of a host that fails spread over all others.
    assert_eq!(seconds.len(), 9);
    assert!(
        seconds.values().all(|&count| count < of_first / 5),
        "{seconds:?}"
    );
}

#[test]
fn a_host_too_light_for_an_entry_is_picked_if_no_other_is_left() {
    let mut weights = vec![10_000; 60];
    weights.push(1);
    let all = by_weight(&weights);
    let balancer = balancer(&all);
    let tried: Vec<HostId> = all[..60].iter().map(|host| host.id().clone()).collect();
    let request = Selection::new().key(b"k").tried(&tried);
    assert_eq!(pick(&balancer, request), *all[60].id());
}
