//! Rows 17 to 22: pools whose hosts come and go, are slow, or fail fast.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::Subject;
use crate::rig::{Hosts, Mode};
use crate::support::{
    Backend, Client, Connections, HEALTH_PATH, Load, Next, Reply, SOON, Setup, get, long,
    processor_time, wait_until,
};

/// The algorithms, with options that give each request its own key.
const ALGORITHMS: [&str; 7] = [
    "random",
    "round_robin",
    "p2c",
    "least_load",
    "{ name: consistent_hash, key: uri }",
    "{ name: bounded, key: uri }",
    "ip_hash",
];

pub(super) fn setup_of(hosts: &Hosts) -> Setup {
    hosts.addresses().fold(Setup::of(&[]), Setup::host)
}

#[test]
fn row_17_each_host_restarts_in_turn() {
    each_host_restarts_in_turn(8);
}

#[test]
fn row_17_each_of_three_hosts_restarts_in_turn() {
    each_host_restarts_in_turn(3);
}

fn each_host_restarts_in_turn(count: usize) {
    // When a host dies, each client may need a retry, and five earlier requests pay for each retry. The clients wait
    // for their responses, so on a slow machine there are no more requests at once, and none outlasts a host's time in
    // the pool.
    const CLIENTS: usize = 16;
    const ENOUGH: u64 = 400;
    let hosts = Hosts::start(count, 1);
    let restarted = if long() { hosts.count() } else { 3 };
    let subject = Subject::start(&setup_of(&hosts).algorithm("p2c").health("{}"));
    let (away, back) = (Duration::from_secs(2), Duration::from_millis(500));
    let load = Load::start(subject.address(), CLIENTS, Connections::Kept);
    for number in 0..restarted {
        thread::sleep(back);
        load.wait_for_more(ENOUGH);
        hosts.kill(number);
        thread::sleep(away);
        load.wait_for_more(ENOUGH);
        hosts.revive(number);
    }
    load.wait_for_more(ENOUGH);
    load.stop().assert_all_ok("restarts in turn");
    subject.settle_simulated(hosts);
}

#[test]
fn row_18_all_hosts_down() {
    let hosts = ["a", "b"].map(Backend::start_new);
    let check = "{ interval: 500ms, timeout: 500ms, rise: 1, fall: 2 }";
    let subject = Subject::start(&Setup::of(&hosts.each_ref()).health(check));
    for host in &hosts {
        host.stop();
    }
    wait_until(SOON, "the hosts are known to be down", || {
        get(subject.address(), "/").status == 503
    });
    let mut client = Client::connect(subject.address());
    let pid = subject.ballast.pid();
    let (start, worked) = (Instant::now(), processor_time(pid));
    let mut times: Vec<Duration> = (0..101)
        .map(|_| {
            let start = Instant::now();
            let response = client.get("/");
            assert_eq!((response.status, response.backend()), (503, ""));
            let time = start.elapsed();
            thread::sleep(Duration::from_millis(5));
            time
        })
        .collect();
    let worked = processor_time(pid) - worked;
    times.sort_unstable();
    assert!(times[50] < Duration::from_millis(250), "{:?}", times[50]);
    assert!(
        worked < start.elapsed() / 4,
        "the process spins: {worked:?}"
    );
    assert!(hosts.iter().all(|host| host.requests() == 0));

    hosts[1].start();
    wait_until(SOON, "the host is used again", || {
        client.get("/").backend() == "b"
    });
    drop(client);
    subject.settle(&[&hosts[1]]);
}

#[test]
fn row_19_flapping_health() {
    let hosts = ["a", "b", "c"].map(Backend::start_new);
    let setup = Setup::of(&hosts.each_ref())
        .algorithm("{ name: consistent_hash, key: path }")
        .health(&format!(
            "{{ type: http, path: {HEALTH_PATH}, interval: 800ms, timeout: 800ms, rise: 2, fall: 3, initial: up }}"
        ));
    let subject = Subject::start(&setup);
    let mut client = Client::connect(subject.address());
    let mut owners = || -> HashMap<usize, String> {
        let mut owner = |key| client.get(&format!("/{key}")).backend().to_owned();
        (0..60).map(|key| (key, owner(key))).collect()
    };
    let before = owners();
    assert!(before.values().any(|owner| owner == "a"));

    // Every second check fails, and then two of three: neither gives three failures in a row.
    for bad in [1, 2] {
        let checks = Arc::new(AtomicU64::new(0));
        hosts[0].set_health(Reply::script(move |_, wire| {
            let number = checks.fetch_add(1, Ordering::SeqCst);
            let status = if number.is_multiple_of(bad + 1) {
                200
            } else {
                500
            };
            wire.send(format!("HTTP/1.1 {status} T\r\nContent-Length: 0\r\n\r\n"))?;
            Ok(Next::Close)
        }));
        let until = hosts[0].health_checks() + 8;
        wait_until(SOON, "eight checks", || {
            assert_eq!(owners(), before, "a key has moved");
            hosts[0].health_checks() >= until
        });
    }
    let lines = |what: &str| subject.ballast.log_with(&["host ", what]).len();
    assert_eq!(lines("is down"), 0);

    // A real failure moves the host's keys once, and its end moves them back.
    let ups = lines("is up");
    hosts[0].set_health(Reply::status(500));
    wait_until(SOON, "the host gets no requests", || lines("is down") == 1);
    wait_until(SOON, "the keys have moved", || {
        owners().values().all(|owner| owner != "a")
    });
    let meanwhile = owners();
    for (key, owner) in &before {
        assert!(owner == "a" || meanwhile[key] == *owner, "{key} has moved");
    }
    hosts[0].set_health(Reply::ok());
    wait_until(SOON, "the host is used again", || owners() == before);
    assert_eq!((lines("is down"), lines("is up")), (1, ups + 1));
    drop(client);
    subject.settle(&hosts.each_ref());
}

