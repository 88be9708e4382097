//! What SRV records give.

use std::time::Duration;

use super::{impatient, resolver};
use crate::discovery::dns::{DnsError, ServiceAnswer};
use crate::test_support::{DnsServer, Fault, RecordType};
use RecordType::{A, AAAA, SRV};

const SERVICE: &str = "_http._tcp.app.test";

/// Priority, weight, name and port of each target, with its addresses.
fn targets(answer: &ServiceAnswer) -> Vec<String> {
    let lines = answer.targets.iter().map(|target| {
        let addresses = super::texts(&target.addresses);
        format!(
            "{} {} {}:{} [{addresses}]",
            target.priority, target.weight, target.name, target.port
        )
    });
    lines.collect()
}

#[tokio::test]
async fn targets_have_priority_weight_port_and_all_addresses() {
    let server = DnsServer::start();
    let records = [
        (2, 10, 8081, "b.test"),
        (1, 30, 8081, "a.test"),
        (1, 0, 8080, "A.test"),
        (1, 30, 8081, "a.test"),
    ];
    server.set_srv(SERVICE, &records, 30);
    server.set("a.test", A, &["10.0.0.2", "10.0.0.1"], 20);
    server.set("a.test", AAAA, &["fd00::1"], 60);
    server.set("b.test", A, &["10.0.0.3"], 60);
    let resolver = resolver(&[&server]);
    let answer = resolver.services(SERVICE).await.unwrap();
    let expected = [
        "1 0 a.test:8080 [10.0.0.1 10.0.0.2 fd00::1]",
        "1 30 a.test:8081 [10.0.0.1 10.0.0.2 fd00::1]",
        "2 10 b.test:8081 [10.0.0.3]",
    ];
    assert_eq!(targets(&answer), expected);
    assert_eq!(answer.ttl, Duration::from_secs(20));
    assert!(answer.is_complete);
    assert_eq!(server.queries("a.test", A), 1, "each name once");

    server.shuffle(true);
    for _ in 0..3 {
        assert_eq!(resolver.services(SERVICE).await.unwrap(), answer);
    }
}

#[tokio::test]
async fn a_target_that_does_not_resolve_makes_the_answer_partial() {
    let server = DnsServer::start();
    server.set_srv(SERVICE, &[(1, 1, 80, "a.test"), (1, 1, 80, "b.test")], 30);
    server.set("a.test", A, &["10.0.0.1"], 30);
    let resolver = impatient(&[&server]);
    let expected = ["1 1 a.test:80 [10.0.0.1]", "1 1 b.test:80 []"];
    for fault in [Fault::NxDomain, Fault::ServFail, Fault::Silence] {
        server.fail("b.test", A, fault);
        server.fail("b.test", AAAA, fault);
        let answer = resolver.services(SERVICE).await.unwrap();
        assert_eq!(targets(&answer), expected);
        assert!(!answer.is_complete, "{fault:?}");
    }
    // And so does half of a target.
    server.set("b.test", A, &["10.0.0.2"], 30);
    let answer = resolver.services(SERVICE).await.unwrap();
    assert!(!answer.is_complete);
    server.set("b.test", AAAA, &["fd00::2"], 30);
    let answer = resolver.services(SERVICE).await.unwrap();
    assert!(answer.is_complete);

    for name in ["a.test", "b.test"] {
        server.fail(name, A, Fault::NxDomain);
        server.fail(name, AAAA, Fault::NxDomain);
    }
    let error = resolver.services(SERVICE).await.unwrap_err();
    let expected = "no target of _http._tcp.app.test has an address; a.test.: DNS has no records";
    assert!(error.to_string().starts_with(expected), "{error}");
}

#[tokio::test]
async fn a_service_that_is_not_offered_is_empty() {
    let server = DnsServer::start();
    let resolver = resolver(&[&server]);
    assert_eq!(resolver.services(SERVICE).await, Err(DnsError::Empty));
    server.set_srv(SERVICE, &[(0, 0, 0, ".")], 30);
    assert_eq!(resolver.services(SERVICE).await, Err(DnsError::Empty));
    server.fail(SERVICE, SRV, Fault::NoData);
    assert_eq!(resolver.services(SERVICE).await, Err(DnsError::Empty));
    server.fail(SERVICE, SRV, Fault::ServFail);
    let error = resolver.services(SERVICE).await.unwrap_err();
    assert!(matches!(error, DnsError::Failed(_)));
}

#[tokio::test]
async fn a_service_may_be_an_alias() {
    let server = DnsServer::start();
    server.set_alias(SERVICE, "_http._tcp.blue.test", 30);
    server.set_srv("_http._tcp.blue.test", &[(1, 1, 80, "a.test")], 30);
    server.set("a.test", A, &["10.0.0.1"], 30);
    let answer = resolver(&[&server]).services(SERVICE).await.unwrap();
    assert_eq!(targets(&answer), ["1 1 a.test:80 [10.0.0.1]"]);
}

#[tokio::test]
async fn many_targets_are_looked_up_side_by_side() {
    let server = DnsServer::start();
    let names = Vec::from_iter((0..200).map(|n| format!("host-{n:03}.test")));
    let records = Vec::from_iter(names.iter().map(|name| (1, 1, 80, name.as_str())));
    server.set_srv(SERVICE, &records, 30);
    for (n, name) in names.iter().enumerate() {
        server.set(name, A, &[&format!("10.0.0.{n}")], 30);
    }
    let answer = resolver(&[&server]).services(SERVICE).await.unwrap();
    let found = Vec::from_iter(answer.targets.iter().map(|target| target.name.clone()));
    assert_eq!(found, names);
    assert!(answer.is_complete);
}
