//! Counts the requests of one site as they end.

use std::sync::Arc;

use super::counts::Counts;
use super::tally::{HostTally, PoolTally};
use crate::pool::Pool;
use crate::record::{Observer, Record};

/// The counters of a site's pools and hosts, in their order.
#[derive(Debug)]
pub(super) struct SiteObserver {
    counts: Arc<Counts>,
    pools: Vec<PoolHandles>,
}

#[derive(Debug)]
struct PoolHandles {
    tally: Arc<PoolTally>,
    /// By position in the pool.
    hosts: Vec<Arc<HostTally>>,
}

impl SiteObserver {
    pub(super) fn new(counts: &Arc<Counts>, pools: &[Arc<Pool>]) -> Self {
        let mut pages = counts.book().open();
        pages.tidy();
        let handles = pools.iter().map(|pool| {
            let ids = pool.members().iter().map(|member| member.host().id());
            PoolHandles {
                tally: pages.pool(pool.name()),
                hosts: ids.map(|id| pages.host(pool.name(), id)).collect(),
            }
        });
        SiteObserver {
            pools: handles.collect(),
            counts: Arc::clone(counts),
        }
    }
}

impl Observer for SiteObserver {
    fn ended(&self, record: &Record<'_>) {
        self.counts.refused(record);
        let pool = record.pool.and_then(|(number, _)| self.pools.get(number));
        let Some(pool) = pool else {
            return self.counts.unrouted().count(record);
        };
        pool.tally.count(record);
        let mut last = None;
        for attempt in record.attempts {
            last = pool.hosts.get(attempt.position);
            if let Some(host) = last {
                host.count(attempt);
            }
        }
        let requests = last.map_or(&pool.tally.unplaced, |host| &host.requests);
        requests.count(record);
    }
}
