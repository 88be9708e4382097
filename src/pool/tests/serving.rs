//! Which hosts serve.

use super::*;

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
fn the_tiers_serve_in_order() {
    let pool = pool(&[1, 1, 0], |pool| pool.members[1].backup = true);
    pool.begin();
    let ids = ids(&pool);
    for _ in 0..20 {
        assert_eq!(leased(&pool).as_ref(), Some(&ids[0]));
    }
    // A request that has failed on some hosts is sent to the next one.
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
fn the_status_of_an_unusable_host_that_serves_has_a_reason() {
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
