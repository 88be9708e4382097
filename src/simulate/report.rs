//! What a simulation has found.

use serde::Serialize;

use super::latencies::LatencyReport;
use super::scenario::Scenario;
use super::traffic::ServiceDistribution;

/// The results of all algorithms, with what they are results of.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Report {
    pub(crate) pool: String,
    /// The rate as a share of what the hosts can serve; above 1 they are overloaded.
    pub(crate) load: f64,
    /// Requests per second.
    pub(crate) rate: f64,
    pub(crate) service: ServiceDistribution,
    /// The mean of a sound host.
    pub(crate) service_time_ms: f64,
    pub(crate) concurrency: u32,
    pub(crate) keys: u32,
    /// Zipf's exponent; 0: uniform.
    pub(crate) skew: f64,
    pub(crate) seed: u64,
    /// The time at the start that is not measured.
    pub(crate) warm_up_seconds: f64,
    pub(crate) algorithms: Vec<AlgorithmReport>,
}

/// The results of an algorithm, of the requests that arrived after the warm-up.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct AlgorithmReport {
    pub(crate) algorithm: &'static str,
    /// Whether it is the pool's, with the options of the file.
    pub(crate) configured: bool,
    pub(crate) requests: u64,
    /// Requests that a host failed.
    pub(crate) failed: u64,
    /// Requests that got no host: the queue was full, or the wait too long.
    pub(crate) refused: u64,
    /// Of the requests that succeeded, from their arrival on; `None` if there are none.
    pub(crate) latency: Option<LatencyReport>,
    /// Requests that waited for a host that was not full, over time.
    pub(crate) mean_waiting: f64,
    pub(crate) peak_waiting: u64,
    /// In the order of the file.
    pub(crate) hosts: Vec<HostReport>,
}

/// What a host got.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct HostReport {
    /// Its `host:port`, as in the file.
    pub(crate) host: String,
    pub(crate) name: Option<String>,
    pub(crate) weight: u32,
    /// How many times as long as others it takes.
    pub(crate) slowdown: f64,
    pub(crate) requests: u64,
    /// Of the requests that got a host.
    pub(crate) share: f64,
    pub(crate) failed: u64,
    /// The share of its places that were busy, over time.
    pub(crate) utilization: f64,
    /// Requests that waited at the host, over time.
    pub(crate) mean_queue: f64,
    pub(crate) peak_queue: u64,
    pub(crate) ejections: u64,
}

impl Report {
    pub(super) fn new(scenario: &Scenario, algorithms: Vec<AlgorithmReport>) -> Self {
        let settings = &scenario.settings;
        Report {
            pool: scenario.pool.clone(),
            load: scenario.load,
            rate: settings.rate,
            service: settings.service,
            service_time_ms: settings.service_time.as_secs_f64() * 1e3,
            concurrency: settings.concurrency,
            keys: settings.keys,
            skew: settings.skew,
            seed: settings.seed,
            warm_up_seconds: scenario.warm_up.as_secs_f64(),
            algorithms,
        }
    }

    /// Whether requests come faster than the hosts can serve them.
    pub(crate) fn is_overloaded(&self) -> bool {
        self.load > 1.0
    }
}
