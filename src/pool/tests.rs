use std::time::Duration;

use super::*;
use crate::balancer::{AlgorithmInfo, Options};

fn timeouts() -> config::Timeouts {
    let second = Duration::from_secs(1);
    config::Timeouts {
        connect: second,
        read: second,
        write: second,
        idle: second,
        client_head: second,
        client_keepalive: second,
        tunnel: second,
    }
}

fn pool(weights: &[u32], when_all_down: config::WhenAllDown) -> Pool {
    let hosts = weights.iter().enumerate().map(|(i, &weight)| config::Host {
        id: HostId::from(format!("127.0.0.1:{}", i + 1)),
        name: "127.0.0.1".to_owned(),
        address: ([127, 0, 0, 1], i as u16 + 1).into(),
        weight,
    });
    let configured = config::Pool {
        name: "web".to_owned(),
        algorithm: config::Algorithm {
            info: AlgorithmInfo::find("random").expect("random is registered"),
            options: Options::new(),
            key: config::KeySource::ClientIp,
        },
        hosts: hosts.collect(),
        health_check: None,
        host_header: config::HostHeader::Preserve,
        when_all_down,
        tls: None,
    };
    Pool::new(&configured, &timeouts(), &mut HostBook::new()).expect("a valid pool")
}

fn leased(pool: &Pool) -> Option<HostId> {
    let lease = pool.lease(&Selection::new()).ok()?;
    Some(lease.host().id().clone())
}

#[test]
fn only_admitted_hosts_are_leased() {
    let pool = pool(&[1, 1], config::WhenAllDown::Error);
    assert_eq!(leased(&pool), None);
    let [first, second] = pool.members() else {
        panic!("two hosts");
    };
    pool.admit(second);
    pool.admit(second);
    assert_eq!(leased(&pool).as_ref(), Some(second.host().id()));
    pool.withdraw(first);
    pool.withdraw(second);
    assert_eq!(leased(&pool), None);
}

#[test]
fn try_all_uses_every_host_while_none_is_usable() {
    let pool = pool(&[1, 0], config::WhenAllDown::TryAll);
    let first = pool.members()[0].host().id().clone();
    assert_eq!(leased(&pool), Some(first.clone()));
    assert!(pool.has_another(&[]));
    assert!(!pool.has_another(&[first]));
}

#[test]
fn another_host_is_a_usable_one_that_takes_requests() {
    let pool = pool(&[1, 1, 0], config::WhenAllDown::Error);
    let ids: Vec<_> = pool
        .members()
        .iter()
        .map(|m| m.host().id().clone())
        .collect();
    assert!(!pool.has_another(&[]));
    pool.members().iter().for_each(|member| pool.admit(member));
    assert!(pool.has_another(&ids[..1]));
    assert!(!pool.has_another(&ids[..2]));
    pool.withdraw(&pool.members()[1]);
    assert!(!pool.has_another(&ids[..1]));
}

#[test]
fn a_book_keeps_the_live_state_of_a_host_with_a_new_weight() {
    let mut book = HostBook::new();
    let mut wanted = config::Host {
        id: HostId::from("a:80"),
        name: "a".to_owned(),
        address: ([127, 0, 0, 1], 80).into(),
        weight: 1,
    };
    let old = book.host(&wanted).expect("weight 1");
    let balancer = crate::balancer::build("random", [old.clone()]).expect("random");
    balancer.inc(old.id()).expect("a member");
    wanted.weight = 7;
    let heavier = book.host(&wanted).expect("weight 7");
    assert_eq!((heavier.weight(), heavier.in_flight()), (7, 1));
    wanted.address = ([127, 0, 0, 2], 80).into();
    assert_eq!(book.host(&wanted).expect("moved").in_flight(), 0);
}
