//! What the replacement of a pool takes over.

use super::*;

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
