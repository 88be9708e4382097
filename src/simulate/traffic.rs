//! The requests: when they arrive, whose they are, and how much work they are.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::event_queue::HORIZON;
use super::scenario::{RunLength, Settings};

/// The tail index of Pareto's distribution: a mean without a variance.
const PARETO_INDEX: f64 = 1.5;

/// How service times are distributed around their mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ServiceDistribution {
    /// Memoryless, as in textbooks
    Exponential,
    /// All the same
    Deterministic,
    /// A heavy tail (Pareto, index 1.5): few requests are most of the work
    Pareto,
}

impl ServiceDistribution {
    /// The multiple of the mean at `u`, uniform on [0, 1).
    fn at(self, u: f64) -> f64 {
        // 1 - u is in (0, 1], so its logarithm is finite.
        match self {
            ServiceDistribution::Exponential => -(1.0 - u).ln(),
            ServiceDistribution::Deterministic => 1.0,
            ServiceDistribution::Pareto => {
                (1.0 - 1.0 / PARETO_INDEX) * (1.0 - u).powf(-1.0 / PARETO_INDEX)
            }
        }
    }
}

/// A request before its host is chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Request {
    /// When it arrives, nanoseconds from the start.
    pub(super) at: u64,
    /// The number of the client, which is also its key.
    pub(super) client: u32,
    /// Its service time as a multiple of the host's mean.
    pub(super) work: f64,
}

/// Requests in the order of their arrivals, a Poisson process. They are a function of the settings alone, so each
/// algorithm gets the same; the arrivals are also the same for each distribution of the work.
#[derive(Debug)]
pub(super) struct Traffic {
    rng: SmallRng,
    now: f64,
    /// Nanoseconds between two arrivals, on average.
    gap: f64,
    sent: u64,
    length: RunLength,
    service: ServiceDistribution,
    clients: Clients,
}

impl Traffic {
    pub(super) fn new(settings: &Settings) -> Self {
        Traffic {
            rng: SmallRng::seed_from_u64(settings.seed),
            now: 0.0,
            gap: 1e9 / settings.rate,
            sent: 0,
            length: settings.length,
            service: settings.service,
            clients: Clients::new(settings.keys, settings.skew),
        }
    }
}

impl Iterator for Traffic {
    type Item = Request;

    fn next(&mut self) -> Option<Request> {
        let [gap, client, work] = std::array::from_fn(|_| self.rng.r#gen::<f64>());
        self.now += self.gap * ServiceDistribution::Exponential.at(gap);
        let is_over = match self.length {
            RunLength::Requests(requests) => self.sent >= requests,
            RunLength::Time(time) => self.now >= time.as_nanos() as f64,
        };
        self.sent += 1;
        (!is_over).then(|| Request {
            at: (self.now as u64).min(HORIZON),
            client: self.clients.at(client),
            work: self.service.at(work),
        })
    }
}

/// How requests are distributed among clients.
#[derive(Debug)]
enum Clients {
    Uniform(u32),
    /// Zipf: the shares of clients 0 to n, added up.
    Zipf(Vec<f64>),
}

impl Clients {
    fn new(count: u32, skew: f64) -> Self {
        if skew == 0.0 {
            return Clients::Uniform(count);
        }
        let shares = (1..=count).map(|rank| f64::from(rank).powf(-skew));
        let sums = shares.scan(0.0, |sum, share| {
            *sum += share;
            Some(*sum)
        });
        Clients::Zipf(sums.collect())
    }

    /// The client at `u`, uniform on [0, 1).
    fn at(&self, u: f64) -> u32 {
        match self {
            Clients::Uniform(count) => (u * f64::from(*count)) as u32,
            Clients::Zipf(sums) => {
                let all = sums.last().copied().unwrap_or_default();
                // Rounding may lead to the end, never beyond it.
                sums.partition_point(|sum| *sum <= u * all) as u32
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::simulate::tests::settings;

    fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
        let count = values.len() as f64;
        values.sum::<f64>() / count
    }

    #[test]
    fn every_distribution_has_its_mean() {
        // The middles of equal parts: an integral without random numbers.
        let uniform = (0..1_000_000).map(|step| (f64::from(step) + 0.5) / 1e6);
        for (distribution, tolerance) in [
            (ServiceDistribution::Exponential, 0.001),
            (ServiceDistribution::Deterministic, 0.001),
            // What the last part leaves out of the tail.
            (ServiceDistribution::Pareto, 0.02),
        ] {
            let mean = mean(uniform.clone().map(|u| distribution.at(u)));
            assert!((mean - 1.0).abs() < tolerance, "{distribution:?} {mean}");
        }
    }

    #[test]
    fn arrivals_keep_the_rate_and_do_not_depend_on_the_work() {
        let requests = |service| {
            let settings = settings();
            Vec::from_iter(Traffic::new(&Settings {
                service,
                ..settings
            }))
        };
        let exponential = requests(ServiceDistribution::Exponential);
        let deterministic = requests(ServiceDistribution::Deterministic);
        let at = |requests: &[Request]| Vec::from_iter(requests.iter().map(|request| request.at));
        assert_eq!(at(&exponential), at(&deterministic));
        let settings = settings();
        let last = exponential.last().expect("there are requests").at as f64 / 1e9;
        let expected = exponential.len() as f64 / settings.rate;
        assert!((last / expected - 1.0).abs() < 0.03, "{last} {expected}");
    }

    #[test]
    fn a_run_of_a_time_ends_within_it() {
        let time = std::time::Duration::from_secs(3);
        let settings = Settings {
            length: RunLength::Time(time),
            ..settings()
        };
        let requests = Vec::from_iter(Traffic::new(&settings));
        let last = requests.last().expect("there are requests");
        assert!(u128::from(last.at) < time.as_nanos());
        let expected = settings.rate * 3.0;
        let count = requests.len() as f64;
        assert!((count / expected - 1.0).abs() < 0.1, "{count} {expected}");
    }

    #[test]
    fn clients_have_the_shares_of_zipf() {
        let shares = |skew| {
            let settings = Settings {
                keys: 100,
                skew,
                ..settings()
            };
            let mut counts = HashMap::<u32, f64>::new();
            let requests = Vec::from_iter(Traffic::new(&settings));
            for request in &requests {
                *counts.entry(request.client).or_default() += 1.0 / requests.len() as f64;
            }
            assert!(counts.keys().all(|client| *client < 100));
            [0, 1, 9].map(|client| counts.get(&client).copied().unwrap_or_default())
        };
        for share in shares(0.0) {
            assert!((share - 0.01).abs() < 0.005, "{share}");
        }
        let [first, second, tenth] = shares(1.0);
        // The hundredth harmonic number is 5.187.
        assert!((first - 1.0 / 5.187).abs() < 0.02, "{first}");
        assert!((first / second - 2.0).abs() < 0.4, "{first} {second}");
        assert!((first / tenth - 10.0).abs() < 3.0, "{first} {tenth}");
        let clients = Clients::new(3, 1.0);
        assert_eq!(clients.at(1.0 - f64::EPSILON / 2.0), 2);
    }
}
