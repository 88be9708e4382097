//! What servers that fail, lie or are silent do to an answer.

use std::time::{Duration, Instant};

use hickory_resolver::proto::op::{Message, MessageType, OpCode, Query};
use hickory_resolver::proto::rr::rdata::{A as Address, CNAME};
use hickory_resolver::proto::rr::{Name, RData, Record};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::{IMPATIENT, config, impatient, nowhere, resolver, texts, without_files};
use crate::discovery::dns::DnsError;
use crate::discovery::dns::client::Response;
use crate::discovery::dns::records::find;
use crate::test_support::SOON;
use crate::test_support::{DnsServer, Fault, RecordType};
use RecordType::{A, AAAA};

#[tokio::test]
async fn an_answer_is_partial_where_one_family_fails() {
    let server = DnsServer::start();
    let resolver = impatient(&[&server]);
    for fault in [Fault::ServFail, Fault::Silence, Fault::Garbage] {
        server.set("app.test", A, &["10.0.0.1"], 30);
        server.fail("app.test", AAAA, fault);
        let answer = resolver.addresses("app.test").await.unwrap();
        assert_eq!(texts(&answer.addresses), "10.0.0.1");
        assert!(!answer.is_complete, "{fault:?}");

        server.set("app.test", AAAA, &["fd00::1"], 30);
        server.fail("app.test", A, fault);
        let answer = resolver.addresses("app.test").await.unwrap();
        assert_eq!(texts(&answer.addresses), "fd00::1");
        assert!(!answer.is_complete, "{fault:?}");

        // One family has failed, so nobody knows that there is no address.
        server.fail("app.test", AAAA, Fault::NoData);
        let error = resolver.addresses("app.test").await.unwrap_err();
        assert!(matches!(error, DnsError::Failed(_)), "{fault:?}");
    }
}

#[tokio::test]
async fn no_name_and_no_records_are_empty() {
    let server = DnsServer::start();
    let resolver = resolver(&[&server]);
    assert_eq!(resolver.addresses("app.test").await, Err(DnsError::Empty));
    server.fail("app.test", A, Fault::NoData);
    server.fail("app.test", AAAA, Fault::NoData);
    assert_eq!(resolver.addresses("app.test").await, Err(DnsError::Empty));
    server.set("app.test", A, &["10.0.0.1"], 30);
    server.fail("app.test", A, Fault::OtherName);
    assert_eq!(resolver.addresses("app.test").await, Err(DnsError::Empty));
}

#[tokio::test]
async fn failures_say_which_server_did_what() {
    let server = DnsServer::start();
    let resolver = impatient(&[&server]);
    for (fault, what) in [
        (Fault::ServFail, "failed (SERVFAIL)"),
        (Fault::Refused, "refused the question"),
        (Fault::Silence, "did not answer in time"),
        (Fault::Garbage, "sent a malformed response by UDP"),
    ] {
        server.fail("app.test", A, fault);
        server.fail("app.test", AAAA, fault);
        let error = resolver.addresses("app.test").await.unwrap_err();
        let expected = format!("app.test. A: DNS server {} {what}", server.address());
        assert!(error.to_string().starts_with(&expected), "{error}");
    }
}

#[tokio::test]
async fn the_next_server_is_asked_after_one_that_fails() {
    let (first, second) = (DnsServer::start(), DnsServer::start());
    second.set("app.test", A, &["10.0.0.1"], 30);
    let both = impatient(&[&first, &second]);
    let faults = [
        Fault::Silence,
        Fault::ServFail,
        Fault::Refused,
        Fault::Garbage,
        Fault::TruncatedWithoutTcp,
    ];
    for fault in faults {
        first.fail("app.test", A, fault);
        first.fail("app.test", AAAA, fault);
        let answer = both.addresses("app.test").await.unwrap();
        assert_eq!(texts(&answer.addresses), "10.0.0.1");
        assert!(answer.is_complete, "{fault:?}");
    }
    // That there is no such name is an answer.
    first.fail("app.test", A, Fault::NxDomain);
    first.fail("app.test", AAAA, Fault::NxDomain);
    assert_eq!(both.addresses("app.test").await, Err(DnsError::Empty));
    assert_eq!(second.queries("app.test", A), faults.len());
}

