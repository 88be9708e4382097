use super::{SEEDS, by_weight, chi_square, counts, hosts, seeded};

/// Chi-square at p = 0.999 by degrees of freedom.
const CRITICAL: [(usize, f64); 3] = [(3, 13.8), (10, 27.9), (100, 148.2)];

#[test]
fn shares_are_uniform_for_every_seed() {
    for (n, critical) in CRITICAL {
        for seed in SEEDS {
            let all = hosts(n);
            let found = chi_square(
                &counts(&seeded("random", &all, seed), &all, 100 * n),
                &vec![1; n],
            );
            assert!(found < critical, "n = {n}, seed {seed}: {found}");
        }
    }
}

#[test]
fn shares_follow_the_weights_for_every_seed() {
    let weights = [1, 2, 3, 10, 50, 7, 1, 1, 20, 5];
    for seed in SEEDS {
        let all = by_weight(&weights);
        let found = chi_square(
            &counts(&seeded("random", &all, seed), &all, 10_000),
            &weights,
        );
        assert!(found < 27.9, "seed {seed}: {found}");
    }
}

#[test]
fn the_same_seed_gives_the_same_picks() {
    let all = hosts(10);
    let run = |seed| {
        let balancer = seeded("random", &all, seed);
        (0..50)
            .map(|_| super::pick(&balancer, super::Selection::new()))
            .collect::<Vec<_>>()
    };
    assert_eq!(run(5), run(5));
    assert_ne!(run(5), run(6));
}
