mod carry_over;
mod concurrency;
mod ejection;
mod serving;

use std::path::Path;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use super::*;
use ballast_balancer::Selection;

/// A pool of one host that balances at random. Everything that can be turned off is off.
const FILE: &str = "
listeners: [\"127.0.0.1:8080\"]
pools:
  web:
    algorithm: random
    hosts: [\"127.0.0.1:1\"]
    health_check: none
    retries: none
    ejection: none
    slow_start: none
";

static CONFIG: LazyLock<config::Config> = LazyLock::new(|| {
    let config = config::Config::parse(FILE, Path::new("test.yaml"));
    config.expect("a configuration")
});

const SHORT: Duration = Duration::from_millis(1);

/// The default rules with this base duration, and without a failure rate.
pub(super) fn ejection(base: Duration) -> config::Ejection {
    config::Ejection {
        rate: None,
        base,
        ..outlier_detector::tests::rules()
    }
}

/// The pool of [`FILE`], with a host for each of `weights`, after `edit`.
pub(super) fn pool(weights: &[u32], edit: impl Fn(&mut config::Pool)) -> Arc<Pool> {
    Arc::new(pool_in(&mut HostRegistry::new(), weights, edit))
}

fn pool_in(registry: &mut HostRegistry, weights: &[u32], edit: impl Fn(&mut config::Pool)) -> Pool {
    let mut configured = CONFIG.pools[0].clone();
    let host = configured.members.remove(0);
    let hosts = weights.iter().zip(1..).map(|(&weight, port)| config::Host {
        id: HostId::from(format!("127.0.0.1:{port}")),
        address: ([127, 0, 0, 1], port).into(),
        weight,
        file_weight: Some(weight),
        ..host.clone()
    });
    configured.members = hosts.collect();
    edit(&mut configured);
    Pool::new(&configured, &CONFIG.timeouts, registry).expect("a valid pool")
}

fn leased(pool: &Arc<Pool>) -> Option<HostId> {
    let lease = pool.lease(&Selection::new(), true).ok()?;
    Some(lease.member().host().id().clone())
}

/// Sets the result of a host's checks.
pub(super) fn set_verdict(pool: &Pool, position: usize, healthy: bool) {
    let against = 0;
    pool.members()[position].set_verdict(Some(HealthVerdict { healthy, against }));
    pool.reconcile();
}

pub(super) fn ids(pool: &Pool) -> Vec<HostId> {
    let members = pool.members().iter();
    members.map(|member| member.host().id().clone()).collect()
}
