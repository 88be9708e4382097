//! Shares follow the weights at any load.

use std::net::{IpAddr, Ipv4Addr};

use ballast_balancer::{ALGORITHMS, Lease, Options, Selection};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::{build_with, by_weight};

/// Mean numbers of requests in flight.
const LOADS: [f64; 6] = [0.2, 1.0, 2.0, 5.0, 20.0, 100.0];

/// The share of the last host, of requests that arrive at random and take the same time on average whatever their host, so
/// that `mean` are in flight.
fn share_of_the_last(algorithm: &str, weights: &[u32], mean: f64, seed: u64) -> f64 {
    const REQUESTS: usize = 40_000;
    let all = by_weight(weights);
    let options = Options::new().seed(seed);
    let balancer = build_with(algorithm, all.iter().cloned(), &options).expect("a balancer");
    let rng = &mut SmallRng::seed_from_u64(seed);
    let last = all.last().expect("a host").id();
    let mut leases: Vec<Lease> = Vec::new();
    let (mut arrived, mut there) = (0, 0);
    while arrived < REQUESTS {
        if rng.gen_bool(mean / (mean + leases.len() as f64)) {
            let key: [u8; 8] = rng.r#gen();
            let client = IpAddr::V4(Ipv4Addr::from_bits(rng.r#gen()));
            let request = Selection::new().key(&key).client(client);
            let lease = balancer.lease(&request).expect("a host");
            arrived += 1;
            there += usize::from(lease.host().id() == last);
            leases.push(lease);
        } else {
            drop(leases.swap_remove(rng.gen_range(0..leases.len())));
        }
    }
    there as f64 / REQUESTS as f64
}

fn algorithms() -> impl Iterator<Item = &'static str> {
    let names = ALGORITHMS.iter().map(|info| info.name);
    names.chain(["p2c(load=peak_ewma)", "maglev(fallback=least_time)"])
}

#[test]
fn a_light_host_gets_its_share_and_no_more_at_any_load() {
    for algorithm in algorithms() {
        for (seed, mean) in (1..).zip(LOADS) {
            for (weights, bounds) in [
                (&[99, 1][..], 0.003..=0.05),
                (&[10, 1], 0.06..=0.155),
                (&[3, 1], 0.22..=0.29),
                (&[100, 1, 1, 1], 0.003..=0.05),
                (&[10, 10, 10, 10, 1], 0.014..=0.075),
            ] {
                let found = share_of_the_last(algorithm, weights, mean, seed);
                // A host's arcs of a ring have a standard deviation of 8 % of their sum.
                let slack = match algorithm {
                    "consistent_hash" | "bounded" => 0.2,
                    _ => 0.0,
                };
                let bounds = bounds.start() * (1.0 - slack)..=bounds.end() * (1.0 + slack);
                assert!(
                    bounds.contains(&found),
                    "{algorithm}, {weights:?}, {mean} in flight: {found}"
                );
            }
        }
    }
}

#[test]
fn a_heavy_host_is_used_in_pools_of_several_cohorts() {
    // As heavy as the 99 others together. Half of all requests would be its share; while a few are in flight it gets less,
    // because many others are idle.
    let mut weights = vec![1; 99];
    weights.push(99);
    for algorithm in ["least_load", "p2c", "least_time"] {
        for (seed, mean) in (1..).zip(LOADS) {
            let found = share_of_the_last(algorithm, &weights, mean, seed);
            assert!(
                (0.15..=0.6).contains(&found),
                "{algorithm}, {mean} in flight: {found}"
            );
        }
    }
}
