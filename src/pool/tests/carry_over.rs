//! What the replacement of a pool takes over.

use super::*;

const FINISHED: CountedRequest = CountedRequest {
    status: Some(200),
    is_failure: false,
    attempts: 1,
    received: 0,
    sent: 0,
};

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
fn the_next_pool_continues_the_counts() {
    let rules = ejection(Duration::from_secs(60));
    let edit = |pool: &mut config::Pool| pool.ejection = Some(rules.clone());
    let mut registry = HostRegistry::new();
    let before = Arc::new(pool_in(&mut registry, &[1, 1], edit));
    before.begin();
    let ids = ids(&before);
    let fail = |pool: &Arc<Pool>| {
        let lease = pool.lease_of(&ids[0]).expect("it serves");
        lease.observe(SHORT, Outcome::Failure(Failure::Reset));
    };
    (0..4).for_each(|_| fail(&before));
    before.counters().count(FINISHED);
    let fresh = pool_in(&mut registry, &[1, 1], edit);
    let next = Arc::new(fresh.carry_over_from(&before));
    next.restore(&before.state());
    next.begin();
    // A request of the old pool counts for both.
    before.counters().count(FINISHED);
    let status = next.status();
    assert_eq!((status.requests, status.last_minute.requests), (2, 2));
    assert_eq!(status.hosts[0].last_minute.errors, 4);
    // The fifth failure in a row.
    fail(&next);
    assert!(next.members()[0].is_ejected());
    assert_eq!(before.members()[0].counters().counts().errors, 5);
}

#[test]
fn a_pool_and_a_host_that_come_back_continue_their_counters_with_a_new_minute() {
    let mut registry = HostRegistry::new();
    let before = Arc::new(pool_in(&mut registry, &[1, 1], |_| {}));
    before.begin();
    let id = before.members()[1].host().id().clone();
    before
        .lease_of(&id)
        .expect("it serves")
        .observe(SHORT, Outcome::Success);
    before.counters().count(FINISHED);
    let without = pool_in(&mut registry, &[1], |_| {}).carry_over_from(&before);
    let back = pool_in(&mut registry, &[1, 1], |_| {}).carry_over_from(&without);
    let status = back.status();
    assert_eq!((status.requests, status.last_minute.requests), (1, 1));
    let host = &status.hosts[1];
    assert_eq!((host.requests, host.last_minute.requests), (1, 0));
    let status = pool_in(&mut registry, &[1, 1], |_| {}).status();
    assert_eq!((status.requests, status.last_minute.requests), (1, 0));
}
