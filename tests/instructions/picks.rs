//! A lease and its release, for each algorithm and number of hosts, through the library and without Pingora.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;

use ballast_balancer::{ALGORITHMS, Host, Selection, build};

use crate::callgrind;

const HOSTS: [usize; 3] = [2, 100, 1_000];
/// Draws differ from run to run; with this many, the mean of a pick differs by less than 1 %.
const PICKS: u32 = 4_000;

/// The name and the instructions of each pick; the first is the calibration.
pub(crate) fn measure(valgrind: &Path) -> Vec<(String, u64)> {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let function = |name| format!("*{}::{name}*", module_path!());
    let collect = format!("--toggle-collect={}", function("collected"));
    let dump = format!("--dump-after={}", function("dumped"));
    let run = callgrind::command(valgrind, folder.path(), &[&collect, &dump])
        .arg(std::env::current_exe().expect("a test has a path"))
        .args(["--exact", "picks::all", "--test-threads=1"])
        .output()
        .expect("valgrind runs");
    assert!(
        run.status.success(),
        "{}",
        String::from_utf8_lossy(&run.stderr)
    );
    let counts = callgrind::counts(folder.path());
    scenarios()
        .into_iter()
        .zip(1..)
        .map(|(scenario, file)| {
            let count = counts
                .get(&file)
                .unwrap_or_else(|| panic!("callgrind has not counted {}", scenario.name));
            (scenario.name, count / u64::from(PICKS))
        })
        .collect()
}

struct Scenario {
    name: String,
    step: Box<dyn Fn(u32)>,
}

fn scenarios() -> Vec<Scenario> {
    let calibration = Scenario {
        name: "calibration".to_owned(),
        step: Box::new(calibrate),
    };
    let picks = ALGORITHMS.iter().flat_map(|info| {
        HOSTS.map(|hosts| Scenario {
            name: format!("{}, {hosts} hosts", info.name),
            step: pick(info.name, hosts),
        })
    });
    [calibration].into_iter().chain(picks).collect()
}

/// Contains no code of Ballast: its count shows the optimisation level with which the tests were built.
fn calibrate(i: u32) {
    let sum: u32 = (0..black_box(50))
        .map(|n| n ^ i)
        .filter(|n| n % 3 == 0)
        .sum();
    black_box(sum);
}

fn pick(algorithm: &str, hosts: usize) -> Box<dyn Fn(u32)> {
    let hosts = (0..hosts).map(|i| {
        let address = Ipv4Addr::new(10, 0, (i >> 8) as u8, i as u8);
        Arc::new(Host::new((address, 80).into()))
    });
    let balancer = build(algorithm, hosts).expect("a balancer");
    Box::new(move |i| {
        let key = i.wrapping_mul(2_654_435_761).to_le_bytes();
        let client = IpAddr::from(key);
        let request = Selection::new().key(&key).client(client);
        drop(black_box(balancer.lease(&request).expect("a host")));
    })
}

/// Callgrind counts the instructions inside this function.
#[inline(never)]
fn collected(step: &dyn Fn(u32)) {
    (0..PICKS).for_each(step);
}

/// Callgrind writes a file at the end of each call; one function cannot serve both purposes.
#[inline(never)]
fn dumped(step: &dyn Fn(u32)) {
    collected(step);
}

/// The program under callgrind, in the order in which [`measure`] reads the counts.
#[test]
fn all() {
    for scenario in scenarios() {
        // The first pick of a thread creates its random generator and the snapshot's reader slot.
        (scenario.step)(PICKS);
        dumped(&*scenario.step);
    }
}
