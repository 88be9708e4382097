//! Sends requests to three hosts, of which one is slow, with each algorithm: `cargo run --example choose --features test-util`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ballast_balancer::{
    ALGORITHMS, Balancer, BalancerError, Clock, Host, Lease, Options, Outcome, Selection,
};

fn main() -> Result<(), BalancerError> {
    for info in ALGORITHMS {
        let hosts = [1, 2, 3].map(|i| Arc::new(Host::new(([10, 0, 0, i], 80).into())));
        let slow = hosts[2].id().clone();
        let clock = Clock::manual();
        let options = Options::new().seed(1).clock(clock.clone());
        let balancer = Balancer::new(info.algorithm(), hosts, &options)?;
        let mut shares: BTreeMap<String, u32> = BTreeMap::new();
        let mut running: Vec<(u32, Lease)> = Vec::new();
        for request in 0..30_000u32 {
            clock.advance(Duration::from_millis(1));
            let key = request.to_le_bytes();
            let lease = balancer.lease(&Selection::new().key(&key))?;
            *shares.entry(lease.host().id().to_string()).or_default() += 1;
            let takes = if *lease.host().id() == slow { 40 } else { 4 };
            running.push((request + takes, lease));
            let (ended, left) = running.into_iter().partition(|(end, _)| *end <= request);
            running = left;
            for (_, lease) in ended {
                let takes = if *lease.host().id() == slow { 40 } else { 4 };
                lease.finish(Outcome::success(Duration::from_millis(takes)));
            }
        }
        println!("{:<16} {shares:?}", info.name);
    }
    Ok(())
}
