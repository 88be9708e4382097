//! Tests of the tasks around the checks.

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
async fn a_silent_host_does_not_delay_the_start_beyond_the_limit() {
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
    let started = Instant::now();
    let _monitor = Monitor::start_within(Duration::from_millis(300), &pools).await;
    assert!(started.elapsed() < Duration::from_secs(30));
    for pool in pools {
        let host = &pool.members()[0];
        assert_eq!(host.is_usable(), pool.name() == "quick");
        assert_eq!(host.next_check().is_some(), pool.name() == "quick");
    }
}

/// A check whose outcome is a function of its number.
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

/// Runs a test on a pool of one host that is checked every 20 ms with scripted outcomes.
async fn with_monitored_pool(
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
    let probe = HealthProbe::of(Arc::new(check), settings.timeout);
    let correlated_failure = Arc::new(CorrelatedFailure::new(&pool));
    let monitor = HostMonitor::new(Arc::clone(&pool), correlated_failure, 0, probe, &settings);
    let (unchecked, _first_round) = mpsc::channel(1);
    let mut tasks = JoinSet::new();
    tasks.spawn(super::monitor_host(monitor, Some(unchecked)));
    pool.begin();
    test(&pool).await;
}

async fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < Duration::from_secs(20), "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_panicking_check_does_not_freeze_the_verdict() {
    let before = Task::HealthCheck.panics();
    let check = |number: usize| match number {
        0 | 3 => panic!("check {number}"),
        1 | 2 | 10.. => Ok(()),
        _ => Err(Error::new_up(ErrorType::ConnectRefused)),
    };
    with_monitored_pool(check, async |pool| {
        let host = &pool.members()[0];
        wait_until("it is up after a panic", || host.is_usable()).await;
        wait_until("it is down after another one", || !host.is_usable()).await;
        wait_until("it is up again", || host.is_usable()).await;
    })
    .await;
    assert!(Task::HealthCheck.panics() >= before + 2);
}

#[tokio::test]
async fn exhausted_resources_are_no_verdict_at_the_first_check_or_later() {
    let out_of = |errno: Errno| {
        let cause = std::io::Error::from_raw_os_error(errno as i32);
        Err(Error::because(ErrorType::SocketError, "no socket", cause))
    };
    let check = move |number: usize| match number {
        0 => out_of(Errno::EMFILE),
        1 => out_of(Errno::ENOBUFS),
        // More than `fall`, which is 1.
        3..20 => out_of([Errno::EMFILE, Errno::ENFILE, Errno::ENOMEM][number % 3]),
        20 => Err(Error::new_up(ErrorType::ConnectRefused)),
        21..30 => out_of(Errno::EADDRNOTAVAIL),
        _ => Ok(()),
    };
    with_monitored_pool(check, async |pool| {
        let host = &pool.members()[0];
        let kinds = || {
            let events = pool.event_log().since(0);
            let events = events.iter().map(|event| event.kind);
            Vec::from_iter(events.map(|kind| format!("{kind:?}")))
        };
        wait_until("three changes", || kinds().len() >= 3).await;
        assert_eq!(kinds(), ["Up", "Down", "Up"]);
        assert!(host.is_usable());
    })
    .await;
}

#[test]
fn concurrent_checks_leave_descriptors_for_the_rest() {
    for (descriptors, expected) in [(8, 4), (64, 8), (1_024, 128), (1 << 20, 1 << 17)] {
        assert_eq!(check_permits::max_concurrent(descriptors), expected);
    }
    assert!(check_permits::max_concurrent(u64::MAX) > 1 << 20);
}
