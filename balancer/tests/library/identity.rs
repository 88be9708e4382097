//! The live state follows the identity of a host.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use ballast_balancer::{
    ALGORITHMS, Balancer, BalancerError, Clock, Host, HostId, Joining, Lease, Options, Outcome,
    Selection, build,
};

use super::{build_with, host, hosts, pick, weighted};

fn joining<'a>(hosts: impl IntoIterator<Item = &'a Arc<Host>>) -> Vec<Joining> {
    let hosts = hosts.into_iter().cloned();
    hosts.map(Joining::from).collect()
}

fn in_flight(balancer: &Balancer) -> Vec<u64> {
    let hosts = balancer.hosts();
    hosts.iter().map(|host| host.in_flight()).collect()
}

#[test]
fn counts_survive_remove_and_add_whoever_makes_the_host_anew() {
    for info in ALGORITHMS {
        let balancer = build(info.name, hosts(3)).expect("a balancer");
        for _ in 0..7 {
            balancer.inc(host(1).id()).expect("a member");
        }
        balancer.remove_host(host(1).id()).expect("a member");
        // Another object of the same identity.
        balancer.add_host(host(1)).expect("no member");
        assert_eq!(in_flight(&balancer), [0, 0, 7], "{}", info.name);
        balancer.done(host(1).id()).expect("a member");
        assert_eq!(in_flight(&balancer), [0, 0, 6], "{}", info.name);
    }
}

#[test]
fn bounded_knows_the_requests_of_a_host_that_has_returned() {
    let balancer = build("bounded", hosts(2)).expect("a balancer");
    let request = Selection::new().key(b"k");
    let home = pick(&balancer, request);
    for _ in 0..7 {
        balancer.inc(&home).expect("a member");
    }
    let again = hosts(2).into_iter().find(|host| *host.id() == home);
    balancer.remove_host(&home).expect("a member");
    balancer
        .add_host(again.expect("one of two"))
        .expect("no member");
    // m is 8 with this request, so the capacity is ceil(1.25 · 8 / 2) = 5, and 7 is above it.
    let lease = balancer.lease(&request).expect("a host");
    assert_ne!(*lease.host().id(), home);
}

#[test]
fn an_old_request_ends_on_the_host_that_has_returned() {
    for info in ALGORITHMS {
        let balancer = build(info.name, [host(1)]).expect("a balancer");
        let lease = balancer.lease(&Selection::new()).expect("a host");
        balancer.remove_host(host(1).id()).expect("a member");
        balancer.add_host(host(1)).expect("no member");
        let second = balancer.lease(&Selection::new()).expect("a host");
        assert_eq!(in_flight(&balancer), [2], "{}", info.name);
        drop(lease);
        assert_eq!(in_flight(&balancer), [1], "{}", info.name);
        drop(second);
        assert_eq!(in_flight(&balancer), [0], "{}", info.name);
    }
}

#[test]
fn a_change_of_weight_and_limit_keeps_counts_and_turns() {
    for info in ALGORITHMS {
        let balancer = build(info.name, hosts(2)).expect("a balancer");
        balancer.inc(host(0).id()).expect("a member");
        let heavier = weighted(0, 5).with_max_in_flight(NonZeroU64::new(9));
        let set = balancer.set_hosts(joining([&Arc::new(heavier), &host(1)]));
        set.expect("different hosts");
        let changed = &balancer.hosts()[0];
        assert_eq!(
            (changed.weight(), changed.in_flight()),
            (5, 1),
            "{}",
            info.name
        );
        assert_eq!(changed.max_in_flight(), NonZeroU64::new(9), "{}", info.name);
    }
}

#[test]
fn latency_and_failures_return_with_their_host() {
    let clock = Clock::manual();
    let options = Options::new().seed(1).clock(clock.clone());
    let balancer = build_with("least_load", hosts(2), &options).expect("a balancer");
    for _ in 0..5 {
        let lease = balancer.lease_of(host(0).id()).expect("a member");
        lease.finish(Outcome::failure(Duration::from_millis(1)));
    }
    balancer.remove_host(host(0).id()).expect("a member");
    balancer.add_host(host(0)).expect("no member");
    let leases: Vec<Lease> = (0..4)
        .map(|_| balancer.lease(&Selection::new()).expect("a host"))
        .collect();
    assert_eq!(in_flight(&balancer), [4, 0]);
    drop(leases);
}

