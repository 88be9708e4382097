use std::sync::atomic::Ordering;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::balancer::{AlgorithmInfo, Options};

fn timeouts() -> config::Timeouts {
    let second = Duration::from_secs(1);
    config::Timeouts {
        connect: second,
        read: second,
        write: second,
        idle: second,
        client_head: second,
        client_keepalive: second,
        tunnel: second,
    }
}

const SHORT: Duration = Duration::from_millis(1);

/// The default rules with this base duration, and without a failure rate.
pub(super) fn ejection(base: Duration) -> config::Ejection {
    config::Ejection {
        rate: None,
        base,
        ..outlier_detector::tests::rules()
    }
}

pub(super) fn pool(weights: &[u32], edit: impl Fn(&mut config::Pool)) -> Arc<Pool> {
    let hosts = weights.iter().enumerate().map(|(i, &weight)| config::Host {
        id: HostId::from(format!("127.0.0.1:{}", i + 1)),
        name: "127.0.0.1".to_owned(),
        label: None,
        address: ([127, 0, 0, 1], i as u16 + 1).into(),
        weight,
        file_weight: Some(weight),
        backup: false,
        max_in_flight: None,
    });
    let mut configured = config::Pool {
        name: "web".to_owned(),
        algorithm: config::Algorithm {
            info: AlgorithmInfo::find("random").expect("random is registered"),
            options: Options::new(),
            key: config::KeySource::ClientIp,
        },
        hosts: hosts.collect(),
        removed: Vec::new(),
        health_check: None,
        host_header: config::HostHeader::Preserve,
        when_all_down: config::WhenAllDown::Error,
        retries: None,
        sticky: None,
        tls: None,
        ejection: None,
        limits: config::PoolLimits {
            max_in_flight: None,
            queue: 128,
            queue_timeout: Duration::from_secs(1),
        },
        slow_start: None,
    };
    edit(&mut configured);
    let pool = Pool::new(&configured, &timeouts(), &mut HostRegistry::new());
    Arc::new(pool.expect("a valid pool"))
}

fn leased(pool: &Arc<Pool>) -> Option<HostId> {
    let lease = pool.lease(&Selection::new(), true).ok()?;
    Some(lease.member().host().id().clone())
}

/// Sets the result of a host's checks.
pub(super) fn set_verdict(pool: &Pool, position: usize, healthy: bool) {
    let against = 0;
    pool.members()[position].set_verdict(Some(HealthVerdict { healthy, against }));
    pool.reconcile();
}

pub(super) fn ids(pool: &Pool) -> Vec<HostId> {
    let members = pool.members().iter();
    members.map(|member| member.host().id().clone()).collect()
}

#[test]
fn no_host_is_used_before_begin() {
    let pool = pool(&[1, 1], |_| ());
    pool.reconcile();
    assert_eq!(leased(&pool), None);
    pool.begin();
    assert!(leased(&pool).is_some());
}

#[test]
fn only_healthy_hosts_are_leased() {
    let pool = pool(&[1, 1], |_| ());
    pool.begin();
    set_verdict(&pool, 0, false);
    assert_eq!(leased(&pool).as_ref(), Some(&ids(&pool)[1]));
    set_verdict(&pool, 1, false);
    assert_eq!(leased(&pool), None);
    set_verdict(&pool, 0, true);
    assert_eq!(leased(&pool).as_ref(), Some(&ids(&pool)[0]));
}

#[test]
fn try_all_uses_every_host_while_none_is_usable() {
    let pool = pool(&[1, 0], |pool| {
        pool.when_all_down = config::WhenAllDown::TryAll;
    });
    pool.begin();
    set_verdict(&pool, 0, false);
    set_verdict(&pool, 1, false);
    let first = ids(&pool)[0].clone();
    assert_eq!(leased(&pool), Some(first.clone()));
    assert!(pool.has_untried_host(&[]));
    assert!(!pool.has_untried_host(&[first]));
}