#[test]
fn row_20_one_check_hangs() {
    let hosts = ["a", "b", "hanging"].map(Backend::start_new);
    let setup = Setup::of(&hosts.each_ref())
        .health(&format!(
            "{{ type: http, path: {HEALTH_PATH}, interval: 300ms, timeout: 300ms, rise: 1, fall: 2 }}"
        ))
        .top("timeouts: { read: 2s }");
    let subject = Subject::start(&setup);
    let mut client = Client::connect(subject.address());
    hosts[2].set_health(Reply::Hang);
    // Its requests hang as well: a slow check alone does not count against a host that serves.
    hosts[2].set(Reply::Hang);
    let checks = || hosts.each_ref().map(Backend::health_checks);
    let (start, before) = (Instant::now(), checks());
    subject
        .ballast
        .wait_for_log(&["host ", "is down", "timed out"]);
    let duration = start.elapsed();
    // Two checks time out; meanwhile the other hosts were checked as often.
    assert!(duration >= Duration::from_millis(600), "{duration:?}");
    let after = checks();
    let made = [0, 1, 2].map(|number| after[number] - before[number]);
    assert!(made[0].min(made[1]) + 1 >= made[2], "{made:?}");
    let before = hosts[2].requests();
    for _ in 0..30 {
        assert_eq!(client.get("/").status, 200);
    }
    assert_eq!(hosts[2].requests(), before);
    drop(client);
    subject.settle(&[&hosts[0], &hosts[1]]);
}

/// Ten hosts, the first of which is in this mode.
fn ten_hosts_with_one(mode: Mode) -> Hosts {
    let hosts = Hosts::start(10, 1);
    hosts.set(0, mode);
    hosts
}

/// The share of the requests that the first host got.
fn share_of_the_first(hosts: &Hosts) -> f64 {
    let requests = hosts.requests();
    requests[0] as f64 / requests.iter().sum::<u64>() as f64
}

/// The speed of clients that wait for their responses depends on the machine, and so does how much slower the one host
/// is than the others. The test therefore compares how many requests each host has.
#[test]
fn row_21_slow_host() {
    let enough = if long() { 10_000 } else { 2_000 };
    for algorithm in ["p2c", "least_load"] {
        let hosts = ten_hosts_with_one(Mode::Slow(100.0));
        let subject = Subject::start(&setup_of(&hosts).algorithm(algorithm));
        let load = Load::start(subject.address(), 30, Connections::Kept);
        load.wait_for_more(enough);
        load.stop().assert_all_ok(algorithm);
        // A tenth would equal the share of the other hosts. The scenarios measure how small the share should be.
        let share = share_of_the_first(&hosts);
        assert!(share > 0.0 && share <= 0.05, "{algorithm}: {share}");
        subject.settle_simulated(hosts);
    }
    let hosts = ten_hosts_with_one(Mode::Slow(10.0));
    let subject = Subject::start(&setup_of(&hosts).algorithm("round_robin"));
    let load = Load::start(subject.address(), 4, Connections::Kept);
    load.wait_for_more(300);
    load.stop().assert_all_ok("round_robin");
    let share = share_of_the_first(&hosts);
    assert!((0.09..=0.11).contains(&share), "round_robin: {share}");
    subject.settle_simulated(hosts);
}

/// Clients meet the failing host until it is ejected, and only briefly after that.
#[test]
fn row_22_host_that_fails_fast() {
    const CLIENTS: usize = 4;
    const IN_A_ROW: u64 = 5;
    thread::scope(|scope| {
        for algorithm in ALGORITHMS {
            scope.spawn(move || {
                let hosts = ten_hosts_with_one(Mode::Failing);
                let setup = setup_of(&hosts).algorithm(algorithm).pool(&format!(
                    "ejection: {{ consecutive: {IN_A_ROW}, base: 5m }}"
                ));
                let subject = Subject::start(&setup);
                // From many addresses: one of them belongs to the host under any hash.
                let load = Load::start(subject.address(), CLIENTS, Connections::OnePerRequest);
                subject.ballast.wait_for_log(&["is ejected"]);
                load.wait_for_more(1_000);
                let tally = load.stop();
                let failed = tally.total() - tally.by_status.get(&200).copied().unwrap_or(0);
                // Requests that were running when the host was ejected may fail too.
                let most = IN_A_ROW + CLIENTS as u64;
                assert!((1..=most).contains(&failed), "{algorithm}: {tally:?}");
                assert_eq!(tally.by_status.get(&500), Some(&failed), "{algorithm}");
                subject.settle_simulated(hosts);
            });
        }
    });
}
