//! What is simulated: a pool of the configuration, its load, and what is wrong with its hosts.

use std::fmt;
use std::time::Duration;

use super::balancing::{SimulatedAlgorithm, algorithms};
use super::ejection::nanos;
use super::traffic::ServiceDistribution;
use crate::config::{self, Ejection, SlowStart};
use ballast_balancer::BalancerError;

/// Requests of a run: more would take minutes, and gigabytes.
const MAX_REQUESTS: u64 = 10_000_000;

/// The part of a run that is not measured, unless the settings say otherwise.
const WARM_UP: f64 = 0.1;

/// The load, and what is wrong with hosts, as the command line says it. The fields are within the ranges that stand there.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// Requests per second, 0.1 to 10,000,000.
    pub(crate) rate: f64,
    pub(crate) length: RunLength,
    /// The time at the start that is not measured; `None`: a tenth of the run.
    pub(crate) warm_up: Option<Duration>,
    /// The mean time that a sound host takes for a request, above 0 and at most a minute.
    pub(crate) service_time: Duration,
    pub(crate) service: ServiceDistribution,
    /// Requests that a host serves at the same time, at least 1.
    pub(crate) concurrency: u32,
    /// Clients, each with its address and key, at least 1.
    pub(crate) keys: u32,
    /// The exponent of Zipf's distribution of requests among clients; 0: uniform.
    pub(crate) skew: f64,
    pub(crate) slow: Vec<Slowdown>,
    pub(crate) failing: Vec<Failing>,
    pub(crate) seed: u64,
    /// Names of algorithms; empty: all.
    pub(crate) algorithms: Vec<String>,
}

/// How long requests arrive.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum RunLength {
    Requests(u64),
    Time(Duration),
}

/// A host that takes this many times as long.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Slowdown {
    pub(crate) host: String,
    /// 0.01 to 100.
    pub(crate) factor: f64,
}

/// A host that fails requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failing {
    pub(crate) host: String,
    /// How long from the start; `None`: throughout.
    pub(crate) time: Option<Duration>,
}

/// A pool under load.
#[derive(Debug)]
pub(crate) struct Scenario {
    pub(crate) pool: String,
    /// The hosts that take requests, at least one.
    pub(super) hosts: Vec<SimulatedHost>,
    pub(crate) settings: Settings,
    /// The time at the start that is not measured.
    pub(crate) warm_up: Duration,
    /// The rate as a share of what the hosts can serve.
    pub(crate) load: f64,
    /// Requests that may wait while every host is full, and how long.
    pub(super) queue: (usize, Duration),
    pub(super) ejection: Option<Ejection>,
    pub(super) slow_start: Option<SlowStart>,
    pub(super) algorithms: Vec<SimulatedAlgorithm>,
}

/// A host of the pool, and what is wrong with it.
#[derive(Debug)]
pub(super) struct SimulatedHost {
    pub(super) host: config::Host,
    /// Service times are multiplied by this.
    pub(super) slowdown: f64,
    /// Requests fail until then, nanoseconds from the start.
    pub(super) fails_until: u64,
}

impl SimulatedHost {
    fn new(host: &config::Host, settings: &Settings) -> Self {
        let slow = settings.slow.iter();
        let slow = slow.filter(|slow| is_named(host, &slow.host));
        let failing = settings.failing.iter();
        let failing = failing.filter(|failing| is_named(host, &failing.host));
        let ends = failing.map(|failing| failing.time.map_or(u64::MAX, nanos));
        SimulatedHost {
            host: host.clone(),
            slowdown: slow.map(|slow| slow.factor).product(),
            fails_until: ends.max().unwrap_or(0),
        }
    }

    /// The requests per second that it can serve.
    fn capacity(&self, settings: &Settings) -> f64 {
        if self.fails_until == u64::MAX {
            return 0.0;
        }
        let at_once = f64::from(settings.concurrency);
        let limit = self.host.max_in_flight.map(|limit| limit as f64);
        let at_once = limit.map_or(at_once, |limit| at_once.min(limit));
        at_once / (settings.service_time.as_secs_f64() * self.slowdown)
    }
}

/// Whether an operator means this host: by its address as in the file, or by its `name`.
fn is_named(host: &config::Host, name: &str) -> bool {
    host.id.as_str() == name || host.label.as_deref() == Some(name)
}

