//! Ejection by failed requests, and the way back.

use super::*;

#[test]
fn a_failing_host_is_ejected_probed_once_and_serves_again() {
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
    // The last usable host is not ejected, however often it fails.
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
fn an_ejected_host_is_preferred_to_one_that_failed_the_request() {
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

/// With many hosts the balancers are built by the pool's task, so that no request waits for that.
#[test]
fn the_ejection_of_one_of_many_hosts_is_left_to_the_task() {
    let pool = pool(&[1; 300], |pool| {
        pool.ejection = Some(ejection(Duration::from_secs(60)));
    });
    pool.begin();
    let ids = ids(&pool);
    let due = pool.verdicts_changed();
    let mut due = std::pin::pin!(due);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(due.as_mut().poll(&mut context).is_pending());
    for _ in 0..5 {
        let lease = pool.lease_of(&ids[7]).expect("it serves");
        lease.observe(SHORT, Outcome::Failure(Failure::Reset));
    }
    assert!(pool.members()[7].is_ejected());
    assert!(due.as_mut().poll(&mut context).is_ready());
    pool.reconcile();
    assert!(pool.lease_of(&ids[7]).is_err());
}
