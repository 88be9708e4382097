//! The last minutes of each pool, a sample a second: what a chart shows.
//!
//! Metrics count for ever and leave rates to whoever reads them twice, in steps that are few and wide; a page that has
//! just been opened wants the last minutes at once, and the median of a single second.

mod durations;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http::StatusCode;
use serde::{Deserialize, Serialize};

use crate::moment::Moment;
use crate::pool::Pool;
use crate::record::{Observer, Record};

use durations::Durations;

/// How often a sample is made.
pub const INTERVAL: Duration = Duration::from_secs(1);

/// Samples that are kept of each pool: five minutes.
pub const KEPT: usize = 300;

/// What a pool did in a second.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// When the second ended.
    pub t: Moment,
    /// Clients' requests that ended in it.
    pub requests_per_second: f64,
    /// The share of them that failed, 0 to 1; `None` if there were none.
    pub error_share: Option<f64>,
    /// The time that half of them took at most, in milliseconds.
    pub p50_ms: Option<f64>,
    /// The time that 99 of 100 took at most, in milliseconds.
    pub p99_ms: Option<f64>,
    /// Requests that ran on its hosts at its end.
    pub in_flight: u64,
}

/// The newest [`KEPT`] samples of each pool that serves, by its name.
#[derive(Debug, Default)]
pub struct History {
    pools: Mutex<HashMap<String, Kept>>,
}

/// What is kept of a pool.
#[derive(Debug)]
struct Kept {
    durations: Arc<Durations>,
    read: Reading,
    samples: VecDeque<Sample>,
}

/// The counts of a pool at a moment.
#[derive(Debug, Clone, Copy)]
struct Reading {
    at: Instant,
    requests: u64,
    errors: u64,
}

impl History {
    /// Takes in how long the requests of a site with these pools take.
    pub fn observer(&self, pools: &[Arc<Pool>]) -> Arc<dyn Observer> {
        let mut kept = self.kept();
        let durations = pools
            .iter()
            .map(|pool| Arc::clone(&of(&mut kept, pool).durations));
        Arc::new(Stopwatch(durations.collect()))
    }

    /// Makes a sample of each of these pools, and forgets the others.
    pub fn sample(&self, pools: &[Arc<Pool>]) -> BTreeMap<String, Sample> {
        let mut kept = self.kept();
        kept.retain(|name, _| pools.iter().any(|pool| pool.name() == name));
        let samples = pools.iter().map(|pool| {
            let sample = of(&mut kept, pool).sample(pool);
            (pool.name().to_owned(), sample)
        });
        samples.collect()
    }

    /// The samples of each pool, the newest last.
    pub fn samples(&self) -> BTreeMap<String, Vec<Sample>> {
        let kept = self.kept();
        let samples = kept.iter();
        let samples =
            samples.map(|(name, kept)| (name.clone(), kept.samples.iter().cloned().collect()));
        samples.collect()
    }

    fn kept(&self) -> MutexGuard<'_, HashMap<String, Kept>> {
        // Whatever was done under the lock, at worst a sample is missing.
        self.pools.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is kept of this pool, from now on if nothing was.
fn of<'a>(kept: &'a mut HashMap<String, Kept>, pool: &Pool) -> &'a mut Kept {
    kept.entry(pool.name().to_owned()).or_insert_with(|| Kept {
        durations: Arc::default(),
        read: Reading::of(pool),
        samples: VecDeque::with_capacity(KEPT),
    })
}

impl Kept {
    fn sample(&mut self, pool: &Pool) -> Sample {
        let before = std::mem::replace(&mut self.read, Reading::of(pool));
        let time = self.read.at - before.at;
        let requests = grown(before.requests, self.read.requests);
        let errors = grown(before.errors, self.read.errors);
        let took = self.durations.take();
        let millis = |share| {
            let time = took.quantile(share)?;
            Some(rounded(time.as_secs_f64() * 1e3))
        };
        let members = pool.members().iter();
        let sample = Sample {
            t: Moment::now(),
            requests_per_second: rounded(requests as f64 / time.as_secs_f64().max(0.001)),
            error_share: (requests > 0).then(|| rounded(errors as f64 / requests as f64).min(1.0)),
            p50_ms: millis(0.5),
            p99_ms: millis(0.99),
            in_flight: members.map(|member| member.host().in_flight()).sum(),
        };
        if self.samples.len() == KEPT {
            self.samples.pop_front();
        }
        self.samples.push_back(sample.clone());
        sample
    }
}

impl Reading {
    fn of(pool: &Pool) -> Self {
        Reading {
            at: Instant::now(),
            requests: pool.tally().requests(),
            errors: pool.tally().errors(),
        }
    }
}

/// By how much a count has grown; one that is smaller than it was has begun anew.
fn grown(before: u64, now: u64) -> u64 {
    now.checked_sub(before).unwrap_or(now)
}

/// More than three places behind the point would be noise, and a third of the bytes.
fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

/// Counts how long requests took, by the number of their pool in the site.
#[derive(Debug)]
struct Stopwatch(Vec<Arc<Durations>>);

impl Observer for Stopwatch {
    fn ended(&self, record: &Record<'_>) {
        let durations = record.pool.and_then(|(number, _)| self.0.get(number));
        // How long a tunnel was open says nothing about how fast anybody answered.
        let tunnel = Some(StatusCode::SWITCHING_PROTOCOLS.as_u16());
        if let Some(durations) = durations
            && record.summary.status.is_some()
            && record.summary.status != tunnel
        {
            durations.count(record.summary.took);
        }
    }
}
