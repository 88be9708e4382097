use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ballast_balancer::{Balancer, Host, HostId, Selection, build};

use super::{by_weight, chi_square, hosts, pick, seeded};

const CLIENTS: u32 = 100_000;

fn client(i: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from_bits(0x0A00_0000 + i))
}

fn owner(balancer: &Balancer, client: IpAddr) -> HostId {
    pick(balancer, Selection::new().client(client))
}

fn owners(balancer: &Balancer) -> Vec<HostId> {
    (0..CLIENTS).map(|i| owner(balancer, client(i))).collect()
}

fn balancer(hosts: &[Arc<Host>]) -> Balancer {
    build("ip_hash", hosts.iter().cloned()).expect("a balancer")
}

fn with_option(option: &str, bits: u32) -> Balancer {
    build(&format!("ip_hash({option}={bits})"), hosts(50)).expect("a balancer")
}

#[test]
fn shares_are_even_and_follow_the_weights() {
    for weights in [vec![1; 10], vec![1, 2, 3, 4, 10, 1, 1, 1, 5, 2]] {
        let all = by_weight(&weights);
        let owners = owners(&balancer(&all));
        let count = |host: &Arc<Host>| owners.iter().filter(|id| *id == host.id()).count();
        let counts: Vec<usize> = all.iter().map(count).collect();
        let found = chi_square(&counts, &weights);
        assert!(found < 27.9, "{weights:?}: {counts:?}, chi-square {found}");
    }
}

#[test]
fn a_removed_host_moves_only_its_own_clients_and_gets_them_back() {
    for weights in [vec![1; 10], vec![3, 1, 1, 2, 10]] {
        let all = by_weight(&weights);
        let balancer = balancer(&all);
        let before = owners(&balancer);
        balancer.remove_host(all[1].id()).expect("a member");
        for (then, now) in before.iter().zip(owners(&balancer)) {
            assert!(
                *then == now || then == all[1].id(),
                "a client of {then} moved to {now}"
            );
        }
        balancer.add_host(Arc::clone(&all[1])).expect("no member");
        assert_eq!(owners(&balancer), before);
    }
}

#[test]
fn the_order_of_the_hosts_does_not_matter() {
    let mut all = by_weight(&[1, 2, 2, 1, 5, 1, 1]);
    let before = owners(&balancer(&all));
    all.reverse();
    assert_eq!(owners(&balancer(&all)), before);
}

#[test]
fn the_mapping_is_the_same_in_every_version() {
    // Recorded once. A change here moves the clients of every installation that upgrades.
    let balancer = balancer(&hosts(10));
    let found: Vec<String> = [
        [192, 0, 2, 1],
        [198, 51, 100, 7],
        [203, 0, 113, 250],
        [10, 1, 2, 3],
    ]
    .into_iter()
    .map(|client| owner(&balancer, client.into()).to_string())
    .collect();
    assert_eq!(found, RECORDED);
}

const RECORDED: [&str; 4] = ["10.0.0.3:80", "10.0.0.8:80", "10.0.0.7:80", "10.0.0.3:80"];

#[test]
fn an_ipv4_mapped_address_is_the_ipv4_address() {
    let balancer = balancer(&hosts(50));
    for i in 0..1_000 {
        let v4 = Ipv4Addr::from_bits(0xC000_0200 + i);
        let mapped = IpAddr::V6(v4.to_ipv6_mapped());
        assert_eq!(owner(&balancer, mapped), owner(&balancer, IpAddr::V4(v4)));
    }
}

#[test]
fn only_the_prefix_is_hashed() {
    let v6 = |last: u64| {
        IpAddr::V6(Ipv6Addr::from_bits(
            0x2001_0DB8_0000_0001 << 64 | u128::from(last),
        ))
    };
    let same = |balancer: &Balancer, address: &dyn Fn(u64) -> IpAddr| {
        (0..200).all(|i| owner(balancer, address(i)) == owner(balancer, address(0)))
    };
    let v4 = |last: u64| IpAddr::V4(Ipv4Addr::from_bits(0xC000_0200 + last as u32));
    let default = balancer(&hosts(50));
    assert!(same(&default, &v6));
    assert!(!same(&default, &v4));
    assert!(!same(&with_option("prefix_v6", 128), &v6));
    assert!(same(&with_option("prefix_v4", 24), &v4));
    assert!(!same(&with_option("prefix_v4", 25), &v4));
    let subnet = |i: u64| {
        IpAddr::V6(Ipv6Addr::from_bits(
            (0x2001_0DB8_0000_0000 + u128::from(i)) << 64,
        ))
    };
    assert!(!same(&default, &subnet));
    assert!(same(&with_option("prefix_v6", 48), &subnet));
}

#[test]
fn a_request_without_an_address_is_hashed_by_its_key() {
    let balancer = seeded("ip_hash", &hosts(10), 1);
    for key in 0..100u32 {
        let key = key.to_le_bytes();
        let first = pick(&balancer, Selection::new().key(&key));
        for _ in 0..5 {
            assert_eq!(pick(&balancer, Selection::new().key(&key)), first);
        }
    }
    let owner = |key: u32| pick(&balancer, Selection::new().key(&key.to_le_bytes()));
    let owners: std::collections::HashSet<_> = (0..100).map(owner).collect();
    assert_eq!(owners.len(), 10);
    // The address counts, if there is one.
    let client = Selection::new().client([192, 0, 2, 1].into());
    assert_eq!(pick(&balancer, client.key(b"a")), pick(&balancer, client));
}
