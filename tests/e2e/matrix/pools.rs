//! Rows 17 to 22: pools whose hosts come and go, are slow, or fail fast.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::Subject;
use crate::rig::{Hosts, Mode, Plan, Record};
use crate::support::{
    Backend, Client, HEALTH_PATH, Next, Reply, SOON, Setup, get, long, processor_time, wait_until,
};

/// The algorithms with options under which each request has a key of its own.
const ALGORITHMS: [&str; 7] = [
    "random",
    "round_robin",
    "p2c",
    "least_load",
    "{ name: consistent_hash, key: uri }",
    "{ name: bounded, key: uri }",
    "ip_hash",
];

pub(super) fn in_front_of(hosts: &Hosts) -> Setup {
    hosts.addresses().fold(Setup::of(&[]), Setup::host)
}

fn plan(subject: &Subject, rate: f64, duration: Duration) -> Plan {
    Plan {
        target: subject.address(),
        rate,
        duration,
        clients: 200,
        patience: SOON,
        seed: 1,
    }
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
    let hosts = Hosts::start(count, 1);
    let restarted = if long() { hosts.count() } else { 3 };
    let subject = Subject::start(&in_front_of(&hosts).algorithm("p2c").health("{}"));
    let (away, back) = (Duration::from_secs(2), Duration::from_millis(500));
    let plan = plan(&subject, 1_000.0, (away + back) * restarted as u32 + back);
    let record = thread::scope(|scope| {
        let load = scope.spawn(|| plan.run());
        for number in 0..restarted {
            thread::sleep(back);
            hosts.kill(number);
            thread::sleep(away);
            hosts.revive(number);
        }
        load.join().expect("the load does not panic")
    });
    assert!(record.count() > 5_000, "{}", record.count());
    assert_eq!(record.failed(), 0, "of {} GETs", record.count());
    subject.settle_simulated(hosts);
}

#[test]
fn row_18_all_hosts_down() {
    let hosts = ["a", "b"].map(Backend::start_new);
    let check = "{ interval: 200ms, timeout: 100ms, rise: 1, fall: 2 }";
    let subject = Subject::start(&Setup::of(&hosts.each_ref()).health(check));
    for host in &hosts {
        host.stop();
    }
    wait_until(SOON, "it is known", || {
        get(subject.address(), "/").status == 503
    });
    let mut client = Client::connect(subject.address());
    let pid = subject.ballast.pid();
    let (start, worked) = (Instant::now(), processor_time(pid));
    let mut times: Vec<Duration> = (0..101)
        .map(|_| {
            let start = Instant::now();
            let answer = client.get("/");
            assert_eq!((answer.status, answer.backend()), (503, ""));
            let time = start.elapsed();
            thread::sleep(Duration::from_millis(5));
            time
        })
        .collect();
    let worked = processor_time(pid) - worked;
    times.sort_unstable();
    assert!(times[50] < Duration::from_millis(10), "{:?}", times[50]);
    assert!(worked < start.elapsed() / 4, "it spins: {worked:?}");
    assert!(hosts.iter().all(|host| host.requests() == 0));

    let start = Instant::now();
    hosts[1].start();
    wait_until(SOON, "it recovers", || client.get("/").backend() == "b");
    // A check interval, and what a busy machine adds.
    assert!(start.elapsed() < Duration::from_secs(2));
    drop(client);
    subject.settle(&[&hosts[1]]);
}

