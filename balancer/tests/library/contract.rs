//! What every algorithm of the registry guarantees.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use ballast_balancer::{
    ALGORITHMS, BalancerError, Host, HostId, Joining, Options, Selection, build,
};

use super::{build_with, by_weight, host, hosts, pick, seeded, weighted};

/// Runs `test` for each algorithm, with and without a key.
fn for_each_algorithm(test: impl Fn(&'static str, Selection<'static>)) {
    let client = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));
    for info in ALGORITHMS {
        test(info.name, Selection::new());
        test(info.name, Selection::new().key(b"some key").client(client));
    }
}

#[test]
fn without_hosts_a_pick_is_an_error() {
    for_each_algorithm(|name, request| {
        let balancer = build(name, []).expect("a balancer");
        assert_eq!(
            balancer.balance_host(&request).err(),
            Some(BalancerError::NoHosts),
            "{name}"
        );
        assert_eq!(
            balancer.lease(&request).err(),
            Some(BalancerError::NoHosts),
            "{name}"
        );
    });
}

#[test]
fn a_single_host_gets_all_requests() {
    for_each_algorithm(|name, request| {
        let balancer = build(name, [host(1)]).expect("a balancer");
        for _ in 0..100 {
            assert_eq!(pick(&balancer, request), *host(1).id(), "{name}");
        }
    });
}

#[test]
fn all_hosts_can_be_removed_and_added_again() {
    for_each_algorithm(|name, request| {
        let all = hosts(5);
        let balancer = build(name, all.clone()).expect("a balancer");
        for host in &all {
            balancer.remove_host(host.id()).expect("a member");
        }
        assert_eq!(
            balancer.lease(&request).err(),
            Some(BalancerError::NoHosts),
            "{name}"
        );
        balancer.add_host(Arc::clone(&all[3])).expect("no member");
        assert_eq!(pick(&balancer, request), *all[3].id(), "{name}");
    });
}

#[test]
fn duplicate_and_unknown_hosts_are_errors() {
    for_each_algorithm(|name, _| {
        let balancer = build(name, hosts(3)).expect("a balancer");
        let (member, unknown_host) = (host(1), host(7));
        let id = unknown_host.id();
        let unknown_error = Err(BalancerError::UnknownHost(id.clone()));
        let duplicate_error = Err(BalancerError::AlreadyAdded(member.id().clone()));
        assert_eq!(balancer.add_host(host(1)), duplicate_error, "{name}");
        assert_eq!(balancer.remove_host(id), unknown_error, "{name}");
        assert_eq!(balancer.inc(id), unknown_error, "{name}");
        assert_eq!(balancer.done(id), unknown_error, "{name}");
        assert_eq!(
            build(name, [member.clone(), member]).err(),
            duplicate_error.err(),
            "{name}"
        );
    });
}

#[test]
fn the_error_for_an_unknown_algorithm_lists_the_known_ones() {
    let error = build("leastload", hosts(1)).expect_err("no such algorithm");
    for info in ALGORITHMS {
        assert!(error.to_string().contains(info.name), "{error}");
    }
}

#[test]
fn names_accept_hyphens_for_underscores() {
    for info in ALGORITHMS {
        let hyphens = info.name.replace('_', "-");
        assert!(build(&hyphens, hosts(1)).is_ok(), "{hyphens}");
    }
}

#[test]
fn options_are_validated() {
    for info in ALGORITHMS {
        let unknown_option = format!("{}(colour=red)", info.name);
        let error = build(&unknown_option, hosts(1)).expect_err("no such option");
        assert!(
            matches!(error, BalancerError::UnknownOption { .. }),
            "{error}"
        );
        for option in info.options {
            let set =
                |value: &str| build(&format!("{}({}={value})", info.name, option.name), hosts(1));
            assert!(
                set(option.default).is_ok(),
                "{}: {}",
                info.name,
                option.name
            );
            let error = set("nonsense").expect_err("no such value");
            assert!(
                matches!(error, BalancerError::InvalidOption { .. }),
                "{error}"
            );
        }
    }
}

#[test]
fn weight_zero_gets_no_requests_and_all_zero_is_an_error() {
    for_each_algorithm(|name, request| {
        let balancer = build(name, by_weight(&[0, 3, 0, 1])).expect("a balancer");
        for _ in 0..200 {
            let chosen = balancer.balance_host(&request).expect("a host");
            assert!(chosen.weight() > 0, "{name}");
        }
        let balancer = build(name, by_weight(&[0, 0])).expect("a balancer");
        assert_eq!(
            balancer.lease(&request).err(),
            Some(BalancerError::NoHosts),
            "{name}"
        );
    });
}

#[test]
fn a_tried_host_is_not_chosen_while_another_remains() {
    for_each_algorithm(|name, request| {
        // Very different weights: random draws alone would hardly ever find the remaining host.
        let all = by_weight(&[10_000, 1, 5_000, 10_000, 70]);
        let balancer = build(name, all.clone()).expect("a balancer");
        let mut tried: Vec<HostId> = Vec::new();
        for _ in &all {
            for _ in 0..100 {
                let chosen = pick(&balancer, request.tried(&tried));
                assert!(!tried.contains(&chosen), "{name}: {chosen} again");
            }
            let lease = balancer.lease(&request.tried(&tried)).expect("a host");
            assert!(!tried.contains(lease.host().id()), "{name}");
            tried.push(lease.host().id().clone());
        }
        // No host remains, and unknown or repeated hosts do not change the outcome.
        tried.push(tried[0].clone());
        tried.push(host(99).id().clone());
        assert!(balancer.lease(&request.tried(&tried)).is_ok(), "{name}");
    });
}

