//! All faults at once, for a while.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::Subject;
use super::pool_faults::setup_of;
use crate::rig::{Hosts, Mode, Plan, Record};
use crate::support::{Client, Connections, Load, SOON, long, resident};

/// The number of hosts, and how many of them are faulty at a time.
const HOSTS: usize = 8;
const FAULTY: usize = 3;

/// Requests per second, which any machine should serve in time, and the median that shows whether this one does.
const RATE: f64 = 300.0;
const IN_TIME: Duration = Duration::from_millis(50);

/// How much memory may grow after the warm-up.
const SOME_MEMORY: u64 = 16 << 20;

/// Makes random hosts faulty and sound again until stopped; then all are sound.
fn inject_faults(hosts: &Hosts, stop: &AtomicBool) {
    let mut random = SmallRng::seed_from_u64(39);
    let mut faulty: Vec<usize> = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        if faulty.len() == FAULTY {
            recover(hosts, faulty.remove(0));
        }
        let number = random.gen_range(0..HOSTS);
        if !faulty.contains(&number) {
            faulty.push(number);
            match random.gen_range(0..4) {
                0 => hosts.kill(number),
                1 => hosts.set(number, Mode::Failing),
                2 => hosts.set(number, Mode::Slow(20.0)),
                _ => hosts.set(
                    number,
                    Mode::Stalling {
                        from: Instant::now(),
                        period: Duration::from_millis(700),
                        pause: Duration::from_millis(500),
                    },
                ),
            }
        }
        thread::sleep(Duration::from_millis(random.gen_range(50..700)));
    }
    for number in 0..HOSTS {
        recover(hosts, number);
    }
}

fn recover(hosts: &Hosts, number: usize) {
    hosts.set(number, Mode::Normal);
    hosts.revive(number);
}

/// Clients that disconnect at every stage of a request.
fn disconnect_early(subject: &Subject, stop: &AtomicBool) {
    let stages = [
        "GET / HTT",
        "GET / HTTP/1.1\r\nHost: test\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 1000\r\n\r\nbegun",
        "POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbegun\r\n",
    ];
    for stage in stages.iter().cycle() {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let mut client = Client::connect(subject.address());
        client.send(stage).expect("sent");
        thread::sleep(Duration::from_millis(5));
        client.abort();
    }
}

/// 15 seconds; with BALLAST_LONG=1 ten minutes.
#[test]
fn mixed_faults_leave_nothing_behind() {
    let time = Duration::from_secs(if long() { 600 } else { 16 });
    let hosts = Hosts::start(HOSTS, 1);
    let setup = setup_of(&hosts)
        .algorithm("least_load")
        .health("{ interval: 500ms, timeout: 500ms, rise: 1, fall: 2 }")
        .pool("ejection: { base: 500ms }")
        .pool("slow_start: { window: 1s }");
    let subject = Subject::start(&setup);
    let pid = subject.ballast.pid();
    let plan = Plan {
        target: subject.address(),
        rate: RATE,
        duration: time / 4,
        clients: 200,
        patience: SOON,
        seed: 1,
    };
    let stop = AtomicBool::new(false);
    let (records, memory, fresh) = thread::scope(|scope| {
        scope.spawn(|| inject_faults(&hosts, &stop));
        scope.spawn(|| disconnect_early(&subject, &stop));
        let pause = Duration::from_millis(20);
        let fresh = Load::start_paced(subject.address(), 4, Connections::OnePerRequest, pause);
        // The first quarter is the warm-up.
        let (records, memory): (Vec<_>, Vec<u64>) = (0..4)
            .map(|quarter| {
                let plan = Plan {
                    seed: quarter,
                    ..plan
                };
                (plan.run(), resident(pid))
            })
            .unzip();
        stop.store(true, Ordering::Relaxed);
        (records, memory, fresh.stop())
    });
    let grown = memory[3].saturating_sub(memory[0]);
    assert!(grown < SOME_MEMORY, "{memory:?}");
    // With three of eight hosts faulty at any time, clients notice little.
    let shares: Vec<f64> = records.iter().map(Record::success).collect();
    let medians: Vec<Duration> = records.iter().map(|record| record.latency(0.5)).collect();
    println!("success {shares:?}, median {medians:?}, resident {memory:?}");
    // On a machine that cannot serve this load in time, every request looks faulty. The process still has to serve.
    let in_time = medians.iter().all(|median| *median < IN_TIME);
    let least = if in_time { 0.97 } else { 0.5 };
    assert!(shares.iter().all(|share| *share >= least), "{shares:?}");
    let ok = fresh.by_status.get(&200).copied().unwrap_or_default();
    let share = ok as f64 / fresh.total() as f64;
    assert!(share >= least, "{:?}", fresh.by_status);
    subject.settle_simulated(hosts);
}
