//! A host that is new or comes back gets few requests at first, and later its full share. A host that exists at the
//! start gets its full share at once.

use std::time::{Duration, Instant};

use crate::support::{
    Backend, Ballast, Connections, HEALTH_PATH, Load, Reply, SOON, Setup, wait_until,
};

/// The share of `of` in the next requests, in percent. Measures for `time`, and until at least 500 requests are done.
fn share(ballast: &Ballast, backends: &[&Backend], of: usize, time: Duration) -> f64 {
    let count = || backends.iter().map(|b| b.requests()).collect::<Vec<_>>();
    let before = count();
    let load = Load::start(ballast.address(), 8, Connections::Kept);
    let start = Instant::now();
    wait_until(SOON, "the time is over", || {
        start.elapsed() >= time && load.done() >= 500
    });
    load.stop().assert_all_ok("slow start");
    let got: Vec<u64> = count().iter().zip(&before).map(|(a, b)| a - b).collect();
    100.0 * got[of] as f64 / got.iter().sum::<u64>() as f64
}

fn assert_recovered_host_ramps_up(algorithm: &str) {
    let backends: Vec<_> = (0..4)
        .map(|n| Backend::start_new(&format!("h{n}")))
        .collect();
    for backend in &backends {
        backend.set(Reply::ok().after(Duration::from_millis(1)));
    }
    let refs: Vec<_> = backends.iter().collect();
    let ballast = Setup::of(&refs)
        .algorithm(algorithm)
        .health(&format!(
            "{{ type: http, path: {HEALTH_PATH}, interval: 1s, timeout: 1s, rise: 1, fall: 1 }}"
        ))
        .pool("slow_start: { window: 10s, floor: 10% }")
        .start();
    // At the start every host gets its full share.
    let at_start = share(&ballast, &refs, 3, Duration::from_millis(300));
    assert!(at_start > 12.0, "{algorithm}: {at_start} % at the start");
    let address = backends[3].address().to_string();
    backends[3].set_health(Reply::status(500));
    ballast.wait_for_log(&[&address, "is down"]);
    // The host also came up at the start, so the log already has such a line.
    let ups = || ballast.log_with(&[&address, "is up"]).len();
    let before = ups();
    backends[3].set_health(Reply::ok());
    wait_until(SOON, "the host is up again", || ups() > before);
    let early = share(&ballast, &refs, 3, Duration::from_millis(500));
    assert!(early < 16.0, "{algorithm}: {early} % at once");
    assert!(early > 0.5, "{algorithm}: {early} %, so it is not used");
    let start_of_window = Instant::now();
    wait_until(SOON, "the window is over", || {
        start_of_window.elapsed() > Duration::from_secs(10)
    });
    let late = share(&ballast, &refs, 3, Duration::from_millis(500));
    assert!(late > 15.0, "{algorithm}: {late} % after the window");
}

#[test]
fn a_recovered_host_ramps_up_with_p2c() {
    assert_recovered_host_ramps_up("p2c");
}

#[test]
fn a_recovered_host_ramps_up_with_least_load() {
    assert_recovered_host_ramps_up("least_load");
}

#[test]
fn a_recovered_host_ramps_up_with_round_robin() {
    assert_recovered_host_ramps_up("round_robin");
}

#[test]
fn a_recovered_host_ramps_up_with_random() {
    assert_recovered_host_ramps_up("random");
}

#[test]
fn a_host_that_a_reload_adds_ramps_up_and_the_others_do_not() {
    let backends: Vec<_> = (0..4)
        .map(|n| Backend::start_new(&format!("h{n}")))
        .collect();
    let refs: Vec<_> = backends.iter().collect();
    let setup = |count: usize| {
        Setup::of(&refs[..count])
            .algorithm("random")
            .pool("slow_start: { window: 1m, floor: 10% }")
    };
    let ballast = setup(3).start();
    let line = ballast.reload_by_sighup(&setup(4).yaml());
    assert!(line.contains("added"), "{line}");
    let new = share(&ballast, &refs, 3, Duration::from_millis(500));
    assert!((0.1..10.0).contains(&new), "{new} %");
    // A slow start continues over a further reload.
    ballast.reload_by_sighup(&setup(4).pool("when_all_down: try_all").yaml());
    let new = share(&ballast, &refs, 3, Duration::from_millis(500));
    assert!((0.1..10.0).contains(&new), "{new} %");
    // With `slow_start: none` the host gets its full share at once.
    ballast.reload_by_sighup(
        &setup(4)
            .yaml()
            .replace("{ window: 1m, floor: 10% }", "none"),
    );
    let new = share(&ballast, &refs, 3, Duration::from_millis(500));
    assert!(new > 20.0, "{new} %");
}
