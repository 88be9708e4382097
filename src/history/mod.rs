//! The recent history of each pool, one sample a second, for the charts of the admin page.
//!
//! Metrics only grow: Prometheus derives rates from two scrapes, in a few wide buckets. The admin page needs the last
//! minutes at once when it is opened, and the median of each second. So durations are counted here once more, in
//! buckets too many to have for each host; all else is read from the pool's counters.

mod latency_histogram;
mod observer;
mod sample;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::pool::{LastMinute, Pool, PoolTotals, STATUS_CLASSES};
use crate::record::Observer;
use crate::timestamp::Timestamp;

pub use sample::{HistorySample, Responses};

use latency_histogram::LatencyHistogram;
use observer::HistoryObserver;

/// The interval of samples.
pub const INTERVAL: Duration = Duration::from_secs(1);

/// Samples kept for each pool: five minutes.
pub const MAX_SAMPLES: usize = 300;

/// Samples for each step of the last minute of hosts and pools.
const SAMPLES_PER_STEP: u64 = LastMinute::STEP.as_secs() / INTERVAL.as_secs();

/// The newest [`MAX_SAMPLES`] samples of each active pool, by name.
#[derive(Debug, Default)]
pub struct History {
    pools: Mutex<HashMap<String, PoolHistory>>,
}

/// The history of one pool.
#[derive(Debug)]
struct PoolHistory {
    /// Of the requests that ended since the last sample.
    latencies: Arc<LatencyHistogram>,
    read: CounterReading,
    samples: VecDeque<HistorySample>,
    /// The number of samples taken so far.
    sample_count: u64,
}

/// A pool's counters at one time.
#[derive(Debug, Clone, Copy)]
struct CounterReading {
    at: Instant,
    totals: PoolTotals,
}

impl History {
    /// An observer for requests to these pools.
    pub fn observer(&self, pools: &[Arc<Pool>]) -> Arc<dyn Observer> {
        let mut histories = self.histories();
        let latencies = pools
            .iter()
            .map(|pool| Arc::clone(&history_of(&mut histories, pool).latencies));
        Arc::new(HistoryObserver(latencies.collect()))
    }

    /// Takes a sample of each of these pools, and forgets all other pools.
    pub fn sample(&self, pools: &[Arc<Pool>]) -> BTreeMap<String, HistorySample> {
        let mut histories = self.histories();
        histories.retain(|name, _| pools.iter().any(|pool| pool.name() == name));
        let samples = pools.iter().map(|pool| {
            let sample = history_of(&mut histories, pool).sample(pool);
            (pool.name().to_owned(), sample)
        });
        samples.collect()
    }

    /// The samples of each pool, or of the pool `only`; the newest last.
    pub fn samples(&self, only: Option<&str>) -> BTreeMap<String, Vec<HistorySample>> {
        let histories = self.histories();
        let samples = histories
            .iter()
            .filter(|(name, _)| only.is_none_or(|only| only == name.as_str()));
        let samples = samples
            .map(|(name, history)| (name.clone(), history.samples.iter().cloned().collect()));
        samples.collect()
    }

    fn histories(&self) -> MutexGuard<'_, HashMap<String, PoolHistory>> {
        // After a panic under the lock, at worst a sample is missing.
        self.pools.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The history of this pool, created if it has none.
fn history_of<'a>(
    histories: &'a mut HashMap<String, PoolHistory>,
    pool: &Pool,
) -> &'a mut PoolHistory {
    histories
        .entry(pool.name().to_owned())
        .or_insert_with(|| PoolHistory {
            latencies: Arc::default(),
            read: CounterReading::of(pool),
            samples: VecDeque::with_capacity(MAX_SAMPLES),
            sample_count: 0,
        })
}

impl PoolHistory {
    fn sample(&mut self, pool: &Pool) -> HistorySample {
        let now = CounterReading::of(pool);
        let before = std::mem::replace(&mut self.read, now);
        let seconds = (now.at - before.at).as_secs_f64().max(0.001);
        let (then, totals) = (before.totals, now.totals);
        let per_second = |before: u64, now: u64| now.saturating_sub(before) as f64 / seconds;
        let responses: [u64; STATUS_CLASSES] = std::array::from_fn(|class| {
            totals.responses[class].saturating_sub(then.responses[class])
        });
        let requests: u64 = responses.iter().sum();
        let errors = totals.errors.saturating_sub(then.errors);
        let latencies = self.latencies.take();
        let millis = |share| {
            let time = latencies.quantile(share)?;
            Some(rounded(time.as_secs_f64() * 1e3))
        };
        let members = pool.members().iter();
        let sample = HistorySample {
            t: Timestamp::now(),
            requests_per_second: rounded(requests as f64 / seconds),
            error_share: (requests > 0).then(|| rounded(errors as f64 / requests as f64).min(1.0)),
            p50_ms: millis(0.5),
            p99_ms: millis(0.99),
            in_flight: members.map(|member| member.host().in_flight()).sum(),
            responses: Responses::of(responses.map(|count| rounded(count as f64 / seconds) as f32)),
            retries_per_second: rounded(per_second(then.retries, totals.retries)) as f32,
            bytes_in_per_second: per_second(then.received, totals.received) as u64,
            bytes_out_per_second: per_second(then.sent, totals.sent) as u64,
        };
        self.sample_count += 1;
        if self.sample_count.is_multiple_of(SAMPLES_PER_STEP) {
            pool.step_last_minute();
        }
        if self.samples.len() == MAX_SAMPLES {
            self.samples.pop_front();
        }
        self.samples.push_back(sample.clone());
        sample
    }
}

impl CounterReading {
    fn of(pool: &Pool) -> Self {
        CounterReading {
            at: Instant::now(),
            totals: pool.counters().totals(),
        }
    }
}

/// Three decimal places: more would be noise, and a third of the response's bytes.
fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_minutes_of_128_pools_fit_into_six_megabytes() {
        let latencies = size_of::<LatencyHistogram>();
        let samples = MAX_SAMPLES * size_of::<HistorySample>();
        let all = 128 * (latencies + samples);
        assert!(
            all <= 6_000_000,
            "{latencies} + {samples} a pool, {all} in all"
        );
    }
}
