//! How long changes of 10,000 hosts take: `cargo run --release --example membership`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ballast_balancer::{ALGORITHMS, BalancerError, Host, Joining, build};

const HOSTS: usize = 10_000;

fn host(i: usize) -> Arc<Host> {
    let address = [10, (i >> 16) as u8, (i >> 8) as u8, i as u8];
    Arc::new(Host::new((address, 80).into()))
}

fn timed(change: impl FnOnce() -> Result<(), BalancerError>) -> Result<Duration, BalancerError> {
    let begun = Instant::now();
    change()?;
    Ok(begun.elapsed())
}

fn main() -> Result<(), BalancerError> {
    println!("algorithm         built    one leaves  and returns  a new one  2,000 others");
    for info in ALGORITHMS {
        let hosts = Vec::from_iter((0..HOSTS).map(host));
        let begun = Instant::now();
        let balancer = build(info.name, hosts.iter().cloned())?;
        let built = begun.elapsed();
        let others = hosts[2_000..].iter().cloned();
        let others = others.chain((0..2_000).map(|i| host(HOSTS + 1 + i)));
        let times = [
            built,
            timed(|| balancer.remove_host(hosts[7].id()))?,
            timed(|| balancer.add_host(Arc::clone(&hosts[7])))?,
            timed(|| balancer.add_host(host(HOSTS)))?,
            timed(|| balancer.set_hosts(others.map(Joining::from)))?,
        ];
        print!("{:<16}", info.name);
        for time in times {
            print!(" {:>8.1} ms", time.as_secs_f64() * 1e3);
        }
        println!();
    }
    Ok(())
}
