//! What positive answers give.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use super::{resolver, texts};
use crate::discovery::dns::DnsError;
use crate::discovery::dns::lookup::MAX_ADDRESSES;
use crate::test_support::{DnsServer, Fault, RecordType};
use RecordType::{A, AAAA};

#[tokio::test]
async fn all_addresses_of_both_families_are_in_the_answer_sorted_and_each_once() {
    let server = DnsServer::start();
    let v4 = ["10.0.0.3", "10.0.0.1", "10.0.0.2", "10.0.0.1"];
    server.set("app.test", A, &v4, 30);
    server.set("app.test", AAAA, &["fd00::2", "fd00::1"], 20);
    let answer = resolver(&[&server]).addresses("app.test").await.unwrap();
    assert_eq!(
        texts(&answer.addresses),
        "10.0.0.1 10.0.0.2 10.0.0.3 fd00::1 fd00::2"
    );
    assert_eq!(answer.ttl, Duration::from_secs(20));
    assert!(answer.is_complete);
    assert_eq!(server.queries("app.test", A), 1);
    assert_eq!(server.queries_by_tcp(), 0);
}

#[tokio::test]
async fn a_name_without_records_of_one_family_is_complete() {
    let server = DnsServer::start();
    server.set("app.test", A, &["10.0.0.1"], 30);
    let answer = resolver(&[&server]).addresses("app.test").await.unwrap();
    assert_eq!(texts(&answer.addresses), "10.0.0.1");
    assert!(answer.is_complete);
    // Servers that know nothing of AAAA say that the name is not there.
    server.fail("app.test", AAAA, Fault::NxDomain);
    let answer = resolver(&[&server]).addresses("app.test").await.unwrap();
    assert!(answer.is_complete);
}

#[tokio::test]
async fn shuffled_answers_are_the_same_answer() {
    let server = DnsServer::start();
    let addresses = ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"];
    server.set("app.test", A, &addresses, 30);
    server.shuffle(true);
    let resolver = resolver(&[&server]);
    let first = resolver.addresses("app.test").await.unwrap();
    for _ in 0..5 {
        assert_eq!(resolver.addresses("app.test").await.unwrap(), first);
    }
    assert_eq!(server.queries("app.test", A), 6, "nothing is cached");
}

#[tokio::test]
async fn ttls_are_within_their_bounds() {
    let server = DnsServer::start();
    let resolver = resolver(&[&server]);
    for (ttl, bounded) in [(0, 2), (1, 2), (50, 50), (86_400, 100), (u32::MAX, 100)] {
        server.set("app.test", A, &["10.0.0.1"], ttl);
        let answer = resolver.addresses("app.test").await.unwrap();
        assert_eq!(answer.ttl, Duration::from_secs(bounded), "{ttl}");
    }
}

#[tokio::test]
async fn aliases_are_followed_whether_the_server_does_it_or_not() {
    let server = DnsServer::start();
    server.set_alias("www.test", "app.test", 10);
    server.set_alias("app.test", "host.test", 20);
    server.set("host.test", A, &["10.0.0.1"], 30);
    let resolver = resolver(&[&server]);
    let answer = resolver.addresses("www.test").await.unwrap();
    assert_eq!(texts(&answer.addresses), "10.0.0.1");
    assert_eq!(answer.ttl, Duration::from_secs(10));
    assert!(answer.is_complete);
    assert_eq!(server.queries("host.test", A), 0);

    server.leave_aliases();
    assert_eq!(resolver.addresses("www.test").await.unwrap(), answer);
    assert_eq!(server.queries("host.test", A), 1);
}

#[tokio::test]
async fn aliases_that_do_not_end_are_a_failure() {
    let server = DnsServer::start();
    server.set_alias("a.test", "b.test", 10);
    server.set_alias("b.test", "a.test", 10);
    let resolver = resolver(&[&server]);
    let error = resolver.addresses("a.test").await.unwrap_err();
    assert!(matches!(&error, DnsError::Failed(why) if why.contains("do not end")));
    server.leave_aliases();
    let error = resolver.addresses("a.test").await.unwrap_err();
    assert!(matches!(&error, DnsError::Failed(why) if why.contains("do not end")));
    // Nor is an alias of nothing an answer.
    server.set_alias("c.test", "nothing.test", 10);
    assert_eq!(resolver.addresses("c.test").await, Err(DnsError::Empty));
}

#[tokio::test]
async fn answers_that_udp_cannot_carry_come_by_tcp() {
    let server = DnsServer::start();
    let addresses = (0..1_000).map(|n| Ipv4Addr::from_bits(0x0a00_0000 + n).to_string());
    let addresses = Vec::from_iter(addresses);
    let texts = Vec::from_iter(addresses.iter().map(String::as_str));
    server.set("app.test", A, &texts, 30);
    let answer = resolver(&[&server]).addresses("app.test").await.unwrap();
    assert_eq!(answer.addresses.len(), 1_000);
    assert!(answer.is_complete);
    assert_eq!(server.queries_by_tcp(), 1);
}

#[tokio::test]
async fn there_is_a_bound_on_the_addresses_of_a_name() {
    let server = DnsServer::start();
    let v4 = (0..2_500).map(|n| Ipv4Addr::from_bits(0x0a00_0000 + n).to_string());
    let v6 = (0..2_000).map(|n| Ipv6Addr::from_bits((0xfd << 120) + n).to_string());
    let (v4, v6) = (Vec::from_iter(v4), Vec::from_iter(v6));
    let texts = |list: &[String]| Vec::from_iter(list.iter().map(|text| text.as_str().to_owned()));
    let set = |kind, list: &[String]| {
        let texts = texts(list);
        let texts = Vec::from_iter(texts.iter().map(String::as_str));
        server.set("app.test", kind, &texts, 30);
    };
    set(A, &v4);
    set(AAAA, &v6);
    let answer = resolver(&[&server]).addresses("app.test").await.unwrap();
    assert_eq!(answer.addresses.len(), MAX_ADDRESSES);
    assert!(!answer.is_complete);
}

#[tokio::test]
async fn addresses_that_stand_for_this_machine_or_a_group_are_none_of_a_host() {
    let server = DnsServer::start();
    let resolver = resolver(&[&server]);
    server.set("app.test", A, &["0.0.0.0", "224.0.0.1"], 30);
    server.set("app.test", AAAA, &["::", "::ffff:0.0.0.0"], 30);
    assert_eq!(resolver.addresses("app.test").await, Err(DnsError::Empty));
    server.set("app.test", AAAA, &["::ffff:10.0.0.1"], 30);
    let answer = resolver.addresses("app.test").await.unwrap();
    assert_eq!(texts(&answer.addresses), "10.0.0.1");
}
