//! Concurrent changes from many threads.

use std::sync::atomic::Ordering;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::*;

#[test]
fn concurrent_changes_leave_a_consistent_pool() {
    const THREADS: u64 = 6;
    for algorithm in ["p2c", "least_load", "round_robin", "consistent_hash"] {
        let pool = pool(&[1, 2, 1, 0, 1], |pool| {
            pool.algorithm.typed = algorithm.parse().expect("a registered algorithm");
            pool.members[4].backup = true;
            pool.members[1].max_in_flight = Some(3);
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
