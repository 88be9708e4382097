//! The tasks around the checks.

use std::net::TcpListener;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use async_trait::async_trait;
use nix::errno::Errno;
use pingora::lb::Backend;
use pingora::lb::health_check::HealthCheck;
use pingora::{Error, ErrorType, Result};

use super::*;
use crate::config::Config;
use crate::pool::HostRegistry;

#[tokio::test]
async fn a_host_that_says_nothing_holds_up_the_first_round_no_longer_than_it_may() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let text = format!(
        "listeners: [\"127.0.0.1:1\"]
routes: [{{ path: /slow, pool: slow }}, {{ pool: quick }}]
pools:
  quick: {{ hosts: [\"{address}\"] }}
  slow: {{ hosts: [\"{address}\"], health_check: {{ type: http, timeout: 60s, interval: 60s }} }}
"
    );
    let config = Config::parse(&text, Path::new("test.yaml")).unwrap();
    let pools: Vec<_> = config
        .pools
        .iter()
        .map(|pool| Pool::new(pool, &config.timeouts, &mut HostRegistry::new()).unwrap())
        .map(Arc::new)
        .collect();
    let begun = Instant::now();
    let _monitor = Monitor::start_within(Duration::from_millis(300), &pools).await;
    assert!(begun.elapsed() < Duration::from_secs(30));
    for pool in pools {
        let host = &pool.members()[0];
        assert_eq!(host.is_usable(), pool.name() == "quick");
        assert_eq!(host.next_check().is_some(), pool.name() == "quick");
    }
}

/// A check whose outcome is that of its number.
struct Scripted<F>(AtomicUsize, F);

#[async_trait]
impl<F: Fn(usize) -> Result<()> + Send + Sync> HealthCheck for Scripted<F> {
    async fn check(&self, _target: &Backend) -> Result<()> {
        (self.1)(self.0.fetch_add(1, Ordering::Relaxed))
    }

    fn health_threshold(&self, _success: bool) -> usize {
        1
    }
}

/// A pool of one host that is checked every 20 ms, as the check of each number turns out.
async fn watched(
    check: impl Fn(usize) -> Result<()> + Send + Sync + 'static,
    test: impl AsyncFnOnce(&Pool),
) {
    let text = "listeners: [\"127.0.0.1:1\"]
pools:
  web: { hosts: [\"127.0.0.1:2\"], health_check: { interval: 20ms, timeout: 10ms, rise: 1, fall: 1 } }
";
    let config = Config::parse(text, Path::new("test.yaml")).unwrap();
    let pool = &config.pools[0];
    let settings = pool.health_check.clone().unwrap();
    let pool = Pool::new(pool, &config.timeouts, &mut HostRegistry::new()).unwrap();
    let pool = Arc::new(pool);
    let check = Scripted(AtomicUsize::new(0), check);
    let probe = Probe::of(Arc::new(check), settings.timeout);
    let correlated_failure = Arc::new(CorrelatedFailure::new(&pool));
    let watch = HostMonitor::new(Arc::clone(&pool), correlated_failure, 0, probe, &settings);
    let (unchecked, _first_round) = mpsc::channel(1);
    let mut tasks = JoinSet::new();
    tasks.spawn(super::monitor_host(watch, Some(unchecked)));
    pool.begin();
    test(&pool).await;
}

async fn until(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(20), "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_check_that_panics_does_not_freeze_the_verdict() {
    let before = Task::HealthCheck.panics();
    let check = |number: usize| match number {
        0 | 3 => panic!("check {number}"),
        1 | 2 | 10.. => Ok(()),
        _ => Err(Error::new_up(ErrorType::ConnectRefused)),
    };
    watched(check, async |pool| {
        let host = &pool.members()[0];
        until("it is up after a panic", || host.is_usable()).await;
        until("it is down after another one", || !host.is_usable()).await;
        until("it is up again", || host.is_usable()).await;
    })
    .await;
    assert!(Task::HealthCheck.panics() >= before + 2);
}

#[tokio::test]
async fn what_this_process_lacks_is_no_verdict_at_the_first_check_or_later() {
    let lacking = |errno: Errno| {
        let cause = std::io::Error::from_raw_os_error(errno as i32);
        Err(Error::because(ErrorType::SocketError, "no socket", cause))
    };
    let check = move |number: usize| match number {
        0 => lacking(Errno::EMFILE),
        1 => lacking(Errno::ENOBUFS),
        // Longer than `fall`, which is 1.
        3..20 => lacking([Errno::EMFILE, Errno::ENFILE, Errno::ENOMEM][number % 3]),
        20 => Err(Error::new_up(ErrorType::ConnectRefused)),
        21..30 => lacking(Errno::EADDRNOTAVAIL),
        _ => Ok(()),
    };
    watched(check, async |pool| {
        let host = &pool.members()[0];
        let told = || {
            let events = pool.event_log().since(0);
            let kinds = events.iter().map(|event| event.kind);
            Vec::from_iter(kinds.map(|kind| format!("{kind:?}")))
        };
        until("three changes", || told().len() >= 3).await;
        assert_eq!(told(), ["Up", "Down", "Up"]);
        assert!(host.is_usable());
    })
    .await;
}

#[test]
fn checks_that_run_at_a_time_leave_descriptors_for_the_rest() {
    for (descriptors, expected) in [(8, 4), (64, 8), (1_024, 128), (1 << 20, 1 << 17)] {
        assert_eq!(check_permits::max_concurrent(descriptors), expected);
    }
    assert!(check_permits::max_concurrent(u64::MAX) > 1 << 20);
}