#[test]
fn the_tiers_serve_one_after_another() {
    let pool = pool(&[1, 1, 0], |pool| pool.hosts[1].backup = true);
    pool.begin();
    let ids = ids(&pool);
    for _ in 0..20 {
        assert_eq!(leased(&pool).as_ref(), Some(&ids[0]));
    }
    // A request that has failed on some hosts goes on to the next.
    let next = |tried: &[HostId]| {
        let lease = pool.lease(&Selection::new().tried(tried), true);
        lease.expect("a host").member().host().id().clone()
    };
    assert_eq!(next(&ids[..1]), ids[1]);
    assert_eq!(next(&ids[..2]), ids[2]);
    assert_eq!(next(&ids), ids[0]);
    assert!(pool.has_untried_host(&ids[..2]));
    assert!(!pool.has_untried_host(&ids));
    for (position, expected) in [(0, Some(1)), (1, Some(2)), (2, None)] {
        set_verdict(&pool, position, false);
        assert_eq!(leased(&pool), expected.map(|next: usize| ids[next].clone()));
    }
}

#[test]
fn a_host_that_fails_is_ejected_tried_once_and_serves_again() {
    let pool = pool(&[1, 1], |pool| {
        pool.ejection = Some(ejection(Duration::from_millis(20)));
    });
    pool.begin();
    let ids = ids(&pool);
    let fail = |id: &HostId| {
        let lease = pool.lease_of(id).expect("it serves");
        lease.observe(SHORT, Outcome::Failure(Failure::Reset));
    };
    let late = pool.lease_of(&ids[0]).expect("it serves");
    (0..5).for_each(|_| fail(&ids[0]));
    assert!(pool.members()[0].is_ejected());
    assert!(pool.lease_of(&ids[0]).is_err());
    // The last usable host is not ejected, whatever it does.
    (0..20).for_each(|_| fail(&ids[1]));
    assert_eq!(leased(&pool).as_ref(), Some(&ids[1]));

    let end = pool.next_change().expect("the end of the ejection");
    std::thread::sleep(end.saturating_duration_since(Instant::now()));
    pool.reconcile();
    // Only a retryable request probes the host, one at a time. A request from before the ejection does not count.
    let request = Selection::new();
    let lease = |repeatable| pool.lease(&request, repeatable).expect("a host");
    late.observe(SHORT, Outcome::Success);
    assert!(!lease(false).is_probe());
    let probe = lease(true);
    assert_eq!(
        (probe.is_probe(), probe.member().host().id()),
        (true, &ids[0])
    );
    assert!(!lease(true).is_probe());
    drop(probe);
    let probe = lease(true);
    assert!(probe.is_probe());
    probe.observe(SHORT, Outcome::Success);
    assert!(!pool.members()[0].is_ejected());
    assert!(pool.lease_of(&ids[0]).is_ok());
}

/// An ejected host may have recovered.
#[test]
fn an_ejected_host_comes_before_one_that_failed_the_request() {
    let pool = pool(&[1, 1, 1], |pool| {
        pool.ejection = Some(ejection(Duration::from_secs(60)));
    });
    pool.begin();
    let ids = ids(&pool);
    for _ in 0..5 {
        let lease = pool.lease_of(&ids[0]).expect("it serves");
        lease.observe(SHORT, Outcome::Failure(Failure::Reset));
    }
    assert!(pool.members()[0].is_ejected());
    let next = |tried: &[HostId]| {
        let lease = pool.lease(&Selection::new().tried(tried), true);
        lease.expect("a host").member().host().id().clone()
    };
    assert!(pool.has_untried_host(&ids[1..2]));
    assert_eq!(next(&ids[1..2]), ids[2]);
    assert!(pool.has_untried_host(&ids[1..]));
    assert_eq!(next(&ids[1..]), ids[0]);
    assert!(!pool.has_untried_host(&ids));
    // A host that fails its checks is not used.
    set_verdict(&pool, 0, false);
    assert!(!pool.has_untried_host(&ids[1..]));
    assert_ne!(next(&ids[1..]), ids[0]);
}

