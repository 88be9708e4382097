//! The contract of every entry of the registry.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use ballast::balancer::{
    ALGORITHMS, Balancer, BalancerError, Host, HostId, Lease, Options, Selection, build, build_with,
};
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

use super::{by_weight, host, hosts, pick, seeded, weighted};

/// Each algorithm, and each with its key missing as well as there.
fn each(test: impl Fn(&'static str, Selection<'static>)) {
    let client = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));
    for info in ALGORITHMS {
        test(info.name, Selection::new());
        test(info.name, Selection::new().key(b"some key").client(client));
    }
}

#[test]
fn nobody_is_chosen_from_nothing() {
    each(|name, request| {
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
fn a_lone_host_gets_everything() {
    each(|name, request| {
        let balancer = build(name, [host(1)]).expect("a balancer");
        for _ in 0..100 {
            assert_eq!(pick(&*balancer, request), *host(1).id(), "{name}");
        }
    });
}

#[test]
fn all_hosts_may_leave_and_return() {
    each(|name, request| {
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
        assert_eq!(pick(&*balancer, request), *all[3].id(), "{name}");
    });
}

#[test]
fn the_membership_is_kept_strictly() {
    each(|name, _| {
        let balancer = build(name, hosts(3)).expect("a balancer");
        let (member, stranger) = (host(1), host(7));
        let id = stranger.id();
        let unknown = Err(BalancerError::UnknownHost(id.clone()));
        let twice = Err(BalancerError::AlreadyAdded(member.id().clone()));
        assert_eq!(balancer.add_host(host(1)), twice, "{name}");
        assert_eq!(balancer.remove_host(id), unknown, "{name}");
        assert_eq!(balancer.inc(id), unknown, "{name}");
        assert_eq!(balancer.done(id), unknown, "{name}");
        assert_eq!(
            build(name, [member.clone(), member]).err(),
            twice.err(),
            "{name}"
        );
    });
}

#[test]
fn an_unknown_algorithm_is_answered_with_the_known_ones() {
    let error = build("leastload", hosts(1)).expect_err("no such algorithm");
    for info in ALGORITHMS {
        assert!(error.to_string().contains(info.name), "{error}");
    }
}

#[test]
fn hyphens_stand_for_underscores() {
    for info in ALGORITHMS {
        let hyphens = info.name.replace('_', "-");
        assert!(build(&hyphens, hosts(1)).is_ok(), "{hyphens}");
    }
}

#[test]
fn options_are_checked() {
    for info in ALGORITHMS {
        let surplus = Options::new().set("colour", "red");
        let error = build_with(info.name, hosts(1), &surplus).expect_err("no such option");
        assert!(
            matches!(error, BalancerError::UnknownOption { .. }),
            "{error}"
        );
        for option in info.options {
            let set = |value: &str| {
                build_with(info.name, hosts(1), &Options::new().set(option.name, value))
            };
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
fn weight_zero_gets_nothing_and_all_zero_is_no_panic() {
    each(|name, request| {
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
fn a_tried_host_is_not_chosen_while_another_is_left() {
    each(|name, request| {
        // Very different weights: chance would hardly ever find the remaining host.
        let all = by_weight(&[10_000, 1, 5_000, 10_000, 70]);
        let balancer = build(name, all.clone()).expect("a balancer");
        let mut tried: Vec<HostId> = Vec::new();
        for _ in &all {
            for _ in 0..100 {
                let chosen = pick(&*balancer, request.tried(&tried));
                assert!(!tried.contains(&chosen), "{name}: {chosen} again");
            }
            let lease = balancer.lease(&request.tried(&tried)).expect("a host");
            assert!(!tried.contains(lease.host().id()), "{name}");
            tried.push(lease.host().id().clone());
        }
        // No host remains, and unknown or repeated hosts do not disturb the count.
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
    each(|name, request| {
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
fn what_runs_on_a_host_that_left_still_ends() {
    each(|name, request| {
        let (leaver, other) = (host(1), host(2));
        let balancer = build(name, [Arc::clone(&leaver)]).expect("a balancer");
        let lease = balancer.lease(&request).expect("a host");
        balancer.inc(leaver.id()).expect("a member");
        balancer.remove_host(leaver.id()).expect("a member");
        balancer.add_host(other).expect("no member");
        assert_eq!(leaver.in_flight(), 2, "{name}");
        balancer
            .done(leaver.id())
            .expect("it left with a request running");
        assert_eq!(leaver.in_flight(), 1, "{name}");
        balancer.add_host(Arc::clone(&leaver)).expect("no member");
        drop(lease);
        assert_eq!(leaver.in_flight(), 0, "{name}");
    });
}

#[test]
fn live_state_survives_another_weight_and_another_algorithm() {
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

/// The simplest model of what must be true of a balancer.
#[derive(Default)]
struct Model {
    members: HashMap<HostId, Arc<Host>>,
    leases: Vec<Lease>,
    /// Requests by host, members or not.
    running: HashMap<HostId, u64>,
    /// Requests counted by `inc`.
    counted: Vec<HostId>,
}

impl Model {
    fn eligible(&self) -> impl Iterator<Item = &Arc<Host>> {
        self.members.values().filter(|host| host.weight() > 0)
    }

    fn running(&self, host: &Host) -> u64 {
        self.running.get(host.id()).copied().unwrap_or(0)
    }

    fn load(&self, host: &Host) -> f64 {
        self.running(host) as f64 / f64::from(host.weight())
    }

    fn lease(
        &mut self,
        name: &str,
        balancer: &dyn Balancer,
        request: Selection<'_>,
        keyed: bool,
        tried: &[HostId],
    ) {
        let request = request.tried(tried);
        let lease = match balancer.lease(&request) {
            Err(error) => {
                assert_eq!(error, BalancerError::NoHosts, "{name}");
                assert_eq!(self.eligible().count(), 0, "{name}: hosts are left");
                return;
            }
            Ok(lease) => lease,
        };
        let chosen = lease.host();
        let member = self.members.get(chosen.id());
        assert!(
            member.is_some_and(|host| host.weight() > 0),
            "{name}: {chosen:?}"
        );
        let untried = self.eligible().filter(|host| !tried.contains(host.id()));
        let least = untried.map(|host| self.load(host)).reduce(f64::min);
        if let Some(least) = least {
            assert!(!tried.contains(chosen.id()), "{name}: {chosen:?} again");
            if name == "least_load" {
                assert_eq!(self.load(chosen), least, "{name}: {chosen:?}");
            }
        }
        if name == "bounded" && keyed && tried.is_empty() {
            let total: u64 = 1 + self.eligible().map(|host| self.running(host)).sum::<u64>();
            let weights: u32 = self.eligible().map(|host| host.weight()).sum();
            let share = total as f64 * f64::from(chosen.weight()) / f64::from(weights);
            let capacity = (1.25 * share).ceil() as u64;
            // A host that joined with more than its share keeps its requests and gets no more.
            assert!(
                self.running(chosen) < capacity,
                "{name}: {chosen:?} above {capacity}"
            );
        }
        *self.running.entry(chosen.id().clone()).or_default() += 1;
        self.leases.push(lease);
    }
}

#[test]
fn a_hundred_thousand_steps_agree_with_a_model() {
    for info in ALGORITHMS {
        let name = info.name;
        let rng = &mut SmallRng::seed_from_u64(42);
        let balancer = seeded(name, &[], 1);
        // One object per identity: the live state belongs to it, whatever its weight.
        let known = hosts(100);
        let mut model = Model::default();
        for step in 0..100_000 {
            let host = known.choose(rng).expect("hosts are known");
            match rng.gen_range(0..100) {
                0..5 => {
                    let weight = *[0, 1, 1, 1, 2, 5, 100].choose(rng).expect("weights");
                    let host = Arc::new(host.with_weight(weight).expect("a weight in range"));
                    let known = model.members.contains_key(host.id());
                    assert_eq!(
                        balancer.add_host(Arc::clone(&host)).is_err(),
                        known,
                        "{name}"
                    );
                    model.members.entry(host.id().clone()).or_insert(host);
                }
                5..8 => {
                    let member = model.members.remove(host.id()).is_some();
                    assert_eq!(balancer.remove_host(host.id()).is_ok(), member, "{name}");
                }
                8..50 => {
                    let key: [u8; 2] = rng.r#gen();
                    let client = IpAddr::V4(Ipv4Addr::from_bits(rng.r#gen()));
                    let mut request = Selection::new();
                    let keyed = rng.gen_bool(0.8);
                    if keyed {
                        request = request.key(&key).client(client);
                    }
                    let tried: Vec<HostId> = if rng.gen_bool(0.2) {
                        let count = rng.gen_range(1..5);
                        known
                            .choose_multiple(rng, count)
                            .map(|host| host.id().clone())
                            .collect()
                    } else {
                        Vec::new()
                    };
                    model.lease(name, &*balancer, request, keyed, &tried);
                }
                50..92 if !model.leases.is_empty() => {
                    let lease = model
                        .leases
                        .swap_remove(rng.gen_range(0..model.leases.len()));
                    *model
                        .running
                        .get_mut(lease.host().id())
                        .expect("it was counted") -= 1;
                }
                92..95 if model.members.contains_key(host.id()) => {
                    balancer.inc(host.id()).expect("a member");
                    *model.running.entry(host.id().clone()).or_default() += 1;
                    model.counted.push(host.id().clone());
                }
                95..98 if !model.counted.is_empty() => {
                    let id = model
                        .counted
                        .swap_remove(rng.gen_range(0..model.counted.len()));
                    balancer.done(&id).expect("a request of it runs");
                    *model.running.get_mut(&id).expect("it was counted") -= 1;
                }
                _ => {}
            }
            assert_eq!(host.in_flight(), model.running(host), "{name}, step {step}");
        }
        model.leases.clear();
        for id in std::mem::take(&mut model.counted) {
            balancer.done(&id).expect("a request of it runs");
        }
        for host in known {
            assert_eq!(host.in_flight(), 0, "{name}: {host:?}");
        }
    }
}

#[test]
fn weights_up_to_the_limit_keep_memory_bounded() {
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
