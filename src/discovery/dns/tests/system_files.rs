//! /etc/hosts and /etc/resolv.conf.

use std::fs;
use std::path::Path;
use std::time::Duration;

use hickory_resolver::proto::rr::Name;
use tempfile::TempDir;

use super::{config, files, resolver, texts};
use crate::discovery::dns::{DnsError, DnsResolver};
use crate::test_support::SOON;
use crate::test_support::{DnsServer, Fault, RecordType};
use RecordType::{A, AAAA};

fn directory(hosts: &str, resolv_conf: &str) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("hosts"), hosts).unwrap();
    fs::write(directory.path().join("resolv.conf"), resolv_conf).unwrap();
    directory
}

#[tokio::test]
async fn names_in_the_hosts_file_are_not_looked_up_in_dns() {
    let server = DnsServer::start();
    server.set("app.test", AAAA, &["fd00::1"], 30);
    let directory = directory("# x\n10.0.0.2 APP.test app\n10.0.0.1 app.test\n", "");
    let resolver = DnsResolver::with_files(&config(&[&server]), files(directory.path())).unwrap();
    for name in ["app.test", "App.Test."] {
        let answer = resolver.addresses(name).await.unwrap();
        assert_eq!(texts(&answer.addresses), "10.0.0.1 10.0.0.2");
        assert!(answer.is_complete);
        assert_eq!(answer.ttl, config(&[]).max_ttl);
    }
    assert_eq!(server.queries("app.test", AAAA), 0);
}

#[tokio::test]
async fn localhost_is_this_machine() {
    let system = DnsResolver::new(&config(&[])).unwrap();
    let answer = system.addresses("localhost").await.unwrap();
    assert!(answer.addresses.iter().all(|address| address.is_loopback()));
    for name in ["localhost", "app.localhost."] {
        let without_files = resolver(&[]).addresses(name).await.unwrap();
        assert_eq!(texts(&without_files.addresses), "127.0.0.1 ::1", "{name}");
    }
}

#[tokio::test]
async fn changes_of_the_files_are_taken_in() {
    let server = DnsServer::start();
    let directory = directory("10.0.0.1 app.test\n", "");
    let resolver = DnsResolver::with_files(&config(&[&server]), files(directory.path())).unwrap();
    let answer = resolver.addresses("app.test").await.unwrap();
    assert_eq!(texts(&answer.addresses), "10.0.0.1");

    // Replaced, as editors and cluster agents do.
    let new = directory.path().join("new");
    fs::write(&new, "10.0.0.2 app.test\n").unwrap();
    fs::rename(&new, directory.path().join("hosts")).unwrap();
    until(&resolver, "app.test", "10.0.0.2").await;

    server.set("web.apps.test", A, &["10.0.0.3"], 30);
    fs::write(directory.path().join("resolv.conf"), "search apps.test\n").unwrap();
    until(&resolver, "web", "10.0.0.3").await;

    // A file with an error changes nothing.
    let wrong = format!("search {}\n", "a".repeat(64));
    fs::write(directory.path().join("resolv.conf"), wrong).unwrap();
    fs::write(directory.path().join("hosts"), "10.0.0.4 app.test\n").unwrap();
    resolver.refresh();
    let answer = resolver.addresses("web").await.unwrap();
    assert_eq!(texts(&answer.addresses), "10.0.0.3");
    let answer = resolver.addresses("app.test").await.unwrap();
    assert_eq!(texts(&answer.addresses), "10.0.0.2");
    fs::write(directory.path().join("resolv.conf"), "search apps.test\n").unwrap();
    until(&resolver, "app.test", "10.0.0.4").await;
}