impl Scenario {
    /// The scenario of a pool.
    ///
    /// # Errors
    /// Whatever does not fit: see [`ScenarioError`].
    pub(crate) fn new(pool: &config::Pool, settings: Settings) -> Result<Self, ScenarioError> {
        let usable = pool.members.iter().filter(|host| host.weight > 0);
        let (backups, primary) = usable.partition::<Vec<_>, _>(|host| host.backup);
        let used = match primary.is_empty() {
            true => backups,
            false => primary,
        };
        if used.is_empty() {
            return Err(ScenarioError::NoHosts(pool.name.clone()));
        }
        let slow = settings.slow.iter().map(|slow| &slow.host);
        let failing = settings.failing.iter().map(|failing| &failing.host);
        for name in slow.chain(failing) {
            if !used.iter().any(|host| is_named(host, name)) {
                return Err(ScenarioError::UnknownHost {
                    name: name.clone(),
                    pool: pool.name.clone(),
                    known: used.iter().map(|host| host.id.to_string()).collect(),
                });
            }
        }
        let hosts = used.iter().map(|host| SimulatedHost::new(host, &settings));
        let hosts = Vec::from_iter(hosts);
        let capacity: f64 = hosts.iter().map(|host| host.capacity(&settings)).sum();
        if capacity == 0.0 {
            return Err(ScenarioError::AllFail(pool.name.clone()));
        }
        Ok(Scenario {
            warm_up: warm_up(&settings)?,
            load: settings.rate / capacity,
            algorithms: algorithms(&pool.algorithm, &settings.algorithms)?,
            pool: pool.name.clone(),
            hosts,
            queue: (pool.limits.queue, pool.limits.queue_timeout),
            ejection: pool.ejection.clone(),
            slow_start: pool.slow_start,
            settings,
        })
    }
}

/// The time that is not measured, which leaves something of the run.
fn warm_up(settings: &Settings) -> Result<Duration, ScenarioError> {
    let (requests, time) = match settings.length {
        RunLength::Requests(requests) => (requests as f64, requests as f64 / settings.rate),
        RunLength::Time(time) => (time.as_secs_f64() * settings.rate, time.as_secs_f64()),
    };
    if requests > MAX_REQUESTS as f64 {
        return Err(ScenarioError::TooManyRequests(requests));
    }
    let time = Duration::from_secs_f64(time);
    let warm_up = settings.warm_up.unwrap_or(time.mul_f64(WARM_UP));
    match warm_up < time {
        true => Ok(warm_up),
        false => Err(ScenarioError::OnlyWarmUp { warm_up, time }),
    }
}

/// Why nothing can be simulated.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum ScenarioError {
    /// The pool of this name has no host that takes requests.
    NoHosts(String),
    /// Every host of the pool of this name fails throughout.
    AllFail(String),
    /// No host is called so.
    UnknownHost {
        /// The name in the settings.
        name: String,
        /// The pool's name.
        pool: String,
        /// The hosts that take requests.
        known: Vec<String>,
    },
    /// So many requests do not fit.
    TooManyRequests(f64),
    /// The time that is not measured is not shorter than the run.
    OnlyWarmUp {
        /// The time that is not measured.
        warm_up: Duration,
        /// The run.
        time: Duration,
    },
    /// The library of algorithms refuses the hosts, or does not know an algorithm.
    Balancer(BalancerError),
}

/// Hosts that a message names.
const MAX_NAMED: usize = 10;

impl fmt::Display for ScenarioError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ScenarioError::NoHosts(pool) => write!(
                f,
                "pool `{pool}` has no host in the file that takes requests; those of its sources are not asked for"
            ),
            ScenarioError::AllFail(pool) => {
                write!(f, "every host of pool `{pool}` fails throughout")
            }
            ScenarioError::UnknownHost { name, pool, known } => {
                let named = known.iter().take(MAX_NAMED).cloned();
                let named = Vec::from_iter(named).join(", ");
                let more = match known.len() > MAX_NAMED {
                    true => ", …",
                    false => "",
                };
                write!(
                    f,
                    "no host of pool `{pool}` that takes requests is called `{name}`; there are {named}{more}"
                )
            }
            ScenarioError::TooManyRequests(requests) => write!(
                f,
                "a run of {requests:.0} requests is too long; the limit is {MAX_REQUESTS}"
            ),
            ScenarioError::OnlyWarmUp { warm_up, time } => write!(
                f,
                "a warm-up of {} leaves nothing of a run of {}",
                humantime::format_duration(*warm_up),
                humantime::format_duration(*time)
            ),
            ScenarioError::Balancer(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ScenarioError {}

impl From<BalancerError> for ScenarioError {
    fn from(error: BalancerError) -> Self {
        ScenarioError::Balancer(error)
    }
}
