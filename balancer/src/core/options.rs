//! The settings of a balancer, whatever its algorithm.

use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use super::clock::Clock;
use super::error::BalancerError;
use super::slow_start::SlowStartOptions;

/// Settings for [`Balancer::new`](crate::Balancer::new), whatever the algorithm: slow start, and for tests a seed and a clock.
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct Options {
    seed: Option<u64>,
    clock: Clock,
    slow_start: Option<SlowStartOptions>,
}

impl Options {
    /// The defaults: no slow start, random numbers from the system, the monotonic clock.
    pub fn new() -> Self {
        Options::default()
    }

    /// Makes each random draw a function of `seed` and the number of draws before it.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Uses this clock.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Enables slow start: after [`Balancer::begin_slow_start`](crate::Balancer::begin_slow_start) or
    /// [`Joining::slow_start`](crate::Joining::slow_start), the share of a host rises from `floor` (above 0, at most 1) to 1
    /// within `window`. It is disabled by default.
    pub fn slow_start(mut self, window: Duration, floor: f64) -> Self {
        self.slow_start = Some(SlowStartOptions { window, floor });
        self
    }

    pub(super) fn configured_seed(&self) -> Option<u64> {
        self.seed
    }

    pub(super) fn configured_clock(&self) -> Clock {
        self.clock.clone()
    }

    /// The settings of slow start, if it is enabled.
    ///
    /// # Errors
    /// [`BalancerError::InvalidOption`] if the floor is out of range.
    pub(super) fn checked_slow_start(&self) -> Result<Option<SlowStartOptions>, BalancerError> {
        match self.slow_start {
            Some(SlowStartOptions { floor, .. }) if !(floor > 0.0 && floor <= 1.0) => Err(invalid(
                "slow_start",
                floor,
                "a floor above 0 and at most 1",
            )),
            given => Ok(given),
        }
    }
}

/// Sets an option of an algorithm to the value that `text` stands for.
pub(crate) fn parse_into<T: FromStr>(
    target: &mut T,
    option: &str,
    text: &str,
    expected: &str,
    fits: impl FnOnce(&T) -> bool,
) -> Result<(), BalancerError> {
    match text.parse() {
        Ok(value) if fits(&value) => {
            *target = value;
            Ok(())
        }
        _ => Err(invalid(option, text, expected)),
    }
}

/// The error for an invalid value of an option.
pub(crate) fn invalid(option: &str, value: impl Display, expected: &str) -> BalancerError {
    BalancerError::InvalidOption {
        option: option.to_owned(),
        value: value.to_string(),
        expected: expected.to_owned(),
    }
}
