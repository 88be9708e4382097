//! The balancing library through its public interface.

mod bounded;
mod concurrency;
mod consistent_hash;
mod contract;
mod explain;
mod faults;
mod identity;
mod ip_hash;
mod least_load;
mod least_time;
mod limits;
mod maglev;
mod model;
mod nginx;
mod p2c;
mod random;
mod round_robin;
mod simulation;
mod slow_start;
mod typed;
mod weights;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use ballast_balancer::{
    Algorithm, Balancer, BalancerError, Host, HostId, Options, Outcome, Selection,
};

/// The seeds for which every statistical assertion must hold.
const SEEDS: std::ops::Range<u64> = 0..100;

/// Host number `i`, with its own identity.
fn host(i: usize) -> Arc<Host> {
    weighted(i, 1)
}

fn weighted(i: usize, weight: u32) -> Arc<Host> {
    let address = format!("10.{}.{}.{}:80", i >> 16, i >> 8 & 255, i & 255);
    let host = Host::new(address.parse().expect("an address"));
    Arc::new(host.with_weight(weight).expect("a weight in range"))
}

fn hosts(n: usize) -> Vec<Arc<Host>> {
    (0..n).map(host).collect()
}

fn by_weight(weights: &[u32]) -> Vec<Arc<Host>> {
    let each = weights.iter().enumerate();
    each.map(|(i, &weight)| weighted(i, weight)).collect()
}

fn seeded(algorithm: &str, hosts: &[Arc<Host>], seed: u64) -> Balancer {
    let options = Options::new().seed(seed);
    build_with(algorithm, hosts.iter().cloned(), &options).expect("a balancer")
}

/// A balancer of an algorithm that may have options, as in `bounded(factor=1.5)`.
fn build_with(
    algorithm: &str,
    hosts: impl IntoIterator<Item = Arc<Host>>,
    options: &Options,
) -> Result<Balancer, BalancerError> {
    Balancer::new(algorithm.parse::<Algorithm>()?, hosts, options)
}

fn outcome(latency: Duration, succeeded: bool) -> Outcome {
    match succeeded {
        true => Outcome::success(latency),
        false => Outcome::failure(latency),
    }
}

fn pick(balancer: &Balancer, request: Selection<'_>) -> HostId {
    balancer
        .balance_host(&request)
        .expect("a host")
        .id()
        .clone()
}

/// Picks `m` times, each request ending at once, and counts by host in the order of `hosts`.
fn counts(balancer: &Balancer, hosts: &[Arc<Host>], m: usize) -> Vec<usize> {
    let mut by_id: HashMap<HostId, usize> = HashMap::new();
    for _ in 0..m {
        *by_id.entry(pick(balancer, Selection::new())).or_default() += 1;
    }
    let count = |host: &Arc<Host>| by_id.get(host.id()).copied().unwrap_or(0);
    hosts.iter().map(count).collect()
}

/// Pearson's chi-square of `counts` against shares in proportion to `weights`.
fn chi_square(counts: &[usize], weights: &[u32]) -> f64 {
    let m: usize = counts.iter().sum();
    let total: u32 = weights.iter().sum();
    let term = |(&count, &weight): (&usize, &u32)| {
        let expected = m as f64 * f64::from(weight) / f64::from(total);
        (count as f64 - expected).powi(2) / expected
    };
    counts.iter().zip(weights).map(term).sum()
}