/// Looks up until the answer is this one.
async fn until(resolver: &DnsResolver, name: &str, addresses: &str) {
    let changed = async {
        loop {
            let answer = resolver.addresses(name).await;
            if answer.is_ok_and(|answer| texts(&answer.addresses) == addresses) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let changed = tokio::time::timeout(SOON, changed).await;
    assert!(changed.is_ok(), "{name} never had {addresses}");
}

#[tokio::test]
async fn search_domains_are_tried_in_order_until_one_has_the_name() {
    let server = DnsServer::start();
    let directory = directory("", "search a.test b.test\noptions ndots:2\n");
    let searching = DnsResolver::with_files(&config(&[&server]), files(directory.path())).unwrap();
    server.set("web.b.test", A, &["10.0.0.2"], 30);
    server.set("web.b.test", AAAA, &["fd00::2"], 30);
    let answer = searching.addresses("web").await.unwrap();
    assert_eq!(texts(&answer.addresses), "10.0.0.2 fd00::2");

    // Both families come from the same name.
    server.set("web.a.test", A, &["10.0.0.1"], 30);
    let answer = searching.addresses("web").await.unwrap();
    assert_eq!(texts(&answer.addresses), "10.0.0.1");

    // A name with a dot at the end is not searched.
    assert_eq!(searching.addresses("web.").await, Err(DnsError::Empty));
    server.set_srv("_http._tcp.web.b.test", &[(1, 1, 80, "web.b.test")], 30);
    assert!(searching.services("_http._tcp.web").await.is_ok());
    let mut config = config(&[&server]);
    config.search = false;
    let absolute = DnsResolver::with_files(&config, files(directory.path())).unwrap();
    assert_eq!(absolute.addresses("web").await, Err(DnsError::Empty));
}

#[tokio::test]
async fn a_search_does_not_go_on_after_a_failure() {
    let server = DnsServer::start();
    let directory = directory("", "search a.test b.test\n");
    let resolver = DnsResolver::with_files(&config(&[&server]), files(directory.path())).unwrap();
    server.set("web.b.test", A, &["10.0.0.2"], 30);
    server.fail("web.a.test", A, Fault::ServFail);
    let error = resolver.addresses("web").await.unwrap_err();
    assert!(matches!(error, DnsError::Failed(_)), "{error}");
    assert_eq!(server.queries("web.b.test", A), 0);
}

#[test]
fn resolv_conf_says_servers_and_the_names_to_try() {
    let read = |text: &str| {
        let directory = directory("", text);
        files(directory.path()).read().unwrap()
    };
    let servers = |text: &str| {
        let servers = read(text).servers;
        Vec::from_iter(servers.iter().map(ToString::to_string)).join(" ")
    };
    assert_eq!(
        servers("nameserver 10.0.0.1\nnameserver fd00::1\n"),
        "10.0.0.1:53 [fd00::1]:53"
    );
    assert_eq!(servers("search a.test\n"), "127.0.0.1:53");
    let many = Vec::from_iter((1..9).map(|n| format!("nameserver 10.0.0.{n}\n"))).concat();
    assert_eq!(servers(&many), "10.0.0.1:53 10.0.0.2:53 10.0.0.3:53");
    let missing = files(Path::new("/nonexistent")).read().unwrap();
    assert_eq!(missing.servers, ["127.0.0.1:53".parse().unwrap()]);

    let names = |text: &str, name: &str| {
        let name = Name::from_ascii(name).unwrap();
        let candidates = read(text).candidates(&name, true);
        Vec::from_iter(candidates.iter().map(ToString::to_string)).join(" ")
    };
    let searching = "search a.test b.test\n";
    assert_eq!(names(searching, "web"), "web.a.test. web.b.test. web.");
    assert_eq!(
        names(searching, "web.x"),
        "web.x. web.x.a.test. web.x.b.test."
    );
    assert_eq!(names(searching, "web.x."), "web.x.");
    let kubernetes = "search default.svc.cluster.local\noptions ndots:5\n";
    assert_eq!(
        names(kubernetes, "web.default"),
        "web.default.default.svc.cluster.local. web.default."
    );
}