#[test]
fn concurrent_changes_leave_a_consistent_pool() {
    const THREADS: u64 = 6;
    for algorithm in ["p2c", "least_load", "round_robin", "consistent_hash"] {
        let pool = pool(&[1, 2, 1, 0, 1], |pool| {
            pool.algorithm.info = AlgorithmInfo::find(algorithm).expect("it is registered");
            pool.hosts[4].backup = true;
            pool.hosts[1].max_in_flight = Some(3);
            pool.ejection = Some(ejection(Duration::from_micros(50)));
        });
        pool.begin();
        let ids = ids(&pool);
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let (pool, ids) = (&pool, &ids);
                scope.spawn(move || {
                    let mut random = SmallRng::seed_from_u64(thread);
                    for _ in 0..3_000 {
                        let member = &pool.members()[random.gen_range(0..ids.len())];
                        let healthy = random.gen_bool(0.7);
                        match random.gen_range(0..20) {
                            0 => {
                                let against = 0;
                                member.set_verdict(Some(HealthVerdict { healthy, against }));
                                pool.reconcile();
                            }
                            1 => {
                                pool.drain(member, random.gen_bool(0.3));
                            }
                            2 => pool.reconcile(),
                            _ => {
                                let tried = &ids[..random.gen_range(0..2)];
                                let request = Selection::new().tried(tried).key(b"key");
                                let Ok(lease) = pool.lease(&request, random.gen_bool(0.5)) else {
                                    continue;
                                };
                                assert!(lease.member().host().in_flight() > 0);
                                match random.gen_range(0..3) {
                                    0 => drop(lease),
                                    1 => lease.observe(SHORT, Outcome::Success),
                                    _ => lease.observe(SHORT, Outcome::Failure(Failure::Connect)),
                                }
                            }
                        }
                    }
                });
            }
        });
        // No ejection may end between the two comparisons.
        while pool.next_change().is_some() {
            pool.reconcile();
        }
        pool.reconcile();
        let inputs = Vec::from_iter(pool.members().iter().map(Member::tier_inputs));
        for (member, tier) in pool.members().iter().zip(tiers::tiers(&inputs)) {
            assert_eq!(member.tier(), tier, "{algorithm}");
            assert_eq!(member.host().in_flight(), 0, "{algorithm}");
            for (number, balancer) in pool.tiers.iter().enumerate() {
                let is_member = balancer.lease_of(member.host().id()).is_ok();
                assert_eq!(is_member, number == tier as usize, "{algorithm}");
            }
        }
        let due = pool
            .members()
            .iter()
            .filter(|member| member.is_probe_due())
            .count();
        assert_eq!(pool.probes_due.load(Ordering::SeqCst), due, "{algorithm}");
    }
}

#[test]
fn the_state_carries_over_to_the_next_pool() {
    let rules = |pool: &mut config::Pool| {
        pool.ejection = Some(ejection(Duration::from_secs(10)));
        pool.slow_start = Some(config::SlowStart {
            window: Duration::from_secs(10),
            floor: 10,
        });
    };
    let old = pool(&[1, 1, 1], rules);
    old.begin();
    let ids = ids(&old);
    for _ in 0..5 {
        let lease = old.lease_of(&ids[0]).expect("it serves");
        lease.observe(SHORT, Outcome::Failure(Failure::Status(500)));
    }
    assert!(old.drain(&old.members()[1], true));
    assert!(!old.drain(&old.members()[1], true));
    let state = serde_json::to_string(&old.state()).expect("JSON");
    let state: PoolState = serde_json::from_str(&state).expect("the same");

    let new = pool(&[1, 1, 1, 1], rules);
    new.restore(&state);
    new.begin();
    assert!(new.members()[0].is_ejected());
    assert!(new.members()[1].is_draining());
    let usable: Vec<_> = new.members().iter().map(|m| m.tier()).collect();
    assert_eq!(
        usable,
        [Tier::Out, Tier::Draining, Tier::Primary, Tier::Primary]
    );
    // The third host was in the old pool, the fourth is new.
    let ramping = |position: usize| {
        new.first_tier()
            .slow_start_elapsed(new.members()[position].host().id())
    };
    assert_eq!(ramping(2), None);
    assert!(ramping(3).is_some());

    // An edit of the file takes precedence over the operator.
    let edited = pool(&[1, 5, 1], rules);
    edited.restore(&state);
    edited.begin();
    assert!(!edited.members()[1].is_draining());
    // It was drained, so it starts slowly.
    let balancer = edited.first_tier();
    assert!(
        balancer
            .slow_start_elapsed(edited.members()[1].host().id())
            .is_some()
    );
    assert!(edited.drain(&edited.members()[2], true));
    assert!(edited.drain(&edited.members()[2], false));
    assert!(
        balancer
            .slow_start_elapsed(edited.members()[2].host().id())
            .is_some()
    );
}

