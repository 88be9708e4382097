use std::sync::Arc;

use ballast_balancer::{Balancer, Host, HostId, Selection, build};

use super::{build_with, host, hosts, pick};

const KEYS: u32 = 100_000;

fn owners(balancer: &Balancer) -> Vec<HostId> {
    (0..KEYS)
        .map(|key| pick(balancer, Selection::new().key(&key.to_le_bytes())))
        .collect()
}

fn balancer(hosts: &[Arc<Host>]) -> Balancer {
    build("consistent_hash", hosts.iter().cloned()).expect("a balancer")
}

#[test]
fn a_new_host_takes_its_share_and_no_other_key_moves() {
    for n in [5, 10, 100] {
        let balancer = balancer(&hosts(n));
        let before = owners(&balancer);
        balancer.add_host(host(n)).expect("no member");
        let after = owners(&balancer);
        let mut moved = 0;
        for (before, after) in before.iter().zip(&after) {
            if before != after {
                moved += 1;
                assert_eq!(
                    after,
                    host(n).id(),
                    "n = {n}: a key moved between other hosts"
                );
            }
        }
        let share = f64::from(moved) / f64::from(KEYS) * (n + 1) as f64;
        assert!(
            (0.7..=1.3).contains(&share),
            "n = {n}: {share} of the expected share moved"
        );
        balancer.remove_host(host(n).id()).expect("a member");
        assert_eq!(
            owners(&balancer),
            before,
            "n = {n}: the keys did not return to their owners"
        );
    }
}

#[test]
fn the_order_of_the_hosts_does_not_matter() {
    let mut all = hosts(10);
    let before = owners(&balancer(&all));
    all.reverse();
    assert_eq!(owners(&balancer(&all)), before);
    all.swap(2, 7);
    let grown = balancer(&all[..4]);
    all[4..]
        .iter()
        .for_each(|host| grown.add_host(Arc::clone(host)).expect("no member"));
    assert_eq!(owners(&grown), before);
}

#[test]
fn keys_return_with_their_host() {
    let all = hosts(10);
    let balancer = balancer(&all);
    let before = owners(&balancer);
    balancer.remove_host(all[3].id()).expect("a member");
    for (then, now) in before.iter().zip(owners(&balancer)) {
        assert!(
            *then == now || then == all[3].id(),
            "a key of {then} moved to {now}"
        );
    }
    balancer.add_host(Arc::clone(&all[3])).expect("no member");
    assert_eq!(owners(&balancer), before);
}

#[test]
fn a_retry_goes_to_the_next_owner_of_the_key() {
    let all = hosts(10);
    let balancer = balancer(&all);
    for key in 0..200u32 {
        let key = key.to_le_bytes();
        let first = pick(&balancer, Selection::new().key(&key));
        let tried = [first.clone()];
        let second = pick(&balancer, Selection::new().key(&key).tried(&tried));
        balancer.remove_host(&first).expect("a member");
        assert_eq!(pick(&balancer, Selection::new().key(&key)), second);
        let returned = all
            .iter()
            .find(|host| *host.id() == first)
            .expect("one of ours");
        balancer.add_host(Arc::clone(returned)).expect("no member");
    }
}

#[test]
fn requests_without_a_key_are_spread() {
    for name in ["consistent_hash", "bounded", "maglev", "ip_hash"] {
        let all = hosts(10);
        let balancer = build(name, all.clone()).expect("a balancer");
        let leases: Vec<_> = (0..1_000)
            .map(|_| balancer.lease(&Selection::new()).expect("a host"))
            .collect();
        assert!(
            all.iter()
                .all(|host| (94..=103).contains(&host.in_flight())),
            "{name}: {all:?}"
        );
        drop(leases);
    }
}

#[test]
fn the_fallback_can_be_chosen() {
    for (fallback, exact) in [
        ("round_robin", true),
        ("least-load", true),
        ("random", false),
    ] {
        for name in ["consistent_hash", "bounded", "maglev", "ip_hash"] {
            let all = hosts(10);
            let options = ballast_balancer::Options::new().seed(1);
            let algorithm = format!("{name}(fallback={fallback})");
            let balancer = build_with(&algorithm, all.clone(), &options).expect("a balancer");
            let leases: Vec<_> = (0..100)
                .map(|_| balancer.lease(&Selection::new()).expect("a host"))
                .collect();
            let even = all.iter().all(|host| host.in_flight() == 10);
            assert_eq!(even, exact, "{name} with {fallback}: {all:?}");
            drop(leases);
        }
    }
}
