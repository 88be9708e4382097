//! A pick does not allocate, whatever the algorithm, the number of hosts and the request.

use std::net::IpAddr;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use ballast_balancer::{ALGORITHMS, Balancer, Host, HostId, Options, Outcome, Selection};

#[test]
fn no_pick_and_no_lease_allocates() {
    for info in ALGORITHMS {
        for n in [1, 3, 1_000] {
            let hosts: Vec<Arc<Host>> = (0..n)
                .map(|i| Host::new(([10, 0, (i >> 8) as u8, i as u8], 80).into()))
                .map(|host| {
                    host.with_weight(1 + last_octet(&host) % 3)
                        .expect("in range")
                })
                .map(Arc::new)
                .collect();
            let tried: Vec<HostId> = hosts[..n / 2]
                .iter()
                .map(|host| host.id().clone())
                .collect();
            let loads = ["in_flight", "peak_ewma"].into_iter().filter(|load| {
                *load == "in_flight" || info.options.iter().any(|option| option.name == "load")
            });
            for load in loads {
                let mut algorithm = info.algorithm();
                if info.options.iter().any(|option| option.name == "load") {
                    algorithm.set("load", load).expect("a load");
                }
                let plain = Selection::new();
                let keyed = plain.key(b"some key").client(IpAddr::from([192, 0, 2, 1]));
                // First with limits, slow start and failures, then without them.
                for degraded in [true, false] {
                    let options = Options::new().slow_start(Duration::from_secs(3_600), 0.1);
                    let limit = NonZeroU64::new(2).filter(|_| degraded);
                    let hosts = hosts
                        .iter()
                        .map(|host| Arc::new(host.with_max_in_flight(limit)));
                    let balancer = Balancer::new(algorithm.clone(), hosts, &options);
                    let balancer = balancer.expect("a balancer");
                    if degraded {
                        for id in &tried {
                            balancer
                                .begin_slow_start(id, Duration::ZERO)
                                .expect("a member");
                        }
                    }
                    let picks = || {
                        for request in [plain, keyed, plain.tried(&tried), keyed.tried(&tried)] {
                            for _ in 0..10 {
                                drop(balancer.balance_host(&request));
                                let lease = balancer.lease(&request).expect("a host");
                                let second = balancer.lease_of(lease.host().id());
                                let latency = Duration::from_millis(1);
                                lease.finish(match degraded {
                                    true => Outcome::failure(latency),
                                    false => Outcome::success(latency),
                                });
                                drop((balancer.lease(&request), second));
                            }
                        }
                    };
                    // The first pick of a thread creates its random generator and the snapshot's reader slot.
                    picks();
                    let counted = allocation_counter::measure(picks);
                    assert_eq!(
                        counted.count_total, 0,
                        "{} with {load}, {n} hosts, degraded: {degraded}",
                        info.name
                    );
                }
            }
        }
    }
}

/// The last octet of the address.
fn last_octet(host: &Host) -> u32 {
    match host.address().as_inet().expect("an IP address").ip() {
        IpAddr::V4(v4) => u32::from(v4.octets()[3]),
        IpAddr::V6(_) => 0,
    }
}