#[tokio::test]
async fn servers_are_asked_as_often_as_is_said_and_the_lookup_ends() {
    let server = DnsServer::start();
    let mut config = config(&[&server]);
    config.servers.push(nowhere());
    config.attempts = 2;
    config.timeout = Duration::from_millis(100);
    server.fail("app.test", A, Fault::Silence);
    server.fail("app.test", AAAA, Fault::Silence);
    let resolver = without_files(&config);
    let start = Instant::now();
    let error = resolver.addresses("app.test").await.unwrap_err();
    assert!(matches!(error, DnsError::Failed(_)));
    assert_eq!(server.queries("app.test", A), 2);
    // Half a second for a busy machine.
    assert!(start.elapsed() < 9 * config.timeout + Duration::from_millis(500));
}

#[tokio::test]
async fn a_truncated_answer_without_tcp_is_partial_or_none() {
    let server = DnsServer::start();
    let resolver = resolver(&[&server]);
    let addresses = ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"];
    server.set("app.test", A, &addresses, 30);
    server.fail("app.test", A, Fault::TruncatedWithoutTcp);
    let answer = resolver.addresses("app.test").await.unwrap();
    assert_eq!(texts(&answer.addresses), "10.0.0.1 10.0.0.2");
    assert!(!answer.is_complete);

    server.set("app.test", A, &["10.0.0.1"], 30);
    server.fail("app.test", A, Fault::TruncatedWithoutTcp);
    let error = resolver.addresses("app.test").await.unwrap_err();
    assert!(error.to_string().contains("too long for UDP"), "{error}");
}

#[tokio::test]
async fn forged_responses_are_passed_over() {
    let server = DnsServer::start();
    server.set("app.test", A, &["10.0.0.1"], 30);
    server.fail("app.test", A, Fault::ForgeriesFirst);
    // There is one attempt.
    let answer = resolver(&[&server]).addresses("app.test").await.unwrap();
    assert_eq!(texts(&answer.addresses), "10.0.0.1");
    assert!(answer.is_complete);
}

#[tokio::test]
async fn names_that_are_none_are_failures() {
    let server = DnsServer::start();
    let resolver = resolver(&[&server]);
    let long_label = "a".repeat(64);
    let long_name = "abc.".repeat(70);
    for name in ["", ".", "a..b", ".a", &long_label, &long_name] {
        for error in [
            resolver.addresses(name).await.map(drop).unwrap_err(),
            resolver.services(name).await.map(drop).unwrap_err(),
        ] {
            assert!(error.to_string().contains("is not a name"), "{error}");
        }
    }
}

#[tokio::test]
async fn nothing_runs_on_after_a_lookup() {
    let server = DnsServer::start();
    let resolver = impatient(&[&server]);
    let many = Vec::from_iter((0..200).map(|n| format!("10.0.0.{n}")));
    let many = Vec::from_iter(many.iter().map(String::as_str));
    server.set("long.test", A, &many, 30);
    server.fail("silent.test", A, Fault::Silence);
    server.fail("cut.test", A, Fault::TruncatedWithoutTcp);
    for name in ["long.test", "silent.test", "cut.test"] {
        let _ = resolver.addresses(name).await;
    }
    // One that is given up while it waits.
    let given_up = timeout(IMPATIENT / 8, resolver.addresses("silent.test")).await;
    assert!(given_up.is_err());
    let ended = async {
        while Handle::current().metrics().num_alive_tasks() > 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    assert!(timeout(SOON, ended).await.is_ok());
}

#[test]
fn no_response_is_read_in_a_way_that_panics() {
    let mut random = SmallRng::seed_from_u64(17);
    let name = Name::from_ascii("app.test.").unwrap();
    let other = Name::from_ascii("other.test.").unwrap();
    let mut message = Message::new(1, MessageType::Response, OpCode::Query);
    message.add_query(Query::query(name.clone(), A));
    let alias = |from: &Name, to: &Name| {
        Record::from_rdata(from.clone(), 1, RData::CNAME(CNAME(to.clone())))
    };
    message.add_answer(alias(&name, &other));
    message.add_answer(alias(&other, &name));
    let address = RData::A(Address::new(10, 0, 0, 1));
    message.add_answer(Record::from_rdata(name.clone(), 1, address));
    let whole = message.to_vec().unwrap();
    let mut readable = 0;
    for _ in 0..20_000 {
        let mut bytes = whole.clone();
        for _ in 0..random.gen_range(1..4) {
            let at = random.gen_range(0..bytes.len());
            bytes[at] = random.r#gen();
        }
        bytes.truncate(random.gen_range(bytes.len() - 4..=bytes.len()));
        if let Ok(message) = Message::from_vec(&bytes) {
            readable += 1;
            let response = Response {
                message,
                is_truncated: false,
            };
            find(response, &name, A);
        }
    }
    assert!(readable > 100, "{readable}");
}
