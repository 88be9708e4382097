use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn source() -> HostSource {
    HostSource::Name("app.test".to_owned())
}

fn found(numbers: &BTreeSet<u8>) -> Vec<FoundHost> {
    let hosts = numbers.iter();
    hosts
        .map(|number| FoundHost::at(([10, 0, 0, *number], 80)))
        .collect()
}

fn known(table: &SourceTable) -> BTreeSet<u8> {
    let hosts = table.state(&source()).hosts;
    let numbers = hosts.iter().map(|host| match host.address.as_inet() {
        Some(std::net::SocketAddr::V4(address)) => address.ip().octets()[3],
        _ => panic!("{host:?}"),
    });
    numbers.collect()
}

/// What a source may answer, with the hosts in it.
fn answer() -> impl Strategy<Value = (u8, BTreeSet<u8>)> {
    (0..4_u8, prop::collection::btree_set(0..8_u8, 0..6))
}

proptest! {
    #![proptest_config(ProptestConfig { rng_seed: proptest::test_runner::RngSeed::Fixed(7), ..ProptestConfig::default() })]

    /// Only a complete answer with hosts removes any, and then just those that it leaves out.
    #[test]
    fn no_other_answer_removes_a_host(answers in prop::collection::vec(answer(), 1..30)) {
        let table = SourceTable::default();
        let mut expected = BTreeSet::new();
        for (kind, numbers) in answers {
            let hosts = found(&numbers);
            let answer = match kind {
                0 => Answer::Complete { hosts, ttl: None },
                1 => Answer::Partial { hosts, others: Others::Any, reason: "half".to_owned(), ttl: None },
                2 => Answer::Complete { hosts: Vec::new(), ttl: None },
                _ => Answer::Failed("away".to_owned()),
            };
            let before = expected.clone();
            match kind {
                0 if !numbers.is_empty() => expected = numbers,
                1 => expected.extend(numbers),
                _ => {}
            }
            let is_changed = table.report(&source(), answer);
            prop_assert_eq!(known(&table), expected.clone());
            prop_assert_eq!(is_changed, before != expected);
        }
        let state = table.state(&source());
        prop_assert!(state.good_answers + state.bad_answers > 0);
    }
}

#[test]
fn the_order_of_an_answer_and_repetitions_do_not_matter() {
    let table = SourceTable::default();
    let mut hosts = found(&BTreeSet::from([1, 2, 3]));
    let complete = |hosts: &[FoundHost]| Answer::Complete {
        hosts: hosts.to_vec(),
        ttl: None,
    };
    assert!(table.report(&source(), complete(&hosts)));
    hosts.reverse();
    hosts.push(hosts[0].clone());
    assert!(!table.report(&source(), complete(&hosts)));
    hosts[0].weight = Some(3);
    assert!(table.report(&source(), complete(&hosts[..3])));
}

#[test]
fn a_partial_answer_brings_new_weights() {
    let table = SourceTable::default();
    let mut hosts = found(&BTreeSet::from([1, 2]));
    table.report(
        &source(),
        Answer::Complete {
            hosts: hosts.clone(),
            ttl: None,
        },
    );
    hosts.remove(0);
    hosts[0].weight = Some(9);
    let partial = Answer::Partial {
        hosts,
        others: Others::Any,
        reason: "half".to_owned(),
        ttl: None,
    };
    assert!(table.report(&source(), partial));
    let state = table.state(&source());
    let weights = Vec::from_iter(state.hosts.iter().map(|host| host.weight));
    assert_eq!(weights, [None, Some(9)]);
    assert_eq!(state.error.as_deref(), Some("half"));
}

#[test]
fn what_was_known_before_gives_way_to_the_first_answer() {
    let table = SourceTable::default();
    let saved = |numbers: &[u8]| SavedHosts {
        source: source().to_string(),
        confirmed: Timestamp::from_unix_seconds(7),
        hosts: found(&numbers.iter().copied().collect()),
    };
    table.restore(&source(), saved(&[1]), true);
    assert!(table.state(&source()).is_stale);
    assert_eq!(table.export()[0].confirmed, Timestamp::from_unix_seconds(7));
    table.report(&source(), Answer::Failed("away".to_owned()));
    assert!(table.state(&source()).is_stale && known(&table) == BTreeSet::from([1]));
    let hosts = found(&BTreeSet::from([2]));
    table.report(&source(), Answer::Complete { hosts, ttl: None });
    assert!(!table.state(&source()).is_stale && known(&table) == BTreeSet::from([2]));
    table.restore(&source(), saved(&[3]), true);
    assert_eq!(known(&table), BTreeSet::from([2]));
}

#[test]
fn too_many_hosts_are_cut_off() {
    let table = SourceTable::default();
    let hosts = (0..=MAX_HOSTS as u32).map(|number| {
        let ip = std::net::Ipv4Addr::from(0x0A00_0000 + number);
        FoundHost::at((ip, 80))
    });
    let hosts = hosts.collect();
    table.report(&source(), Answer::Complete { hosts, ttl: None });
    assert_eq!(table.state(&source()).hosts.len(), MAX_HOSTS);
}

#[test]
fn a_family_that_is_whole_loses_the_addresses_that_it_leaves_out() {
    let table = SourceTable::default();
    let v6 = |number: u16| {
        FoundHost::at((
            std::net::Ipv6Addr::from([0xFD00, 0, 0, 0, 0, 0, 0, number]),
            80,
        ))
    };
    let mut hosts = found(&BTreeSet::from([1, 2]));
    hosts.extend([v6(1), v6(2)]);
    table.report(&source(), Answer::Complete { hosts, ttl: None });
    let partial = |hosts: Vec<FoundHost>, others| {
        let reason = "half".to_owned();
        table.report(
            &source(),
            Answer::Partial {
                hosts,
                others,
                reason,
                ttl: None,
            },
        );
        table.state(&source()).hosts.len()
    };
    // All of IPv4 are told, and IPv6 could not be looked up.
    assert_eq!(partial(found(&BTreeSet::from([2, 3])), Others::Ipv6), 4);
    assert_eq!(partial(vec![v6(3)], Others::Any), 5);
    assert_eq!(partial(vec![v6(3)], Others::Ipv4), 3);
}
