//! Row 37: keys that are all the same, or should be.

use std::collections::HashSet;

use super::{GET, Subject};
use crate::support::{Backend, Client, Next, Reply, SOON, Setup, wait_until};

#[test]
fn row_37_pathological_keys() {
    let hosts = ["a", "b", "c", "d", "e"].map(Backend::start_new);
    let all = hosts.each_ref();

    // One hot URL: a bounded pool spreads it, with up to ceil(1.25 · 40 / 5) requests at once on a host.
    let bounded = Setup::of(&all).algorithm("{ name: bounded, factor: 1.25, key: path }");
    let subject = Subject::start(&bounded);
    for host in &hosts {
        host.set(Reply::script(|_, wire| {
            while !wire.read_some(1024)?.is_empty() {}
            Ok(Next::Close)
        }));
    }
    let waiting: Vec<Client> = (0..40)
        .map(|_| {
            let mut client = Client::connect(subject.address());
            client.send(GET).expect("sent");
            client
        })
        .collect();
    wait_until(SOON, "all forty requests have reached a host", || {
        hosts.iter().map(Backend::requests).sum::<u64>() == 40
    });
    assert!(hosts.iter().all(|host| host.requests() <= 10));
    for host in &hosts {
        host.close_idle();
        host.set(Reply::ok());
    }
    drop(waiting);
    subject.settle(&all);

    // One client: ip_hash keeps an IPv4 address, or an IPv6 /64, on one host, and spreads different ones.
    let pinned = Setup::of(&all)
        .algorithm("ip_hash")
        .top("trusted_proxies: [127.0.0.1]");
    let subject = Subject::start(&pinned);
    let mut client = Client::connect(subject.address());
    let mut met = |address: &dyn Fn(u32) -> String| -> usize {
        let hosts: HashSet<String> = (0..64)
            .map(|number| {
                let field = format!("X-Forwarded-For: {}\r\n", address(number));
                client.get_with("/", &field).backend().to_owned()
            })
            .collect();
        hosts.len()
    };
    assert_eq!(met(&|_| "192.0.2.1".to_owned()), 1);
    assert_eq!(met(&|n| format!("192.0.2.{n}")), 5);
    assert_eq!(met(&|n| format!("2001:db8:0:1::{n:x}")), 1);
    assert_eq!(met(&|n| format!("2001:db8:0:{n:x}::1")), 5);
    drop(client);
    subject.settle(&all);
}
