mod carry_over;
mod concurrency;
mod ejection;
mod serving;

use std::time::{Duration, Instant};

use super::*;
use crate::balancer::{AlgorithmInfo, Options, Selection};

fn timeouts() -> config::Timeouts {
    let second = Duration::from_secs(1);
    config::Timeouts {
        connect: second,
        read: second,
        write: second,
        idle: second,
        client_head: second,
        client_keepalive: second,
        tunnel: second,
    }
}

const SHORT: Duration = Duration::from_millis(1);

/// The default rules with this base duration, and without a failure rate.
pub(super) fn ejection(base: Duration) -> config::Ejection {
    config::Ejection {
        rate: None,
        base,
        ..outlier_detector::tests::rules()
    }
}

pub(super) fn pool(weights: &[u32], edit: impl Fn(&mut config::Pool)) -> Arc<Pool> {
    Arc::new(pool_in(&mut HostRegistry::new(), weights, edit))
}

fn pool_in(registry: &mut HostRegistry, weights: &[u32], edit: impl Fn(&mut config::Pool)) -> Pool {
    let hosts = weights.iter().enumerate().map(|(i, &weight)| config::Host {
        id: HostId::from(format!("127.0.0.1:{}", i + 1)),
        name: "127.0.0.1".to_owned(),
        label: None,
        address: ([127, 0, 0, 1], i as u16 + 1).into(),
        weight,
        file_weight: Some(weight),
        backup: false,
        max_in_flight: None,
    });
    let mut configured = config::Pool {
        name: "web".to_owned(),
        algorithm: config::Algorithm {
            info: AlgorithmInfo::find("random").expect("random is registered"),
            options: Options::new(),
            key: config::KeySource::ClientIp,
        },
        hosts: hosts.collect(),
        removed: Vec::new(),
        health_check: None,
        host_header: config::HostHeader::Preserve,
        when_all_down: config::WhenAllDown::Error,
        retries: None,
        sticky: None,
        tls: None,
        ejection: None,
        limits: config::PoolLimits {
            max_in_flight: None,
            queue: 128,
            queue_timeout: Duration::from_secs(1),
        },
        slow_start: None,
    };
    edit(&mut configured);
    Pool::new(&configured, &timeouts(), registry).expect("a valid pool")
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
