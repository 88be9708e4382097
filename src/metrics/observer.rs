//! Counts requests as they end.

use std::sync::Arc;

use super::counters::MetricsCounters;
use super::series::{HostSeries, RequestSeries};
use crate::pool::Pool;
use crate::record::{Observer, RequestRecord};

/// The counters of the active pools and hosts, in the order of the configuration.
#[derive(Debug)]
pub(super) struct MetricsObserver {
    counts: Arc<MetricsCounters>,
    pools: Vec<PoolHandles>,
}

#[derive(Debug)]
struct PoolHandles {
    /// Requests that reached no host.
    without_host: Arc<RequestSeries>,
    /// By position in the pool.
    hosts: Vec<Arc<HostSeries>>,
}

impl MetricsObserver {
    pub(super) fn new(counts: &Arc<MetricsCounters>, pools: &[Arc<Pool>]) -> Self {
        let mut series = counts.series().lock();
        series.prune();
        let handles = pools.iter().map(|pool| {
            let ids = pool.members().iter().map(|member| member.host().id());
            PoolHandles {
                without_host: series.without_host(pool.name()),
                hosts: ids.map(|id| series.host(pool.name(), id)).collect(),
            }
        });
        MetricsObserver {
            pools: handles.collect(),
            counts: Arc::clone(counts),
        }
    }
}

impl Observer for MetricsObserver {
    fn on_request_end(&self, record: &RequestRecord<'_>) {
        self.counts.count_refusal(record);
        let pool = record.pool.and_then(|(number, _)| self.pools.get(number));
        let Some(pool) = pool else {
            return self.counts.unrouted().count(record);
        };
        let mut last = None;
        for attempt in record.attempts {
            last = pool.hosts.get(attempt.position);
            if let Some(host) = last {
                host.count(attempt);
            }
        }
        let requests = last.map_or(&*pool.without_host, |host| &host.requests);
        requests.count(record);
    }
}
