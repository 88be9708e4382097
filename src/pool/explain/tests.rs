use std::sync::Arc;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

use super::*;
use crate::config;
use crate::pool::select::CountedAcquire;
use crate::pool::tests::{ejection, ids, pool, set_verdict};
use crate::pool::{Failure, Outcome, PoolLease};

const SHORT: Duration = Duration::from_millis(1);

/// A random pool in random states, with an algorithm that is deterministic.
fn any_pool(rng: &mut SmallRng) -> (Arc<Pool>, Vec<PoolLease>) {
    let weights: Vec<u32> = (0..rng.gen_range(1..7))
        .map(|_| *[0, 1, 1, 2].choose(rng).expect("weights"))
        .collect();
    let backups: Vec<bool> = weights.iter().map(|_| rng.gen_bool(0.3)).collect();
    let limit = rng.gen_bool(0.5).then(|| rng.gen_range(1..4));
    let try_all = rng.gen_bool(0.5);
    // The ejection ends at once, or not during the test.
    let base = *[Duration::ZERO, Duration::from_secs(60)]
        .choose(rng)
        .expect("times");
    let pool = pool(&weights, |pool| {
        pool.algorithm.typed = "ip_hash".parse().expect("it is registered");
        for (host, backup) in pool.members.iter_mut().zip(&backups) {
            host.backup = *backup;
            host.max_in_flight = limit;
        }
        pool.ejection = Some(ejection(base));
        if try_all {
            pool.when_all_down = config::WhenAllDown::TryAll;
        }
    });
    pool.begin();
    for (position, member) in pool.members().iter().enumerate() {
        match rng.gen_range(0..6) {
            0 => set_verdict(&pool, position, false),
            1 => assert!(pool.drain(member, true)),
            2 => {
                while let Ok(lease) = pool.lease_of(member.host().id())
                    && !member.is_ejected()
                    && rng.gen_bool(0.9)
                {
                    lease.observe(SHORT, Outcome::Failure(Failure::Reset));
                }
            }
            _ => {}
        }
    }
    let leases = (0..rng.gen_range(0..8)).filter_map(|number| {
        let request = Selection::new().client([10, 0, 0, number].into());
        pool.lease(&request, true).ok()
    });
    let leases = leases.collect();
    (pool, leases)
}

#[test]
fn an_explanation_predicts_the_next_lease() {
    let mut reasons = std::collections::BTreeSet::new();
    for seed in 0..3_000 {
        let rng = &mut SmallRng::seed_from_u64(seed);
        let (pool, leases) = any_pool(rng);
        let ids = ids(&pool);
        let tried = Vec::from_iter(ids.iter().filter(|_| rng.gen_bool(0.2)).cloned());
        let wanted = ids.choose(rng).filter(|_| rng.gen_bool(0.3));
        let repeatable = rng.r#gen();
        let request = Selection::new().client([10, 1, 2, 3].into()).tried(&tried);
        let explained = pool.explain(&request, wanted, repeatable);
        assert_eq!(
            explained,
            pool.explain(&request, wanted, repeatable),
            "seed {seed}"
        );
        let leased = pool.select(&request, wanted, repeatable, &CountedAcquire);
        let expected = match leased {
            Ok((lease, why)) if !tried.contains(lease.host().id()) => SelectionOutcome::Host {
                host: lease.host().id().to_string(),
                why: why.code().to_owned(),
            },
            Ok(_) => SelectionOutcome::none("tried"),
            Err(BalancerError::Busy) => SelectionOutcome::none("busy"),
            Err(_) => SelectionOutcome::none("no_host"),
        };
        assert_eq!(explained.outcome, expected, "seed {seed}: {explained:?}");
        assert_eq!(explained.candidates.len(), ids.len(), "seed {seed}");
        let selected = explained
            .candidates
            .iter()
            .filter(|c| c.verdict == CandidateStatus::Selected);
        let selected: Vec<_> = selected.map(|c| (c.host.clone(), c.why.clone())).collect();
        match explained.outcome {
            SelectionOutcome::Host { host, why } => {
                assert_eq!(selected, [(host, why)], "seed {seed}")
            }
            SelectionOutcome::None { .. } => assert!(selected.is_empty(), "seed {seed}"),
        }
        reasons.extend(explained.candidates.into_iter().map(|c| c.why));
        drop(leases);
    }
    // Every reason has occurred.
    for reason in [
        "balanced",
        "sticky",
        "probe",
        "backup",
        "draining",
        "ejected",
        "any_host",
        "tried",
        "full",
        "down",
        "score",
        "probing",
        "no_weight",
        "not_asked",
    ] {
        assert!(
            reasons.contains(reason),
            "{reason} never occurred: {reasons:?}"
        );
    }
}
