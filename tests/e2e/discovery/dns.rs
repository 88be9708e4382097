//! Names as sources of hosts, with a DNS server that answers, changes, fails and lies.

use std::net::SocketAddr;

use tempfile::TempDir;

use super::{hosts, setup, wait_for_hosts, wait_for_kept};
use crate::support::RecordType::{A, AAAA, SRV};
use crate::support::{
    Backend, Ballast, Client, Connections, DnsServer, Fault, HEALTH_PATH, Load, SOON, Setup, free,
    get, wait_until,
};

/// Servers of the same port on loopback addresses that end with these numbers.
fn backends<const N: usize>(numbers: [u8; N]) -> [Backend; N] {
    let port = free().port();
    numbers.map(|number| {
        let address = SocketAddr::from(([127, 0, 0, number], port));
        Backend::start_at(&number.to_string(), address)
    })
}

fn ips(backends: &[&Backend]) -> Vec<String> {
    let ips = backends.iter().map(|backend| backend.address().ip());
    ips.map(|ip| ip.to_string()).collect()
}

/// Sets the addresses of `app.test`.
fn set(server: &DnsServer, backends: &[&Backend]) {
    let ips = ips(backends);
    server.set(
        "app.test",
        A,
        &Vec::from_iter(ips.iter().map(String::as_str)),
        0,
    );
}

/// A pool of `entry` by this server, which is asked again after a tenth of a second.
fn pool(folder: &TempDir, server: &DnsServer, entry: &str) -> Setup {
    let dns = format!(
        "dns: {{ servers: [\"{}\"], timeout: 1s, attempts: 1, min_ttl: 100ms, max_ttl: 200ms }}",
        server.address()
    );
    let setup = setup(folder.path()).host_entry(entry);
    let yaml = setup.yaml();
    assert!(yaml.contains("discovery: { "));
    setup.replacing("discovery: { ", &format!("discovery: {{ {dns}, "))
}

fn name_of(backend: &Backend) -> String {
    format!("app.test:{}", backend.address().port())
}

fn folder() -> TempDir {
    TempDir::new().expect("a folder")
}

/// Waits until a question that is asked from now on has been answered.
fn wait_for_answers(server: &DnsServer, kind: crate::support::RecordType) {
    // The answer to the first one may have been on its way already.
    for _ in 0..2 {
        server.wait_for_query("app.test", kind);
    }
}

#[test]
fn all_addresses_of_a_name_are_hosts_and_follow_its_records() {
    let [a, b, c] = backends([1, 2, 3]);
    let (folder, server) = (folder(), DnsServer::start());
    set(&server, &[&a, &b]);
    let entry = format!("{{ address: \"{}\", max_in_flight: 9 }}", name_of(&a));
    let ballast = pool(&folder, &server, &entry).start();
    assert_eq!(
        hosts(&ballast),
        [a.address().to_string(), b.address().to_string()]
    );
    let mut client = Client::connect(ballast.address());
    let mut served = [0, 0].map(|_| client.get("/").backend().to_owned());
    served.sort();
    assert_eq!(served, ["1", "2"]);
    let load = Load::start(ballast.address(), 2, Connections::Kept);
    set(&server, &[&b, &c]);
    wait_for_hosts(&ballast, &[&b, &c]);
    let line = ballast.wait_for_log(&["pool web: source dns app.test added"]);
    assert!(
        line.contains(&c.address().to_string()) && line.contains("removed"),
        "{line}"
    );
    // Another order is no change.
    server.shuffle(true);
    wait_for_answers(&server, A);
    assert_eq!(ballast.log_with(&["pool web: source "]).len(), 1);
    load.wait_for_more(10);
    load.stop().assert_all_ok("the change");
}

#[test]
fn no_failed_empty_or_partial_answer_removes_a_host() {
    let [a, b, c] = backends([1, 2, 3]);
    let (folder, server) = (folder(), DnsServer::start());
    set(&server, &[&a, &b]);
    let ballast = pool(&folder, &server, &format!("\"{}\"", name_of(&a))).start();
    let all = [a.address().to_string(), b.address().to_string()];
    assert_eq!(hosts(&ballast), all);
    for fault in [
        Fault::ServFail,
        Fault::Refused,
        Fault::NxDomain,
        Fault::NoData,
        Fault::Silence,
        Fault::Garbage,
        Fault::OtherName,
        Fault::TruncatedWithoutTcp,
    ] {
        for kind in [A, AAAA] {
            server.fail("app.test", kind, fault);
        }
        wait_for_answers(&server, A);
        assert_eq!(hosts(&ballast), all, "{fault:?}");
        assert_eq!(get(ballast.address(), "/").status, 200, "{fault:?}");
    }
    let lines = ballast.log_with(&["WARN", "source dns app.test: "]);
    assert!(lines.len() >= 2, "{lines:?}");
    assert!(
        lines
            .iter()
            .all(|line| line.ends_with("the 2 hosts that it told before stay")),
        "{lines:?}"
    );
    // All addresses of one family are told, whatever becomes of the other.
    set(&server, &[&c]);
    wait_for_hosts(&ballast, &[&c]);
    ballast.wait_for_log(&["WARN", "source dns app.test: a part of its records"]);
    server.fail("app.test", AAAA, Fault::NoData);
    ballast.wait_for_log(&["INFO", "source dns app.test: answers again"]);
}