#[test]
fn set_hosts_replaces_the_membership() {
    for info in ALGORITHMS {
        let name = info.name;
        let all = hosts(6);
        let balancer = build(name, all[..4].iter().cloned()).expect("a balancer");
        let leases: Vec<Lease> = (0..8)
            .map(|_| balancer.lease(&Selection::new()).expect("a host"))
            .collect();
        balancer
            .set_hosts(joining(&all[2..]))
            .expect("different hosts");
        let members = balancer.hosts();
        assert!(
            members
                .iter()
                .map(|host| host.id())
                .eq(all[2..].iter().map(|host| host.id()))
        );
        for _ in 0..50 {
            let chosen = pick(&balancer, Selection::new());
            assert!(all[2..].iter().any(|host| *host.id() == chosen), "{name}");
        }
        let twice = balancer.set_hosts(joining([&all[0], &all[0]]));
        assert_eq!(
            twice,
            Err(BalancerError::AlreadyAdded(all[0].id().clone())),
            "{name}"
        );
        assert_eq!(balancer.hosts().len(), 4, "{name}");
        drop(leases);
        assert!(all.iter().all(|host| host.in_flight() == 0), "{name}");
        balancer.set_hosts([]).expect("no host twice");
        assert_eq!(
            balancer.lease(&Selection::new()).err(),
            Some(BalancerError::NoHosts),
            "{name}"
        );
    }
}

#[test]
fn a_host_is_in_slow_start_from_its_first_request_on() {
    let clock = Clock::manual();
    let options = Options::new().seed(1).clock(clock.clone());
    let options = options.slow_start(Duration::from_secs(10), 0.1);
    let balancer = build_with("round_robin", hosts(2), &options).expect("a balancer");
    let elapsed = Duration::from_secs(3);
    let new = Joining::from(host(2)).slow_start(elapsed);
    let hosts = joining([&host(0), &host(1)]).into_iter().chain([new]);
    balancer.set_hosts(hosts).expect("different hosts");
    assert_eq!(balancer.slow_start_elapsed(host(2).id()), Some(elapsed));
    assert_eq!(balancer.slow_start_elapsed(host(0).id()), None);
    // It goes on over a change that says nothing of it.
    balancer
        .set_hosts(joining([&host(2), &host(0)]))
        .expect("different hosts");
    assert_eq!(balancer.slow_start_elapsed(host(2).id()), Some(elapsed));
}

#[test]
fn a_lone_host_that_comes_and_goes_blocks_nobody() {
    for info in ALGORITHMS {
        let balancer = build(info.name, [host(0)]).expect("a balancer");
        let changed = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                let key = Selection::new().key(b"k");
                while !changed.load(Ordering::SeqCst) {
                    match balancer.lease(&key) {
                        Ok(lease) => assert_eq!(lease.host().id(), host(0).id()),
                        Err(error) => assert_eq!(error, BalancerError::NoHosts),
                    }
                }
                assert!(balancer.lease(&key).is_ok(), "{}", info.name);
            });
            for _ in 0..200 {
                balancer.set_hosts([]).expect("no host twice");
                balancer.add_host(host(0)).expect("no member");
            }
            changed.store(true, Ordering::SeqCst);
        });
        assert_eq!(in_flight(&balancer), [0], "{}", info.name);
    }
}

#[test]
fn one_thread_serves_many_balancers_by_turns() {
    let balancers: Vec<Balancer> = (0..100)
        .map(|i| build("round_robin", [host(i)]).expect("a balancer"))
        .collect();
    for _ in 0..3 {
        for (i, balancer) in balancers.iter().enumerate() {
            assert_eq!(pick(balancer, Selection::new()), *host(i).id());
        }
    }
    // Those that are dropped leave their places to others, which must not see what was there.
    drop(balancers);
    for i in 200..300 {
        let balancer = build("round_robin", [host(i)]).expect("a balancer");
        assert_eq!(pick(&balancer, Selection::new()), *host(i).id());
    }
}

#[test]
fn many_departed_hosts_are_forgotten_but_those_with_requests() {
    let balancer = build("random", [host(0)]).expect("a balancer");
    balancer.add_host(host(1)).expect("no member");
    balancer.inc(host(1).id()).expect("a member");
    balancer.remove_host(host(1).id()).expect("a member");
    for i in 2..3_000 {
        balancer
            .set_hosts(joining([&host(0), &host(i)]))
            .expect("different hosts");
    }
    balancer
        .done(host(1).id())
        .expect("it has a request in flight");
    let unknown = HostId::from("10.0.0.1:80");
    assert_eq!(
        balancer.done(&unknown),
        Err(BalancerError::UnknownHost(unknown))
    );
}