#[test]
fn the_counters_carry_over_to_the_next_pool() {
    let rules = ejection(Duration::from_secs(60));
    let edit = |pool: &mut config::Pool| pool.ejection = Some(rules.clone());
    let before = pool(&[1, 1], edit);
    before.begin();
    let ids = ids(&before);
    for _ in 0..4 {
        let lease = before.lease_of(&ids[0]).expect("it serves");
        lease.observe(SHORT, Outcome::Failure(Failure::Reset));
    }
    before.request_counters().count();
    let fresh = Arc::into_inner(pool(&[1, 1], edit)).expect("the only reference");
    let next = Arc::new(fresh.carry_over_from(&before));
    next.restore(&before.state());
    next.begin();
    assert_eq!(next.members()[0].request_counters().errors(), 4);
    assert_eq!(next.request_counters().requests(), 1);
    // The fifth failure in a row.
    let lease = next.lease_of(&ids[0]).expect("it serves");
    lease.observe(SHORT, Outcome::Failure(Failure::Reset));
    assert!(next.members()[0].is_ejected());
    assert_eq!(before.members()[0].request_counters().errors(), 5);
}

#[test]
fn the_registry_keeps_the_live_state_of_a_host_with_a_new_weight() {
    let mut host_registry = HostRegistry::new();
    let mut wanted = config::Host {
        id: HostId::from("a:80"),
        name: "a".to_owned(),
        label: None,
        address: ([127, 0, 0, 1], 80).into(),
        weight: 1,
        file_weight: Some(1),
        backup: false,
        max_in_flight: None,
    };
    let old = host_registry.host(&wanted).expect("weight 1");
    let balancer = crate::balancer::build("random", [old.clone()]).expect("random");
    balancer.inc(old.id()).expect("a member");
    wanted.weight = 7;
    let heavier = host_registry.host(&wanted).expect("weight 7");
    assert_eq!((heavier.weight(), heavier.in_flight()), (7, 1));
    wanted.address = ([127, 0, 0, 2], 80).into();
    assert_eq!(host_registry.host(&wanted).expect("moved").in_flight(), 0);
}

#[test]
fn a_host_that_serves_without_being_usable_says_why() {
    let reasons = |pool: &Pool| pool.status().hosts.into_iter().map(|host| host.reason);
    let pool = pool(&[1, 1], |pool| {
        pool.when_all_down = config::WhenAllDown::TryAll;
    });
    pool.begin();
    set_verdict(&pool, 0, true);
    set_verdict(&pool, 1, true);
    pool.drain(&pool.members()[0], true);
    assert!(reasons(&pool).all(|reason| !reason.contains(';')));
    set_verdict(&pool, 1, false);
    let first = reasons(&pool).next().expect("two hosts");
    assert_eq!(
        first,
        "drained by an operator; serving as last resort: no other host is usable"
    );
    set_verdict(&pool, 0, false);
    assert!(reasons(&pool).all(|reason| reason.ends_with("(when_all_down: try_all)")));
}