#[test]
fn a_name_that_does_not_resolve_is_a_pool_without_hosts_until_it_does() {
    let [a] = backends([1]);
    let (folder, server) = (folder(), DnsServer::start());
    let setup = pool(&folder, &server, &format!("\"{}\"", name_of(&a)));
    let ballast = setup.start();
    ballast.wait_for_log(&[
        "WARN",
        "pool web: source dns app.test has told no hosts",
        "clients get 503",
    ]);
    assert_eq!(get(ballast.address(), "/").status, 503);
    set(&server, &[&a]);
    wait_for_hosts(&ballast, &[&a]);
    wait_until(SOON, "the host serves", || {
        get(ballast.address(), "/").status == 200
    });
    wait_for_kept(folder.path());
    drop(ballast);
    // A start while the server is away.
    let address = server.address();
    drop(server);
    let ballast = setup.start();
    assert_eq!(get(ballast.address(), "/").backend(), "1", "{address}");
}

#[test]
fn a_dead_address_of_a_name_costs_no_request() {
    let [a] = backends([1]);
    let (folder, server) = (folder(), DnsServer::start());
    server.set(
        "app.test",
        A,
        &["127.0.0.9", &a.address().ip().to_string()],
        0,
    );
    let ballast = pool(&folder, &server, &format!("\"{}\"", name_of(&a))).start();
    let mut client = Client::connect(ballast.address());
    for _ in 0..10 {
        assert_eq!(client.get("/").backend(), "1");
    }
}

#[test]
fn srv_records_tell_ports_weights_and_backups() {
    let [a, b, backup] = ["a", "b", "backup"].map(Backend::start_new);
    let (folder, server) = (folder(), DnsServer::start());
    for name in ["a.test", "b.test"] {
        server.set(name, A, &["127.0.0.1"], 0);
    }
    let port = |backend: &Backend| backend.address().port();
    let records = [
        (10, 3, port(&a), "a.test"),
        (10, 1, port(&b), "b.test"),
        (20, 1, port(&backup), "b.test"),
    ];
    server.set_srv("_http._tcp.app.test", &records, 0);
    let ballast = pool(&folder, &server, "{ srv: _http._tcp.app.test }")
        .pool("host_header: upstream")
        .health(&format!(
            "{{ type: http, path: {HEALTH_PATH}, interval: 1s, timeout: 1s, rise: 1, fall: 1 }}"
        ))
        .start();
    let mut counts = [0, 0];
    let mut client = Client::connect(ballast.address());
    for _ in 0..40 {
        match client.get("/").backend() {
            "a" => counts[0] += 1,
            "b" => counts[1] += 1,
            other => panic!("{other} serves"),
        }
    }
    assert_eq!(counts, [30, 10]);
    assert_eq!(
        a.last().head.get("host"),
        Some(format!("a.test:{}", port(&a)).as_str())
    );
    // A target without an address removes nobody.
    let mut more = Vec::from(records);
    more.remove(0);
    more.push((10, 1, 9, "missing.test"));
    server.set_srv("_http._tcp.app.test", &more, 0);
    for _ in 0..2 {
        server.wait_for_query("_http._tcp.app.test", SRV);
    }
    assert!(hosts(&ballast).contains(&a.address().to_string()));
    // All targets are replaced at once.
    let [c, d] = ["c", "d"].map(Backend::start_new);
    let load = Load::start(ballast.address(), 2, Connections::Kept);
    server.set_srv(
        "_http._tcp.app.test",
        &[(1, 0, port(&c), "a.test"), (1, 0, port(&d), "b.test")],
        0,
    );
    wait_for_hosts(&ballast, &[&c, &d]);
    load.wait_for_more(10);
    load.stop().assert_all_ok("the replacement");
}

#[test]
fn changes_under_load_fail_no_request() {
    let all = backends([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
    let (folder, server) = (folder(), DnsServer::start());
    let some = |first: usize| Vec::from_iter(all.iter().cycle().skip(first).take(6));
    set(&server, &some(0));
    let ballast = pool(&folder, &server, &format!("\"{}\"", name_of(&all[0]))).start();
    let load = Load::start(ballast.address(), 2, Connections::Kept);
    let mut changes = 0;
    for first in 1..=30 {
        set(&server, &some(first * 5 % 12));
        server.wait_for_query("app.test", A);
        changes = ballast.log_with(&["pool web: source dns app.test "]).len();
    }
    assert!(changes >= 10, "{changes}");
    load.wait_for_more(10);
    load.stop().assert_all_ok("changes of records");
}

#[test]
fn strict_and_reloads_with_names_that_do_not_resolve() {
    let [a] = backends([1]);
    let (folder, server) = (folder(), DnsServer::start());
    set(&server, &[&a]);
    let setup = pool(&folder, &server, &format!("\"{}\"", name_of(&a)));
    let ballast = setup.start();
    let wrong = setup.yaml().replace("app.test", "ap.test");
    ballast.configure(&wrong);
    let refused = ballast.reload();
    assert!(
        refused
            .stderr
            .contains("the pool would lose all of its hosts: source dns ap.test"),
        "{}",
        refused.stderr
    );
    assert_eq!(get(ballast.address(), "/").backend(), "1");
    let strict = wrong.replace("state_directory", "strict: true, state_directory");
    let mut refused = Ballast::spawn(&strict);
    assert_eq!(refused.wait_exit(SOON).code(), Some(2));
    refused.wait_for_log(&[
        "pools.web: source dns ap.test has told no hosts",
        "discovery.strict",
    ]);
}