#[test]
fn idle_hosts_get_their_shares_by_weight() {
    let weights = [1, 2, 3, 4];
    for info in ALGORITHMS {
        let all = by_weight(&weights);
        let balancer = seeded(info.name, &all, 7);
        let mut counts = [0usize; 4];
        for i in 0..20_000u32 {
            let key = i.to_le_bytes();
            let client = IpAddr::V4(Ipv4Addr::from_bits(i.wrapping_mul(2_654_435_761)));
            let request = Selection::new().key(&key).client(client);
            let lease = balancer.lease(&request).expect("a host");
            let position = all.iter().position(|host| host.id() == lease.host().id());
            counts[position.expect("one of ours")] += 1;
        }
        for (count, weight) in counts.into_iter().zip(weights) {
            let expected = 2_000.0 * f64::from(weight);
            // A ring's share has a standard deviation of 8 % of itself; the other algorithms are much closer.
            let slack = expected * 0.3;
            assert!(
                (count as f64 - expected).abs() < slack,
                "{}: {counts:?}",
                info.name
            );
        }
    }
}

#[test]
fn a_lease_counts_one_request_until_it_is_dropped() {
    for_each_algorithm(|name, request| {
        let only = host(1);
        let balancer = build(name, [Arc::clone(&only)]).expect("a balancer");
        let first = balancer.lease(&request).expect("a host");
        let second = balancer.lease(&request).expect("a host");
        assert_eq!(only.in_flight(), 2, "{name}");
        drop(first);
        assert_eq!(only.in_flight(), 1, "{name}");
        balancer.inc(only.id()).expect("a member");
        drop(second);
        assert_eq!(only.in_flight(), 1, "{name}");
        balancer.done(only.id()).expect("a member");
        balancer.done(only.id()).expect("one too many is harmless");
        assert_eq!(only.in_flight(), 0, "{name}");
    });
}

#[test]
fn requests_of_a_removed_host_still_end() {
    for_each_algorithm(|name, request| {
        let (removed, other) = (host(1), host(2));
        let balancer = build(name, [Arc::clone(&removed)]).expect("a balancer");
        let lease = balancer.lease(&request).expect("a host");
        balancer.inc(removed.id()).expect("a member");
        balancer.remove_host(removed.id()).expect("a member");
        balancer.add_host(other).expect("no member");
        assert_eq!(removed.in_flight(), 2, "{name}");
        balancer
            .done(removed.id())
            .expect("it was removed with a request in flight");
        assert_eq!(removed.in_flight(), 1, "{name}");
        balancer.add_host(Arc::clone(&removed)).expect("no member");
        drop(lease);
        assert_eq!(removed.in_flight(), 0, "{name}");
    });
}

#[test]
fn in_flight_counts_survive_a_change_of_weight_and_algorithm() {
    let host = host(1);
    let before = build("random", [Arc::clone(&host)]).expect("a balancer");
    let lease = before.lease(&Selection::new()).expect("a host");
    let heavier = Arc::new(host.with_weight(5).expect("a weight in range"));
    let after = build("least_load", [Arc::clone(&heavier)]).expect("a balancer");
    let second = after.lease(&Selection::new()).expect("a host");
    assert_eq!((heavier.in_flight(), host.in_flight()), (2, 2));
    drop((lease, second));
    assert_eq!(heavier.in_flight(), 0);
}

#[test]
fn a_weight_above_the_limit_is_refused() {
    let error = host(1).with_weight(10_001).expect_err("too heavy");
    assert_eq!(
        error.to_string(),
        "weight 10001 of host `10.0.0.1:80` is not within 0 to 10000"
    );
}

#[test]
fn the_largest_weights_keep_memory_bounded() {
    for info in ALGORITHMS {
        let weights: Vec<u32> = (0..1_000).map(|i| 10_000 - i % 7).collect();
        let balancer = build(info.name, by_weight(&weights)).expect("a balancer");
        balancer
            .add_host(weighted(5_000, 9_999))
            .expect("no member");
        assert!(
            balancer.lease(&Selection::new().key(b"k")).is_ok(),
            "{}",
            info.name
        );
    }
}

/// The hosts that a seeded balancer picks for many keys.
fn picks(name: &str, change: impl FnOnce(&ballast_balancer::Balancer)) -> Vec<HostId> {
    let balancer = build_with(name, hosts(5), &Options::new().seed(7)).expect("a balancer");
    change(&balancer);
    let keys = (0..200_u32).map(|key| key.to_be_bytes());
    let picks = keys.map(|key| {
        let client = IpAddr::V4(Ipv4Addr::from(key));
        pick(&balancer, Selection::new().key(&key).client(client))
    });
    picks.collect()
}

#[test]
fn hosts_that_join_and_leave_together_are_as_those_that_do_one_by_one() {
    for info in ALGORITHMS {
        let all = hosts(20);
        let ids = Vec::from_iter(all[2..9].iter().map(|host| host.id().clone()));
        let together = picks(info.name, |balancer| {
            let set = |hosts: &mut dyn Iterator<Item = &Arc<Host>>| {
                let hosts = hosts.map(|host| Joining::from(Arc::clone(host)));
                balancer.set_hosts(hosts).expect("different hosts");
            };
            // Five are members already.
            set(&mut all.iter());
            set(&mut all.iter().filter(|host| !ids.contains(host.id())));
        });
        let one_by_one = picks(info.name, |balancer| {
            for host in &all[5..] {
                balancer.add_host(Arc::clone(host)).expect("no member");
            }
            for id in &ids {
                balancer.remove_host(id).expect("a member");
            }
        });
        assert_eq!(together, one_by_one, "{}", info.name);
        assert!(
            together.iter().all(|host| !ids.contains(host)),
            "{}",
            info.name
        );
    }
}