#[test]
fn row_19_flapping_health() {
    let hosts = ["a", "b", "c"].map(Backend::start_new);
    let setup = Setup::of(&hosts.each_ref())
        .algorithm("{ name: consistent_hash, key: path }")
        .health(&format!(
            "{{ type: http, path: {HEALTH_PATH}, interval: 300ms, timeout: 300ms, rise: 2, fall: 3, initial: up }}"
        ));
    let subject = Subject::start(&setup);
    let mut client = Client::connect(subject.address());
    let mut owners = || -> HashMap<usize, String> {
        let mut owner = |key| client.get(&format!("/{key}")).backend().to_owned();
        (0..60).map(|key| (key, owner(key))).collect()
    };
    let before = owners();
    assert!(before.values().any(|owner| owner == "a"));

    // Every other check fails, and then two of three: neither is three in a row.
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
    let said = |what: &str| subject.ballast.log_with(&["host ", what]).len();
    assert_eq!(said("is down"), 0);

    // A true failure moves its keys once, and its end moves them back.
    let ups = said("is up");
    hosts[0].set_health(Reply::status(500));
    wait_until(SOON, "it is left out", || said("is down") == 1);
    wait_until(SOON, "its keys have moved", || {
        owners().values().all(|owner| owner != "a")
    });
    let meanwhile = owners();
    for (key, owner) in &before {
        assert!(owner == "a" || meanwhile[key] == *owner, "{key} has moved");
    }
    hosts[0].set_health(Reply::ok());
    wait_until(SOON, "it is used again", || owners() == before);
    assert_eq!((said("is down"), said("is up")), (1, ups + 1));
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
        .top("timeouts: { read: 300ms }");
    let subject = Subject::start(&setup);
    let mut client = Client::connect(subject.address());
    hosts[2].set_health(Reply::Hang);
    // Its requests hang as well: a check that only takes long says nothing against a host that serves.
    hosts[2].set(Reply::Hang);
    let (start, checks) = (Instant::now(), hosts[0].health_checks());
    subject
        .ballast
        .wait_for_log(&["host ", "is down", "timed out"]);
    let took = start.elapsed();
    // Two checks that time out; meanwhile the others were checked every 330 ms at the latest.
    assert!(took >= Duration::from_millis(600), "{took:?}");
    let expected = took.as_millis() as u64 / 660;
    assert!(hosts[0].health_checks() - checks >= expected);
    let before = hosts[2].requests();
    for _ in 0..30 {
        assert_eq!(client.get("/").status, 200);
    }
    assert_eq!(hosts[2].requests(), before);
    drop(client);
    subject.settle(&[&hosts[0], &hosts[1]]);
}

/// The load on ten hosts of which the first is in this mode; its share of the requests, too.
fn with_one_host(algorithm: &str, mode: Mode, rate: f64, duration: Duration) -> (Record, f64) {
    let hosts = Hosts::start(10, 1);
    hosts.set(0, mode);
    let subject = Subject::start(&in_front_of(&hosts).algorithm(algorithm));
    let record = plan(&subject, rate, duration).run();
    let requests = hosts.requests();
    let share = requests[0] as f64 / requests.iter().sum::<u64>() as f64;
    subject.settle_simulated(hosts);
    (record, share)
}

#[test]
fn row_21_slow_host() {
    let duration = Duration::from_secs(if long() { 10 } else { 3 });
    for algorithm in ["p2c", "least_load"] {
        let (record, share) = with_one_host(algorithm, Mode::Slow(10.0), 1_500.0, duration);
        assert_eq!(record.failed(), 0, "{algorithm}");
        // The scenarios measure how long it takes; beside other tests all that can be said is that nothing piles up.
        let p99 = record.after(Duration::from_secs(1)).latency(0.99);
        assert!(p99 < Duration::from_secs(1), "{algorithm}: {p99:?}");
        assert!((0.002..=0.02).contains(&share), "{algorithm}: {share}");
    }
    let (_, share) = with_one_host("round_robin", Mode::Slow(10.0), 200.0, duration);
    assert!((0.09..=0.11).contains(&share), "round_robin: {share}");
}

#[test]
fn row_22_host_that_fails_fast() {
    let duration = Duration::from_secs(if long() { 10 } else { 3 });
    thread::scope(|scope| {
        for algorithm in ALGORITHMS {
            scope.spawn(move || {
                let (record, share) = with_one_host(algorithm, Mode::Failing, 300.0, duration);
                let all = record.count();
                let late = record.after(Duration::from_secs(1));
                assert!(late.count() > 300, "{algorithm}: {} of {all}", late.count());
                assert!(late.success() >= 0.995, "{algorithm}: {}", late.success());
                assert!(share < 0.1, "{algorithm}: {share}");
            });
        }
    });
}
